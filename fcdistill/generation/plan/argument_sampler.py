"""Schema-valid arguments, sampled: the calls for which the teacher will write requests.

Values come from the team's values file where it lists some, else from the schema (`enum`, `const`, `examples`, ranges,
formats), else from what is realistic for a pattern, a format or a name. Choices rotate through shuffled decks, so that
every enum value and every listed value gets its turn before one comes twice. Every sampled call is checked by the
validator before it leaves.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fcdistill.errors import ConfigError
from fcdistill.generation.plan.edges import call_edges, edge_number, number_range
from fcdistill.generation.plan.realistic import RealisticTexts
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.tools.parameters import (
    all_members,
    listed_values,
    members,
    resolve_schema,
    schemas_at,
    suggested_types,
    together,
)
from fcdistill.tools.validation import CallValidator

__all__ = ["ArgumentSampler"]

_ATTEMPTS = 40
_FIRST_HOUR, _LAST_HOUR = 7, 22
_LAST_DAY = 600
_MAX_EXTRA_ITEMS = 2
_MAX_OPTIONAL_DEPTH = 4
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int, float),
    "null": (type(None),),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


class ArgumentSampler:
    """Samples arguments for the tools of one catalogue; the same seed gives the same sequence.

    Args:
        validator: knows the tools.
        book: the team's values.
        seed: of all choices.
        now: sampled dates and times lie after it; UTC where it has no time zone.
    """

    def __init__(self, validator: CallValidator, book: ValueBook, *, seed: int, now: datetime) -> None:
        self._validator = validator
        self._book = book
        self._random = random.Random(seed)
        self._now = now.astimezone(UTC) if now.tzinfo else now.replace(tzinfo=UTC)
        self._decks: dict[tuple[str, int], list[Any]] = {}
        self._texts = RealisticTexts(seed)
        self._edge = ("", "")
        self._open_arrays: Counter[str] = Counter()
        """By path, the arrays that the value being made lies in: arrays of arrays share theirs."""

    def sample(self, spec: ToolSpec, optional: Iterable[str]) -> ToolCall:
        """A valid call of a tool.

        Args:
            spec: one of the validator's tools.
            optional: names of the optional parameters to give, beside all that they and the schema require; of a tool
                with alternatives, as many of them as one has.

        Raises:
            ConfigError: no valid value could be made for some parameter; the message names it.
        """
        chosen, problem, steps = set(optional), "", [""]
        for _ in range(_ATTEMPTS):
            call = self._try(spec, chosen)
            violations = self._validator.check_call(call)
            if not violations:
                return call
            # Some schemas require an argument only beside certain others, or certain values of them.
            chosen.update(_steps(each.pointer)[0] for each in violations if each.code == "missing_required")
            problem = f"{violations[0].pointer}: {violations[0].detail}"
            steps = _steps(violations[0].pointer)
        place = ".".join(step for step in steps if not step.isdigit())
        named = place if schemas_at(spec.parameters, place) else "<parameter>"
        raise ConfigError(
            f"no valid arguments found for tool {spec.name!r}; the last try failed at {problem}",
            required="values that satisfy the schema",
            fix=f"list some in the values file under the key '{spec.name}.{named}', or as `examples` in the schema",
        )

    def sample_edge(self, spec: ToolSpec, optional: Iterable[str], path: str, edge: str) -> ToolCall | None:
        """A valid call with an argument on an edge of what its schema allows; None where none was found.

        Args:
            spec: one of the validator's tools.
            optional: names of the optional parameters to give; that of `path` is given in any case.
            path: of the argument, below the tool.
            edge: as `edges.schema_edges` names it.
        """
        chosen = {*optional, path.split(".")[0]}
        self._edge = (f"{spec.name}.{path}", edge)
        try:
            for _ in range(_ATTEMPTS):
                call = self._try(spec, chosen)
                if call_edges(call, spec).get(path) == edge and not self._validator.check_call(call):
                    return call
        finally:
            self._edge = ("", "")
        return None

    def _try(self, spec: ToolSpec, optional: Collection[str]) -> ToolCall:
        """A call that may be valid."""
        root = self._one_branch(resolve_schema(spec.parameters, spec.parameters), spec.parameters, optional)
        wanted = {*optional, *root.get("required", ())}
        for name in list(wanted):
            wanted.update(root.get("dependentRequired", {}).get(name, ()))
        schemas = {name: schema for name, schema in members(root, spec.parameters).items() if name in wanted}
        arguments = {
            name: self._argument(f"{spec.name}.{name}", schema, spec.parameters, schemas.keys())
            for name, schema in schemas.items()
        }
        return ToolCall(name=spec.name, arguments=arguments)

    def _argument(self, path: str, schema: Any, root: Mapping[str, Any], given: Collection[str]) -> Any:
        """A value, or the one that other arguments imply: a light with a brightness is on."""
        for entry in self._book.entries.get(path, ()):
            if any(other in given for other in entry.implied_by):
                return entry.value
        return self.value(schema, path, root)

    def value(self, schema: Any, path: str, root: Mapping[str, Any]) -> Any:
        """A realistic value for one place of a tool's arguments; whether the call is valid with it is not checked.

        Args:
            schema: what the value must satisfy.
            path: `tool.param` or `tool.param.inner`.
            root: the tool's parameters, for references.
        """
        schema = resolve_schema(schema, root)
        edge = self._edge[1] if path == self._edge[0] else ""
        if edge in ("minimum", "maximum"):
            number = edge_number(schema, edge, integer=_kind(schema) == "integer")
            if number is not None:
                return number
        if not schema.get("examples") or {"const", "enum"} & schema.keys():
            schema = self._one_branch(schema, root)
        kind = _kind(schema)
        # An array shares its path with its items, and alternatives theirs: what is listed there need not be for here.
        listed = [value for value in self._book.values(path) if _is_of_kind(value, schema, kind)]
        if listed and not {"const", "enum"} & schema.keys() and not self._edge[0].startswith(f"{path}."):
            return self._draw(path, listed)
        values = listed_values(schema, root)
        if values is not None:
            said = [value for value in values if value is not None]
            return self._draw(path, said) if said else None
        if schema.get("examples"):
            return self._draw(path, schema["examples"])
        if kind == "object":
            return self._object(schema, path, root)
        if kind == "array":
            return self._array(schema, path, root, edge)
        if kind == "boolean":
            # False is hardly ever said; a request that leaves the argument out means it.
            return True
        if kind in ("integer", "number"):
            return self._number(schema, integer=kind == "integer")
        if kind == "null":
            return None
        return self._text(schema, path)

    def _draw(self, path: str, choices: Sequence[Any]) -> Any:
        key = (path, len(choices))
        deck = self._decks.get(key)
        if not deck:
            deck = self._decks[key] = self._random.sample(list(choices), len(choices))
        return deck.pop()

    def _object(self, schema: Mapping[str, Any], path: str, root: Mapping[str, Any]) -> dict[str, Any]:
        required = set(schema.get("required", []))
        properties = members(schema, root)
        # A schema that refers to itself must come to an end.
        share = 0.5 if path.count(".") < _MAX_OPTIONAL_DEPTH else 0.0
        names = [
            name
            for name in properties
            if name in required or self._random.random() < share or (self._edge[0] + ".").startswith(f"{path}.{name}.")
        ]
        least = min(int(schema.get("minProperties", 0)), len(properties))
        while len(names) < least:
            names.append(self._random.choice([name for name in properties if name not in names]))
        return {name: self.value(properties[name], f"{path}.{name}", root) for name in properties if name in names}

    def _array(self, schema: Mapping[str, Any], path: str, root: Mapping[str, Any], edge: str) -> list[Any]:
        deep = path.count(".") + self._open_arrays[path] >= _MAX_OPTIONAL_DEPTH
        first, rest = _item_schemas(schema)
        least = max(0 if deep else 1, int(schema.get("minItems", 0)), len(first))
        extra = 0 if deep or rest is False else _MAX_EXTRA_ITEMS
        most = max(least, min(int(schema.get("maxItems", least + extra)), least + extra))
        size = self._random.choice([least, least, *range(least, most + 1)])
        if edge in ("minItems", "maxItems"):
            size = int(schema.get(edge, size))
        if "contains" in schema and not first:
            first = [{"allOf": [rest, schema["contains"]]}] * int(schema.get("minContains", 1))
            size = max(size, len(first))
        self._open_arrays[path] += 1
        try:
            return self._items(first, rest, path, root, size=size, least=least, unique=bool(schema.get("uniqueItems")))
        finally:
            self._open_arrays[path] -= 1

    def _items(
        self, first: list[Any], rest: Any, path: str, root: Mapping[str, Any], *, size: int, least: int, unique: bool
    ) -> list[Any]:
        items: list[Any] = []
        for _ in range(4 * size):
            item = self.value(first[len(items)] if len(items) < len(first) else rest, path, root)
            if item not in items or len(items) < len(first) and not unique:
                items.append(item)
            if len(items) >= size:
                break
        while len(items) < least and not unique:
            items.append(self.value(rest, path, root))  # there are no more that differ
        return items

    def _number(self, schema: Mapping[str, Any], *, integer: bool) -> float:
        allowed = number_range(schema, integer=integer)
        return allowed.number(self._random.randint(allowed.first, max(allowed.first, allowed.last)))

    def _text(self, schema: Mapping[str, Any], path: str) -> str:
        if schema.get("format") in ("date-time", "date", "time"):
            far = self._random.randint(40, _LAST_DAY)
            days = self._random.choice([0, 1, 1, 2, 3, 5, 12, far, far, far])
            if days == 0 and self._now.hour >= _LAST_HOUR:
                days = 1
            day = (self._now + timedelta(days=days)).replace(minute=0, second=0, microsecond=0)
            # From the next full hour on, so that the time is never past.
            hour = self._random.randint(self._now.hour + 1 if days == 0 else _FIRST_HOUR, _LAST_HOUR)
            when = day.replace(hour=hour, minute=self._random.choice([0, 0, 0, 15, 30, 45]))
            text = when.isoformat().replace("+00:00", "Z")
            return {"date-time": text, "date": text[:10], "time": text[11:]}[schema["format"]]
        realistic = self._texts.draw(path.rpartition(".")[2], schema)
        if realistic is None and isinstance(schema.get("default"), str):
            return str(schema["default"])
        if realistic is not None:
            return realistic
        raise ConfigError(
            f"parameter {path} takes any text; nothing says which texts are realistic",
            required="some values for it",
            fix=f"list them in the values file under the key {path!r}, or as `examples` in the schema",
        )

    def _one_branch(
        self, schema: Mapping[str, Any], root: Mapping[str, Any], wanted: Collection[str] = ()
    ) -> dict[str, Any]:
        """The schema with all of its `allOf` and one branch of its `anyOf` and `oneOf` taken in.

        Of branches that go with the rest, it is one that has the most of the wanted members.
        """
        merged = dict(schema)
        for _ in range(_ATTEMPTS):
            keyword = next((each for each in ("allOf", "anyOf", "oneOf") if merged.get(each)), None)
            if keyword is None:
                break
            parts = merged.pop(keyword)
            if keyword == "allOf":
                for part in parts:
                    merged = together(merged, resolve_schema(part, root)) or merged
                continue
            branches = [branch for branch in parts if branch != {"type": "null"}]
            possible = [each for branch in branches if (each := together(merged, resolve_schema(branch, root)))]
            num_wanted = [len(set(wanted) & all_members(each, root)[0].keys()) for each in possible]
            best = [each for each, num in zip(possible, num_wanted, strict=True) if num == max(num_wanted)]
            merged = self._random.choice(best) if best else merged
        return merged


def _kind(schema: Mapping[str, Any]) -> str:
    """The type of the values that are made for a schema."""
    kinds = suggested_types(schema) or ["string"]
    return next((kind for kind in kinds if kind != "null"), "null")


def _steps(pointer: str) -> list[str]:
    """The names and indices on the way to a place of a call."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]] or [""]


def _is_of_kind(value: Any, schema: Mapping[str, Any], kind: str) -> bool:
    """Whether a value has a type that the schema names; one that names none, and is of no other kind, takes any."""
    kinds = schema.get("type", kind)
    if "type" not in schema and kind == "string":
        return True
    return any(type(value) in _PYTHON_TYPES.get(each, ()) for each in ([kinds] if isinstance(kinds, str) else kinds))


def _item_schemas(schema: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """The schemas of an array's first items, and that of all others; false where nothing says what these would be.

    Before 2020-12, `items` may list the first.
    """
    first, rest = schema.get("prefixItems"), schema.get("items", "prefixItems" not in schema)
    if first is None and isinstance(rest, list):
        first, rest = rest, schema.get("additionalItems", False)
    return list(first or ()), rest
