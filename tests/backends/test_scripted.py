"""Tests of `fcdistill.backends.scripted` and of `open_backend` for scripts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fcdistill.backends import Completion, Request, ScriptedBackend, open_backend
from fcdistill.config import DecodeSettings, ScriptedBackendConfig
from fcdistill.errors import DataError
from fcdistill.records import Message

SETTINGS = DecodeSettings()


def request(identity: str, *contents: str) -> Request:
    roles = ("user", "assistant", "user")
    return Request(
        identity, tuple(Message(role=role, content=text) for role, text in zip(roles, contents, strict=False))
    )


def write_script(path: Path, *lines: dict[str, object]) -> ScriptedBackendConfig:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ScriptedBackendConfig(backend="scripted", answers=path)


def test_a_mapping_answers_the_last_user_message() -> None:
    backend = ScriptedBackend({"second": "answer"})
    completions = list(backend.complete([request("a", "first", "hm", "second")], SETTINGS))
    assert completions == [Completion("a", "answer", "stop", latency_s=0.0)]


def test_a_function_sees_the_whole_request() -> None:
    backend = ScriptedBackend(lambda asked: f"{asked.id}:{len(asked.messages)}")
    completions = backend.complete([request("a", "x"), request("b", "x", "y", "z")], SETTINGS)
    assert [completion.text for completion in completions] == ["a:1", "b:3"]


def test_an_unknown_request_gets_an_error_and_the_others_an_answer() -> None:
    backend = ScriptedBackend({"known": "yes"})
    unknown, known = backend.complete([request("a", "unknown"), request("b", "known")], SETTINGS)
    assert unknown.finish_reason == "error" and unknown.error is not None and "'unknown'" in unknown.error
    assert (known.text, known.error) == ("yes", None)


def test_open_backend_reads_a_script(tmp_path: Path) -> None:
    config = write_script(tmp_path / "s.jsonl", {"request": "hi", "text": "hello"}, {"request": "bye", "text": ""})
    backend = open_backend(config)
    assert [
        completion.text for completion in backend.complete([request("a", "bye"), request("b", "hi")], SETTINGS)
    ] == [
        "",
        "hello",
    ]
    assert str(tmp_path / "s.jsonl") in backend.ref.model


def test_contradicting_lines_are_refused(tmp_path: Path) -> None:
    config = write_script(tmp_path / "s.jsonl", {"request": "hi", "text": "a"}, {"request": "hi", "text": "b"})
    with pytest.raises(DataError, match="answers 'hi' in two ways"):
        open_backend(config)


@pytest.mark.parametrize("line", [{"request": "hi"}, {"request": "", "text": "x"}, {"request": "a", "txt": "b"}])
def test_malformed_lines_are_refused_with_their_number(tmp_path: Path, line: dict[str, object]) -> None:
    config = write_script(tmp_path / "s.jsonl", {"request": "ok", "text": "x"}, line)
    with pytest.raises(DataError, match="line 2"):
        open_backend(config)


def test_scripts_need_no_torch() -> None:
    code = "import sys, fcdistill.backends; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_said_is_without_what_is_thought() -> None:
    assert Completion("a", " Turn it on. ", "stop").said == " Turn it on. "
    assert Completion("a", "<think>Which?</think>\n\nTurn it on.", "stop").said == "Turn it on."
    assert Completion("a", "Which?\n</think>\nTurn it on.", "stop").said == "Turn it on."
    assert Completion("a", "<think>Which", "length").said == ""
