import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from fcdistill.config import TrainConfig, parse_config
from fcdistill.distillation.preparation import load_teacher, prepare, teacher_layout
from fcdistill.distillation.signals.sources import OnlineTeacher
from fcdistill.distillation.teacher.report import (
    cached_likelihoods,
    online_likelihoods,
    report_teacher,
    summarise_teacher,
)
from fcdistill.distillation.teacher.write_cache import cached_teacher
from fcdistill.prompts.rendering import render_example
from fcdistill.records import TeacherReport, Trace
from fcdistill.storage import iter_jsonl, read_json, write_jsonl
from tests.distillation.tiny_data import PACKED, UNPACKED, tiny_traces

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path, tiny_models: Path) -> Any:
    write_jsonl(tmp_path / "traces.jsonl", tiny_traces(10))

    def make(**fields: Any) -> TrainConfig:
        values = {
            "traces": tmp_path / "traces.jsonl",
            "out": tmp_path / "run",
            "student": {"model": str(tiny_models / "student")},
            "teacher": str(tiny_models / "teacher"),
            "objective": {"kd_weight": 1.0},
            "tools_in_prompt": "compact",
            "examples_per_step": 4,
            "examples_per_pack": 4,
            "dtype": "float32",
            "device": "cpu",
            "cache": {"dir": tmp_path / "cache", "top_k": 8},
            **fields,
        }
        parsed: TrainConfig = parse_config(values, "train", "test")
        return parsed

    return make


def _online(config: TrainConfig) -> tuple[Any, OnlineTeacher]:
    prepared = prepare(config, signal="online")
    assert prepared.teacher is not None
    return prepared, load_teacher(config, prepared.teacher, CPU, (), needs_logits=False)


def _by_hand(config: TrainConfig, prepared: Any, teacher: OnlineTeacher) -> dict[str, list[tuple[float, bool]]]:
    """NLL and agreement of the teacher's own tokens by plain forward passes, under the names of the report's rows."""
    tokenizer = prepared.teacher.tokenizer
    found = defaultdict(list)
    for trace in iter_jsonl(config.traces, Trace):
        text = render_example(prepared.tokenizer, trace.messages, trace.specs, "none").completion_text
        stop = "<|im_end|>"
        own = render_example(tokenizer, trace.messages, trace.specs, "full")
        assert own.completion_text == text.removesuffix(stop) + stop, "both sides have one dialect here"
        ids = torch.tensor([[*own.prompt_ids, *own.completion_ids]])
        rows = teacher.model(ids).logits[0, len(own.prompt_ids) - 1 : -1, : teacher.vocabulary_size]
        for row, token, kind in zip(rows.log_softmax(-1), own.completion_ids, own.completion_classes, strict=True):
            figures = (-row[token].item(), row.argmax().item() == token)
            names = ["overall", kind]
            if not trace.answer.calls:
                names.append("(no call)")
            elif kind in ("name", "arg_key", "arg_value"):
                names.append(trace.answer.calls[0].name)
            for name in names:
                found[name].append(figures)
    return found


def _assert_is(report: TeacherReport, expected: dict[str, list[tuple[float, bool]]]) -> None:
    rows = {"overall": report.overall, **report.by_class, **report.by_tool}
    assert rows.keys() == expected.keys()
    for name, tokens in expected.items():
        assert rows[name].num_tokens == len(tokens)
        assert rows[name].nll == pytest.approx(sum(nll for nll, _ in tokens) / len(tokens), rel=1e-4), name
        assert rows[name].agreement_rate == pytest.approx(sum(agrees for _, agrees in tokens) / len(tokens)), name


@pytest.mark.parametrize("student", ["student", "chatml"])
@pytest.mark.parametrize("layout", [PACKED, UNPACKED], ids=["packed", "unpacked"])
def test_figures_are_those_of_plain_forward_passes(config: Any, tiny_models: Path, student: str, layout: Any) -> None:
    """With the student's tokenizer and with another one: tokens and classes are the teacher's."""
    settings = config(student={"model": str(tiny_models / student)})
    prepared, teacher = _online(settings)
    heard = online_likelihoods(teacher, layout, prepared.train, 4, CPU)
    report = summarise_teacher(heard, prepared.teacher.tokenizer, prepared.teacher.ref, "online")
    assert set(report.by_tool) == {"set_light", "set_timer", "(no call)"} and list(report.by_tool)[-1] == "(no call)"
    assert set(report.by_class) == {"structure", "name", "arg_key", "arg_value", "text", "stop"}
    assert report.num_examples == 10
    _assert_is(report, _by_hand(settings, prepared, teacher))


@pytest.mark.parametrize("student", ["student", "chatml"])
def test_a_cache_says_what_the_teacher_says_however_few_tokens_it_keeps(
    config: Any, tiny_models: Path, tmp_path: Path, student: str
) -> None:
    model = {"model": str(tiny_models / student)}
    prepared, teacher = _online(config(student=model))
    expected = list(online_likelihoods(teacher, PACKED, prepared.train, 4, CPU))
    settings = config(student=model, cache={"dir": tmp_path / "cache", "top_k": 4})
    cached = cached_teacher(settings, prepared, lambda _: None)
    for online, heard in zip(expected, cached_likelihoods(cached.cache, prepared.train), strict=True):
        assert torch.allclose(heard.nll_U, online.nll_U, atol=1e-5)
        assert torch.equal(heard.agrees_U, online.agrees_U)


def test_the_sample_is_bounded_and_seeded_and_the_file_is_kept(config: Any, tmp_path: Path) -> None:
    lines: list[str] = []

    def made(out: str, **fields: Any) -> tuple[TrainConfig, TeacherReport]:
        settings = config(out=tmp_path / out, **fields)
        prepared, teacher = _online(settings)
        layout = teacher_layout(settings, teacher, prepared.train)
        report_teacher(settings, prepared, teacher, layout, CPU, lines.append)
        return settings, TeacherReport.model_validate(read_json(tmp_path / out / "teacher.json"))

    settings, first = made("a", teacher_report_examples=3)
    assert first.num_examples == 3 and first.teacher.model.endswith("teacher") and first.signal == "online"
    assert made("b", teacher_report_examples=3)[1] == first
    assert made("c", teacher_report_examples=3, seed=1)[1].overall != first.overall
    assert made("d")[1].num_examples == 10
    (table, *_) = lines
    assert "on 3 of 10 examples" in table and "structure" in table and "its likeliest" in table
    lines.clear()
    assert made("a", teacher_report_examples=5)[1] == first and lines == []


def test_nothing_is_measured_where_nobody_asks(config: Any) -> None:
    settings = config(teacher_report_examples=0)
    prepared, teacher = _online(settings)
    report_teacher(settings, prepared, teacher, PACKED, CPU, lambda _: pytest.fail("no table is wanted"))
    assert not settings.out.exists()


def test_a_teacher_of_another_dialect_is_warned_of(
    config: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config()
    prepared, teacher = _online(settings)
    with caplog.at_level(logging.WARNING):
        report_teacher(settings, prepared, teacher, PACKED, CPU, lambda _: None)
    assert "it speaks another dialect than the student" in caplog.text
    for remedy in ("teacher_examples", "fcdistill adapt", "kd_gate", "class_weights"):
        assert remedy in caplog.text
    caplog.clear()
    (settings.out / "teacher.json").unlink()
    monkeypatch.setattr("fcdistill.distillation.teacher.report._UNLIKELY_STRUCTURE_NLL", 100.0)
    with caplog.at_level(logging.WARNING):
        report_teacher(settings, prepared, teacher, PACKED, CPU, lambda _: None)
    assert not caplog.text
