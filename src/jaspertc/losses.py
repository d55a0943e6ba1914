"""The report's training losses, as pure functions of embeddings.

Embeddings are L2-normalised rows, the student's and the teacher's; loss weights live in the recipes.
Widths of student and teacher may differ except where a loss compares vector with vector.
Shape legend: B texts, E width, n queries of N, K hard negatives a query, M = N (1 + K) documents.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.errors import InputError

KL_DIRECTIONS = ("student-teacher", "teacher-student")


def cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over texts of 1 - E_s . E_t (report, equation 1): two (B, E) -> ().

    >>> a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> float(cosine_loss(a, a)), float(cosine_loss(a, a.flip(0)))
    (0.0, 1.0)

    Raises:
        InputError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise InputError(f"the student's shape is {_shape(student)}, the teacher's {_shape(teacher)}")
    return (1 - (student * teacher).sum(-1)).mean()


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """MSE of the two full similarity matrices, diagonal included (equation 2): (B, E), (B, E') -> ().

    >>> a = torch.eye(2)
    >>> float(similarity_loss(a, torch.tensor([[1.0, 0.0], [1.0, 0.0]])))
    0.5

    Raises:
        InputError: the sides have other numbers of texts.
    """
    _check_texts(student, teacher)
    return F.mse_loss(student @ student.T, teacher @ teacher.T)


def positive_indices(queries: int, negatives: int, *, first: int = 0) -> Tensor:
    """Positions of the positives among documents laid out as (positive, K negatives) per query, shape (n,).

    Args:
        queries: n, rows of the query matrix at hand.
        negatives: K.
        first: index among all N queries of the first row at hand (another process holds those before it).

    >>> positive_indices(2, 3).tolist(), positive_indices(2, 3, first=4).tolist()
    ([0, 4], [16, 20])
    """
    return (first + torch.arange(queries)) * (1 + negatives)


def contrastive_loss(queries: Tensor, documents: Tensor, positives: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE over all documents of the batch (equations 4 and 5): (n, E), (M, E), (n,) -> ().

    The candidates of a query are all M documents: its positive, its K hard negatives and the
    (N - 1)(1 + K) documents of the other queries.

    Args:
        positives: index of each query's positive, from ``positive_indices``.
        temperature: tau, > 0; 0.3 in the report.
    """
    return F.cross_entropy(_scores(queries, documents, temperature), positives.to(queries.device))


def soft_distillation_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    *,
    temperature: float,
    direction: str = "student-teacher",
) -> Tensor:
    """Mean over queries of KL between the two score distributions over M documents (equation 6) -> ().

    Args:
        student: queries (n, E) and documents (M, E).
        teacher: the same texts' vectors, (n, E') and (M, E').
        temperature: alpha, > 0; 0.1 in the report.
        direction: ``student-teacher`` is KL(student || teacher), as the report writes it;
            ``teacher-student`` is KL(teacher || student), as most code computes it.

    Raises:
        InputError: the direction is unknown, or the sides have other numbers of texts.
    """
    for ours, theirs in zip(student, teacher):
        _check_texts(ours, theirs)
    if direction not in KL_DIRECTIONS:
        raise InputError(f"direction is {direction!r}, it must be one of {', '.join(KL_DIRECTIONS)}")
    log_student, log_teacher = (_scores(*side, temperature).log_softmax(-1) for side in (student, teacher))
    if direction == "student-teacher":
        return F.kl_div(log_teacher, log_student, reduction="batchmean", log_target=True)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def relative_similarity_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    margin: float = 0.015,
    max_terms: int = 1_000_000,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The predecessor's ranking loss over pairs of text pairs (arXiv 2412.19048): (B, E), (B, E') -> ().

    For two text pairs, the one the teacher finds closer should be closer for the student by ``margin``:
    mean of max(0, margin - (s_closer - s_farther)); 0 where the teacher finds all as close.

    Args:
        margin: 0.015 in the predecessor.
        max_terms: the B (B - 1) / 2 text pairs give O(B^4) terms; above this many, so many are drawn.
        generator: source of that draw.

    Raises:
        InputError: fewer than three texts, so that there are no two pairs to compare; or the sides have
            other numbers of texts.
    """
    _check_texts(student, teacher)
    texts = len(student)
    if texts < 3:
        raise InputError(f"relative similarity compares pairs of text pairs and needs 3 texts, not {texts}")
    row, column = torch.triu_indices(texts, texts, offset=1, device=student.device)
    ours, theirs = ((side @ side.T)[row, column] for side in (student, teacher))
    pairs = len(ours)
    if pairs * (pairs - 1) // 2 <= max_terms:
        one, other = torch.triu_indices(pairs, pairs, offset=1, device=student.device)
    else:
        one = torch.randint(pairs, (max_terms,), generator=generator).to(student.device)
        step = torch.randint(1, pairs, (max_terms,), generator=generator).to(student.device)
        other = (one + step) % pairs
    closer = torch.sign(theirs[one] - theirs[other])
    terms = F.relu(margin - closer * (ours[one] - ours[other]))[closer != 0]
    return terms.sum() / max(1, len(terms))


def _check_texts(student: Tensor, teacher: Tensor) -> None:
    if len(student) != len(teacher):
        raise InputError(
            f"the student has {len(student)} texts {_shape(student)}, the teacher {len(teacher)} "
            f"{_shape(teacher)}; give both sides of the same texts"
        )


def _shape(vectors: Tensor) -> tuple[int, ...]:
    return tuple(vectors.shape)


def _scores(queries: Tensor, documents: Tensor, temperature: float) -> Tensor:
    """Cosines over temperature: (n, E), (M, E) -> (n, M)."""
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}, it must be > 0")
    return queries @ documents.T / temperature
