r"""The `response_template` of a tokenizer: how transformers parses its model's answers into the fields of a message.

It is saved with the tokenizer, and `transformers serve` reads calls by it. It is made of regular expressions (of the
module `regex`) and three parsers of content, so not every dialect can be said in it: `UNREADABLE` names the others.
What is made is tried on what the chat template writes, and not kept where anything comes back otherwise.

A call is a region of its own: what stands before its content opens it, and an object of JSON closes it where its own
braces do (`\G` is where the region begins, `\K` where the close does), so that marks inside of a text are text and
nothing needs to follow. All other marks (of blocks, lists and messages) are regions without content, which transformers
drops. So an answer can also be read while it is written: nothing that is optional stands at the end of an expression.

Source: transformers' documentation "Response parsing" and its module `utils/chat_parsing`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fcdistill.prompts.call_format import CallFormat, Probe, Render, probe_of
from fcdistill.records import FunctionTool, Message, ToolCall
from fcdistill.records.equality import same_calls
from fcdistill.toolcalls.thinking import OPENINGS, thought_mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["UNREADABLE", "missing_response_template", "prove_response_template", "response_template"]

_PYTHON = (
    "transformers' response_template has no parser for Python's literals: True, False and None inside of a list or an "
    "object would stay text"
)
UNREADABLE: dict[str, str] = dict.fromkeys(("lfm2", "llama4", "olmo3", "pythonic"), _PYTHON)
"""The dialects that transformers can't be told to read, and why."""

_OBJECT = r'\G(?<=\})|\G(?P<object>\{(?:[^{}"]++|"(?:[^"\\]|\\.)*+"|(?&object))*+\})\K'
"""The end of the JSON object with which a region begins.

While an answer is written, what was read of a region is passed on up to the end of the object, once that is there; the
next character then finds the region behind a brace.
"""
_LIST_END = r"(?<=\}\s*)\]"


@dataclass(frozen=True)
class _Calls:
    """How the calls of a dialect are told apart and read.

    Attributes:
        opening: matches what stands before a call's content, with its name in the group `name` where it stands there.
        function: the call, made of the group `name` and of what was read as `content`.
        further: matches what stands before a further call of the same block.
        marks: matches what else belongs to the dialect and is no text.
        closing: matches where the content ends.
        parser: of the content, and what it is told.
        thought: opens and closes a thought, where the dialect has marks for that.
    """

    opening: str
    function: str | dict[str, str]
    further: str = ""
    marks: str = ""
    closing: str = _OBJECT
    parser: Mapping[str, Any] = field(default_factory=lambda: {"content": "json"})
    thought: tuple[str, str] | None = None


def _object(key: str) -> str:
    """Looks ahead for the object of a call, so that other objects in a text are none."""
    return rf'(?=\{{\s*"name"\s*:\s*"[^"\\]*"\s*,\s*"{key}"\s*:\s*\{{)'


_WHOLE = "{content}"
_NAMED = {"name": "{name}", "arguments": "{content}"}
_PARAMETERS = {"name": "{content.name}", "arguments": "{content.parameters}"}


def _one(opening: str, *, marks: str = "") -> _Calls:
    """Objects with `name` and `arguments`, each behind a mark."""
    return _Calls(rf"{opening}\s*(?=\{{)", _WHOLE, marks=marks)


def _list(opening: str, *, marks: str = "") -> _Calls:
    """A list of such objects behind a mark."""
    further = rf"(?<=\}})\s*,\s*{_object('arguments')}"
    return _Calls(rf"{opening}\s*\[\s*(?=\{{)", _WHOLE, further, "|".join(filter(None, [_LIST_END, marks])))


def _named(opening: str, *, marks: str = "") -> _Calls:
    """Arguments as an object behind a mark that holds the name."""
    return _Calls(rf"{opening}\s*(?=\{{)", _NAMED, marks=marks)


