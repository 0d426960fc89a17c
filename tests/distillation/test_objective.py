import pytest
import torch

from fcdistill.config import ObjectiveConfig
from fcdistill.distillation import objective as module
from fcdistill.distillation.forward import ModelRows
from fcdistill.distillation.layers import Projectors
from fcdistill.distillation.losses import TopK
from fcdistill.distillation.objective import StepTotals, components, total_loss
from fcdistill.distillation.signals import CachedRows

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


def test_the_teacher_decides_about_shared_columns_only() -> None:
    """The student's columns beyond the shared vocabulary get gradients from cross-entropy, none from the teacher."""
    assert _loss(ObjectiveConfig(ce_weight=0, kd_weight=1), 5)[2][:, 11:].abs().max() == 0
    assert _loss(ObjectiveConfig(), 5)[2][:, 11:].abs().max() > 0


@pytest.mark.parametrize("chunk", [512, 7])
def test_a_cached_teacher_that_knows_all_tokens_gives_the_loss_and_gradients_of_one_that_runs(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROWS", chunk)
    config = ObjectiveConfig(ce_weight=0, kd_weight=1, kd_temperature=2.0)
    generator = torch.Generator().manual_seed(0)
    student_NV, teacher_NV = (torch.randn(20, columns, generator=generator) for columns in (13, 11))
    logprobs_NK, ids_NK = (teacher_NV / 2.0).log_softmax(-1).sort(descending=True)
    found = []
    for teacher in (ModelRows(teacher_NV, {}), CachedRows(TopK(ids_NK, logprobs_NK), 11, {})):
        rows_NV = student_NV.clone().requires_grad_()
        loss = components(
            config,
            ModelRows(rows_NV, {}),
            teacher,
            targets_N=torch.zeros(20, dtype=torch.long),
            weights_N=torch.linspace(0, 2, 20),
            pairs=(),
            projectors=None,
            totals=StepTotals(torch.tensor(40.0), torch.tensor(80.0)),
        )["kd"]
        loss.backward()
        assert rows_NV.grad is not None and rows_NV.grad[:, 11:].abs().max() == 0
        found.append((loss.item(), rows_NV.grad))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5) and found[0][0] > 0.01
    assert torch.allclose(found[1][1], found[0][1], atol=1e-7)
