"""The Berkeley Function-Calling Leaderboard as suites: an installed `bfcl-eval` is read in place, nothing is copied.

Covered are the single-turn Python categories, the `live_` ones, irrelevance and relevance. The package's schema dialect
(`dict`, `float`, `tuple`, `any`) becomes JSON Schema, its dotted function names lose their dots, and its possible
answers (per argument a list of acceptable values, `""` where it may be left out) become comparators. Acceptable is what
the data list, also where it breaks the schema beside it. A case that no answer could satisfy is set aside with the
reason. No module of the package is imported here.
"""

import importlib.util
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fcdistill.errors import ConfigError, DataError, MissingDependencyError
from fcdistill.evaluation.comparators import describe_value
from fcdistill.evaluation.suites import Suite
from fcdistill.records import Behaviour, Category, EvalCase, FunctionTool, Message, ToolCall, ToolSpec
from fcdistill.tools.catalog import safe_name
from fcdistill.tools.validation import CallValidator, check_spec

__all__ = ["BFCL_CATEGORIES", "BfclEntry", "BfclSuite", "data_directory", "json_schema", "read_bfcl"]

BFCL_CATEGORIES: Mapping[str, Category] = {
    "simple_python": "simple",
    "multiple": "multiple",
    "parallel": "parallel",
    "parallel_multiple": "parallel_multiple",
    "irrelevance": "irrelevance",
    "live_simple": "simple",
    "live_multiple": "multiple",
    "live_parallel": "parallel",
    "live_parallel_multiple": "parallel_multiple",
    "live_irrelevance": "irrelevance",
    "live_relevance": "multiple",
}
"""The package's categories that can be evaluated, each with the category that its cases have here."""

_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
_KEYWORDS = frozenset(
    {"type", "description", "default", "enum", "format", "maximum", "minimum", "minItems", "maxItems"}
)
_LEFT_OUT = ""
_MAX_ALTERNATIVES = 4096
_MAX_RELEVANT_CALLS = 3
_PACKAGE = "bfcl_eval"


class _UnsatisfiableError(Exception):
    """No answer that fits the schemas is among the possible ones."""


@dataclass(frozen=True)
class BfclEntry:
    """A case as the package holds it.

    Attributes:
        functions: the function descriptions, in the package's dialect.
        possible_answer: per expected call, name to arguments to acceptable values; None where the category has none.
    """

    functions: tuple[dict[str, Any], ...]
    possible_answer: tuple[dict[str, dict[str, list[Any]]], ...] | None


@dataclass(frozen=True)
class BfclSuite:
    """One category.

    Attributes:
        category: its name in the package.
        suite: the cases that can be answered.
        entries: those cases as the package holds them, by id.
        unsatisfiable: case id to the reason why it was set aside.
        files: what was read.
    """

    category: str
    suite: Suite
    entries: Mapping[str, BfclEntry]
    unsatisfiable: Mapping[str, str]
    files: tuple[Path, ...]


def data_directory() -> Path:
    """Where the installed package keeps its cases.

    Raises:
        MissingDependencyError: `bfcl-eval` is not installed, or holds no data.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for place in [] if spec is None else spec.submodule_search_locations or []:
        if (Path(place) / "data").is_dir():
            return Path(place) / "data"
    raise MissingDependencyError(
        "the package bfcl-eval, which holds the cases of suite bfcl, is not installed",
        required="bfcl-eval; its own dependencies are not needed",
        fix="pip install --no-deps bfcl-eval",
    )


def read_bfcl(category: str, data: Path | None = None) -> BfclSuite:
    """One category of the leaderboard as a suite.

    Args:
        category: one of `BFCL_CATEGORIES`.
        data: a directory in the layout of the package's `data`; default: that of the installed package.

    Raises:
        ConfigError: the category is not one of them.
        MissingDependencyError: `bfcl-eval` is not installed.
        DataError: a file is missing or not in the expected layout.
    """
    if category not in BFCL_CATEGORIES:
        raise ConfigError(
            f"bfcl has no category {category!r} that can be evaluated here",
            required=f"one of {', '.join(BFCL_CATEGORIES)}",
            fix="correct the name after 'bfcl:'",
        )
    directory = data_directory() if data is None else data
    questions = _file(directory, category)
    files = [questions]
    answers: dict[str, Any] = {}
    if not category.endswith("relevance"):
        files.append(_file(directory / "possible_answer", category))
        answers = {row["id"]: row["ground_truth"] for row in _rows(files[-1], ("id", "ground_truth"))}
    cases, specs, entries, unsatisfiable = [], {}, {}, {}
    safe_names: dict[str, str] = {}
    for row in _rows(questions, ("id", "question", "function")):
        try:
            possible = None if category.endswith("relevance") else tuple(answers[row["id"]])
            entry = BfclEntry(tuple(row["function"]), possible)
            tools = _tools(entry.functions)
            case = _case(category, row, entry, tools)
        except _UnsatisfiableError as reason:
            unsatisfiable[row["id"]] = str(reason)
            continue
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise _layout_error(questions, f"case {row['id']!r}: {type(error).__name__}: {error}") from error
        cases.append(case)
        specs[case.id] = tools
        entries[case.id] = entry
        names = (function["name"] for function in entry.functions)
        safe_names |= {name: safe_name(name) for name in names if name != safe_name(name)}
    suite = Suite(tuple(cases), specs, safe_names, None)
    return BfclSuite(category, suite, entries, unsatisfiable, tuple(files))


def json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of the package's dialect as JSON Schema.

    A `dict` without declared properties takes any; `any` is no constraint; an `enum` beside an array constrains the
    elements, which is what its authors mean; names in `required` that are not declared are dropped.
    """
    result = {key: value for key, value in schema.items() if key in _KEYWORDS}
    kind = _TYPES.get(schema["type"], schema["type"])
    if kind == "any":
        del result["type"]
    else:
        result["type"] = kind
    if kind == "array" and "items" in schema:
        result["items"] = json_schema(schema["items"])
    if kind == "array" and "enum" in result and not any(isinstance(each, list) for each in result["enum"]):
        result.setdefault("items", {})["enum"] = result.pop("enum")
    if kind == "object":
        declared = schema.get("properties") or {}
        result["properties"] = {name: json_schema(each) for name, each in declared.items()}
        required = schema.get("required")
        if isinstance(required, list):
            result["required"] = [name for name in dict.fromkeys(required) if name in declared]
        if not declared:
            result["additionalProperties"] = True
    return result


