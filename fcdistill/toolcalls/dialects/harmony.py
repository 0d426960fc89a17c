"""Harmony, the format of gpt-oss: messages on channels.

    <|channel|>analysis<|message|>The user wants light.<|end|><|start|>assistant<|channel|>commentary
     to=functions.set_light <|constrain|>json<|message|>{"room": "kitchen"}<|call|>        (all of it in one line)

What is said on the channel `analysis` is thought. A message to a recipient is a call; its recipient stands before or
behind the channel. `final`, and `commentary` to nobody, are prose. The token `<|call|>` ends an answer, so that it is
seldom there.

Source: OpenAI's harmony response format; the chat template of openai/gpt-oss-20b; vLLM's `openai_tool_parser.py`.
"""

import re
from collections.abc import Sequence

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import Dialect, ErrorKind, Found, Region, ServerParsers, Source, one_region
from fcdistill.toolcalls.json_text import json_text, lex, named_attempt, plain_end

__all__ = ["HARMONY"]

_HEAD = re.compile(
    r"\s*(?:<\|start\|>assistant)?(?:\s*to=(?P<first>[\w.\-]+))?\s*<\|channel\|>\s*(?P<channel>\w+)"
    r"(?:\s+to=(?P<second>[\w.\-]+))?\s*(?:<\|constrain\|>)?\s*\w*\s*<\|message\|>"
)
_END = re.compile(r"<\|(?:end|call|return)\|>|(?=<\|start\|>)|(?=<\|channel\|>)")
_NAME = "harmony"


def _read(source: Source, start: int) -> Found:
    text = source.text
    head = _HEAD.match(text, start)
    if head is None:
        mark = re.compile(r"<\|(?:end|call|return|start)\|>(?:assistant)?").match(text, start)
        if mark is not None:
            return one_region(_NAME, start, mark.end())
        end = source.next_marker(start + 1)
        return one_region(_NAME, start, end, kind="unclosed" if end == len(text) else "invalid_syntax")
    recipient = head["second"] or head["first"]
    closed = _END.search(text, head.end())
    if recipient is None and head["channel"] == "analysis":
        end = closed.end() if closed else len(text)
        kind: ErrorKind | None = None if closed else "unclosed"
        regions, _ = one_region(_NAME, start, end, kind=kind, detail="the thought is not finished" if kind else "")
        return [Region(start, end, _NAME, error=regions[0].error, is_thought=True)], end
    if recipient is None:
        return one_region(_NAME, start, head.end())
    begin = source.skip_space(head.end())
    end_of_json = plain_end(text, begin) if text.startswith("{", begin) else None
    if end_of_json is None:
        value = lex(text, begin) if text.startswith("{", begin) else None
        end = closed.end() if closed else len(text)
        at_end = begin == len(text) or (value is not None and value.at_text_end)
        return one_region(_NAME, start, end, kind="unclosed" if at_end else "invalid_json")
    name = head.span("second") if head["second"] else head.span("first")
    if recipient.startswith("functions."):
        name = (name[0] + len("functions."), name[1])
    attempt = named_attempt(source, name, (begin, end_of_json))
    end = source.skip_space(end_of_json)
    after = _END.match(text, end)
    if after is not None:
        return one_region(_NAME, start, after.end(), [attempt])
    if end == len(text) and not source.truncated:
        return one_region(_NAME, start, end, [attempt])
    kind = "unclosed" if end == len(text) else "invalid_json"
    closed = _END.search(text, end)  # a mark before is part of a text
    return one_region(_NAME, start, closed.end() if closed else len(text), kind=kind)


def _write(calls: Sequence[ToolCall]) -> str:
    return "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{call.name} <|constrain|>json<|message|>{json_text(call.arguments)}"
        "<|call|>"
        for call in calls
    )


HARMONY = Dialect(
    name=_NAME,
    openings=("<|channel|>", "<|start|>assistant", "<|end|>", "<|call|>", "<|return|>"),
    beginning=r"\s*to=[\w.\-]+(?=\s*<\|channel\|>)",
    read=_read,
    write=_write,
    closing="<|call|>",
    servers=ServerParsers(vllm="openai", sglang="gpt-oss"),
)
