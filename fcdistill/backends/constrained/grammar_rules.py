"""Rules and terminals of one grammar in llguidance's dialect of Lark, each named once.

What a grammar says is not known here (`call_grammar`, `value_grammar`), only how it is written down.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["COLON", "COMMA", "ID_MARK", "LISTED", "NUMBER_MARK", "SPACE", "TERMINALS", "Rules", "flexible_terminal"]

_WIDEST = 8
_SPACE = f"[ \\t\\r\\n]{{0,{_WIDEST}}}"
SPACE, COMMA, COLON = "SPACE?", "COMMA", "COLON"
"""Space, and what stands between values, or between a key and its value, with space round it."""
TERMINALS = (f"SPACE: /{_SPACE.replace('0', '1', 1)}/", f"COMMA: /{_SPACE},{_SPACE}/", f"COLON: /{_SPACE}:{_SPACE}/")
LISTED = "__LIST_APPEND:"
"""Begins the name of a capture of which a matcher keeps all, and not the last one alone."""
NUMBER_MARK = "\ue000"
"""Stands in a literal for a number that counts calls."""
ID_MARK = "\ue001"
"""Stands in a literal for the id of a call."""
_MARKS = r"{}\[\]:,"
"""Space beside these means nothing."""
_JSON_OPTIONS = {
    "whitespace_flexible": False,
    "item_separator": f"{_SPACE},{_SPACE}",
    "key_separator": f"{_SPACE}:{_SPACE}",
    "json_allow_general_unicode_escapes": True,
}
"""Space stands round commas and colons only, and little of it, since a weak model would go on with it for ever."""


class Rules:
    """The lines of a grammar; what is written alike is one rule.

    Args:
        marks: the tokens that are no text to llguidance, by what they look like.
    """

    def __init__(self, marks: Mapping[str, int] | None = None) -> None:
        self.lines: list[str] = list(TERMINALS)
        self._marks = marks or {}
        self._names: dict[str, str] = {}
        pattern = "|".join(map(re.escape, sorted(self._marks, key=len, reverse=True)))
        self._mark = re.compile(f"({pattern})") if pattern else None

    def terminal(self, body: str) -> str:
        """A terminal with this body."""
        return self._named("T", body)

    def rule(self, body: str, attributes: str = "") -> str:
        """A rule with this body."""
        return self._named("r", body, attributes)

    def reserve(self) -> str:
        """A name for a rule that `define` gives a body to, so that it can hold itself."""
        name = f"r{len(self._names)}"
        self._names[f"reserved {name}"] = name
        return name

    def define(self, name: str, body: str) -> None:
        """Give a reserved name its body."""
        self.lines.append(f"{name}: {body}")

    def json(self, schema: Any) -> str:
        """A rule for the JSON values of a schema."""
        return self.rule(f"%json {json.dumps({**schema, 'x-guidance': _JSON_OPTIONS})}")

    def noted(self, kind: str, body: str) -> str:
        """A rule whose matches a matcher lists as captures of this kind, in their order."""
        return self.rule(body, f'[capture="{LISTED}{kind}"]')

    def literal(self, text: str, *, flexible: bool = True) -> str:
        """What matches a literal: marks as tokens, the rest as terminals.

        Args:
            text: the literal.
            flexible: its space may be another, or none.
        """
        found = []
        for part in self.cut(text):
            if part in self._marks:
                found.append(f"<[{self._marks[part]}]>")
            elif flexible and part.isspace() and ("\n" in part or len(part) > 1):
                found.append(SPACE if len(part) <= _WIDEST else f"{self.terminal(_space(part))}?")
            else:
                found.append(self.terminal(flexible_terminal(part) if flexible else json.dumps(part)))
        return " ".join(found)

    def cut(self, literal: str) -> list[str]:
        """A literal cut into marks and what lies between them."""
        parts = self._mark.split(literal) if self._mark else [literal]
        return [part for part in parts if part]

    def is_mark(self, text: str) -> bool:
        """Whether a text is one of the marks."""
        return text in self._marks

    def _named(self, kind: str, body: str, attributes: str = "") -> str:
        key = f"{kind}{attributes}: {body}"
        if key not in self._names:
            name = self._names[key] = f"{kind}{len(self._names)}"
            self.lines.append(f"{name}{attributes}: {body}")
        return self._names[key]


def flexible_terminal(literal: str) -> str:
    """A terminal's body that matches a literal, whose space may be another, or none, where it separates no words."""
    words = re.split(rf"((?<=[{_MARKS}])\s+|\s+(?=[{_MARKS}])|\s*\n\s*|{NUMBER_MARK}|{ID_MARK})", literal)
    special = {NUMBER_MARK: "/[0-9]{1,4}/", ID_MARK: "/[A-Za-z0-9_-]{1,40}/"}
    return " ".join(
        f"({_space(word)})?" if word.isspace() and index % 2 else special.get(word, json.dumps(word))
        for index, word in enumerate(words)
        if word
    )


def _space(found: str) -> str:
    """A terminal's body for the space that may stand where a template writes this one."""
    return f"/[ \\t\\r\\n]{{1,{max(_WIDEST, len(found))}}}/"