def _file(directory: Path, category: str) -> Path:
    """The file of a category, whatever the leaderboard's version."""
    found = sorted(directory.glob(f"BFCL_v*_{category}.json"))
    exact = [path for path in found if path.stem.split("_", 2)[2] == category]
    if not exact:
        raise DataError(
            f"{directory} holds no BFCL_v*_{category}.json",
            required="the data of bfcl-eval in the layout of 2026.3.23",
            fix="pip install --no-deps --force-reinstall bfcl-eval==2026.3.23",
        )
    return exact[-1]


def _rows(path: Path, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _layout_error(path, f"line {number} is not JSON: {error}") from None
        if not isinstance(row, dict) or not row.keys() >= set(keys):
            raise _layout_error(path, f"line {number} lacks one of {', '.join(keys)}")
        yield row


def _layout_error(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: {found}",
        required="the layout of bfcl-eval 2026.3.23",
        fix="pip install --no-deps --force-reinstall bfcl-eval==2026.3.23",
    )


def _tools(functions: Sequence[Mapping[str, Any]]) -> tuple[ToolSpec, ...]:
    """The tools of a case. Raises `_UnsatisfiableError` where they can't be offered."""
    if not functions:
        raise _UnsatisfiableError("it offers no function")
    specs = []
    for function in functions:
        name, schema = safe_name(function["name"]), json_schema(function["parameters"])
        specs.append(ToolSpec(name=name, description=function["description"], parameters=schema))
        for problem in check_spec(specs[-1]):
            raise _UnsatisfiableError(f"the schema of {function['name']} is unusable: {problem}")
    if len({spec.name for spec in specs}) < len(specs):
        raise _UnsatisfiableError("two of its functions have one name")
    return tuple(specs)


def _case(category: str, row: Mapping[str, Any], entry: BfclEntry, tools: Sequence[ToolSpec]) -> EvalCase:
    expected: Sequence[tuple[ToolCall, ...]] = ((),)
    comparators: dict[str, str] = {}
    behaviour: Behaviour = "no_call"
    if category == "live_relevance":
        behaviour = "call"
        expected, comparators = _any_calls(tools)
    elif entry.possible_answer is not None:
        behaviour = "call"
        expected, comparators = _answers(entry.possible_answer, tools)
    return EvalCase(
        id=row["id"],
        messages=tuple(Message(role=each["role"], content=each["content"]) for each in row["question"][0]),
        tools=tuple(FunctionTool(function=spec) for spec in tools),
        behaviour=behaviour,
        expected=tuple(expected),
        comparators=comparators,
        category=BFCL_CATEGORIES[category],
        tags=(f"bfcl:{category}",),
    )


def _any_calls(tools: Sequence[ToolSpec]) -> tuple[list[tuple[ToolCall, ...]], dict[str, str]]:
    """What is relevant: one or a few calls of the offered tools, whatever their arguments, as the schemas want them."""
    rules = {f"{spec.name}.{name}": "ignore" for spec in tools for name in spec.parameters["properties"]}
    calls = [ToolCall(name=spec.name) for spec in tools]
    counts = range(1, _MAX_RELEVANT_CALLS + 1)
    return [each for count in counts for each in itertools.combinations_with_replacement(calls, count)], rules


def _answers(
    possible: Sequence[Mapping[str, Mapping[str, list[Any]]]], tools: Sequence[ToolSpec]
) -> tuple[list[tuple[ToolCall, ...]], dict[str, str]]:
    """The acceptable answers, and how their arguments compare.

    A comparator holds for all calls of a tool. Where an argument may be left out of only some of them, answers with
    and without it say so.
    """
    by_name = {spec.name: spec for spec in tools}
    calls = [(safe_name(name), arguments) for each in possible for name, arguments in each.items()]
    judged: list[tuple[str, dict[str, tuple[list[Any], bool]]]] = []
    optional: dict[str, set[bool]] = {}
    for name, arguments in calls:
        if name not in by_name:
            raise _UnsatisfiableError(f"the expected function {name} is not offered")
        given = _arguments(by_name[name], arguments)
        judged.append((name, given))
        for parameter, (_, may_be_left_out) in given.items():
            optional.setdefault(f"{name}.{parameter}", set()).add(may_be_left_out)
    rules = {key: "optional(any_of)" if kinds == {True} else "any_of" for key, kinds in optional.items()}
    variants: list[list[ToolCall]] = []
    for name, given in judged:
        free = [key for key, (_, left_out) in given.items() if left_out and rules[f"{name}.{key}"] == "any_of"]
        variants.append(
            [
                ToolCall(
                    name=name, arguments={key: values for key, (values, _) in given.items() if key not in left_out}
                )
                for count in range(len(free) + 1)
                for left_out in itertools.combinations(free, count)
            ]
        )
    return list(itertools.product(*variants)), rules


def _arguments(spec: ToolSpec, arguments: Mapping[str, list[Any]]) -> dict[str, tuple[list[Any], bool]]:
    """Per argument that may be given: its acceptable values, and whether it may be left out.

    What the data list is acceptable, whether or not it fits the schema: a null, or a number for a text. `""` is a value
    only where texts are; and null is one, listed or not, where it is the default of what may be left out.
    """
    properties: dict[str, Any] = spec.parameters["properties"]
    required = frozenset(spec.parameters.get("required", ()))
    for parameter in required - arguments.keys():
        raise _UnsatisfiableError(f"{spec.name}.{parameter} is required and no value is acceptable")
    found = {}
    for parameter, alternatives in arguments.items():
        optional = _LEFT_OUT in alternatives and parameter not in required
        values = []
        if parameter in properties:
            schema = properties[parameter]
            listed = [value for value in alternatives if value != _LEFT_OUT or _takes_text(schema)]
            if optional and "default" in schema and schema["default"] is None:
                listed.append(None)
            values = _distinct(each for value in listed for each in _concrete(value, schema))
        if values:
            found[parameter] = values, optional
        elif not optional:
            shown = describe_value(alternatives)
            reason = "is a value for it" if parameter in properties else "fits a function that has no such parameter"
            raise _UnsatisfiableError(f"{spec.name}.{parameter}: no acceptable value ({shown}) {reason}")
    return found


def _takes_text(schema: Mapping[str, Any]) -> bool:
    root = {"type": "object", "properties": {"value": schema}}
    call = ToolCall(name="value", arguments={"value": _LEFT_OUT})
    return not CallValidator([ToolSpec(name="value", parameters=root)]).check_call(call)


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def _concrete(value: Any, schema: Mapping[str, Any]) -> list[Any]:
    """The values that one acceptable value stands for: below it, objects again hold lists of acceptable values."""
    if isinstance(value, dict) and schema.get("type") in ("object", None):
        return _concrete_objects(value, schema)
    if isinstance(value, list) and schema.get("type") == "array":
        items = schema.get("items", {})
        return _products([_concrete(each, items) for each in value])
    return [value]


def _concrete_objects(value: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Any]:
    properties = schema.get("properties", {})
    choices: list[list[tuple[tuple[str, Any], ...]]] = []
    for key, alternatives in value.items():
        inner = properties.get(key, {})
        listed = alternatives if isinstance(alternatives, list) else [alternatives]
        options: list[tuple[tuple[str, Any], ...]] = [
            ((key, each),) for one in listed for each in _concrete(one, inner)
        ]
        if _LEFT_OUT in listed:
            options.append(())
        choices.append(options)
    return [dict(pair for pairs in chosen for pair in pairs) for chosen in _products(choices)]


def _products(choices: Sequence[Sequence[Any]]) -> list[list[Any]]:
    if math.prod(len(each) for each in choices) > _MAX_ALTERNATIVES:
        raise _UnsatisfiableError(f"one argument has more than {_MAX_ALTERNATIVES} acceptable values")
    return [list(chosen) for chosen in cast(Iterator[tuple[Any, ...]], itertools.product(*choices))]
