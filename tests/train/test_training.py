"""Gradients however a batch is cut, and runs that are interrupted."""

import json
import math
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_training import OBJECTIVES, batch_at, exact, stage, student

from jaspertc import machine
from jaspertc.errors import ConfigError, TrainingError
from jaspertc.recipe.devices import measured_dtype
from jaspertc.recipe.objective import Objective, weighted_losses
from jaspertc.recipe.stages import Unfreeze
from jaspertc.text.packing import pack
from jaspertc.train.loop import run_stage
from jaspertc.train.saving import average_weights, load_state, saved_states
from jaspertc.train.step import StepBatch, accumulate_gradients, autocast

SETTINGS = {"ratio": 0.5, "threshold": 10, "seed": 3}


def gradients(objective: Objective, token_budget: int) -> dict[str, torch.Tensor]:
    encoder = student().double()
    accumulate_gradients(encoder, exact(batch_at(0)), objective, token_budget=token_budget, **SETTINGS)
    return {name: parameter.grad for name, parameter in encoder.named_parameters()}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_equal_to_plain_autograd_however_it_is_cut(name: str) -> None:
    encoder, batch, objective = student().double(), exact(batch_at(0)), OBJECTIVES[name]
    lengths = np.array([len(row) for row in batch.rows])
    targets = encoder.compressor.target_lengths(lengths, ratio=0.5, threshold=10, max_compressed=None)
    vectors = F.normalize(encoder(pack(batch.rows), targets), dim=-1)
    losses = weighted_losses(
        objective, vectors, torch.from_numpy(batch.teacher), queries=4, negatives=2, seed=3
    )
    sum(losses.values()).backward()
    expected = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    for budget in (10_000, 60, 1):
        found = gradients(objective, budget)
        for key, value in expected.items():
            if value is None:  # token type and positions beyond the longest text
                assert found[key] is None
            else:
                assert (found[key] - value).abs().max() <= 1e-10


def test_keeping_or_repeating_what_gradients_need_is_the_same() -> None:
    encoder, repeated = student().double(), student().double()
    options = {"token_budget": 60, **SETTINGS}
    kept = accumulate_gradients(
        encoder, exact(batch_at(0)), OBJECTIVES["stage 4"], graph_tokens=10**6, **options
    )
    again = accumulate_gradients(repeated, exact(batch_at(0)), OBJECTIVES["stage 4"], **options)
    assert kept == pytest.approx(again)
    for one, other in zip(encoder.parameters(), repeated.parameters()):
        if one.grad is not None:
            assert (one.grad - other.grad).abs().max() <= 1e-12


def test_checkpointing_gives_the_same_gradients() -> None:
    plain, checkpointed = student().double(), student().double()
    checkpointed.backbone.checkpointing = True
    for encoder in (plain, checkpointed):
        accumulate_gradients(
            encoder, exact(batch_at(0)), OBJECTIVES["stage 3"], token_budget=10_000, **SETTINGS
        )
    for one, other in zip(plain.parameters(), checkpointed.parameters()):
        if one.grad is not None:
            assert (one.grad - other.grad).abs().max() <= 1e-12


def test_matryoshka_adds_the_losses_of_prefixes_and_heads() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(12, 12 + 5, dtype=torch.float64)
    teacher = F.normalize(torch.randn(12, 12, dtype=torch.float64), dim=-1)
    options = {"queries": 0, "negatives": 0, "seed": 0}
    plain = Objective(cosine=10, similarity=100)
    nested = replace(plain, matryoshka=(4, 8), matryoshka_heads=(5,))
    found = weighted_losses(nested, vectors, teacher, **options)
    own = vectors[:, :12]
    similarity = sum(
        weighted_losses(Objective(similarity=100), part, teacher, **options)["similarity"]
        for part in (own, own[:, :4], own[:, :8], vectors[:, 12:])
    )
    assert found["similarity"] == pytest.approx(float(similarity))
    assert found["cosine"] == weighted_losses(plain, own, teacher, **options)["cosine"]
    with pytest.raises(ConfigError, match="13 dimensions"):
        weighted_losses(plain, vectors[:, :13], teacher, **options)


class _Rank:
    """One of two processes, which adds nothing: shows what a process does by itself."""

    count = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing is gathered")

    def add(self, tensors: object) -> None:
        return

    def wait(self) -> None:
        return


