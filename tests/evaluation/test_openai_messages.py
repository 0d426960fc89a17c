import json
from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import DataError
from fcdistill.evaluation.openai_messages import MessageCases, read_message_cases
from fcdistill.evaluation.suites import read_suite
from fcdistill.records import Message, ToolCall
from fcdistill.tools.catalog import Catalog, catalog_from_document

LIGHT = {
    "type": "function",
    "function": {
        "name": "home.light",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]},
    },
}
USER = {"role": "user", "content": "light in the attic"}


def calling(*rooms: str) -> dict[str, Any]:
    functions = [(room, {"name": "home.light", "arguments": json.dumps({"room": room})}) for room in rooms]
    calls = [{"id": f"c{room}", "type": "function", "function": function} for room, function in functions]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def row(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), "tools": [LIGHT], **fields}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def read(tmp_path: Path, *rows: object, catalog: Catalog | None = None) -> MessageCases:
    return read_message_cases(write(tmp_path / "rows.jsonl", *rows), catalog)


def test_the_last_answer_of_the_assistant_is_gold(tmp_path: Path) -> None:
    result = {"role": "tool", "tool_call_id": "cattic", "content": "done"}
    found = read(
        tmp_path,
        row(USER, calling("attic")),
        row({"role": "system", "content": "Be brief."}, USER, calling("attic"), result, calling("a", "b"), result),
        row(USER, calling("attic"), result, {"role": "assistant", "content": "It is on."}),
    )
    first, second, third = found.cases
    assert first.messages == (Message.model_validate(USER),)
    assert first.expected == ((ToolCall(name="home_light", arguments={"room": "attic"}),),)
    assert (first.behaviour, first.category) == ("call", "simple")
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "tool"]
    assert second.messages[2].tool_calls[0].id == "cattic" and second.messages[3].tool_call_id == "cattic"
    assert (len(second.expected[0]), second.category) == (2, "parallel")
    assert (third.behaviour, third.expected, third.category) == ("no_call", ((),), "irrelevance")
    assert found.note == "2 of 3 cases want a call, 1 want none"
    assert found.safe_names == {"home.light": "home_light"}


def test_ids_are_kept_or_follow_from_what_is_asked(tmp_path: Path) -> None:
    named = [row(USER, calling("attic"), id="mine"), row(USER, calling("attic"), id=7)]
    assert [case.id for case in read(tmp_path, *named).cases] == ["mine", "7"]
    asked, other = row(USER, calling("attic")), row({"role": "user", "content": "hall"}, calling("hall"))
    one, two, again = read(tmp_path, asked, other, asked).cases
    assert one.id.startswith("row-") and one.id != two.id and again.id == f"{one.id}-2"
    # Neither other rows nor a corrected answer give a case another id; another request or other tools do.
    corrected, first = read(tmp_path, other, row(USER, calling("cellar"))).cases
    assert (corrected.id, first.id) == (two.id, one.id)
    renamed = json.loads(json.dumps(LIGHT).replace("room", "place"))
    (moved,) = read(tmp_path, row(USER, {"role": "assistant", "content": "no"}, tools=[renamed])).cases
    assert moved.id != one.id


def test_rows_without_tools_take_the_catalogue(tmp_path: Path) -> None:
    bare = {"messages": [USER, calling("attic")]}
    (case,) = read(tmp_path, bare, catalog=catalog_from_document([LIGHT], "tools")).cases
    assert case.tools is None and case.expected[0][0].name == "home_light"
    (tmp_path / "tools.json").write_text(json.dumps([LIGHT]))
    rows = write(tmp_path / "rows.jsonl", bare, row(USER, calling("attic")))
    suite = read_suite(rows, tmp_path / "tools.json", "openai-messages")
    assert [len(suite.specs[case.id]) for case in suite.cases] == [1, 1]
    assert suite.safe_names == {"home.light": "home_light"}
    assert suite.notes[-1].endswith("rows.jsonl: 2 of 2 cases want a call, 0 want none")


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ([], "row 2: the row is no JSON object"),
        (row(), "row 2: the row has no list of messages"),
        (row(USER), "holds no assistant message"),
        (row(USER, calling("attic"), USER), "its last message has role 'user': the gold answer to it is missing"),
        (row(USER, {"role": "assistant", "content": " "}), "its last assistant message is empty"),
        (row(calling("attic")), "messages: "),
        (row({"role": "assistant", "content": "Hi."}, {"role": "assistant", "content": "b"}), "ends with user or tool"),
        ({"messages": [USER, calling("attic")]}, "it holds no tools and no catalogue was given"),
        (row(USER, calling("attic"), tools=[{"name": "a\tb"}]), "its tools, tool 1"),
        (row(USER, calling("attic"), id=1.5), "its id is 1.5"),
        (row(USER, calling("attic"), id="a"), "an earlier row has the id 'a' too"),
        (
            row(USER, {"role": "assistant", "tool_calls": [{"function": {"name": "home.light", "arguments": "{"}}]}),
            "message 2 holds a call that can't be read",
        ),
    ],
)
def test_a_row_that_makes_no_case_is_named(tmp_path: Path, bad: object, found: str) -> None:
    with pytest.raises(DataError, match="row 2: ") as caught:
        read(tmp_path, row(USER, calling("attic"), id="a"), bad)
    assert found in caught.value.found and caught.value.required and caught.value.fix


def test_a_gold_answer_that_breaks_its_schema_is_refused_with_its_suite(tmp_path: Path) -> None:
    broken = json.loads(json.dumps(row(USER, calling("attic"), id="a")).replace("room\\", "rom\\"))
    with pytest.raises(DataError, match="case 'a': the expected call .* breaks its tool's schema: missing_required"):
        read_suite(write(tmp_path / "rows.jsonl", broken), None, "openai-messages")
