"""GLM-4.5 and later: a name, then pairs of tags for keys and values.

    <tool_call>set_light
    <arg_key>room</arg_key>
    <arg_value>kitchen</arg_value>
    </tool_call>

GLM-4.7 writes the same without line breaks. Texts stand as they are, all else is JSON.

Source: the chat templates of zai-org/GLM-4.5 and GLM-4.7; vLLM's `glm4_moe_tool_parser.py`.
"""

import re
import string
from functools import partial

from fcdistill.toolcalls.dialect import Dialect, ServerParsers, Tags
from fcdistill.toolcalls.tagged import read_tagged, write_tagged

__all__ = ["GLM"]

_TAGS = Tags(
    dialect="glm",
    opening="<tool_call>",
    call=re.compile(r"(?P<name>[A-Za-z0-9_.\-]{1,256})\s*(?=<arg_key>|</tool_call>)"),
    argument=re.compile(r"<arg_key>(?P<key>[^<>\n]{0,256})</arg_key>\s*<arg_value>"),
    value_end="</arg_value>",
    call_end="",
    closing="</tool_call>",
    write_call="{name}",
    write_argument="<arg_key>{key}</arg_key>\n<arg_value>",
)

GLM = Dialect(
    name="glm",
    openings=("<tool_call>",),
    read=partial(read_tagged, tags=_TAGS),
    write=partial(write_tagged, tags=_TAGS),
    closing=_TAGS.closing,
    syntax="xml",
    servers=ServerParsers(vllm="glm45", sglang="glm45"),
    tags=_TAGS,
    follows={"<tool_call>": f"{string.ascii_letters}{string.digits}_.-"},
)
