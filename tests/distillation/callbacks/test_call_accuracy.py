import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fcdistill.backends.base import Completion, Request
from fcdistill.backends.local.local_backend import LocalBackend
from fcdistill.config import DecodeSettings, MonitorConfig, ObjectiveConfig, TrainConfig
from fcdistill.distillation.callbacks import call_accuracy
from fcdistill.distillation.callbacks.call_accuracy import CallMonitor, is_right
from fcdistill.distillation.run import run_training
from fcdistill.evaluation.predictions import prediction_from_text
from fcdistill.evaluation.scoring import score_case
from fcdistill.models.loading import load_model
from fcdistill.prompts.rendering import prepare_tokenizer
from fcdistill.records import EvalCase, FinishReason, Message, ModelRef, ToolCall, Trace
from fcdistill.toolcalls.parsing import render_calls
from tests.distillation.tiny_data import make_trainer, noisy_lora, random_examples, tiny_traces
from tests.distillation.world import metrics_lines, train_config
from tests.tiny import tiny_model, tiny_tokenizer

LORA = {"method": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.1}


def _config(world: Path, out: Path, **fields: Any) -> TrainConfig:
    """A run of which the student learns most of forty traces by heart."""
    values = {
        "traces": world / "forty.jsonl",
        "teacher": None,
        "tools_in_prompt": "none",
        "tuning": {"method": "full"},
        "examples_per_step": 8,
        "examples_per_pack": 4,
        "held_out_fraction": 0.3,
        "save_steps": 100,
        **fields,
    }
    return train_config(world, out, **values)


def _case(trace: Trace) -> EvalCase:
    return EvalCase(
        id=trace.id,
        messages=trace.messages[:-1],
        tools=trace.tools,
        behaviour="call" if trace.answer.calls else "no_call",
        expected=(trace.answer.calls,),
        category=trace.meta.category,
    )


def _evaluated(model: str, traces: Sequence[Trace]) -> float:
    """Call accuracy as `fcdistill eval` finds it."""
    backend = LocalBackend(load_model(model, dtype="float32", device="cpu"))
    by_id = {trace.id: trace for trace in traces}
    requests = [Request(id=trace.id, messages=trace.messages[:-1], specs=trace.specs) for trace in traces]
    right = 0
    for answer in backend.complete(requests, DecodeSettings()):
        trace = by_id[answer.id]
        prediction = prediction_from_text(answer.id, answer.text, answer.finish_reason)
        right += score_case(_case(trace), trace.specs, prediction).correct
    return right / len(traces)


@pytest.mark.parametrize("tuning", [{"method": "full"}, LORA], ids=["full", "lora"])
def test_the_figure_is_the_one_that_an_evaluation_of_the_saved_student_finds(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: dict[str, Any]
) -> None:
    asked: list[Sequence[Trace]] = []
    real = CallMonitor.__init__

    def spy(self: CallMonitor, *args: Any, traces: Sequence[Trace], **kwargs: Any) -> None:
        asked.append(traces)
        real(self, *args, traces=traces, **kwargs)

    monkeypatch.setattr(CallMonitor, "__init__", spy)
    out = tmp_path / "run"
    result = run_training(_config(world, out, tuning=tuning, max_steps=70, epochs=100.0, monitor={"steps": 20}))
    measured = {
        line.step: line.held_out_call_accuracy for line in metrics_lines(out) if line.held_out_call_accuracy is not None
    }
    assert list(measured) == [20, 40, 60, 70]
    assert len(asked[0]) == 12 and result.held_out_call_accuracy == measured[70]
    assert measured[70] == pytest.approx(_evaluated(str(out), asked[0]))
    if tuning["method"] == "full":
        assert 0 < measured[70] < 1  # timers for other minutes than those that were trained stay wrong


