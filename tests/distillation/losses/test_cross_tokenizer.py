import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fcdistill.distillation.losses.cross_tokenizer import (
    VocabularyMap,
    shared_string_kl,
    span_kl,
    span_logprobs,
    token_logprobs,
)
from fcdistill.distillation.losses.divergences import cross_entropy, forward_kl, top_k
from fcdistill.distillation.tokenizers.token_strings import StringPairs, TokenStrings

IDENTITY = VocabularyMap(torch.arange(9), torch.arange(9), 9, 9)
PARTIAL = VocabularyMap(torch.tensor([7, 0, 4, 2]), torch.tensor([1, 8, 3, 5]), 9, 11)
"""Four shared strings; five more of the student, seven of the teacher."""


def _rows(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale).to(dtype)


def test_a_vocabulary_map_of_two_tokenizers() -> None:
    student, teacher = (
        TokenStrings("t", (b"",) * size, frozenset(), frozenset(), frozenset(), stop_id=0) for size in (4, 5)
    )
    found = VocabularyMap.of(StringPairs(student, teacher, {3: 1, 0: 2}, 0.5))
    assert (found.student_ids_S.tolist(), found.teacher_ids_S.tolist()) == ([3, 0], [1, 2])
    assert (found.student_size, found.teacher_size, found.is_complete) == (4, 5, False)
    assert IDENTITY.is_complete and not PARTIAL.is_complete


@pytest.mark.parametrize("top_k", [None, 9, 64])
@pytest.mark.parametrize("kd_temperature", [1.0, 2.5])
def test_with_one_tokenizer_it_is_the_plain_forward_kl(top_k: int | None, kd_temperature: float) -> None:
    student_NV, teacher_NV, weights_N = _rows(6, 9, 0), _rows(6, 9, 1), torch.linspace(0, 2, 6)
    options = {"kd_temperature": kd_temperature, "weights_N": weights_N}
    expected = forward_kl(student_NV, teacher_NV, **options)  # type: ignore[arg-type]
    padded = torch.cat([student_NV, torch.full((6, 3), 50.0)], dim=1)
    found = shared_string_kl(padded, teacher_NV, IDENTITY, top_k=top_k, **options)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    permuted = VocabularyMap(torch.arange(9), torch.arange(9).flip(0), 9, 9)
    assert shared_string_kl(student_NV, teacher_NV.flip(1), permuted, top_k=top_k, **options).item() == pytest.approx(  # type: ignore[arg-type]
        expected.item(), rel=1e-6
    )


def _reference(student_NV: Tensor, teacher_NV: Tensor, kd_temperature: float, top_k: int) -> float:
    """Of PARTIAL, in probabilities: compared strings, then the mass of all other tokens."""
    pairs = list(zip(PARTIAL.student_ids_S.tolist(), PARTIAL.teacher_ids_S.tolist(), strict=True))
    total = 0.0
    for student_V, teacher_V in zip(student_NV.double(), teacher_NV.double(), strict=True):
        q, p = ((row / kd_temperature).softmax(-1).tolist() for row in (student_V, teacher_V))
        compared = sorted(pairs, key=lambda pair: -p[pair[1]])[:top_k]
        both = [(p[teacher], q[student]) for student, teacher in compared]
        both.append((1 - sum(a for a, _ in both), 1 - sum(b for _, b in both)))
        total += sum(a * math.log(a / b) for a, b in both)
    return total * kd_temperature**2


@given(seed=st.integers(0, 10**6), kd_temperature=st.floats(0.5, 5), top_k=st.integers(1, 3))
def test_shared_strings_and_a_bucket_equal_a_reference(seed: int, kd_temperature: float, top_k: int) -> None:
    student_NV, teacher_NV = _rows(3, 9, seed), _rows(3, 11, seed + 1)
    found = shared_string_kl(student_NV, teacher_NV, PARTIAL, kd_temperature=kd_temperature, top_k=top_k).item()
    assert found == pytest.approx(_reference(student_NV, teacher_NV, kd_temperature, top_k), rel=1e-3, abs=1e-4)
    assert found >= -1e-5


def test_more_compared_strings_see_more_of_the_divergence() -> None:
    student_NV, teacher_NV = _rows(50, 9, 0), _rows(50, 9, 1)
    found = [shared_string_kl(student_NV, teacher_NV, IDENTITY, top_k=k).item() for k in (1, 2, 4, 8)]
    assert found == sorted(found) and found[0] < 0.9 * found[-1]
    # A bucket of one string loses nothing.
    assert found[-1] == pytest.approx(forward_kl(student_NV, teacher_NV).item())


def test_a_bucket_exists_on_both_sides_even_if_a_side_has_no_other_token() -> None:
    whole = VocabularyMap(torch.arange(4), torch.tensor([1, 8, 3, 5]), 4, 11)
    student_NV = _rows(5, 4, 0).requires_grad_()
    teacher_NV = _rows(5, 11, 1)
    loss = shared_string_kl(student_NV, teacher_NV, whole, top_k=None)
    loss.backward()
    assert 0 < loss.item() < 100 and student_NV.grad is not None and student_NV.grad.isfinite().all()
    only_stop = VocabularyMap(torch.tensor([0]), torch.tensor([0]), 4, 11)
    assert shared_string_kl(student_NV, teacher_NV, only_stop).item() == 0


