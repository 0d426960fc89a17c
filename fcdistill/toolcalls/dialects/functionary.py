"""A tag for the function, and its arguments as JSON: `<function=set_light>{"room": "kitchen"}</function>`.

Written by Functionary 3.1, and by Llama 3.1 where the system prompt asks for it.

Source: the chat template of meetkai/functionary-medium-v3.1; Meta's prompt format for Llama 3.1, section "User-defined
custom tool calling".
"""

import re
from functools import partial

from fcdistill.toolcalls.dialect import Dialect
from fcdistill.toolcalls.named_json import Marks, read_named, write_named

__all__ = ["FUNCTIONARY"]

_MARKS = Marks(
    dialect="functionary",
    opening="",
    call=re.compile(r"<function=(?P<name>[^<>\n]{1,256})>\s*"),
    call_end=re.compile(r"\s*</function>"),
    closing="",
    write_call="<function={name}>",
    write_end="</function>",
)

FUNCTIONARY = Dialect(
    name="functionary",
    openings=("<function=",),
    read=partial(read_named, marks=_MARKS),
    write=partial(write_named, marks=_MARKS),
    closing=_MARKS.write_end,
)
