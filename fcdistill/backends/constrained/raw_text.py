"""Texts that stand in an answer as they are, without quotes or escapes, as terminals of llguidance.

In JSON the grammar's library knows itself what a pattern, a length or a format asks of a text. Here is the same for the
formats that write texts between marks of their own. Each terminal accepts only what `validation` calls valid.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["REAL_DAY", "UnwritableError", "containing", "is_long", "regex", "text_terminal"]

_LEAP_DAYS = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29"
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
REAL_DAY = f"(?:{_YEAR}-(?:0[13-9]|1[0-2]|02-(?:[01]|2[0-8]))|{_LEAP_DAYS})"
"""The beginning of a date, far enough to know that February has such a day."""
_DAY = f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-31|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8]))"
_DAY += f"|{_LEAP_DAYS})"
_HOUR = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = f"{_HOUR}:[0-5][0-9](?:\\.[0-9]{{1,6}})?(?:Z|[+-]{_HOUR})"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_HEX = "[0-9a-fA-F]{1,4}"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = f"{_LABEL}(?:\\.{_LABEL}){{0,8}}"
_FORMATS = {
    "date": _DAY,
    "date-time": f"{_DAY}T{_TIME}",
    "time": _TIME,
    "duration": (
        "P(?:[0-9]{1,6}W|[0-9]{1,6}Y(?:[0-9]{1,6}M(?:[0-9]{1,6}D)?)?|[0-9]{1,6}M(?:[0-9]{1,6}D)?|[0-9]{1,6}D"
        "|(?:[0-9]{1,6}D)?T(?:[0-9]{1,6}H(?:[0-9]{1,6}M(?:[0-9]{1,6}S)?)?|[0-9]{1,6}M(?:[0-9]{1,6}S)?|[0-9]{1,6}S))"
    ),
    "email": f"[A-Za-z0-9_+-]{{1,32}}(?:\\.[A-Za-z0-9_+-]{{1,32}}){{0,4}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": f"(?:{_BYTE}\\.){{3}}{_BYTE}",
    "ipv6": "|".join(
        [
            f"(?:{_HEX}:){{7}}{_HEX}",
            *(f"(?:{_HEX}:){{1,{count}}}(?::{_HEX}){{1,{7 - count}}}" for count in range(1, 7)),
            f"(?:{_HEX}:){{1,7}}:|:(?::{_HEX}){{1,7}}|::",
        ]
    ),
    "uri": (
        f"[a-z][a-z0-9+.-]{{0,15}}://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*"
        "(?:\\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?(?:#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"
    ),
    "uuid": "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
}
_READ = frozenset({"type", "minLength", "maxLength", "pattern", "format", "allOf"})
_JUDGING_TEXTS = _READ | {"enum", "const", "anyOf", "oneOf", "not", "if", "$ref"}


class UnwritableError(Exception):
    """A schema that a grammar can't enforce in some way of writing values.

    Attributes:
        keyword: the JSON Schema keyword.
        detail: what is wrong with it.
    """

    def __init__(self, keyword: str, detail: str) -> None:
        super().__init__(f"{keyword} {detail}")
        self.keyword = keyword
        self.detail = detail


def text_terminal(schema: Mapping[str, Any], without: Iterable[str] = ()) -> str:
    """A terminal's body for the texts that a schema of type string allows.

    Args:
        schema: with lengths, a pattern and a format alone; more patterns in `allOf`.
        without: what may stand nowhere in the text.

    Raises:
        UnwritableError: another of its keywords judges texts.
    """
    least, most = schema.get("minLength", 0), schema.get("maxLength", "")
    parts = [regex("(?s:.*)" if not least and most == "" else f"(?s:.{{{least},{most}}})")]
    for part in (schema, *schema.get("allOf", ())):
        if others := _JUDGING_TEXTS.intersection(part) - _READ:
            raise UnwritableError(min(others), "is not enforced in texts without quotes")
        if part is not schema and {"minLength", "maxLength", "format", "allOf"} & part.keys():
            raise UnwritableError("allOf", "is not enforced in texts without quotes but for patterns")
        if "pattern" in part:
            parts.append(regex(_searched(part["pattern"])))
    if "format" in schema:
        parts.append(regex(_FORMATS[schema["format"]]))
    parts += [f"~({containing(mark)})" for mark in without]
    return " & ".join(f"({part})" for part in parts)


def containing(literal: str) -> str:
    """A terminal's body for the texts that hold a literal."""
    return f"/(?s:.*)/ {json.dumps(literal)} /(?s:.*)/"


def regex(pattern: str) -> str:
    """A regular expression as a terminal's body."""
    escaped = re.sub(r"\\.|/", lambda match: "\\/" if match[0] == "/" else match[0], pattern, flags=re.DOTALL)
    return "/" + escaped.replace("\r", "\\r").replace("\n", "\\n") + "/"


def _searched(pattern: str) -> str:
    """A pattern as JSON Schema means it, for the whole of a text; anchors between alternatives hold for all of them."""
    begins, ends = pattern.startswith("^"), re.search(r"(?<!\\)(?:\\\\)*\$\Z", pattern) is not None
    body = _with_plain_digits(pattern[1 if begins else 0 : -1 if ends else None])
    return f"{'' if begins else '(?s:.*)'}(?:{body}){'' if ends else '(?s:.*)'}"


def is_long(pattern: str) -> bool:
    """Whether what a pattern matches may be longer than any name of use, so that there is always another one."""
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return True
    repeats = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "", pattern)
    return re.search(r"[*+]|\{\d*,\}|\{(?:\d+,)?(?:3[2-9]|[4-9]\d|\d{3,})\}", repeats) is not None


def _with_plain_digits(pattern: str) -> str:
    """A pattern whose digits are those of ASCII, since libraries of different age know different ones beyond."""
    written, in_class = "", False
    for part in re.findall(r"\\.|.", pattern, re.DOTALL):
        in_class = part == "[" or in_class and part != "]"
        written += ("0-9" if in_class else "[0-9]") if part == r"\d" else part
    return written