def _margins(values: list[float]) -> Tensor:
    """Logits of two tokens, of which the first is ahead by so much."""
    return torch.stack([torch.tensor(values), torch.zeros(len(values))], dim=1)


def test_token_logprobs_are_exact_where_log_softmax_rounds_to_zero() -> None:
    margins = [-50.0, -3.0, 0.0, 3.0, 16.0, 30.0, 60.0]
    found = token_logprobs(_margins(margins), torch.zeros(7, dtype=torch.long)).tolist()
    assert found == pytest.approx([-math.log1p(math.exp(-margin)) for margin in margins], rel=1e-6, abs=0)
    assert _margins(margins).log_softmax(1)[-2, 0] == 0 > found[-2]
    logits_NV, targets_N = _rows(20, 30, 3), torch.arange(20)
    assert token_logprobs(logits_NV, targets_N).sum().item() == pytest.approx(
        -cross_entropy(logits_NV, targets_N).item(), rel=1e-6
    )


def test_span_logprobs_sum_over_tokens_in_any_order() -> None:
    found = span_logprobs(torch.tensor([-1.0, -2.0, -4.0, -8.0]), torch.tensor([1, 0, 1, 3]), 4)
    assert found.tolist() == [-2, -5, 0, -8]


def _binary_kl(logp: float, logq: float, kd_temperature: float) -> float:
    p, q = math.exp(logp / kd_temperature), math.exp(logq / kd_temperature)
    return kd_temperature * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))


@given(logp=st.floats(-20, -1e-3), logq=st.floats(-20, -1e-3), kd_temperature=st.floats(0.5, 5), weight=st.floats(0, 3))
def test_span_kl_equals_its_formula(logp: float, logq: float, kd_temperature: float, weight: float) -> None:
    student_Q, teacher_Q = torch.tensor([logq, -1.0]), torch.tensor([logp, -1.0])
    found = span_kl(student_Q, teacher_Q, kd_temperature=kd_temperature, weights_Q=torch.tensor([weight, 5.0])).item()
    assert found == pytest.approx(weight * _binary_kl(logp, logq, kd_temperature), rel=1e-3, abs=1e-4)
    assert found >= -1e-5


def test_span_kl_has_a_limit_at_high_temperatures() -> None:
    student_Q, teacher_Q = (torch.tensor([value], dtype=torch.float64) for value in (-3.0, -0.5))
    limit = 2.5 - 0.5 * math.log(3.0 / 0.5)
    assert span_kl(student_Q, teacher_Q, kd_temperature=1e6).item() == pytest.approx(limit, rel=1e-5)


@pytest.mark.parametrize("kd_temperature", [1.0, 4.0])
@pytest.mark.parametrize("student", [-60.0, -5.0, 0.0, 5.0, 20.0, 60.0, 100.0])
@pytest.mark.parametrize("teacher", [-60.0, -5.0, 0.0, 5.0, 20.0, 60.0, 100.0])
def test_spans_of_certain_and_of_hopeless_text_have_finite_losses_and_right_gradients(
    student: float, teacher: float, kd_temperature: float
) -> None:
    """At temperature 1 the gradient with respect to a token's log-odds is q - p."""
    first = torch.tensor([0])
    logits_NV = _margins([student]).requires_grad_()
    loss = span_kl(
        token_logprobs(logits_NV, first), token_logprobs(_margins([teacher]), first), kd_temperature=kd_temperature
    )
    loss.backward()
    assert logits_NV.grad is not None and logits_NV.grad.isfinite().all() and loss.isfinite()
    assert loss.item() >= -1e-5 and logits_NV.grad.abs().max() <= 1.01 * kd_temperature
    if student == teacher:
        assert loss.item() == 0 and logits_NV.grad.abs().max() < 1e-6
    if kd_temperature == 1 and student < 69:  # beyond, the likelihood counts as certain
        expected = 1 / (1 + math.exp(-student)) - 1 / (1 + math.exp(-teacher))
        assert logits_NV.grad[0, 0].item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_against_a_certain_teacher_every_span_is_the_cross_entropy_of_its_tokens() -> None:
    """So that strings and longer spans add up to the scale of a per-token loss, however the text is cut."""
    student_NV, targets_N = _rows(6, 9, 3), torch.tensor([1, 8, 4, 2, 0, 5])
    certain_NV = torch.nn.functional.one_hot(targets_N, 9) * 200.0
    expected = cross_entropy(student_NV, targets_N).item()
    assert shared_string_kl(student_NV, certain_NV, IDENTITY, top_k=3).item() == pytest.approx(expected, rel=1e-6)
    for spans_I, num_spans in (([0, 1, 2, 3, 4, 5], 6), ([0, 0, 1, 1, 1, 2], 3), ([0] * 6, 1)):
        student_Q, teacher_Q = (
            span_logprobs(token_logprobs(logits_NV, targets_N), torch.tensor(spans_I), num_spans)
            for logits_NV in (student_NV, certain_NV)
        )
        assert span_kl(student_Q, teacher_Q).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("top_k", [None, 2])
