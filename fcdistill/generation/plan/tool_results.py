"""What tools give back, and which arguments their results can fill.

A result's JSON Schema comes from the team's results file, else from the catalogue (MCP's `outputSchema`, a function's
`return`). Which value of a result fills which argument of which tool is said by the file, else found from names:

    {"find_flights": {"returns": {JSON Schema}, "feeds": [{"from": "flights.id", "to": "book_flight.flight_id"}]},
     "get_sensor": {"feeds": [{"from": "value", "to": "set_heating.degrees", "when": {"sensor": "temperature"}}]}}

`from` names properties, arrays are stepped through to their first item; `when` lists arguments that the first call must
have. A tool with `feeds` in the file feeds these and nothing else, so that `[]` stops a wrong guess. Nothing here
makes calls or asks a model.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from referencing import Registry

from fcdistill.errors import DataError
from fcdistill.generation.verification.english.words import words_of
from fcdistill.records import ToolSpec
from fcdistill.records.equality import same_value
from fcdistill.storage import read_json
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.json_schema import SchemaError, dialect_of
from fcdistill.tools.parameters import property_schema, resolve_schema
from fcdistill.tools.validation import reference_problems

__all__ = ["Feed", "ToolResults", "holds", "is_reader", "put_value", "read_results", "result_problem"]

_READERS = frozenset("check fetch find get list look lookup query read retrieve search show view".split())
_VAGUE = frozenset(
    "at by date from id in kind label message name note number of on query text time title to type".split()
)
"""Words of parameters that say nothing of which tool could tell them."""
_DEEPEST = 3


@dataclass(frozen=True)
class Feed:
    """A value of one tool's result that can be an argument of another tool.

    Attributes:
        source: the tool whose result holds it.
        steps: where in the result it stands: property names, and 0 for an array's first item; empty where that is not
            known, since nobody says how the results look.
        target: the tool that takes it.
        argument: as which argument.
        when: arguments that the first call must have, so that its result holds such a value.
    """

    source: str
    steps: tuple[str | int, ...]
    target: str
    argument: str
    when: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolResults:
    """What is known of the results of a catalogue's tools.

    Attributes:
        returns: the JSON Schema of a tool's results, where it is known.
        feeds: which values can be which arguments.
    """

    returns: Mapping[str, dict[str, Any]]
    feeds: tuple[Feed, ...]


def read_results(path: Path | None, catalog: Catalog) -> ToolResults:
    """What a results file and the catalogue say, and for tools without `feeds` what their names say.

    Raises:
        DataError: the file is missing or malformed, or names what the catalogue lacks.
    """
    content = read_json(path, "results file") if path is not None else {}
    where = f"results file {path}"
    if not isinstance(content, dict):
        raise DataError(f"{where} holds no object", required="an object with tools as keys", fix="see data/README.md")
    returns = {name: schema for name, schema in catalog.returns.items() if not _schema_problem(schema)}
    feeds: list[Feed] = []
    declared = set()
    for name, entry in content.items():
        if name not in catalog.by_name or not isinstance(entry, dict) or set(entry) - {"returns", "feeds"}:
            raise DataError(
                f"{where}: the entry {name!r} is unknown or malformed",
                required="a tool of the catalogue with an object of `returns` and `feeds`",
                fix=f"tools are: {', '.join(catalog.by_name)}",
            )
        if "returns" in entry:
            problem = _schema_problem(entry["returns"])
            if problem:
                raise DataError(
                    f"{where}: the `returns` of {name} is no JSON Schema: {problem}",
                    required="a JSON Schema of what the tool gives back",
                    fix="correct it",
                )
            returns[name] = entry["returns"]
        if "feeds" in entry:
            declared.add(name)
            feeds += _declared_feeds(name, entry["feeds"], returns.get(name), catalog, f"{where}: {name}")
    for spec in catalog.specs:
        if spec.name not in declared:
            feeds += _found_feeds(spec, returns.get(spec.name), catalog)
    return ToolResults(returns, tuple(feeds))


def is_reader(spec: ToolSpec) -> bool:
    """Whether a tool's name says that it is called for what it gives back."""
    words = words_of(spec.name.replace("-", " "))
    return bool(words) and words[0].text in _READERS


def put_value(result: Any, steps: tuple[str | int, ...], value: Any) -> Any:
    """A copy of a result with this value at that place."""
    changed = copy.deepcopy(result)
    inner = changed
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = value
    return changed


def holds(result: Any, value: Any) -> bool:
    """Whether a result holds exactly this value somewhere."""
    if isinstance(result, dict | list):
        return any(holds(inner, value) for inner in (result.values() if isinstance(result, dict) else result))
    return same_value(result, value)


def result_problem(result: Any, schema: Mapping[str, Any] | None) -> str:
    """Why this is no result of a tool with such results; empty where it is one."""
    if schema is None:
        return (
            "" if isinstance(result, dict | list) and result else "it is no JSON object or array that holds something"
        )
    dialect = dialect_of(schema)
    assert dialect is not None
    judge = dialect(schema, registry=Registry(), format_checker=dialect.FORMAT_CHECKER)
    error = next(iter(judge.iter_errors(result)), None)
    return f"{error.json_path}: {error.message}" if error is not None else ""


