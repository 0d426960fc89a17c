import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from fcdistill.errors import DataError
from fcdistill.records import Check, FunctionCall, Message, Outcome, Reject
from fcdistill.storage import write_jsonl
from fcdistill.toolcalls.parsing import parse_output
from fcdistill.traces.export import export_rows, preference_rows, read_failed, write_rows
from tests.generation.home import catalog
from tests.tiny import tiny_tokenizer
from tests.traces.light_traces import LIGHT, TIMER, TRACES, reject, said, trace

FINE_TUNING = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["messages"],
    "additionalProperties": False,
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 2,
            "items": {
                "oneOf": [
                    {
                        "properties": {
                            "role": {"enum": ["system", "user"]},
                            "content": {"type": "string"},
                            "name": {"type": "string"},
                        },
                        "required": ["role", "content"],
                        "additionalProperties": False,
                    },
                    {
                        "properties": {
                            "role": {"const": "assistant"},
                            "content": {"type": "string", "minLength": 1},
                            "name": {"type": "string"},
                            "tool_calls": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/call"}},
                        },
                        "required": ["role"],
                        "anyOf": [{"required": ["content"]}, {"required": ["tool_calls"]}],
                        "additionalProperties": False,
                    },
                    {
                        "properties": {
                            "role": {"const": "tool"},
                            "content": {"type": "string"},
                            "tool_call_id": {"type": "string", "minLength": 1},
                        },
                        "required": ["role", "content", "tool_call_id"],
                        "additionalProperties": False,
                    },
                ]
            },
            "contains": {"properties": {"role": {"const": "assistant"}}, "required": ["role"]},
        },
        "tools": {"type": "array", "minItems": 1, "maxItems": 128, "items": {"$ref": "#/$defs/tool"}},
        "parallel_tool_calls": {"type": "boolean"},
    },
    "$defs": {
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "call": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "minLength": 1},
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "properties": {
                        "name": {"$ref": "#/$defs/name"},
                        "arguments": {"type": "string", "pattern": r"^\{"},
                    },
                    "required": ["name", "arguments"],
                    "additionalProperties": False,
                },
            },
            "required": ["id", "type", "function"],
            "additionalProperties": False,
        },
        "tool": {
            "type": "object",
            "properties": {
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "properties": {
                        "name": {"$ref": "#/$defs/name"},
                        "description": {"type": "string"},
                        "parameters": {"type": "object"},
                        "strict": {"type": "boolean"},
                    },
                    "required": ["name"],
                    "additionalProperties": False,
                },
            },
            "required": ["type", "function"],
            "additionalProperties": False,
        },
    },
}
"""OpenAI's published rules of a fine-tuning line, as far as a schema can say them."""


def rows(layout: Any) -> list[Any]:
    return [json.loads(json.dumps(row)) for row in export_rows(TRACES, layout)]


def test_trl_rows_hold_messages_with_argument_objects_and_tools() -> None:
    first, second, _ = rows("trl")
    assert first.keys() == {"messages", "tools"}
    assert [call["function"]["arguments"] for call in first["messages"][-1]["tool_calls"]] == [
        LIGHT.arguments,
        TIMER.arguments,
    ]
    assert second["messages"][-1] == {"role": "assistant", "content": "I can only help with the house."}
    assert [tool["function"]["name"] for tool in first["tools"]] == list(catalog().by_name)


def test_a_thought_has_the_name_in_trl_rows_by_which_templates_ask_for_it() -> None:
    answer = TRACES[0].answer.model_copy(update={"reasoning": "Seven, then."})
    trace = TRACES[0].model_copy(update={"messages": (*TRACES[0].messages[:-1], answer)})
    (row,) = export_rows([trace], "trl")
    assert row["messages"][-1]["reasoning_content"] == "Seven, then." and "reasoning" not in row["messages"][-1]
    assert list(export_rows([trace], "openai-finetune")) == rows("openai-finetune")[:1]


