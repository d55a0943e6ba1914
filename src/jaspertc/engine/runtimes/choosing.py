"""Which runtime is fastest for a model on this machine: measured once, remembered, taken by ``auto``.

Shape legend: N texts, E width of the vectors.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jaspertc.checkpoint import Checkpoint
from jaspertc.engine.runtimes.onnx_runtime import ONNX_RUNTIME
from jaspertc.engine.runtimes.openvino.runtime import OPENVINO
from jaspertc.errors import DataFileError, InputError
from jaspertc.files.hashes import content_id
from jaspertc.files.json_files import read_json, write_json
from jaspertc.machine import cpu_has_bfloat16, thread_count
from jaspertc.pytorch import HAS_TORCH, torch
from jaspertc.reports.origin import processor, versions
from jaspertc.types import FloatArray, IntArray

LEAST = 0.995  # cosine of a candidate's vectors to those in float32, of each text
QUERY, TEXTS = 16, (24, 60, 90, 130, 180, 240, 320, 400)  # tokens
SECONDS = 2.0  # of each kind of request, all candidates together; one round at least
ROUNDS = 7
FOLDER = "JASPERTC_CACHE"

Encode = Callable[[list[IntArray]], FloatArray]
Loaded = Callable[[str, str], Encode]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A runtime and what it computes in, with what was measured.

    Attributes:
        query_ms: median for one text of 16 tokens, alone.
        text_ms: median for one of eight texts of 24 to 400 tokens, in one call at the model's ratio.
        cosine: lowest to float32 of these texts.
    """

    runtime: str
    dtype: str
    query_ms: float
    text_ms: float
    cosine: float

    @property
    def good(self) -> bool:
        """Whether its vectors are near enough to those in float32."""
        return self.cosine >= LEAST


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All candidates of a model on this machine.

    Attributes:
        made_of: what the times depend on: processor, threads, versions, files of the model.
    """

    made_of: dict[str, str]
    candidates: tuple[Candidate, ...]

    @property
    def fastest(self) -> Candidate:
        """Of those near enough to float32, the one with the lowest product of both times."""
        return min(
            (item for item in self.candidates if item.good), key=lambda item: item.query_ms * item.text_ms
        )


def candidates(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Runtimes and dtypes that a model may be computed by on a CPU; none is less exact than its weights."""
    rounded = checkpoint.has_int8_weights or (
        HAS_TORCH and checkpoint.encoder.backbone.token_table.weight.dtype == torch.bfloat16
    )
    dtypes = ["bfloat16", "float32"] if rounded and cpu_has_bfloat16() else ["float32"]
    found = [("torch", dtype) for dtype in dtypes if HAS_TORCH]
    kind, int8 = checkpoint.info.config.backbone.kind, ["int8"] * checkpoint.has_int8_weights
    if ONNX_RUNTIME.can_compute(kind):
        found = [(ONNX_RUNTIME.name, dtype) for dtype in [*int8, "float32"]] + found
    if OPENVINO.can_compute(kind):
        found = [(OPENVINO.name, dtype) for dtype in int8 + dtypes] + found
    return found


def measure(checkpoint: Checkpoint, load: Loaded) -> Measured:
    """Time the candidates in interleaved rounds and remember the result.

    Args:
        load: what gives a candidate's vectors of token ids, by runtime and dtype. All candidates are in
            memory at one time.

    Raises:
        MissingExtraError: nothing that could compute it is installed.
    """
    shape, random = checkpoint.info.config.backbone, np.random.default_rng(0)
    rows, query = (
        [random.integers(0, shape.vocab_size, min(length, shape.max_positions)) for length in lengths]
        for lengths in (TEXTS, (QUERY,))
    )
    pairs = candidates(checkpoint) or [(OPENVINO.name, "float32")]  # whose error says what to install
    encoders = {pair: load(*pair) for pair in pairs}
    exact = encoders[next(pair for pair in reversed(pairs) if pair[1] == "float32")](rows)
    cosines = {pair: _lowest_cosine(encode(rows), exact) for pair, encode in encoders.items()}
    queries, texts = _times(encoders, query), _times(encoders, rows)
    measured = Measured(
        made_of=made_of(checkpoint),
        candidates=tuple(
            Candidate(
                runtime=pair[0],
                dtype=pair[1],
                query_ms=round(1000 * queries[pair], 3),
                text_ms=round(1000 * texts[pair] / len(rows), 3),
                cosine=round(cosines[pair], 6),
            )
            for pair in pairs
        ),
    )
    _remember(measured)
    return measured


def remembered(checkpoint: Checkpoint) -> Measured | None:
    """What was measured of these files on this machine with these versions and threads, if anything was."""
    if not _folder().is_dir():
        return None
    facts = made_of(checkpoint)
    with suppress(DataFileError, TypeError, KeyError):
        content = read_json(_folder() / _name(facts))
        measured = Measured(
            made_of=content["made_of"],
            candidates=tuple(Candidate(**item) for item in content["candidates"]),
        )
        known = candidates(checkpoint)
        fitting = all((item.runtime, item.dtype) in known for item in measured.candidates)
        if measured.made_of == facts and fitting and any(item.good for item in measured.candidates):
            return measured
    return None


def made_of(checkpoint: Checkpoint) -> dict[str, str]:
    """What times depend on."""
    return {
        "processor": processor(),
        "threads": str(thread_count()),
        "versions": json.dumps(versions("jaspertc", "torch", "openvino", "onnxruntime")),
        "files": content_id(json.dumps(checkpoint.stamps)),
    }


def _folder() -> Path:
    """Where measurements are: in the folder that JASPERTC_CACHE names, else in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER) or Path(home) / "jaspertc") / "runtimes"


def _name(facts: dict[str, str]) -> str:
    """The file of a measurement."""
    return f"{content_id(json.dumps(facts, sort_keys=True))}.json"


def _remember(measured: Measured) -> None:
    path = _folder() / _name(measured.made_of)
    candidates = [asdict(item) for item in measured.candidates]
    try:
        write_json(path, {"made_of": measured.made_of, "candidates": candidates})
    except OSError as error:
        raise InputError(
            f"what was measured cannot be kept in {path.parent} ({error}); set {FOLDER} to a folder that can "
            "be written"
        ) from error


def _lowest_cosine(vectors: FloatArray, exact: FloatArray) -> float:
    """Of unit vectors, shape (N, E)."""
    return float((vectors * exact).sum(axis=1).min())


def _times(encoders: dict[tuple[str, str], Encode], rows: list[IntArray]) -> dict[tuple[str, str], float]:
    """Median seconds of each, in rounds that take turns; the first warms up and does not count."""
    times: dict[tuple[str, str], list[float]] = {pair: [] for pair in encoders}
    started = time.perf_counter()
    for number in range(ROUNDS + 1):
        for pair, encode in encoders.items():
            begin = time.perf_counter()
            encode(rows)
            times[pair].append(time.perf_counter() - begin)
        if number and time.perf_counter() - started > SECONDS:
            break
    return {pair: statistics.median(seconds[1:]) for pair, seconds in times.items()}
