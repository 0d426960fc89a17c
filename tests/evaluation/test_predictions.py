import json
from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import DataError
from fcdistill.evaluation.predictions import prediction_from_text, predictions_of_suite, read_predictions
from fcdistill.records import Prediction, ToolCall
from fcdistill.storage import write_jsonl

LIGHT = {"name": "set_light", "arguments": {"room": "kitchen"}}


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path, *lines: object, names: dict[str, str] | None = None) -> dict[str, Prediction]:
    saved = write(path / "predictions.jsonl", *lines)
    found = predictions_of_suite(saved, read_predictions(saved), set("abc"), names or {}, dict.fromkeys("abc", ()))
    assert all(key == (answer.id, answer.repetition) == (answer.id, 0) for key, answer in found.items())
    return {answer.id: answer for answer in found.values()}


def test_text_becomes_calls() -> None:
    prediction = prediction_from_text(
        "a", json.dumps(LIGHT), "stop", latency_s=0.5, prompt_tokens=9, completion_tokens=4
    )
    assert prediction.calls == (ToolCall.model_validate(LIGHT),)
    assert (prediction.latency_s, prediction.prompt_tokens, prediction.completion_tokens) == (0.5, 9, 4)
    assert prediction.finish_reason == "stop"


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": ' + "[" * 100 + "]" * 100 + "}",
        '{"a": ' + '{"b":' * 300 + "1" + "}" * 300 + "}",
    ],
)
def test_calls_that_no_file_can_hold_are_parse_errors(arguments: str) -> None:
    text = f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'
    prediction = prediction_from_text("a", text + json.dumps(LIGHT), "stop")
    assert [call.name for call in prediction.calls] == ["set_light"]
    assert len(prediction.parse_errors) == 1
    assert Prediction.model_validate_json(prediction.model_dump_json()) == prediction


def test_lone_surrogates_in_the_text_are_replaced() -> None:
    assert prediction_from_text("a", "x\ud800y").text == "x\ufffd\ufffd\ufffdy"


@pytest.mark.parametrize(
    "line",
    [
        {"text": json.dumps(LIGHT)},
        {"text": "<tool_call>" + json.dumps(LIGHT) + "</tool_call>"},
        {"tool_calls": [LIGHT]},
        {"tool_calls": [LIGHT], "text": "On it."},
        {"tool_calls": [{"id": "1", "type": "function", "function": LIGHT}]},
        {"tool_calls": [{"function": {"name": "set_light", "arguments": '{"room": "kitchen"}'}}]},
        {"tool_calls": [], "text": json.dumps(LIGHT)},
        {"tool_calls": None, "text": json.dumps(LIGHT)},
    ],
)
def test_calls_are_read_in_all_their_forms(tmp_path: Path, line: dict[str, Any]) -> None:
    prediction = read(tmp_path, {"id": "a", **line})["a"]
    assert prediction.calls == (ToolCall.model_validate(LIGHT),)
    assert prediction.parse_errors == ()


@pytest.mark.parametrize("arguments", [None, "", {}, "{}"])
def test_no_arguments_are_an_empty_object(tmp_path: Path, arguments: object) -> None:
    line = {"id": "a", "tool_calls": [{"name": "f", "arguments": arguments}]}
    assert read(tmp_path, line)["a"].calls == (ToolCall(name="f"),)


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ("f()", "not_a_call"),
        ({}, "not_a_call"),
        ({"name": None}, "not_a_call"),
        ({"function": "f"}, "not_a_call"),
        ({"name": "f", "arguments": []}, "not_a_call"),
        ({"name": "f", "arguments": False}, "not_a_call"),
        ({"name": "f", "arguments": "[1]"}, "not_a_call"),
        ({"name": "f", "arguments": "{"}, "invalid_json"),
        ({"name": "f", "arguments": '{"a": 1, "a": 2}'}, "duplicate_key"),
        ({"name": "f", "arguments": '{"a": NaN}'}, "not_finite"),
        ({"name": "f", "arguments": '{"a": "\\ud800"}'}, "invalid_json"),
    ],
)
def test_a_malformed_tool_call_is_a_parse_error(tmp_path: Path, item: object, kind: str) -> None:
    prediction = read(tmp_path, {"id": "a", "tool_calls": [LIGHT, item]})["a"]
    assert [call.name for call in prediction.calls] == ["set_light"]
    assert [error.kind for error in prediction.parse_errors] == [kind]


@pytest.mark.parametrize(
    ("given", "read_as"),
    [("tool_calls", "stop"), ("length", "length"), ("content_filter", "unknown"), (None, "unknown")],
)
def test_finish_reasons_of_apis(tmp_path: Path, given: str | None, read_as: str) -> None:
    assert read(tmp_path, {"id": "a", "text": "x", "finish_reason": given})["a"].finish_reason == read_as


def test_an_earlier_evals_predictions_are_read_as_they_are(tmp_path: Path) -> None:
    saved = [
        prediction_from_text("a", '{"name": "f", "arguments": {}} {"name": ', "length", latency_s=1.5),
        Prediction(id="b", calls=(ToolCall(name="f"),), finish_reason="stop"),
        Prediction(id="c", error="time-out"),
    ]
    write_jsonl(tmp_path / "saved.jsonl", saved)
    assert list(read_predictions(tmp_path / "saved.jsonl").values()) == saved


def test_original_tool_names_become_the_catalogues(tmp_path: Path) -> None:
    line = {"id": "a", "tool_calls": [{"name": "files.read", "arguments": {}}]}
    assert read(tmp_path, line, names={"files.read": "files_read"})["a"].calls == (ToolCall(name="files_read"),)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([{"id": "a"}], "neither text nor tool_calls"),
        ([{"id": "a", "text": "x"}, {"id": "z", "text": "x"}], "1 of 2 ids belong to no case, the first is 'z'"),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], "case 'a' has an answer number 2, and repeat is 1"),
        ([{"id": 1, "text": "x"}], "line 1: id"),
        ([{"id": "a", "txt": "x"}], "line 1: .*txt"),
        ([{"id": "a", "tool_calls": "f()"}], "line 1: tool_calls"),
        ([{"id": "a", "tool_calls": LIGHT}], "line 1: tool_calls"),
        ([["a", "x"]], "line 1"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, lines: list[Any], found: str) -> None:
    with pytest.raises(DataError, match=found):
        read(tmp_path, *lines)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_predictions(tmp_path / "none.jsonl")


def test_several_answers_to_a_case_are_numbered(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "text": "zero"},
        {"id": "b", "text": "last", "repetition": 2},
        {"id": "a", "text": "two"},
        {"id": "b", "text": "first"},
        {"id": "a", "text": "one", "repetition": 1},
    ]
    saved = write(tmp_path / "saved.jsonl", *lines)
    found = read_predictions(saved, repeat=3)
    assert {key: answer.text for key, answer in found.items()} == {
        ("a", 0): "zero",
        ("a", 1): "one",
        ("a", 2): "two",
        ("b", 0): "first",
        ("b", 2): "last",
    }
    assert all(key == (answer.id, answer.repetition) for key, answer in found.items())
    with pytest.raises(DataError, match="case '[ab]' has an answer number 3, and repeat is 2") as caught:
        read_predictions(saved, repeat=2)
    assert "--repeat 3" in caught.value.fix


def test_a_repetition_stands_once(tmp_path: Path) -> None:
    saved = write(tmp_path / "saved.jsonl", *[{"id": "a", "text": "x", "repetition": 1}] * 2)
    with pytest.raises(DataError, match="repetition 1 of case 'a' stands there twice"):
        read_predictions(saved, repeat=2)
