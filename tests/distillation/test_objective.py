import weakref
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fcdistill.config import Divergence, KdGate, ObjectiveConfig
from fcdistill.distillation import objective
from fcdistill.distillation.losses import chunks
from fcdistill.distillation.losses.cross_tokenizer import VocabularyMap, shared_string_kl
from fcdistill.distillation.losses.divergences import (
    TopK,
    cross_entropy,
    forward_kl,
    hinge,
    jsd,
    logistic_ranking,
    reverse_kl,
    skew_kl,
    top_k,
    tvd,
)
from fcdistill.distillation.losses.gating import row_gate
from fcdistill.distillation.losses.soft_labels import LogitLabels, TopKLabels
from fcdistill.distillation.objective import SpanRows, StepTotals, loss_and_components
from fcdistill.distillation.packed.forward import ModelRows
from fcdistill.distillation.signals.sources import CachedRows
from fcdistill.distillation.student.projectors import Projectors
from fcdistill.errors import ConfigError

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

WITH_CACHE = [name for name in get_args(Divergence) if name != "reverse_kl"]

each_signal = pytest.mark.parametrize(
    ("divergence", "num_cached"), [(name, None) for name in get_args(Divergence)] + [(name, 4) for name in WITH_CACHE]
)
"""Every divergence with a teacher that runs, and with one of which a cache holds the four likeliest tokens."""


def _of_top_five(loss: Callable[..., Tensor], student_NV: Tensor, teacher: Tensor | TopK, **extra: Any) -> Tensor:
    if isinstance(teacher, Tensor):
        teacher = top_k(teacher, 5, kd_temperature=extra["kd_temperature"])
    return loss(student_NV, teacher, **extra)


def _teacher(
    config: ObjectiveConfig,
    logits_NV: Tensor,
    num_cached: int | None,
    hidden_MH: dict[int, Tensor],
    targets_N: Tensor | None = None,
) -> ModelRows | CachedRows:
    if num_cached is None:
        return ModelRows(logits_NV, hidden_MH)
    kept = top_k(logits_NV, num_cached, kd_temperature=config.kd_temperature)
    logprobs_NV = logits_NV.log_softmax(-1)
    if targets_N is None:
        targets_N = torch.arange(len(logits_NV)) % logits_NV.shape[1]
    target_logprobs_N = logprobs_NV.gather(1, targets_N[:, None])[:, 0]
    labels = TopKLabels(kept.ids_NK, kept.logprobs_NK, logprobs_NV.gather(1, kept.ids_NK), target_logprobs_N)
    return CachedRows(labels, logits_NV.shape[1], hidden_MH)


def _config(divergence: Divergence, **extra: Any) -> ObjectiveConfig:
    return ObjectiveConfig(**{"kd_weight": 3.0} | extra, kd_divergence=divergence, **PARAMETERS.get(divergence, {}))


