"""A folder with one small local task of each kind, and a small model with prompts."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = [
    "ferry",
    "harbour",
    "noon",
    "baker",
    "loaf",
    "bread",
    "silver",
    "river",
    "delta",
    "snow",
    "spring",
    "图书馆",
    "面包",
    "车站",
    "博物馆",
    "五月",
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def write_rows() -> Callable[[Path, list[dict[str, object]]], Path]:
    """Writes rows as JSON lines."""
    return write


@pytest.fixture(scope="session")
def local_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks named after their kinds, without a ``tasks.toml``. Read only."""
    folder, rng = tmp_path_factory.mktemp("tasks"), random.Random(0)

    def text(words: int | None = None) -> str:
        return " ".join(rng.choices(WORDS, k=words or rng.randint(2, 14)))

    graded = [
        {"sentence1": text(), "sentence2": text(), "score": rng.randint(0, 5), "split": split}
        for split in ("test", "dev")
        for _ in range(30)
    ]
    write(folder / "sts/sts.jsonl", graded)
    write(
        folder / "pair/pair.jsonl",
        [{"sentence1": text(), "sentence2": text(), "label": n % 2, "split": "test"} for n in range(30)],
    )
    labelled = [
        {"text": f"{WORDS[n % 3]} {text()}", "label": "abc"[n % 3], "split": "train" if n < 30 else "test"}
        for n in range(60)
    ]
    write(folder / "classification/classification.jsonl", labelled)
    write(
        folder / "clustering/clustering.jsonl",
        [{"text": row["text"], "label": row["label"]} for row in labelled],
    )
    sentences = [text(5) for _ in range(25)]
    write(folder / "bitext/bitext.jsonl", [{"en": one, "zh": f"{one[:-6]} {text(1)}"} for one in sentences])
    documents = [{"id": f"d{n}", "text": text()} for n in range(30)]
    write(folder / "retrieval/retrieval/corpus.jsonl", documents)
    write(folder / "retrieval/retrieval/queries.jsonl", [{"id": f"q{n}", "text": text(3)} for n in range(24)])
    write(
        folder / "retrieval/retrieval/qrels.jsonl",
        [{"qid": f"q{n}", "did": f"d{n}", "score": 1} for n in range(24)],
    )
    return folder


@pytest.fixture(scope="session")
def prompted(make_model: Callable[..., Path]) -> Path:
    """A small model that wants a prompt before every text, as the E5 models do."""
    prompts = {"query": "Find: ", "document": "In: "}
    return make_model(save={"prompts": prompts, "default_prompt_name": "query"})