def _schema_problem(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "it is no object"
    dialect = dialect_of(schema)
    if dialect is None:
        return f"unknown dialect {schema['$schema']!r}"
    try:
        dialect.check_schema(schema)
    except SchemaError as error:
        return error.message
    return "; ".join(reference_problems(dialect, schema))


def _declared_feeds(
    name: str, listed: Any, returns: Mapping[str, Any] | None, catalog: Catalog, where: str
) -> Iterator[Feed]:
    parameters = catalog.by_name[name].parameters
    for item in listed if isinstance(listed, list) else [listed]:
        if not isinstance(item, dict) or not {"from", "to"} <= set(item) <= {"from", "to", "when"}:
            raise DataError(
                f"{where}: the feed {item!r} is malformed", required="{from, to, when?}", fix="see data/README.md"
            )
        target, _, argument = str(item["to"]).partition(".")
        spec, when = catalog.by_name.get(target), item.get("when", {})
        steps = _steps(str(item["from"]).split("."), returns)
        problem = ""
        if spec is None or not argument or property_schema(spec.parameters, [argument]) is None:
            problem = f"`to` names no argument of the catalogue: {item['to']!r}"
        elif not isinstance(when, dict) or any(property_schema(parameters, [key]) is None for key in when):
            problem = f"`when` names no argument of {name}: {when!r}"
        elif steps is None:
            problem = f"`from` names no property of the results: {item['from']!r}"
        if problem:
            raise DataError(f"{where}: {problem}", required="names of the catalogue and of `returns`", fix="correct it")
        yield Feed(name, steps or (), target, argument, when)


def _steps(names: list[str], returns: Mapping[str, Any] | None) -> tuple[str | int, ...] | None:
    """The way to a property; unknown where no schema tells how the results look, None where it tells otherwise."""
    if returns is None:
        return ()
    return next((steps for steps, keys, _ in _leaves(returns, returns) if list(keys) == names), None)


def _leaves(
    schema: Any, root: Mapping[str, Any], steps: tuple[str | int, ...] = (), keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], tuple[str, ...], dict[str, Any]]]:
    """The plain values of a result: the way to each, the properties on it, its schema."""
    schema = resolve_schema(schema, root)
    if len(steps) > 2 * _DEEPEST:
        return
    if "items" in schema:
        yield from _leaves(schema["items"], root, (*steps, 0), keys)
    for name, inner in schema.get("properties", {}).items():
        yield from _leaves(inner, root, (*steps, name), (*keys, name))
    if keys and not {"items", "properties"} & schema.keys():
        yield steps, keys, schema


def _found_feeds(source: ToolSpec, returns: Mapping[str, Any] | None, catalog: Catalog) -> Iterator[Feed]:
    """What names and types say: a result's `flights[].id` can be a `flight_id`, its `order_id` an `order_id`.

    Where nobody says how results look, a tool for reading whose name, description or choices speak of what a parameter
    is called can tell it. What a tool takes itself is no news in its results.
    """
    own = resolve_schema(source.parameters, source.parameters).get("properties", {})
    for target in catalog.specs:
        if target is source:
            continue
        parameters = resolve_schema(target.parameters, target.parameters).get("properties", {})
        for argument, schema in parameters.items():
            schema = resolve_schema(schema, target.parameters)
            kind = _kind(schema)
            if argument in own or kind is None:
                continue
            if returns is not None:
                for steps, keys, leaf in _leaves(returns, returns):
                    if argument in _names(keys) and _kind(leaf) in (kind, "integer" if kind == "number" else kind):
                        yield Feed(source.name, steps, target.name, argument)
            elif is_reader(source):
                when = _when_told(source, argument)
                if when is not None:
                    yield Feed(source.name, (), target.name, argument, when)


def _kind(schema: Mapping[str, Any]) -> str | None:
    """The type of an open-ended plain value; None for closed sets and for anything else."""
    kind = schema.get("type")
    kinds = [name for name in (kind if isinstance(kind, list) else [kind]) if name != "null"]
    if {"enum", "const"} & schema.keys() or len(kinds) != 1 or kinds[0] not in ("string", "integer", "number"):
        return None
    return str(kinds[0])


def _names(keys: tuple[str, ...]) -> set[str]:
    """What a property may be called elsewhere: `id` in `flights` is a `flight_id`."""
    last = keys[-1]
    inside = ["_".join(word.text for word in words_of(key)) for key in keys[-2:-1]]
    return {last, *(f"{owner}_{last}" for owner in inside)}


def _when_told(source: ToolSpec, argument: str) -> dict[str, Any] | None:
    """The arguments with which a call of this tool tells such a value; None where nothing says that it can."""
    sought = {word.text for word in words_of(argument)} - _VAGUE
    if not sought:
        return None
    for name, schema in resolve_schema(source.parameters, source.parameters).get("properties", {}).items():
        for value in resolve_schema(schema, source.parameters).get("enum", ()):
            if isinstance(value, str) and sought <= {word.text for word in words_of(value)}:
                return {name: value}
    said = {word.text for word in words_of(f"{source.name} {source.description}")}
    return {} if sought <= said else None
