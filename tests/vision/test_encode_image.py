"""Pictures through a whole model: vectors, the number of tokens, saving and loading."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import drawn, encoded, tiny_vit, with_vision
from PIL import Image

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.checkpoint.vision import read_vision, save_vision
from jaspertc.engine.optimize import optimize
from jaspertc.errors import CheckpointError, InputError, PictureError
from jaspertc.train.matryoshka import turn_checkpoint

TEXTS = ["a red circle", "一个蓝色的方块", ""]


@pytest.fixture(scope="module")
def folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_vision(tmp_path_factory.mktemp("pictures") / "model", model_folder)


@pytest.fixture(scope="module")
def seeing(folder: Path) -> Embedder:
    return Embedder.load(folder, device="cpu", dtype="float32", runtime="torch")


def test_texts_of_a_model_with_pictures_are_bit_equal(seeing: Embedder, model: Embedder) -> None:
    assert np.array_equal(seeing.encode(TEXTS), model.encode(TEXTS))
    assert seeing.fingerprint == model.fingerprint
    assert seeing.pictures.fingerprint.startswith(seeing.fingerprint + "+")


def test_a_picture_is_the_same_alone_and_among_others_in_every_form(seeing: Embedder, tmp_path: Path) -> None:
    images = [drawn("circle", "red"), drawn("rectangle", "blue"), *(drawn(size=s) for s in range(20, 40))]
    together = seeing.encode_image(images)
    assert together.shape == (22, 24)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    (tmp_path / "a.png").write_bytes(encoded(images[0]))
    forms = (
        images[0],
        np.asarray(images[0]),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        encoded(images[0]),
        bytearray(encoded(images[0])),
    )
    for form in forms:
        alone = seeing.encode_image(form)
        assert alone.shape == (24,)
        assert np.abs(alone - together[0]).max() < 1e-5
    assert np.abs(together[0] - together[1]).max() > 0.01
    assert seeing.encode_image([]).shape == (0, 24)


def test_tokens_are_what_the_backbone_computes(seeing: Embedder, folder: Path) -> None:
    """The whole path again, step by step."""
    from jaspertc.corpus.pictures import to_pixels

    tower, image = read_vision(folder, 32), drawn()
    for tokens in (1, 4, 9, 16):
        with torch.inference_mode():
            features = tower.encoder(torch.from_numpy(to_pixels([image], tower.encoder)))
            side = int(tokens**0.5)
            pooled = torch.nn.functional.adaptive_avg_pool2d(features, side)[0].flatten(1).T
            rows = torch.cat([tower.before, tower.projection(pooled), tower.after])
            assert len(rows) == tower.rows_of(tokens) == tokens + 3
            raw = seeing.runtime.encoder.from_rows(rows, np.array([len(rows)])).numpy()[0]
        found = seeing.encode_image(image, tokens=tokens, normalize=False)
        assert np.abs(found - raw).max() < 1e-5 * np.abs(raw).max()
    assert np.array_equal(seeing.encode_image(image), seeing.encode_image(image, tokens=4))


def test_options(seeing: Embedder) -> None:
    narrow = seeing.encode_image([drawn()], dims=8)
    full = seeing.encode_image([drawn()], normalize=False)[:, :8]
    assert np.abs(narrow - full / np.linalg.norm(full)).max() < 1e-6
    assert seeing.encode_image(drawn(), precision="int8").dtype == np.int8
    for tokens in (0, 2, 25, True, 4.5, 1.0):
        with pytest.raises(InputError, match=r"a picture has 1, 4, 9, 16 of them"):
            seeing.encode_image(drawn(), tokens=tokens)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dims is 7"):
        seeing.encode_image(drawn(), dims=7)
    with pytest.raises(PictureError, match="is no file"):
        seeing.encode_image("/no/such.png")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (encoded(drawn())[:90], "picture 17: the picture is damaged"),
        (None, "picture 17: a picture is of type NoneType"),
    ],
)
def test_a_bad_one_of_several_is_named(seeing: Embedder, bad: object, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        seeing.encode_image([*[drawn()] * 17, bad, drawn()])
    with pytest.raises(PictureError, match=message.removeprefix("picture 17: ")) as alone:
        seeing.encode_image([bad])
    assert "picture 0" not in str(alone.value)


def test_a_model_of_texts_only_says_so(model: Embedder) -> None:
    with pytest.raises(CheckpointError, match=r"no folder 'vision'.*docs/pictures.md"):
        model.encode_image(drawn())


def test_openvino_computes_the_same(folder: Path, seeing: Embedder) -> None:
    pytest.importorskip("openvino")
    other = Embedder.load(folder, runtime="openvino", dtype="float32")
    found = other.encode_image([drawn(), drawn("rectangle", "green")])
    expected = seeing.encode_image([drawn(), drawn("rectangle", "green")])
    assert np.abs(found - expected).max() < 1e-4


def test_saved_and_loaded_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    tower = read_vision(folder, 32)
    save_vision(tmp_path, tower)
    again = read_vision(tmp_path, 32)
    assert again.config == tower.config
    assert again.encoder.keys == tower.encoder.keys
    for name, value in tower.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    save_vision(tmp_path, tower, dtype="bfloat16")
    small = read_vision(tmp_path, 32)
    assert torch.equal(small.projection[1].weight, tower.projection[1].weight.bfloat16().float())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"vit"', '"cnn"', "describes no picture side"),
        ('"tokens": 4', '"tokens": 5', "square number"),
        ('"tokens": 4', '"tokens": 25', "a picture has 1, 4, 9, 16"),
        ('"width": 16', '"width": 32', "has shape"),
        ('"tower"', '"turm"', "describes no picture side"),
    ],
)
def test_damaged_folders(folder: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    shutil.copytree(folder / "vision", tmp_path / "vision")
    config = tmp_path / "vision" / "config.json"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(CheckpointError, match=message):
        read_vision(tmp_path, 32)


def test_a_picture_side_of_another_model_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="has shape"):
        read_vision(folder, 48)


def test_turned_vectors_are_those_of_pictures_too(folder: Path, seeing: Embedder, tmp_path: Path) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((24, 24)))
    turn_checkpoint(load_checkpoint(folder), turn.astype(np.float32), [8], tmp_path / "turned")
    turned = Embedder.load(tmp_path / "turned", device="cpu", dtype="float32", runtime="torch")
    pictures = [drawn("circle", "red"), drawn("rectangle", "blue")]
    np.testing.assert_allclose(
        turned.encode_image(pictures), seeing.encode_image(pictures) @ turn.T, atol=1e-5
    )
    np.testing.assert_allclose(turned.encode(TEXTS), seeing.encode(TEXTS) @ turn.T, atol=1e-5)
    assert turned.encode_image(pictures, dims=8).shape == (2, 8)


def test_an_optimised_checkpoint_keeps_its_picture_side(
    folder: Path, seeing: Embedder, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    made = optimize(folder, tmp_path / "small", TEXTS, least=0.5)
    small = Embedder.load(made.folder)
    pictures = [drawn("circle", "red"), drawn("rectangle", "blue")]
    assert (small.encode_image(pictures) * seeing.encode_image(pictures)).sum(1).min() > 0.95
    side, theirs = (path / "vision" / "model.safetensors" for path in (folder, made.folder))
    assert theirs.read_bytes() == side.read_bytes()


def test_sentence_transformers_loads_the_text_side(folder: Path, seeing: Embedder) -> None:
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    assert np.abs(theirs.encode(TEXTS[:2]) - seeing.encode(TEXTS[:2])).max() < 1e-5


def test_class_and_keys_make_the_same_encoder() -> None:
    for family in ("clip", "siglip"):
        encoder = tiny_vit(family)
        again = type(encoder)(**encoder.keys)
        again.load_state_dict(copy.deepcopy(encoder.state_dict()))
        pixels = torch.randn(2, 3, 16, 16)
        assert torch.equal(again(pixels), encoder(pixels))


def test_projection_with_a_middle_layer(model_folder: Path, tmp_path: Path) -> None:
    model = Embedder.load(with_vision(tmp_path / "mlp", model_folder, mlp_size=20), runtime="torch")
    assert model.encode_image(Image.new("RGB", (1, 1))).shape == (24,)
    assert len(model.pictures.tower.projection) == 4


def test_pictures_on_a_bert_model(make_model: Callable[..., Path], tmp_path: Path) -> None:
    source = make_model(
        backbone={"kind": "bert", "causal": False, "num_kv_heads": 4, "vocab_size": 320},
        tokenizer="wordpiece",
    )
    model = Embedder.load(with_vision(tmp_path / "bert", source), runtime="torch")
    vectors = model.encode_image([drawn(), drawn("rectangle", "blue")], tokens=16)
    assert np.isfinite(vectors).all()
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
