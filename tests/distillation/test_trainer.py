import contextlib
import dataclasses
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fcdistill.config import CLASS_NAMES, ObjectiveConfig
from fcdistill.distillation.callbacks.checkpoints import last_sealed
from fcdistill.distillation.examples.collation import Layout
from fcdistill.distillation.examples.examples import Example, HiddenPositions, Side
from fcdistill.distillation.losses import chunks
from fcdistill.distillation.losses.divergences import cross_entropy
from fcdistill.distillation.packed import attention
from fcdistill.distillation.packed.attention import training_attention
from fcdistill.distillation.signals.sources import OnlineTeacher
from fcdistill.distillation.student.lora import fuse_lora
from fcdistill.distillation.trainer import DistillTrainer
from fcdistill.errors import ModelError
from fcdistill.records import MetricsLine
from tests.distillation.tiny_data import (
    FLEX,
    PACKED,
    UNPACKED,
    VOCABULARY,
    gradients,
    make_trainer,
    noisy_lora,
    random_examples,
)
from tests.tiny import tiny_model

ALL_TERMS = ObjectiveConfig(
    ce_weight=0.7, kd_weight=0.9, kd_temperature=2.0, hidden_weight=0.5, class_weights={"name": 3.0, "text": 0.0}
)


def _assert_same(found: tuple[float, dict[str, Tensor]], expected: tuple[float, dict[str, Tensor]]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    scale = max(value.norm() for value in expected[1].values())
    for name, value in expected[1].items():
        assert (found[1][name] - value).norm() <= 1e-5 * scale, name


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    "objective",
    [
        ObjectiveConfig(),
        ObjectiveConfig(ce_weight=0, kd_weight=1, kd_temperature=3.0),
        ObjectiveConfig(ce_weight=0, hidden_weight=1, hidden_positions="request+completion"),
        ObjectiveConfig(ce_weight=0, hidden_weight=1, hidden_loss="mse"),
        ALL_TERMS,
    ],
    ids=["ce", "kd", "hidden-request", "hidden-mse", "all"],
)
def test_packed_rows_give_the_loss_and_gradients_of_unpacked_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, lora: bool, objective: ObjectiveConfig
) -> None:
    """Packed rows through the kernel that attends to them in a training, in several blocks."""
    examples = random_examples(7)
    attended = []
    find_blocks = attention._find_blocks
    monkeypatch.setattr(attention, "_BLOCK", 16)
    monkeypatch.setattr(attention, "_KEY_STEP", 8)
    monkeypatch.setattr(attention, "_find_blocks", lambda mask: attended.append(mask) or find_blocks(mask))
    found = []
    for layout in (PACKED, UNPACKED):
        model = tiny_model(family, VOCABULARY)  # type: ignore[arg-type]
        student = noisy_lora(model) if lora else model
        trainer = make_trainer(tmp_path, objective=objective, student=student, teacher_width=48, layout=layout)
        with training_attention(student) if layout is PACKED else contextlib.nullcontext():
            found.append(gradients(trainer, [examples]))
    assert max(mask.shape[1] for mask in attended) > 4 * 16
    _assert_same(*found)
    names = found[0][1]
    assert any("lora_A" in name for name in names) == lora
    assert any(name.startswith("projectors.") for name in names) == (objective.hidden_weight > 0)


@pytest.mark.usefixtures("flex_on_cpu")
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_flex_attention_gives_the_loss_and_gradients_of_dense_masks(tmp_path: Path, family: str, lora: bool) -> None:
    found = []
    for layout in (PACKED, FLEX):
        model = tiny_model(family, VOCABULARY)  # type: ignore[arg-type]
        student = noisy_lora(model) if lora else model
        trainer = make_trainer(tmp_path, objective=ALL_TERMS, student=student, teacher_width=48, layout=layout)
        attending = training_attention(student) if layout is FLEX else contextlib.nullcontext()
        with attending:
            found.append(gradients(trainer, [random_examples(7)]))
    _assert_same(*found)