def test_trl_rows_load_line_by_line_without_arguments_that_nobody_gave(tmp_path: Path) -> None:
    from datasets import load_dataset

    write_rows(tmp_path / "trl.jsonl", export_rows(TRACES, "trl"))
    loaded = load_dataset("json", data_files=str(tmp_path / "trl.jsonl"), split="train", cache_dir=str(tmp_path / "c"))
    tokenizer = tiny_tokenizer("qwen")
    for row, written in zip(loaded, rows("trl"), strict=True):
        shown = tokenizer.apply_chat_template(row["messages"], tools=row["tools"], tokenize=False)
        assert "null" not in shown
        assert shown == tokenizer.apply_chat_template(written["messages"], tools=written["tools"], tokenize=False)


def test_sharegpt_turns_hold_tools_calls_and_results_as_text() -> None:
    first, second, steps = rows("sharegpt")
    assert [turn["from"] for turn in first["conversations"]] == ["system", "human", "gpt"]
    assert parse_output(first["conversations"][-1]["value"]).calls == (LIGHT, TIMER)
    assert second["conversations"][-1] == {"from": "gpt", "value": "I can only help with the house."}
    assert [turn["from"] for turn in steps["conversations"]] == ["system", "human", "gpt", "tool", "tool", "gpt"]
    assert steps["conversations"][0]["value"].endswith("\n\nBe brief.")
    assert steps["conversations"][3]["value"] == '<tool_response>\n{"celsius": 12}\n</tool_response>'
    block = re.search(r"<tools>\n(.*)\n</tools>", first["conversations"][0]["value"], re.DOTALL)
    assert block and [json.loads(line) for line in block.group(1).splitlines()] == json.loads(first["tools"])


def test_fine_tuning_rows_keep_the_published_rules() -> None:
    validator = Draft202012Validator(FINE_TUNING)
    for row, source in zip(rows("openai-finetune"), TRACES, strict=True):
        assert not [error.message for error in validator.iter_errors(row)]
        calls = row["messages"][-1].get("tool_calls", [])
        assert [json.loads(call["function"]["arguments"]) for call in calls] == [
            made.arguments for made in source.answer.calls
        ]
    steps = rows("openai-finetune")[2]["messages"]
    assert [steps[3]["tool_call_id"], steps[4]["tool_call_id"]] == [call["id"] for call in steps[2]["tool_calls"]]
    assert len({call["id"] for message in steps for call in message.get("tool_calls", [])}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}]},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant"}]},
        {"tools": []},
        {"id": "x"},
    ],
)
def test_the_schema_of_fine_tuning_rows_refuses_what_the_rules_forbid(change: dict[str, Any]) -> None:
    assert not Draft202012Validator(FINE_TUNING).is_valid(rows("openai-finetune")[0] | change)


def test_a_trace_without_tools_has_no_empty_list_of_them() -> None:
    bare = TRACES[1].model_copy(update={"tools": ()})
    (row,) = export_rows([bare], "openai-finetune")
    assert row.keys() == {"messages"}
    (turns,) = export_rows([bare], "sharegpt")
    assert [turn["from"] for turn in turns["conversations"]] == ["human", "gpt"]


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([said("a"), Message.calling([LIGHT]), said("b"), Message.calling([LIGHT])], "message 3 comes before the res"),
        ([said("a"), Message(role="tool", content="12"), Message.calling([LIGHT])], "message 2 is the result of no c"),
        ([said("a"), Message(role="assistant")], "message 2 of the assistant is empty"),
        (
            [
                said("a"),
                Message(role="assistant", tool_calls=tuple(FunctionCall(id="x", function=LIGHT) for _ in range(2))),
            ],
            "message 2 gives two calls one id",
        ),
    ],
)
def test_a_conversation_that_the_api_refuses_is_refused_here(messages: list[Message], found: str) -> None:
    with pytest.raises(DataError, match=f"trace 'bad': {found}"):
        list(export_rows([trace("bad", *messages)], "openai-finetune"))


