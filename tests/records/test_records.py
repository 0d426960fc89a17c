import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from fcdistill.records import (
    CALL_ERRORS,
    RECORD_TYPES,
    EvalCase,
    FunctionTool,
    Message,
    ModelRef,
    Prediction,
    Record,
    SeedRequest,
    ToolCall,
    ToolSpec,
    Trace,
    TraceMeta,
)
from fcdistill.storage import loads_strict, read_json
from tests.paths import ROOT

SCHEMAS = ROOT / "schemas" / "records"

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
calls = st.builds(ToolCall, name=texts, arguments=st.dictionaries(texts, json_values, max_size=3))
user_messages = st.builds(lambda text: Message(role="user", content=text), texts)
answers = st.builds(Message.calling, st.lists(calls, max_size=3))
tool = FunctionTool(
    function=ToolSpec(name="dim", parameters={"type": "object", "properties": {"a": {"default": None}}})
)
traces = st.builds(
    Trace,
    id=texts,
    messages=st.tuples(user_messages, answers),
    tools=st.just((tool,)),
    split_group=texts,
    meta=st.builds(
        TraceMeta,
        source=st.sampled_from(["call_first", "request_first", "import"]),
        category=st.sampled_from(["simple", "parallel", "clarify"]),
        plan_cell=texts,
        teacher=st.builds(ModelRef, model=texts, params=st.dictionaries(texts, json_values, max_size=2)),
    ),
)
cases = st.builds(
    EvalCase,
    id=texts,
    messages=st.tuples(user_messages),
    tools=st.none() | st.just((tool,)),
    behaviour=st.just("call"),
    expected=st.lists(st.lists(calls, min_size=1, max_size=2), min_size=1, max_size=2),
    category=st.just("simple"),
    critical=st.booleans(),
)
predictions = st.builds(
    Prediction, id=texts, text=texts, calls=st.lists(calls, max_size=2), latency_s=st.none() | st.floats(0, 1e3)
)


@settings(max_examples=60, deadline=None)
@given(traces | cases | predictions)
def test_a_record_comes_back_from_its_line_and_satisfies_its_exported_schema(record: Record) -> None:
    line = record.model_dump_json()
    values = loads_strict(line)
    assert type(record).model_validate(values) == record
    schema = type(record).model_json_schema(mode="serialization")
    assert not list(Draft202012Validator(schema).iter_errors(values))


def test_schemas_allow_nothing_undeclared_in_records() -> None:
    for name, record_type in RECORD_TYPES.items():
        schema = record_type.model_json_schema(mode="serialization")
        models = [schema, *schema.get("$defs", {}).values()]
        assert all(model.get("additionalProperties") is False for model in models if "properties" in model), name


def test_every_line_of_a_file_has_a_schema_that_carries_its_version() -> None:
    exported = set(RECORD_TYPES.values())
    for record_type in Record.__subclasses__():
        if record_type.__module__ == "fcdistill.records":
            assert record_type in exported, f"{record_type.__name__} is missing from RECORD_TYPES"
            assert "schema_version" in record_type.model_json_schema()["properties"]


def test_exported_schemas_do_not_drift() -> None:
    exported = {path.stem: read_json(path) for path in SCHEMAS.glob("*.json")}
    current = {name: kind.model_json_schema(mode="serialization") for name, kind in RECORD_TYPES.items()}
    assert exported == json.loads(json.dumps(current))


def test_null_content_becomes_empty_text() -> None:
    message = Message.model_validate({"role": "assistant", "content": None})
    assert message.content == ""
    assert json.loads(message.model_dump_json()) == {"role": "assistant", "content": ""}


def test_optional_parts_of_a_message_are_left_out_when_empty() -> None:
    dumped = Message.calling([ToolCall(name="dim", arguments={"level": None})]).model_dump(mode="json")
    assert dumped == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "dim", "arguments": {"level": None}}}],
    }


@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_only_the_assistant_calls_tools(role: str) -> None:
    call = {"type": "function", "function": {"name": "dim", "arguments": {}}}
    with pytest.raises(ValidationError, match="only the assistant calls tools"):
        Message.model_validate({"role": role, "tool_calls": [call]})


CASE = {
    "id": "a",
    "messages": [{"role": "user", "content": "x"}],
    "behaviour": "call",
    "expected": [[{"name": "dim", "arguments": {}}]],
    "category": "simple",
}
TRACE = {
    "id": "a",
    "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
    "tools": [],
    "split_group": "g",
    "meta": {"source": "import", "category": "simple", "plan_cell": "", "teacher": {"model": "m"}},
}


def test_the_samples_of_the_refusals_below_are_right_themselves() -> None:
    assert EvalCase.model_validate(CASE).expected[0][0].name == "dim"
    assert Trace.model_validate(TRACE).answer.content == "y"


@pytest.mark.parametrize(
    ("record_type", "values", "message"),
    [
        (SeedRequest, {"id": "a", "text": "x", "extra": 1}, "extra"),
        (SeedRequest, {"id": "a", "text": ""}, "at least 1 character"),
        (SeedRequest, {"id": "a", "text": "x", "schema_version": 2}, "schema_version"),
        (SeedRequest, {"id": "a", "text": "x", "category": "hard"}, "category"),
        (ToolCall, {"name": "dim", "arguments": '{"level": 1}'}, "valid dictionary"),
        (ToolCall, {"name": "dim", "arguments": [1]}, "valid dictionary"),
        (ToolSpec, {"name": "a.b"}, "pattern"),
        (ToolSpec, {"name": "a" * 65}, "pattern"),
        (ToolSpec, {"name": "a\n"}, "pattern"),
        (ToolSpec, {"name": "a", "inputSchema": {}}, "inputSchema"),
        (EvalCase, {**CASE, "expected": []}, "at least 1 item"),
        (EvalCase, {**CASE, "expected": [[]]}, "holds no call"),
        (EvalCase, {**CASE, "behaviour": "no_call"}, "must be"),
        (EvalCase, {**CASE, "messages": [{"role": "assistant"}]}, "ends with user or tool"),
        (Trace, {**TRACE, "messages": TRACE["messages"][:1]}, "at least 2 items"),  # type: ignore[index]
        (Trace, {**TRACE, "messages": TRACE["messages"][:1] * 2}, "ends with the assistant"),  # type: ignore[index]
    ],
)
def test_wrong_records_are_refused(record_type: type[Record], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        record_type.model_validate(values)


def test_records_are_frozen() -> None:
    seed = SeedRequest(id="a", text="x")
    with pytest.raises(ValidationError, match="frozen"):
        seed.id = "b"  # type: ignore[misc]


def test_error_codes_stand_in_order_of_primacy() -> None:
    assert CALL_ERRORS[:3] == ("no_output", "truncated", "parse_error")
    assert CALL_ERRORS[-1] == "wrong_value"
    assert CALL_ERRORS.index("missing_required") < CALL_ERRORS.index("extra_arg") < CALL_ERRORS.index("wrong_type")