def _tags(opening: str, argument: str, closing: str, *, marks: str = "") -> _Calls:
    """A tag for each argument: texts, which transformers converts as the tool's schema says."""
    return _Calls(
        opening, _NAMED, "", marks, closing, {"content": "xml-inline", "content_args": {"tag_pattern": argument}}
    )


def _bare(opening: str, quote: str, closing: str) -> _Calls:
    """Keys without quotes, and texts between marks of their own."""
    arguments = {"unquoted_keys": True, "string_delims": [[quote, quote]]}
    parser = {"content": "json", "content_args": arguments}
    return _Calls(rf"{opening}\s*call:(?P<name>[^{{}}\s]+)\s*(?=\{{)", _NAMED, "", "", re.escape(closing), parser)


def _dsml(block: str) -> _Calls:
    return _tags(
        r'<｜DSML｜invoke name="(?P<name>[^"\n]+)">',
        r'<｜DSML｜parameter name="(?P<key>[^"\n]*)"[^<>\n]*>(?P<value>.*?)</｜DSML｜parameter>',
        "</｜DSML｜invoke>",
        marks=f"</?｜DSML｜{block}>",
    )


_CALLS: dict[str, _Calls] = {
    "qwen_xml": _tags(
        r"(?:<tool_call>\s*)?<function=(?P<name>[^<>\n]+)>",
        r"<parameter=(?P<key>[^<>\n]*)>\n?(?P<value>.*?)\n?</parameter>",
        "</function>",
        marks="</tool_call>",
    ),
    "glm": _tags(
        r"<tool_call>\s*(?P<name>[\w.\-]+)\s*(?=<)",
        r"<arg_key>(?P<key>[^<>\n]*)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>",
        "</tool_call>",
    ),
    "hermes": _one("<tool_call>", marks="</tool_call>"),
    "functionary": _named(r"<function=(?P<name>[^<>\n]+)>", marks="</function>"),
    "llama3": _Calls(
        rf"(?:<\|python_tag\|>\s*)?{_object('parameters')}", _PARAMETERS, rf"(?<=\}})\s*;\s*{_object('parameters')}"
    ),
    "mistral_v11": _named(r"\[TOOL_CALLS\](?P<name>[\w.\-]+)(?:\[CALL_ID\]\w*)?\[ARGS\]"),
    "mistral": _list(r"\[TOOL_CALLS\]"),
    "function_gemma": _bare("<start_function_call>", "<escape>", "<end_function_call>"),
    "gemma4": _bare(r"<\|tool_call>", '<|"|>', "<tool_call|>"),
    "harmony": _named(
        r"(?:<\|start\|>assistant)?\s*(?:to=(?:functions\.)?(?P<name>[\w.\-]+)\s*<\|channel\|>\s*\w+"
        r"|<\|channel\|>\s*\w+\s+to=(?:functions\.)?(?P<name>[\w.\-]+))\s*(?:<\|constrain\|>)?\s*\w*\s*<\|message\|>",
        marks=r"<\|start\|>assistant|<\|channel\|>(?:final|commentary)\s*<\|message\|>|<\|(?:end|call|return)\|>",
    ),
    "deepseek_v31": _named(
        r"<｜tool▁call▁begin｜>(?P<name>[^\n<>]+)<｜tool▁sep｜>",
        marks="<｜tool▁calls▁begin｜>|<｜tool▁call▁end｜>|<｜tool▁calls▁end｜>",
    ),
    "deepseek_v3": _named(
        r"<｜tool▁call▁begin｜>\w*<｜tool▁sep｜>(?P<name>[^\n<>]+)\n```(?:json)?",
        marks=r"<｜tool▁calls▁begin｜>|(?<=\})\s*```\s*<｜tool▁call▁end｜>|<｜tool▁calls▁end｜>",
    ),
    "deepseek_v32": _dsml("function_calls"),
    "deepseek_v4": _dsml("tool_calls"),
    "kimi_k2": _named(
        r"<\|tool_call_begin\|>\s*(?:functions\.)?(?P<name>[\w.\-]+?)(?::\d+)?\s*<\|tool_call_argument_begin\|>",
        marks=r"<\|tool_calls_section_begin\|>|<\|tool_call_end\|>|<\|tool_calls_section_end\|>",
    ),
    "minimax_m2": _tags(
        r'<invoke name="(?P<name>[^"\n]+)">',
        r'<parameter name="(?P<key>[^"\n]*)">(?P<value>.*?)</parameter>',
        "</invoke>",
        marks="</?minimax:tool_call>",
    ),
    "minimax_m1": _Calls(
        r"<tool_calls>\s*(?=\{)", _WHOLE, rf"(?<=\}})\s*{_object('arguments')}", marks="</tool_calls>"
    ),
    "granite3": _list(r"<\|tool_call\|>"),
    "granite_20b": _one("<function_call>"),
    "gigachat": _one(r"<\|function_call\|>"),
    "phi4": _list("functools"),
    "nemotron2": _list("<TOOLCALL>", marks="</TOOLCALL>"),
    "cohere": _Calls(
        r"<\|START_ACTION\|>\s*\[\s*(?=\{)",
        {"name": "{content.tool_name}", "arguments": "{content.parameters}"},
        r'(?<=\})\s*,\s*(?=\{\s*"tool_(?:call_id|name)"\s*:)',
        rf"{_LIST_END}|<\|END_ACTION\|>|<\|(?:START|END)_(?:RESPONSE|TEXT)\|>",
        thought=("<|START_THINKING|>", "<|END_THINKING|>"),
    ),
    "apertus": _Calls(
        r'<\|tools_prefix\|>\s*\[\s*\{\s*"(?P<name>[^"\\]+)"\s*:\s*(?=\{)',
        _NAMED,
        r'(?<=\})\s*\}\s*,\s*\{\s*"(?P<name>[^"\\]+)"\s*:\s*(?=\{)',
        r"(?<=\})\s*\}\s*\]\s*<\|tools_suffix\|>",
        thought=("<|inner_prefix|>", "<|inner_suffix|>"),
    ),
    "internlm2": _Calls(
        r"<\|action_start\|><\|plugin\|>\s*(?=\{)",
        _PARAMETERS,
        rf"(?<=\}})\s*{_object('parameters')}",
        marks=r"<\|action_end\|>",
    ),
    "seed_xml": _tags(
        r"(?:<seed:tool_call>\s*)?<function=(?P<name>[^<>\n]+)>",
        r"<parameter=(?P<key>[^<>\n]*)>(?P<value>.*?)</parameter>",
        "</function>",
        marks="</seed:tool_call>",
    ),
    "fenced": _Calls(
        rf"```(?:json|tool_calls?)?\s*{_object('arguments')}",
        _WHOLE,
        rf"(?<=\}})\s*{_object('arguments')}",
        marks=r"(?<=\}\s*)```",
    ),
    "json": _Calls(
        rf"(?:\[\s*)?{_object('arguments')}", _WHOLE, rf"(?<=\}})\s*,\s*{_object('arguments')}", marks=_LIST_END
    ),
}
"""For every dialect that is not in `UNREADABLE`."""