def _loss(
    config: ObjectiveConfig, rows: int, num_cached: int | None = None
) -> tuple[dict[str, float], float, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits_NV = torch.randn(rows, 13, generator=generator).requires_grad_()
    hidden_MH = torch.randn(rows, 4, generator=generator)
    teacher_NV = torch.randn(rows, 11, generator=generator)
    loss, found = loss_and_components(
        config,
        ModelRows(logits_NV, {1: hidden_MH}),
        _teacher(config, teacher_NV, num_cached, {2: torch.randn(rows, 4, generator=generator)}),
        targets_N=torch.arange(rows) % 11,
        weights_N=torch.linspace(0, 2, rows),
        pairs=PAIRS,
        projectors=Projectors(PAIRS, 4, 4),
        totals=StepTotals(torch.tensor(40.0), torch.tensor(80.0)),
    )
    loss.backward()
    assert logits_NV.grad is not None
    return {name: value.item() for name, value in found.items()}, loss.item(), logits_NV.grad


@each_signal
def test_chunks_give_the_loss_and_gradients_of_all_rows_at_once(
    divergence: Divergence, num_cached: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(divergence, ce_weight=2.0, hidden_weight=5.0, kd_temperature=2.0)
    whole, loss, gradient = _loss(config, 20, num_cached)
    for size in (1, 7, 19):
        monkeypatch.setattr(chunks, "CHUNK_ROWS", size)
        chunked, chunked_loss, chunked_gradient = _loss(config, 20, num_cached)
        assert chunked == pytest.approx(whole, rel=1e-6) and chunked_loss == pytest.approx(loss, rel=1e-6)
        assert torch.allclose(chunked_gradient, gradient, atol=1e-7)


def _twenty_rows(logits_NV: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return loss_and_components(
        ObjectiveConfig(ce_weight=2.0),
        ModelRows(logits_NV, {}),
        None,
        targets_N=torch.arange(20) % 11,
        weights_N=torch.ones(20),
        pairs=(),
        projectors=None,
        totals=StepTotals(torch.tensor(40.0), torch.tensor(0.0)),
    )


def test_each_chunk_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(logits_NV: Tensor, *others: Any, **named: Any) -> Tensor:
        sizes.append(len(logits_NV))
        return cross_entropy(logits_NV, *others, **named)

    monkeypatch.setattr(objective, "cross_entropy", counted)
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 8)
    _twenty_rows(torch.randn(20, 13).requires_grad_())[0].backward()
    assert sizes == [8, 8, 4]


def test_gradients_follow_what_the_loss_is_multiplied_with_and_only_the_loss_has_any() -> None:
    given_NV = torch.randn(20, 13, generator=torch.Generator().manual_seed(0))
    gradients = []
    for factor in (1.0, -3.0):
        logits_NV = given_NV.clone().requires_grad_()
        loss, found = _twenty_rows(logits_NV)
        assert not found["ce"].requires_grad
        (gradient_NV,) = torch.autograd.grad(factor * loss, logits_NV)
        gradients.append(gradient_NV)
    assert gradients[0].abs().max() > 0 and torch.allclose(gradients[1], -3 * gradients[0])
    with torch.no_grad():
        assert torch.equal(_twenty_rows(logits_NV)[0], loss.detach())


def test_the_loss_is_the_weighted_sum_of_the_components() -> None:
    found, loss, _ = _loss(CONFIG, 5)
    assert loss == pytest.approx(2 * found["ce"] + 3 * found["kd"] + 5 * found["hidden"], rel=1e-6)


def test_terms_without_weight_are_not_computed() -> None:
    assert _loss(ObjectiveConfig(), 5)[0].keys() == {"ce"}
    assert _loss(ObjectiveConfig(ce_weight=0, kd_weight=1), 5)[0].keys() == {"kd"}


ALIGNED = VocabularyMap(torch.arange(5), torch.arange(5) + 2, 12, 9)


def _aligned_rows(rows: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Logits of both sides and how they belong together: even rows are paired, odd ones form spans of up to two.

    The teacher agrees with its own tokens 4 to 7 of each eight: with pairs, and with both tokens of a span.
    """
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
    student_NV, teacher_UV = torch.randn(rows, 13, generator=generator), torch.randn(rows, 9, generator=generator)
    agreed_U = torch.arange(rows) % 8 >= 4
    teacher_UV[agreed_U, spans["teacher_targets_U"][agreed_U]] += 4
    return student_NV, teacher_UV, spans


def _aligned_loss(config: ObjectiveConfig, rows: int) -> tuple[float, torch.Tensor]:
    found, loss, gradient = _aligned_components(config, rows)
    assert found.keys() == {"kd"}
    return loss, gradient


def _aligned_components(
    config: ObjectiveConfig, rows: int, num_cached: int | None = None
) -> tuple[dict[str, float], float, torch.Tensor]:
    logits_NV, teacher_UV, spans = _aligned_rows(rows)
    logits_NV.requires_grad_()
    loss, found = loss_and_components(
        config,
        ModelRows(logits_NV, {}),
        _teacher(config, teacher_UV, num_cached, {}, spans["teacher_targets_U"]),
        targets_N=torch.arange(rows) % 11,
        weights_N=torch.linspace(0, 2, rows),
        pairs=(),
        projectors=None,
        totals=StepTotals(torch.tensor(40.0), torch.tensor(80.0)),
        spans=SpanRows(spans, ALIGNED),
    )
    loss.backward()
    assert logits_NV.grad is not None
    return {name: value.item() for name, value in found.items()}, loss.item(), logits_NV.grad


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
        monkeypatch.setattr(chunks, "CHUNK_ROWS", size)
        chunked, chunked_gradient = _aligned_loss(config, 20)
        assert chunked == pytest.approx(loss, rel=1e-6)
        assert torch.allclose(chunked_gradient, gradient, atol=1e-7)


@pytest.mark.parametrize("kd_gate", get_args(KdGate))
@pytest.mark.parametrize(("aligned_top_k", "num_cached"), [(64, 9), (3, 9), (1, 9), (1, 8)])
def test_a_cache_teaches_another_tokenizer_as_its_teacher_does(
    kd_gate: KdGate, aligned_top_k: int, num_cached: int
) -> None:
    """Of nine tokens five are shared: among the eight likeliest is always a shared one."""
    config = ObjectiveConfig(ce_weight=0, kd_weight=1, kd_temperature=2.0, aligned_top_k=aligned_top_k, kd_gate=kd_gate)
    online, _, gradient = _aligned_components(config, 20)
    cached, _, cached_gradient = _aligned_components(config, 20, num_cached)
    assert cached == pytest.approx(online, rel=1e-5)
    assert torch.allclose(cached_gradient, gradient, atol=1e-6)


def test_fewer_cached_tokens_never_increase_the_loss_between_two_tokenizers() -> None:
    config = ObjectiveConfig(ce_weight=0, kd_weight=1)
    losses = [_aligned_components(config, 20, num_cached)[1] for num_cached in (1, 2, 4, 9)]
    assert losses == sorted(losses) and losses[0] < losses[-1]


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
        loss, _ = loss_and_components(
            config,
            ModelRows(logits_NV, {}),
            ModelRows(teacher_NV, {}),
            targets_N=rows_N,
            weights_N=torch.linspace(0, 2, 8),
            pairs=(),
            projectors=None,
            totals=StepTotals(torch.tensor(8.0), torch.tensor(8.0)),
            spans=aligned,
        )
        loss.backward()
        found.append((loss.item(), logits_NV.grad))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    assert torch.allclose(found[1][1], found[0][1], atol=1e-7)


@each_signal
def test_the_logit_term_is_the_chosen_divergence_with_its_parameter(
    divergence: Divergence, num_cached: int | None
) -> None:
    config = _config(divergence, ce_weight=0, kd_temperature=2.0)
    generator = torch.Generator().manual_seed(0)
    student_NV, teacher_NV = torch.randn(6, 13, generator=generator), torch.randn(6, 11, generator=generator)
    weights_N = torch.linspace(0, 2, 6)
    loss, found = loss_and_components(
        config,
        ModelRows(student_NV, {}),
        _teacher(config, teacher_NV, num_cached, {}),
        targets_N=torch.arange(6),
        weights_N=weights_N,
        pairs=(),
        projectors=None,
        totals=StepTotals(torch.tensor(40.0), torch.tensor(0.0)),
    )
    teacher = top_k(teacher_NV, num_cached, kd_temperature=2.0) if num_cached else teacher_NV
    expected = DIVERGENCES[divergence](student_NV[:, :11], teacher, kd_temperature=2.0, weights_N=weights_N)
    assert found["kd"].item() == pytest.approx(expected.item() / 40, rel=1e-6)
    assert found["kd"].item() > 0


@pytest.mark.parametrize("divergence", ["logistic_ranking", "hinge"])
def test_a_ranking_of_more_tokens_than_there_are_ranks_them_all(divergence: Divergence) -> None:
    config = {"ce_weight": 0, "kd_weight": 1, "kd_divergence": divergence}
    expected = _loss(ObjectiveConfig(**config, ranking_top_k=11), 5)
    assert _loss(ObjectiveConfig(**config, ranking_top_k=100), 5)[0] == expected[0]


@each_signal
def test_the_teacher_decides_about_shared_columns_only(divergence: Divergence, num_cached: int | None) -> None:
    """The student's columns beyond the shared vocabulary get gradients from cross-entropy, none from the teacher."""
    gradient_NV = _loss(_config(divergence, ce_weight=0), 5, num_cached)[2]
    assert gradient_NV[:, 11:].abs().max() == 0 and gradient_NV[:, :11].abs().max() > 0
    assert _loss(ObjectiveConfig(), 5)[2][:, 11:].abs().max() > 0


def _ten_rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(10, 13, generator=generator), 2 * torch.randn(10, 11, generator=generator)


def _gated(kd_gate: KdGate, num_cached: int | None, **extra: Any) -> tuple[dict[str, float], Tensor]:
    """Components and gradients of ten rows; the teacher agrees with the even ones."""
    config = ObjectiveConfig(**{"ce_weight": 0, "kd_weight": 1.0, "kd_temperature": 2.0} | extra, kd_gate=kd_gate)
    student_NV, teacher_NV = _ten_rows()
    student_NV.requires_grad_()
    targets_N = teacher_NV.topk(2).indices[range(10), torch.arange(10) % 2]
    loss, found = loss_and_components(
        config,
        ModelRows(student_NV, {}),
        _teacher(config, teacher_NV, num_cached, {}, targets_N),
        targets_N=targets_N,
        weights_N=torch.linspace(1, 2, 10),
        pairs=(),
        projectors=None,
        totals=StepTotals(torch.tensor(40.0), torch.tensor(0.0)),
    )
    loss.backward()
    assert student_NV.grad is not None
    return {name: value.item() for name, value in found.items()}, student_NV.grad


@pytest.mark.parametrize("num_cached", [None, 4])
@pytest.mark.parametrize("chunk", [512, 3])
def test_a_gated_row_gets_no_gradient_and_leaves_the_others_theirs(
    num_cached: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", chunk)
    second_N = _ten_rows()[1].softmax(-1).topk(2).values[:, 1]
    gate_N = {"agree": torch.zeros(10), "prob": second_N}
    weights_N = torch.linspace(1, 2, 10)
    everything, gradient = _gated("off", num_cached)
    assert everything.keys() == {"kd"} and (gradient.abs().sum(1) > 0).all()
    for kd_gate, factor_N in gate_N.items():
        factor_N[::2] = 1
        found, gated_gradient = _gated(kd_gate, num_cached)  # type: ignore[arg-type]
        assert torch.allclose(gated_gradient, factor_N[:, None] * gradient, atol=1e-7), kd_gate
        assert found["kd_gate_pass"] == pytest.approx((weights_N * factor_N).sum().item() / 40, rel=1e-5)
        assert 0 < found["kd"] < everything["kd"]


def test_cross_entropy_is_not_gated_and_the_passing_share_is_no_term() -> None:
    both = {"ce_weight": 2.0, "kd_weight": 3.0}
    off, _ = _gated("off", None, **both)
    found, gradient = _gated("agree", None, **both)
    assert found["ce"] == off["ce"] and found["kd"] < off["kd"]
    alone = _gated("agree", None)[1], _gated("off", None, ce_weight=1.0, kd_weight=0.0)[1]
    assert torch.allclose(gradient, 3 * alone[0] + 2 * alone[1], atol=1e-6)


@pytest.mark.parametrize("divergence", get_args(Divergence))
def test_every_divergence_is_gated(divergence: Divergence) -> None:
    _, gradient = _gated("agree", None, kd_divergence=divergence, **PARAMETERS.get(divergence, {}))
    assert (gradient[1::2] == 0).all() and (gradient[::2].abs().sum(1) > 0).all()


@pytest.mark.parametrize("kd_gate", ["agree", "prob"])
def test_between_two_tokenizers_pairs_and_spans_are_gated(kd_gate: KdGate) -> None:
    """The teacher's own tokens decide: what its likeliest tokens are makes all of the gradient stay or go."""
    config = ObjectiveConfig(ce_weight=0, kd_weight=1, kd_gate=kd_gate)
    off_loss, off_gradient = _aligned_loss(ObjectiveConfig(ce_weight=0, kd_weight=1), 12)
    _, teacher_UV, spans = _aligned_rows(12)
    gate_U = row_gate(kd_gate, LogitLabels(teacher_UV), spans["teacher_targets_U"])
    factor_N = torch.zeros(12)
    factor_N[spans["paired_student_P"]] = gate_U[spans["paired_teacher_P"]]
    for span in range(len(spans["span_weights_Q"])):
        gate = gate_U[spans["span_tokens_teacher_J"][spans["span_teacher_J"] == span]].prod()
        factor_N[spans["span_tokens_student_I"][spans["span_student_I"] == span]] = gate
    assert 0 < factor_N.sum() < 12
    found, loss, gradient = _aligned_components(config, 12)
    assert loss < off_loss and torch.allclose(gradient, factor_N[:, None] * off_gradient, atol=1e-7)
    weights_N = torch.linspace(0, 2, 12)
    weights_N[spans["span_tokens_student_I"]] = spans["span_weights_Q"][spans["span_student_I"]]
    assert found["kd_gate_pass"] == pytest.approx((weights_N * factor_N).sum().item() / 40, rel=1e-5)


class _Float32Bytes(TorchDispatchMode):
    """Follows the float32 tensors that operations make: bytes alive now and at most, and the largest tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = self.largest = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Results that share an argument's storage are views of it: the rows that were given are not made here.
        self._seen.update(each.untyped_storage() for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor))
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


def _float32_bytes(
    config: ObjectiveConfig, rows: int, columns: int, num_cached: int | None
) -> tuple[_Float32Bytes, int]:
    """What a forward and a backward pass over bfloat16 logits make, and the bytes that wait between the two."""
    logits_NV = torch.randn(rows, columns).bfloat16().requires_grad_()
    teacher = _teacher(config, torch.randn(rows, columns).bfloat16(), num_cached, {})
    given = {"targets_N": torch.arange(rows) % columns, "weights_N": torch.ones(rows)}
    totals = StepTotals(torch.tensor(40.0), torch.tensor(1.0))
    with _Float32Bytes() as mode:
        loss, _ = loss_and_components(
            config,
            ModelRows(logits_NV, {}),
            teacher,
            **given,
            pairs=(),
            projectors=None,
            totals=totals,
        )
        waiting = mode.alive
        loss.backward()
    assert logits_NV.grad is not None and logits_NV.grad.dtype == torch.bfloat16
    return mode, waiting


@pytest.mark.parametrize("kd_gate", ["off", "prob"])
@each_signal
def test_float32_intermediates_of_all_rows_never_exist_together(
    divergence: Divergence, num_cached: int | None, kd_gate: KdGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns = 8, 4096
    chunk_bytes = 4 * rows * columns
    monkeypatch.setattr(chunks, "CHUNK_ROWS", rows)
    single, _ = _float32_bytes(_config(divergence, kd_gate=kd_gate), rows, columns, num_cached)
    assert single.largest == chunk_bytes
    two, _ = _float32_bytes(_config(divergence, kd_gate=kd_gate), 2 * rows, columns, num_cached)
    many, waiting = _float32_bytes(_config(divergence, kd_gate=kd_gate), 16 * rows - 3, columns, num_cached)
    assert many.largest == chunk_bytes
    assert waiting < chunk_bytes / 100
    assert many.peak <= 1.01 * two.peak
    assert two.peak <= 1.01 * single.peak


@pytest.mark.parametrize("divergence", WITH_CACHE)
@pytest.mark.parametrize(("chunk", "kd_gate"), [(512, "off"), (7, "prob")])
def test_a_cached_teacher_that_knows_all_tokens_gives_the_loss_and_gradients_of_one_that_runs(
    divergence: Divergence, monkeypatch: pytest.MonkeyPatch, chunk: int, kd_gate: KdGate
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", chunk)
    config = _config(divergence, ce_weight=2.0, hidden_weight=5.0, kd_temperature=2.0, kd_gate=kd_gate)
    online, online_loss, online_gradient = _loss(config, 20)
    cached, cached_loss, cached_gradient = _loss(config, 20, 11)
    assert cached == pytest.approx(online, rel=1e-5) and cached_loss == pytest.approx(online_loss, rel=1e-5)
    assert torch.allclose(cached_gradient, online_gradient, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("divergence", ["forward_kl", "jsd"])
def test_the_compiled_loss_has_the_gradients_of_the_plain_one(divergence: str) -> None:
    """Row numbers change from batch to batch; more than a chunk of rows, less, and none."""
    config = ObjectiveConfig(ce_weight=0.7, kd_weight=0.9, kd_temperature=2.0, kd_divergence=divergence)  # type: ignore[arg-type]
    try:
        compiled = objective.compiled_row_sums(torch.device("cpu"))
    except ConfigError as error:
        pytest.skip(error.found)
    torch.manual_seed(0)
    for num_rows in (7, 700, 23, 0):
        found = []
        start = torch.randn(num_rows, 33)
        teacher = ModelRows(torch.randn(num_rows, 30), {})
        targets, weights = torch.randint(30, (num_rows,)), torch.rand(num_rows)
        for option in (None, compiled):
            student_NV = start.clone().requires_grad_()
            loss, terms = loss_and_components(
                config,
                ModelRows(student_NV, {}),
                teacher,
                targets_N=targets,
                weights_N=weights,
                pairs=(),
                projectors=None,
                totals=StepTotals(torch.tensor(5.0), torch.tensor(1.0)),
                compiled=option,
            )
            loss.backward()
            assert student_NV.grad is not None
            found.append((terms["ce"].item(), terms["kd"].item(), student_NV.grad))
        assert found[1][:2] == pytest.approx(found[0][:2], rel=1e-5)
        assert torch.allclose(found[1][2], found[0][2], rtol=1e-4, atol=1e-7)


def test_a_loss_that_can_not_be_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(objective.torch, "compile", broken)
    with pytest.raises(ConfigError, match="nothing can be compiled for cpu here: no compiler\n"):
        objective.compiled_row_sums(torch.device("cpu"))
