"""Every dialect of the table: written and read, cut off, among prose, in a thought, in linear time."""

import gc
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import Source
from fcdistill.toolcalls.dialects.table import DIALECTS
from fcdistill.toolcalls.parsing import call_spans, class_spans, is_complete, parse_output, render_calls
from fcdistill.toolcalls.thinking import OPENINGS
from tests.toolcalls.dialects.beacons import TOOLS, TWO, calls

ALL = sorted(DIALECTS)


@pytest.mark.parametrize("dialect", ALL)
@given(expected=st.lists(calls, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(dialect: str, expected: list[ToolCall]) -> None:
    text = render_calls(expected, dialect)
    output = parse_output(text, TOOLS, expected=dialect)
    assert (output.calls, output.errors, output.text) == (tuple(expected), (), "")
    assert output.dialects == (dialect,)


@pytest.mark.parametrize("dialect", ALL)
@given(expected=st.lists(calls, min_size=1, max_size=2))
@settings(max_examples=20, deadline=None)
def test_no_dialect_needs_to_be_expected(dialect: str, expected: list[ToolCall]) -> None:
    """Llama 3.1 has no marks round its objects, and the older form of Mistral's is read as its own."""
    output = parse_output(render_calls(expected, dialect), TOOLS)
    assert (output.calls, output.errors) == (tuple(expected), ())


@pytest.mark.parametrize("dialect", ALL)
@given(expected=st.lists(calls, min_size=1, max_size=2))
@settings(max_examples=20, deadline=None)
def test_prose_round_calls_stays_prose(dialect: str, expected: list[ToolCall]) -> None:
    text = f"I do that now.\n{render_calls(expected, dialect)}\nAnything else?"
    output = parse_output(text, TOOLS, expected=dialect)
    assert (output.calls, output.errors) == (tuple(expected), ())
    assert output.text == "I do that now.\nAnything else?"


@pytest.mark.parametrize("dialect", ALL)
def test_an_answer_that_is_cut_off_is_never_a_whole_one(dialect: str) -> None:
    text = render_calls(TWO[:1], dialect)
    for end in range(1, len(text)):
        output = parse_output(text[:end], TOOLS, truncated=True, expected=dialect)
        assert output.calls in ((), tuple(TWO[:1]))
        if output.calls:
            assert not text[:end].strip() or len(text) - end <= len(text) - text.rindex("}") or "param" in text


@pytest.mark.parametrize("dialect", ALL)
def test_calls_in_a_thought_are_none(dialect: str) -> None:
    drafted = render_calls(TWO, dialect)
    for text in (f"<think>Perhaps {drafted}?</think>Which one?", f"Perhaps {drafted}?\n</think>\nWhich one?"):
        output = parse_output(text, TOOLS, expected=dialect)
        assert (output.calls, output.errors, output.text) == ((), (), "Which one?")
        assert "Perhaps" in output.thought
    unfinished = parse_output(f"<think>Perhaps {drafted}", TOOLS, expected=dialect)
    assert (unfinished.calls, unfinished.text, unfinished.is_unfinished) == ((), "", True)


@pytest.mark.parametrize("dialect", ALL)
def test_names_keys_and_values_have_their_classes(dialect: str) -> None:
    text = render_calls(TWO, dialect)
    found: dict[str, list[str]] = {}
    for start, end, kind in class_spans(text, TOOLS, expected=dialect):
        found.setdefault(kind, []).append(text[start:end])
    assert found["name"] == ["set_beacon", "ping-beacon_2"]
    assert found["arg_key"][:2] == ["label", "slots"] and "tags" in found["arg_key"]
    assert found["arg_value"][:2] == ["Quai", "12"]
    assert "text" not in found
    assert [tool for _, _, tool in call_spans(text, TOOLS, expected=dialect)] == ["set_beacon", "ping-beacon_2"]
    spans = class_spans(text, TOOLS, expected=dialect)
    assert "".join(text[start:end] for start, end, _ in spans) == text


@pytest.mark.parametrize("dialect", ALL)
def test_decoding_goes_on_until_prose_follows(dialect: str) -> None:
    text = render_calls(TWO, dialect)
    assert not is_complete(text, expected=dialect)
    assert is_complete(text + "\nThe beacon", expected=dialect)


MARKS = sorted({mark for each in DIALECTS.values() for mark in (*each.openings, each.closing)} | {*OPENINGS} - {""})
marked_texts = st.lists(st.sampled_from([*MARKS, *OPENINGS.values(), "a ", "\n", "{", "]", '"', "'"]), max_size=4)
marked_calls = st.builds(
    lambda label, tag: ToolCall(name="set_beacon", arguments={"label": "".join(label), "tags": ["".join(tag)]}),
    marked_texts,
    marked_texts,
)


@pytest.mark.parametrize("dialect", ALL)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_an_answer_that_is_cut_anywhere_is_not_complete(dialect: str, data: st.DataObject) -> None:
    """Character by character, as where its marks are several tokens; texts with marks where a format can quote them."""
    can_quote = DIALECTS[dialect].syntax in ("json", "python")
    answer = data.draw(st.lists(st.one_of(calls, marked_calls) if can_quote else calls, min_size=1, max_size=2))
    before = data.draw(st.sampled_from(["", "I do that now.\n", "<think>\nPerhaps.\n</think>\n\n"]))
    expected = data.draw(st.sampled_from([dialect, None]))
    text = before + render_calls(answer, dialect)
    assert [end for end in range(len(text) + 1) if is_complete(text[:end], expected=expected)] == []


@pytest.mark.parametrize("dialect", ALL)
def test_the_closing_mark_stands_behind_the_last_call(dialect: str) -> None:
    text, closing = render_calls(TWO, dialect), DIALECTS[dialect].closing
    assert text.endswith(closing or ("]", "}", "<|call|>"))


# A broken call of Functionary's has no end: its mark closes no block.
@pytest.mark.parametrize("dialect", [name for name in ALL if DIALECTS[name].closing and name != "functionary"])
def test_a_call_that_cannot_be_read_is_complete_once_its_mark_has_closed_it(dialect: str) -> None:
    text, closing = render_calls(TWO[:1], dialect), DIALECTS[dialect].closing
    broken = text.replace("set_beacon", "", 1)
    assert is_complete(f"{broken}\nThe beacon", expected=dialect)
    for end in range(1, len(closing)):
        assert not is_complete(broken[:-end], expected=dialect)


FRAGMENTS = [
    *(opening for dialect in DIALECTS.values() for opening in dialect.openings),
    *(
        "</tool_call>",
        "</function>",
        "</parameter>",
        "<parameter=a>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "<think>",
    ),
    *(
        "</think>",
        "<escape>",
        '<|"|>',
        "call:f{",
        "f(a=",
        "[f(",
        "')",
        '"',
        "'",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ",",
        ":",
    ),
    *(
        '{"name": "f", "arguments": {',
        "\n",
        " ",
        "prose",
        "<|message|>",
        "<tool_call|>",
        "<invoke name=",
        "NaN",
        "\ud800",
    ),
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join))
@settings(max_examples=30, deadline=None)
def test_any_text_is_read(text: str) -> None:
    for truncated in (False, True):
        output = parse_output(text, TOOLS, truncated=truncated)
        for call in output.calls:
            json.dumps(call.arguments, allow_nan=False)
        assert all(0 <= error.start <= error.end <= len(text) for error in output.errors)
    spans = class_spans(text, TOOLS)
    assert [start for start, _, _ in spans] == [0, *(end for _, end, _ in spans)][: len(spans)]
    assert (spans[-1][1] if spans else 0) == len(text)
    is_complete(text)


@pytest.mark.parametrize("name", [name for name in ALL if DIALECTS[name].follows])
@given(st.lists(st.sampled_from([*FRAGMENTS, "f", "7", "-", "\u00e9"]), max_size=6).map("".join))
@settings(max_examples=100, deadline=None)
def test_who_is_not_asked_would_read_nothing(name: str, rest: str) -> None:
    for opening, follows in DIALECTS[name].follows.items():
        if rest.strip() and rest.strip()[0] not in follows:
            assert DIALECTS[name].read(Source(opening + rest), 0) is None


UNITS = sorted({fragment for fragment in FRAGMENTS if fragment.strip() and "\ud800" not in fragment})


@pytest.mark.parametrize("unit", UNITS)
def test_time_is_linear_in_the_text(unit: str) -> None:
    """Four times the text takes about four times as long, not sixteen times."""

    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        gc.disable()  # a collection looks at the objects of all tests before
        try:
            started = time.process_time()
            parse_output(text, TOOLS)
            return time.process_time() - started
        finally:
            gc.enable()

    seconds(1_000)
    assert seconds(80_000) < 10 * max(seconds(20_000), 0.02)


def test_marks_of_no_known_format_are_an_error_and_no_abstention() -> None:
    for text in (
        "<|custom_tool_call|>ring(west)",
        "<plugin_calls>ring</plugin_calls><function_call_v2>ring",
        "Sure. [TOOL_REQUEST] ring",
        '<action_call name="ring">',
    ):
        output = parse_output(text, TOOLS)
        assert output.calls == () and [error.kind for error in output.errors] == ["unknown_dialect"], text
        assert output.dialects == ("unknown",)


@pytest.mark.parametrize(
    "text", ["Call me at noon.", "The tool <b>works</b>.", "I use the function f(x) = x.", "[see(page 3)]"]
)
def test_words_about_calls_are_prose(text: str) -> None:
    output = parse_output(text, TOOLS)
    assert (output.calls, output.errors, output.text) == ((), (), text)
