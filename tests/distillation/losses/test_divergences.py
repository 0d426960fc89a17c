import math
from collections.abc import Callable
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from torch import Tensor

from fcdistill.distillation.losses.divergences import (
    TopK,
    cosine,
    cross_entropy,
    forward_kl,
    hinge,
    jsd,
    logistic_ranking,
    mse,
    reverse_kl,
    skew_kl,
    top_k,
    tvd,
)

BETA, ALPHA, KEPT = 0.3, 0.2, 4


def _of_top(loss: Callable[..., Tensor], student_NV: Tensor, teacher_NV: Tensor, *, k: int = KEPT, **extra) -> Tensor:
    kept = top_k(teacher_NV, k, kd_temperature=extra.get("kd_temperature", 1.0))
    return loss(student_NV, kept, **extra)


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd": partial(jsd, beta=BETA),
    "skew_kl": partial(skew_kl, alpha=ALPHA),
    "tvd": tvd,
}
WITH_TAIL = {name: loss for name, loss in DIVERGENCES.items() if name != "reverse_kl"}
RANKINGS = {"logistic_ranking": partial(_of_top, logistic_ranking), "hinge": partial(_of_top, hinge)}
TEMPERED = {
    **DIVERGENCES,
    **RANKINGS,
    **{f"{name} of the top": partial(_of_top, loss) for name, loss in WITH_TAIL.items()},
}
"""Every loss of student and teacher logits."""
PAIRED = {**TEMPERED, "cosine": cosine, "mse": mse}

each_with_tail = pytest.mark.parametrize("name", WITH_TAIL)
each_tempered = pytest.mark.parametrize("name", TEMPERED)
each_paired = pytest.mark.parametrize("name", PAIRED)
seeds = st.integers(0, 10**6)


def _rows(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale).to(dtype)


def _reference(name: str, student_NV: Tensor, teacher_NV: Tensor, kd_temperature: float) -> float:
    """Each loss by its formula, row by row, in numpy and float64."""
    total = 0.0
    for student_V, teacher_V in zip(student_NV.double().numpy(), teacher_NV.double().numpy(), strict=True):
        q, p = softmax(student_V / kd_temperature), softmax(teacher_V / kd_temperature)
        top = np.argsort(-p)[:KEPT]
        pairs = [(i, j) for i, j in permutations(top, 2) if p[i] > p[j]]
        if name.endswith(" of the top"):
            p, q = (np.append(values[top], np.delete(values, top).sum()) for values in (p, q))
        m, skewed = BETA * p + (1 - BETA) * q, ALPHA * p + (1 - ALPHA) * q
        total += {
            "forward_kl": lambda p=p, q=q: rel_entr(p, q).sum(),
            "reverse_kl": lambda p=p, q=q: rel_entr(q, p).sum(),
            "jsd": lambda p=p, q=q, m=m: BETA * rel_entr(p, m).sum() + (1 - BETA) * rel_entr(q, m).sum(),
            "skew_kl": lambda p=p, skewed=skewed: rel_entr(p, skewed).sum(),
            "tvd": lambda p=p, q=q: np.abs(p - q).sum() / 2,
            "logistic_ranking": lambda q=q, pairs=pairs: np.mean([np.log1p(q[j] / q[i]) for i, j in pairs]),
            "hinge": lambda p=p, q=q, pairs=pairs: np.mean(
                [max(0, p[i] - p[j] - (q[i] - q[j])) for i, j in pairs],
            ),
        }[name.removesuffix(" of the top")]()
    return total * kd_temperature**2


@each_tempered
@settings(deadline=None, max_examples=40)
@given(seed=seeds, rows=st.integers(1, 6), kd_temperature=st.floats(0.3, 8))
def test_losses_equal_a_float64_reference(name: str, seed: int, rows: int, kd_temperature: float) -> None:
    student_NV, teacher_NV = _rows(rows, 11, seed), _rows(rows, 11, seed + 1)
    expected = _reference(name, student_NV, teacher_NV, kd_temperature)
    found = TEMPERED[name](student_NV, teacher_NV, kd_temperature=kd_temperature)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-5 * kd_temperature**2 * rows)
    precise = TEMPERED[name](student_NV.double(), teacher_NV.double(), kd_temperature=kd_temperature)
    assert precise.item() == pytest.approx(expected, rel=1e-9, abs=1e-12 * kd_temperature**2 * rows)


