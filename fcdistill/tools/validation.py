"""Verdicts on tools' schemas and on calls: JSON Schema, and beyond it no argument that the schema does not declare.

A schema is compiled once; a verdict is a list of violations, each with a JSON pointer into the arguments, the keyword
that was broken and the error code that the scorer counts. Nothing here knows where calls come from or what the right
answer would have been, and no schema is ever fetched. Which arguments count as undeclared is said in `declared_levels`.
"""

import copy
import difflib
import functools
import json
import logging
import marshal
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from referencing import Registry

from fcdistill.errors import CatalogError
from fcdistill.records import CALL_ERRORS, CallError, ToolCall, ToolSpec
from fcdistill.tools.declared_levels import Level, Levels, Place
from fcdistill.tools.json_schema import (
    DIALECTS,
    Draft202012Validator,
    ValidationError,
    Validator,
    best_match,
    dialect_of,
    metaschema_judge,
)
from fcdistill.tools.patterns import pattern_for
from fcdistill.tools.refs import (
    EndlessReferenceError,
    Leaf,
    RemoteReferenceError,
    UnusableReferenceError,
    pointer_step,
)

__all__ = ["MAX_SCHEMA_DEPTH", "CallValidator", "Violation", "check_spec", "reference_problems"]

MAX_SCHEMA_DEPTH = 64
"""Levels of nested arrays and objects that a tool's schema may have."""

_CODES: dict[str, CallError] = {
    "required": "missing_required",
    "additionalProperties": "extra_arg",
    "unevaluatedProperties": "extra_arg",
    "type": "wrong_type",
    "enum": "enum_violation",
    "const": "enum_violation",
}
_log = logging.getLogger(__name__)
_PLAIN = 2
"""A version of marshal's format that writes the same values alike, and several times faster than JSON is written."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which a call breaks its tool's schema.

    Attributes:
        code: the error as the scorer counts it.
        pointer: JSON pointer into the arguments, also for an argument that is missing; empty for the whole call.
        keyword: the JSON Schema keyword that was broken.
        detail: one sentence for a reader.
    """

    code: CallError
    pointer: str
    keyword: str
    detail: str


