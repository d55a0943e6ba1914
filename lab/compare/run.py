"""A benchmark from beginning to end: load, measure what is missing, keep it as it comes."""

import gc
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaspertc.checkpoint import Checkpoint, load_checkpoint
from jaspertc.checkpoint.load import TOKENIZER, resolve
from jaspertc.engine.runtimes.torch_runtime import choose_device
from jaspertc.model.compressors import compressor_class
from lab.compare.contenders import Contender, check_extra, load_contenders
from lab.compare.measure import measure_start, measure_unit
from lab.compare.protocols import Unit, check_lengths, plan_units, source_for
from lab.compare.random_model import released_shape, write_random_model
from lab.compare.settings import QUERY_TOKENS, Settings
from lab.compare.store import Results, surroundings

Tell = Callable[[str], None]


class Benchmark:
    """Contenders on the same work, in one folder.

    Args:
        output: folder of the results, new or of the same settings.
        command: how this was started, for the report.

    Raises:
        MissingExtraError: a package of the extra ``bench`` is not installed.
        InputError: settings do not fit the model, or the folder holds other results.
        CheckpointError: the model cannot be loaded.
    """

    def __init__(self, settings: Settings, output: Path, *, command: str = "") -> None:
        check_extra(settings.contenders)
        torch.set_num_threads(settings.threads)
        self.settings, self.device = settings, choose_device(settings.device)
        if settings.shape:
            self._config = released_shape(settings.shape, settings.layers)
            fingerprint, texts = "random", False
        else:
            self._folder = resolve(settings.model)
            self._checkpoint = load_checkpoint(self._folder)
            check_lengths(settings, self._checkpoint)
            self._config, fingerprint = self._checkpoint.info.config, self._checkpoint.fingerprint
            texts = (self._folder / TOKENIZER).is_file()
        facts = {
            "settings": settings.facts(),
            "model": fingerprint,
            "inputs": "texts" if texts else "random token ids",
            **surroundings(),
        }
        self.results = Results(output, facts, command=command)

    @property
    def units(self) -> list[Unit]:
        """What is measured; contenders that were left out are not in it."""
        skipped = self.results.content["skipped"]
        names = [spec.name for spec in self.settings.contenders if spec.name not in skipped]
        compresses = compressor_class(self._config.compressor.kind).can_compress
        return plan_units(self.settings, names, compresses=compresses)

    @property
    def left(self) -> int:
        """Cells still to be timed, warm-up rounds included."""
        rounds = {unit.key: self.settings.rounds - self.results.rounds(unit) for unit in self.units}
        return sum(len(unit.cells) * (rounds[unit.key] + 1) for unit in self.units if rounds[unit.key] > 0)

    def run(self, *, loading: Tell = lambda name: None, tell: Callable[[Unit, str], None]) -> None:
        """Measure what is missing.

        Args:
            loading: called with the name of each contender before it is loaded.
            tell: called when a cell has been timed once.
        """
        if not self.left:
            return
        with self._model() as (folder, checkpoint), tempfile.TemporaryDirectory() as scratch:
            contenders, skipped = load_contenders(self.settings, folder, Path(scratch), loading=loading)
            self.results.content["skipped"] = skipped
            self.results.content["contenders"] = {
                name: _facts(contender) for name, contender in contenders.items()
            }
            self.results.save()
            source = source_for(checkpoint, texts=(folder / TOKENIZER).is_file())
            for unit in self.units:
                if unit.protocol != "start":
                    self._measure(unit, contenders, source, tell)
            query = source(np.array([QUERY_TOKENS]))
            contenders.clear()
            gc.collect()  # processes started next need the memory
            for unit in self.units:
                if unit.protocol == "start":
                    measure_start(unit, self.settings, folder, query, self.results, tell=partial(tell, unit))

    def _measure(
        self,
        unit: Unit,
        contenders: Mapping[str, Contender],
        source: Any,
        tell: Callable[[Unit, str], None],
    ) -> None:
        measure_unit(
            unit,
            contenders,
            source,
            self.results,
            rounds=self.settings.rounds,
            shape=self._config.backbone,
            device=self.device,
            tell=partial(tell, unit),
        )

    @contextmanager
    def _model(self) -> Iterator[tuple[Path, Checkpoint]]:
        """The checkpoint's folder; random weights are in a temporary one."""
        if not self.settings.shape:
            yield self._folder, self._checkpoint
            return
        with tempfile.TemporaryDirectory(prefix="lab-compare-") as place:
            folder = write_random_model(Path(place) / "model", self._config)
            yield folder, load_checkpoint(folder)


def _facts(contender: Contender) -> dict[str, Any]:
    return {"kind": contender.spec.kind, "precision": contender.precision, "detail": contender.detail}
