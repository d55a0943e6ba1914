"""Pairs whose answers are long, out of the training texts: questions and paragraphs, sentences and pieces.

    python -m lab.compressors.long_pairs data/train --output long_pairs.jsonl.gz

Of the pairs those whose answer has 500 characters or more (160 in Chinese) and that hash into [0.14, 0.6): no
stage before trained on them and no validation uses them. Of each encyclopedia article two pieces of about
1,300 characters (420), each with the article's title before it, as pieces of a long text have; a sentence
taken out of a piece is to find it.
"""

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.files.json_lines import read_objects
from jaspertc.teaching.keys import place_of
from jaspertc.text.pieces import piece_starts
from lab.compressors.long_rules import sentences

PART = (0.14, 0.6)
LEAST = {"en": 500, "zh": 160}
PIECE = {"en": 1300, "zh": 420}
QUERY = {"en": 40, "zh": 12}  # characters of a sentence that asks
PIECES = 2


def long_answers(folder: Path, lang: str) -> Iterator[dict[str, Any]]:
    """Rows of a file of pairs."""
    low, high = PART
    for _, row in read_objects(folder / f"pairs_{lang}.jsonl.gz"):
        unseen = low <= place_of(row["id"]) < high and place_of(f"q:{row['id']}") < high
        if unseen and len(row["positive"]) >= LEAST[lang]:
            yield row


def pieces(folder: Path) -> Iterator[dict[str, Any]]:
    """A sentence and the piece of an article that it was taken out of."""
    random = np.random.default_rng(0)
    for _, row in read_objects(folder / "long_texts.jsonl.gz"):
        title, _, text = row["text"].partition("\n")
        ends = np.arange(1, len(text) + 1)
        starts = piece_starts(text, np.stack([ends - 1, ends], axis=1), PIECE[row["lang"]]).tolist()
        found = [text[begin:end] for begin, end in zip(starts, [*starts[1:], len(text)])]
        for place in random.permutation(len(found))[:PIECES].tolist():
            parts = sentences(found[place])
            asking = [n for n, part in enumerate(parts) if len(part.strip()) >= QUERY[row["lang"]]]
            if len(parts) < 3 or not asking:
                continue
            chosen = int(random.choice(asking))
            yield {
                "id": f"{row['id']}#{place}",
                "lang": row["lang"],
                "query": parts[chosen].strip(),
                "positive": f"{title}\n{''.join(parts[:chosen] + parts[chosen + 1 :]).strip()}",
                "source": "article pieces",
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", type=Path, help="folder of pairs_en, pairs_zh and long_texts")
    parser.add_argument("--output", type=Path, required=True, help="a .jsonl.gz file")
    options = parser.parse_args()
    rows = [*long_answers(options.train, "en"), *long_answers(options.train, "zh"), *pieces(options.train)]
    with gzip.open(options.output, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for (lang, source), count in sorted(Counter((row["lang"], row["source"]) for row in rows).items()):
        print(f"{lang} {source}: {count}")


if __name__ == "__main__":
    main()