def test_pairs_hold_another_answer_to_the_same_prompt() -> None:
    kept = TRACES[0]
    forgot = trace("a", kept.messages[0], Message.calling([LIGHT]))
    raw = trace("b", kept.messages[0], Message(role="assistant", content='{"name": "set_light", '))
    made = list(preference_rows(TRACES, [reject(forgot), reject(raw, "parse")]))
    assert [row["rejected"][0].get("tool_calls", row["rejected"][0]["content"]) for row in made] == [
        [{"type": "function", "function": LIGHT.model_dump()}],
        '{"name": "set_light", ',
    ]
    for row in made:
        assert row["prompt"] == [{"role": "user", "content": kept.messages[0].content}]
        assert len(row["chosen"]) == 1 and len(row["chosen"][0]["tool_calls"]) == 2
        assert len(row["tools"]) == len(catalog().specs)


@pytest.mark.parametrize(
    "failed",
    [
        reject(trace("same", TRACES[0].messages[0], Message.calling([TIMER, LIGHT]))),
        reject(trace("other", said("Kitchen light off!"), Message.calling([LIGHT]))),
        reject(trace("request", TRACES[0].messages[0], Message.calling([LIGHT])), "contaminated"),
        reject(trace("silent", TRACES[0].messages[0], Message(role="assistant"))),
        reject(trace("tools", TRACES[0].messages[0], Message.calling([LIGHT])).model_copy(update={"tools": ()})),
    ],
    ids=lambda failed: failed.id,
)
def test_no_pair_is_made_of(failed: Reject) -> None:
    assert list(preference_rows(TRACES, [failed])) == []


def test_the_same_wrong_answer_makes_one_pair() -> None:
    wrong = [reject(trace(name, TRACES[0].messages[0], Message.calling([LIGHT]))) for name in "ab"]
    assert len(list(preference_rows(TRACES, wrong))) == 1


def test_a_journal_gives_the_failed_tries(tmp_path: Path) -> None:
    wrong = trace("a", TRACES[0].messages[0], Message.calling([LIGHT]))
    bad = wrong.meta.model_copy(update={"checks": (Check(name="grounding", ok=False, detail="no tea"),)})
    outcomes = [
        Outcome(id="a", attempt=0, candidate=wrong.model_copy(update={"meta": bad})),
        Outcome(id="a", attempt=1, candidate=TRACES[0]),
    ]
    write_jsonl(tmp_path / "journal.jsonl", outcomes)
    (failed,) = read_failed(tmp_path / "journal.jsonl")
    assert (failed.check, failed.detail) == ("grounding", "no tea")
    assert len(list(preference_rows(TRACES, [failed]))) == 1


def test_pairs_are_made_as_traces_pass() -> None:
    traces = iter(TRACES)
    failed = iter([reject(trace("a", TRACES[0].messages[0], Message.calling([LIGHT])))])
    first = next(preference_rows(traces, failed))
    assert first["rejected"][0]["tool_calls"] and list(failed) == [] and list(traces) == TRACES[1:]


def test_rows_that_end_with_an_error_leave_no_file(tmp_path: Path) -> None:
    silent = trace("bad", said("a"), Message(role="assistant"))
    with pytest.raises(DataError, match="trace 'bad'"):
        write_rows(tmp_path / "rows.jsonl", export_rows([TRACES[0], silent], "openai-finetune"))
    assert list(tmp_path.iterdir()) == []


def test_results_stand_in_the_order_of_their_calls_where_no_ids_are_shown() -> None:
    calls = tuple(FunctionCall(id=identity, function=LIGHT) for identity in ("a", "b"))
    crossed = trace(
        "crossed",
        said("both"),
        Message(role="assistant", tool_calls=calls),
        Message(role="tool", tool_call_id="b", content="of b"),
        Message(role="tool", tool_call_id="a", content="of a"),
        said("again"),
        Message.calling([LIGHT]),
    )
    (row,) = export_rows([crossed], "sharegpt")
    results = [turn["value"] for turn in row["conversations"] if turn["from"] == "tool"]
    assert [result.splitlines()[1] for result in results] == ["of a", "of b"]
