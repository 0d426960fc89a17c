"""JSON without marks of its own: bare objects and lists of them, and objects in fenced code blocks.

An object counts as a call when it has a string `name` and `arguments` or `parameters`. Models without a tool template
write so, Qwen2.5-Coder in fences and with doubled braces, Llama 3.1 without its tag.
"""

import re
from collections.abc import Sequence

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import Dialect, ErrorKind, Found, Region, Source, attempt_error, one_region
from fcdistill.toolcalls.json_text import (
    BETWEEN,
    Item,
    Lexed,
    call_json,
    failed_call,
    json_attempt,
    json_attempts,
    lenient_end,
    lex,
)

__all__ = ["BARE_JSON", "FENCED"]

_FENCE = re.compile(r"```[ \t]*([A-Za-z_+\-]*)\s*")
_KEY, _LLAMA_KEY = re.compile(r'"arguments"\s*:'), re.compile(r'"parameters"\s*:')
"""Which key an object's arguments have: Llama 3.1 writes `parameters`, and its mark seldom."""
_OBJECT = r"""(?:\[\s*)?\{(?=\s*(?:\{\s*)?(?:["']|name|arguments|parameters|\Z))"""


def _read_bare(source: Source, start: int) -> Found:
    value = lex(source.text, start)
    if value.complete:
        items = value.call_items()
        if not items:
            return [], value.end
        is_llama = _LLAMA_KEY.search(source.text, start, value.end) and not _KEY.search(source.text, start, value.end)
        return one_region("llama3" if is_llama else "json", start, value.end, json_attempts(source, items))
    failed = failed_call(source, value)
    items = value.call_items()
    if failed is None:
        read = max([start + 1, *(item.span[1] for item in items)])  # marks inside of a call are its texts
        return _each_alone(source, items), source.next_marker(read, max(value.end, read))
    before: list[Region] = []
    if source.text[start] == "[":
        failed = start
    else:
        before, items = _each_alone(source, [item for item in items if item.span[0] < failed]), []
    kind: ErrorKind = "unclosed" if value.at_text_end else "invalid_json"
    end = len(source.text)
    if not value.at_text_end:
        end = max(lenient_end(source.text, failed, source.marker.pattern), value.end)
    regions, end = one_region("json", failed, end, json_attempts(source, items), kind)
    return [*before, *regions], end


def _each_alone(source: Source, items: Sequence[Item]) -> list[Region]:
    return [Region(*item.span, "json", (json_attempt(source, item),)) for item in items]


def _read_fence(source: Source, start: int) -> Found:
    text = source.text
    match = _FENCE.match(text, start)
    assert match is not None
    body, language = match.end(), match.group(1)
    if source.inside_fence and not language:
        source.inside_fence = False
        return [], start + 3
    marked = language in ("tool_call", "tool_calls")
    position = body
    values: list[Lexed] = []
    while text.startswith(("{", "["), position) and (not values or values[-1].complete):
        values.append(lex(text, position))
        between = BETWEEN.match(text, values[-1].end)
        position = between.end() if between else values[-1].end
    tries = marked or any(value.calls or failed_call(source, value) is not None for value in values)
    items: list[Item] = []
    for value in values if tries else ():
        looks_so = not marked and value.calls
        items += value.call_items() if looks_so else value.declared_items(text, name_alone_is_a_call=marked)
    attempts = json_attempts(source, items)
    if values and values[-1].complete and text.startswith("```", position):
        return one_region("fenced", start, position + 3, attempts) if tries else ([], position + 3)
    close = text.find("```", items[-1].span[1] if items else body)
    is_cut = bool(values) and values[-1].at_text_end  # a fence that stands in between is part of a string
    if tries and (close < 0 or is_cut):
        error = attempt_error("unclosed", (start, len(text)))
        return [Region(start, len(text), "fenced", error=error)], len(text)
    if tries:
        return one_region("fenced", start, close + 3, attempts, "invalid_json")
    if close < 0:
        return [], body
    if source.next_marker(body, close) < close:
        source.inside_fence = True
        return [], body
    return [], close + 3


def _write_bare(calls: Sequence[ToolCall]) -> str:
    texts = [call_json(call) for call in calls]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""


def _write_fenced(calls: Sequence[ToolCall]) -> str:
    return "```json\n" + "\n".join(map(call_json, calls)) + "\n```" if calls else ""


BARE_JSON = Dialect(name="json", openings=(), pattern=_OBJECT, read=_read_bare, write=_write_bare)
FENCED = Dialect(name="fenced", openings=("```",), read=_read_fence, write=_write_fenced, closing="```")
