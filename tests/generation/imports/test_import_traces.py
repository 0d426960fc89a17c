import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from fcdistill.config import PolicyName
from fcdistill.errors import ConfigError, DataError
from fcdistill.generation.imports.import_traces import ImportCounts, import_traces
from fcdistill.generation.plan.plan import time_context
from fcdistill.records import EvalCase, Message, ModelRef, Reject, ToolCall, Trace, TraceMeta
from fcdistill.storage import read_jsonl, write_jsonl
from fcdistill.traces.export import RowLayout, export_rows, write_rows
from fcdistill.traces.source_formats import SourceFormat
from tests.generation.home import NOW, VALUES, catalog

LIGHT = {"room": "kitchen", "state": "off"}
TOOLS = [tool.model_dump(mode="json") for tool in catalog().tools]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def wire_call(name: str, arguments: Any, identity: str = "c1") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def light(**changes: Any) -> dict[str, Any]:
    return calling(wire_call("set_light", json.dumps(LIGHT | changes)))


def messages_row(*messages: dict[str, Any], tools: Any = TOOLS) -> dict[str, Any]:
    return {"messages": list(messages), "tools": tools}


def chat_row(*messages: dict[str, Any], answers: Sequence[dict[str, Any]], **choice: Any) -> dict[str, Any]:
    choices = [{"index": index, "message": answer, **choice} for index, answer in enumerate(answers)]
    return {
        "request": {"model": "alias", "messages": list(messages), "tools": TOOLS, "temperature": 0},
        "response": {"id": "x", "model": "big-model", "choices": choices},
    }


class Imported:
    """What an import of rows (or of raw lines) made."""

    def __init__(self, directory: Path, rows: Sequence[Any], source_format: SourceFormat, **options: Any) -> None:
        source = directory / "source.jsonl"
        source.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        self.counts: ImportCounts = import_traces(source, source_format, directory / "out", **options)
        self.traces = read_jsonl(directory / "out" / "traces.jsonl", Trace)
        self.rejects = read_jsonl(directory / "out" / "rejects.jsonl", Reject)
        assert self.counts.kept == len(self.traces) and sum(self.counts.rejected.values()) == len(self.rejects)

    @property
    def reasons(self) -> list[tuple[str, str]]:
        return [(reject.check, reject.detail) for reject in self.rejects]


def test_a_logged_completion_becomes_a_trace_of_the_model_that_answered(tmp_path: Path) -> None:
    made = Imported(tmp_path, [chat_row(user("Kitchen light off."), answers=[light()])], "openai-chat")
    (trace,) = made.traces
    assert trace.id == "source-1" and trace.answer == Message.calling([ToolCall(name="set_light", arguments=LIGHT)])
    assert trace.messages[0].content == "Kitchen light off." and trace.specs == catalog().specs
    assert (trace.meta.source, trace.meta.category, trace.meta.teacher.model) == ("import", "simple", "big-model")
    names = ("context", "parse", "tool", "schema", "grounding", "duplicate", "near_duplicate", "contaminated")
    assert [(check.name, check.ok) for check in trace.meta.checks] == [(name, True) for name in names]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["status"] == "complete"


CALL_TEXT = '<tool_call>\n{"name": "set_light", "arguments": {"room": "kitchen", "state": "off"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("answer", "reasoning"),
    [
        (light() | {"reasoning_content": "It is on."}, "It is on."),
        (light() | {"content": "<think>\nIt is on.\n</think>"}, "It is on."),
        ({"role": "assistant", "content": f"<think>It is on.</think>\n{CALL_TEXT}"}, "It is on."),
        ({"role": "assistant", "content": CALL_TEXT, "reasoning": "It is on."}, "It is on."),
        ({"role": "assistant", "content": "Which one?", "reasoning_content": "Two rooms."}, "Two rooms."),
        ({"role": "assistant", "content": "<think>Two rooms.</think>Which one?"}, "Two rooms."),
    ],
)
def test_what_the_recorded_model_thought_is_kept(tmp_path: Path, answer: dict[str, Any], reasoning: str) -> None:
    row = chat_row(user("Kitchen light off."), answers=[answer])
    (trace,) = Imported(tmp_path, [row], "openai-chat", trust_no_call=True).traces
    called = trace.answer.calls == (ToolCall(name="set_light", arguments=LIGHT),)
    assert (trace.answer.content, called) in (("", True), ("Which one?", False))
    assert trace.answer.reasoning == reasoning


