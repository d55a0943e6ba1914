"""Students shared out over two processes (FSDP on gloo): the weights of one process, whatever happens."""

import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_training import OBJECTIVES, batch_at, exact, stage, student

from jaspertc.config import BackboneConfig, HeadConfig, ModelConfig
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.plan import plan
from jaspertc.recipe.recipe import Recipe, read_recipe
from jaspertc.recipe.stages import TextStage, Unfreeze
from jaspertc.train.loop import StepReport, run_stage
from jaspertc.train.saving import saved_states
from jaspertc.train.sharding import is_sharded, shard, whole, whole_encoder
from jaspertc.train.step import StepBatch, accumulate_gradients

PROCESSES = 2
UNFREEZE = {"trainable": ("^head",), "unfreeze": (Unfreeze(step=2, parameters=r"layer\.1\."),)}


def qwen3() -> Encoder:
    torch.manual_seed(0)
    shape = BackboneConfig(
        kind="qwen3",
        vocab_size=61,
        hidden_size=16,
        num_layers=3,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        intermediate_size=24,
        norm_eps=1e-6,
        max_positions=128,
        causal=True,
        rope_theta=1e4,
    )
    compressor = AdaptiveAverageConfig(mlp="swiglu", mlp_size=24)
    return Encoder(ModelConfig(backbone=shape, compressor=compressor, head=HeadConfig(dims=12)))


def uneven(step: int) -> StepBatch:
    """13 texts, of which the second process's are short: fewer micro-batches there."""
    rng = np.random.default_rng(step)
    rows = [rng.integers(0, 60, 3 if i % 2 else rng.integers(20, 60)) for i in range(13)]
    teacher = rng.normal(size=(13, 12)).astype(np.float32)
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    return StepBatch(rows=rows, teacher=teacher, ids=[f"t{i}" for i in range(13)])


def lonely(step: int) -> StepBatch:
    """One text: nothing is left for the second process."""
    batch = uneven(step)
    return StepBatch(rows=batch.rows[:1], teacher=batch.teacher[:1], ids=batch.ids[:1])


# ids -> student, batches and stage of a run, to be found again in another process
RUNS: dict[str, tuple[Callable[[], Encoder], Callable[[int], StepBatch], dict[str, Any]]] = {
    "kept graphs": (student, uneven, {"token_budget": 40}),
    "one micro-batch": (qwen3, uneven, {"token_budget": 10_000}),
    "computed twice, clipped": (qwen3, uneven, {"token_budget": 40, "graph_tokens": 0, "clip": 0.5}),
    "checkpointing": (student, uneven, {"token_budget": 40, "graph_tokens": 0, "checkpointing": True}),
    "frozen, joining later": (student, uneven, {"token_budget": 40, "graph_tokens": 0} | UNFREEZE),
    "pairs": (qwen3, batch_at, {"objective": OBJECTIVES["stage 4"], "token_budget": 60, "graph_tokens": 0}),
    "one text": (student, lonely, {"objective": OBJECTIVES["stage 1"]}),
    "own candidates": (student, uneven, {"gather": False, "token_budget": 40, "graph_tokens": 0}),
    "bfloat16": (student, uneven, {"dtype": "bfloat16", "token_budget": 40, "graph_tokens": 0}),
}

# What is meant to depend on how texts are shared out: the loss itself, or how sums are rounded.
BY_PROCESSES = ("own candidates", "bfloat16")
# It shifts all scores of a softmax alike: its gradient is rounding noise, which Adam scales up to full steps.
NO_EFFECT = "key.bias"
# What the order of sums may change, as a share of how far the weights moved. A gradient sums at most 10^4
# products, each rounded to 2^-53, and may cancel to a thousandth of them: 10^4 x 1e3 x 1.1e-16 = 1e-9. In
# bfloat16 a number that differs in its last bit can round the other way: 2^-8 on the way forward (texts share
# products with others where there are other micro-batches) and again on the way back: 2^-7.
ROUNDING = {"float64": 1e-9, "bfloat16": 2.0**-7}


def precision_of(name: str) -> str:
    """Autocast takes float32 weights; all other runs are in float64, where only real differences show."""
    return "bfloat16" if RUNS[name][2].get("dtype") == "bfloat16" else "float64"


