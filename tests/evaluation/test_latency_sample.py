"""The texts that latency is measured on, kept for later runs."""

from jaspertc.evaluation.latency import Sample


def test_texts_with_line_separators_are_there_in_the_next_run(tmp_path):
    texts = {"one\u2028two": 3, "three\u2029\x85four": 3, "\x1c": 3, "five\nsix": 3}
    sample = Sample(tmp_path)
    sample.add("task", texts)
    again = Sample(tmp_path)
    assert again.rows == sample.rows
    assert {row["text"] for row in again.rows} == set(texts)
    assert again.has("task")
