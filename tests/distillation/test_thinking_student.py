"""`keep_thinking`: from traces with thoughts to a student that thinks before it calls."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fcdistill.backends.local.local_backend import LocalBackend
from fcdistill.config import CLASS_NAMES, EvalConfig, TrainConfig
from fcdistill.distillation import preparation
from fcdistill.distillation.preparation import prepare
from fcdistill.distillation.run import run_training
from fcdistill.errors import ConfigError, ModelError
from fcdistill.evaluation.runner import run_eval
from fcdistill.models.loading import load_model
from fcdistill.prompts.rendering import render_prompt
from fcdistill.records import EvalCase, Prediction, Report, Trace
from fcdistill.storage import read_json, read_jsonl, write_jsonl
from fcdistill.toolcalls.parsing import parse_output
from tests.distillation.tiny_data import tiny_traces
from tests.distillation.world import train_config
from tests.prompts.families import family_tokenizer
from tests.tiny import tiny_model


def thoughtful_traces(count: int) -> list[Trace]:
    """`tiny_traces`, of which every fourth lacks a thought."""
    traces = []
    for index, trace in enumerate(tiny_traces(count)):
        thought = "" if index % 4 == 3 else f"Word {index} of {len(trace.tools)} tools."
        answer = trace.answer.model_copy(update={"reasoning": thought})
        traces.append(trace.model_copy(update={"messages": (*trace.messages[:-1], answer)}))
    return traces


def thinking_config(directory: Path, family: str = "qwen3_thinking", **fields: Any) -> TrainConfig:
    """A training on eight traces, six of them with a thought, of a student with the template of a family."""
    tokenizer = family_tokenizer(family)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(directory / "student")
    tiny_model("llama", len(tokenizer), num_layers=2, hidden_size=64).save_pretrained(directory / "student")
    write_jsonl(directory / "traces.jsonl", thoughtful_traces(8))
    values = {"traces": str(directory / "traces.jsonl"), "student": {"model": str(directory / "student")}}
    return train_config(directory, directory / "run", **values | {"teacher": None, "keep_thinking": True} | fields)


def test_examples_hold_the_thought_only_where_it_is_kept(tmp_path: Path) -> None:
    kept = prepare(thinking_config(tmp_path), signal=None)
    left = prepare(thinking_config(tmp_path, keep_thinking=False), signal=None)
    thought = CLASS_NAMES.index("thought")
    assert [example.has_thought for example in kept.train] == [index % 4 != 3 for index in range(8)]
    for trace, with_thought, without in zip(thoughtful_traces(8), kept.train, left.train, strict=True):
        assert trace.answer.reasoning in with_thought.text and thought in with_thought.classes
        assert "<think>" not in without.text and not without.has_thought and thought not in without.classes
        assert with_thought.text.endswith(without.text)
        prompt = render_prompt(kept.tokenizer, trace.messages[:-1], trace.specs, "compact")
        assert with_thought.student_prompt == tuple(prompt)
        closed = left.tokenizer.decode(without.student_prompt)
        assert closed == kept.tokenizer.decode(with_thought.student_prompt) + "<think>\n\n</think>\n\n"


def test_a_teacher_of_the_same_template_thinks_too(tmp_path: Path) -> None:
    config = thinking_config(tmp_path, teacher=str(tmp_path / "student"), objective={"kd_weight": 1.0})
    prepared = prepare(config, signal="online")
    assert prepared.teacher is not None
    assert not any("<think>" in prepared.tokenizer.decode(each.teacher_prompt) for each in prepared.train)


@pytest.mark.parametrize(
    ("family", "fields"), [("qwen3", {}), ("qwen2", {}), ("deepseek_v31", {}), ("glm4", {})], ids=str
)
def test_a_template_that_writes_no_thought_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, fields: dict[str, Any]
) -> None:
    config = thinking_config(tmp_path, family, **fields)
    with pytest.raises(ModelError, match="keep_thinking is true, but the chat template of student .* no thought"):
        run_training(config)
    assert not config.out.exists()
    monkeypatch.setattr(preparation, "_require_thinking", lambda *_: None)
    with pytest.raises(ModelError, match="trace 'trace-0': .*can't be told"):
        prepare(config, signal=None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"student": {"model": "m", "chat_template_kwargs": {"enable_thinking": False}}}, "enable_thinking: false"),
        ({"augmentation": {"rename_probability": 0.5}}, "by the names that they had"),
    ],
)
def test_what_contradicts_thinking_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        thinking_config(tmp_path, **fields)


def evaluated(backend: LocalBackend, traces: Sequence[Trace], directory: Path) -> Report:
    """The traces' requests as a suite."""
    cases = [
        EvalCase(
            id=trace.id,
            messages=trace.messages[:-1],
            tools=trace.tools,
            behaviour="call" if trace.answer.calls else "no_call",
            expected=(trace.answer.calls,),
            category="simple",
        )
        for trace in traces
    ]
    write_jsonl(directory / "cases.jsonl", cases)
    model = {"backend": "local", "model": str(directory / "run")}
    values = {"cases": directory / "cases.jsonl", "out": directory / "eval", "model": model}
    return run_eval(EvalConfig.model_validate(values), backend).report


@pytest.mark.slow
def test_a_student_learns_to_think_and_then_to_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = thinking_config(
        tmp_path,
        tuning={"method": "full"},
        tools_in_prompt="none",
        objective={"class_weights": {"thought": 0.5}},
        epochs=300,
        examples_per_step=8,
        examples_per_pack=8,
        learning_rate=5e-3,
        save_steps=1000,
        log_steps=50,
    )
    run_training(config)
    data = read_json(config.out / "data.json", "data report")
    num_thought = data["completion_classes"]["thought"]
    assert data["thoughts"] == {"examples": 6, "examples_without": 2, "tokens": num_thought} and num_thought > 6 * 5
    assert "6 of 8 examples tell what was thought before the answer" in capsys.readouterr().err
    loaded = load_model(str(config.out), dtype="float32", device="cpu")
    assert loaded.card is not None and loaded.card.chat_template_kwargs == {"enable_thinking": True}
    traces = thoughtful_traces(8)
    report = evaluated(LocalBackend(loaded), traces, tmp_path)
    assert (report.num_cases, report.call_accuracy.successes, report.thought_tokens.n) == (8, 8, 8)
    assert report.thought_tokens.mean
    saved = {line.id: line for line in read_jsonl(tmp_path / "eval" / "predictions.jsonl", Prediction)}
    for trace in traces:
        answer = saved[trace.id]
        assert parse_output(answer.text).thought == trace.answer.reasoning
        assert bool(answer.thought_tokens) == bool(trace.answer.reasoning)
