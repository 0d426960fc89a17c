"""JSON calls behind one another or in a list, as several dialects have them after a mark of their own."""

from fcdistill.toolcalls.dialect import Attempt, ErrorKind, Found, Source, one_region
from fcdistill.toolcalls.json_text import BETWEEN, json_attempts, lex

__all__ = ["read_json_sequence"]


def read_json_sequence(source: Source, dialect: str, start: int, body: int) -> Found | None:
    """The region of a mark and of the objects, or lists of them, behind it; None where none begins there.

    Args:
        source: what is read.
        dialect: whose region it is.
        start: where the mark stands.
        body: where it ends.
    """
    text = source.text
    position = source.skip_space(body)
    attempts: list[Attempt] = []
    end = None
    while text.startswith(("{", "["), position):
        value = lex(text, position)
        attempts += json_attempts(source, value.declared_items(text))
        if not value.complete:
            kind: ErrorKind = "unclosed" if value.at_text_end else "invalid_json"
            return one_region(dialect, start, source.next_marker(value.end), attempts, kind)
        end = value.end
        between = BETWEEN.match(text, end)
        position = between.end() if between else end
    return None if end is None else one_region(dialect, start, end, attempts)
