"""Pairs of English sentences that differ in little, for teachers to say how much that is.

    python -m lab.compressors.near_sentences data/train --output data/near_sentences.jsonl.gz

Random texts in a batch are far from each other; what people are asked about sentence pairs lies between near
ones. Half of the sentences are the English sides of Tatoeba's translations, half are of other texts; each has
a copy in which one thing was changed: a word for another of about its frequency, a word left out, a negation
put in or taken out, two neighbours or both halves in the other order. No copy is taken for a paraphrase: a
recipe gives such pairs the similarity loss and no contrastive one.
"""

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaspertc.files.json_lines import read_objects
from jaspertc.teaching.keys import place_of
from lab.compressors.long_rules import sentences

WORDS = (5, 28)  # in a sentence
PLACES = 0.9  # ids above are validation's
NEGATED = ("is", "are", "was", "were", "can", "will", "does", "did", "has", "have", "should", "could")

Change = Callable[[list[str], np.random.Generator], list[str] | None]


def candidates(folder: Path) -> Iterator[tuple[str, str]]:
    """Source and sentence of everything that may be drawn, in the order of hashes of ids."""
    rows = [
        (place_of(row["id"]), "tatoeba", row["query"])
        for _, row in read_objects(folder / "pairs_en_zh.jsonl.gz")
        if row["source"] == "tatoeba/en-zh"
    ]
    for _, row in read_objects(folder / "texts_en.jsonl.gz"):
        parts = [part.strip() for part in sentences(row["text"])]
        if len(parts) > 1 or (parts and len(row["text"]) < 200):
            place = place_of(row["id"])
            rows.append((place, "texts", parts[int(place * 1e6) % len(parts)]))
    for place, source, text in sorted(rows):
        if place < PLACES and WORDS[0] <= len(text.split()) <= WORDS[1]:
            yield source, text


def other_word(counts: Counter[str]) -> Change:
    """A word for another of about its frequency, capitals and what follows it kept."""
    ranked = [word for word, _ in counts.most_common() if word.isalpha()]
    ranks = {word: rank for rank, word in enumerate(ranked)}

    def change(words: list[str], random: np.random.Generator) -> list[str] | None:
        known = [n for n, word in enumerate(words) if ranks.get(bare(word), 0) >= 60]
        if not known:
            return None
        place = int(random.choice(known))
        old = bare(words[place])
        rank = int(ranks[old] * random.uniform(0.8, 1.25))
        new = ranked[min(max(rank, 60), len(ranked) - 1)]
        if new == old:
            return None
        new = new.capitalize() if words[place][0].isupper() else new
        start = words[place].lower().index(old)
        whole = words[place][:start] + new + words[place][start + len(old) :]
        return [*words[:place], whole, *words[place + 1 :]]

    return change


def without_one(words: list[str], random: np.random.Generator) -> list[str]:
    place = int(random.integers(1, len(words)))
    return words[:place] + words[place + 1 :]


def negated(words: list[str], random: np.random.Generator) -> list[str] | None:
    if "not" in words:
        return [word for word in words if word != "not"]
    places = [n + 1 for n, word in enumerate(words) if word in NEGATED]
    return [*words[: places[0]], "not", *words[places[0] :]] if places else None


def turned(words: list[str], random: np.random.Generator) -> list[str]:
    """Two neighbours, or the halves."""
    place = int(random.integers(1, len(words) - 1))
    if random.random() < 0.5:
        return [*words[:place], words[place + 1], words[place], *words[place + 2 :]]
    return words[place:] + words[:place]


def bare(word: str) -> str:
    return word.strip(".,;:!?\"'()").lower()


def pairs(folder: Path, count: int) -> Iterator[dict[str, str]]:
    """Rows of a file of pairs."""
    drawn: dict[str, list[str]] = {"tatoeba": [], "texts": []}
    for source, text in candidates(folder):
        if len(drawn[source]) < count // 2 and text not in drawn[source][-50:]:
            drawn[source].append(text)
    every = [text for texts in drawn.values() for text in texts]
    counts = Counter(bare(word) for text in every for word in text.split())
    changes: list[Change] = [other_word(counts), other_word(counts), without_one, negated, turned]
    random = np.random.default_rng(0)
    for number, text in enumerate(every):
        words = text.split()
        for change in random.permutation(len(changes)).tolist():
            new = changes[change](words, random)
            if new is not None and new != words:
                yield {
                    "id": f"near-{number}",
                    "lang": "en",
                    "query": text,
                    "positive": " ".join(new),
                    "source": "near sentences",
                }
                break


def command(draw: Callable[[Path, int], Iterator[dict[str, str]]], doc: str | None, count: int) -> None:
    """The command line that writes rows drawn from a folder of training texts, ``count`` by default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", type=Path, help="folder of the training texts")
    parser.add_argument("--output", type=Path, required=True, help="a .jsonl.gz file")
    parser.add_argument("--count", type=int, default=count)
    options = parser.parse_args()
    rows = list(draw(options.train, options.count))
    with gzip.open(options.output, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(f"{len(rows)} rows")


if __name__ == "__main__":
    command(pairs, __doc__, 20_000)
