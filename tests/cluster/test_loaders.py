"""The snippets of docs/scale.md that load vectors into a database, as they stand there."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from cluster_corpus import rows_of, write_lines
from typer.testing import CliRunner

from jaspertc.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
TEXTS = 300  # product quantisation is fitted on no fewer than 256
SNIPPETS = dict(re.findall(r"```python\n# (\w+): (.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
NEEDED = {"Qdrant": ["qdrant_client"], "Milvus": ["pymilvus", "milvus_lite"], "LanceDB": ["lancedb"]}


def nearest(name: str, found: dict[str, Any], vector: list[float]) -> str:
    """The id of the text next to a vector, in the database that a snippet has made."""
    if name == "Qdrant":
        hits = found["store"].query_points("corpus", query=vector, limit=1).points
        return str(hits[0].payload["id"])
    if name == "Milvus":
        return str(found["store"].search("corpus", data=[vector], limit=1)[0][0]["id"])
    return str(found["table"].search(vector).nprobes(100).refine_factor(10).limit(1).to_list()[0]["id"])


def count(name: str, found: dict[str, Any]) -> int:
    if name == "Qdrant":
        return int(found["store"].count("corpus").count)
    if name == "Milvus":
        return len(found["store"].query("corpus", filter="", output_fields=["id"], limit=1000))
    return int(found["table"].count_rows())


def test_the_page_has_a_snippet_for_each() -> None:
    assert SNIPPETS.keys() == NEEDED.keys()
    for name, text in SNIPPETS.items():
        compile("# " + text, name, "exec")
        assert "pip install" in text.splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDED)
def test_it_loads_what_embed_has_written(
    name: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in NEEDED[name]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the client {module} is not installed")
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"t{i}", "text": f"{row['text']} {i}"} for i, row in enumerate(rows_of(TEXTS))]
    write_lines(tmp_path / "texts.jsonl", rows)
    (tmp_path / "vectors").mkdir()
    output = "vectors/shard-000000.parquet"
    arguments = [
        "embed",
        "texts.jsonl",
        "--output",
        output,
        "--model",
        str(model_folder),
        "--dtype",
        "float32",
    ]
    made = CliRunner().invoke(app, arguments)
    assert made.exit_code == 0, made.output
    found: dict[str, Any] = {}
    exec(compile("# " + SNIPPETS[name], name, "exec"), found)
    assert count(name, found) == TEXTS
    table = pq.read_table(output)
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    cosines = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    for place in (0, 123, TEXTS - 1):
        hit = int(nearest(name, found, vectors[place].tolist()).removeprefix("t"))
        assert cosines[place, hit] > 1 - 1e-5  # itself, or one that cannot be told from it
