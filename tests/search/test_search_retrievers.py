"""An index as retriever of LangChain and of LlamaIndex."""

import pytest

from jaspertc.search.documents import Document


@pytest.fixture
def filled(index):
    index.add(
        [
            Document("a", "the ferry leaves at noon", {"lang": "en"}),
            Document("b", "bread rises", {"heading": "mine"}),
        ]
    )
    return index


def test_langchain(filled):
    pytest.importorskip("langchain_core")
    from jaspertc.search.langchain import JaspertcRetriever

    documents = JaspertcRetriever(index=filled, k=1).invoke("when does the ferry leave")
    assert [(found.id, found.page_content) for found in documents] == [("a", "the ferry leaves at noon")]
    assert documents[0].metadata["lang"] == "en"
    assert documents[0].metadata["stop"] == len("the ferry leaves at noon")
    (bread,) = JaspertcRetriever(index=filled, k=1, mode="text").invoke("bread")
    assert bread.metadata["heading"] == "mine"
    assert JaspertcRetriever(index=filled, mode="text", where={"lang": "zh"}).invoke("ferry") == []


def test_llama_index(filled):
    pytest.importorskip("llama_index.core")
    from jaspertc.search.llama_index import JaspertcRetriever

    nodes = JaspertcRetriever(filled, k=1, mode="text").retrieve("bread")
    assert [(found.node.node_id, found.node.text) for found in nodes] == [("b", "bread rises")]
    assert 0 < nodes[0].score <= 1
    assert nodes[0].node.metadata["heading"] == "mine"
