"""Measuring which runtime is fastest for a model here, for ``auto`` to take from then on."""

from pathlib import Path

from jaspertc.checkpoint import load_checkpoint, resolve
from jaspertc.engine.embedder import Embedder
from jaspertc.engine.runtimes.choosing import Encode, Measured, measure, remembered


def measure_runtimes(name: str | Path, *, again: bool = False) -> Measured:
    """Time what may compute a model on this machine's CPU, once; ``auto`` then takes the fastest.

    It takes some seconds, and memory for all candidates at one time. What was measured depends on processor,
    threads, versions and the model's files, and is kept in the user's cache folder (or ``JASPERTC_CACHE``).

    Args:
        name: ``mini``, a checkpoint folder or a hub name.
        again: even if it was measured before.

    Raises:
        CheckpointError: as ``Embedder.load``.
        InputError: the cache folder cannot be written.
    """
    folder = resolve(name)
    checkpoint = load_checkpoint(folder, keep_int8=True)
    known = None if again else remembered(checkpoint)

    def load(runtime: str, dtype: str) -> Encode:
        return Embedder.load(folder, device="cpu", runtime=runtime, dtype=dtype).encode_ids

    return known or measure(checkpoint, load)
