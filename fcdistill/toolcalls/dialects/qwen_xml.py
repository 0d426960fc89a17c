"""Qwen3-Coder, Qwen3.5 and 3.6, Nemotron 3, Seed-OSS: a tag for the function and one for each parameter.

    <tool_call>
    <function=set_light>
    <parameter=room>
    kitchen
    </parameter>
    </function>
    </tool_call>

A line break stands before and behind each value, but for Seed-OSS. Values are texts; lists and objects are JSON, and
what a value is, only the schema says. Where a model leaves the outer tag out, its functions are read all the same.

Source: the chat templates of Qwen/Qwen3-Coder-30B-A3B-Instruct, Qwen/Qwen3.5 and ByteDance-Seed/Seed-OSS; vLLM's
`qwen3coder_tool_parser.py` and `seed_oss_tool_parser.py`.
"""

import dataclasses
import re
from functools import partial

from fcdistill.toolcalls.dialect import Dialect, Found, ServerParsers, Source, Tags
from fcdistill.toolcalls.tagged import read_tagged, write_tagged

__all__ = ["QWEN_XML", "SEED_XML"]

_TAGS = Tags(
    dialect="qwen_xml",
    opening="<tool_call>",
    call=re.compile(r"<function=(?P<name>[^<>\n]{0,256})>"),
    argument=re.compile(r"<parameter=(?P<key>[^<>\n]{0,256})>"),
    value_end="</parameter>",
    call_end="</function>",
    closing="</tool_call>",
    write_call="<function={name}>",
    write_argument="<parameter={key}>",
    pads_values=True,
)
_SEED = dataclasses.replace(
    _TAGS, dialect="seed_xml", opening="<seed:tool_call>", closing="</seed:tool_call>", pads_values=False
)


def _read(source: Source, start: int) -> Found | None:
    """A block, or a function without the outer tag round it; not one whose arguments are JSON (`functionary`)."""
    opened = _TAGS.call.match(source.text, start)
    if opened is not None and source.text.startswith("{", source.skip_space(opened.end())):
        return None
    return read_tagged(source, start, _TAGS)


QWEN_XML = Dialect(
    name="qwen_xml",
    openings=("<tool_call>", "<function="),
    read=_read,
    write=partial(write_tagged, tags=_TAGS),
    closing=_TAGS.closing,
    syntax="xml",
    servers=ServerParsers(vllm="qwen3_coder", sglang="qwen3_coder"),
    tags=_TAGS,
    follows={"<tool_call>": "<"},
)
SEED_XML = Dialect(
    name="seed_xml",
    openings=("<seed:tool_call>",),
    read=partial(read_tagged, tags=_SEED),
    write=partial(write_tagged, tags=_SEED),
    closing=_SEED.closing,
    syntax="xml",
    servers=ServerParsers(vllm="seed_oss"),
    tags=_SEED,
)