def new_student(name: str) -> Encoder:
    encoder = RUNS[name][0]()
    return encoder if precision_of(name) == "bfloat16" else encoder.double()


def config_of(name: str, **changes: Any) -> TextStage:
    return stage(**({"steps": 6, "clip": 5.0, "save_every": 2} | RUNS[name][2] | changes))


def train(name: str, folder: Path, rank: int, sharded: bool, kill_at: int | None = None) -> list[StepReport]:
    """A run in a process; its whole weights go to ``folder/result.safetensors``."""
    from jaspertc.train.distributed import TorchProcesses
    from jaspertc.train.step import Alone

    encoder = new_student(name)
    if rank:  # other weights: the first's must come over
        torch.nn.init.zeros_(next(encoder.parameters()))

    def batches(step: int) -> StepBatch:
        batch = RUNS[name][1](step)
        return batch if precision_of(name) == "bfloat16" else exact(batch)

    def on_step(report: StepReport) -> None:
        if report.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    processes = TorchProcesses() if torch.distributed.is_initialized() else Alone()
    reports = run_stage(
        encoder, config_of(name), batches, folder, processes=processes, sharded=sharded, on_step=on_step
    )
    complete = whole_encoder(encoder, keep=rank == 0)
    assert (complete is None) == (sharded and rank > 0)
    if rank == 0 and complete is not None:
        assert not is_sharded(complete)
        weights = {key: value.contiguous() for key, value in complete.state_dict().items()}
        save_file(weights, str(folder / "result.safetensors"))
    return reports


