import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from fcdistill.config import Divergence, TrainConfig, parse_config
from fcdistill.distillation import preparation
from fcdistill.distillation.preparation import prepare
from fcdistill.errors import ConfigError, DataError
from fcdistill.records import Message, ModelRef
from fcdistill.storage import write_jsonl
from tests.distillation.tiny_data import tiny_traces
from tests.prompts.families import FAMILIES


def _config(directory: Path, models: Path, **fields: Any) -> TrainConfig:
    write_jsonl(directory / "traces.jsonl", tiny_traces(6))
    values = {
        "traces": directory / "traces.jsonl",
        "out": directory / "run",
        "student": {"model": str(models / "student")},
        "teacher": str(models / "teacher"),
        "device": "cpu",
        **fields,
    }
    config: TrainConfig = parse_config(values, "train", "test")
    return config


@pytest.mark.parametrize(
    ("student", "objective", "pairs"),
    [
        ({"model": "{models}/student"}, {"kd_weight": 1.0}, ()),
        ({"model": "{models}/student"}, {"hidden_weight": 1.0}, ((1, 2), (2, 3))),
        ({"model": "{models}/student"}, {"hidden_weight": 1.0, "layer_map": [[2, 1]]}, ((2, 1),)),
        (
            {"init": "from_teacher_layers", "model": "{models}/teacher", "keep_layers": [0, 2]},
            {"hidden_weight": 1.0, "num_layer_pairs": 9},
            ((1, 2), (2, 3)),
        ),
    ],
)
def test_the_aligned_layers_are_known_before_any_weights(
    tmp_path: Path,
    tiny_models: Path,
    monkeypatch: pytest.MonkeyPatch,
    student: dict[str, Any],
    objective: dict[str, Any],
    pairs: Any,
) -> None:
    monkeypatch.setattr(preparation, "load_model", lambda *_, **__: pytest.fail("no weights are needed"))
    student = {**student, "model": student["model"].format(models=tiny_models)}
    prepared = prepare(_config(tmp_path, tiny_models, student=student, objective=objective), signal="online")
    assert prepared.teacher is not None
    assert prepared.teacher.pairs == pairs
    assert (prepared.teacher.shape.num_layers, prepared.teacher.shape.width) == (3, 48)
    assert prepared.teacher.vocabulary_size == len(prepared.teacher.tokenizer)
    assert prepared.teacher.string_pairs is None
    assert all(example.teacher_prompt for example in prepared.train)