@pytest.mark.parametrize(
    "fields",
    [
        {"tuning": LORA},
        {"tuning": LORA, "dtype": "bfloat16", "gradient_checkpointing": True},
        {"tuning": {"method": "lora", "lora_rank": 4}, "dtype": "bfloat16"},
        {"dtype": "bfloat16"},
    ],
    ids=["lora", "lora-bfloat16-checkpointed", "fused-lora-bfloat16", "full-bfloat16"],
)
def test_training_does_not_notice_that_it_is_monitored(world: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    found = []
    for name, monitor in (("plain", {}), ("monitored", {"steps": 2, "max_new_tokens": 4})):
        run_training(_config(world, tmp_path / name, max_steps=7, monitor=monitor, **fields))
        losses = [line.loss for line in metrics_lines(tmp_path / name) if line.loss is not None]
        found.append((losses, load_file(tmp_path / name / "merged" / "model.safetensors")))
    (plain_losses, plain), (losses, monitored) = found
    assert losses == plain_losses
    assert plain.keys() == monitored.keys() and all(torch.equal(plain[name], monitored[name]) for name in plain)


def _random_states() -> tuple[Any, ...]:
    return random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]


def _tiny_monitor(model: Any, traces: Sequence[Trace], **fields: Any) -> CallMonitor:
    tokenizer = tiny_tokenizer("qwen")
    prepare_tokenizer(tokenizer)
    return CallMonitor(
        MonitorConfig(**{"steps": 2, "max_new_tokens": 3, **fields}),
        model,
        tokenizer,
        ModelRef(model="tiny"),
        traces=traces,
        tools_in_prompt="compact",
        autocast=torch.bfloat16,
    )


def test_asking_draws_no_random_numbers_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = noisy_lora(tiny_model("llama", len(tiny_tokenizer("qwen"))), lora_dropout=0.1)
    trainer = make_trainer(tmp_path, objective=ObjectiveConfig(), student=model)
    model.train()
    frozen = model.get_base_model().model.layers[1]
    frozen.eval()
    model.config.use_cache = False
    monitor = _tiny_monitor(model, tiny_traces(6))
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {name: value.clone() for name, value in model.named_parameters()}
    config, states = model.config.to_dict(), _random_states()
    monitor.call_accuracy(trainer.accelerator)
    assert _random_states() == states
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.config.to_dict() == config and model.config._attn_implementation == "sdpa"
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())
    assert not torch.is_autocast_enabled("cpu") and not torch.is_inference_mode_enabled()


def test_answers_are_those_of_the_weights_at_hand(tmp_path: Path) -> None:
    """Nothing that was computed with earlier weights, such as keys and values of prompts, is used again."""
    model = tiny_model("llama", len(tiny_tokenizer("qwen")))
    other = tiny_model("llama", len(tiny_tokenizer("qwen")), seed=5)
    trainer = make_trainer(tmp_path, objective=ObjectiveConfig(), student=model)
    traces = tiny_traces(6)

    def answers(monitor: CallMonitor) -> dict[str, str]:
        found: dict[str, str] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(call_accuracy, "is_right", lambda trace, answer: bool(found.update({trace.id: answer.text})))
            monitor.call_accuracy(trainer.accelerator)
        return found

    monitor = _tiny_monitor(model, traces)
    first = answers(monitor)
    model.load_state_dict(other.state_dict())
    second = answers(monitor)
    assert first != second == answers(_tiny_monitor(other, traces))


class _Answers:
    """Stands in for the backend: right calls for even traces, wrong ones for odd ones."""

    asked: list[list[str]] = []

    def __init__(self, *_: Any, **__: Any) -> None:
        self._calls = {trace.id: trace.answer.calls for trace in tiny_traces(12)}

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        self.asked.append([request.id for request in requests])
        for request in requests:
            number = int(request.id.removeprefix("trace-"))
            calls = self._calls[request.id] or [ToolCall(name="set_light", arguments={"room": "hall"})]
            text = render_calls(calls if number % 2 == 0 else [*calls, *calls])
            yield Completion(request.id, text, "stop")

    def close(self) -> None:
        pass


def test_processes_share_the_first_traces_and_get_one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_accuracy, "LocalBackend", _Answers)
    monkeypatch.setattr(_Answers, "asked", [])
    traces = tiny_traces(12)
    counts: list[Tensor] = []

    def accelerator(index: int, of: int, reduce: Any) -> Any:
        return SimpleNamespace(process_index=index, num_processes=of, device=torch.device("cpu"), reduce=reduce)

    def keep(count: Tensor, reduction: str) -> Tensor:
        assert reduction == "sum"
        counts.append(count)
        return count

    monitor = _tiny_monitor(tiny_model("llama", 60), traces, num_examples=7)
    alone = monitor.call_accuracy(accelerator(0, 1, keep))
    assert _Answers.asked == [[f"trace-{index}" for index in range(7)]]
    assert alone == 3 / 7  # traces 0, 2 and 6; trace 4 wants no call
    counts.clear()
    for index in range(3):
        monitor.call_accuracy(accelerator(index, 3, keep))
    assert _Answers.asked[1:] == [["trace-0", "trace-3", "trace-6"], ["trace-1", "trace-4"], ["trace-2", "trace-5"]]
    total = sum(counts)
    for index in range(3):
        assert monitor.call_accuracy(accelerator(index, 3, lambda *_, **__: total)) == alone