@pytest.mark.parametrize("name", sorted({*TEMPERED} - {"logistic_ranking"}))
@pytest.mark.parametrize("kd_temperature", [0.5, 1.0, 4.0])
def test_equal_distributions_give_zero_with_zero_gradient(name: str, kd_temperature: float) -> None:
    logits_NV = _rows(5, 20, 0, torch.float64).requires_grad_()
    loss = TEMPERED[name](logits_NV, logits_NV.detach(), kd_temperature=kd_temperature)
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert logits_NV.grad is not None
    if name not in ("tvd", "tvd of the top", "hinge"):  # those have a kink there
        assert logits_NV.grad.abs().max() < 1e-12
    shifted = TEMPERED[name](logits_NV, logits_NV.detach() + 7.0, kd_temperature=kd_temperature)
    assert abs(shifted.item()) < 1e-12


@pytest.mark.parametrize("name", sorted({*TEMPERED} - {"hinge"}))
def test_different_distributions_give_a_positive_loss(name: str) -> None:
    for seed in range(50):
        assert TEMPERED[name](_rows(1, 20, seed), _rows(1, 20, seed + 1)).item() > 0


def test_forward_kl_is_not_symmetric_and_has_the_teacher_first() -> None:
    student_NV, teacher_NV = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(9.0), 0.0]])
    expected = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    assert forward_kl(student_NV, teacher_NV).item() == pytest.approx(expected)
    assert reverse_kl(teacher_NV, student_NV).item() == pytest.approx(expected)


def test_forward_kl_against_a_one_hot_teacher_is_cross_entropy() -> None:
    student_NV, targets_N = _rows(4, 9, 3), torch.tensor([0, 8, 4, 2])
    teacher_NV = torch.nn.functional.one_hot(targets_N, 9) * 200.0
    expected = cross_entropy(student_NV, targets_N).item()
    assert forward_kl(student_NV, teacher_NV).item() == pytest.approx(expected)
    assert forward_kl(student_NV, top_k(teacher_NV, 2)).item() == pytest.approx(expected, rel=1e-5)


def test_jsd_is_symmetric_at_one_half_and_mirrored_elsewhere() -> None:
    student_NV, teacher_NV = _rows(5, 20, 1, torch.float64), _rows(5, 20, 2, torch.float64)
    for beta in (0.5, 0.1):
        mirrored = jsd(teacher_NV, student_NV, beta=1 - beta).item()
        assert jsd(student_NV, teacher_NV, beta=beta).item() == pytest.approx(mirrored)


def test_jsd_has_the_kl_divergences_as_its_limits() -> None:
    student_NV, teacher_NV = _rows(5, 20, 1, torch.float64, 1.0), _rows(5, 20, 2, torch.float64, 1.0)
    near = 1e-6
    forward, reverse = forward_kl(student_NV, teacher_NV).item(), reverse_kl(student_NV, teacher_NV).item()
    assert jsd(student_NV, teacher_NV, beta=near).item() / near == pytest.approx(forward, rel=1e-4)
    assert jsd(student_NV, teacher_NV, beta=1 - near).item() / near == pytest.approx(reverse, rel=1e-4)


def test_skew_kl_without_skew_is_forward_kl() -> None:
    student_NV, teacher_NV = _rows(5, 20, 1).requires_grad_(), _rows(5, 20, 2)
    for teacher in (teacher_NV, top_k(teacher_NV, 7)):
        found, expected = skew_kl(student_NV, teacher, alpha=0), forward_kl(student_NV, teacher)
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)
        gradients = [torch.autograd.grad(loss, student_NV)[0] for loss in (found, expected)]
        assert torch.allclose(*gradients, atol=1e-6)


@given(seed=seeds, scale=st.floats(0.1, 1000), beta=st.floats(0.01, 0.99))
@settings(deadline=None, max_examples=40)
def test_bounded_divergences_keep_their_bounds(seed: int, scale: float, beta: float) -> None:
    student_NV, teacher_NV = _rows(1, 11, seed, scale=scale), _rows(1, 11, seed + 1, scale=scale)
    entropy = -beta * math.log(beta) - (1 - beta) * math.log1p(-beta)
    for teacher in (teacher_NV, top_k(teacher_NV, 3)):
        assert -1e-6 <= tvd(student_NV, teacher).item() <= 1 + 1e-6
        assert -1e-6 <= skew_kl(student_NV, teacher, alpha=beta).item() <= -math.log(beta) + 1e-5
        assert -1e-6 <= jsd(student_NV, teacher, beta=beta).item() <= entropy + 1e-5
    assert 0 <= hinge(student_NV, top_k(teacher_NV, 3)).item() <= 2


