"""DeepSeek: marks of its own round a name and JSON (V3, R1, V3.1), later round a tag for each parameter (V3.2, V4).

    V3, R1  <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>set_light
            ```json
            {"room": "kitchen"}
            ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>
    V3.1    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>set_light<｜tool▁sep｜>{"room": "kitchen"}
            <｜tool▁call▁end｜><｜tool▁calls▁end｜>                               (all of it in one line)
    V3.2    <｜DSML｜function_calls>
            <｜DSML｜invoke name="set_light">
            <｜DSML｜parameter name="room" string="true">kitchen</｜DSML｜parameter>
            </｜DSML｜invoke>
            </｜DSML｜function_calls>

V4 says `tool_calls` where V3.2 says `function_calls`. Each parameter tells whether its value is a text or JSON.

Source: the chat templates of deepseek-ai/DeepSeek-V3, -R1, -V3.1 and -V3.2; vLLM's `deepseekv3_tool_parser.py`,
`deepseekv31_tool_parser.py` and `deepseekv32_tool_parser.py`.
"""

import dataclasses
import re
from functools import partial

from fcdistill.toolcalls.dialect import Dialect, Found, ServerParsers, Source, Tags
from fcdistill.toolcalls.named_json import Marks, read_named, write_named
from fcdistill.toolcalls.tagged import read_tagged, write_tagged

__all__ = ["DEEPSEEK_V3", "DEEPSEEK_V31", "DEEPSEEK_V32", "DEEPSEEK_V4"]

_V3 = Marks(
    dialect="deepseek_v3",
    opening="<｜tool▁calls▁begin｜>",
    call=re.compile(r"<｜tool▁call▁begin｜>\w*<｜tool▁sep｜>(?P<name>[^\n<>]{1,256})\n```(?:json)?\s*"),
    call_end=re.compile(r"\s*```\s*<｜tool▁call▁end｜>"),
    closing="<｜tool▁calls▁end｜>",
    write_call="<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n",
    write_end="\n```<｜tool▁call▁end｜>",
    between="\n",
)
_V31 = dataclasses.replace(
    _V3,
    dialect="deepseek_v31",
    call=re.compile(r"<｜tool▁call▁begin｜>(?P<name>[^\n<>]{1,256})<｜tool▁sep｜>\s*(?=\{)"),
    call_end=re.compile(r"\s*<｜tool▁call▁end｜>"),
    write_call="<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>",
    write_end="<｜tool▁call▁end｜>",
    between="",
)
_V32 = Tags(
    dialect="deepseek_v32",
    opening="<｜DSML｜function_calls>",
    call=re.compile(r'<｜DSML｜invoke name="(?P<name>[^"\n]{0,256})">'),
    argument=re.compile(r'<｜DSML｜parameter name="(?P<key>[^"\n]{0,256})"(?: string="(?P<string>true|false)")?>'),
    value_end="</｜DSML｜parameter>",
    call_end="</｜DSML｜invoke>",
    closing="</｜DSML｜function_calls>",
    write_call='<｜DSML｜invoke name="{name}">',
    write_argument='<｜DSML｜parameter name="{key}" string="{string}">',
    one_block=True,
)
_V4 = dataclasses.replace(_V32, dialect="deepseek_v4", opening="<｜DSML｜tool_calls>", closing="</｜DSML｜tool_calls>")


def _read_v31(source: Source, start: int) -> Found | None:
    """Its blocks begin as those of V3: what stands behind the first mark tells them apart."""
    body = source.skip_space(start + len(_V31.opening))
    return read_named(source, start, _V31) if _V31.call.match(source.text, body) else None


DEEPSEEK_V3 = Dialect(
    name="deepseek_v3",
    openings=(_V3.opening,),
    read=partial(read_named, marks=_V3),
    write=partial(write_named, marks=_V3),
    closing=_V3.closing,
    servers=ServerParsers(vllm="deepseek_v3", sglang="deepseekv3"),
)
DEEPSEEK_V31 = Dialect(
    name="deepseek_v31",
    openings=(_V31.opening,),
    read=_read_v31,
    write=partial(write_named, marks=_V31),
    closing=_V31.closing,
    servers=ServerParsers(vllm="deepseek_v31", sglang="deepseekv31"),
)
DEEPSEEK_V32 = Dialect(
    name="deepseek_v32",
    openings=(_V32.opening,),
    read=partial(read_tagged, tags=_V32),
    write=partial(write_tagged, tags=_V32),
    closing=_V32.closing,
    syntax="xml",
    servers=ServerParsers(vllm="deepseek_v32", sglang="deepseekv32"),
    tags=_V32,
)
DEEPSEEK_V4 = Dialect(
    name="deepseek_v4",
    openings=(_V4.opening,),
    read=partial(read_tagged, tags=_V4),
    write=partial(write_tagged, tags=_V4),
    closing=_V4.closing,
    syntax="xml",
    servers=ServerParsers(vllm="deepseek_v4", sglang="deepseekv4"),
    tags=_V4,
)