def test_gradients_of_shared_strings_are_right(top_k: int | None) -> None:
    student_NV, teacher_NV = _rows(3, 9, 5, torch.float64).requires_grad_(), _rows(3, 11, 6, torch.float64)
    weights_N = torch.tensor([0.3, 0.0, 2.0], dtype=torch.float64)

    def loss(rows: Tensor) -> Tensor:
        return shared_string_kl(rows, teacher_NV, PARTIAL, kd_temperature=2.5, top_k=top_k, weights_N=weights_N)

    assert torch.autograd.gradcheck(loss, student_NV)


def test_gradients_of_spans_are_right() -> None:
    logits_NV, teacher_Q = _rows(4, 7, 5, torch.float64).requires_grad_(), torch.tensor([-0.1, -4.0]).double()
    targets_N, spans_N, weights_Q = torch.tensor([1, 6, 0, 3]), torch.tensor([0, 1, 1, 1]), torch.tensor([0.5, 2.0])

    def loss(rows: Tensor) -> Tensor:
        student_Q = span_logprobs(token_logprobs(rows, targets_N), spans_N, 2)
        return span_kl(student_Q, teacher_Q, kd_temperature=1.5, weights_Q=weights_Q)

    assert torch.autograd.gradcheck(loss, logits_NV)


def test_gradients_reach_the_student_only_and_where_weights_are() -> None:
    student_NV, teacher_NV = _rows(4, 9, 5).requires_grad_(), _rows(4, 11, 6).requires_grad_()
    shared_string_kl(student_NV, teacher_NV, PARTIAL, weights_N=torch.tensor([1.0, 0.0, 0.5, 1e-3])).backward()
    assert student_NV.grad is not None and teacher_NV.grad is None
    assert (student_NV.grad.abs().sum(-1) > 0).tolist() == [True, False, True, True]
    student_Q, teacher_Q = torch.tensor([-1.0, -2.0]).requires_grad_(), torch.tensor([-0.1, -0.2]).requires_grad_()
    span_kl(student_Q, teacher_Q, weights_Q=torch.tensor([0.0, 1.0])).backward()
    assert student_Q.grad is not None and (student_Q.grad != 0).tolist() == [False, True] and teacher_Q.grad is None


def test_bfloat16_inputs_are_computed_in_float32() -> None:
    student_NV, teacher_NV = _rows(50, 9, 1, torch.bfloat16), _rows(50, 11, 2, torch.bfloat16)
    found = shared_string_kl(student_NV, teacher_NV, PARTIAL)
    assert found.dtype == torch.float32
    exact = shared_string_kl(student_NV.double(), teacher_NV.double(), PARTIAL)
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)
    assert token_logprobs(student_NV, torch.arange(50) % 9).dtype == torch.float32


def test_empty_batches_give_zero_with_a_gradient_path() -> None:
    student_NV, none = torch.zeros(0, 9, requires_grad=True), torch.zeros(0, dtype=torch.long)
    strings = shared_string_kl(student_NV, torch.zeros(0, 11), PARTIAL)
    spans = span_kl(span_logprobs(token_logprobs(student_NV, none), none, 0), torch.zeros(0))
    (strings + spans).backward()
    assert strings.item() == spans.item() == 0 and student_NV.grad is not None


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="kd_temperature is 0"):
        shared_string_kl(torch.zeros(1, 9), torch.zeros(1, 11), PARTIAL, kd_temperature=0)
    with pytest.raises(ValueError, match="kd_temperature is -1"):
        span_kl(torch.zeros(1), torch.zeros(1), kd_temperature=-1)
    with pytest.raises(ValueError, match="numbers of rows differ: 1 of the student, 2 of the teacher"):
        shared_string_kl(torch.zeros(1, 9), torch.zeros(2, 11), PARTIAL)
    with pytest.raises(ValueError, match=r"student spans are \(1,\), teacher spans are \(2,\)"):
        span_kl(torch.zeros(1), torch.zeros(2))


@pytest.mark.parametrize("kd_temperature", [0.05, 0.3, 0.49, 1.0])
def test_a_cached_teacher_of_another_tokenizer_has_a_finite_loss_at_any_temperature(kd_temperature: float) -> None:
    student_NV, teacher_NV = _rows(5, 9, 0), _rows(5, 11, 1)
    kept = top_k(teacher_NV, 6, kd_temperature=kd_temperature)
    student_NV.requires_grad_()
    loss = shared_string_kl(student_NV, kept, PARTIAL, top_k=4, kd_temperature=kd_temperature)
    (gradient,) = torch.autograd.grad(loss, student_NV)
    assert loss.isfinite() and loss > 0
    assert gradient.isfinite().all() and gradient.any()
