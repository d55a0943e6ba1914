"""The sample texts are what their README says."""

from collections import Counter

from jaspertc.samples import load_samples


def test_passages_and_questions() -> None:
    passages, questions = load_samples("passages"), load_samples("questions")
    assert Counter(passage["lang"] for passage in passages) == {"en": 48, "zh": 48}
    ids = [passage["id"] for passage in passages]
    assert len(set(ids)) == len({passage["text"] for passage in passages}) == 96
    asked = Counter((question["passage"], question["lang"]) for question in questions)
    assert asked == {(name, lang): 1 for name in ids for lang in ("en", "zh")}


def test_sentence_pairs_cover_the_scale() -> None:
    pairs = load_samples("sts")
    assert Counter(pair["lang"] for pair in pairs) == {"en": 20, "zh": 20, "en-zh": 20}
    for low in range(5):
        assert sum(low <= pair["score"] <= low + 1 for pair in pairs) >= 8


def test_pairs_are_the_questions_with_their_passages() -> None:
    passages = {passage["id"]: passage["text"] for passage in load_samples("passages")}
    expected = [(row["question"], passages[row["passage"]]) for row in load_samples("questions")]
    assert [(pair["query"], pair["positive"]) for pair in load_samples("pairs")] == expected
