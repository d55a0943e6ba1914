"""Adding, updating, removing and finding documents."""

import numpy as np
import pytest
from search_fakes import FakeEmbedder, contents, make_documents

from jaspertc.errors import InputError
from jaspertc.search import index as index_module
from jaspertc.search.documents import Document
from jaspertc.search.index import AddReport, SearchIndex


def brute_force(embedder, documents, query, k, where):
    """The same as a search, in NumPy and Python."""
    rows = [
        doc
        for doc in documents
        if all(
            key in doc.metadata
            and doc.metadata[key] == value
            and isinstance(doc.metadata[key], bool) == isinstance(value, bool)
            for key, value in where.items()
        )
    ]
    if not rows:
        return []
    scores = np.stack([embedder.vector(doc.text) for doc in rows]) @ embedder.vector(query)
    return [(rows[i].id, scores[i]) for i in np.argsort(-scores, kind="stable")[:k]]


@pytest.mark.parametrize(
    "where",
    [
        None,
        {},
        {"lang": "zh"},
        {"part": 3},
        {"part": 3.0, "lang": "en"},
        {"rare": True, "part": 5},
        {"rare": 1},
        {"part": "3"},
        {"missing": None},
    ],
)
@pytest.mark.parametrize("k", [1, 10, 5000])
def test_search_equals_brute_force(index, embedder, where, k):
    documents = list(make_documents(1000))
    index.add(documents)
    for query in ("text 7 ", "something else", "猫"):
        hits = index.search(query, k=k, where=where, mode="vector")
        expected = brute_force(embedder, documents, query, k, where or {})
        assert [hit.id for hit in hits] == [name for name, _ in expected]
        np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in expected], atol=1e-5)
        by_id = {document.id: document for document in documents}
        assert all(Document(hit.id, hit.text, hit.metadata) == by_id[hit.id] for hit in hits)


def test_filter_is_exact_for_awkward_values(index):
    values = [None, True, False, 0, 1, -1, 0.1 + 0.2, 0.3, 1e300, 2**53, 2**53 + 1, 2**70, "", "1", "true"]
    values += ["null", 'a"b', "a\\b", "a\0b", "a\0c", "a'b", "猫", "\u2028", "a" * 5000]
    keys = ["plain", 'quo"te', "$.plain", "a.b", "", "a\0b", "键"]
    documents = [
        Document(f"{i}-{j}", "same text", {key: value, "all": "x"})
        for i, key in enumerate(keys)
        for j, value in enumerate(values)
    ]
    index.add(documents)
    for document in documents:
        hits = index.search("same text", k=1000, where=document.metadata)
        assert [(hit.id, hit.metadata) for hit in hits] == [(document.id, document.metadata)]
    assert len(index.search("same text", k=1000, where={"all": "x"})) == len(documents)


def test_add_counts_and_embeds_only_what_changed(index, embedder):
    documents = list(make_documents(600))
    assert index.add(iter(documents)) == AddReport(added=600, updated=0, unchanged=0)
    assert len(embedder.embedded) == 600
    embedder.embedded.clear()
    assert index.add(documents) == AddReport(added=0, updated=0, unchanged=600)
    assert embedder.embedded == []

    documents[3] = Document(documents[3].id, "new text", documents[3].metadata)
    documents[300] = Document(documents[300].id, documents[300].text, {"lang": "fr"})
    documents.append(Document("one more", "last"))
    assert index.add(documents) == AddReport(added=1, updated=2, unchanged=598)
    assert embedder.embedded == ["new text", "last"]
    assert len(index) == 601
    assert index.search("new text", k=1)[0].id == "doc-3"
    assert [hit.id for hit in index.search("x", where={"lang": "fr"})] == ["doc-300"]
    assert index.search("x", k=700, where={"part": 300 % 7}) != []
    assert "doc-300" not in {hit.id for hit in index.search("x", k=700, where={"part": 300 % 7})}
    documents_at = {"ratio": 0.33, "threshold": 80, "normalize": True}
    queries_at = documents_at | {"ratio": 1.0}
    assert all(options in (documents_at, queries_at) for options in embedder.options)
    assert embedder.options.count(queries_at) == 4


def test_order_of_metadata_keys_is_no_change(index):
    index.add([Document("a", "t", {"x": 1, "y": 2})])
    assert index.add([Document("a", "t", {"y": 2, "x": 1})]) == AddReport(0, 0, 1)


def test_remove(index, tmp_path):
    index.add(make_documents(300))
    assert index.remove(["doc-0", "doc-299", "no such", "doc-0"]) == 2
    assert len(index) == 298
    assert index.remove([]) == 0
    index.add(make_documents(300))
    with SearchIndex.create_or_open(tmp_path / "b.db", FakeEmbedder()) as other:
        other.add(make_documents(300))
    assert contents(index.path) == contents(tmp_path / "b.db")


@pytest.mark.parametrize("documents", [Document("a", "t"), None, 5])
def test_add_refuses_what_is_not_several_documents(index, documents):
    with pytest.raises(InputError, match="it must be several Documents"):
        index.add(documents)


@pytest.mark.parametrize("ids", ["doc-0", b"doc-0", [1], [None], None, 5, {"doc-0": 1}])
def test_remove_refuses_what_is_no_list_of_ids(index, ids):
    with pytest.raises(InputError, match="list of strings"):
        index.remove(ids)


def test_content_survives_reopening(index, embedder):
    index.add(make_documents(50))
    before = index.search("text 7", k=50)
    index.close()
    index.close()
    with SearchIndex.open(index.path, embedder) as again:
        assert len(again) == 50
        assert again.search("text 7", k=50) == before
    assert [path.name for path in index.path.parent.iterdir()] == ["a.db"]


