import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fcdistill.distillation.losses import TopK, cosine, cross_entropy, forward_kl, forward_kl_top_k, mse


def _rows(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale).to(dtype)


def _reference_kl(student_NV: Tensor, teacher_NV: Tensor, kd_temperature: float) -> float:
    total = 0.0
    for student_V, teacher_V in zip(student_NV.double().tolist(), teacher_NV.double().tolist(), strict=True):
        q = [math.exp(value / kd_temperature) for value in student_V]
        p = [math.exp(value / kd_temperature) for value in teacher_V]
        total += sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    return total * kd_temperature**2


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), kd_temperature=st.floats(0.3, 8))
def test_forward_kl_equals_a_float64_reference(seed: int, rows: int, kd_temperature: float) -> None:
    student_NV, teacher_NV = _rows(rows, 11, seed), _rows(rows, 11, seed + 1)
    found = forward_kl(student_NV, teacher_NV, kd_temperature=kd_temperature).item()
    assert found == pytest.approx(_reference_kl(student_NV, teacher_NV, kd_temperature), rel=1e-4, abs=1e-4)
    assert found > 0


@pytest.mark.parametrize("kd_temperature", [0.5, 1.0, 4.0])
def test_forward_kl_of_equal_distributions_is_zero_with_zero_gradient(kd_temperature: float) -> None:
    logits_NV = _rows(5, 20, 0).requires_grad_()
    loss = forward_kl(logits_NV, logits_NV.detach() + 7.0, kd_temperature=kd_temperature)
    loss.backward()
    assert abs(loss.item()) < 1e-5
    assert logits_NV.grad is not None and logits_NV.grad.abs().max() < 1e-5


def test_forward_kl_is_not_symmetric_and_has_the_teacher_first() -> None:
    student_NV, teacher_NV = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(9.0), 0.0]])
    assert forward_kl(student_NV, teacher_NV).item() == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))


def test_forward_kl_against_a_one_hot_teacher_is_cross_entropy() -> None:
    student_NV, targets_N = _rows(4, 9, 3), torch.tensor([0, 8, 4, 2])
    teacher_NV = torch.nn.functional.one_hot(targets_N, 9) * 200.0
    assert forward_kl(student_NV, teacher_NV).item() == pytest.approx(cross_entropy(student_NV, targets_N).item())


def _top_k(teacher_NV: Tensor, num: int, kd_temperature: float) -> TopK:
    logprobs_NK, ids_NK = (teacher_NV / kd_temperature).log_softmax(-1).topk(num)
    return TopK(ids_NK, logprobs_NK)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), num=st.integers(1, 11), kd_temperature=st.floats(0.5, 8))
def test_top_k_kl_is_that_of_the_distributions_whose_other_tokens_are_merged(
    seed: int, num: int, kd_temperature: float
) -> None:
    student_NV, teacher_NV = _rows(3, 11, seed), _rows(3, 11, seed + 1)
    teacher = _top_k(teacher_NV, num, kd_temperature)
    found = forward_kl_top_k(student_NV, teacher, kd_temperature=kd_temperature).item()

    def merged(logits_NV: Tensor) -> Tensor:
        probs_NV = (logits_NV.double() / kd_temperature).softmax(-1)
        known_NK = probs_NV.gather(1, teacher.ids_NK)
        others_N1 = probs_NV.scatter(1, teacher.ids_NK, 0.0).sum(-1, keepdim=True)
        return torch.cat([known_NK, others_N1], dim=1)[:, : num + (num < 11)]

    p, q = merged(teacher_NV), merged(student_NV)
    assert found == pytest.approx(kd_temperature**2 * (p * (p / q).log()).sum().item(), rel=1e-3, abs=1e-3)
    whole = forward_kl(student_NV, teacher_NV, kd_temperature=kd_temperature).item()
    assert found <= whole + 1e-3
    if num == 11:
        assert found == pytest.approx(whole, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("num", [1, 5, 7])
def test_gradients_of_top_k_kl_are_right_and_vanish_at_the_teacher(num: int) -> None:
    student, teacher_NV = _rows(3, 7, 5, torch.float64).requires_grad_(), _rows(3, 7, 6, torch.float64)
    weights_N = torch.tensor([0.3, 0.0, 2.0], dtype=torch.float64)
    teacher = _top_k(teacher_NV, num, 2.5)
    assert torch.autograd.gradcheck(
        lambda rows: forward_kl_top_k(rows, teacher, kd_temperature=2.5, weights_N=weights_N), student
    )
    same = teacher_NV.clone().requires_grad_()
    loss = forward_kl_top_k(same, teacher, kd_temperature=2.5)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-9)
    assert same.grad is not None and same.grad.abs().max() < 1e-9


