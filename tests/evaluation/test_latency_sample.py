"""The texts that latency is measured on, kept for later runs."""

from dataclasses import replace

import numpy as np

from jaspertc.evaluation.contenders import Contender
from jaspertc.evaluation.latency import Sample, measure


def test_texts_with_line_separators_are_there_in_the_next_run(tmp_path):
    texts = {"one\u2028two": 3, "three\u2029\x85four": 3, "\x1c": 3, "five\nsix": 3}
    sample = Sample(tmp_path)
    sample.add("task", texts)
    again = Sample(tmp_path)
    assert again.rows == sample.rows
    assert {row["text"] for row in again.rows} == set(texts)
    assert again.has("task")


def test_another_runtime_is_timed_anew(tmp_path):
    calls = []

    def embed(texts, prompt):
        calls.append(texts)
        return np.ones((len(texts), 2), "f4")

    float32 = Contender(
        name="ours",
        revision="abc",
        runtime="torch float32",
        dims=2,
        megabytes=None,
        prompts={},
        embed=embed,
        fresh=embed,
    )
    sample = Sample(tmp_path)
    sample.add("task", {"a text": 2})
    first = measure(tmp_path, [float32], sample, "a machine")
    assert first["contenders"]["ours"]["runtime"] == "torch float32"
    before = len(calls)
    assert measure(tmp_path, [float32], sample, "a machine") == first
    assert len(calls) == before
    again = measure(tmp_path, [replace(float32, runtime="torch bfloat16")], sample, "a machine")
    assert again["contenders"]["ours"]["runtime"] == "torch bfloat16"
    assert len(calls) == 2 * before