class CallValidator:
    """Checks calls of these tools.

    Raises:
        CatalogError: a tool's schema has one of the problems that `check_spec` lists.
    """

    def __init__(self, specs: Iterable[ToolSpec]) -> None:
        self._compiled = {spec.name: _compile(spec.name, json.dumps(spec.parameters, sort_keys=True)) for spec in specs}

    def check_call(self, call: ToolCall) -> list[Violation]:
        """All violations of a call, the most primary error first; none where the call is right."""
        compiled = self._compiled.get(call.name)
        if compiled is None:
            close = difflib.get_close_matches(call.name, self._compiled, n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            return [Violation("unknown_function", "", "name", f"there is no tool {_quote(call.name)}{hint}")]
        try:
            written = marshal.dumps(call.arguments, _PLAIN)
        except ValueError:  # no plain values, or nested absurdly
            return compiled.check(call.arguments)
        return list(_check_once(compiled, written))


def check_spec(spec: ToolSpec) -> list[str]:
    """The problems of a tool's schema, each in one sentence; none where it can be used.

    The schema must be valid in its dialect (`$schema`, draft-04 to 2020-12, the latter where it is not given), have
    `"type": "object"` at the root, hold no more than `MAX_SCHEMA_DEPTH` levels, and refer only to itself. A pattern
    that can't be read is no problem: it judges nothing, and `CallValidator` warns of it.
    """
    schema = spec.parameters
    if _is_deeper(schema, MAX_SCHEMA_DEPTH):
        return [f"the schema is nested more than {MAX_SCHEMA_DEPTH} levels"]
    dialect = dialect_of(schema)
    if dialect is None:
        return [f"/$schema: unknown dialect {_quote(schema['$schema'])}; known are {', '.join(DIALECTS)}"]
    problems = _metaschema_problems(dialect, schema)
    if schema.get("type") != "object":
        problems.append(f"/type: the root must have type 'object', found {_quote(schema.get('type'))}")
    return problems or reference_problems(dialect, schema)


def reference_problems(dialect: type[Validator], schema: dict[str, Any]) -> list[str]:
    """What is wrong with the references of a schema, and with what they lead to, each in one sentence.

    Args:
        dialect: whose metaschema finds nothing wrong with the schema.
        schema: the whole document.
    """
    levels = Levels(dialect, schema)
    problems: list[str] = []
    pending = [levels.root]
    reached: dict[int, Leaf] = {}
    while pending:
        leaf = pending.pop()
        if leaf.key in reached or not isinstance(leaf.schema, dict):
            continue
        reached[leaf.key] = leaf
        pending += leaf.subschemas()
        for keyword, reference in leaf.references():
            name = f"{keyword} {_quote(reference)}"
            try:
                target = leaf.follow(reference)
            except RemoteReferenceError:
                problems.append(f"{name} leads out of the schema; no other document is read")
            except UnusableReferenceError:
                problems.append(f"{name} leads nowhere")
            else:
                behind = [] if target.key in reached else _metaschema_problems(dialect, target.schema)
                problems += [f"behind {name}, {problem}" for problem in behind]
                pending += [] if behind else [target]
    return sorted(set(problems)) or sorted(set(_level_problems(levels, reached.values())))


def _is_deeper(value: object, limit: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return limit == 0 or any(_is_deeper(child, limit - 1) for child in children)


def _metaschema_problems(dialect: type[Validator], schema: Any) -> list[str]:
    problems = set()
    for error in metaschema_judge(dialect).iter_errors(schema):
        while error.context:  # of alternatives, the metaschemas name the plain one first
            error = error.context[0]
        problems.add(f"{_pointer(error.absolute_path) or '/'}: {_cut(error.message, 200)}")
    return sorted(problems)


def _level_problems(levels: Levels, leaves: Iterable[Leaf]) -> Iterator[str]:
    for leaf in leaves:
        try:
            if levels.at(leaf).depth > MAX_SCHEMA_DEPTH:
                yield f"more than {MAX_SCHEMA_DEPTH} references lead from one to the next"
        except EndlessReferenceError as error:
            yield f"a schema applies to itself in place, without a level of arguments between: it never ends ({error})"
        except RecursionError:
            yield f"more than {MAX_SCHEMA_DEPTH} references lead from one to the next"


class _Patterns(dict[str, Any]):
    """`patternProperties` with names as `re` takes them, found by the written ones too, as references name them."""

    def __init__(self, written: dict[str, Any]) -> None:
        self._written = written
        super().__init__((_searched(name), schema if _is_searched(name) else True) for name, schema in written.items())

    def __missing__(self, name: str) -> Any:
        return self._written[name]


def _is_searched(name: str) -> bool:
    pattern = pattern_for(name)
    return pattern is not None and pattern.is_plain


def _searched(name: str) -> str:
    """A pattern of names for `re`; one for all names where it can't be told which are meant."""
    pattern = pattern_for(name)
    return pattern.text if pattern is not None and pattern.is_plain else "(?:)"


def _judged(dialect: type[Validator], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as jsonschema is to read it, which searches names by itself, with `re`.

    It does not name its dialect: by that name the library would take its own validator for what refers to the root.
    """
    judged = copy.deepcopy(schema)
    for leaf in list(Leaf.of_document(judged, dialect).reachable()):
        if dialect_of(leaf.schema) is dialect:
            leaf.schema.pop("$schema", None)
        if isinstance(leaf.schema.get("patternProperties"), dict):
            leaf.schema["patternProperties"] = _Patterns(leaf.schema["patternProperties"])
    return judged


def _unread_patterns(dialect: type[Validator], schema: dict[str, Any]) -> Iterator[str]:
    """The patterns of a schema that no library takes."""
    for leaf in Leaf.of_document(schema, dialect).reachable():
        named = leaf.schema.get("patternProperties")
        patterns = [leaf.schema.get("pattern"), *(named if isinstance(named, dict) else ())]
        yield from (each for each in patterns if isinstance(each, str) and pattern_for(each) is None)


@functools.lru_cache(maxsize=4096)
def _warn_once(tool: str, pattern: str) -> None:
    _log.warning(
        "tool %r: the pattern %s is not checked, since it is no regular expression of ECMA-262 that could be read",
        tool,
        _quote(pattern),
    )


class _Compiled:
    """One tool's schema, ready to judge arguments."""

    def __init__(self, dialect: type[Validator], schema: dict[str, Any]) -> None:
        judged = _judged(dialect, schema)
        self._validator = dialect(judged, registry=Registry(), format_checker=dialect.FORMAT_CHECKER)
        self._levels = Levels(dialect, schema)
        # The arguments object itself is closed even where it declares no property: the tool takes none.
        self._root = replace(self._levels.at(self._levels.root), declares=True)

    def check(self, arguments: dict[str, Any]) -> list[Violation]:
        found: list[Violation] = []
        try:
            self._walk(arguments, self._root, "", found)
            if not any(violation.keyword == "finite" for violation in found):
                for error in self._validator.iter_errors(arguments):
                    found += _violations(error)
        except (RecursionError, OverflowError) as error:
            return [Violation("constraint_violation", "", "limits", f"the arguments can't be checked: {error}")]
        return _without_echoes(found) if found else found

    def _walk(self, value: Any, level: Level | None, pointer: str, found: list[Violation]) -> None:
        """Collect undeclared arguments, and numbers that JSON does not have."""
        if isinstance(value, dict):
            for name, child in value.items():
                declared, place = level.named(name) if level else (True, None)
                if not declared:
                    found.append(_undeclared(name, level.names if level else (), pointer))
                self._walk_child(child, place, pointer, name, found)
        elif isinstance(value, list):
            for index, child in enumerate(value):
                self._walk_child(child, level.item(index) if level else None, pointer, index, found)
        elif isinstance(value, float) and not math.isfinite(value):
            found.append(Violation("wrong_type", pointer, "finite", f"{value} is not a JSON number"))

    def _walk_child(
        self, child: Any, place: Place | None, pointer: str, step: str | int, found: list[Violation]
    ) -> None:
        if isinstance(child, dict | list | float):
            level = self._levels.at(place) if place is not None else None
            self._walk(child, level, f"{pointer}/{pointer_step(step)}", found)


@functools.lru_cache(maxsize=65536)
def _check_once(compiled: _Compiled, written: bytes) -> tuple[Violation, ...]:
    """The verdict on arguments written by marshal.

    One call is checked many times: in a suite, as the right answer to it, in each repetition, of each model.
    """
    return tuple(compiled.check(marshal.loads(written)))


@functools.lru_cache(maxsize=4096)
def _compile(name: str, canonical_parameters: str) -> _Compiled:
    spec = ToolSpec(name=name, parameters=json.loads(canonical_parameters))
    problems = check_spec(spec)
    if problems:
        raise CatalogError(
            f"tool {name!r}: " + "; ".join(problems),
            required="a valid JSON Schema of an arguments object",
            fix="correct the tool's parameters",
        )
    dialect = dialect_of(spec.parameters) or Draft202012Validator
    for pattern in _unread_patterns(dialect, spec.parameters):
        _warn_once(name, pattern)
    return _Compiled(dialect, spec.parameters)


def _undeclared(name: str, declared: Iterable[str], pointer: str) -> Violation:
    close = difflib.get_close_matches(name, list(declared), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    detail = f"argument {_quote(name)} is not declared{hint}"
    return Violation("extra_arg", f"{pointer}/{pointer_step(name)}", "additionalProperties", detail)


def _violations(error: ValidationError) -> Iterator[Violation]:
    """What one finding of jsonschema says, by argument."""
    finding: Any = best_match([error])
    pointer = _pointer(finding.absolute_path)
    if finding.validator == "required":
        for name in finding.validator_value:
            if name not in finding.instance:
                detail = f"argument {_quote(name)} is required"
                yield Violation("missing_required", f"{pointer}/{pointer_step(name)}", "required", detail)
    elif finding.validator == "additionalProperties":
        patterns = finding.schema.get("patternProperties", ())
        for name in finding.instance.keys() - finding.schema.get("properties", {}).keys():
            if not any(re.search(pattern, name) for pattern in patterns):  # as `_judged` has written them
                yield _undeclared(name, (), pointer)
    else:
        # The schema `false` has no keyword, and jsonschema gives the place around what it forbids.
        yield Violation(_code(finding), pointer, str(finding.validator or "false"), _cut(finding.message, 200))


def _code(error: ValidationError) -> CallError:
    if error.validator in ("anyOf", "oneOf") and error.context:
        return min((_code(each) for each in error.context), key=CALL_ERRORS.index)
    return _CODES.get(str(error.validator), "constraint_violation")


def _without_echoes(found: list[Violation]) -> list[Violation]:
    """One violation per code and place, in order of primacy, without what another one implies."""
    unique = {(each.code, each.pointer): each for each in reversed(found)}.values()
    mistyped = {each.pointer for each in unique if each.code == "wrong_type"}
    named = {each.pointer.rpartition("/")[0] for each in unique if each.keyword == "additionalProperties"}
    kept = [
        each
        for each in unique
        if not (each.code in ("enum_violation", "constraint_violation") and each.pointer in mistyped)
        and not (each.keyword in ("unevaluatedProperties", "false") and each.pointer in named)
    ]
    return sorted(kept, key=lambda each: (CALL_ERRORS.index(each.code), each.pointer))


def _pointer(path: Iterable[str | int]) -> str:
    return "".join(f"/{pointer_step(step)}" for step in path)


def _quote(value: object) -> str:
    return _cut(repr(value), 100)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