@pytest.mark.parametrize("layout", ["packed", "unpacked"])
def test_the_split_into_micro_batches_does_not_change_the_gradients(tmp_path: Path, layout: str) -> None:
    examples = random_examples(8)
    extra = {"layout": UNPACKED} if layout == "unpacked" else {}
    trainer = make_trainer(tmp_path, objective=ALL_TERMS, **extra)  # type: ignore[arg-type]
    whole = gradients(trainer, [examples])
    _assert_same(gradients(trainer, [[example] for example in examples]), whole)
    _assert_same(gradients(trainer, [examples[:1], examples[1:3], examples[3:]]), whole)


@pytest.mark.parametrize("positions", ["completion", "request+completion"])
def test_an_empty_micro_batch_changes_neither_loss_nor_gradients(tmp_path: Path, positions: str) -> None:
    """What a process computes that has run out of examples."""
    examples = random_examples(4)
    objective = ALL_TERMS.model_copy(update={"hidden_positions": positions})

    def found(micro_batches: list[list[Example]]) -> tuple[float, dict[str, Tensor]]:
        trainer = make_trainer(tmp_path, objective=objective, teacher_width=48)
        trainer.data_collator = replace(trainer.data_collator, filler=examples[2])
        return gradients(trainer, micro_batches)

    whole = found([examples])
    _assert_same(found([examples, []]), whole)
    loss, grads = found([[]])
    assert loss == 0 and grads.keys() == whole[1].keys()
    assert all(value.abs().max() == 0 for value in grads.values())


class _Reference:
    """The components by plain forward passes over single sequences, shifted by hand, in float64."""

    def __init__(self, trainer: DistillTrainer, examples: list[Example]) -> None:
        student, teacher = trainer.model.double(), trainer._teacher.model.double()  # type: ignore[union-attr]
        self.ce, self.kd, self.cosine, self.first_kd = [], [], [], []
        temperature = trainer._objective.kd_temperature
        for example in examples:
            completion = list(example.completion)
            rows = []
            for model, prompt in ((student, example.student_prompt), (teacher, example.teacher_prompt)):
                outputs = model(torch.tensor([[*prompt, *completion]]), output_hidden_states=True)
                logits = outputs.logits[0, len(prompt) - 1 : -1, :VOCABULARY]
                hidden = [state[0, len(prompt) - 1 : -1] for state in outputs.hidden_states]
                rows.append((logits, hidden))
            (student_logits, student_hidden), (teacher_logits, teacher_hidden) = rows
            logq = (student_logits / temperature).log_softmax(-1)
            logp = (teacher_logits / temperature).log_softmax(-1)
            kd = temperature**2 * (logp.exp() * (logp - logq)).sum(-1)
            self.kd.append(kd)
            self.first_kd.append(kd[0].item())
            self.ce.append(-student_logits.log_softmax(-1)[range(len(completion)), completion])
            distances = [
                1 - F.cosine_similarity(student_hidden[s], teacher_hidden[t], dim=-1) for s, t in ((2, 3), (4, 6))
            ]
            self.cosine.append(torch.stack(distances).mean(0))
        trainer.model.float()
        teacher.float()


def test_the_loss_is_that_of_plain_forward_passes_shifted_by_hand(tmp_path: Path) -> None:
    examples = random_examples(5)
    trainer = make_trainer(tmp_path, objective=ALL_TERMS)
    reference = _Reference(trainer, examples)
    weights = [
        torch.tensor([{"name": 3.0, "text": 0.0}.get(CLASS_NAMES[index], 1.0) for index in example.classes])
        for example in examples
    ]
    total = sum(weight.sum() for weight in weights)
    num_rows = sum(len(example.completion) for example in examples)
    ce = sum((w * row).sum() for w, row in zip(weights, reference.ce, strict=True)) / total
    kd = sum((w * row).sum() for w, row in zip(weights, reference.kd, strict=True)) / total
    hidden = sum(row.sum() for row in reference.cosine) / num_rows
    loss, _ = gradients(trainer, [examples[:2], examples[2:]])
    assert loss == pytest.approx(0.7 * ce.item() + 0.9 * kd.item() + 0.5 * hidden.item(), rel=1e-5)


