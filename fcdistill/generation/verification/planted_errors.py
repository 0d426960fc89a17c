"""Wrong answers made from right ones, to measure what a witness lets through: eight kinds, all valid by the schemas.

Values and calls are taken from other traces, so that a planted error looks like an answer. What is drawn is decided by
the seed and the trace's id, and does not depend on the order of traces.
"""

import copy
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fcdistill.generation.verification.witnesses import is_closed
from fcdistill.records import ToolCall
from fcdistill.records.equality import same_call
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import required_parameters, resolve_schema
from fcdistill.tools.validation import CallValidator

__all__ = ["KINDS", "ErrorKind", "PlantedError", "Planter"]

ErrorKind = Literal[
    "closed_value", "number", "free_text", "dropped_argument", "added_argument", "other_tool", "dropped_call",
    "added_call",
]  # fmt: skip
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
"""Another closed value, another number (or date, or id), another free text; an optional argument less or more; the call
of another tool; a call less or more."""

_STRUCTURED = {"format", "pattern"}
"""Keywords of texts that are dates, times or ids: they count as numbers."""

_Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class PlantedError:
    """A wrong answer.

    Attributes:
        kind: what is wrong with it.
        calls: valid ones.
    """

    kind: ErrorKind
    calls: tuple[ToolCall, ...]


