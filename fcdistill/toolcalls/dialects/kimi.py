"""Kimi K2: a section of calls, each with an id that holds the name.

    <|tool_calls_section_begin|><|tool_call_begin|>functions.set_light:0<|tool_call_argument_begin|>{"room": "kitchen"}
    <|tool_call_end|><|tool_calls_section_end|>                                            (all of it in one line)

Source: the chat template and tool call guide of moonshotai/Kimi-K2-Instruct; vLLM's `kimi_k2_tool_parser.py`.
"""

import re
from functools import partial

from fcdistill.toolcalls.dialect import Dialect, ServerParsers
from fcdistill.toolcalls.named_json import Marks, read_named, write_named

__all__ = ["KIMI_K2"]

_MARKS = Marks(
    dialect="kimi_k2",
    opening="<|tool_calls_section_begin|>",
    call=re.compile(
        r"<\|tool_call_begin\|>\s*(?:functions\.)?(?P<name>[\w.\-]{1,256}?)(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*"
    ),
    call_end=re.compile(r"\s*<\|tool_call_end\|>"),
    closing="<|tool_calls_section_end|>",
    write_call="<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>",
    write_end="<|tool_call_end|>",
)

KIMI_K2 = Dialect(
    name="kimi_k2",
    openings=(_MARKS.opening,),
    read=partial(read_named, marks=_MARKS),
    write=partial(write_named, marks=_MARKS),
    closing=_MARKS.closing,
    servers=ServerParsers(vllm="kimi_k2", sglang="kimi_k2"),
)