_HARMONY_THOUGHT = {"open_pattern": r"\s*<\|channel\|>analysis\s*<\|message\|>", "close_pattern": r"<\|end\|>\s*"}


def response_template(
    dialect: str, *, anchor: str, stops: Sequence[str], thought: tuple[str, str] = ("<think>", "</think>")
) -> dict[str, Any]:
    """How transformers parses the answers of a model that writes a dialect.

    Args:
        dialect: one that is not in `UNREADABLE`.
        anchor: with what an answer's turn begins.
        stops: the tokens that end an answer.
        thought: what opens and closes a thought, where the dialect has no marks of its own for that.
    """
    calls = _CALLS[dialect]
    opening, closing = calls.thought or thought
    if dialect == "harmony":
        reasoning = _HARMONY_THOUGHT
    else:
        reasoning = {"open_pattern": rf"\s*{re.escape(opening)}", "close_pattern": rf"{re.escape(closing)}\s*"}
    # A closing mark of a thought alone stands in prompts of models that could think and do not.
    marks = "|".join(filter(None, [calls.marks, re.escape(closing)]))
    ends = "|".join(map(re.escape, stops))
    joined = {"repeats": True, "join": "\n", "content": "text"}
    return {
        "defaults": {"role": "assistant"},
        "start_anchor": anchor,
        "fields": {
            "reasoning_content": {**reasoning, **joined},
            "tool_calls": {
                "open_pattern": rf"\s*(?:{'|'.join(filter(None, [calls.opening, calls.further]))})",
                "close_pattern": calls.closing,
                "repeats": True,
                **calls.parser,
                "transform": {"type": "function", "function": calls.function},
            },
            "marks": {"open_pattern": rf"\s*(?:{marks})\s*", "close_pattern": ""},
            "content": {"close_pattern": rf"\s*(?:{ends})\s*|\s+\Z", **joined},
        },
    }