def _trace(*calls: ToolCall) -> Trace:
    answer = Message.calling(list(calls)) if calls else Message(role="assistant", content="I can't do that.")
    trace = tiny_traces(1)[0]
    return trace.model_copy(update={"messages": (trace.messages[0], answer)})


KITCHEN, HALL = (ToolCall(name="set_light", arguments={"room": room}) for room in ("kitchen", "hall"))
TIMER = ToolCall(name="set_timer", arguments={"minutes": 5})


@pytest.mark.parametrize(
    ("expected", "text", "finish_reason", "right"),
    [
        ((KITCHEN,), render_calls([KITCHEN]), "stop", True),
        ((KITCHEN,), "Of course! " + render_calls([KITCHEN]), "call_complete", True),
        ((KITCHEN,), render_calls([KITCHEN], "fenced"), "stop", True),
        ((KITCHEN,), render_calls([HALL]), "stop", False),
        ((KITCHEN,), render_calls([KITCHEN, KITCHEN]), "stop", False),
        ((KITCHEN,), render_calls([KITCHEN]) + "<tool_call>{", "stop", False),
        ((KITCHEN,), render_calls([KITCHEN]), "length", False),
        ((KITCHEN,), "The kitchen, I see.", "stop", False),
        ((KITCHEN,), "", "stop", False),
        ((KITCHEN,), "", "error", False),
        ((KITCHEN, HALL), render_calls([HALL, KITCHEN]), "stop", True),
        ((KITCHEN, HALL), render_calls([KITCHEN]), "stop", False),
        ((TIMER,), '<tool_call>\n{"name": "set_timer", "arguments": {"minutes": 5.0}}\n</tool_call>', "stop", True),
        ((TIMER,), '<tool_call>\n{"name": "set_timer", "arguments": {"minutes": "5"}}\n</tool_call>', "stop", False),
        ((TIMER,), '<tool_call>\n{"name": "set_timer", "arguments": {"minutes": 5}}', "stop", True),
        ((TIMER,), '<tool_call>\n{"name": "set_timer", "arguments": {"minutes": 5}}', "length", False),
        ((), "I can't do that.", "stop", True),
        ((), "I can't do", "length", False),
        ((), " \n", "stop", False),
        ((), render_calls([KITCHEN]), "stop", False),
        ((), '<tool_call>{"name"', "stop", False),
    ],
)
def test_an_answer_is_right_where_an_evaluation_finds_no_error(
    expected: tuple[ToolCall, ...], text: str, finish_reason: FinishReason, right: bool
) -> None:
    trace = _trace(*expected)
    assert is_right(trace, Completion(trace.id, text, finish_reason)) is right
    if finish_reason != "error":
        prediction = prediction_from_text(trace.id, text, finish_reason)
        assert score_case(_case(trace), trace.specs, prediction).correct is right


def test_an_evaluation_between_measurements_has_no_call_accuracy(tmp_path: Path) -> None:
    model = tiny_model("llama", len(tiny_tokenizer("qwen")))
    monitor = _tiny_monitor(model, tiny_traces(2), steps=4)
    trainer = make_trainer(
        tmp_path,
        objective=ObjectiveConfig(),
        examples=random_examples(12),
        held_out=random_examples(2, seed=1),
        student=model,
        monitor=monitor,
        per_device_train_batch_size=2,
        num_train_epochs=1,
        eval_strategy="steps",
        eval_steps=3,
        logging_steps=3,
    )
    trainer.train()
    evaluations = [line for line in trainer.state.log_history if "held_out_ce" in line]
    assert [(line["step"], "held_out_call_accuracy" in line) for line in evaluations] == [
        (3, False),
        (4, True),
        (6, True),
    ]
