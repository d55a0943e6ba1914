"""Pictures in requests: vectors, limits and refusals."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import drawn, encoded, with_vision
from test_pictures import png_of_size

from conftest import Running
from jaspertc import Embedder


def url(content: bytes, kind: str = "png") -> dict[str, str]:
    return {"image": f"data:image/{kind};base64,{base64.b64encode(content).decode()}"}


@pytest.fixture(scope="module")
def seeing(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder.load(
        with_vision(tmp_path_factory.mktemp("server") / "model", model_folder), runtime="torch"
    )


@pytest.fixture(scope="module")
def server(start: Callable[..., Running], seeing: Embedder) -> Running:
    return start(seeing, max_images=3, max_image_pixels=10_000)


def test_vectors_are_those_of_encode_image(server: Running, seeing: Embedder) -> None:
    images = [drawn("circle", "red"), drawn("rectangle", "blue")]
    inputs = [url(encoded(images[0])), url(encoded(images[1], "BMP"), "bmp")]
    for tokens in (None, 1, 9):
        body: dict[str, Any] = {"model": "small", "input": inputs}
        answer = server.embed(body if tokens is None else {**body, "image_tokens": tokens})
        assert answer.status_code == 200, answer.text
        content = answer.json()
        found = np.array([row["embedding"] for row in content["data"]])
        assert np.abs(found - seeing.encode_image(images, tokens=tokens)).max() < 1e-5
        assert content["usage"]["prompt_tokens"] == 2 * (tokens or 4)
    alone = server.embed({"model": "small", "input": inputs[0], "dimensions": 8}).json()["data"]
    assert np.abs(np.array(alone[0]["embedding"]) - seeing.encode_image(images[0], dims=8)).max() < 1e-5
    assert server.http.get("/info").json()["picture_tokens"] == [1, 4, 9, 16]


GOOD = url(encoded(drawn()))


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"input": {"image": "https://example.org/cat.png"}}, "fetches no addresses", "image_not_data_url"),
        ({"input": {"image": "file:///etc/passwd"}}, "fetches no addresses", "image_not_data_url"),
        (
            {"input": {"image": "data:text/html;base64,PGI+"}},
            "no data URL of a picture",
            "image_not_data_url",
        ),
        ({"input": {"image": "data:image/png;base64,%%"}}, "not base64", None),
        ({"input": url(b"no picture")}, "input 0: the picture is no picture", "image_not_readable"),
        (
            {"input": [GOOD, url(encoded(drawn())[:90])]},
            "input 1: the picture is damaged",
            "image_not_readable",
        ),
        ({"input": url(png_of_size(60_000, 60_000))}, "make it smaller", "image_not_readable"),
        ({"input": url(png_of_size(101, 100))}, "allowed are 1 to 10,000", "image_not_readable"),
        ({"input": url(b"%!PS-Adobe-3.0 EPSF-3.0\n")}, "no picture that can be read", "image_not_readable"),
        ({"input": [GOOD] * 4}, "has 4 pictures, it must have 1 ... 3", None),
        ({"input": [GOOD, "a text"]}, "texts in a request of their own", None),
        ({"input": {"image": 3}}, "must be", None),
        ({"input": {"image": GOOD["image"], "more": 1}}, "must be", None),
        ({"input": GOOD, "image_tokens": 5}, "a picture has 1, 4, 9, 16", None),
        ({"input": GOOD, "dimensions": 7}, "dimensions is 7", None),
    ],
)
def test_refusals(server: Running, body: dict[str, Any], message: str, code: str | None) -> None:
    answer = server.embed({"model": "small", **body})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["code"] == code


def test_a_model_of_texts_only(start: Callable[..., Running], model: Embedder) -> None:
    running = start(model)
    answer = running.embed({"model": "small", "input": GOOD})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "no_pictures"
    assert running.http.get("/info").json()["picture_tokens"] == []
