"""Tests of `argument_rules`: in every syntax, what may be written is a valid call, and valid calls may be written."""

import functools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from fcdistill.prompts.rendering import calls_text
from fcdistill.records import ToolCall
from fcdistill.toolcalls.parsing import parse_output, render_calls
from fcdistill.tools.validation import CallValidator
from tests.backends.constrained.call_templates import TEMPLATES, template
from tests.backends.constrained.walker import Walker, spec
from tests.tiny import tiny_tokenizer

TEXT: dict[str, Any] = {"type": "string"}
POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "note": TEXT, "next": {"$ref": "#/$defs/Point"}},
    "required": ["x"],
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "text": TEXT,
    "short text": {"type": "string", "minLength": 1, "maxLength": 4},
    "pattern": {"type": "string", "pattern": r"^[a-c]+/\d{2}$"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "date-time": {"type": "string", "format": "date-time"},
    "duration": {"type": "string", "format": "duration"},
    "email": {"type": "string", "format": "email"},
    "hostname": {"type": "string", "format": "hostname"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "ipv6": {"type": "string", "format": "ipv6"},
    "uri": {"type": "string", "format": "uri"},
    "uuid": {"type": "string", "format": "uuid"},
    "enum": {"type": "string", "enum": ["a", "b b", "5", "null"]},
    "mixed enum": {"enum": ["a", 1, None, True, 2.5]},
    "integer": {"type": "integer", "minimum": 1, "maximum": 30},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "optional text": {"anyOf": [TEXT, {"type": "null"}]},
    "optional enum": {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]},
    "optional integer": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
    "text or integer": {"type": ["string", "integer"]},
    "text or bounded integer": {"anyOf": [{"type": "string", "maxLength": 6}, {"type": "integer", "minimum": 7}]},
    "text or flag": {"type": ["string", "boolean", "null"]},
    "text or list": {"anyOf": [TEXT, {"type": "array", "items": TEXT, "maxItems": 2}]},
    "enum or integer": {"anyOf": [{"enum": ["auto"]}, {"type": "integer"}]},
    "list": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
    "list of texts": {"type": "array", "items": TEXT},
    "pair": {"type": "array", "prefixItems": [TEXT, {"type": "boolean"}], "items": False, "minItems": 1},
    "set": {"type": "array", "items": {"enum": ["mon", "tue", "wed"]}, "uniqueItems": True, "minItems": 1},
    "object": {"type": "object", "properties": {"row": TEXT, "open": {"type": "boolean"}}, "required": ["open"]},
    "map": {"type": "object", "additionalProperties": TEXT},
    "bounded map": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
    "map beside names": {"type": "object", "properties": {"a": TEXT}, "additionalProperties": {"type": "boolean"}},
    "map of a pattern": {"type": "object", "patternProperties": {"^x-[a-c]*$": TEXT}},
    "map of given names": {"type": "object", "propertyNames": {"enum": ["p", "q"]}, "additionalProperties": TEXT},
    "map of short names": {"type": "object", "propertyNames": {"maxLength": 40}, "additionalProperties": TEXT},
    "any object": {"type": "object"},
    "anything": {"description": "whatever"},
    "untyped object": {"properties": {"step": TEXT}},
    "reference": {"$ref": "#/$defs/Point"},
    "optional reference": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]},
    "reference with a default": {"allOf": [{"$ref": "#/$defs/Point"}], "default": {"x": 1}},
    "tagged union": {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": "a"}, "v": TEXT}, "required": ["kind"]},
            {"type": "object", "properties": {"kind": {"const": "b"}, "w": TEXT}, "required": ["kind"]},
        ]
    },
    "joined": {
        "allOf": [
            {"type": "object", "properties": {"a": TEXT}},
            {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ]
    },
}
SYNTAXES = ["functionary", "lfm2", "pythonic", "qwen_xml", "glm", "deepseek_v32", "function_gemma"]
"""Dialects of every syntax, and of those with tags the three ways to say what a text is."""


def walker(dialect: str, *schemas: Any) -> Walker:
    properties = {f"v{index}" if index else "v": schema for index, schema in enumerate(schemas)}
    tool = spec(properties={**properties, "other-one": {"type": "boolean"}}, required=["v"], **{"$defs": DEFINITIONS})
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in TOKENS.get(dialect, ())])
    return Walker([tool, spec("ring")], tokenizer=tokenizer, chat_template=template(TEMPLATES[dialect]))