def test_without_gathering_each_process_has_its_own_candidates() -> None:
    batch = exact(batch_at(0))
    total: dict[str, torch.Tensor] = {}
    expected: dict[str, torch.Tensor] = {}
    for rank in range(2):
        encoder = student().double()
        accumulate_gradients(
            encoder,
            batch,
            OBJECTIVES["stage 4"],
            token_budget=10_000,
            gather=False,
            processes=_Rank(rank),
            **SETTINGS,
        )
        queries = [rank, rank + 2]
        places = [*queries, *(4 + 3 * query + k for query in queries for k in range(3))]
        part = replace(batch, rows=[batch.rows[i] for i in places], teacher=batch.teacher[places], queries=2)
        alone = student().double()
        accumulate_gradients(alone, part, OBJECTIVES["stage 4"], token_budget=10_000, **SETTINGS)
        for name, parameter in encoder.named_parameters():
            if parameter.grad is not None:
                total[name] = total.get(name, 0) + parameter.grad
                expected[name] = expected.get(name, 0) + alone.get_parameter(name).grad / 2
    assert total
    for name, gradient in total.items():
        assert (gradient - expected[name]).abs().max() <= 1e-12


class _Gloo:
    def __init__(self, rank: int, count: int) -> None:
        from jaspertc.train.distributed import TorchProcesses

        torch.distributed.init_process_group("gloo", rank=rank, world_size=count)
        self.processes = TorchProcesses()


def _worker(rank: int, port: int, name: str, odd: bool, result: Path) -> None:
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    processes = _Gloo(rank, 2).processes
    encoder = student().double()
    batch = exact(batch_at(0, queries=3, negatives=1) if odd else batch_at(0))
    losses = accumulate_gradients(
        encoder, batch, OBJECTIVES[name], token_budget=100, processes=processes, **SETTINGS
    )
    torch.save(
        {n: p.grad for n, p in encoder.named_parameters()} | {"loss": losses["total"]}, result / str(rank)
    )
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("name", "odd"), [("stage 3", False), ("stage 4", True)])
def test_two_processes_give_the_gradients_of_one(name: str, odd: bool, tmp_path: Path) -> None:
    encoder = student().double()
    batch = exact(batch_at(0, queries=3, negatives=1) if odd else batch_at(0))
    one = accumulate_gradients(encoder, batch, OBJECTIVES[name], token_budget=100, **SETTINGS)
    port = 29600 + hash((name, str(tmp_path))) % 300
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_worker, args=(r, port, name, odd, tmp_path)) for r in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    for rank in range(2):
        found = torch.load(tmp_path / str(rank))
        assert found["loss"] == pytest.approx(one["total"], rel=1e-6)
        for key, parameter in encoder.named_parameters():
            if parameter.grad is not None:
                assert (found[key] - parameter.grad).abs().max() <= 1e-10


class InterruptError(Exception):
    pass


