"""FunctionGemma and Gemma 4: `call:` with a name, and arguments with bare keys in braces.

    FunctionGemma  <start_function_call>call:set_light{room:<escape>kitchen<escape>,brightness:40}<end_function_call>
    Gemma 4        <|tool_call>call:set_light{room:<|"|>kitchen<|"|>,brightness:40}<tool_call|>

Texts stand between tokens of their own and hold anything but these; nothing is escaped. Some templates write numbers
and lists as texts too: then the schema says what they are.

Source: Google's page on the formatting of FunctionGemma; the chat template of google/gemma-4; vLLM's
`functiongemma_tool_parser.py` and `gemma4_tool_parser.py`.
"""

import re
from collections.abc import Sequence
from functools import partial

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import Attempt, Dialect, Found, Part, ServerParsers, Source, one_region
from fcdistill.toolcalls.literals import LiteralError, Notation, read_literal, write_literal
from fcdistill.toolcalls.typed_text import value_of

__all__ = ["FUNCTION_GEMMA", "GEMMA4"]

_CALL = re.compile(r"\s*call:\s*(?P<name>[^{}\s]{1,256})\s*(?=\{)")


def _notation(quote: str) -> Notation:
    return Notation(
        string=re.compile(f"{re.escape(quote)}(.*?){re.escape(quote)}", re.DOTALL),
        quotes=(quote,),
        decode=str,
        encode=lambda text: f"{quote}{text}{quote}",
        words={"true": True, "false": False, "null": None, "True": True, "False": False, "None": None},
        bare_keys=True,
        comma=",",
        colon=":",
    )


def _read(source: Source, start: int, *, dialect: str, opening: str, closing: str, notation: Notation) -> Found:
    text = source.text
    named = _CALL.match(text, start + len(opening))
    if named is None:
        close = source.find(closing, start + len(opening))
        end = min(source.next_marker(start + len(opening)), close + len(closing) if close < len(text) else len(text))
        at_end = not text[start + len(opening) : end].strip()
        return one_region(dialect, start, end, kind="unclosed" if at_end else "invalid_syntax")
    try:
        literal = read_literal(text, named.end(), notation)
    except LiteralError as error:
        close = source.find(closing, max(error.position, named.end()))
        end = close + len(closing) if close < len(text) else len(text)
        return one_region(dialect, start, end, kind=error.kind, detail=str(error))
    name = named["name"]
    parts: tuple[Part, ...] = ((*named.span("name"), "name"), *literal.parts)
    parameters = source.tools.get(name)
    arguments = {
        key: value_of(value, key, parameters) if isinstance(value, str) and parameters is not None else value
        for key, value in literal.value.items()
    }
    call = ToolCall(name=name, arguments=arguments)
    attempt = Attempt((named.start("name"), literal.end), call, lambda: parts)
    after = source.skip_space(literal.end)
    if text.startswith(closing, after):
        return one_region(dialect, start, after + len(closing), [attempt])
    if after == len(text) and not source.truncated:  # the closing mark ended the answer
        return one_region(dialect, start, after, [attempt])
    kind = "unclosed" if after == len(text) else "invalid_syntax"
    return one_region(dialect, start, max(source.next_marker(literal.end), literal.end), (), kind)  # type: ignore[arg-type]


def _write(calls: Sequence[ToolCall], *, opening: str, closing: str, notation: Notation) -> str:
    return "".join(f"{opening}call:{call.name}{write_literal(call.arguments, notation)}{closing}" for call in calls)


_ESCAPE, _QUOTE = "<escape>", '<|"|>'
_FUNCTION_GEMMA, _GEMMA4 = _notation(_ESCAPE), _notation(_QUOTE)

FUNCTION_GEMMA = Dialect(
    name="function_gemma",
    openings=("<start_function_call>",),
    read=partial(
        _read,
        dialect="function_gemma",
        opening="<start_function_call>",
        closing="<end_function_call>",
        notation=_FUNCTION_GEMMA,
    ),
    write=partial(_write, opening="<start_function_call>", closing="<end_function_call>", notation=_FUNCTION_GEMMA),
    closing="<end_function_call>",
    syntax="bare",
    servers=ServerParsers(vllm="functiongemma"),
    quote=_ESCAPE,
)
GEMMA4 = Dialect(
    name="gemma4",
    openings=("<|tool_call>",),
    read=partial(_read, dialect="gemma4", opening="<|tool_call>", closing="<tool_call|>", notation=_GEMMA4),
    write=partial(_write, opening="<|tool_call>", closing="<tool_call|>", notation=_GEMMA4),
    closing="<tool_call|>",
    syntax="bare",
    servers=ServerParsers(vllm="gemma4", sglang="gemma4"),
    quote=_QUOTE,
)
