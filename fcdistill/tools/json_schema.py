"""jsonschema's validators, imported without the grammars that a few formats alone need.

jsonschema imports the grammars of URIs and IRIs at once, and `rfc3987_syntax` compiles some forty parsers: longer than
all else that scoring saved predictions imports. Hardly any catalogue has these formats. Whoever needs jsonschema takes
it from here, and such a grammar is read when the first value is checked by it. Which of them a schema asks for is said
here too (`dialect_of`).
"""

import contextlib
import functools
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = [
    "DIALECTS",
    "Draft4Validator",
    "Draft6Validator",
    "Draft7Validator",
    "Draft201909Validator",
    "Draft202012Validator",
    "SchemaError",
    "ValidationError",
    "Validator",
    "best_match",
    "canonical_dialect",
    "dialect_of",
]

_GRAMMARS = {"rfc3986_validator": "validate_rfc3986", "rfc3987_syntax": "is_valid_syntax"}
"""Modules that compile a grammar, and the function that jsonschema imports from each."""


@contextlib.contextmanager
def _grammars_on_demand() -> Iterator[None]:
    """Whoever imports such a function inside the block gets one that imports it when it is called."""
    put_off = [name for name in _GRAMMARS if name not in sys.modules and find_spec(name) is not None]
    for name in put_off:
        stand_in = ModuleType(name)
        setattr(stand_in, _GRAMMARS[name], functools.partial(_call, name))
        sys.modules[name] = stand_in
    try:
        yield
    finally:
        for name in put_off:
            del sys.modules[name]


def _call(module: str, *arguments: Any, **options: Any) -> Any:
    return getattr(import_module(module), _GRAMMARS[module])(*arguments, **options)


with _grammars_on_demand():
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

DIALECTS: dict[str, type[Validator]] = {
    str(dialect.META_SCHEMA["$schema"]).removesuffix("#"): dialect
    for dialect in (Draft202012Validator, Draft201909Validator, Draft7Validator, Draft6Validator, Draft4Validator)
}
"""What `$schema` may say, with `http` or `https`, and with or without a `#` or a `/` at its end."""

_BY_ADDRESS = {name.partition("://")[2]: dialect for name, dialect in DIALECTS.items()}


def dialect_of(schema: Mapping[str, Any]) -> type[Validator] | None:
    """The JSON Schema dialect that `$schema` names, 2020-12 where there is none; None where it names no known one."""
    if "$schema" not in schema:
        return Draft202012Validator
    named = schema["$schema"]
    if not isinstance(named, str):
        return None
    scheme, _, address = named.partition("://")
    return _BY_ADDRESS.get(address.rstrip("#/")) if scheme in ("http", "https") else None


def canonical_dialect(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the known dialect that it names under its own name, which other readers compare."""
    dialect = dialect_of(schema)
    if dialect is None or "$schema" not in schema or schema["$schema"].removesuffix("#") in DIALECTS:
        return schema
    return {**schema, "$schema": dialect.META_SCHEMA["$schema"]}
