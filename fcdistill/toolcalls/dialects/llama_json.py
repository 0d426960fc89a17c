"""Llama 3.1: bare JSON objects with `name` and `parameters`, after `<|python_tag|>` or without it.

Several calls stand behind one another, with `;` or line breaks between them. What `<|python_tag|>` introduces beside
JSON is code for Llama's built-in tools, and no call of a given tool.

Source: Meta's prompt format for Llama 3.1, section "JSON based tool calling"; vLLM's `llama_tool_parser.py`.
"""

from collections.abc import Sequence

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import Dialect, Found, ServerParsers, Source, one_region
from fcdistill.toolcalls.json_sequence import read_json_sequence
from fcdistill.toolcalls.json_text import call_json

__all__ = ["LLAMA_JSON"]

_TAG = "<|python_tag|>"
_NAME = "llama3"


def _read(source: Source, start: int) -> Found:
    body = start + len(_TAG)
    found = read_json_sequence(source, _NAME, start, body)
    if found is not None:
        return found
    end = source.next_marker(body)
    return one_region(_NAME, start, end, kind="invalid_json" if source.text[body:end].strip() else "unclosed")


def _write(calls: Sequence[ToolCall]) -> str:
    return "; ".join(call_json(call, key="parameters") for call in calls)


LLAMA_JSON = Dialect(
    name=_NAME,
    openings=(_TAG,),
    read=_read,
    write=_write,
    servers=ServerParsers(vllm="llama3_json", sglang="llama3"),
)
