"""jsonschema's validators, imported without the grammar that two formats alone need.

jsonschema imports `rfc3987_syntax` at once, which compiles some forty parsers: longer than all else that scoring saved
predictions imports. Hardly any catalogue has the formats that it checks, `iri` and `iri-reference`. Whoever needs
jsonschema takes it from here, and the grammar is read when the first such value is checked.
"""

import contextlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

__all__ = [
    "Draft4Validator",
    "Draft6Validator",
    "Draft7Validator",
    "Draft201909Validator",
    "Draft202012Validator",
    "SchemaError",
    "ValidationError",
    "Validator",
    "best_match",
]

_GRAMMAR = "rfc3987_syntax"


def _is_valid_syntax(term: str, value: str) -> bool:
    from rfc3987_syntax import is_valid_syntax

    return bool(is_valid_syntax(term, value))


@contextlib.contextmanager
def _grammar_on_demand() -> Iterator[None]:
    """Whoever imports the grammar inside the block gets a stand-in that imports it when it is called."""
    if _GRAMMAR in sys.modules or find_spec(_GRAMMAR) is None:
        yield
        return
    stand_in = ModuleType(_GRAMMAR)
    stand_in.__dict__["is_valid_syntax"] = _is_valid_syntax
    sys.modules[_GRAMMAR] = stand_in
    try:
        yield
    finally:
        del sys.modules[_GRAMMAR]


with _grammar_on_demand():
    from jsonschema import (
        Draft4Validator,
        Draft6Validator,
        Draft7Validator,
        Draft201909Validator,
        Draft202012Validator,
        SchemaError,
        ValidationError,
    )
    from jsonschema.exceptions import best_match
    from jsonschema.protocols import Validator