def test_a_trace_that_is_made_of_held_out_ones_is_left_out(
    tmp_path: Path, tiny_models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config(tmp_path, tiny_models, teacher=None, held_out_fraction=0.3)
    plain = prepare(config, signal=None)
    mine, theirs = plain.train[0].trace_id, plain.held_out[0].trace_id
    assert {mine, theirs} <= {trace.id for trace in tiny_traces(6)}
    by_id = {trace.id: trace for trace in tiny_traces(6)}
    joined = []
    for name, parts in (("within", [mine]), ("across", [mine, theirs])):
        meta = by_id[mine].meta.model_copy(update={"teacher": ModelRef(model="m", params={"from": parts})})
        joined.append(by_id[mine].model_copy(update={"id": name, "meta": meta}))
    write_jsonl(config.traces, [*tiny_traces(6), *joined])
    found = prepare(config, signal=None)
    assert [example.trace_id for example in found.held_out] == [example.trace_id for example in plain.held_out]
    assert {example.trace_id for example in found.train} == {example.trace_id for example in plain.train} | {"within"}
    assert "1 traces are made of training and of held-out ones" in caplog.text


def test_without_a_teacher_none_is_looked_for(tmp_path: Path, tiny_models: Path) -> None:
    prepared = prepare(_config(tmp_path, tiny_models, teacher="./nowhere"), signal=None)
    assert prepared.teacher is None and len(prepared.train) == 6
    assert not any(example.teacher_prompt for example in prepared.train)


@pytest.mark.parametrize(("style", "count"), [("none", 6), ("compact", 7)])
def test_what_a_prompt_without_tools_can_not_tell_apart_is_left_out(
    tmp_path: Path, tiny_models: Path, style: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config(tmp_path, tiny_models, tools_in_prompt=style)
    refusal = tiny_traces(5)[4].model_copy(update={"id": "without tools", "tools": ()})
    write_jsonl(config.traces, [*tiny_traces(6), refusal])
    assert len(prepare(config, signal=None).train) == count
    assert ("1 traces without a call lack tools" in caplog.text) == (style == "none")


def test_augmented_examples_are_those_that_are_trained_on(tmp_path: Path, tiny_models: Path) -> None:
    fields = {"max_example_tokens": 4000, "held_out_fraction": 0.4, "teacher": None}
    plain = prepare(_config(tmp_path, tiny_models, **fields), signal=None)
    assert plain.augmented is None and plain.samples == [*plain.train, *plain.held_out]
    augmentation = {"rename_probability": 1.0}
    prepared = prepare(_config(tmp_path, tiny_models, augmentation=augmentation, **fields), signal=None)
    assert (prepared.train, prepared.held_out) == (plain.train, plain.held_out)
    assert prepared.augmented is not None
    fetched = [prepared.augmented[index] for index in range(len(prepared.augmented))]
    assert [example.trace_id for example in fetched] == [example.trace_id for example in plain.train]
    assert all(new.student_prompt != old.student_prompt for new, old in zip(fetched, plain.train, strict=True))
    assert prepared.samples == [*plain.train, *plain.held_out, prepared.augmented.longest]


def test_samples_are_as_long_as_the_students_own_answers(tmp_path: Path, tiny_models: Path) -> None:
    fields = {"objective": {"kd_weight": 1.0}, "on_policy": {"max_new_tokens": 300}}
    plain = prepare(_config(tmp_path, tiny_models, **fields), signal="online")
    prompt = max(example.num_prompt_tokens for example in plain.train)
    longest = max(example.num_tokens for example in plain.train)
    for limit, num_tokens in ((4096, prompt + 300), (longest + 7, longest + 7)):
        config = _config(tmp_path, tiny_models, max_example_tokens=limit, on_policy_fraction=0.5, **fields)
        sample = prepare(config, signal="online").samples[-1]
        assert len(sample.student_ids) == len(sample.teacher_ids) == num_tokens - 1


@pytest.mark.parametrize(
    ("long_side", "monitor", "message"),
    [
        ("held_out", {}, None),
        ("held_out", {"steps": 1}, "no held-out trace is left: .* than max_example_tokens"),
        ("train", {}, "no training trace is left: .* than max_example_tokens"),
    ],
)
def test_a_side_of_a_split_may_lose_all_traces_by_their_length(
    tmp_path: Path, tiny_models: Path, long_side: str, monitor: dict[str, int], message: str | None
) -> None:
    config = _config(tmp_path, tiny_models, teacher=None, held_out_fraction=0.3, monitor=monitor)
    split = prepare(config, signal=None)
    longest = max(example.num_tokens for example in split.samples)
    config = config.model_copy(update={"max_example_tokens": longest})
    ids = {example.trace_id for example in getattr(split, long_side)}
    lengthened = Message(role="user", content="lamp " * longest)
    write_jsonl(
        config.traces,
        [
            trace.model_copy(update={"messages": (lengthened, *trace.messages[1:])}) if trace.id in ids else trace
            for trace in tiny_traces(6)
        ],
    )
    if message is None:
        assert prepare(config, signal=None).held_out == []
        return
    with pytest.raises(DataError, match=message):
        prepare(config, signal=None)


def _foreign(directory: Path, models: Path, **objective: Any) -> TrainConfig:
    """A teacher of another tokenizer, which also changes text: what is refused is refused before it is read."""
    return _config(directory, models, teacher=str(models / "lowercase"), objective=objective)


@pytest.mark.parametrize("divergence", sorted(set(get_args(Divergence)) - {"forward_kl"}))
def test_a_teacher_of_another_tokenizer_needs_forward_kl(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, divergence: str
) -> None:
    monkeypatch.setattr(preparation, "load_model", lambda *_, **__: pytest.fail("no weights are needed"))
    with pytest.raises(ConfigError, match=f"kd_divergence is {divergence}, but student .* have different tokenizers"):
        prepare(_foreign(tmp_path, tiny_models, kd_weight=1.0, kd_divergence=divergence), signal="online")


@pytest.mark.parametrize("objective", [{"kd_weight": 1.0}, {"hidden_weight": 1.0, "kd_divergence": "tvd"}])
def test_a_teacher_of_another_tokenizer_is_aligned_before_any_weights(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, objective: dict[str, Any]
) -> None:
    monkeypatch.setattr(preparation, "load_model", lambda *_, **__: pytest.fail("no weights are needed"))
    config = _config(tmp_path, tiny_models, student={"model": str(tiny_models / "chatml")}, objective=objective)
    prepared = prepare(config, signal="online")
    assert prepared.teacher is not None and prepared.teacher.string_pairs is not None
    assert prepared.teacher.vocabulary_size == len(prepared.teacher.tokenizer)
    assert all(example.alignment is not None for example in prepared.train)


def _single_call_student(directory: Path, models: Path) -> Path:
    """The student with a template that writes one call at a time."""
    shutil.copytree(models / "student", directory / "single")
    (directory / "single" / "chat_template.jinja").write_text(FAMILIES["llama3"].template)
    return directory / "single"


def test_traces_with_several_calls_are_named_and_left_out_where_the_template_writes_one_alone(
    tmp_path: Path, tiny_models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student = {"model": str(_single_call_student(tmp_path, tiny_models))}
    config = _config(tmp_path, tiny_models, student=student, tuning={"method": "full"})
    traces = tiny_traces(6)
    calls = traces[0].answer.calls
    traces[0] = traces[0].model_copy(update={"messages": (traces[0].messages[0], Message.calling([*calls, *calls]))})
    write_jsonl(config.traces, traces)
    with caplog.at_level("WARNING"):
        prepared = prepare(config, signal=None)
    assert "several calls" in caplog.text and traces[0].id in caplog.text and "template: kit" in caplog.text
    assert prepared.left_out == [traces[0].id]
    assert {example.trace_id for example in prepared.train} == {trace.id for trace in traces[1:]}

    kit = _config(tmp_path, tiny_models, student={**student, "template": "kit"}, tuning={"method": "full"})
    write_jsonl(kit.traces, traces)
    assert not prepare(kit, signal=None).left_out

    write_jsonl(config.traces, traces[:1])
    with pytest.raises(DataError, match="several calls at once"):
        prepare(config, signal=None)


def test_a_teachers_template_is_chosen_too_and_neither_side_thinks(tmp_path: Path, tiny_models: Path) -> None:
    for side in ("student", "teacher"):
        shutil.copytree(tiny_models / side, tmp_path / side)
        (tmp_path / side / "chat_template.jinja").write_text(FAMILIES["qwen3"].template)
    fields = {"student": {"model": str(tmp_path / "student")}, "teacher": str(tmp_path / "teacher")}
    prepared = prepare(_config(tmp_path, tiny_models, **fields), signal="online")
    assert prepared.teacher is not None
    closed = prepared.tokenizer.encode("</think>\n\n", add_special_tokens=False)
    for example in prepared.train:
        assert list(example.student_prompt[-len(closed) :]) == list(example.teacher_prompt[-len(closed) :]) == closed
    chosen = {"teacher_chat_template_kwargs": {"enable_thinking": True}}
    thinking = prepare(_config(tmp_path, tiny_models, **fields, **chosen), signal="online")
    assert list(thinking.train[0].teacher_prompt[-len(closed) :]) != closed
    with pytest.raises(ConfigError, match="teacher_template"):
        _config(tmp_path, tiny_models, **{**fields, "teacher": None}, signal="self", **chosen)
