from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.config import KdGate
from fcdistill.distillation.batches import SpanTensors
from fcdistill.distillation.losses import chunks
from fcdistill.distillation.losses.gating import row_gate, span_gates
from fcdistill.distillation.losses.soft_labels import LogitLabels, TopKLabels

LOGITS_NV = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [1.0, 3.0, 3.0], [1.0, 3.0, 3.0]])
TARGETS_N = torch.tensor([0, 1, 2, 0])
"""Agreed, contradicted, one of two likeliest tokens, contradicted."""


def _logprobs(logits_NV: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    return logits_NV.log_softmax(-1).gather(1, targets_N[:, None])[:, 0]


def _top_k(logits_NV: torch.Tensor, k: int, targets_N: torch.Tensor) -> TopKLabels:
    """The k likeliest tokens; a gate that looked at their log-probabilities at kd_temperature would be no number."""
    logprobs_NK, ids_NK = logits_NV.log_softmax(-1).topk(k)
    return TopKLabels(ids_NK, torch.full_like(logprobs_NK, torch.nan), logprobs_NK, _logprobs(logits_NV, targets_N))


@pytest.mark.parametrize("top_k", [None, 3], ids=["dense", "top_k"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_contradicted_token_has_no_gate_or_its_probability(top_k: int | None, dtype: torch.dtype) -> None:
    logits_NV = LOGITS_NV.to(dtype)
    labels = LogitLabels(logits_NV) if top_k is None else _top_k(logits_NV, top_k, TARGETS_N)
    probs_NV = LOGITS_NV.double().softmax(-1)
    assert row_gate("off", labels, TARGETS_N).tolist() == [1, 1, 1, 1]
    assert row_gate("agree", labels, TARGETS_N).tolist() == [1, 0, 1, 0]
    rounding = 1e-6 if top_k is None or dtype != torch.bfloat16 else 0.01
    expected = [1, probs_NV[1, 1].item(), 1, probs_NV[3, 0].item()]
    assert row_gate("prob", labels, TARGETS_N).tolist() == pytest.approx(expected, abs=rounding)


def test_a_token_outside_the_top_k_is_contradicted_and_its_probability_is_known() -> None:
    labels = _top_k(LOGITS_NV, 1, TARGETS_N)
    assert row_gate("agree", labels, TARGETS_N).tolist()[:2] == [1, 0]
    found = row_gate("prob", labels, TARGETS_N)
    assert found[[0, 1, 3]].tolist() == pytest.approx(
        [1, LOGITS_NV[1].softmax(-1)[1].item(), LOGITS_NV[3].softmax(-1)[0].item()]
    )


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_gates_are_ordered_and_those_of_a_top_k_are_the_same(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits_NV = 4 * torch.randn(6, 9, generator=generator)
    targets_N = torch.randint(9, (6,), generator=generator)
    dense = [row_gate(kd_gate, LogitLabels(logits_NV), targets_N) for kd_gate in get_args(KdGate)]
    kept = [row_gate(kd_gate, _top_k(logits_NV, k, targets_N), targets_N) for kd_gate in get_args(KdGate)]
    for off, agree, prob in (dense, kept):
        assert (off >= prob).all() and (prob >= agree).all() and (agree >= 0).all()
    assert torch.equal(kept[1], dense[1]), "the likeliest token is always kept"
    assert torch.allclose(kept[2], dense[2], atol=1e-6)


@pytest.mark.parametrize("chunk", [512, 2])
def test_a_span_is_gated_by_the_teachers_own_tokens_of_it(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Teacher tokens 0 and 4 are pairs; 1 and 2 form the first longer span, 3 the second."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", chunk)
    teacher_UV = torch.cat([LOGITS_NV, LOGITS_NV[:1]])
    labels = LogitLabels(teacher_UV)
    spans: SpanTensors = {
        "teacher_targets_U": torch.tensor([1, 1, 1, 2, 0]),
        "paired_student_P": torch.tensor([3, 0]),
        "paired_teacher_P": torch.tensor([4, 0]),
        "span_tokens_student_I": torch.tensor([1, 2]),
        "span_student_I": torch.tensor([0, 1]),
        "span_tokens_teacher_J": torch.tensor([1, 2, 3]),
        "span_teacher_J": torch.tensor([0, 0, 1]),
        "span_weights_Q": torch.ones(2),
    }
    second = LOGITS_NV[0].softmax(-1)[1].item()
    for kd_gate in get_args(KdGate):
        kept = span_gates(kd_gate, _top_k(teacher_UV, 3, spans["teacher_targets_U"]), spans)
        for found, expected in zip(kept, span_gates(kd_gate, labels, spans), strict=True):
            assert torch.allclose(found, expected)
    assert [gates.tolist() for gates in span_gates("off", labels, spans)] == [[1, 1], [1, 1]]
    assert [gates.tolist() for gates in span_gates("agree", labels, spans)] == [[1, 0], [0, 1]]
    gate_P, gate_Q = span_gates("prob", labels, spans)
    assert gate_P.tolist() == pytest.approx([1, second]) and gate_Q.tolist() == pytest.approx([second, 1])
    spans["teacher_targets_U"][2] = 0
    assert span_gates("prob", labels, spans)[1].tolist() == pytest.approx(
        [second * LOGITS_NV[2].softmax(-1)[0].item(), 1]
    )


def test_no_rows_have_no_gates() -> None:
    for kd_gate in get_args(KdGate):
        assert row_gate(kd_gate, LogitLabels(torch.zeros(0, 3)), torch.zeros(0, dtype=torch.long)).shape == (0,)