def prove_response_template(
    tokenizer: "PreTrainedTokenizerBase", render: Render, written: CallFormat, stops: Sequence[str]
) -> dict[str, Any] | None:
    """What transformers reads this tokenizer's answers with; None where it can't be told to.

    Its own template is kept where it reads what the chat template writes; one of a chat template that was replaced
    does not.

    Args:
        tokenizer: with its chat template.
        render: renders with that.
        written: how it writes calls.
        stops: the tokens that end an answer.
    """
    probe = probe_of(render)
    own = tokenizer.response_template
    if own is not None and _reads(tokenizer, own, probe, written):
        return dict(own)
    anchor, thought = _beginning(tokenizer, probe)
    if written.dialect in UNREADABLE or not anchor:
        return None
    made = response_template(written.dialect, anchor=anchor, stops=stops, thought=thought)
    return made if _reads(tokenizer, made, probe, written) else None


def missing_response_template(tokenizer: "PreTrainedTokenizerBase", dialect: str) -> str | None:
    """Why a prepared tokenizer has none; None where it has one."""
    if tokenizer.response_template is not None:
        return None
    return UNREADABLE.get(dialect, "transformers' parser does not read back what this chat template writes")


def _beginning(tokenizer: "PreTrainedTokenizerBase", probe: Probe) -> tuple[str, tuple[str, str]]:
    """With what an answer's turn begins, without the marks of a thought there, and the marks that this model has."""
    head = probe.prompt().removeprefix(probe.prompt(with_generation_prompt=False))
    texts = f"{tokenizer.chat_template}{head}"
    opening = next((mark for mark in OPENINGS if mark in texts), "<think>")
    return re.split(thought_mark(), head, maxsplit=1)[0], (opening, OPENINGS[opening])


def _reads(
    tokenizer: "PreTrainedTokenizerBase", template: Mapping[str, Any], probe: Probe, written: CallFormat
) -> bool:
    """Whether transformers gives the calls and the words back that the chat template writes."""
    tools = [FunctionTool(function=spec).model_dump(mode="json") for spec in probe.tools]
    answers = [Message(role="assistant", content="probe-answer"), *(Message.calling([call]) for call in probe.calls)]
    if written.writes_parallel:
        answers.append(Message.calling(probe.calls))
    parse: Callable[..., dict[str, Any]] = tokenizer.parse_response
    for answer in answers:
        try:
            read = parse(probe.answer(answer), dict(template), prefix=probe.prompt(), tools=tools)
            calls = [ToolCall.model_validate(call["function"]) for call in read.get("tool_calls", ())]
        except Exception:  # a template may be any data, and its parser raises whatever it comes to
            return False
        if read.get("content", "") != answer.content or not same_calls(answer.calls, calls):
            return False
    return True