@pytest.mark.parametrize(
    ("answer", "choice", "check", "detail"),
    [
        (calling(wire_call("set_lamp", "{}")), {}, "tool", "no such tool: set_lamp"),
        (light(state="dim"), {}, "schema", "set_light/state"),
        (light(mood="calm"), {}, "schema", "mood"),
        (light(color="red"), {}, "grounding", "not in the request: set_light.color = 'red'"),
        (calling(wire_call("set_light", '{"room": "kitch')), {}, "parse", "invalid_json"),
        (calling(wire_call("set_light", '["kitchen"]')), {}, "parse", "not_a_call"),
        (
            {"role": "assistant", "content": '{"name": "set_light", "argum'},
            {"finish_reason": "length"},
            "parse",
            "unclo",
        ),
        ({"role": "assistant", "content": None}, {}, "parse", "the answer is empty"),
        ({"role": "assistant", "content": "It is off."}, {}, "count", "only trust says that none is right"),
    ],
)
def test_an_answer_that_fails_a_check_is_a_reject_with_the_reason(
    tmp_path: Path, answer: dict[str, Any], choice: dict[str, Any], check: str, detail: str
) -> None:
    row = chat_row(user("Kitchen light off."), answers=[answer], **choice)
    made = Imported(tmp_path, [row], "openai-chat", policy="strict")
    assert not made.traces and made.counts.rejected == {check: 1}
    ((found, reason),) = made.reasons
    assert found == check and detail in reason
    assert made.rejects[0].candidate.meta.checks[-1].detail == reason


def test_a_fact_that_reaches_no_call_is_a_reject(tmp_path: Path) -> None:
    row = messages_row(user("Kitchen light off in 7 minutes."), light())
    made = Imported(tmp_path, [row], "openai-messages", policy="strict")
    assert made.reasons == [("grounding", "in no argument: 7")]


@pytest.mark.parametrize(
    ("text", "answer", "reasons", "overlooked"),
    [
        ("Kitchen light off in 7 minutes.", light(), {"strict"}, "in no argument: 7"),
        ("It is too bright where we cook.", light(), {"strict"}, "not said: set_light.room = 'kitchen'"),
        ("Kitchen light off.", light(state="on", brightness=7), {"strict", "balanced", "trusting"}, ""),
        ("Office light off.", light(), {"strict", "balanced"}, ""),
        ("Kitchen light off, purple after.", light(), {"strict", "balanced"}, ""),
        ("Es ist zu hell in der Küche.", light(), {"strict"}, "not said: set_light.room = 'kitchen'"),
        ("Bitte in der Küche sieben Prozent.", light(state="on", brightness=7), {"strict", "balanced"}, ""),
        ("Bitte in der Küche 7 Prozent.", light(state="on", brightness=7), {"strict"}, "not said: set_light.room"),
    ],
)
def test_policies(tmp_path: Path, text: str, answer: dict[str, Any], reasons: set[str], overlooked: str) -> None:
    for policy in get_args(PolicyName):
        (tmp_path / policy).mkdir()
        made = Imported(tmp_path / policy, [messages_row(user(text), answer)], "openai-messages", policy=policy)
        assert bool(made.rejects) == (policy in reasons), (policy, made.reasons)
        if policy == "balanced" and made.traces:
            (check,) = (each for each in made.traces[0].meta.checks if each.name == "grounding")
            assert check.detail.startswith("kept on the word of an independent answer: ") and overlooked in check.detail