def test_disjoint_distributions_reach_the_bounds() -> None:
    student_NV, teacher_NV = torch.tensor([[0.0, 200.0, 0.0]]), torch.tensor([[200.0, 0.0, 0.0]])
    assert tvd(student_NV, teacher_NV).item() == pytest.approx(1)
    assert skew_kl(student_NV, teacher_NV, alpha=0.1).item() == pytest.approx(-math.log(0.1))
    assert jsd(student_NV, teacher_NV).item() == pytest.approx(math.log(2))
    assert hinge(student_NV, top_k(teacher_NV, 2)).item() == pytest.approx(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_top_tokens_have_their_tempered_log_probabilities(dtype: torch.dtype) -> None:
    teacher_NV = _rows(6, 30, 4, dtype).requires_grad_()
    kept = top_k(teacher_NV, 5, kd_temperature=2.0)
    logprobs_NV = (teacher_NV.detach().double() / 2.0).log_softmax(-1)
    expected_NK, _ = logprobs_NV.sort(descending=True)
    assert kept.ids_NK.dtype == torch.int64 and kept.ids_NK.shape == (6, 5)
    assert kept.logprobs_NK.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.allclose(kept.logprobs_NK.double(), expected_NK[:, :5], rtol=1e-6)
    assert torch.allclose(kept.logprobs_NK.double(), logprobs_NV.gather(-1, kept.ids_NK), rtol=1e-6)
    assert not kept.logprobs_NK.requires_grad


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_the_mass_of_the_top_tokens_is_exact_however_large_the_logits_are(scale: float) -> None:
    teacher_NV = _rows(200, 50, 4, scale=scale)
    kept = top_k(teacher_NV, 5)
    exact_NK = teacher_NV.double().log_softmax(-1).gather(-1, kept.ids_NK)
    assert (kept.logprobs_NK.double().exp().sum(-1) - exact_NK.exp().sum(-1)).abs().max() < 5e-7


@each_with_tail
@settings(deadline=None, max_examples=25)
@given(seed=seeds, scale=st.floats(0.1, 30), kd_temperature=st.floats(0.5, 4))
def test_the_top_of_all_tokens_is_the_whole_distribution(
    name: str, seed: int, scale: float, kd_temperature: float
) -> None:
    student_NV, teacher_NV = _rows(3, 11, seed, scale=scale).requires_grad_(), _rows(3, 11, seed + 1, scale=scale)
    kept = top_k(teacher_NV, 11, kd_temperature=kd_temperature)
    dense, sparse = (
        WITH_TAIL[name](student_NV, teacher, kd_temperature=kd_temperature) for teacher in (teacher_NV, kept)
    )
    assert sparse.item() == pytest.approx(dense.item(), rel=1e-5, abs=1e-5)
    gradients = [torch.autograd.grad(loss, student_NV)[0] for loss in (dense, sparse)]
    assert torch.allclose(*gradients, atol=1e-5 * kd_temperature)


@each_with_tail
@settings(deadline=None, max_examples=25)
@given(seed=seeds, scale=st.floats(0.1, 10), kd_temperature=st.floats(0.5, 4))
def test_a_tail_bucket_is_a_lower_bound_that_grows_with_k(
    name: str, seed: int, scale: float, kd_temperature: float
) -> None:
    student_NV = _rows(3, 12, seed, torch.float64, scale)
    teacher_NV = _rows(3, 12, seed + 1, torch.float64, scale)
    bounds = [
        WITH_TAIL[name](
            student_NV, top_k(teacher_NV, k, kd_temperature=kd_temperature), kd_temperature=kd_temperature
        ).item()
        for k in range(1, 13)
    ]
    dense = WITH_TAIL[name](student_NV, teacher_NV, kd_temperature=kd_temperature).item()
    assert all(low <= high + 1e-10 for low, high in zip(bounds, [*bounds[1:], dense], strict=True))
    assert bounds[0] < dense + 1e-10


@each_with_tail
def test_a_tail_bucket_loses_nothing_where_the_tails_are_proportional(name: str) -> None:
    teacher_NV = _rows(3, 12, 1, torch.float64)
    kept = top_k(teacher_NV, 4)
    student_NV = teacher_NV + 1.5
    student_NV.scatter_(-1, kept.ids_NK, _rows(3, 4, 2, torch.float64))
    dense = WITH_TAIL[name](student_NV, teacher_NV).item()
    assert WITH_TAIL[name](student_NV, kept).item() == pytest.approx(dense, rel=1e-9)


def test_a_confident_student_gets_the_gradient_of_its_tail() -> None:
    """Its tail mass, e^-30, is far below float32's rounding of 1: one minus the kept mass would be 0."""
    teacher_NV = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    student_NV = torch.tensor([[30.0, 0.0, -2.0, -2.0]], requires_grad=True)
    loss = forward_kl(student_NV, top_k(teacher_NV, 1))
    loss.backward()
    tail = 3 / (math.e + 3)
    expected = tail * (math.log(tail) + 30 - math.log(1 + 2 * math.exp(-2))) + (1 - tail) * math.log(1 - tail)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    shares = torch.tensor([1.0, math.exp(-2), math.exp(-2)]) / (1 + 2 * math.exp(-2))
    assert student_NV.grad is not None
    assert torch.allclose(student_NV.grad[0, 1:], -tail * shares)


@each_with_tail
@pytest.mark.parametrize("rounded_up", [0.0, 1e-3])
@pytest.mark.parametrize("num_tokens", [2, 3])
def test_kept_mass_that_rounding_brings_to_one_stays_finite(name: str, rounded_up: float, num_tokens: int) -> None:
    """A cache in half precision may add up to more than 1, whether there are other tokens or not."""
    logprobs_NK = torch.tensor([[math.log(0.75) + rounded_up, math.log(0.25)]], dtype=torch.float16)
    student_NV = torch.tensor([[1.0, 0.0, 0.0][:num_tokens]], requires_grad=True)
    loss = WITH_TAIL[name](student_NV, TopK(torch.tensor([[0, 1]]), logprobs_NK))
    loss.backward()
    assert loss.dtype == torch.float32
    teacher_NV = torch.tensor([[math.log(3.0), 0.0, -100.0][:num_tokens]])
    assert loss.item() == pytest.approx(WITH_TAIL[name](student_NV, teacher_NV).item(), abs=2e-3)
    assert student_NV.grad is not None and student_NV.grad.isfinite().all()


def test_ranking_losses_follow_the_order() -> None:
    teacher = top_k(torch.tensor([[2.0, 1.0, 0.0, -50.0]]), 3)
    agreeing, reversed_order = torch.tensor([[2.0, 1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 2.0, 0.0]])
    losses = [logistic_ranking(scale * agreeing, teacher).item() for scale in (0.0, 1.0, 3.0, 30.0)]
    assert losses[0] == pytest.approx(math.log(2))
    assert losses == sorted(losses, reverse=True) and losses[-1] < 1e-10
    assert logistic_ranking(reversed_order, teacher).item() > math.log(2)
    assert hinge(torch.tensor([[2.0, 1.0, 0.0, -50.0]]), teacher).item() == pytest.approx(0, abs=1e-6)
    assert hinge(reversed_order, teacher).item() > 0.3


def test_a_margin_larger_than_the_teachers_costs_no_hinge() -> None:
    teacher = top_k(torch.tensor([[1.0, 0.0, -9.0]]), 2)
    assert hinge(torch.tensor([[3.0, 0.0, -9.0]]), teacher).item() == 0
    assert hinge(torch.tensor([[0.5, 0.0, -9.0]]), teacher).item() > 0


@pytest.mark.parametrize("loss", [logistic_ranking, hinge])
def test_tokens_that_the_teacher_does_not_order_are_not_ranked(loss: Callable[..., Tensor]) -> None:
    student_NV = _rows(2, 9, 1).requires_grad_()
    for kept in (top_k(torch.zeros(2, 9), 4), top_k(_rows(2, 9, 2), 1)):
        found = loss(student_NV, kept)
        assert found.item() == 0
        assert torch.autograd.grad(found, student_NV)[0].abs().max() == 0


def test_cross_entropy_equals_a_float64_reference() -> None:
    logits_NV, targets_N, weights_N = _rows(3, 5, 1), torch.tensor([4, 0, 2]), torch.tensor([0.5, 2.0, 0.0])
    logprobs_NV = logits_NV.double() - logits_NV.double().exp().sum(-1, keepdim=True).log()
    losses_N = -logprobs_NV[torch.arange(3), targets_N]
    assert cross_entropy(logits_NV, targets_N).item() == pytest.approx(losses_N.sum().item(), rel=1e-6)
    weighted = cross_entropy(logits_NV, targets_N, weights_N=weights_N).item()
    assert weighted == pytest.approx((losses_N * weights_N).sum().item(), rel=1e-6)


def test_hidden_losses_have_their_formulas() -> None:
    student_NH, teacher_NH = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[4.0, -3.0], [5.0, 0.0]])
    assert cosine(student_NH[:1], teacher_NH[:1]).item() == pytest.approx(1.0)
    assert cosine(-teacher_NH, 2 * teacher_NH).item() == pytest.approx(4.0)
    assert mse(student_NH, teacher_NH).item() == pytest.approx((1 + 49) / 25 + 1.0)
    assert mse(teacher_NH, teacher_NH).item() == 0
    assert cosine(teacher_NH, teacher_NH).item() == pytest.approx(0, abs=1e-6)