def _work(rank: int, port: int, task: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    task(rank, *arguments)
    torch.distributed.destroy_process_group()


def in_processes(task: Callable[..., None], *arguments: Any, dies: bool = False) -> None:
    """Run ``task(rank, *arguments)`` in two processes; where the first dies, the other is ended, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(r, port, task, arguments)) for r in range(PROCESSES)]
    for worker in workers:
        worker.start()
    workers[0].join(600)
    if dies:
        assert workers[0].exitcode == -signal.SIGKILL
        workers[1].kill()
    workers[1].join(600)
    if not dies:
        assert [worker.exitcode for worker in workers] == [0, 0]


def _train_all(rank: int, names: list[str], folder: Path) -> None:
    for name in names:
        for sharded in (True, False):
            place = folder / name / str(sharded)
            reports = train(name, place, rank, sharded)
            if rank == 0:
                losses = [report.losses["total"] for report in reports]
                (place / "losses.json").write_text(json.dumps(losses))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs in two processes, sharded and not."""
    folder = tmp_path_factory.mktemp("sharded")
    in_processes(_train_all, list(RUNS), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_sharded_training_ends_as_other_training(name: str, trained: Path, tmp_path: Path) -> None:
    start = new_student(name).state_dict()
    bound = ROUNDING[precision_of(name)]
    sharded, replicated = (
        load_file(trained / name / kind / "result.safetensors") for kind in ("True", "False")
    )
    losses = json.loads((trained / name / "True" / "losses.json").read_text())
    others = [(replicated, json.loads((trained / name / "False" / "losses.json").read_text()))]
    if name not in BY_PROCESSES:
        reports = train(name, tmp_path, 0, sharded=False)
        others.append(
            (load_file(tmp_path / "result.safetensors"), [report.losses["total"] for report in reports])
        )
    moved = max(float((sharded[key] - start[key]).abs().max()) for key in start)
    assert moved > 5e-3  # Adam's steps of 3e-3, several of them
    for weights, their_losses in others:
        assert losses == pytest.approx(their_losses, rel=bound)
        assert sharded.keys() == weights.keys() == start.keys()
        for key, value in weights.items():
            assert key.endswith(NO_EFFECT) or (sharded[key] - value).abs().max() <= bound * moved, key
    if name == "frozen, joining later":
        still = [key for key in start if "layer.0." in key or "mlp" in key]
        assert still
        assert all(torch.equal(sharded[key], start[key]) for key in still)
        assert not torch.equal(*(w["backbone.encoder.layer.1.output.dense.weight"] for w in (sharded, start)))


def _gradients(rank: int, folder: Path) -> None:
    from jaspertc.train.distributed import TorchProcesses

    encoder = student().double()
    encoder.train()
    shard(encoder)
    held = sum(parameter.to_local().numel() for parameter in encoder.parameters())
    assert held <= 0.55 * sum(parameter.numel() for parameter in encoder.parameters())
    for graph_tokens in (0, 10**6):
        encoder.zero_grad()
        accumulate_gradients(
            encoder,
            exact(uneven(0)),
            OBJECTIVES["stage 3"],
            ratio=0.5,
            threshold=10,
            seed=3,
            token_budget=40,
            graph_tokens=graph_tokens,
            processes=TorchProcesses(),
        )
        found = {n: whole(p.grad).contiguous() for n, p in encoder.named_parameters() if p.grad is not None}
        if rank == 0:
            save_file(found, str(folder / f"{graph_tokens}.safetensors"))


@pytest.mark.slow
def test_gradients_are_summed_exactly(tmp_path: Path) -> None:
    in_processes(_gradients, tmp_path)
    alone = student().double()
    accumulate_gradients(
        alone, exact(uneven(0)), OBJECTIVES["stage 3"], ratio=0.5, threshold=10, seed=3, token_budget=40
    )
    for graph_tokens in (0, 10**6):
        found = load_file(tmp_path / f"{graph_tokens}.safetensors")
        for name, parameter in alone.named_parameters():
            if parameter.grad is not None:
                assert (found[name] - parameter.grad).abs().max() <= 1e-10, name


def _train(rank: int, name: str, folder: Path, kill_at: int | None) -> None:
    train(name, folder, rank, sharded=True, kill_at=kill_at)


@pytest.mark.slow
def test_killed_and_resumed_is_equal_to_unbroken(trained: Path, tmp_path: Path) -> None:
    name = "kept graphs"
    in_processes(_train, name, tmp_path, 4, dies=True)  # a state was saved after step 3
    assert [place.name for place in saved_states(tmp_path)] == ["step-00000002", "step-00000004"]
    unbroken = load_file(trained / name / "True" / "result.safetensors")
    in_processes(_train, name, tmp_path, None)
    resumed = load_file(tmp_path / "result.safetensors")
    assert all(torch.equal(resumed[key], value) for key, value in unbroken.items())
    files = ["optimizer.safetensors", "state.json", "weights.safetensors"]
    assert sorted(path.name for path in saved_states(tmp_path)[-1].iterdir()) == files
    final = load_file(saved_states(tmp_path)[-1] / "weights.safetensors")
    assert all(torch.equal(final[key], value) for key, value in unbroken.items())


@pytest.mark.slow
def test_a_sharded_state_is_resumed_by_one_process(trained: Path, tmp_path: Path) -> None:
    name = "computed twice, clipped"
    source = saved_states(trained / name / "True")[0]
    assert source.name == "step-00000004"
    source.rename(tmp_path / source.name)
    reports = train(name, tmp_path, 0, sharded=False)
    assert [report.step for report in reports] == [4, 5]
    unbroken = load_file(trained / name / "True" / "result.safetensors")
    resumed = load_file(tmp_path / "result.safetensors")
    start = new_student(name).state_dict()
    for key, value in unbroken.items():
        moved = (value - start[key]).abs().max()
        assert (resumed[key] - value).abs().max() <= ROUNDING["float64"] * moved, key


def test_the_plan_counts_shares() -> None:
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "paper-600m.toml")
    assert recipe.training is not None
    full = replace(recipe, training=replace(recipe.training, sharding="full"))

    def gib(recipe: Recipe, devices: int) -> list[float]:
        return [row.gib for row in plan(recipe, flops_per_second=1e15, gpus=devices).distil]

    assert gib(full, 1) == gib(recipe, 1)
    for shared, weights, row in zip(gib(full, 8), gib(recipe, 8), plan(recipe, flops_per_second=1e15).distil):
        saved = (weights - shared) * 2**30
        assert 6 * row.weights < saved < 14 * row.weights  # 14 bytes each, less the table's 8
