"""Single English sentences and questions: what a teacher of English adds is said in few tokens.

    python -m lab.compressors.short_sentences data/train --output data/short_sentences.jsonl.gz

One sentence of each text of ``texts_en``, the English sides of Tatoeba's translations and the queries of
``pairs_en``, 5 to 28 words, in the order of hashes of ids, none twice.
"""

from collections.abc import Iterator
from pathlib import Path

from jaspertc.files.json_lines import read_objects
from jaspertc.teaching.keys import place_of
from lab.compressors.near_sentences import PLACES, WORDS, candidates, command

QUERIES = 0.2  # of the rows, as far as there are so many


def rows(folder: Path, count: int) -> Iterator[dict[str, str]]:
    """Rows of a file of texts."""
    asked = sorted(
        (place_of(row["id"]), row["query"])
        for _, row in read_objects(folder / "pairs_en.jsonl.gz")
        if place_of(row["id"]) < PLACES and WORDS[0] <= len(row["query"].split()) <= WORDS[1]
    )
    queries = (text for _, text in asked)
    sentences = (text for _, text in candidates(folder))
    seen: set[str] = set()
    for source, texts, wanted in (
        ("queries", queries, int(count * QUERIES)),
        ("sentences", sentences, count),
    ):
        for text in texts:
            if len(seen) == wanted:
                break
            if text not in seen:
                seen.add(text)
                yield {"id": f"{source}-{len(seen)}", "lang": "en", "text": text, "source": source}


if __name__ == "__main__":
    command(rows, __doc__, 60_000)
