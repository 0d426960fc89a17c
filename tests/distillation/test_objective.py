import pytest
import torch

from fcdistill.config import ObjectiveConfig
from fcdistill.distillation import objective as module
from fcdistill.distillation.alignment import VocabularyMap, shared_string_kl
from fcdistill.distillation.forward import ModelRows
from fcdistill.distillation.layers import Projectors
from fcdistill.distillation.objective import SpanRows, StepTotals, components, total_loss

CONFIG = ObjectiveConfig(ce_weight=2.0, kd_weight=3.0, hidden_weight=5.0)
PAIRS = ((1, 2),)


def _loss(config: ObjectiveConfig, rows: int) -> tuple[dict[str, float], float, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits_NV = torch.randn(rows, 13, generator=generator).requires_grad_()
    hidden_MH = torch.randn(rows, 4, generator=generator)
    found = components(
        config,
        ModelRows(logits_NV, {1: hidden_MH}),
        ModelRows(torch.randn(rows, 11, generator=generator), {2: torch.randn(rows, 4, generator=generator)}),
        targets_N=torch.arange(rows) % 11,
        weights_N=torch.linspace(0, 2, rows),
        pairs=PAIRS,
        projectors=Projectors(PAIRS, 4, 4),
        totals=StepTotals(torch.tensor(40.0), torch.tensor(80.0)),
    )
    loss = total_loss(config, found)
    loss.backward()
    assert logits_NV.grad is not None
    return {name: value.item() for name, value in found.items()}, loss.item(), logits_NV.grad


def test_chunks_give_the_loss_and_gradients_of_all_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, loss, gradient = _loss(CONFIG, 20)
    for size in (1, 7, 19):
        monkeypatch.setattr(module, "_CHUNK_ROWS", size)
        chunked, chunked_loss, chunked_gradient = _loss(CONFIG, 20)
        assert chunked == pytest.approx(whole, rel=1e-6) and chunked_loss == pytest.approx(loss, rel=1e-6)
        assert torch.allclose(chunked_gradient, gradient, atol=1e-7)


def test_the_loss_is_the_weighted_sum_of_the_components() -> None:
    found, loss, _ = _loss(CONFIG, 5)
    assert loss == pytest.approx(2 * found["ce"] + 3 * found["kd"] + 5 * found["hidden"], rel=1e-6)


def test_terms_without_weight_are_not_computed() -> None:
    assert _loss(ObjectiveConfig(), 5)[0].keys() == {"ce"}
    assert _loss(ObjectiveConfig(ce_weight=0, kd_weight=1), 5)[0].keys() == {"kd"}


ALIGNED = VocabularyMap(torch.arange(5), torch.arange(5) + 2, 12, 9)


def _aligned_rows(rows: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Logits of both sides and how they belong together: even rows are paired, odd ones form spans of up to two."""
    generator = torch.Generator().manual_seed(0)
    odd = torch.arange(1, rows, 2)
    spans = {
        "teacher_targets_U": torch.arange(rows) % 7,
        "paired_student_P": torch.arange(0, rows, 2),
        "paired_teacher_P": torch.arange(0, rows, 2).flip(0),
        "span_tokens_student_I": odd,
        "span_student_I": torch.arange(len(odd)) // 2,
        "span_tokens_teacher_J": odd.flip(0),
        "span_teacher_J": torch.arange(len(odd)) // 2,
        "span_weights_Q": torch.linspace(1, 2, (len(odd) + 1) // 2),
    }
    return torch.randn(rows, 13, generator=generator), torch.randn(rows, 9, generator=generator), spans


def _aligned_loss(config: ObjectiveConfig, rows: int) -> tuple[float, torch.Tensor]:
    logits_NV, teacher_UV, spans = _aligned_rows(rows)
    logits_NV.requires_grad_()
    found = components(
        config,
        ModelRows(logits_NV, {}),
        ModelRows(teacher_UV, {}),
        targets_N=torch.arange(rows) % 11,
        weights_N=torch.linspace(0, 2, rows),
        pairs=(),
        projectors=None,
        totals=StepTotals(torch.tensor(40.0), torch.tensor(80.0)),
        spans=SpanRows(spans, ALIGNED),
    )
    assert found.keys() == {"kd"}
    found["kd"].backward()
    assert logits_NV.grad is not None
    return found["kd"].item(), logits_NV.grad


def test_the_loss_between_two_tokenizers_equals_one_by_hand() -> None:
    student_NV, teacher_UV, spans = _aligned_rows(10)
    weights_N = torch.linspace(0, 2, 10)
    total = 0.0
    for student, teacher in zip(spans["paired_student_P"], spans["paired_teacher_P"], strict=True):
        rows = student_NV[student][None], teacher_UV[teacher][None]
        total += (shared_string_kl(*rows, ALIGNED, kd_temperature=2.0, top_k=3) * weights_N[student]).item()
    student_logprobs = student_NV[:, :12].log_softmax(1)
    teacher_logprobs = teacher_UV.log_softmax(1)
    for span, weight in enumerate(spans["span_weights_Q"]):
        student_rows = spans["span_tokens_student_I"][spans["span_student_I"] == span]
        teacher_rows = spans["span_tokens_teacher_J"][spans["span_teacher_J"] == span]
        q = (sum(student_logprobs[row, row % 11] for row in student_rows) / 2).exp()
        p = (sum(teacher_logprobs[row, row % 7] for row in teacher_rows) / 2).exp()
        total += 2 * (weight * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())).item()
    config = ObjectiveConfig(ce_weight=0, kd_weight=1, kd_temperature=2.0, aligned_top_k=3)
    assert _aligned_loss(config, 10)[0] == pytest.approx(total / 40, rel=1e-5)


def test_chunks_do_not_change_the_loss_between_two_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ObjectiveConfig(ce_weight=0, kd_weight=1, kd_temperature=2.0)
    loss, gradient = _aligned_loss(config, 20)
    for size in (1, 3, 9):
        monkeypatch.setattr(module, "_CHUNK_ROWS", size)
        chunked, chunked_gradient = _aligned_loss(config, 20)
        assert chunked == pytest.approx(loss, rel=1e-6)
        assert torch.allclose(chunked_gradient, gradient, atol=1e-7)


def test_between_two_tokenizers_every_row_is_distilled_and_padding_is_not() -> None:
    config = ObjectiveConfig(ce_weight=0, kd_weight=1, aligned_top_k=2)
    _, gradient = _aligned_loss(config, 20)
    assert (gradient[1:].abs().sum(1) > 0).all() and (gradient[:, 12:] == 0).all()


def test_with_one_tokenizer_the_aligned_path_has_the_value_and_gradients_of_the_plain_one() -> None:
    config = ObjectiveConfig(ce_weight=0, kd_weight=1, kd_temperature=2.0)
    generator = torch.Generator().manual_seed(1)
    teacher_NV = torch.randn(8, 11, generator=generator)
    rows_N, none = torch.arange(8), torch.zeros(0, dtype=torch.long)
    spans = dict.fromkeys(("span_tokens_student_I", "span_student_I", "span_tokens_teacher_J", "span_teacher_J"), none)
    spans |= {"teacher_targets_U": rows_N, "paired_student_P": rows_N, "paired_teacher_P": rows_N}
    spans |= {"span_weights_Q": torch.zeros(0)}
    found = []
    for aligned in (None, SpanRows(spans, VocabularyMap(torch.arange(11), torch.arange(11), 11, 11))):
        logits_NV = torch.randn(8, 13, generator=torch.Generator().manual_seed(2)).requires_grad_()
        loss = components(
            config,
            ModelRows(logits_NV, {}),
            ModelRows(teacher_NV, {}),
            targets_N=rows_N,
            weights_N=torch.linspace(0, 2, 8),
            pairs=(),
            projectors=None,
            totals=StepTotals(torch.tensor(8.0), torch.tensor(8.0)),
            spans=aligned,
        )["kd"]
        loss.backward()
        found.append((loss.item(), logits_NV.grad))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    assert torch.allclose(found[1][1], found[0][1], atol=1e-7)


def test_the_teacher_decides_about_shared_columns_only() -> None:
    """The student's columns beyond the shared vocabulary get gradients from cross-entropy, none from the teacher."""
    assert _loss(ObjectiveConfig(ce_weight=0, kd_weight=1), 5)[2][:, 11:].abs().max() == 0
    assert _loss(ObjectiveConfig(), 5)[2][:, 11:].abs().max() > 0