class Planter:
    """Plants errors in the answers of one catalogue.

    Args:
        catalog: the tools.
        validator: of their schemas.
        answers: the calls of traces, from which values are taken.
        seed: another seed plants others.
    """

    def __init__(
        self, catalog: Catalog, validator: CallValidator, answers: Iterable[Sequence[ToolCall]], *, seed: int = 0
    ) -> None:
        self._catalog = catalog
        self._validator = validator
        self._seed = seed
        values: dict[str, dict[str, Any]] = defaultdict(dict)
        made: dict[str, dict[str, ToolCall]] = defaultdict(dict)
        for calls in answers:
            for call in calls:
                made[call.name][_key(call.arguments)] = call
                for path, _, value, _ in self._leaves(call):
                    values[path][_key(value)] = value
                for name, value in call.arguments.items():
                    values[f"{call.name}.{name}"][_key(value)] = value
        # In an order of their own, so that of equal sets of answers the same is drawn.
        self._values = {path: [seen[key] for key in sorted(seen)] for path, seen in values.items()}
        self._calls = {name: [seen[key] for key in sorted(seen)] for name, seen in sorted(made.items())}

    def plant(self, identity: str, calls: Sequence[ToolCall]) -> list[PlantedError]:
        """An error of each kind that these calls can have.

        Args:
            identity: of the trace.
            calls: its right answer, with one call or more.
        """
        found = []
        for kind in KINDS:
            draw = random.Random(f"{self._seed}/{identity}/{kind}")
            wrong = next((each for each in self._changed(kind, calls, draw) if self._is_wrong(each, calls)), None)
            if wrong is not None:
                found.append(PlantedError(kind, tuple(wrong)))
        return found

    def _is_wrong(self, calls: Sequence[ToolCall], right: Sequence[ToolCall]) -> bool:
        """Whether an answer is valid, makes no call twice, and is another one than the right one."""
        twice = any(same_call(one, other) for index, one in enumerate(calls) for other in calls[:index])
        as_right = len(calls) == len(right) and all(any(same_call(one, other) for other in right) for one in calls)
        return not twice and not as_right and not any(self._validator.check_call(call) for call in calls)

    def _changed(self, kind: ErrorKind, calls: Sequence[ToolCall], draw: random.Random) -> Iterator[Sequence[ToolCall]]:
        """Answers with such an error, in an order that is drawn; some may be invalid, or right."""
        places = list(range(len(calls)))
        draw.shuffle(places)
        if kind == "dropped_call":
            yield from ([*calls[:place], *calls[place + 1 :]] for place in places if len(calls) > 1)
        elif kind == "added_call":
            for other in self._other_calls(draw, without=""):
                place = draw.randint(0, len(calls))
                yield [*calls[:place], other, *calls[place:]]
        else:
            for place in places:
                for call in self._changed_call(kind, calls[place], draw):
                    yield [*calls[:place], call, *calls[place + 1 :]]

    def _changed_call(self, kind: ErrorKind, call: ToolCall, draw: random.Random) -> Iterator[ToolCall]:
        if kind == "other_tool":
            for other in self._other_calls(draw, without=call.name):
                taken = {name: value for name, value in call.arguments.items() if name in self._properties(other.name)}
                yield ToolCall(name=other.name, arguments={**other.arguments, **taken})
                yield other
        elif kind in ("dropped_argument", "added_argument"):
            required = required_parameters(self._catalog.by_name[call.name])
            optional = [name for name in self._properties(call.name) if name not in required]
            draw.shuffle(optional)
            for name in optional:
                if kind == "dropped_argument" and name in call.arguments:
                    left = {key: value for key, value in call.arguments.items() if key != name}
                    yield ToolCall(name=call.name, arguments=left)
                if kind == "added_argument" and name not in call.arguments:
                    for value in self._drawn_values(call.name, name, draw):
                        yield ToolCall(name=call.name, arguments={**call.arguments, name: value})
        else:
            leaves = [leaf for leaf in self._leaves(call) if _kind_of(leaf[2], leaf[3], self._root(call.name)) == kind]
            draw.shuffle(leaves)
            for path, steps, value, schema in leaves:
                for other in self._others(path, value, schema, draw):
                    yield ToolCall(name=call.name, arguments=_replaced(call.arguments, steps, other))

    def _other_calls(self, draw: random.Random, *, without: str) -> Iterator[ToolCall]:
        names = [name for name in self._calls if name != without]
        draw.shuffle(names)
        for name in names:
            yield draw.choice(self._calls[name])

    def _drawn_values(self, tool: str, name: str, draw: random.Random) -> list[Any]:
        """Values for a parameter: seen ones, or those that its schema lists."""
        schema = resolve_schema(self._properties(tool)[name], self._root(tool))
        values = self._values.get(f"{tool}.{name}") or _listed(schema, self._root(tool))
        return draw.sample(values, len(values))

    def _others(self, path: str, value: Any, schema: Mapping[str, Any], draw: random.Random) -> list[Any]:
        """Other values in this one's place: listed ones, else seen ones, and neighbours of a number."""
        root = self._root(path.split(".", 1)[0])
        values = _listed(schema, root) or self._values.get(path, [])
        values = [other for other in values if _key(other) != _key(value)]
        draw.shuffle(values)
        if isinstance(value, int | float) and not isinstance(value, bool) and not _listed(schema, root):
            values += [value + step for step in (5, -5, 1, -1, value)]
        return values

    def _leaves(self, call: ToolCall) -> Iterator[tuple[str, _Steps, Any, Mapping[str, Any]]]:
        """Path, place, value and schema of everything in a call's arguments that is neither object nor list."""
        for name, value in call.arguments.items():
            schema = self._properties(call.name).get(name, {})
            yield from _leaves_of(f"{call.name}.{name}", (name,), value, schema, self._root(call.name))

    def _properties(self, tool: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = resolve_schema(self._root(tool), self._root(tool)).get("properties", {})
        return found

    def _root(self, tool: str) -> Mapping[str, Any]:
        return self._catalog.by_name[tool].parameters


def _leaves_of(
    path: str, steps: _Steps, value: Any, schema: Any, root: Mapping[str, Any]
) -> Iterator[tuple[str, _Steps, Any, Mapping[str, Any]]]:
    schema = resolve_schema(schema, root)
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves_of(
                f"{path}.{name}", (*steps, name), part, schema.get("properties", {}).get(name, {}), root
            )
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves_of(path, (*steps, index), part, schema.get("items", {}), root)
    else:
        yield path, steps, value, schema


def _kind_of(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> ErrorKind:
    if is_closed(schema, root) or isinstance(value, bool):
        return "closed_value"
    return "free_text" if isinstance(value, str) and not _STRUCTURED & schema.keys() else "number"


def _listed(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Any]:
    """The values that a schema lists; those of its items, each as a list, where it is of a list."""
    schema = resolve_schema(schema, root)
    if schema.get("type") == "boolean":
        return [True, False]
    if "items" in schema:
        return [[value] for value in _listed(schema["items"], root)]
    return list(schema.get("enum", ()))


def _replaced(arguments: Mapping[str, Any], steps: _Steps, value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(dict(arguments))
    place = changed
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = value
    return dict(changed)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
