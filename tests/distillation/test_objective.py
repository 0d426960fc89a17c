import weakref
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fcdistill.config import Divergence, ObjectiveConfig
from fcdistill.distillation import objective as module
from fcdistill.distillation.forward import ModelRows
from fcdistill.distillation.layers import Projectors
from fcdistill.distillation.losses import (
    forward_kl,
    hinge,
    jsd,
    logistic_ranking,
    reverse_kl,
    skew_kl,
    top_k,
    tvd,
)
from fcdistill.distillation.objective import StepTotals, components, total_loss

CONFIG = ObjectiveConfig(ce_weight=2.0, kd_weight=3.0, hidden_weight=5.0)
PAIRS = ((1, 2),)


PARAMETERS: dict[Divergence, dict[str, Any]] = {
    "jsd": {"jsd_beta": 0.3},
    "skew_kl": {"skew_alpha": 0.4},
    "logistic_ranking": {"ranking_top_k": 5},
    "hinge": {"ranking_top_k": 5},
}
DIVERGENCES: dict[Divergence, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd": lambda *rows, **extra: jsd(*rows, beta=0.3, **extra),
    "skew_kl": lambda *rows, **extra: skew_kl(*rows, alpha=0.4, **extra),
    "tvd": tvd,
    "logistic_ranking": lambda *rows, **extra: _of_top_five(logistic_ranking, *rows, **extra),
    "hinge": lambda *rows, **extra: _of_top_five(hinge, *rows, **extra),
}

each_divergence = pytest.mark.parametrize("divergence", get_args(Divergence))


def _of_top_five(loss: Callable[..., Tensor], student_NV: Tensor, teacher_NV: Tensor, **extra: Any) -> Tensor:
    return loss(student_NV, top_k(teacher_NV, 5, kd_temperature=extra["kd_temperature"]), **extra)


def _config(divergence: Divergence, **extra: Any) -> ObjectiveConfig:
    return ObjectiveConfig(**{"kd_weight": 3.0} | extra, kd_divergence=divergence, **PARAMETERS.get(divergence, {}))


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


@each_divergence
def test_chunks_give_the_loss_and_gradients_of_all_rows_at_once(
    divergence: Divergence, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(divergence, ce_weight=2.0, hidden_weight=5.0, kd_temperature=2.0)
    whole, loss, gradient = _loss(config, 20)
    for size in (1, 7, 19):
        monkeypatch.setattr(module, "_CHUNK_ROWS", size)
        chunked, chunked_loss, chunked_gradient = _loss(config, 20)
        assert chunked == pytest.approx(whole, rel=1e-6) and chunked_loss == pytest.approx(loss, rel=1e-6)
        assert torch.allclose(chunked_gradient, gradient, atol=1e-7)


def test_the_loss_is_the_weighted_sum_of_the_components() -> None:
    found, loss, _ = _loss(CONFIG, 5)
    assert loss == pytest.approx(2 * found["ce"] + 3 * found["kd"] + 5 * found["hidden"], rel=1e-6)


def test_terms_without_weight_are_not_computed() -> None:
    assert _loss(ObjectiveConfig(), 5)[0].keys() == {"ce"}
    assert _loss(ObjectiveConfig(ce_weight=0, kd_weight=1), 5)[0].keys() == {"kd"}


@each_divergence
def test_the_logit_term_is_the_chosen_divergence_with_its_parameter(divergence: Divergence) -> None:
    generator = torch.Generator().manual_seed(0)
    student_NV, teacher_NV = torch.randn(6, 13, generator=generator), torch.randn(6, 11, generator=generator)
    weights_N = torch.linspace(0, 2, 6)
    found = components(
        _config(divergence, ce_weight=0, kd_temperature=2.0),
        ModelRows(student_NV, {}),
        ModelRows(teacher_NV, {}),
        targets_N=torch.arange(6),
        weights_N=weights_N,
        pairs=(),
        projectors=None,
        totals=StepTotals(torch.tensor(40.0), torch.tensor(0.0)),
    )
    expected = DIVERGENCES[divergence](student_NV[:, :11], teacher_NV, kd_temperature=2.0, weights_N=weights_N)
    assert found["kd"].item() == pytest.approx(expected.item() / 40, rel=1e-6)
    assert found["kd"].item() > 0


@pytest.mark.parametrize("divergence", ["logistic_ranking", "hinge"])
def test_a_ranking_of_more_tokens_than_there_are_ranks_them_all(divergence: Divergence) -> None:
    config = {"ce_weight": 0, "kd_weight": 1, "kd_divergence": divergence}
    expected = _loss(ObjectiveConfig(**config, ranking_top_k=11), 5)
    assert _loss(ObjectiveConfig(**config, ranking_top_k=100), 5)[0] == expected[0]


@each_divergence
def test_the_teacher_decides_about_shared_columns_only(divergence: Divergence) -> None:
    """The student's columns beyond the shared vocabulary get gradients from cross-entropy, none from the teacher."""
    gradient_NV = _loss(_config(divergence, ce_weight=0), 5)[2]
    assert gradient_NV[:, 11:].abs().max() == 0 and gradient_NV[:, :11].abs().max() > 0
    assert _loss(ObjectiveConfig(), 5)[2][:, 11:].abs().max() > 0


class _Float32Bytes(TorchDispatchMode):
    """Follows the float32 tensors that operations make: bytes alive now and at most, and the largest tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = self.largest = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32:
                storage = tensor.untyped_storage()
                if storage not in self._seen:
                    self._seen.add(storage)
                    self.alive += storage.nbytes()
                    weakref.finalize(storage, self._free, storage.nbytes())
                self.largest = max(self.largest, storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return made

    def _free(self, num_bytes: int) -> None:
        self.alive -= num_bytes


def _float32_bytes(config: ObjectiveConfig, rows: int, columns: int) -> tuple[_Float32Bytes, int]:
    """What a forward and a backward pass over bfloat16 logits make, and the bytes that wait between the two."""
    logits_NV = torch.randn(rows, columns).bfloat16().requires_grad_()
    teacher_NV = torch.randn(rows, columns).bfloat16()
    given = {"targets_N": torch.arange(rows) % columns, "weights_N": torch.ones(rows)}
    totals = StepTotals(torch.tensor(40.0), torch.tensor(1.0))
    with _Float32Bytes() as mode:
        found = components(
            config,
            ModelRows(logits_NV, {}),
            ModelRows(teacher_NV, {}),
            **given,
            pairs=(),
            projectors=None,
            totals=totals,
        )
        waiting = mode.alive
        total_loss(config, found).backward()
    assert logits_NV.grad is not None and logits_NV.grad.dtype == torch.bfloat16
    return mode, waiting


@each_divergence
def test_float32_intermediates_of_all_rows_never_exist_together(
    divergence: Divergence, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns = 8, 4096
    chunk_bytes = 4 * rows * columns
    monkeypatch.setattr(module, "_CHUNK_ROWS", rows)
    single, _ = _float32_bytes(_config(divergence), rows, columns)
    assert single.largest == chunk_bytes
    two, _ = _float32_bytes(_config(divergence), 2 * rows, columns)
    many, waiting = _float32_bytes(_config(divergence), 16 * rows - 3, columns)
    assert many.largest == chunk_bytes
    assert waiting < chunk_bytes / 100
    assert many.peak <= 1.01 * two.peak
    assert two.peak <= 1.01 * single.peak
