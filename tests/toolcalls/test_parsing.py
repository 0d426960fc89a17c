import itertools
import json
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fcdistill.records import ToolCall
from fcdistill.toolcalls.parsing import (
    call_spans,
    class_spans,
    is_complete,
    markup_spans,
    parse_output,
    render_calls,
)

DIALECTS = ("hermes", "llama3", "mistral", "json", "fenced")
"""Those that can write any name and any arguments."""
A, B = ToolCall(name="a", arguments={"x": 1}), ToolCall(name="b", arguments={})

AWKWARD = (
    "</tool_call>",
    "<tool_call>",
    "```",
    "}\n{",
    '"',
    "\\",
    "\n",
    "[TOOL_CALLS]",
    "{{",
    "é🙂",
    "\u2028",
    "]",
    ";",
)
texts = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(AWKWARD), max_size=4).map("".join))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
arguments = st.dictionaries(texts, json_values, max_size=4)
calls = st.builds(ToolCall, name=st.one_of(st.just("set_light"), texts.filter(bool)), arguments=arguments)
dialects = st.sampled_from(DIALECTS)

FRAGMENTS = (
    *("<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "```", "```json\n", "```tool_call\n"),
    *('{"name": "a", "arguments": {}}', '{"name": "a"', '"arguments": {', "{{", "}}", "{", "}", "[", "]", '"', "\\"),
    *("'name': 'a'", ", ", ": ", "\n", " ", "prose", "NaN", "-1e999", "\ud800", '"\\ud800"', "\x00", "name"),
)


@given(st.lists(calls, max_size=4), dialects)
@settings(max_examples=200, deadline=None)
def test_rendered_calls_are_read_back(expected: list[ToolCall], dialect: str) -> None:
    parsed = parse_output(render_calls(expected, dialect))
    assert parsed.calls == tuple(expected)
    assert parsed.errors == ()
    assert parsed.text == ""


@given(st.lists(calls, min_size=1, max_size=3), dialects)
@settings(max_examples=100, deadline=None)
def test_surrounding_prose_changes_no_call(expected: list[ToolCall], dialect: str) -> None:
    parsed = parse_output(f"Sure, I'll do that:\n{render_calls(expected, dialect)}\nAnything else?")
    assert parsed.calls == tuple(expected)
    assert parsed.text == "Sure, I'll do that:\nAnything else?"


def require_sound(text: str) -> None:
    """The invariants of any output: it is read, errors lie inside it, and class spans tile it."""
    for truncated in (False, True):
        parsed = parse_output(text, truncated=truncated)
        for error in parsed.errors:
            assert 0 <= error.start < error.end <= len(text)
        for call in parsed.calls:
            json.dumps(call.arguments, ensure_ascii=False, allow_nan=False).encode()
    is_complete(text)
    spans = class_spans(text)
    assert [start for start, _, _ in spans] == [0, *(end for _, end, _ in spans)][: len(spans)]
    assert (spans[-1][1] if spans else 0) == len(text)


@given(st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)))
@example('{"name": "' + "\ud800" + '", "arguments": {}}')
@example('{"arguments": {"name": "set_light", "parameters": {"<tool_call>": ["<tool_call>"]}}')
@example('{"name": "a", "arguments": ' + '{"a":' * 5000 + "1" + "}" * 5001)
@example('{"name": "a", "arguments": {"x": ' + "9" * 5000 + "}}")
@settings(max_examples=300, deadline=None)
def test_arbitrary_text_never_raises(text: str) -> None:
    require_sound(text)


@given(st.lists(calls, min_size=1, max_size=3), dialects, st.data())
@settings(max_examples=200, deadline=None)
def test_mutated_calls_never_raise(rendered: list[ToolCall], dialect: str, data: st.DataObject) -> None:
    text = render_calls(rendered, dialect)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 5)))
        text = text[:start] + data.draw(st.one_of(st.just(""), st.sampled_from(FRAGMENTS))) + text[end:]
    require_sound(text)


@given(calls, st.data())
@settings(max_examples=100, deadline=None)
def test_a_cut_block_is_an_error_and_no_call(call: ToolCall, data: st.DataObject) -> None:
    """Where all of the call but its closing tag is there, it is one, unless the answer was cut at a limit."""
    text = render_calls([call])
    whole = len(text.removesuffix("\n</tool_call>"))
    cut = text[: data.draw(st.integers(len("<tool_call>"), len(text) - 1))]
    assert parse_output(cut).calls == ((call,) if len(cut) in (whole, whole + 1) else ())
    assert parse_output(cut, truncated=True).calls == ()
    assert parse_output(cut, truncated=True).errors
    assert not is_complete(cut)


READ = {
    "tag on one line": ('<tool_call>{"name": "a", "arguments": {"x": 1}}</tool_call>', [A]),
    "parallel tags": (render_calls([A, B]), [A, B]),
    "an array in a tag": ('<tool_call>[{"name": "a", "arguments": {"x": 1}}, {"name": "b"}]</tool_call>', [A, B]),
    "the stop token instead of the closing tag": ('<tool_call>\n{"name": "b", "arguments": {}}\n', [B]),
    "doubled braces in tags": ('<tool_call>\n{{"name": "a", "arguments": {"x": 1}}}\n</tool_call>', [A]),
    "all braces doubled": ('{{"name": "a", "arguments": {{"x": 1}}}}', [A]),
    "name alone in a tag": ('<tool_call>{"name": "b"}</tool_call>', [B]),
    "arguments as a JSON string": ('{"name": "a", "arguments": "{\\"x\\": 1}"}', [A]),
    "id and type beside": ('{"id": "1", "type": "function", "name": "a", "arguments": {"x": 1}}', [A]),
    "llama3 with python tag": ('<|python_tag|>{"name": "a", "parameters": {"x": 1}}', [A]),
    "llama3 with semicolons": (
        '<|python_tag|>{"name": "a", "parameters": {"x": 1}}; {"name": "b", "parameters": {}}',
        [A, B],
    ),
    "llama3 on lines": ('{"name": "a", "parameters": {"x": 1}}\n{"name": "b", "parameters": {}}', [A, B]),
    "mistral array": ('[TOOL_CALLS] [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {}}]', [A, B]),
    "mistral newer": ('[TOOL_CALLS]a{"x": 1}[TOOL_CALLS]b{}', [A, B]),
    "mistral with ARGS": ('[TOOL_CALLS]a[ARGS]{"x": 1}[TOOL_CALLS]b[CALL_ID]Zz9[ARGS]{}', [A, B]),
    "fence with an array": ('```json\n[{"name": "a", "arguments": {"x": 1}}]\n```', [A]),
    "fence without a language": ('```\n{"name": "a", "arguments": {"x": 1}}\n```', [A]),
    "tool_call fence": ('```tool_call\n{"name": "b"}\n```', [B]),
    "fence on one line": ('```json {"name": "a", "arguments": {"x": 1}} ```', [A]),
    "tag inside a fence": ('```xml\n<tool_call>{"name": "b", "arguments": {}}</tool_call>\n```', [B]),
    "OpenAI wrapping": ('{"tool_calls": [{"function": {"name": "a", "arguments": {"x": 1}}}]}', [A]),
    "bare array": ('[{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {}}]', [A, B]),
    "after a stray brace and quote": ('{ "so <tool_call>{"name": "b", "arguments": {}}</tool_call>', [B]),
}


@pytest.mark.parametrize("name", READ)
def test_dialects_are_read(name: str) -> None:
    text, expected = READ[name]
    parsed = parse_output(text)
    assert list(parsed.calls) == expected
    assert parsed.errors == ()


@pytest.mark.parametrize(
    "text",
    [
        "The sum is {a, b} and x[0] = {}.",
        'Use {"name": "Bob"} as the body.',
        '{"temperature": 21, "unit": "C"}',
        '```json\n{"foo": 1}\n```',
        '```python\nprint({"name": "a", "arguments": {}})\n```',
        "```\nfor (;;) { x[i] = {1}; }\n```",
        '{"name": "a", "description": "d", "parameters": {"type": "object"}}',
        'He said {"quoted [ and left open',
        "[1, 2, {",
        "</tool_call>",
        "",
    ],
)
def test_prose_code_and_other_json_are_text(text: str) -> None:
    parsed = parse_output(text)
    assert (parsed.calls, parsed.errors, parsed.text) == ((), (), text)
    assert class_spans(text) == ([(0, len(text), "text")] if text else [])


ERRORS = {
    "duplicate key in the arguments": ('{"name": "a", "arguments": {"x": 1, "x": 2}}', "duplicate_key"),
    "duplicate name": ('{"name": "a", "name": "b", "arguments": {}}', "duplicate_key"),
    "duplicate key in string arguments": ('{"name": "a", "arguments": "{\\"x\\": 1, \\"x\\": 2}"}', "duplicate_key"),
    "NaN": ('{"name": "a", "arguments": {"x": NaN}}', "not_finite"),
    "Infinity": ('<tool_call>{"name": "a", "arguments": {"x": -Infinity}}</tool_call>', "not_finite"),
    "number beyond a double": ('{"name": "a", "arguments": {"x": 1e999}}', "not_finite"),
    "unclosed tag": ('<tool_call>\n{"name": "a", "argu', "unclosed"),
    "unclosed bare object": ('{"name": "a", "argu', "unclosed"),
    "unclosed doubled braces": ('{{"name": "a", "arguments": {"x": 1}}', "unclosed"),
    "unclosed fence": ('```json\n{"name": "a", "arguments": {}}', "unclosed"),
    "unclosed array": ('[TOOL_CALLS] [{"name": "a", "argum', "unclosed"),
    "nothing after the marker": ("[TOOL_CALLS]", "unclosed"),
    "trailing comma": ('{"name": "a", "arguments": {"x": 1,}}', "invalid_json"),
    "single quotes": ("{'name': 'a', 'arguments': {'x': 1}}", "invalid_json"),
    "raw newline in a string": ('{"name": "a", "arguments": {"x": "1\n2"}}', "invalid_json"),
    "code after the python tag": ("<|python_tag|>print(1)", "invalid_json"),
    "prose in a tag": ("<tool_call>set the light</tool_call>", "invalid_json"),
    "two objects in a tag": ('<tool_call>{"name": "a"}{"name": "b"}</tool_call>', "invalid_json"),
    "call syntax in a tool_call fence": ("```tool_call\na(x=1)\n```", "invalid_json"),
    "half a surrogate pair": ('{"name": "a", "arguments": {"x": "\\ud800"}}', "invalid_json"),
    "too deep": ('{"name": "a", "arguments": {"x": ' + "[" * 50_000 + "]" * 50_000 + "}}", "invalid_json"),
    "an array that holds no call in a tag": ('<tool_call>[{"nme": "a", "arguments": {}}]</tool_call>', "not_a_call"),
    "no name in a tag": ('<tool_call>{"arguments": {}}</tool_call>', "not_a_call"),
    "empty name": ('{"name": "", "arguments": {}}', "not_a_call"),
    "array as arguments": ('{"name": "a", "arguments": [1]}', "not_a_call"),
    "null as arguments": ('<tool_call>{"name": "a", "arguments": null}</tool_call>', "not_a_call"),
    "a JSON string of a list": ('{"name": "a", "arguments": "[1]"}', "not_a_call"),
    "a tool's schema in a tag": (
        '<tool_call>{"name": "a", "description": "", "parameters": {"type": "object"}}</tool_call>',
        "not_a_call",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_failed_calls_are_one_error_each(name: str) -> None:
    text, kind = ERRORS[name]
    parsed = parse_output(text)
    assert parsed.calls == ()
    assert [error.kind for error in parsed.errors] == [kind]


@pytest.mark.parametrize(
    "bad",
    [
        '<tool_call>{"name": "a" "arguments": {}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": {"t": "left open}}</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": {}}\n',
        '{"name": "a", "arguments": {"x": NaN}}',
        "{'name': 'a', 'arguments': {}}",
    ],
)
def test_a_bad_region_leaves_the_others_alone(bad: str) -> None:
    good = render_calls([B])
    for text in (bad + "\n" + good, good + "\n" + bad + "\n" + good):
        parsed = parse_output(text)
        assert list(parsed.calls) == [B] * text.count(good)
        assert len(parsed.errors) == 1


def test_a_bad_element_leaves_the_other_elements_alone() -> None:
    parsed = parse_output('[{"name": "a", "arguments": {"x": 1}}, {"nme": "b", "arguments": {}}]')
    assert parsed.calls == (A,)
    assert [error.kind for error in parsed.errors] == ["not_a_call"]


def test_a_name_alone_is_no_call_without_a_marker() -> None:
    assert parse_output('{"name": "b"}').calls == ()
    assert parse_output('```json\n{"name": "b"}\n```').calls == ()


def test_truncated_output_makes_an_open_object_an_attempt() -> None:
    assert parse_output('{"na').errors == ()
    assert [error.kind for error in parse_output('{"na', truncated=True).errors] == ["unclosed"]


def test_error_spans_show_the_region() -> None:
    text = "well " + '<tool_call>{"name": 1}</tool_call>' + " done"
    (error,) = parse_output(text).errors
    assert text[error.start : error.end] == '{"name": 1}'
    assert parse_output(text).text == "well\ndone"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_decoding_stops_after_the_last_closed_block_and_not_before(dialect: str) -> None:
    text = render_calls([A, B], dialect)
    assert not any(is_complete(text[:end]) for end in range(len(text) + 1))
    assert not is_complete(text + "\n")
    assert is_complete(text + "\nThe light")


@pytest.mark.parametrize("prose", ["Which room do you mean?", 'An object like {"a": 1} is', "```python\nx\n```\nso"])
def test_prose_never_stops_decoding(prose: str) -> None:
    assert not is_complete(prose)


def classes_of(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for start, end, kind in class_spans(text):
        found.setdefault(kind, []).append(text[start:end])
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
def test_classes_of_every_dialect(dialect: str) -> None:
    call = ToolCall(name="f", arguments={"name": "n", "k": {"arguments": [1, True, {"q": 'a"b'}]}, "e": ""})
    found = classes_of("Ok. " + render_calls([call, B], dialect))
    assert found["name"] == ["f", "b"]
    assert found["arg_key"] == ["name", "k", "arguments", "q", "e"]
    assert found["arg_value"] == ["n", "1", "true", 'a\\"b']
    assert found["text"] == ["Ok. "]


def test_classes_of_names_before_their_arguments_and_doubled_braces() -> None:
    assert classes_of('[TOOL_CALLS]f{"x": 1}')["name"] == ["f"]
    assert classes_of('[TOOL_CALLS]f{"x": 1}')["arg_key"] == ["x"]
    found = classes_of('<tool_call>\n{{"name": "f", "arguments": {{"x": 1}}}}\n</tool_call>')
    assert (found["name"], found["arg_key"], found["arg_value"]) == (["f"], ["x"], ["1"])


def test_nan_is_not_rendered() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        render_calls([ToolCall(name="a", arguments={"x": float("nan")})])


@pytest.mark.parametrize(
    "unit",
    [
        *("{", "[", "[{", "{{", '{"', '{"a":', '{"a":[', '{"\\"', "{name:", '{"name":', '{"name":"a","arguments":{'),
        *("```", "```{", "<tool_call>", "<tool_call>{", "[TOOL_CALLS]a", "<|python_tag|>{", '{"a":"<tool_call>",'),
        *(
            '{"name":"a","arguments":{}}',
            '[{"name":"a","arguments":{}},',
            '{{"name":"a","arguments":{}}},',
            "{'name':'a','arguments':",
        ),
    ],
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    started = time.process_time()
    for opening in ("", "["):
        parse_output(opening + text)
    assert time.process_time() - started < 1


@given(st.lists(calls, max_size=4), dialects)
@settings(max_examples=100, deadline=None)
def test_the_spans_of_calls_name_their_tools_and_hold_their_names_keys_and_values(
    expected: list[ToolCall], dialect: str
) -> None:
    text = render_calls(expected, dialect)
    spans = call_spans(text)
    assert [tool for _, _, tool in spans] == [call.name for call in expected]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    for start, end, kind in class_spans(text):
        if kind in ("name", "arg_key", "arg_value"):
            assert sum(first <= start and end <= last for first, last, _ in spans) == 1


def test_what_can_not_be_read_has_no_span_of_a_call() -> None:
    text = 'Sure: {"name": "a", "arguments": {}} <tool_call>\n{"name": "b", "arguments": {"x": NaN}}\n</tool_call>'
    assert [text[start:end] for start, end, _ in call_spans(text)] == ['{"name": "a", "arguments": {}}']
    assert call_spans("I can't do that.") == []


MARKUP = [
    ("Which room?", []),
    ('<tool_call>\n{"name": "f", "arguments": {"a": "<tool_call>"}}\n</tool_call>', ["<tool_call>", "</tool_call>"]),
    ("<think>\nOr <tool_call>?\n</think>\n\nNo.", ["<think>", "</think>"]),
    ("Or <tool_call>?\n</think>\n\nNo.", ["</think>"]),
    ('<tool_call>\n{"name": "f", "arguments": {"a": "<tool_call>', ["<tool_call>"]),
    ("<think>\nOr", ["<think>"]),
]


@pytest.mark.parametrize(("text", "marks"), MARKUP)
def test_what_frames_calls_and_thoughts_is_told_from_what_stands_in_them(text: str, marks: list[str]) -> None:
    framing = [text[start:end] for start, end in markup_spans(text, expected="hermes")]
    assert [tag for each in framing for tag in re.findall(r"</?(?:tool_call|think)>", each)] == marks
