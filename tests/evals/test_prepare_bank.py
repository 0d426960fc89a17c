"""The files of the banking bench, made of a small stand-in for its data."""

import json
import sys
from pathlib import Path

import prepare_bank
import pytest

from fcdistill.records import EvalCase
from fcdistill.storage import read_json, read_jsonl
from fcdistill.tools.catalog import load_catalog


def turn(name: str, **arguments: str) -> dict[str, object]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def row(*messages: dict[str, object], name: str, **parameters: str) -> str:
    return json.dumps(
        {"question": json.dumps(messages), "answer": json.dumps({"name": name, "parameters": parameters})}
    )


HELLO = {"role": "user", "content": "Hello"}
BALANCE = {"role": "user", "content": "What's in my savings?"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    parameters = {"type": "object", "properties": {"account": {"type": "string"}}}
    tools = [
        {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}
        for name in ("greet", "balance")
    ]
    (tmp_path / "job_description.json").write_text(json.dumps({"task_description": "A bank.", "tools": tools}))
    (tmp_path / "train.jsonl").write_text(row(HELLO, name="greet") + "\n")
    (tmp_path / "test.jsonl").write_text(row(HELLO, turn("greet"), BALANCE, name="balance", account="savings") + "\n")
    (tmp_path / "more.jsonl").write_text(json.dumps({"messages": [BALANCE, turn("balance", account="savings")]}) + "\n")
    return tmp_path


def test_every_call_of_a_test_conversation_is_a_case(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = data / "out"
    arguments = [str(data), "--more", str(data / "more.jsonl"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["prepare_bank", *arguments])
    assert prepare_bank.main() == 0
    cases = list(read_jsonl(out / "cases.jsonl", EvalCase, "cases"))
    assert [case.id for case in cases] == ["01-1", "01-2"]
    assert [len(case.messages) for case in cases] == [1, 3]
    assert [case.expected[0][0].name for case in cases] == ["greet", "balance"]
    assert cases[1].expected[0][0].arguments == {"account": "savings"}
    assert [spec.name for spec in load_catalog(str(out / "tools.json")).specs] == ["greet", "balance"]
    learned = [json.loads(line)["messages"] for line in (out / "conversations.jsonl").read_text().splitlines()]
    assert learned[0] == [HELLO, turn("greet")] and len(learned) == 2
    assert read_json(out / "tools.json")[0]["function"]["name"] == "greet"


def test_a_missing_file_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "test.jsonl").unlink()
    monkeypatch.setattr(sys, "argv", ["prepare_bank", str(data)])
    with pytest.raises(prepare_bank.DataError, match="test.jsonl is missing"):
        prepare_bank.main()
