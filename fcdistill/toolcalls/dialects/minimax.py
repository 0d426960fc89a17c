"""MiniMax M2: invocations with a tag for each parameter, all of an answer in one block.

    <minimax:tool_call>
    <invoke name="set_light">
    <parameter name="room">kitchen</parameter>
    </invoke>
    </minimax:tool_call>

Texts stand as they are, all else is JSON. DeepSeek V3.2 writes much the same with other marks (`deepseek`).

Source: the chat template of MiniMaxAI/MiniMax-M2; vLLM's `minimax_m2_tool_parser.py`.
"""

import re
from functools import partial

from fcdistill.toolcalls.dialect import Dialect, ServerParsers, Tags
from fcdistill.toolcalls.tagged import read_tagged, write_tagged

__all__ = ["MINIMAX_M2"]

_M2 = Tags(
    dialect="minimax_m2",
    opening="<minimax:tool_call>",
    call=re.compile(r'<invoke name=["\']?(?P<name>[^"\'<>\n]{0,256})["\']?>'),
    argument=re.compile(r'<parameter name=["\']?(?P<key>[^"\'<>\n]{0,256})["\']?>'),
    value_end="</parameter>",
    call_end="</invoke>",
    closing="</minimax:tool_call>",
    write_call='<invoke name="{name}">',
    write_argument='<parameter name="{key}">',
    one_block=True,
)

MINIMAX_M2 = Dialect(
    name="minimax_m2",
    openings=("<minimax:tool_call>", "<invoke name="),
    read=partial(read_tagged, tags=_M2),
    write=partial(write_tagged, tags=_M2),
    closing=_M2.closing,
    syntax="xml",
    servers=ServerParsers(vllm="minimax_m2", sglang="minimax-m2"),
    tags=_M2,
)
