"""The student of a recipe: as it starts, as a stage wants it, and as it is handed over.

Shape legend: N texts, R width of the target.
"""

import torch

from jaspertc.checkpoint import load_checkpoint
from jaspertc.checkpoint.load import Checkpoint
from jaspertc.checkpoint.parts import fit_head, with_compressor, with_head
from jaspertc.checkpoint.surgery import graft
from jaspertc.errors import ConfigError
from jaspertc.model.compressors import start_class, start_names
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.stages import TextStage
from jaspertc.recipe.student import Student
from jaspertc.train.watching import Rows, encode_rows
from jaspertc.types import FloatArray


def load_student(student: Student, dims: int, *, seed: int = 0) -> tuple[Checkpoint, Encoder]:
    """The checkpoint that a student starts from, and the student in float32 with a head of width R.

    The checkpoint's tokenizer is the student's, which leaves invisible characters out.

    Args:
        dims: R.

    Raises:
        CheckpointError: there is no such model.
        InputError: it has fewer layers than asked for.
        ConfigError: it has fewer positions than ``max_length`` asks for.
    """
    checkpoint = load_checkpoint(student.model)
    checkpoint.tokenizer = checkpoint.tokenizer.without_invisible()
    encoder = checkpoint.encoder.float()
    positions = encoder.config.backbone.max_positions
    if student.max_length > positions:
        raise ConfigError(
            f"[student] max_length is {student.max_length}, the model has {positions} positions"
        )
    if student.layers is not None:
        encoder = graft(encoder, layers=student.layers, compressor="average")
    if encoder.head.linear is None or encoder.config.embedding_dims != dims:
        encoder = with_head(encoder, dims, seed=seed)
    return checkpoint, encoder


def start_head(encoder: Encoder, rows: Rows, targets: FloatArray, dtype: torch.dtype = torch.float32) -> None:
    """Fit the student's head to the targets of some texts, shape (N, R)."""
    linear = encoder.head.linear
    encoder.head.linear = None
    try:
        pooled = encode_rows(encoder, rows, ratio=1.0, threshold=10**9, dtype=dtype)
    finally:
        encoder.head.linear = linear
    fit_head(encoder, torch.from_numpy(pooled), torch.from_numpy(targets))


def for_stage(encoder: Encoder, stage: TextStage) -> Encoder:
    """The encoder with the compressor and the extra heads that a stage asks for.

    Raises:
        ConfigError: the stage's ratio needs a compressor and there is none, or a width is too large.
    """
    if any(width > encoder.config.embedding_dims for width in stage.objective.matryoshka):
        raise ConfigError(
            f"stage {stage.name}: matryoshka is {list(stage.objective.matryoshka)}, the student's vectors "
            f"have {encoder.config.embedding_dims} dimensions"
        )
    if stage.compressor is not None:
        encoder = with_compressor(encoder, stage.compressor, keys=stage.compressor_keys, seed=stage.seed)
    if stage.ratio != 1 and not encoder.compressor.can_compress:
        names = ", ".join(name for name in start_names() if start_class(name).can_compress)
        raise ConfigError(
            f"stage {stage.name}: ratio is {stage.ratio} but the student has no compressor by then; set "
            f"compressor in this stage, to one of {names}"
        )
    width = encoder.config.backbone.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage.seed)
        encoder.head.extra = torch.nn.ModuleList(
            torch.nn.Linear(width, dims) for dims in stage.objective.matryoshka_heads
        )
    return encoder


def without_extra(encoder: Encoder) -> Encoder:
    """The encoder without heads that were only trained."""
    encoder.head.extra = torch.nn.ModuleList()
    return encoder