DEFINITIONS = {"Point": POINT}
TOKENS = {
    "glm": ["<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
    "function_gemma": ["<start_function_call>", "<end_function_call>", "<escape>"],
    "lfm2": ["<|tool_call_start|>", "<|tool_call_end|>"],
}
"""Marks that are tokens of their own; those of the other dialects are cut as text is."""


def around(dialect: str) -> tuple[str, str]:
    """How a call begins, up to its arguments, and how it goes on behind a text."""
    text = render_calls([ToolCall(name="tool", arguments={"v": "VALUE"})], dialect)
    before, ending = text.split("VALUE")
    end = before.rindex("tool") + len("tool")
    return before[:end], ending


@pytest.mark.parametrize("dialect", SYNTAXES)
@pytest.mark.parametrize("schema", ARGUMENTS.values(), ids=ARGUMENTS)
def test_whatever_may_be_written_is_a_valid_call(schema: dict[str, Any], dialect: str) -> None:
    writer = walker(dialect, schema)
    validator = CallValidator(writer.specs)
    start, ending = around(dialect)
    written = writer.walks(40, start=start, most=120, ending=ending)
    assert len(written) >= 3
    for text in written:
        output = parse_output(text, writer.specs, expected=dialect)
        assert output.calls and not output.errors, text
        assert output.dialects == (dialect,)
        assert [validator.check_call(call) for call in output.calls] == [[]] * len(output.calls), text


def ordered(point: dict[str, Any]) -> dict[str, Any]:
    """A point in the order of its schema."""
    found = {name: point[name] for name in ("x", "note", "next") if name in point}
    return {**found, "next": ordered(found["next"])} if "next" in found else found


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "Zs", "Po")), max_size=8).filter(
    lambda text: text == text.strip() and not text[:1].isdigit() and text[:1] not in ("'", '"')
)
points: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.fixed_dictionaries({"x": st.integers(-99, 99)}, optional={"note": texts}),
    lambda inner: st.fixed_dictionaries({"x": st.integers(-99, 99)}, optional={"note": texts, "next": inner}),
    max_leaves=3,
)
points = points.map(ordered)
names = st.text("abcxyz_-", min_size=1, max_size=5)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "integer": st.integers(1, 30),
    "number": st.floats(-1e6, 1e6).map(lambda value: round(value, 3) + 0.0),
    "boolean": st.booleans(),
    "list of texts": st.lists(texts, max_size=3),
    "set": st.lists(st.sampled_from(["mon", "tue", "wed"]), min_size=1, unique=True),
    "map": st.dictionaries(names, texts, max_size=3),
    "reference": points,
    "any object": st.dictionaries(
        names, st.one_of(texts, st.none(), st.booleans(), st.lists(st.integers(0, 9), max_size=2)), max_size=3
    ),
}


@functools.cache
def kept_walker(dialect: str) -> Walker:
    return walker(dialect, *(ARGUMENTS[name] for name in VALUES))


@pytest.mark.parametrize("dialect", TEMPLATES)
@given(st.data())
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_valid_calls_may_be_written(dialect: str, data: st.DataObject) -> None:
    drawn = {f"v{index}" if index else "v": data.draw(values) for index, values in enumerate(VALUES.values())}
    call = ToolCall(name="tool", arguments={**drawn, "other-one": True})
    writer = kept_walker(dialect)
    text = render_calls([call, ToolCall(name="ring"), call], dialect)
    assert parse_output(text, writer.specs, expected=dialect).calls == (call, ToolCall(name="ring"), call)
    assert writer.allows(text), text


@pytest.mark.parametrize("dialect", SYNTAXES)
@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string", "minLength": 2, "maxLength": 3}, "abc", "abcd"),
        ({"type": "string", "pattern": "^a+$"}, "aa", "ab"),
        ({"type": "string", "format": "date"}, "2028-02-29", "2027-02-29"),
        ({"enum": ["on", "off"]}, "on", "of"),
        ({"type": "integer", "maximum": 7}, 7, 8),
        ({"type": "boolean"}, True, 1),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True}, ["b", "a"], ["a", "a"]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, [1, 2], [1, 2, 3]),
        ({"type": "object", "properties": {"a": TEXT}, "required": ["a"]}, {"a": "x"}, {}),
        ({"type": "object", "additionalProperties": TEXT}, {"a": "x", "b": "y"}, {"a": 1}),
        ({"type": "object", "propertyNames": {"pattern": "^k"}, "additionalProperties": TEXT}, {"k": "x"}, {"a": "x"}),
    ],
    ids=str,
)
def test_single_values(schema: dict[str, Any], right: Any, wrong: Any, dialect: str) -> None:
    writer = walker(dialect, schema)
    for value, is_right in ((right, True), (wrong, False)):
        assert writer.allows(render_calls([ToolCall(name="tool", arguments={"v": value})], dialect)) is is_right