@each_paired
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_paired_losses_are_right(name: str, weighted: bool) -> None:
    student, teacher = _rows(3, 7, 5, torch.float64).requires_grad_(), _rows(3, 7, 6, torch.float64)
    weights_N = torch.tensor([0.3, 0.0, 2.0], dtype=torch.float64) if weighted else None
    extra = {"kd_temperature": 2.5} if name in TEMPERED else {}
    assert torch.autograd.gradcheck(lambda rows: PAIRED[name](rows, teacher, weights_N=weights_N, **extra), student)


def test_gradients_of_cross_entropy_are_right() -> None:
    logits_NV, targets_N = _rows(3, 7, 5, torch.float64).requires_grad_(), torch.tensor([1, 6, 0])
    assert torch.autograd.gradcheck(lambda rows: cross_entropy(rows, targets_N), logits_NV)


@each_paired
def test_an_empty_batch_gives_zero_with_a_gradient_path(name: str) -> None:
    student = torch.zeros(0, 7, requires_grad=True)
    found = PAIRED[name](student, torch.zeros(0, 7))
    found.backward()
    assert found.item() == 0 and student.grad is not None and student.grad.shape == (0, 7)


def test_an_empty_batch_gives_zero_cross_entropy_with_a_gradient_path() -> None:
    logits_NV = torch.zeros(0, 7, requires_grad=True)
    cross_entropy(logits_NV, torch.zeros(0, dtype=torch.long)).backward()
    assert logits_NV.grad is not None


