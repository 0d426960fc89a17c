"""Mistral: `[TOOL_CALLS]` before a JSON list of calls, or before a name and its arguments.

The list is what tokenizers up to v7 write. From v11 on each call has a mark of its own:
`[TOOL_CALLS]name[ARGS]{...}`, in some versions with `[CALL_ID]` and an id between name and arguments.

Source: mistral-common's tokenizers v3 to v13; vLLM's `mistral_tool_parser.py`.
"""

import re
from collections.abc import Sequence

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import Dialect, ErrorKind, Found, ServerParsers, Source, one_region
from fcdistill.toolcalls.json_sequence import read_json_sequence
from fcdistill.toolcalls.json_text import call_json, json_text, lex, named_attempt

__all__ = ["MISTRAL", "MISTRAL_V11"]

_MARK = "[TOOL_CALLS]"
_NAMED = re.compile(r"\s*([A-Za-z0-9_.\-]+)(?:\[CALL_ID\][A-Za-z0-9]*)?(?:\[ARGS\])?\s*(?=\{)")
_NAME, _NAME_V11 = "mistral", "mistral_v11"


def _read(source: Source, start: int) -> Found:
    text, body = source.text, start + len(_MARK)
    named = _NAMED.match(text, body)
    if named is None:
        found = read_json_sequence(source, _NAME, start, body)
        if found is not None:
            return found
        end = source.next_marker(body)
        return one_region(_NAME, start, end, kind="invalid_json" if text[body:end].strip() else "unclosed")
    value = lex(text, named.end())
    if value.complete:
        return one_region(
            _NAME_V11, start, value.end, [named_attempt(source, named.span(1), value.root, value.doubled)]
        )
    kind: ErrorKind = "unclosed" if value.at_text_end else "invalid_json"
    return one_region(_NAME_V11, start, source.next_marker(value.end), kind=kind)


def _write(calls: Sequence[ToolCall]) -> str:
    return f"{_MARK} [{', '.join(map(call_json, calls))}]" if calls else ""


def _write_v11(calls: Sequence[ToolCall]) -> str:
    return "".join(f"{_MARK}{call.name}[ARGS]{json_text(call.arguments)}" for call in calls)


MISTRAL = Dialect(
    name=_NAME,
    openings=(_MARK,),
    read=_read,
    write=_write,
    servers=ServerParsers(vllm="mistral", sglang="mistral"),
)
MISTRAL_V11 = Dialect(
    name=_NAME_V11,
    openings=(_MARK,),
    read=_read,
    write=_write_v11,
    servers=ServerParsers(vllm="mistral", sglang="mistral"),
)