def test_interrupted_and_resumed_is_equal_to_unbroken(tmp_path: Path) -> None:
    unbroken = student()
    reports = run_stage(unbroken, stage(), batch_at, tmp_path / "a")
    assert [report.step for report in reports] == list(range(12))
    assert reports[-1].losses["total"] < reports[0].losses["total"]

    def stop(report: object) -> None:
        if report.step == 6:  # type: ignore[attr-defined]
            raise InterruptError

    broken = student()
    with pytest.raises(InterruptError):
        run_stage(broken, stage(), batch_at, tmp_path / "b", on_step=stop)
    resumed = student(seed=9)  # other weights: all must come from the saved state
    again = run_stage(resumed, stage(), batch_at, tmp_path / "b")
    assert [report.step for report in again] == list(range(4, 12))
    for (name, one), two in zip(unbroken.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(one, two), name


def test_other_settings_or_data_are_not_resumed(tmp_path: Path) -> None:
    run_stage(student(), stage(steps=4), batch_at, tmp_path)
    with pytest.raises(TrainingError, match="other settings"):
        run_stage(student(), stage(steps=8), batch_at, tmp_path)
    with pytest.raises(TrainingError, match="other settings"):
        run_stage(student(), stage(steps=4), batch_at, tmp_path, record={"data": "else"})
    (saved_states(tmp_path)[-1] / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(TrainingError, match="cannot be read"):
        run_stage(student(), stage(steps=4), batch_at, tmp_path)


def test_nan_stops_with_the_ids(tmp_path: Path) -> None:
    def broken(step: int) -> StepBatch:
        batch = batch_at(step)
        if step == 5:
            batch.teacher[0, 0] = np.nan
        return batch

    with pytest.raises(TrainingError, match="stopped at step 5"):
        run_stage(student(), stage(), broken, tmp_path)
    content = json.loads((tmp_path / "stopped-at-step-5.json").read_text())
    assert content["ids"] == list(batch_at(5).ids)
    assert saved_states(tmp_path)[-1].name == "step-00000004"


def test_a_diverging_loss_stops(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="stopped at step"):
        run_stage(student(), stage(diverged=0.5), batch_at, tmp_path)


def test_freezing_and_staged_unfreezing(tmp_path: Path) -> None:
    before, encoder = student().state_dict(), student()
    seen: dict[int, set[str]] = {}

    def look(report: object) -> None:
        now = encoder.state_dict()
        seen[report.step] = {name for name in now if not torch.equal(now[name], before[name])}  # type: ignore[attr-defined]

    config = stage(steps=4, trainable=("^head",), unfreeze=(Unfreeze(step=2, parameters=r"layer\.1\."),))
    run_stage(encoder, config, batch_at, tmp_path, on_step=look)
    assert seen[1] == {"head.linear.weight", "head.linear.bias"}
    assert any("layer.1." in name for name in seen[3])
    assert not any("layer.0." in name or "mlp" in name for name in seen[3])


def test_average_of_states(tmp_path: Path) -> None:
    encoder = student()
    run_stage(encoder, stage(keep=3), batch_at, tmp_path)
    places = saved_states(tmp_path)
    assert len(places) == 3
    mean = average_weights(places)
    each = []
    for place in places:
        state = json.loads((place / "state.json").read_text())
        load_state(place, encoder, torch.optim.Adam(encoder.parameters()), state["settings"])
        each.append(encoder.state_dict()["head.linear.weight"].clone())
    assert torch.allclose(mean["head.linear.weight"], torch.stack(each).mean(0), atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"ratio": 1.5}, r"ratio is 1\.5"),
        ({"ratio": "algorithm-3"}, "algorithm-3"),
        ({"dtype": "float16"}, "float16"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"warmup_ratio": 1}, "warmup_ratio"),
        ({"clip": -1.0}, r"clip is -1\.0, it must be at least 0"),
        ({"clip": math.nan}, "clip is nan"),
        ({"diverged": math.nan}, "diverged is nan"),
        ({"diverged": 0}, "diverged is 0, it must be > 0"),
        ({"name": "../escaped"}, r"name is '\.\./escaped', it must be letters"),
        ({"name": "a\0b"}, "name is "),
        ({"name": 300 * "a"}, "at most 100"),
    ],
)
def test_wrong_stages_are_named(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        stage(**changes)


@pytest.mark.parametrize(
    "changes", [{}, {"cosine": -1}, {"cosine": 1, "temperature": 0}, {"cosine": 1, "kl_direction": "x"}]
)
def test_wrong_objectives_are_named(changes: dict) -> None:
    with pytest.raises(ConfigError):
        Objective(**changes)


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="matches no parameter"):
        run_stage(student(), stage(trainable=("^haed",)), batch_at, tmp_path)


@pytest.mark.parametrize(("slow", "pays"), [(torch.float32, True), (torch.bfloat16, False)])
def test_the_faster_of_both_types_is_taken(slow, pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "linear", lambda x, w: time.sleep(0.002 * (x.dtype == slow)))
    threads = torch.get_num_threads()
    assert machine._bfloat16_is_fast.__wrapped__() is pays
    assert torch.get_num_threads() == threads


def test_bfloat16_is_left_out_where_a_cpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2, 2)
    monkeypatch.setattr("jaspertc.machine._bfloat16_is_fast", lambda: True)
    assert machine.computes_bfloat16("cuda")
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("jaspertc.machine.cpu_has_bfloat16", lambda has=has: has)
        with autocast(torch.device("cpu"), torch.bfloat16, cache=True):
            assert (x @ x).dtype == expected
        if not torch.cuda.is_available():
            assert measured_dtype() == expected