@each_paired
def test_bfloat16_inputs_are_computed_in_float32(name: str) -> None:
    student, teacher = _rows(50, 300, 1, torch.bfloat16), _rows(50, 300, 2, torch.bfloat16)
    found = PAIRED[name](student, teacher)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(PAIRED[name](student.double(), teacher.double()).item(), rel=1e-5)


def test_bfloat16_logits_give_cross_entropy_in_float32() -> None:
    logits_NV, targets_N = _rows(50, 300, 1, torch.bfloat16), torch.arange(50)
    exact = cross_entropy(logits_NV.double(), targets_N).item()
    assert cross_entropy(logits_NV, targets_N).item() == pytest.approx(exact, rel=1e-6)


@each_paired
def test_bfloat16_gradients_are_those_of_float32_rounded_once(name: str) -> None:
    student, teacher = _rows(20, 60, 1, torch.bfloat16).requires_grad_(), _rows(20, 60, 2, torch.bfloat16)
    (found,) = torch.autograd.grad(PAIRED[name](student, teacher), student)
    precise = student.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad(PAIRED[name](precise, teacher.float()), precise)
    assert torch.equal(found, expected.bfloat16())


@each_paired
def test_rows_have_gradients_exactly_where_their_weight_is_not_zero(name: str) -> None:
    student, teacher = _rows(4, 7, 5).requires_grad_(), _rows(4, 7, 6).requires_grad_()
    PAIRED[name](student, teacher, weights_N=torch.tensor([1.0, 0.0, 0.5, 1e-3])).backward()
    assert student.grad is not None
    assert (student.grad.abs().sum(-1) > 0).tolist() == [True, False, True, True]
    assert teacher.grad is None