@pytest.mark.parametrize("dialect", SYNTAXES)
def test_required_arguments_and_the_order_of_the_schema(dialect: str) -> None:
    writer = walker(dialect, {"type": "integer"}, {"type": "integer"})
    for arguments, is_right in (
        ({"v": 1}, True),
        ({"v": 1, "v1": 2, "other-one": True}, True),
        ({"v1": 2}, False),
        ({"v1": 2, "v": 1}, False),
        ({"v": 1, "w": 2}, False),
        ({}, False),
    ):
        assert writer.allows(render_calls([ToolCall(name="tool", arguments=arguments)], dialect)) is is_right, arguments
    assert writer.allows(render_calls([ToolCall(name="ring")], dialect))
    assert not writer.allows(render_calls([ToolCall(name="rings")], dialect))


@pytest.mark.parametrize("dialect", TEMPLATES)
def test_no_call_of_another_dialect_may_be_written(dialect: str) -> None:
    writer = kept_walker(dialect)
    layout_free = {"qwen_xml": {"functionary"}, "functionary": {"qwen_xml"}}
    calls = [ToolCall(name="ring")]
    own = render_calls(calls, dialect)
    for other in ("hermes", "mistral", "json", "fenced", *TEMPLATES):
        text = render_calls(calls, other)
        if other != dialect and other not in layout_free.get(dialect, set()) and text != own:
            assert not writer.allows(text), other
    for mark in ("<tool_call>", "<|tool_call|>", "<invoke name=", "<function_calls>", "```", "{", "\n[ring()"):
        assert not writer.allows(f"Sure. {mark}"), mark
    assert writer.allows("Which one? [a] (b) <c>")


_ITEMS = "{%- for key, value in call.function.arguments.items() -%}"
_SINGLE_QUOTED = f"""\
{{{{ '<|tool_call_start|>[' if loop.first else ', ' }}}}{{{{ call.function.name }}}}\
({_ITEMS}{{{{ ', ' if not loop.first }}}}\
{{{{ key }}}}={{{{ "'" + value + "'" if value is string else value }}}}{{%- endfor -%}})\
{{{{ ']<|tool_call_end|>' if loop.last }}}}"""
_WORDS_OF_PYTHON = f"""\
<tool_call>\n<function={{{{ call.function.name }}}}>\n{_ITEMS}<parameter={{{{ key }}}}>{{{{ '\n' }}}}{{{{ value }}}}\
{{{{ '\n' }}}}</parameter>{{{{ '\n' }}}}{{%- endfor -%}}</function>\n</tool_call>"""
_SORTED = TEMPLATES["gemma4"].replace("value.items()", "value | dictsort")
_WITH_IDS = """{{ '[TOOL_CALLS] [' if loop.first else ', ' -}}
{{ '{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson -}}
{{ ', "id": "' + call.id + '"}' -}}{{ ']' if loop.last }}"""


@pytest.mark.parametrize(
    "calls",
    [_SINGLE_QUOTED, _WORDS_OF_PYTHON, _SORTED, _WITH_IDS, "{{ '<think></think>' }}" + TEMPLATES["glm"]],
    ids=["single quotes", "words of Python", "sorted names", "ids", "an empty thought"],
)
def test_what_a_template_writes_in_its_own_way_may_be_written(calls: str) -> None:
    properties = {
        "room": TEXT,
        "level": {"type": "integer"},
        "dim": {"type": "boolean"},
        "tags": {"type": "array", "items": TEXT},
        "mode": {"enum": ["auto", None, False]},
        "at": {"type": "object", "properties": {"row": TEXT, "column": TEXT}, "additionalProperties": {"type": "null"}},
    }
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(calls)
    writer = Walker([spec(properties=properties), spec("ring")], tokenizer=tokenizer, chat_template=template(calls))
    typed = {
        "level": 30,
        "dim": True,
        "tags": ["late", "42"],
        "mode": None,
        "at": {"row": "C", "column": "2", "z": None},
    }
    for call in (
        ToolCall(name="tool", arguments={"room": "L'Été"}),
        ToolCall(name="tool", arguments={"room": "attic", **typed}),
        ToolCall(name="tool", arguments={"dim": False, "mode": False}),
    ):
        for answer in ([call], [ToolCall(name="ring"), call]):
            text = calls_text(tokenizer, answer)
            assert parse_output(text, writer.specs).calls == tuple(answer), text
            assert writer.allows(text), text
