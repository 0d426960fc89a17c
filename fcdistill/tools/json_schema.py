"""jsonschema's validators, imported without the grammars that a few formats alone need.

jsonschema imports the grammars of URIs and IRIs at once, and `rfc3987_syntax` compiles some forty parsers: longer than
all else that scoring saved predictions imports. Hardly any catalogue has these formats. Whoever needs jsonschema takes
it from here, and such a grammar is read when the first value is checked by it. Which of them a schema asks for is said
here too (`dialect_of`).

In three things these validators are not the library's own: patterns are ECMA-262's (`patterns`), multiples are of the
decimals that are written, and `nullable` allows null beside a type, as OpenAPI 3.0 says.
"""

import contextlib
import copy
import functools
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from fcdistill.tools.patterns import pattern_for

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
    "as_written",
    "best_match",
    "canonical_dialect",
    "dialect_of",
    "metaschema_judge",
    "with_null",
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
    import jsonschema
    from jsonschema import SchemaError, ValidationError
    from jsonschema.exceptions import best_match
    from jsonschema.protocols import Validator
    from jsonschema.validators import extend


def as_written(number: float) -> Fraction:
    """Exactly the decimal that a number is written as: 0.1 is a tenth, and not the binary fraction next to it.

    Args:
        number: finite.
    """
    return Fraction(number if isinstance(number, int) else repr(number))


def with_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An equal schema without `nullable`, which adds null to the types that stand beside it, and to nothing else.

    Source: OpenAPI 3.0.3, section 4.7.24.1.
    """
    bare = {keyword: value for keyword, value in schema.items() if keyword != "nullable"}
    if schema.get("nullable") is True and "type" in schema:
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        bare["type"] = list(dict.fromkeys([*types, "null"]))
    return bare


def metaschema_judge(dialect: type[Validator]) -> Validator:
    """Checks schemas of a dialect; a pattern that can't be read is none of its business."""
    formats = copy.copy(dialect.FORMAT_CHECKER)
    formats.checkers = {name: check for name, check in formats.checkers.items() if name != "regex"}
    return dialect(dialect.META_SCHEMA, format_checker=formats)


def _check_multiple(validator: Any, step: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "number") and as_written(instance) % as_written(step):
        yield ValidationError(f"{instance!r} is not a multiple of {step!r}")


def _check_pattern(validator: Any, written: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string"):
        pattern = pattern_for(written)
        if pattern is not None and not pattern.found_in(instance):
            yield ValidationError(f"{instance!r} does not match {written!r}")


def _check_type(validator: Any, types: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if instance is not None or schema.get("nullable") is not True:
        yield from jsonschema.Draft202012Validator.VALIDATORS["type"](validator, types, instance, schema)


def _is_pattern(instance: object) -> bool:
    return not isinstance(instance, str) or pattern_for(instance) is not None


def _as_here(dialect: Any) -> type[Validator]:
    """The library's validator with what is different here."""
    formats = copy.copy(dialect.FORMAT_CHECKER)
    formats.checkers = {**formats.checkers, "regex": (_is_pattern, ())}
    keywords = {"multipleOf": _check_multiple, "pattern": _check_pattern, "type": _check_type}
    extended: type[Validator] = extend(dialect, keywords, format_checker=formats)  # type: ignore[no-untyped-call]
    return extended


Draft4Validator = _as_here(jsonschema.Draft4Validator)
Draft6Validator = _as_here(jsonschema.Draft6Validator)
Draft7Validator = _as_here(jsonschema.Draft7Validator)
Draft201909Validator = _as_here(jsonschema.Draft201909Validator)
Draft202012Validator = _as_here(jsonschema.Draft202012Validator)

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
