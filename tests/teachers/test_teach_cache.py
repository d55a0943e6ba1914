"""Vectors on disk: found by id, refused by name when anything is wrong."""

import json

import numpy as np
import pytest

from jaspertc.errors import CacheError, DuplicateError
from jaspertc.teaching.cache import CacheWriter, VectorCache
from jaspertc.teaching.keys import KeyIndex, content_id, keys_of

IDENTITY = {"model": "fake", "content hash": "abc", "prompt": "", "max length": 9, "dims": 4}
RNG = np.random.default_rng(0)


def add(writer, first, count):
    ids = [f"t{number}" for number in range(first, first + count)]
    vectors = RNG.normal(size=(count, 4)).astype(np.float32)
    writer.add(ids, keys_of(ids, [f"text {name}" for name in ids]), vectors)
    return vectors


@pytest.fixture
def folder(tmp_path):
    """Three shards of 10, 10 and 5 rows."""
    with CacheWriter(tmp_path / "c", IDENTITY) as writer:
        vectors = np.concatenate([add(writer, 0, 10), add(writer, 10, 10), add(writer, 20, 5)])
    np.save(tmp_path / "vectors.npy", vectors)
    return tmp_path / "c"


def test_vectors_by_id(folder):
    cache = VectorCache(folder)
    expected = np.load(folder.parent / "vectors.npy").astype(np.float16)
    assert (len(cache), cache.dims) == (25, 4)
    assert list(cache.ids()) == [f"t{number}" for number in range(25)]
    wanted = [24, 0, 11, 11, 9, 10, 19]
    found = cache.vectors([f"t{number}" for number in wanted], dtype=np.float16)
    assert found.dtype == np.float16
    assert (found == expected[wanted]).all()
    assert cache.vectors(["t3"]).dtype == np.float32
    assert cache.vectors([]).shape == (0, 4)
    assert cache.identity["dtype"] == "float16"


def test_text_without_vector_is_named(folder):
    with pytest.raises(CacheError, match=r"no vector of text 'nobody' \(1 of 3 texts.*run `jaspertc teach"):
        VectorCache(folder).vectors(["t1", "nobody", "t2"])


def test_empty_cache(tmp_path):
    with CacheWriter(tmp_path, IDENTITY):
        pass
    cache = VectorCache(tmp_path)
    assert len(cache) == 0
    assert not cache.covers(keys_of(["a"], ["b"]))[0]
    with pytest.raises(CacheError, match=r"'a'"):
        cache.vectors(["a"])


def test_changed_text_is_named_with_its_shard(folder):
    cache = VectorCache(folder)
    assert cache.covers(keys_of(["t12", "new"], ["text t12", "x"])).tolist() == [True, False]
    with pytest.raises(CacheError, match=r"shard-000001 .*'t12' has changed.*new ids"):
        cache.covers(keys_of(["t12"], ["another text"]))


def swap(folder, ending):
    first, second = folder / f"shard-000000{ending}", folder / f"shard-000001{ending}"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def edit(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "edited vectors": (lambda f: edit(f / "shard-000001.npy"), "shard-000001 .*edited"),
    "edited keys": (lambda f: edit(f / "shard-000001.keys.npy"), "shard-000001 .*edited"),
    "edited ids": (lambda f: edit(f / "shard-000002.ids.json", 3), "shard-000002 .*edited"),
    "header": (lambda f: edit(f / "shard-000001.npy", 0), "shard-000001 .*broken header"),
    "truncated": (
        lambda f: (f / "shard-000001.npy").write_bytes((f / "shard-000001.npy").read_bytes()[:150]),
        "shard-000001 .*truncated",
    ),
    "empty": (lambda f: (f / "shard-000002.keys.npy").write_bytes(b""), "shard-000002 .*truncated"),
    "missing": (lambda f: (f / "shard-000001.ids.json").unlink(), "shard-000001 .*lacks"),
    "too many rows": (
        lambda f: np.save(f / "shard-000002.npy", np.zeros((6, 4), "<f2")),
        "shard-000002 .*misaligned",
    ),
    "other dims": (
        lambda f: np.save(f / "shard-000002.npy", np.zeros((4, 5), "<f2")),
        "shard-000002 .*misaligned",
    ),
    "swapped vectors": (lambda f: swap(f, ".npy"), "shard-000000 .*edited"),
    "swapped keys": (lambda f: swap(f, ".keys.npy"), "shard-000000 .*edited"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_by_name_and_repaired(folder, name):
    damage, words = DAMAGES[name]
    damage(folder)
    with pytest.raises(CacheError, match=rf"{words}.*(restore|--repair)"):
        VectorCache(folder)
    with pytest.raises(CacheError, match=words), CacheWriter(folder, IDENTITY):
        pass
    with CacheWriter(folder, IDENTITY, repair=True) as writer:
        left = writer.cache.covers(keys_of([f"t{n}" for n in range(25)], [f"text t{n}" for n in range(25)]))
        assert left.any()
        assert not left.all()
        ids = [f"t{n}" for n in np.flatnonzero(~left)]
        writer.add(ids, keys_of(ids, [f"text {n}" for n in ids]), np.ones((len(ids), 4), np.float32))
    assert len(VectorCache(folder)) == 25


def test_without_verification_sizes_and_keys_are_checked(folder):
    edit(folder / "shard-000001.npy")
    assert len(VectorCache(folder, verify=False)) == 25
    edit(folder / "shard-000001.keys.npy")
    with pytest.raises(CacheError, match=r"shard-000001"):
        VectorCache(folder, verify=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m | {"format": 2}, "format 2"),
        (lambda m: {"format": 1}, "edited"),
        (lambda m: m | {"shards": [m["shards"][0] | {"rows": "x"}]}, "edited"),
        (lambda m: m | {"shards": [m["shards"][0] | {"name": "../x"}]}, "edited"),
        (lambda m: m | {"shards": [m["shards"][0], m["shards"][0]]}, "edited"),
        (lambda m: m | {"identity": {}}, "edited"),
        (lambda m: [], "edited"),
    ],
)
def test_manifest_edited(folder, change, words):
    path = folder / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(CacheError, match=rf"manifest\.json .*{words}"):
        VectorCache(folder)


