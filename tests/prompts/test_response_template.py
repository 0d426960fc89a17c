"""transformers' own parser with the templates that tokenizers are given: what is written is read."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer
from transformers.utils.chat_parsing import ResponseParser

from fcdistill.config import TemplateChoice
from fcdistill.prompts.rendering import call_format, prepare_tokenizer, render_example
from fcdistill.prompts.response_template import UNREADABLE, missing_response_template, response_template
from fcdistill.records import FunctionTool, Message, ToolCall
from fcdistill.toolcalls.dialects.table import DIALECTS
from fcdistill.toolcalls.parsing import render_calls
from tests.prompts.families import FAMILIES, family_tokenizer
from tests.toolcalls.dialects.beacons import TOOLS, TWO, calls

HEAD = "<|im_start|>assistant\n"
STOP = "<|im_end|>"
WRAPPED = [FunctionTool(function=spec).model_dump(mode="json") for spec in TOOLS]
READABLE = sorted(DIALECTS.keys() - UNREADABLE.keys())
THOUGHTS = {
    "harmony": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
    "cohere": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
}


def read(text: str, dialect: str, *, prompt_end: str = "", piece: int = 1_000_000) -> dict[str, Any]:
    """A message's fields, read in pieces of so many characters; its calls as `ToolCall`."""
    parser = ResponseParser(
        response_template(dialect, anchor=HEAD, stops=[STOP]), prefix=f"Hi{STOP}{HEAD}{prompt_end}", tools=WRAPPED
    )
    for start in range(0, len(text), piece):
        parser.feed(text[start : start + piece])
    message, _ = parser.finalize()
    message["tool_calls"] = [ToolCall.model_validate(each["function"]) for each in message.get("tool_calls", ())]
    return message


def test_the_dialects_without_a_template_are_those_of_pythons_literals() -> None:
    assert set(UNREADABLE) == {"lfm2", "llama4", "olmo3", "pythonic"}
    assert {name for name in DIALECTS if DIALECTS[name].syntax == "python"} == set(UNREADABLE)
    assert all("no parser for Python's literals" in reason for reason in UNREADABLE.values())


@pytest.mark.parametrize("piece", [1_000_000, 1, 7])
@pytest.mark.parametrize("dialect", READABLE)
def test_calls_are_read_whole_and_piece_by_piece(dialect: str, piece: int) -> None:
    nested = ToolCall(name="set_beacon", arguments={"site": {"row": "C}", "open": False}, "tags": ["[", '"', "5"]})
    for expected in ([nested], TWO, [nested, *TWO, TWO[1]]):
        for before, after in (
            ("", ""),
            ("", STOP),
            ("", f"{STOP}\n"),
            ("I do that now.\n", STOP),
            ("Now.\n", "\nDone."),
        ):
            text = f"{before}{render_calls(expected, dialect)}{after}"
            message = read(text, dialect, piece=piece)
            prose = "\n".join(filter(None, [before.strip(), after.replace(STOP, "").strip()]))
            assert message.pop("tool_calls") == expected, text
            assert message == {"role": "assistant"} | ({"content": prose} if prose else {}), text