@each_paired
def test_weights_multiply_the_losses_of_rows(name: str) -> None:
    student, teacher = _rows(4, 7, 5, torch.float64), _rows(4, 7, 6, torch.float64)
    weights_N = torch.tensor([1.0, 0.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    losses = [PAIRED[name](student[row : row + 1], teacher[row : row + 1]).item() for row in range(4)]
    found = PAIRED[name](student, teacher, weights_N=weights_N)
    assert found.item() == pytest.approx(losses[0] + 0.5 * losses[2] + 3 * losses[3])
    assert not found.requires_grad


@each_tempered
@pytest.mark.parametrize("scale", [1e4, 1e-4])
@pytest.mark.parametrize("kd_temperature", [0.1, 1.0, 20.0])
def test_extreme_logits_give_finite_losses_and_gradients(name: str, scale: float, kd_temperature: float) -> None:
    signs = torch.tensor([[1.0, -1, 1, -1, 0, 1], [-1, 1, -1, -1, 1, 0], [1, -1, -1, -1, -1, -1]])
    student_NV = (scale * signs).requires_grad_()
    for teacher_NV in (scale * signs, scale * signs.flip(-1), -scale * signs, torch.zeros(3, 6)):
        loss = TEMPERED[name](student_NV, teacher_NV, kd_temperature=kd_temperature)
        (gradient,) = torch.autograd.grad(loss, student_NV)
        assert loss.isfinite() and gradient.isfinite().all()


@each_tempered
def test_a_temperature_that_is_not_positive_is_refused(name: str) -> None:
    for kd_temperature in (0, -1.0):
        with pytest.raises(ValueError, match=f"kd_temperature is {kd_temperature}; it must be positive"):
            TEMPERED[name](torch.zeros(1, 5), torch.zeros(1, 5), kd_temperature=kd_temperature)


@pytest.mark.parametrize("loss", [*DIVERGENCES.values(), cosine, mse])
def test_rows_of_other_shapes_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"student rows are \(1, 2\), teacher rows are \(1, 3\)"):
        loss(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="numbers of rows differ"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), weights_N=torch.ones(1))


@pytest.mark.parametrize("loss", [*WITH_TAIL.values(), logistic_ranking, hinge])
def test_top_tokens_of_other_shapes_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"the teacher's ids are \(1, 2\), its logprobs are \(1, 3\)"):
        loss(torch.zeros(1, 4), TopK(torch.tensor([[0, 1]]), torch.zeros(1, 3)))
    with pytest.raises(ValueError, match="the teacher keeps 3 tokens of 2"):
        loss(torch.zeros(1, 2), top_k(torch.zeros(1, 3), 3))
    with pytest.raises(ValueError, match="numbers of rows differ"):
        loss(torch.zeros(2, 3), top_k(torch.zeros(1, 3), 2))


def test_parameters_out_of_range_are_refused() -> None:
    rows = torch.zeros(1, 3)
    for beta in (0, 1, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=f"beta is {beta}; it must lie between 0 and 1"):
            jsd(rows, rows, beta=beta)
    for alpha in (1, -0.1, math.nan):
        with pytest.raises(ValueError, match=f"alpha is {alpha}; it must be at least 0 and below 1"):
            skew_kl(rows, rows, alpha=alpha)
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"k is {k}; it must lie in 1\.\.3"):
            top_k(rows, k)
    with pytest.raises(ValueError, match="numbers of rows differ"):
        cross_entropy(torch.zeros(2, 3), torch.zeros(1, dtype=torch.long))


@each_tempered
@pytest.mark.parametrize("kd_temperature", [0.05, 0.3, 1.0, 4.0])
def test_tokens_that_both_models_rule_out_add_nothing(name: str, kd_temperature: float) -> None:
    student_NV, teacher_NV = _rows(3, 6, 0), _rows(3, 6, 1)
    few = TEMPERED[name](student_NV, teacher_NV, kd_temperature=kd_temperature)
    ruled_out_N2 = torch.full((3, 2), torch.finfo(torch.float32).min)
    student_NV = torch.cat([student_NV, ruled_out_N2], dim=1).requires_grad_()
    loss = TEMPERED[name](student_NV, torch.cat([teacher_NV, ruled_out_N2], dim=1), kd_temperature=kd_temperature)
    (gradient,) = torch.autograd.grad(loss, student_NV)
    assert loss.item() == pytest.approx(few.item(), rel=1e-4)
    assert gradient.isfinite().all() and not gradient[:, 6:].any()