def test_manifest_truncated_or_lost(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(CacheError, match=r"manifest\.json cannot be read.*remove"):
        VectorCache(folder)
    path.unlink()
    with pytest.raises(CacheError, match=r"run `jaspertc teach"):
        VectorCache(folder)
    with pytest.raises(CacheError, match=r"shard-000000.* but no manifest"), CacheWriter(folder, IDENTITY):
        pass


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"prompt": "query: "}, "prompt was '', is 'query: '"),
        ({"max length": 10}, "max length was 9, is 10"),
        ({"content hash": "abd"}, "content hash was 'abc', is 'abd'"),
        ({"dims": 5}, "dims was 4, is 5"),
        ({"pooling": "mean"}, "pooling was None, is 'mean'"),
    ],
)
def test_another_teacher_is_refused_with_what_differs(folder, changed, words):
    with pytest.raises(CacheError, match=rf"{words}.*another \[cache\]"):
        CacheWriter(folder, IDENTITY | changed).__enter__()


def test_same_content_under_another_name_is_the_same(folder):
    with CacheWriter(folder, IDENTITY | {"model": "moved"}) as writer:
        assert len(writer.cache) == 25


def test_one_writer_at_a_time(folder):
    with (
        CacheWriter(folder, IDENTITY),
        pytest.raises(CacheError, match=r"another run"),
        CacheWriter(folder, IDENTITY),
    ):
        pass
    with CacheWriter(folder, IDENTITY):
        pass


def test_left_by_a_killed_run_is_overwritten(folder):
    (folder / "shard-000003.npy").write_bytes(b"half")
    (folder / "shard-000003.keys.npy.tmp").write_bytes(b"half")
    with CacheWriter(folder, IDENTITY) as writer:
        add(writer, 30, 2)
    assert not list(folder.glob("*.tmp"))
    assert len(VectorCache(folder)) == 27


def test_one_id_in_two_shards_is_refused(folder):
    with CacheWriter(folder, IDENTITY) as writer:
        add(writer, 3, 1)
    with pytest.raises(CacheError, match=r"'t3' is both in shard-000000 and shard-000003"):
        VectorCache(folder).vectors(["t1"])


def test_index_tells_apart_ids_with_the_same_leading_bits():
    table = keys_of([str(number) for number in range(1000)], ["x"] * 1000)
    index = KeyIndex(table)
    rows, found = index.find(keys_of(["7", "x", "999"]))
    assert (rows.tolist(), found.tolist()) == ([7, 0, 999], [True, False, True])
    other = keys_of(["7"]).copy()
    other[0, 1] += np.uint64(1)
    assert not index.find(other)[1][0]
    with pytest.raises(DuplicateError) as caught:
        KeyIndex(np.concatenate([table, table[5:6]]))
    assert caught.value.rows == (5, 1000)


def test_keys_are_stable():
    assert keys_of(["a"], ["b"]).tolist() == keys_of(iter(["a"]), iter(["b"])).tolist()
    assert keys_of(["a"], ["b"])[0, :2].tolist() == keys_of(["a"])[0, :2].tolist()
    assert content_id("a") == content_id("a") != content_id("b")
    assert keys_of(["\ud800"], ["\ud800"]).shape == (1, 3)
