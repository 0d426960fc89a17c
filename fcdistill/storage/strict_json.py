"""Strict JSON: what every reader understands alike and what can be written again.

Whether a text comes from a file, a model or a server is not known here.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NoReturn

from fcdistill.storage.error_text import shorten

__all__ = ["MAX_DEPTH", "StrictJsonError", "loads_strict"]

MAX_DEPTH = 128
"""Levels of nested arrays and objects that a document may have: what is read here must also be writable, and pydantic
refuses to write beyond 254."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class StrictJsonError(ValueError):
    """Text that is not JSON, or that RFC 8259 readers may disagree on.

    Attributes:
        kind: `invalid_json`, `duplicate_key` or `not_finite`.
        position: character offset, where it is known.
    """

    def __init__(self, kind: str, detail: str, position: int | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.position = position


def loads_strict(text: str | bytes) -> Any:
    """Parse JSON that every reader understands alike and that can be written again.

    Refused: duplicate keys, NaN, Infinity, numbers beyond a double, bytes that are not UTF-8, halves of surrogate pairs
    (RFC 8259, section 8.2), more than `MAX_DEPTH` levels.

    Raises:
        StrictJsonError: with the kind of defect.
    """
    try:
        if isinstance(text, bytes):
            decoded = text.decode("utf-8-sig")
        else:
            decoded = text
            text.encode()
        if decoded.startswith("\ufeff"):
            raise json.JSONDecodeError("Unexpected UTF-8 BOM", decoded, 0)
        value = _decoded(decoded)
        if _SURROGATE_ESCAPE.search(decoded):
            json.dumps(value, ensure_ascii=False).encode()
    except StrictJsonError:
        raise
    except json.JSONDecodeError as error:
        # Some of Python's messages end in "at", before a place that is given here.
        message = f"{error.msg.removesuffix(' at')} at character {error.pos}"
        raise StrictJsonError("invalid_json", message, error.pos) from None
    except UnicodeDecodeError as error:
        raise StrictJsonError("invalid_json", f"byte {error.start} is not UTF-8") from None
    except UnicodeEncodeError:
        raise StrictJsonError("invalid_json", "half of a surrogate pair is not a character") from None
    except RecursionError:
        raise StrictJsonError("invalid_json", f"nested more than {MAX_DEPTH} levels") from None
    if decoded.count("[") + decoded.count("{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise StrictJsonError("invalid_json", f"nested more than {MAX_DEPTH} levels")
    return value


def _decoded(text: str) -> Any:
    """What the decoder gives; its own search for white space takes as long as a short object."""
    if text.startswith(("{", "[")):
        value, end = _STRICT.raw_decode(text)
        if not text[end:].strip(" \t\r\n"):
            return value
    return _STRICT.decode(text)


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise StrictJsonError("duplicate_key", f"key {twice!r} occurs more than once in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJsonError("not_finite", f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise StrictJsonError("not_finite", f"{shorten(text)} is beyond the range of a double")
    return value


def _finite_int(text: str) -> int:
    if len(text) > 300:
        _finite_float(text)
    return int(text)


_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique_object,
    parse_constant=_refuse_constant,
    parse_float=_finite_float,
    parse_int=_finite_int,
)
"""Made once: `json.loads` would make one for every line of a file."""


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for item in level for child in _children(item)]
    return any(isinstance(item, list | dict) for item in level)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
