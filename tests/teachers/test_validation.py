"""Validation sets: what a file may look like, and what is named when it cannot be read."""

import gzip

import pytest

from jaspertc.errors import DataFileError
from jaspertc.recipe.texts import PairFile, Validation
from jaspertc.teaching.validation import read_validation

FIRST = '{"sentence1": "a\u2028b", "sentence2": "c", "score": 1}'
SECOND = '{"sentence1": "d", "sentence2": "e", "score": 2}'


def read(path):
    return read_validation(Validation(sts=(PairFile(name="s", path=path, role="query"),)))[0][0]


@pytest.mark.parametrize("between", ["\n", "\r\n\r\n", "\n\ufeff", "\ufeff"])
def test_a_byte_order_mark_and_odd_line_ends(tmp_path, between):
    content = f"\ufeff{FIRST}{between}{SECOND}".encode()
    (tmp_path / "s.jsonl").write_bytes(content)
    (tmp_path / "s.jsonl.gz").write_bytes(gzip.compress(content))
    for name in ("s.jsonl", "s.jsonl.gz"):
        pairs = read(tmp_path / name)
        assert (pairs.first, pairs.scores) == (["a\u2028b", "d"], [1, 2])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sentence1": "a"', "line 2: not JSON"),
        ('{"sentence1": "a", "sentence2": "b", "score": NaN}', "line 2: not JSON: NaN"),
        (f'{{"sentence1": "a", "sentence2": "b", "score": {"9" * 400}}}', "9{40}.*must be a finite number"),
        ('{"sentence1": "a", "score": 1}', "line 2: no field 'sentence2', it has sentence1, score"),
        ('{"sentence1": 5, "sentence2": "b", "score": 1}', "line 2: 'sentence1' is 5, it must be a text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, line, message):
    path = tmp_path / "s.jsonl"
    path.write_text(f"{SECOND}\n{line}\n")
    with pytest.raises(DataFileError, match=message):
        read(path)
    path.unlink()
    with pytest.raises(DataFileError, match=r"s\.jsonl does not exist"):
        read(path)