def test_documents_are_read_lazily(index, monkeypatch):
    monkeypatch.setattr(index_module, "BATCH_DOCUMENTS", 10)
    lengths = []

    def stream():
        for number, document in enumerate(make_documents(35)):
            if number % 10 == 0:
                lengths.append(len(index))
            yield document

    index.add(stream())
    assert lengths == [0, 10, 20, 30]


def test_progress_bar_goes_to_standard_error(index, capsys):
    index.add(make_documents(5), show_progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "5/5" in captured.err or "5/?" in captured.err


def test_empty_text_and_empty_index(index):
    assert index.search("anything") == []
    assert index.add([]) == AddReport(0, 0, 0)
    index.add([Document("empty", "")])
    assert index.search("anything")[0].text == ""


def test_zero_vectors_score_zero(index, embedder, monkeypatch):
    index.add([Document("a", "one"), Document("b", "two")])
    zero = np.zeros(embedder.dims, dtype=np.float32)
    monkeypatch.setattr(embedder, "encode_document", lambda texts, **_: np.stack([zero] * len(texts)))
    index.add([Document("z", "zero")])
    hits = index.search("one", k=3, mode="vector")
    assert hits[0].id == "a"
    assert next(hit for hit in hits if hit.id == "z").score == 0


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document("bad", 3), "'bad': text is 3 of type int"),
        (Document("bad", None), "'bad': text is None"),
        (Document("bad", "\ud800"), "'bad': text has half a surrogate"),
        (Document("", "t"), "id is ''"),
        (Document(7, "t"), "id is 7"),
        (Document("bad", "t", {"x": [1]}), "'bad': metadata 'x' is .* of type list"),
        (Document("bad", "t", {"x": float("nan")}), "'bad': metadata 'x' is nan"),
        (Document("bad", "t", {1: "x"}), "'bad': metadata key 1"),
        (Document("bad", "t", "x"), "'bad': metadata is 'x'"),
        (Document("bad", "t", {}, 5), "'bad': source is 5 of type int"),
        (("bad", "t"), "is a tuple"),
        (Document("doc-2", "t"), "'doc-2' comes twice"),
    ],
)
def test_a_bad_document_is_named_and_earlier_batches_are_kept(index, document, message, monkeypatch):
    monkeypatch.setattr(index_module, "BATCH_DOCUMENTS", 10)
    with pytest.raises(InputError, match=message):
        index.add([*make_documents(25), document])
    assert len(index) == 20


def test_vectors_that_are_not_finite_are_refused(index, embedder, monkeypatch):
    nan = np.full((1, embedder.dims), np.nan, dtype=np.float32)
    monkeypatch.setattr(embedder, "encode_document", lambda *_, **__: nan)
    with pytest.raises(InputError, match="no finite vector for the text 't'"):
        index.add([Document("a", "t")])
    monkeypatch.setattr(embedder, "encode_query", lambda *_, **__: nan[0])
    with pytest.raises(InputError, match="no finite vector for the query"):
        index.search("q")
    assert len(index) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query": ""}, "query is ''"),
        ({"query": " \n"}, "not blank"),
        ({"query": 3}, "query is 3"),
        ({"query": "\ud800"}, "surrogate"),
        ({"query": "q", "k": 0}, "k is 0"),
        ({"query": "q", "k": 2.0}, "k is 2.0"),
        ({"query": "q", "k": True}, "k is True"),
        ({"query": "q", "where": {"a": []}}, "where: metadata 'a'"),
        ({"query": "q", "where": "a=1"}, "where is 'a=1', it must be a mapping"),
        ({"query": "q", "where": ["a"]}, "where is \\['a'\\], it must be a mapping"),
    ],
)
def test_bad_search_arguments(index, arguments, message):
    with pytest.raises(InputError, match=message):
        index.search(**arguments)


def test_the_length_of_a_given_vector_does_not_matter(index, embedder):
    index.add(make_documents(20))
    vector = embedder.encode_query("text 3", ratio=1.0, normalize=True)
    expected = [(hit.id, round(hit.score, 5)) for hit in index.search("text 3", vector=vector)]
    for scale in (1e-200, 1e-25, 3.0, 1e25, 1e200):
        hits = index.search("text 3", vector=vector.astype(np.float64) * scale)
        assert [(hit.id, round(hit.score, 5)) for hit in hits] == expected
    assert index.search("text 3", k=np.int64(2), vector=vector)[1].id == expected[1][0]


@pytest.mark.parametrize(("vector", "message"), [("abc", "array of numbers"), (np.nan, "not finite")])
def test_a_given_vector_that_is_none(index, embedder, vector, message):
    index.add(make_documents(2))
    vector = vector if isinstance(vector, str) else np.full(embedder.dims, vector)
    with pytest.raises(InputError, match=message):
        index.search("text", vector=vector)


def test_what_gives_documents_must_not_write(index):
    def documents():
        yield Document("a", "one")
        index.remove(["a"])

    with pytest.raises(InputError, match="must not write to it"):
        index.add(documents())
    index.add([Document("b", "two")])  # the lock was given back
    assert index.search("two", k=1)[0].id == "b"


@pytest.mark.parametrize("make", [SearchIndex.open, SearchIndex.create_or_open])
def test_path_and_embedder_of_a_wrong_type(tmp_path, embedder, make):
    for path in (None, b"a.db", 5):
        with pytest.raises(InputError, match=r"path is .* must be a string or a Path"):
            make(path, embedder)
    with pytest.raises(InputError, match=r"embedder is 'mini' of type str, .*Embedder\.load"):
        make(tmp_path / "a.db", "mini")
