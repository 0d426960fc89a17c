"""Examples and trainers for the tests of training: random tokens behind shared prefixes, tiny models."""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainingArguments

from fcdistill.config import CLASS_NAMES, LoraTuning, ObjectiveConfig
from fcdistill.distillation.callbacks.call_accuracy import CallMonitor
from fcdistill.distillation.examples.collation import Collator, Layout
from fcdistill.distillation.examples.examples import Example, render_traces
from fcdistill.distillation.on_policy import OnPolicy
from fcdistill.distillation.signals.sources import OnlineTeacher
from fcdistill.distillation.student.projectors import LayerPair, Projectors
from fcdistill.distillation.student_model import StudentModel
from fcdistill.distillation.tokenizers.token_strings import pair_strings, token_strings
from fcdistill.distillation.trainer import DistillTrainer
from fcdistill.models.students import apply_lora
from fcdistill.prompts.rendering import prepare_tokenizer
from fcdistill.records import FunctionTool, Message, ModelRef, ToolCall, ToolSpec, Trace, TraceMeta
from tests.tiny import tiny_model, tiny_tokenizer

VOCABULARY = 60
PACKED = Layout(packing="dense_mask", max_tokens=4096, attention_tokens=1 << 70, pad_id=0)
FLEX = dataclasses.replace(PACKED, packing="block_mask")
UNPACKED = Layout(packing="none", max_tokens=4096, attention_tokens=1, pad_id=0)


def random_examples(count: int, seed: int = 0) -> list[Example]:
    """Examples with a shared tool prompt, requests that share beginnings, and other prompts for the teacher."""
    generator = random.Random(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(generator.randrange(VOCABULARY) for _ in range(generator.randint(low, high)))

    tools, teacher_tools, openings = tokens(9, 9), tokens(14, 14), [tokens(2, 4) for _ in range(3)]
    examples = []
    for index in range(count):
        request, completion = generator.choice(openings) + tokens(1, 6), tokens(2, 9)
        examples.append(
            Example(
                trace_id=f"trace-{index}",
                student_prompt=tools + request,
                teacher_prompt=teacher_tools + request,
                completion=completion,
                classes=tuple(generator.randrange(len(CLASS_NAMES)) for _ in completion),
                num_request_tokens=len(request),
            )
        )
    return examples


def noisy_lora(model: PreTrainedModel, token_ids: Sequence[int] = (), **tuning: Any) -> Any:
    """The model with adapters that already do something (fresh ones start at zero and have half their gradients)."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        adapted = apply_lora(model, LoraTuning(lora_rank=4, lora_alpha=8, **tuning), token_ids)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return adapted


def make_trainer(
    directory: Path,
    *,
    objective: ObjectiveConfig,
    examples: Sequence[Example] = (),
    student: Any = None,
    layout: Layout = PACKED,
    teacher_width: int = 32,
    vocabulary_size: int = VOCABULARY,
    held_out: Sequence[Example] = (),
    monitor: CallMonitor | None = None,
    callbacks: Sequence[Any] = (),
    teacher: OnlineTeacher | None = None,
    pairs: Sequence[LayerPair] = ((2, 3), (4, 6)),
    on_policy: OnPolicy | None = None,
    **args: Any,
) -> DistillTrainer:
    """A trainer of a tiny student with, where the objective needs one, a tiny teacher of another depth and width."""
    model = student if student is not None else tiny_model("llama", vocabulary_size)
    projectors = None
    if objective.hidden_weight:
        torch.manual_seed(3)
        projectors = Projectors(pairs, 32, teacher_width)
    if objective.needs_teacher and teacher is None:
        teacher_model = tiny_model("llama", vocabulary_size + 4, hidden_size=teacher_width, num_layers=6, seed=1)
        teacher = OnlineTeacher(
            model=teacher_model,
            head=teacher_model.get_output_embeddings(),
            vocabulary_size=vocabulary_size,
            layers=tuple(layer for _, layer in pairs) if projectors is not None else (),
            needs_logits=objective.kd_weight > 0,
        )
    return DistillTrainer(
        StudentModel(model, model.get_output_embeddings(), None),
        TrainingArguments(
            output_dir=str(directory),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            **{"save_strategy": "no", **args},
        ),
        objective=objective,
        collator=Collator(
            student=layout,
            teacher=layout if teacher is not None else None,
            class_weights=objective.class_weights,
            hidden_positions=objective.hidden_positions,
        ),
        train_examples=examples,
        held_out_examples=held_out,
        teacher=teacher,
        projectors=projectors,
        monitor=monitor,
        on_policy=on_policy,
        callbacks=callbacks,
    )


def gradients(trainer: DistillTrainer, micro_batches: Sequence[Sequence[Example]]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one optimizer step over these micro batches."""
    batches = [trainer.data_collator(examples) for examples in micro_batches]
    totals = trainer._get_num_items_in_batch(batches, torch.device("cpu"))
    trainer.model.zero_grad()
    loss = 0.0
    for batch in batches:
        share = trainer.compute_loss(trainer.model, batch, num_items_in_batch=totals)
        share.backward()
        loss += share.item()
    named = [*trainer.model.named_parameters()]
    if trainer._projectors is not None:
        named += [(f"projectors.{name}", value) for name, value in trainer._projectors.named_parameters()]
    return loss, {name: value.grad.clone() for name, value in named if value.grad is not None}


def tiny_traces(count: int) -> list[Trace]:
    """Traces over two tools: calls, and now and then an answer without one."""
    tools = (
        FunctionTool(
            function=ToolSpec(
                name="set_light",
                description="Switches a light.",
                parameters={"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]},
            )
        ),
        FunctionTool(
            function=ToolSpec(
                name="set_timer",
                description="Starts a timer.",
                parameters={"type": "object", "properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]},
            )
        ),
    )
    rooms = ("kitchen", "bedroom", "hall")
    traces = []
    for index in range(count):
        if index % 5 == 4:
            request, answer = f"Tell me joke {index}.", Message(role="assistant", content="I can't do that.")
        elif index % 2:
            request = f"Set a timer for {index} minutes."
            answer = Message.calling([ToolCall(name="set_timer", arguments={"minutes": index})])
        else:
            request = f"Turn on light {index} in the {rooms[index % 3]}, please!"
            answer = Message.calling([ToolCall(name="set_light", arguments={"room": rooms[index % 3]})])
        traces.append(
            Trace(
                id=f"trace-{index}",
                messages=(Message(role="user", content=request), answer),
                tools=tools,
                split_group=f"group-{index // 2}",
                meta=TraceMeta(source="import", category="simple", plan_cell="cell", teacher=ModelRef(model="by hand")),
            )
        )
    return traces


def foreign_examples(count: int) -> list[Example]:
    """`tiny_traces` for a student and a teacher of different tokenizers."""
    student, teacher = tiny_tokenizer("chatml"), tiny_tokenizer("qwen")
    for tokenizer in (student, teacher):
        prepare_tokenizer(tokenizer)
    pairs = pair_strings(token_strings(student), token_strings(teacher))
    return render_traces(tiny_traces(count), student, "compact", teacher, pairs)
