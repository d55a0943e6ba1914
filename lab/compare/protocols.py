"""What is timed: units of work, each the same texts for all contenders, in interleaved rounds.

- ``table4``: the report's Table 4: texts of one length, 32 at a time, at each ratio.
- ``mix``: texts of lognormal lengths in one call; how they are batched is part of the contest.
- ``query``: one query of 16 tokens after the other.
- ``start``: a fresh process loads and embeds one text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jaspertc.checkpoint import Checkpoint
from jaspertc.errors import InputError
from jaspertc.types import IntArray
from lab.compare.inputs import Inputs, Writer, mixed_lengths, random_ids
from lab.compare.settings import QUERIES, QUERY_TOKENS, Settings, Spec

Source = Callable[[IntArray], Inputs]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A contender at a ratio; ``None`` for one that does not compress, or where nothing is compressed."""

    contender: str
    ratio: float | None

    @property
    def label(self) -> str:
        """What tables and results call it."""
        return self.contender if self.ratio is None else f"{self.contender} @ {self.ratio:g}"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Cells that are timed on the same texts.

    Attributes:
        key: its name among all units.
        lengths: tokens of its texts, shape (N,).
        call: texts in one call.
        cells: in the order in which each round times them.
        each: whether the time of each call is kept, not only the sum.
    """

    key: str
    protocol: str
    lengths: IntArray
    call: int
    cells: tuple[Cell, ...]
    each: bool = False


def plan_units(settings: Settings, names: Sequence[str], *, compresses: bool = True) -> list[Unit]:
    """All units of these settings.

    Args:
        names: of the contenders that can be run.
        compresses: whether the model has a compressor.
    """
    specs = [spec for spec in settings.contenders if spec.name in names]
    ratios = settings.ratios if compresses else (1.0,)
    swept = tuple(cells(specs, ratios))
    single = tuple(Cell(contender=spec.name, ratio=None) for spec in specs)
    units = []
    for protocol in settings.protocols:
        if protocol == "table4":
            for length in settings.lengths:
                lengths = np.full(settings.texts, length)
                units.append(_unit(f"table4/{length}", protocol, lengths, settings.batch, swept))
        elif protocol == "mix":
            lengths = mixed_lengths(settings.texts, settings.median)
            units.append(_unit("mix", protocol, lengths, settings.texts, swept))
        elif protocol == "query":
            lengths = np.full(QUERIES, QUERY_TOKENS)
            units.append(_unit("query", protocol, lengths, 1, single, each=True))
        else:
            units.append(_unit("start", protocol, np.array([QUERY_TOKENS]), 1, single))
    return units


def cells(specs: Sequence[Spec], ratios: Sequence[float]) -> list[Cell]:
    """Each ratio with all contenders that compress, next to each other in time; then those that do not.

    >>> from lab.compare.settings import read_contender
    >>> specs = [read_contender(name) for name in ("ours", "plain", "padded")]
    >>> [cell.label for cell in cells(specs, [1, 0.5])]
    ['ours @ 1', 'padded @ 1', 'ours @ 0.5', 'padded @ 0.5', 'plain']
    """
    found = [Cell(contender=spec.name, ratio=ratio) for ratio in ratios for spec in specs if spec.compresses]
    return found + [Cell(contender=spec.name, ratio=None) for spec in specs if not spec.compresses]


def _unit(
    key: str, protocol: str, lengths: IntArray, call: int, cells: tuple[Cell, ...], *, each: bool = False
) -> Unit:
    return Unit(key=key, protocol=protocol, lengths=lengths, call=call, cells=cells, each=each)


def source_for(checkpoint: Checkpoint, *, texts: bool) -> Source:
    """Makes the inputs of given lengths: texts of that many tokens, or random token ids of a model that has
    no tokenizer."""
    if not texts:
        vocabulary = checkpoint.info.config.backbone.vocab_size
        return lambda lengths: random_ids(lengths, vocabulary)
    tokenizer = checkpoint.tokenizer
    writer = Writer(lambda rows: [len(ids) for ids in tokenizer.encode_batch(rows)])
    return writer.texts


def check_lengths(settings: Settings, checkpoint: Checkpoint) -> None:
    """Raise InputError if a text would be longer than a model without a compressor can read."""
    positions = checkpoint.info.config.backbone.max_positions
    longest = max(settings.lengths)
    if "table4" not in settings.protocols or checkpoint.compressor.can_compress:
        return
    if longest > positions:
        raise InputError(
            f"--lengths has {longest}, this model has {positions} positions and no compressor; give lengths "
            f"up to {positions}"
        )