@pytest.mark.parametrize("positions", ["completion", "request+completion"])
@pytest.mark.parametrize(("layout", "window"), [(PACKED, 64), (UNPACKED, 16)], ids=["packed", "unpacked"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_hidden_states_of_another_architecture_are_aligned_row_by_row(
    tmp_path: Path, family: str, layout: Layout, window: int, positions: HiddenPositions
) -> None:
    """The teacher differs in width, depth, heads and kind; a window that is shorter than its rows forbids packing."""
    gemma = tiny_model(
        "gemma3",
        VOCABULARY + 4,
        hidden_size=48,
        num_layers=6,
        seed=1,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=8,
        sliding_window=window,
    )
    pairs = [(2, 3), (4, 6)]
    teacher = OnlineTeacher(gemma, gemma.get_output_embeddings(), VOCABULARY, (3, 6), needs_logits=False)
    trainer = make_trainer(
        tmp_path,
        objective=ObjectiveConfig(ce_weight=0, hidden_weight=1.0, hidden_positions=positions),
        student=tiny_model(family, VOCABULARY),  # type: ignore[arg-type]
        layout=layout,
        teacher=teacher,
        teacher_width=48,
        pairs=pairs,
    )
    examples = random_examples(5)

    def plain(model: Any, side: Side, layer: int) -> Tensor:
        found = []
        for example in examples:
            ids = example.student_ids if side == "student" else example.teacher_ids
            # Those that predict the completion; the request's last one is the first of them.
            num_rows = len(example.completion) + (example.num_request_tokens - 1 if "request" in positions else 0)
            with torch.no_grad():
                states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            found.append(states[layer][0, -num_rows:])
        return torch.cat(found)

    batch = trainer.data_collator(examples)
    loss, grads = gradients(trainer, [examples])
    distances = []
    for (student_layer, teacher_layer), linear in zip(pairs, trainer._projectors.maps.values(), strict=True):  # type: ignore[union-attr]
        teacher_MH = plain(gemma, "teacher", teacher_layer)
        assert torch.allclose(teacher.rows(batch["teacher"]).hidden_MH[teacher_layer], teacher_MH, atol=1e-5)
        student_MH = plain(trainer.model, "student", student_layer) @ linear.weight.T
        distances.append(1 - F.cosine_similarity(student_MH, teacher_MH, dim=-1).mean())
    assert loss == pytest.approx(torch.stack(distances).mean().item(), rel=1e-5)
    assert all(value.norm() > 0 for name, value in grads.items() if "layers.0" in name or "projectors" in name)


def test_the_first_completion_token_is_distilled(tmp_path: Path) -> None:
    examples = [
        Example("a", e.student_prompt, e.teacher_prompt, e.completion[:1], e.classes[:1], e.num_request_tokens)
        for e in random_examples(4)
    ]
    trainer = make_trainer(tmp_path, objective=ObjectiveConfig(ce_weight=0, kd_weight=1))
    loss, grads = gradients(trainer, [examples])
    reference = _Reference(trainer, examples)
    assert loss == pytest.approx(sum(reference.first_kd) / 4, rel=1e-5)
    assert loss > 0.01 and max(value.abs().max() for value in grads.values()) > 1e-4


def test_the_temperature_acts_in_the_loss(tmp_path: Path) -> None:
    examples = random_examples(4)
    losses = []
    for kd_temperature in (1.0, 4.0):
        objective = ObjectiveConfig(ce_weight=0, kd_weight=1, kd_temperature=kd_temperature)
        trainer = make_trainer(tmp_path, objective=objective)
        losses.append(gradients(trainer, [examples])[0])
        rows = torch.cat(_Reference(trainer, examples).kd)
        assert losses[-1] == pytest.approx(rows.mean().item(), rel=1e-5)
    assert abs(losses[0] - losses[1]) > 0.05 * losses[0]


@pytest.mark.parametrize("field", ["ce_weight", "kd_weight", "hidden_weight"])
def test_every_weight_alone_gives_gradients(tmp_path: Path, field: str) -> None:
    objective = ObjectiveConfig(**{"ce_weight": 0, field: 0.3})
    _, grads = gradients(make_trainer(tmp_path, objective=objective), [random_examples(3)])
    assert max(value.abs().max() for value in grads.values()) > 1e-5


def test_the_teacher_gets_no_gradient_and_padded_columns_of_its_head_play_no_role(tmp_path: Path) -> None:
    examples = random_examples(3)
    trainer = make_trainer(tmp_path, objective=ALL_TERMS)
    before = gradients(trainer, [examples])
    teacher = trainer._teacher.model  # type: ignore[union-attr]
    assert teacher.get_output_embeddings().weight.shape[0] == VOCABULARY + 4
    assert all(parameter.grad is None for parameter in teacher.parameters())
    with torch.no_grad():
        teacher.get_output_embeddings().weight[VOCABULARY:] *= 100
    _assert_same(gradients(trainer, [examples]), before)


def _train(tmp_path: Path, pack: int, accumulation: int, **extra: object) -> dict[str, Tensor]:
    trainer = make_trainer(
        tmp_path,
        objective=ALL_TERMS,
        examples=random_examples(9),
        teacher_width=48,
        per_device_train_batch_size=pack,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=2,
        learning_rate=0.1,
        optim="sgd",
        lr_scheduler_type="constant",
        seed=7,
        **extra,  # type: ignore[arg-type]
    )
    trainer.train()
    assert trainer.state.global_step == 6
    return {**dict(trainer.model.named_parameters()), **dict(trainer._projectors.named_parameters())}  # type: ignore[union-attr]


def test_training_in_other_micro_batches_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Nine examples in steps of four: the last accumulation window of an epoch holds one."""
    expected = _train(tmp_path, pack=4, accumulation=1)
    start = dict(tiny_model("llama", VOCABULARY).named_parameters())
    assert (expected["lm_head.weight"] - start["lm_head.weight"]).norm() > 1e-2
    untrained = make_trainer(tmp_path, objective=ALL_TERMS, teacher_width=48)._projectors
    for name, value in untrained.named_parameters():  # type: ignore[union-attr]
        assert (expected[name] - value).norm() > 1e-3
    for pack, accumulation, extra in ((1, 4, {}), (2, 2, {"layout": UNPACKED})):
        found = _train(tmp_path, pack, accumulation, **extra)
        for name, value in expected.items():
            assert torch.allclose(found[name], value, atol=1e-5), name


def test_projectors_are_clipped_with_the_model_and_their_gradients_cleared(tmp_path: Path) -> None:
    found = _train(tmp_path, pack=4, accumulation=1, max_grad_norm=1e-12)
    start = make_trainer(tmp_path, objective=ALL_TERMS, teacher_width=48)
    for name, value in start._projectors.named_parameters():  # type: ignore[union-attr]
        assert torch.allclose(found[name], value, atol=1e-7)
        assert found[name].grad is None


def test_the_log_holds_each_component_before_its_weight(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        objective=ALL_TERMS,
        examples=random_examples(6),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        logging_steps=1,
    )
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert len(lines) == 4
    for line in lines:
        weighted = 0.7 * line["ce"] + 0.9 * line["kd"] + 0.5 * line["hidden"]
        assert line["loss"] == pytest.approx(weighted, rel=1e-5)
        assert line["tokens_per_s"] > 0 and line["examples_per_s"] > 0


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize(("dropout", "fused"), [(0.0, False), (0.0, True), (0.3, False)])
@pytest.mark.parametrize("layout", [PACKED, UNPACKED], ids=["packed", "unpacked"])
def test_a_student_that_teaches_itself_is_taught_by_its_base(
    tmp_path: Path, family: Any, dropout: float, fused: bool, layout: Layout
) -> None:
    """Loss and gradients of `self` are those of a teacher with the same base weights that runs beside the student."""
    examples = random_examples(7)
    found = {}
    for who in ("self", "base", "adapted"):
        torch.manual_seed(0)  # of fresh adapters, then of dropout
        student = noisy_lora(tiny_model(family, VOCABULARY), lora_dropout=dropout).train()
        assert not fused or fuse_lora(student) == 4 * 7
        model = tiny_model(family, VOCABULARY) if who == "base" else student
        teacher = OnlineTeacher(
            model, model.get_output_embeddings(), VOCABULARY, (3, 4), needs_logits=True, is_student=who == "self"
        )
        trainer = make_trainer(
            tmp_path, objective=ALL_TERMS, student=student, layout=layout, teacher=teacher, pairs=[(2, 3), (4, 4)]
        )
        torch.manual_seed(0)
        found[who] = gradients(trainer, [examples[:3], examples[3:]])
        assert student.training and all(each.training for each in student.modules())
    _assert_same(found["self"], found["base"])
    assert any("lora_A" in name for name in found["self"][1])
    assert found["adapted"][0] != pytest.approx(found["base"][0], rel=1e-4), "the adapter would have been noticed"


def _partly_agreed(trainer: DistillTrainer, examples: list[Example]) -> list[Example]:
    """The examples with every other completion token replaced by the teacher's likeliest."""
    teacher = trainer._teacher.model  # type: ignore[union-attr]
    found = []
    for example in examples:
        completion = list(example.completion)
        for index in range(0, len(completion), 2):
            logits_TV = teacher(torch.tensor([[*example.teacher_prompt, *completion[:index]]])).logits[0]
            completion[index] = int(logits_TV[-1, :VOCABULARY].argmax())
        found.append(dataclasses.replace(example, completion=tuple(completion)))
    return found


@pytest.mark.parametrize("kd_gate", ["agree", "prob"])
def test_gates_do_not_depend_on_packing_and_micro_batches(tmp_path: Path, kd_gate: str) -> None:
    def trainer(rule: str, **extra: object) -> DistillTrainer:
        objective = ObjectiveConfig(**ALL_TERMS.model_dump() | {"kd_gate": rule})
        return make_trainer(tmp_path, objective=objective, **extra)  # type: ignore[arg-type]

    examples = _partly_agreed(trainer("off"), random_examples(8))
    whole = gradients(trainer(kd_gate), [examples])
    for other in (trainer(kd_gate), trainer(kd_gate, layout=UNPACKED)):
        _assert_same(gradients(other, [examples[:1], examples[1:3], examples[3:]]), whole)
    assert whole[0] < gradients(trainer("off"), [examples])[0]


def test_the_log_holds_the_share_of_the_steps_weight_that_passes_the_gate(tmp_path: Path) -> None:
    objective = ObjectiveConfig(kd_weight=1.0, kd_gate="agree", class_weights={"name": 3.0})
    examples = _partly_agreed(make_trainer(tmp_path, objective=objective), random_examples(6))
    trainer = make_trainer(
        tmp_path,
        objective=objective,
        examples=examples,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        num_train_epochs=2,
        learning_rate=1e-12,
        logging_steps=2,
    )
    trainer.train()
    passed = total = 0.0
    for example in examples:
        ids = torch.tensor([[*example.teacher_prompt, *example.completion[:-1]]])
        rows = trainer._teacher.model(ids).logits[0, len(example.teacher_prompt) - 1 :, :VOCABULARY]  # type: ignore[union-attr]
        for row, token, index in zip(rows, example.completion, example.classes, strict=True):
            weight = 3.0 if CLASS_NAMES[index] == "name" else 1.0
            total += weight
            passed += weight * (row.argmax() == token).item()
    (line,) = [line for line in trainer.state.log_history if "loss" in line]
    assert 0.3 < passed / total < 0.9
    assert line["kd_gate_pass"] == pytest.approx(passed / total, rel=1e-5)
    assert "kd_gate_pass" in MetricsLine.model_fields


def test_held_out_evaluation_counts_tokens_without_class_weights(tmp_path: Path) -> None:
    held_out = random_examples(5, seed=3)
    objective = ObjectiveConfig(class_weights={"name": 9.0})
    trainer = make_trainer(tmp_path, objective=objective, held_out=held_out, per_device_train_batch_size=2)
    metrics = trainer.evaluate()
    ce, right, count = 0.0, 0, 0
    for example in held_out:
        ids = torch.tensor([[*example.student_prompt, *example.completion]])
        rows = trainer.model(ids).logits[0, len(example.student_prompt) - 1 : -1]
        targets = torch.tensor(example.completion)
        ce += F.cross_entropy(rows, targets, reduction="sum").item()
        right += int((rows.argmax(-1) == targets).sum())
        count += len(targets)
    assert metrics["held_out_ce"] == pytest.approx(ce / count, rel=1e-5)
    assert metrics["held_out_token_accuracy"] == pytest.approx(right / count)


def test_held_out_logits_are_read_a_chunk_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = random_examples(5, seed=3)
    trainer = make_trainer(tmp_path, objective=ObjectiveConfig(), held_out=held_out, per_device_train_batch_size=5)
    whole = trainer.evaluate()
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 3)
    sizes: list[int] = []

    def counted(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        sizes.append(len(logits_NV))
        return cross_entropy(logits_NV, targets_N)

    monkeypatch.setattr("fcdistill.distillation.trainer.cross_entropy", counted)
    assert trainer.evaluate() == pytest.approx(whole, rel=1e-6)
    assert max(sizes) == 3 and len(sizes) > 3


def test_a_step_whose_class_weights_are_all_zero_trains_nothing(tmp_path: Path) -> None:
    objective = ObjectiveConfig(class_weights=dict.fromkeys(CLASS_NAMES, 0.0))
    loss, grads = gradients(make_trainer(tmp_path, objective=objective), [random_examples(2)])
    assert loss == 0 and not math.isnan(loss)
    assert all(value.abs().max() == 0 for value in grads.values())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_ends_training_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    options = {"per_device_train_batch_size": 2, "max_steps": 4, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(tmp_path, objective=ObjectiveConfig(), examples=random_examples(8), **options)
    compute_loss = DistillTrainer.compute_loss

    def breaking(self: DistillTrainer, *arguments: Any, **fields: Any) -> Tensor:
        loss = compute_loss(self, *arguments, **fields)
        return loss * value if self.state.global_step == 2 else loss

    monkeypatch.setattr(DistillTrainer, "compute_loss", breaking)
    with pytest.raises(ModelError, match=r"the gradient of step 3 is not finite .*checkpoint-2") as error:
        trainer.train()
    assert "learning_rate" in str(error.value)
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())
    assert last_sealed(Path(trainer.args.output_dir)) == Path(trainer.args.output_dir) / "checkpoint-2"


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"per_device_train_batch_size": 2, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(tmp_path, objective=ObjectiveConfig(), examples=random_examples(8), **options)
    step = torch.optim.AdamW.step

    def breaking(self: torch.optim.AdamW, *arguments: Any, **fields: Any) -> Any:
        found = step(self, *arguments, **fields)
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(math.inf)
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", breaking)
    with pytest.raises(ModelError, match="the weights of step 1 are not finite"):
        trainer.train()
    assert last_sealed(Path(trainer.args.output_dir)) is None
