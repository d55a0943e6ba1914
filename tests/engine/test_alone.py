"""A short text alone takes a shorter way through the embedder, with the same result and the same errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaspertc import Embedder
from jaspertc.engine.texts import TextSide
from jaspertc.errors import InputError, RatioError

# Before and after the threshold of 8 tokens, with and without a prompt; an empty one; one over 64 positions.
TEXTS = ["", "a", "to", "an hour", "rain and snow", "rain in the hills", "rain in the hills today. " * 30]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"prompt": "Find: "},
    {"prompt_name": "query", "ratio": 0.1},
    {"ratio": 0.1, "threshold": 2},
    {"max_compressed": 3},
    {"max_length": 4},
    {"dims": 8, "normalize": False},
    {"precision": "int8"},
    {"long_texts": "truncate"},
]


@pytest.fixture(params=["torch", "openvino", "onnxruntime"])
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param != "torch":
        pytest.importorskip(request.param)
    return str(request.param)


@pytest.mark.filterwarnings("ignore::jaspertc.engine.options.LongTextWarning")
@pytest.mark.parametrize("pooler", ["last", "mean", "first"])
def test_as_among_others(runtime: str, pooler: str, make_model: Callable[..., Path]) -> None:
    model = Embedder.load(make_model(pooler=pooler), device="cpu", runtime=runtime, dtype="float32")
    for options in OPTIONS:
        together = np.asarray(model.encode(TEXTS, **options), np.float32)
        alone = [np.asarray(model.encode([text], **options), np.float32)[0] for text in TEXTS]
        close = 1.0 if options.get("precision") == "int8" else 1e-5
        assert np.abs(np.stack(alone) - together).max() <= close, options


def test_what_is_cut_compressed_or_in_pieces_goes_the_long_way(
    model: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    short: list[bool] = []
    alone = TextSide._alone

    def seen(*given: Any) -> Any:
        short.append((found := alone(*given)) is not None)
        return found

    monkeypatch.setattr(TextSide, "_alone", seen)
    beginnings = ["rain in the hills"[:end] for end in range(1, 18)]
    longest = [text for text, ids in zip(beginnings, model.tokenize(beginnings)) if len(ids) == 8][-1]
    model.encode(longest)
    model.encode(longest, ratio=0.1)
    model.encode(longest + " today")
    model.encode(longest, threshold=4)
    model.encode(longest, max_compressed=4)
    model.encode([longest, longest])
    assert short == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ratio": 0}, RatioError, "ratio is 0"),
        ({"ratio": [0.5, 0.5]}, RatioError, "one for each text"),
        ({"threshold": 0}, RatioError, "threshold is 0"),
        ({"dims": 7}, InputError, "dims is 7"),
        ({"prompt_name": "passage"}, InputError, "prompt_name is 'passage'"),
        ({"max_length": 0}, InputError, "max_length is 0"),
        ({"threshold": 2**63}, RatioError, "threshold is 9223372036854775808"),
        ({"normalize": "no"}, InputError, "normalize is 'no'"),
    ],
)
def test_bad_options_of_one_text(
    model: Embedder, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    for texts in ("rain", ["rain"]):
        with pytest.raises(error, match=message):
            model.encode(texts, **options)
