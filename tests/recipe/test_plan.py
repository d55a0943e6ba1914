"""``jaspertc plan``: against FLOPs that are counted, work that is timed, and the report's own numbers."""

import dataclasses
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from jaspertc import Embedder
from jaspertc.cli import app
from jaspertc.config import BackboneConfig
from jaspertc.errors import InputError
from jaspertc.model.cost import text_flops
from jaspertc.model.lengths import target_lengths
from jaspertc.model.shapes import known_shape
from jaspertc.recipe.costs import typical_lengths, weights_of
from jaspertc.recipe.devices import DEVICES, HERE_EMBEDDING, Device, measured_speed
from jaspertc.recipe.plan import plan
from jaspertc.recipe.recipe import read_recipe
from jaspertc.samples import load_samples
from jaspertc.text.packing import pack

RECIPES = Path(__file__).parents[2] / "recipes"
PAPER = RECIPES / "paper-600m.toml"


def test_the_flop_model_agrees_with_counted_flops(model: Embedder) -> None:
    """PyTorch counts matrix products; its count of attention is that of all pairs, causal or not."""
    encoder = model.checkpoint.encoder
    backbone = dataclasses.replace(encoder.config.backbone, causal=False)
    rng = np.random.default_rng(0)
    length = 40
    batch, targets = pack([rng.integers(0, 300, length)]), np.array([length])
    with torch.inference_mode():
        encoder(batch, targets)  # fills the folded table
        with FlopCounterMode(display=False) as counter:
            encoder(batch, targets)
    head = 2 * backbone.hidden_size * encoder.config.embedding_dims
    assert counter.get_total_flops() == pytest.approx(text_flops(backbone, length) + head, rel=0.25)


def test_the_published_600m_shape_has_its_flops() -> None:
    shape = known_shape("../models/Qwen3-0.6B")
    assert shape is not None
    assert text_flops(shape, 1) == pytest.approx(0.881e9, rel=0.01)  # see model/cost.py
    assert weights_of(shape) == pytest.approx(0.596e9, rel=0.01)
    eight = known_shape("Qwen/Qwen3-Embedding-8B")
    assert eight is not None
    assert weights_of(eight) == pytest.approx(7.57e9, rel=0.02)
    assert known_shape("bge-m3") is None


@pytest.mark.slow
def test_a_short_real_run_takes_about_as_long_as_planned() -> None:
    """Within a factor of 8 either way: the machine may be busy with other work, and both are timed on it."""
    texts = [row["text"] for row in load_samples("passages")][:24]
    mini = Embedder.load("mini", device="cpu", dtype="float32")
    mini.encode(texts[:4], ratio=1.0)
    lengths = [min(len(row), 512) for row in mini.tokenize(texts)]
    flops = sum(text_flops(mini.config.backbone, length) for length in lengths)
    before = measured_speed(0.2, torch.float32)
    started = time.perf_counter()
    mini.encode(texts, ratio=1.0)
    seconds = time.perf_counter() - started
    speed = (before + measured_speed(0.2, torch.float32)) / 2
    assert 1 / 8 < seconds / (flops / (speed * HERE_EMBEDDING)) < 8


def test_the_reports_own_setup() -> None:
    """12M texts, 2 epochs of 256 a step, then 800 steps of 512 and 5000 of 16 x 5."""
    recipe = read_recipe(PAPER)
    costs = plan(recipe, gpus=4, kind="a100")
    names = [cost.name for cost in (*costs.teach, *costs.distil)]
    assert names == [
        "teach qwen3-embedding-8b",
        "teach qzhou-embedding",
        *(f"distil {stage.name}" for stage in recipe.stages),
    ]
    assert costs.texts == 12_000_000
    first = costs.distil[0]
    assert first.tokens == pytest.approx(2 * 12e6 * 300, rel=0.01)
    # Six FLOPs a parameter of the layers and token, as everybody reckons, and attention on top.
    assert 1 < first.flops / (6 * 0.44e9 * first.tokens) < 1.5
    assert first.gib < DEVICES["a100"].gib
    # 4096 and 3584 dimensions in float16.
    assert costs.teach[0].gigabytes == pytest.approx(12e6 * 8240 / 1e9, rel=0.01)


def test_what_grows_with_texts_and_what_does_not() -> None:
    recipe = read_recipe(PAPER)
    small, large = (plan(recipe, gpus=4, kind="h100", texts=texts) for texts in (10**7, 10**9))
    for one, other in zip(small.teach, large.teach):
        assert other.hours == pytest.approx(100 * one.hours, rel=1e-3)
        assert other.gib == one.gib
    assert large.distil[0].hours == pytest.approx(100 * small.distil[0].hours, rel=1e-3)
    assert large.distil[3].hours == small.distil[3].hours
    more = plan(recipe, gpus=8, kind="h100", texts=10**9)
    assert more.hours == pytest.approx(large.hours / 2)
    assert more.distil[0].gib <= large.distil[0].gib