def test_top_k_kl_refuses_what_does_not_fit() -> None:
    teacher = TopK(torch.tensor([[0]]), torch.tensor([[-0.5]]))
    with pytest.raises(ValueError, match="kd_temperature is 0"):
        forward_kl_top_k(torch.zeros(1, 2), teacher, kd_temperature=0)
    with pytest.raises(ValueError, match="numbers of rows differ"):
        forward_kl_top_k(torch.zeros(2, 2), teacher)
    empty = torch.zeros(0, 7, requires_grad=True)
    forward_kl_top_k(empty, TopK(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 3))).backward()
    assert empty.grad is not None


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


@pytest.mark.parametrize("loss", [forward_kl, cosine, mse])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_paired_losses_are_right(loss, weighted: bool) -> None:
    student, teacher = _rows(3, 7, 5, torch.float64).requires_grad_(), _rows(3, 7, 6, torch.float64)
    weights_N = torch.tensor([0.3, 0.0, 2.0], dtype=torch.float64) if weighted else None
    extra = {"kd_temperature": 2.5} if loss is forward_kl else {}
    assert torch.autograd.gradcheck(lambda rows: loss(rows, teacher, weights_N=weights_N, **extra), student)


def test_gradients_of_cross_entropy_are_right() -> None:
    logits_NV, targets_N = _rows(3, 7, 5, torch.float64).requires_grad_(), torch.tensor([1, 6, 0])
    assert torch.autograd.gradcheck(lambda rows: cross_entropy(rows, targets_N), logits_NV)


@pytest.mark.parametrize("loss", [forward_kl, cosine, mse])
def test_an_empty_batch_gives_zero_with_a_gradient_path(loss) -> None:
    student = torch.zeros(0, 7, requires_grad=True)
    found = loss(student, torch.zeros(0, 7))
    found.backward()
    assert found.item() == 0 and student.grad is not None and student.grad.shape == (0, 7)


def test_an_empty_batch_gives_zero_cross_entropy_with_a_gradient_path() -> None:
    logits_NV = torch.zeros(0, 7, requires_grad=True)
    cross_entropy(logits_NV, torch.zeros(0, dtype=torch.long)).backward()
    assert logits_NV.grad is not None


@pytest.mark.parametrize("loss", [forward_kl, cosine, mse])
def test_bfloat16_inputs_are_computed_in_float32(loss) -> None:
    student, teacher = _rows(50, 300, 1, torch.bfloat16), _rows(50, 300, 2, torch.bfloat16)
    found = loss(student, teacher)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(student.double(), teacher.double()).item(), rel=1e-5)
    logits_NV, targets_N = _rows(50, 300, 1, torch.bfloat16), torch.arange(50)
    exact = cross_entropy(logits_NV.double(), targets_N).item()
    assert cross_entropy(logits_NV, targets_N).item() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("loss", [forward_kl, cosine, mse])
def test_rows_have_gradients_exactly_where_their_weight_is_not_zero(loss) -> None:
    student, teacher = _rows(4, 7, 5).requires_grad_(), _rows(4, 7, 6).requires_grad_()
    loss(student, teacher, weights_N=torch.tensor([1.0, 0.0, 0.5, 1e-3])).backward()
    assert student.grad is not None
    assert (student.grad.abs().sum(-1) > 0).tolist() == [True, False, True, True]
    assert teacher.grad is None


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="kd_temperature is 0"):
        forward_kl(torch.zeros(1, 2), torch.zeros(1, 2), kd_temperature=0)
    for loss in (forward_kl, cosine, mse):
        with pytest.raises(ValueError, match=r"student rows are \(1, 2\), teacher rows are \(1, 3\)"):
            loss(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="numbers of rows differ"):
        cross_entropy(torch.zeros(2, 3), torch.zeros(1, dtype=torch.long))