def test_of_several_choices_the_first_that_passes_is_kept(tmp_path: Path) -> None:
    row = chat_row(user("Kitchen light off."), answers=[light(brightness=9), light(), light()])
    made = Imported(tmp_path, [row], "openai-chat")
    assert [trace.id for trace in made.traces] == ["source-1-2"]
    assert made.reasons[1] == ("duplicate", "repeats source-1-2")


def test_history_is_context_and_no_candidate(tmp_path: Path) -> None:
    history = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        user("How warm is the office?"),
        calling(wire_call("get_sensor", '{"sensor": "temperature", "room": "office"}', "c9")),
        {"role": "tool", "tool_call_id": "c9", "content": "17"},
        {"role": "assistant", "content": "17 degrees."},
        user("Kitchen light off."),
    ]
    (trace,) = Imported(tmp_path, [chat_row(*history, answers=[light()])], "openai-chat").traces
    assert [message.role for message in trace.messages] == "system user assistant tool assistant user assistant".split()
    assert trace.messages[2].tool_calls[0].id == trace.messages[3].tool_call_id == "c9"
    assert trace.messages[2].calls[0].arguments == {"sensor": "temperature", "room": "office"}


def test_every_recorded_answer_is_a_candidate_but_reports(tmp_path: Path) -> None:
    row = messages_row(
        user("Which city has rain, and what is its weather? Then kitchen light off."),
        calling(wire_call("get_weather", '{"city": "Turin"}')),
        {"role": "tool", "content": "no rain in Turin; try Oslo"},
        calling(wire_call("get_weather", '{"city": "Oslo"}')),
        {"role": "tool", "content": "rain"},
        light(),
        {"role": "tool", "content": "done"},
        {"role": "assistant", "content": "It rains in Oslo, and the light is off."},
        user("Kitchen light on again."),
        light(state="on"),
    )
    made = Imported(tmp_path, [row], "openai-messages")
    assert made.reasons == [("grounding", "not in the request: get_weather.city = 'Turin'")]
    assert [trace.answer.calls[0].arguments for trace in made.traces] == [
        {"city": "Oslo"},
        LIGHT,
        LIGHT | {"state": "on"},
    ]
    assert made.counts.reports == 1
    assert len({trace.split_group for trace in made.traces}) == 1


def test_answers_after_an_unreadable_one_are_rejected(tmp_path: Path) -> None:
    row = messages_row(
        user("Office light on."), calling(wire_call("set_light", "{")), user("Kitchen light off."), light()
    )
    made = Imported(tmp_path, [row], "openai-messages")
    assert [check for check, _ in made.reasons] == ["parse", "context"]
    assert made.reasons[1][1].startswith("turn 2, before the answer, can't be read")


def test_the_current_time_of_the_context_grounds_times(tmp_path: Path) -> None:
    arguments = {"text": "call Ann", "at": "2027-05-03T08:00:00Z"}
    system = {"role": "system", "content": time_context(NOW)}
    request = user("Remind me to call Ann tomorrow at 8 am.")
    answer = calling(wire_call("create_reminder", json.dumps(arguments)))
    assert len(Imported(tmp_path, [messages_row(system, request, answer)], "openai-messages").traces) == 1
    (tmp_path / "timeless").mkdir()
    assert not Imported(tmp_path / "timeless", [messages_row(request, answer)], "openai-messages").traces


def test_answers_without_a_call_are_kept_on_trust(tmp_path: Path) -> None:
    rows = [
        messages_row(user("Tell me a joke."), {"role": "assistant", "content": "I only know the house."}),
        messages_row(user("Turn the light off."), {"role": "assistant", "content": "In which room?"}),
    ]
    made = Imported(tmp_path, rows, "openai-messages", trust_no_call=True)
    assert [(trace.meta.category, trace.answer.content) for trace in made.traces] == [
        ("irrelevance", "I only know the house."),
        ("clarify", "In which room?"),
    ]


