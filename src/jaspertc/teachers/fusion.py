"""From several teachers' vectors to one target per text.

Each teacher's vectors pass through its reducers, are normalised and weighted, then laid side by side and
normalised again (report, section 2.1). With equal weights the cosine of two targets is the mean of the
teachers' cosines. A vector of zeros is of a teacher that skips the text: its part stays zero.

Shape legend: N texts, E width of a teacher's vectors, R width after reduction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from jaspertc.config import check_types
from jaspertc.errors import ConfigError, InputError
from jaspertc.types import FloatArray


class Reducer:
    """Changes a teacher's vectors, (N, E) -> (N, R); a frozen dataclass of the keys of its table."""

    def fit(self, sample: FloatArray) -> Self:
        """What the reducer needs to know of the teacher, learnt from sample vectors, shape (N, E)."""
        return self

    def width(self, before: int, texts: int) -> int:
        """R, before any vector is there.

        Args:
            before: E.
            texts: those it will be fitted on.

        Raises:
            ConfigError: its keys ask for more than there is.
        """
        return int(self(np.zeros((1, before), np.float32)).shape[1])

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Reduce vectors, (N, E) -> (N, R)."""
        return vectors


@dataclass(frozen=True)
class Identity(Reducer):
    """Leaves vectors as they are."""


@dataclass(frozen=True, kw_only=True)
class First(Reducer):
    """The first ``n`` dimensions: right for teachers trained as Matryoshka (report: 1024 of 4096)."""

    n: int

    def __call__(self, vectors: FloatArray) -> FloatArray:
        if not 1 <= self.n <= vectors.shape[1]:
            raise ConfigError(f"first: n is {self.n}, the teacher has {vectors.shape[1]} dimensions")
        return vectors[:, : self.n]


@dataclass(frozen=True, kw_only=True)
class FoldSum(Reducer):
    """The first ``n`` dimensions as contiguous segments of ``m``, summed (report: 3072 -> 1024)."""

    n: int
    m: int

    def __call__(self, vectors: FloatArray) -> FloatArray:
        if not 1 <= self.m <= self.n <= vectors.shape[1] or self.n % self.m:
            raise ConfigError(
                f"fold-sum: n is {self.n} and m {self.m}; n must be a multiple of m and at most "
                f"{vectors.shape[1]}, the teacher's dimensions"
            )
        folded: FloatArray = vectors[:, : self.n].reshape(len(vectors), -1, self.m).sum(1)
        return folded


@dataclass(frozen=True, kw_only=True)
class Centre(Reducer):
    """Subtracts the mean of the unit vectors: for teachers whose cosines all sit high."""

    mean: FloatArray | None = field(default=None, compare=False)

    def fit(self, sample: FloatArray) -> Self:
        return type(self)(mean=unit(sample).mean(0))

    def width(self, before: int, texts: int) -> int:
        return before

    def __call__(self, vectors: FloatArray) -> FloatArray:
        if self.mean is None:
            raise InputError("centre: fit it on sample vectors first")
        return unit(vectors) - self.mean


@dataclass(frozen=True, kw_only=True)
class PCA(Reducer):
    """The ``m`` directions of largest second moment; subtract the mean first with ``centre`` if wanted."""

    m: int
    directions: FloatArray | None = field(default=None, compare=False)

    def fit(self, sample: FloatArray) -> Self:
        self.width(sample.shape[1], len(sample))
        _, vectors = np.linalg.eigh(sample.T.astype(np.float64) @ sample)
        return type(self)(m=self.m, directions=vectors[:, ::-1][:, : self.m].astype(np.float32))

    def width(self, before: int, texts: int) -> int:
        if not 1 <= self.m <= min(before, texts):
            raise ConfigError(
                f"pca: m is {self.m}, it must be 1 to {min(before, texts)} (the teacher gives {before} "
                f"dimensions, and it is fitted on {texts} texts: see [fusion] fit_texts)"
            )
        return self.m

    def __call__(self, vectors: FloatArray) -> FloatArray:
        if self.directions is None:
            raise InputError("pca: fit it on sample vectors first")
        projected: FloatArray = vectors @ self.directions
        return projected


REDUCERS: dict[str, type[Reducer]] = {
    "identity": Identity,
    "first": First,
    "fold-sum": FoldSum,
    "centre": Centre,
    "pca": PCA,
}


def build_reducer(description: Mapping[str, Any]) -> Reducer:
    """A reducer from a recipe's table, such as ``{kind = "first", n = 1024}``.

    Raises:
        ConfigError: the kind is unknown, or its numbers are missing, not known or of another type.
    """
    options = dict(description)
    kind = options.pop("kind", None)
    if kind not in REDUCERS:
        raise ConfigError(f"reducer kind is {kind!r}, it must be one of {', '.join(REDUCERS)}")
    own = [item.name for item in fields(REDUCERS[kind]) if not item.compare]  # type: ignore[arg-type]
    learnt = [name for name in own if name in options]
    if learnt:
        raise ConfigError(f"reducer {kind!r} learns {', '.join(learnt)} by itself; leave it out")
    try:
        reducer = REDUCERS[kind](**options)
    except TypeError as error:
        raise ConfigError(f"reducer {kind!r} cannot take {options}: {error}") from error
    try:
        check_types(reducer)
    except ConfigError as error:
        raise ConfigError(f"reducer {kind!r}: {error}") from error
    return reducer


@dataclass(frozen=True)
class Fusion:
    """One teacher's part in the target: its reducers, in order, and its weight > 0."""

    reducers: tuple[Reducer, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.weight) and self.weight > 0):
            raise ConfigError(f"teacher weight is {self.weight}, it must be a number > 0")

    def fit(self, sample: FloatArray) -> "Fusion":
        """Fit each reducer on what the ones before it make of ``sample``, shape (N, E), without its zeros."""
        fitted = []
        sample = sample[sample.any(axis=1)]
        for reducer in self.reducers:
            fitted.append(reducer.fit(sample))
            sample = fitted[-1](sample)
        return Fusion(tuple(fitted), self.weight)

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Reduced, unit, weighted: (N, E) -> (N, R)."""
        given = vectors.any(axis=1, keepdims=True)
        for reducer in self.reducers:
            vectors = reducer(vectors)
        return np.float32(self.weight) * unit(vectors) * given


def fuse(parts: Sequence[Fusion], vectors: Sequence[FloatArray]) -> FloatArray:
    """The target of each text: norm(w_1 norm(r_1(v_1)) || w_2 norm(r_2(v_2)) || ...).

    Args:
        parts: how each teacher takes part, fitted where needed.
        vectors: each teacher's vectors of the same N texts, (N, E_i).

    Returns:
        Unit vectors, shape (N, R_1 + R_2 + ...), float32.

    Raises:
        InputError: numbers of teachers or texts differ.
    """
    if len(parts) != len(vectors) or len({len(rows) for rows in vectors}) != 1:
        raise InputError(
            f"{len(parts)} teachers are described but vectors of shapes "
            f"{[rows.shape for rows in vectors]} were given; each teacher needs the same texts"
        )
    sides = [part(rows.astype(np.float32)) for part, rows in zip(parts, vectors)]
    return unit(np.concatenate(sides, axis=1))


def unit(vectors: FloatArray) -> FloatArray:
    """Rows of unit length; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows: FloatArray = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return rows
