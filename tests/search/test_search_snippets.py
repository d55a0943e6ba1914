"""The snippets of docs/search.md that take an index elsewhere, as they stand there."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from search_fakes import FakeEmbedder, make_documents

from jaspertc.engine.embedder import Embedder
from jaspertc.search import upkeep
from jaspertc.search.index import SearchIndex

PAGE = Path(__file__).parents[2] / "docs" / "search.md"
SNIPPETS = dict(re.findall(r"```python\n# (\w+): (.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
NEEDED = {
    "LangChain": "langchain_core",
    "LlamaIndex": "llama_index.core",
    "Parquet": "pyarrow",
    "Qdrant": "qdrant_client",
    "LanceDB": "lancedb",
}
SERVERS = {"pgvector"}  # whose snippets only compile here
TEXTS = 60


def test_the_page_has_a_snippet_for_each():
    assert SNIPPETS.keys() == NEEDED.keys() | SERVERS
    for name, text in SNIPPETS.items():
        compile("# " + text, name, "exec")
        assert "pip install" in text.splitlines()[0]


@pytest.fixture
def vectors(tmp_path, monkeypatch):
    """Vectors of the documents of an index texts.db, exported to texts.parquet, by id."""
    embedder = FakeEmbedder()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Embedder, "load", lambda name: embedder)
    documents = list(make_documents(TEXTS))
    with SearchIndex.create_or_open("texts.db", embedder) as index:
        index.add(documents)
    pytest.importorskip("pyarrow")
    assert upkeep.export(Path("texts.db"), Path("texts.parquet")) == TEXTS
    return {document.id: embedder.vector(document.text) for document in documents}


@pytest.mark.parametrize("name", NEEDED)
def test_it_runs(name, vectors):
    if importlib.util.find_spec(NEEDED[name].partition(".")[0]) is None:
        pytest.skip(f"{NEEDED[name]} is not installed")
    found = {}
    exec(compile("# " + SNIPPETS[name], name, "exec"), found)
    if name == "LangChain":
        assert len({document.id for document in found["documents"]} & vectors.keys()) == 4
    elif name == "LlamaIndex":
        assert len({node.node.node_id for node in found["nodes"]} & vectors.keys()) == 4
    elif name == "Parquet":
        np.testing.assert_allclose(found["vectors"], np.stack(list(vectors.values())), atol=1e-6)
    else:
        wanted, vector = list(vectors.items())[7]
        if name == "Qdrant":
            assert found["store"].count("texts").count == TEXTS
            best = (
                found["store"].query_points("texts", query=vector.tolist(), limit=1).points[0].payload["id"]
            )
            found["store"].close()
        else:
            assert found["table"].count_rows() == TEXTS
            best = found["table"].search(vector).limit(1).to_list()[0]["id"]
        assert best == wanted
