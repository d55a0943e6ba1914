"""The equations against values computed by hand, and their gradients."""

import doctest
import math

import pytest
import torch
import torch.nn.functional as F

from jaspertc import losses, schedules
from jaspertc.errors import InputError
from jaspertc.losses import (
    contrastive_loss,
    cosine_loss,
    positive_indices,
    relative_similarity_loss,
    similarity_loss,
    soft_distillation_loss,
)


def units(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("module", [losses, schedules])
def test_examples_in_the_documentation(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_cosine_and_similarity_by_hand() -> None:
    student = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    teacher = torch.tensor([[0.0, 1.0], [0.6, 0.8]])
    assert float(cosine_loss(student, teacher)) == pytest.approx(0.5)
    # off-diagonal entries 0.6 and 0.8, both twice, over 4 entries; the diagonal agrees
    assert float(similarity_loss(student, teacher)) == pytest.approx(2 * 0.2**2 / 4)
    assert float(similarity_loss(student, units(2, 5).float())) >= 0  # widths may differ


@pytest.mark.parametrize(("queries", "negatives"), [(1, 0), (4, 0), (16, 3), (3, 5)])
def test_contrastive_counts_every_candidate(queries: int, negatives: int) -> None:
    """With all vectors equal, the loss is the log of the number of candidates."""
    same = torch.ones(1, 4, dtype=torch.float64) / 2
    documents = same.expand(queries * (1 + negatives), 4)
    positives = positive_indices(queries, negatives)
    loss = contrastive_loss(same.expand(queries, 4), documents, positives, temperature=0.3)
    candidates = 1 + negatives + (queries - 1) * (1 + negatives)
    assert float(loss) == pytest.approx(math.log(candidates))


def test_contrastive_by_hand() -> None:
    queries, documents, tau = units(3, 6, 1), units(9, 6, 2), 0.3
    expected = 0.0
    for i in range(3):
        scores = [math.exp(float(queries[i] @ d) / tau) for d in documents]
        expected -= math.log(scores[3 * i] / sum(scores)) / 3
    positives = positive_indices(3, 2)
    assert float(contrastive_loss(queries, documents, positives, temperature=tau)) == pytest.approx(expected)
    shares = [
        contrastive_loss(queries[part], documents, positive_indices(n, 2, first=first), temperature=tau) * n
        for part, n, first in ((slice(0, 1), 1, 0), (slice(1, 3), 2, 1))
    ]
    assert float(sum(shares)) / 3 == pytest.approx(expected)  # two processes, gathered documents


def test_soft_distillation_direction() -> None:
    student, teacher = (units(2, 4, 1), units(6, 4, 2)), (units(2, 7, 3), units(6, 7, 4))
    alpha = 0.1

    def kl(p_side: tuple, q_side: tuple) -> float:
        p, q = (((a @ b.T) / alpha).softmax(-1) for a, b in (p_side, q_side))
        return float((p * (p / q).log()).sum(-1).mean())

    ours = soft_distillation_loss(student, teacher, temperature=alpha)
    other = soft_distillation_loss(student, teacher, temperature=alpha, direction="teacher-student")
    assert float(ours) == pytest.approx(kl(student, teacher))
    assert float(other) == pytest.approx(kl(teacher, student))
    assert abs(float(ours) - float(other)) > 1e-3
    assert float(soft_distillation_loss(teacher, teacher, temperature=alpha)) == pytest.approx(0, abs=1e-12)


def test_relative_similarity_by_hand_and_sampled() -> None:
    student, teacher, margin = units(5, 3, 1), units(5, 4, 2), 0.015
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    terms = []
    for place, (i, j) in enumerate(pairs):
        for k, m in pairs[place + 1 :]:
            sign = math.copysign(1, float(teacher[i] @ teacher[j] - teacher[k] @ teacher[m]))
            terms.append(max(0.0, margin - sign * float(student[i] @ student[j] - student[k] @ student[m])))
    exact = sum(terms) / len(terms)
    assert float(relative_similarity_loss(student, teacher, margin=margin)) == pytest.approx(exact)
    generator = torch.Generator().manual_seed(0)
    many = relative_similarity_loss(
        units(40, 3, 1), units(40, 4, 2), margin=margin, max_terms=50_000, generator=generator
    )
    full = relative_similarity_loss(units(40, 3, 1), units(40, 4, 2), margin=margin)
    assert float(many) == pytest.approx(float(full), rel=0.03)


def test_gradients() -> None:
    a, b, c = (x.requires_grad_() for x in (units(3, 4, 1), units(6, 4, 2), units(3, 4, 3)))
    positives = positive_indices(3, 1)
    teacher = (units(3, 5, 4), units(6, 5, 5))
    assert torch.autograd.gradcheck(cosine_loss, (a, c))
    assert torch.autograd.gradcheck(similarity_loss, (a, c))
    assert torch.autograd.gradcheck(lambda q, d: contrastive_loss(q, d, positives, temperature=0.3), (a, b))
    for direction in losses.KL_DIRECTIONS:
        assert torch.autograd.gradcheck(
            lambda q, d, way=direction: soft_distillation_loss(
                (q, d), teacher, temperature=0.1, direction=way
            ),
            (a, b),
        )
    assert torch.autograd.gradcheck(lambda s: relative_similarity_loss(s, teacher[1]), (b,))


def test_wrong_arguments_are_named() -> None:
    a = units(3, 4)
    with pytest.raises(InputError, match="temperature is 0"):
        contrastive_loss(a, a, positive_indices(3, 0), temperature=0)
    with pytest.raises(InputError, match="direction is 'both'"):
        soft_distillation_loss((a, a), (a, a), temperature=0.1, direction="both")
    with pytest.raises(InputError, match="needs 3 texts, not 2"):
        relative_similarity_loss(a[:2], a[:2])
    one = units(1, 4)
    with pytest.raises(InputError, match=r"shape is \(3, 4\), the teacher's \(1, 4\)"):
        cosine_loss(a, one)
    for loss in (similarity_loss, relative_similarity_loss):
        with pytest.raises(InputError, match=r"3 texts \(3, 4\), the teacher 1 "):
            loss(a, one)
    with pytest.raises(InputError, match="3 texts"):
        soft_distillation_loss((a, a), (a, one), temperature=0.1)


def test_a_teacher_that_finds_all_pairs_as_close_asks_for_nothing() -> None:
    student = units(4, 8).requires_grad_()
    loss = relative_similarity_loss(student, F.normalize(torch.ones(4, 8), dim=1))
    loss.backward()
    assert loss.item() == 0
    assert (student.grad == 0).all()