def test_rows_that_are_no_conversation_are_rejects_that_hold_their_text(tmp_path: Path) -> None:
    rows = [
        '{"messages": [{"role": "us',
        '{"messages": [], "messages": []}',
        {"prompt": "hi"},
        messages_row(user("hi")),
        messages_row({"role": "narrator", "content": "hi"}),
        messages_row({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, light()),
        messages_row(user("Kitchen light off."), light(), tools=None),
        messages_row(user("Kitchen light off."), light(), tools=[{"name": "dämpfen"}]),
        messages_row(light()),
        messages_row(user("Kitchen light off."), light()),
    ]
    made = Imported(tmp_path, rows, "openai-messages")
    assert len(made.traces) == 1 and made.counts.rows == 10
    assert made.counts.rejected == {"format": 6, "tools": 2, "context": 1}
    assert made.rejects[0].candidate.answer.content == rows[0]
    assert "no --tools are given" in made.reasons[6][1] and "dämpfen" in made.reasons[7][1]


def test_given_tools_serve_rows_without_their_own(tmp_path: Path) -> None:
    bare = {**catalog().tools[0].model_dump(mode="json")}
    bare["function"] = {**bare["function"], "description": "Its own."}
    rows = [
        messages_row(user("Kitchen light off."), light(), tools=[]),
        messages_row(user("Bedroom light off."), light(room="bedroom"), tools=[bare]),
    ]
    first, second = Imported(tmp_path, rows, "openai-messages", catalog=catalog()).traces
    assert first.specs == catalog().specs and [spec.description for spec in second.specs] == ["Its own."]


def test_dotted_names_are_those_of_the_tools(tmp_path: Path) -> None:
    tools = [{"name": "home.light", "parameters": {"type": "object", "properties": {"room": {"type": "string"}}}}]
    row = messages_row(user("kitchen please"), calling(wire_call("home.light", {"room": "kitchen"})), tools=tools)
    (trace,) = Imported(tmp_path, [row], "openai-messages").traces
    assert trace.answer.calls[0].name == trace.specs[0].name == "home_light"


def eval_cases(directory: Path) -> list[Path]:
    """A file with one case, in which a user wants the bedroom light off."""
    case = EvalCase.model_validate(
        {"id": "c", "messages": [user("turn the bedroom light off")], "behaviour": "no_call", "expected": [[]],
         "category": "irrelevance"}
    )  # fmt: skip
    write_jsonl(directory / "cases.jsonl", [case])
    return [directory / "cases.jsonl"]


def test_a_turn_that_any_conversation_may_hold_is_no_sign_of_an_eval_case(tmp_path: Path) -> None:
    thanks = EvalCase.model_validate(
        {"id": "c", "messages": [user("Is it cold?"), {"role": "assistant", "content": "No."}, user("Thanks!")],
         "behaviour": "no_call", "expected": [[]], "category": "irrelevance"}
    )  # fmt: skip
    write_jsonl(tmp_path / "cases.jsonl", [thanks])
    row = messages_row(
        user("Kitchen light off."),
        light(),
        {"role": "tool", "tool_call_id": "c1", "content": "off"},
        user("Thanks!"),
        {"role": "assistant", "content": "You are welcome."},
    )
    made = Imported(tmp_path, [row], "openai-messages", decontaminate=[tmp_path / "cases.jsonl"], trust_no_call=True)
    assert made.reasons == [] and len(made.traces) == 2


def test_calls_that_a_log_writes_as_messages_of_their_own_are_one_answer(tmp_path: Path) -> None:
    row = messages_row(user("Kitchen and bedroom light off."), light(), light(room="bedroom"))
    (trace,) = Imported(tmp_path, [row], "openai-messages").traces
    assert [call.arguments["room"] for call in trace.answer.calls] == ["kitchen", "bedroom"]
    assert trace.meta.category == "parallel"


TAKEN = ("contaminated", "shares its wording with eval case c (1.00): 'turn the bedroom light off'")


def test_values_and_eval_cases_are_used_as_in_a_generation(tmp_path: Path) -> None:
    rows = [
        messages_row(user("Turn the bedroom light off!"), light(room="bedroom"), tools=None),
        messages_row(user("Kitchen light off."), light(), tools=None),
    ]
    cases = eval_cases(tmp_path)
    made = Imported(tmp_path, rows, "openai-messages", catalog=catalog(), values=VALUES, decontaminate=cases)
    assert made.reasons == [TAKEN] and len(made.traces) == 1


def test_no_turn_of_a_user_repeats_an_eval_case(tmp_path: Path) -> None:
    """An eval request in an early turn stands before every later answer, and would be learned with each."""
    row = messages_row(
        user("Turn the bedroom light off!"),
        light(room="bedroom"),
        {"role": "tool", "tool_call_id": "c1", "content": "off"},
        {"role": "assistant", "content": "It is off."},
        user("Kitchen light off."),
        light(),
    )
    made = Imported(tmp_path, [row], "openai-messages", decontaminate=eval_cases(tmp_path))
    assert [len(reject.candidate.messages) for reject in made.rejects] == [2, 6]
    assert made.reasons == [TAKEN] * 2 and made.traces == []


def test_a_values_file_needs_its_tools(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without tools"):
        import_traces(tmp_path / "x", "xlam", tmp_path / "out", values=VALUES)


def test_xlam_rows_in_one_array(tmp_path: Path) -> None:
    tools = [
        {
            "name": "weather.at",
            "description": "Weather.",
            "parameters": {
                "city": {"description": "Where.", "type": "str"},
                "days": {"description": "How many.", "type": "int, optional", "default": 1},
            },
        }
    ]
    answers: list[Any] = [
        [{"name": "weather.at", "arguments": {"city": "Turin", "days": 3}}],
        [{"name": "weather.at", "arguments": {"city": "Turin", "days": "3"}}],
        [{"name": "weather.at", "arguments": {"city": "Turin"}}, {"name": "weather.at", "arguments": {"city": "Oslo"}}],
        [],
    ]
    queries = ["Turin for 3 days", "3 days of Turin", "Turin and Oslo", "a joke"]
    rows = [
        {"id": index, "query": query, "tools": json.dumps(tools), "answers": json.dumps(each)}
        for index, (query, each) in enumerate(zip(queries, answers, strict=True))
    ]
    source = tmp_path / "xlam.json"
    source.write_text(json.dumps(rows))
    counts = import_traces(source, "xlam", tmp_path / "out")
    assert (counts.rows, counts.kept, counts.rejected) == (4, 2, {"schema": 1, "parse": 1})
    first, second = read_jsonl(tmp_path / "out" / "traces.jsonl", Trace)
    assert first.answer.calls == (ToolCall(name="weather_at", arguments={"city": "Turin", "days": 3}),)
    assert first.specs[0].parameters["required"] == ["city"]
    assert (second.id, second.meta.category) == ("xlam-3", "parallel")


def test_foreign_hermes_turns(tmp_path: Path) -> None:
    system = f"You are a function calling model. <tools>{json.dumps(TOOLS)}</tools> Use them as in the schema."
    call = json.dumps({"name": "set_light", "arguments": LIGHT})
    row = {
        "conversations": [
            {"from": "system", "value": system},
            {"from": "human", "value": "Kitchen light off."},
            {"from": "gpt", "value": f"<tool_call>\n{call}\n</tool_call>"},
            {"from": "tool", "value": "<tool_response>\nok\n</tool_response>\n<tool_response>\nwell\n</tool_response>"},
            {"from": "gpt", "value": "Done."},
            {"from": "human", "value": "Bedroom light off."},
            {
                "from": "function_call",
                "value": json.dumps({"name": "set_light", "arguments": LIGHT | {"room": "bedroom"}}),
            },
        ]
    }
    made = Imported(tmp_path, [row], "sharegpt")
    first, second = made.traces
    assert not made.rejects and made.counts.reports == 1
    assert [message.role for message in first.messages] == ["user", "assistant"] and first.specs == catalog().specs
    assert [message.content for message in second.messages if message.role == "tool"] == ["ok", "well"]


def test_running_again_gives_the_same_files(tmp_path: Path) -> None:
    rows = [messages_row(user("Kitchen light off."), light()), "{"]
    Imported(tmp_path, rows, "openai-messages")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in ("traces.jsonl", "rejects.jsonl")}
    Imported(tmp_path, rows, "openai-messages")
    assert before == {name: (tmp_path / "out" / name).read_bytes() for name in before}
    with pytest.raises(DataError):
        Imported(tmp_path, rows[:1], "openai-messages")


def test_same_calls_stay_in_one_split_group(tmp_path: Path) -> None:
    rows = [
        messages_row(user("Kitchen light off."), light()),
        messages_row(user("Bedroom light off."), light(room="bedroom")),
        messages_row(user("Switch off the kitchen light."), light()),
    ]
    first, second, third = Imported(tmp_path, rows, "openai-messages").traces
    assert first.split_group == third.split_group != second.split_group


@pytest.mark.parametrize("content", ["", "\n\n", "[]"])
def test_an_empty_source_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.jsonl").write_text(content)
    with pytest.raises(DataError, match="is empty"):
        import_traces(tmp_path / "s.jsonl", "xlam", tmp_path / "out")
    assert not (tmp_path / "out").exists()


EXPORTED: dict[RowLayout, SourceFormat] = {
    "trl": "openai-messages",
    "openai-finetune": "openai-messages",
    "sharegpt": "sharegpt",
}


@pytest.mark.parametrize("layout", get_args(RowLayout))
def test_what_was_exported_comes_back_with_the_same_calls(tmp_path: Path, layout: RowLayout) -> None:
    two = [
        ToolCall(name="set_light", arguments=LIGHT),
        ToolCall(name="set_timer", arguments={"duration": {"minutes": 12}, "label": "Öl </tool_call> “tea”"}),
    ]
    steps = [
        Message(role="system", content=time_context(NOW)),
        Message(role="user", content="Ask the office sensor for humidity, then bedroom light off."),
        Message.calling([ToolCall(name="get_sensor", arguments={"sensor": "humidity", "room": "office"})]),
        Message(role="tool", content='{"percent": 40}'),
        Message.calling([ToolCall(name="set_light", arguments={"room": "bedroom", "state": "off"})]),
    ]
    conversations = [
        [
            Message(role="user", content="Kitchen light off, a 12 minute timer: Öl </tool_call> “tea”."),
            Message.calling(two),
        ],
        [Message(role="user", content="Tell me a joke."), Message(role="assistant", content="I only know the house.")],
        steps,
    ]
    meta = TraceMeta(source="request_first", category="simple", plan_cell="", teacher=ModelRef(model="m"))
    sources = [
        Trace(id=str(n), messages=tuple(messages), tools=catalog().tools, split_group=str(n), meta=meta)
        for n, messages in enumerate(conversations)
    ]
    write_rows(tmp_path / "rows.jsonl", export_rows(sources, layout))
    counts = import_traces(tmp_path / "rows.jsonl", EXPORTED[layout], tmp_path / "out", trust_no_call=True)
    assert counts.rejected == {}
    made = read_jsonl(tmp_path / "out" / "traces.jsonl", Trace)
    # The step before the answer of the last conversation is a candidate too.
    assert [trace.answer.calls for trace in made] == [tuple(two), (), steps[2].calls, steps[4].calls]
    back = [made[0], made[1], made[3]]
    for trace, source in zip(back, sources, strict=True):
        assert trace.specs == source.specs
        assert [(message.role, message.content, message.calls) for message in trace.messages] == [
            (message.role, message.content, message.calls) for message in source.messages
        ]