@pytest.mark.parametrize("dialect", READABLE)
@given(expected=st.lists(calls, min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_any_calls_are_read(dialect: str, expected: list[ToolCall]) -> None:
    message = read(render_calls(expected, dialect) + STOP, dialect)
    assert message == {"role": "assistant", "tool_calls": expected}


@pytest.mark.parametrize("dialect", READABLE)
def test_words_alone_are_content(dialect: str) -> None:
    for words in ("Which room do you mean?", 'It is a {"name": "lamp"}, [1] and {2}.', "first\n\nsecond"):
        assert read(words + STOP, dialect) == {"role": "assistant", "content": words, "tool_calls": []}


@pytest.mark.parametrize("piece", [1_000_000, 1])
@pytest.mark.parametrize("dialect", READABLE)
def test_a_thought_is_told_apart(dialect: str, piece: int) -> None:
    opening, closing = THOUGHTS.get(dialect, ("<think>", "</think>"))
    drafted = "" if dialect == "harmony" else render_calls(TWO[1:], dialect)
    thought = f"Perhaps {drafted}?"
    for text, expected in ((render_calls(TWO, dialect), TWO), ("Which one?", [])):
        for prompt_end, start in (("", f"{opening}\n"), (f"{opening}\n", "")):
            message = read(f"{start}{thought}\n{closing}\n\n{text}{STOP}", dialect, prompt_end=prompt_end, piece=piece)
            assert (message["reasoning_content"], message["tool_calls"]) == (thought, expected)
            assert message.get("content", "") == ("" if expected else "Which one?")
    for prompt_end in (f"{opening}\n\n{closing}\n\n", *([] if dialect == "harmony" else [closing])):
        message = read(render_calls(TWO, dialect) + STOP, dialect, prompt_end=prompt_end, piece=piece)
        assert message == {"role": "assistant", "tool_calls": TWO}


@pytest.mark.parametrize("dialect", ["hermes", "mistral", "phi4", "kimi_k2", "json", "llama3"])
def test_marks_inside_of_a_text_are_text(dialect: str) -> None:
    mark = render_calls(TWO, dialect)
    call = ToolCall(name="set_beacon", arguments={"label": f"</tool_call>, ] }}}} {mark}"})
    assert read(render_calls([call, call], dialect) + STOP, dialect)["tool_calls"] == [call, call]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_student_of_each_family_has_one_or_the_reason_why_not(name: str, tmp_path: Any) -> None:
    tokenizer = family_tokenizer(name)
    prepare_tokenizer(tokenizer, thinks=False)
    dialect = FAMILIES[name].dialect
    missing = missing_response_template(tokenizer, dialect)
    assert missing == UNREADABLE.get(dialect)
    if missing is not None:
        return
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    called = TWO if FAMILIES[name].writes_parallel else TWO[:1]
    for answer in (Message.calling(called), Message(role="assistant", content="Which beacon?")):
        request = Message(role="user", content="Set a beacon.")
        example = render_example(tokenizer, [request, answer], TOOLS, "full")
        message = loaded.parse_response(
            tokenizer.decode(example.completion_ids),
            prefix=tokenizer.decode(example.prompt_ids),
            tools=WRAPPED,
        )
        read_calls = [ToolCall.model_validate(each["function"]) for each in message.get("tool_calls", ())]
        assert (read_calls, message.get("content", "")) == (list(answer.calls), answer.content)


def test_a_template_of_its_own_is_kept_while_it_reads_what_the_chat_template_writes() -> None:
    tokenizer = family_tokenizer("qwen2")
    own = {
        "start_anchor": HEAD,
        "fields": {
            "tool_calls": {
                "open_pattern": r"\s*<tool_call>",
                "close": "</tool_call>",
                "repeats": True,
                "content": "json",
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {"close_pattern": r"\s*<\|im_end\|>\s*"},
        },
    }
    tokenizer.response_template = own
    prepare_tokenizer(tokenizer)
    assert tokenizer.response_template == own
    other = family_tokenizer("seed_oss")
    other.response_template = own
    prepare_tokenizer(other)
    assert "seed:tool_call" in str(other.response_template)
    prepare_tokenizer(other, TemplateChoice(template="kit"))
    assert call_format(other).dialect == "hermes" and "seed:tool_call" not in str(other.response_template)


def test_no_template_is_kept_that_misreads_what_the_chat_template_writes() -> None:
    tokenizer = family_tokenizer("qwen2")
    tokenizer.chat_template = FAMILIES["qwen2"].template.replace('"arguments"', '"parameters"')
    prepare_tokenizer(tokenizer)
    assert tokenizer.response_template is None
    missing = missing_response_template(tokenizer, call_format(tokenizer).dialect)
    assert missing == "transformers' parser does not read back what this chat template writes"