def test_every_device_says_where_its_numbers_are_from() -> None:
    for name, device in DEVICES.items():
        assert device.name == name
        assert "data sheet" in device.source
        assert "arXiv" in device.source
        assert 0 < device.training <= device.embedding < 0.6


def test_the_command_prints_a_table_for_each_number_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    options = ["--gpus", "4", "--kind", "a100", "--texts", "12000000", "--texts", "1000000000"]
    result = CliRunner().invoke(app, ["plan", str(PAPER), *options, "--hourly-cost", "8"])
    assert result.exit_code == 0, result.output
    assert re.search(r"12,000,000 texts[\s\S]*1,000,000,000 texts", result.output)
    assert result.output.count("teach qzhou-embedding") == 2
    assert "cost" in result.output


@pytest.mark.parametrize("price", ["nan", "-5", "inf"])
def test_a_price_is_a_number_of_at_least_zero(price: str) -> None:
    result = CliRunner().invoke(app, ["plan", str(PAPER), "--kind", "a100", "--hourly-cost", price])
    assert isinstance(result.exception, InputError)
    assert re.search(rf"--hourly-cost is {price}.*>= 0", str(result.exception))


def test_teachers_that_are_in_the_package_and_others() -> None:
    costs = plan(read_recipe(RECIPES / "quickstart.toml"), texts=1000, tokens=50, flops_per_second=1e11)
    assert [cost.name for cost in costs.teach] == ["teach mini-prompted", "teach mini-plain"]
    assert len(costs.distil) == 4
    assert all(cost.flops > 0 and cost.gigabytes > 0 for cost in (*costs.teach, *costs.distil))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus": 0}, "--gpus is 0"),
        ({"texts": -1}, "--texts is -1"),
        ({"tokens": -1}, "--tokens is -1"),
        ({"kind": "abacus"}, "--kind is 'abacus'.*a100"),
    ],
)
def test_bad_numbers(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(read_recipe(PAPER), **options)  # type: ignore[arg-type]


def test_a_recipe_that_does_not_say_how_many_texts() -> None:
    with pytest.raises(InputError, match="--texts"):
        plan(read_recipe(RECIPES / "quickstart-teach.toml"), flops_per_second=1e11)


def embedding_hours(
    backbone: BackboneConfig,
    device: Device,
    *,
    texts: int,
    tokens: int,
    ratio: float,
) -> float:
    """Hours of one device to embed so many texts of so many tokens on average."""
    lengths = typical_lengths(tokens)
    compressed = target_lengths(lengths, ratio=ratio, threshold=80, max_compressed=None)
    per_text = float(np.mean([text_flops(backbone, int(count)) for count in compressed]))
    return texts * per_text / (device.peak * device.embedding) / 3600


def test_the_tables_of_the_page_on_scale() -> None:
    page = (RECIPES.parent / "docs" / "scale.md").read_text(encoding="utf-8")
    shape = known_shape("Qwen3-0.6B")
    assert shape is not None
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    ratios = [[float(cell) for cell in row] for row in rows if float(row[0]) <= 1]
    assert len(ratios) == 5
    for ratio, *cells in ratios:
        for tokens, (shown, share) in zip((300, 1000), (cells[:2], cells[2:])):
            hours, whole = (
                embedding_hours(shape, DEVICES["a100"], texts=10**8, tokens=tokens, ratio=value)
                for value in (ratio, 1.0)
            )
            assert hours == pytest.approx(shown, abs=0.06)
            assert hours / whole == pytest.approx(share, abs=0.006)
    sizes = [[float(cell) for cell in row] for row in rows if float(row[0]) > 1]
    assert len(sizes) == 4
    for dims, *shown in sizes:
        for size, width in zip(shown, (4, 2, 1, 1 / 8)):
            assert size == pytest.approx(dims * width / 10, rel=0.02)


def test_a_teacher_that_reads_in_pieces_pays_for_all_of_a_long_text(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[[texts.files]]\npath = "samples:passages"\n[[teachers]]\nname = "a"\nkind = "jaspertc"\n'
        'model = "mini"\nratio = 1\n[cache]\nfolder = "vectors"\n'
    )
    (short,) = plan(read_recipe(recipe), texts=1000, tokens=400, flops_per_second=1e12).teach
    (long,) = plan(read_recipe(recipe), texts=1000, tokens=40_000, flops_per_second=1e12).teach
    assert long.compressed == pytest.approx(long.tokens)
    assert long.hours == pytest.approx(100 * short.hours, rel=0.3)
