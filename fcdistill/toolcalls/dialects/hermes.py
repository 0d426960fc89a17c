"""Hermes: `<tool_call>` and `</tool_call>` round a JSON object with `name` and `arguments`.

Written by Qwen2.5, Qwen3, Hermes 2 and 3, SmolLM3 and Granite 4. xLAM puts a list of calls inside one pair of tags.
Where the closing tag ends an answer, a server that stops there leaves it out: an object that is whole up to the end of
the text is a call.

Source: the chat templates of NousResearch/Hermes-2-Pro and Qwen/Qwen2.5; vLLM's `hermes_tool_parser.py` and
`xlam_tool_parser.py`.
"""

from collections.abc import Sequence

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import Dialect, Found, ServerParsers, Source, one_region
from fcdistill.toolcalls.json_text import Item, call_json, json_attempts, lex, plain_end

__all__ = ["CLOSE_TAG", "HERMES", "OPEN_TAG"]

OPEN_TAG, CLOSE_TAG = "<tool_call>", "</tool_call>"
_NAME = "hermes"


def _read(source: Source, start: int) -> Found:
    text = source.text
    body = source.skip_space(start + len(OPEN_TAG))
    if text.startswith(("{", "["), body):
        end = plain_end(text, body)
        if end is not None:
            items = [Item((body, end), name_alone_is_a_call=True)]
            after = source.skip_space(end)
        if end is None or text[body] == "[":
            value = lex(text, body)
            items = value.declared_items(text)
            after = source.skip_space(value.end)
            if value.at_text_end:  # a closing tag that stands in between is part of a string
                return one_region(_NAME, start, len(text), kind="unclosed")
            end = value.end if value.complete else None
        if end is not None:
            if text.startswith(CLOSE_TAG, after):
                return one_region(_NAME, start, after + len(CLOSE_TAG), json_attempts(source, items))
            if after == len(text) and not source.truncated:
                return one_region(_NAME, start, after, json_attempts(source, items))
            body = after
    close, reopened = source.find(CLOSE_TAG, body), text.find(OPEN_TAG, body)
    limit = reopened if reopened >= 0 else len(text)
    if close < limit:
        return one_region(_NAME, start, close + len(CLOSE_TAG), kind="invalid_json")
    return one_region(_NAME, start, limit, kind="unclosed")


def _write(calls: Sequence[ToolCall]) -> str:
    return "\n".join(f"{OPEN_TAG}\n{call_json(call)}\n{CLOSE_TAG}" for call in calls)


HERMES = Dialect(
    name=_NAME,
    openings=(OPEN_TAG,),
    read=_read,
    write=_write,
    closing=CLOSE_TAG,
    servers=ServerParsers(vllm="hermes", sglang="qwen25"),
)
