"""TensorBoard logs of a run, where tensorboard is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaspertc.train.loop import StepReport


class Boards:
    """One log a stage, in ``folder/N-NAME/tensorboard``; without tensorboard nothing is written."""

    def __init__(self, folder: Path, stages: Sequence[str]) -> None:
        self._places = {name: folder / f"{i}-{name}" / "tensorboard" for i, name in enumerate(stages, 1)}
        self._open: dict[str, Any] = {}

    def add(self, stage: str, report: StepReport) -> None:
        """Log what a step did; what a resumed run repeats replaces what was there."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        if stage not in self._open:
            self._open[stage] = SummaryWriter(str(self._places[stage]), purge_step=report.step)
        board = self._open[stage]
        for name, value in report.losses.items():
            board.add_scalar(f"loss/{name}", value, report.step)
        board.add_scalar("ratio", report.ratio, report.step)
        board.add_scalar("learning rate", report.learning_rate, report.step)
        board.add_scalar("tokens per second", report.tokens / max(report.seconds, 1e-9), report.step)

    def close(self) -> None:
        """Write what is left."""
        for board in self._open.values():
            board.close()
