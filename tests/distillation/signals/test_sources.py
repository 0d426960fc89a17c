from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from fcdistill.distillation.examples.collation import Collator
from fcdistill.distillation.signals.cache_files import (
    IndexLine,
    TeacherCache,
    TraceSignals,
    top_k_signals,
    write_index,
    write_shard,
)
from fcdistill.distillation.signals.sources import CachedTeacher, OnlineTeacher
from tests.distillation.tiny_data import PACKED, VOCABULARY, random_examples
from tests.tiny import tiny_model


def _teacher(**fields: object) -> OnlineTeacher:
    model = tiny_model("llama", VOCABULARY + 4)
    values = {"vocabulary_size": VOCABULARY, "layers": (), "needs_logits": True, **fields}
    return OnlineTeacher(model=model, head=model.get_output_embeddings(), **values)  # type: ignore[arg-type]


def test_a_teacher_gives_the_rows_of_its_own_prompt_cut_to_the_vocabulary() -> None:
    examples = random_examples(3)
    teacher = _teacher(layers=(2,))
    rows = teacher.rows(Collator(PACKED, PACKED, {}, "completion")(examples)["teacher"])
    expected = []
    for example in examples:
        logits_TV = teacher.model(torch.tensor([example.teacher_ids])).logits[0]
        expected.append(logits_TV[len(example.teacher_prompt) - 1 :, :VOCABULARY])
    assert torch.allclose(rows.logits_NV, torch.cat(expected), atol=1e-5)
    assert not rows.logits_NV.requires_grad and rows.hidden_MH[2].shape == (len(rows.logits_NV), 32)


def test_logits_that_are_not_needed_are_not_computed() -> None:
    rows = _teacher(needs_logits=False).rows(Collator(PACKED, PACKED, {}, "completion")(random_examples(3))["teacher"])
    assert rows.logits_NV.shape == (0, VOCABULARY)


class _Elsewhere(torch.nn.Module):
    """A teacher on another device: the meta device takes inputs like any other, but nothing comes back from it."""

    def __init__(self) -> None:
        super().__init__()
        self.lm_head = torch.nn.Linear(4, VOCABULARY + 4, device="meta")
        self.inputs: dict[str, torch.Tensor] = {}

    def forward(self, **inputs: Any) -> Any:
        self.inputs = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        hidden = torch.arange(inputs["input_ids"].numel() * 4.0).reshape(*inputs["input_ids"].shape, 4)
        return SimpleNamespace(logits=torch.zeros(1, 2, VOCABULARY + 4), hidden_states=(hidden,) * 3)


def test_a_teacher_on_another_device_gets_its_inputs_there_and_answers_where_the_batch_is() -> None:
    examples = random_examples(3)
    side = Collator(PACKED, PACKED, {}, "completion")(examples)["teacher"]
    model = _Elsewhere()
    teacher = OnlineTeacher(model=model, head=model.lm_head, vocabulary_size=VOCABULARY, layers=(2,), needs_logits=True)
    rows = teacher.rows(side)
    assert {value.device.type for value in model.inputs.values()} == {"meta"} and len(model.inputs) == 3
    assert (rows.logits_NV.device, rows.logits_NV.shape[1]) == (torch.device("cpu"), VOCABULARY)
    first_M = rows.hidden_MH[2][:, 0] / 4
    assert torch.equal(first_M.long(), side["hidden_rows_M"])
    assert all(value.device.type == "cpu" for value in side["inputs"].values())


def test_a_cached_teacher_gives_its_rows_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    logits = {"a": torch.randn(2, 9), "b": torch.randn(3, 9)}
    hidden = {name: {layer: torch.randn(4, 5).bfloat16() for layer in (1, 2)} for name in logits}
    signals = {
        name: TraceSignals(*top_k_signals(logits_NV, 4, (1.0, 3.0)), -logits_NV[:, 0].abs(), hidden[name])
        for name, logits_NV in logits.items()
    }
    write_index(tmp_path, [IndexLine(id=name, shard=0, input_sha256="") for name in logits])
    write_shard(tmp_path, 0, signals, (1.0, 3.0))
    teacher = CachedTeacher(TeacherCache(tmp_path, (1.0, 3.0), (2,)), 9, kd_temperature=3.0, needs_logits=True)
    rows = teacher.rows(teacher.read(["b", "a", "b"]))
    logits_NV = torch.cat([logits[name] for name in "bab"])
    assert rows.vocabulary_size == 9
    assert torch.equal(rows.labels.ids_NK, logits_NV.topk(4).indices)
    exact_NK = (logits_NV / 3.0).log_softmax(-1).gather(1, rows.labels.ids_NK)
    assert torch.allclose(rows.labels.logprobs_NK, exact_NK, atol=2e-3)
    assert torch.allclose(rows.labels.untempered_NK, logits_NV.log_softmax(-1).gather(1, rows.labels.ids_NK), atol=2e-3)
    assert torch.equal(rows.labels.target_logprobs_N, -logits_NV[:, 0].abs())
    assert rows.hidden_MH.keys() == {2}
    assert torch.equal(rows.hidden_MH[2], torch.cat([hidden[name][2] for name in "bab"]))
