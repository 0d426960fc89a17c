"""Schema-valid arguments, sampled: the calls for which the teacher will write requests.

Values come from the team's values file where it lists some, else from the schema (`enum`, `const`, `examples`, ranges,
formats). Choices rotate through shuffled decks, so that every enum value and every listed value gets its turn before
one comes twice. Every sampled call is checked by the validator before it leaves.
"""

import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fcdistill.errors import ConfigError
from fcdistill.generation.parameters import required_parameters, resolve_schema
from fcdistill.generation.values import ValueBook
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.validation import CallValidator

__all__ = ["ArgumentSampler"]

_ATTEMPTS = 40
_FIRST_HOUR, _LAST_HOUR = 7, 22
_LAST_DAY = 600
_MAX_EXTRA_ITEMS = 2
_MAX_OPTIONAL_DEPTH = 4


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

    def sample(self, spec: ToolSpec, optional: Iterable[str]) -> ToolCall:
        """A valid call of a tool.

        Args:
            spec: one of the validator's tools.
            optional: names of the optional parameters to give, beside all required ones.

        Raises:
            ConfigError: no valid value could be made for some parameter; the message names it.
        """
        wanted = set(optional) | set(required_parameters(spec))
        root = resolve_schema(spec.parameters, spec.parameters)
        schemas = {name: schema for name, schema in root.get("properties", {}).items() if name in wanted}
        problem = ""
        for _ in range(_ATTEMPTS):
            arguments = {
                name: self._argument(f"{spec.name}.{name}", schema, spec.parameters, schemas.keys())
                for name, schema in schemas.items()
            }
            call = ToolCall(name=spec.name, arguments=arguments)
            violations = self._validator.check_call(call)
            if not violations:
                return call
            problem = f"{violations[0].pointer}: {violations[0].detail}"
        raise ConfigError(
            f"no valid arguments found for tool {spec.name!r}; the last try failed at {problem}",
            required="values that satisfy the schema",
            fix=f"list some under a key '{spec.name}.<parameter>' of the values file, or `examples` in the schema",
        )

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
        listed = self._book.values(path)
        if "array" in schema.get("type", ()):
            # An array shares its path with its items: texts listed there are items.
            listed = tuple(value for value in listed if isinstance(value, list))
        if listed and "enum" not in schema:
            return self._draw(path, listed)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._draw(path, [value for value in schema["enum"] if value is not None])
        if schema.get("examples"):
            return self._draw(path, schema["examples"])
        for combined in ("anyOf", "oneOf"):
            branches = [branch for branch in schema.get(combined, []) if branch != {"type": "null"}]
            if branches and "properties" not in schema:
                return self.value(self._random.choice(branches), path, root)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        if kind == "object":
            return self._object(schema, path, root)
        if kind == "array":
            return self._array(schema, path, root)
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
        properties, required = schema.get("properties", {}), set(schema.get("required", []))
        # A schema that refers to itself must come to an end.
        share = 0.5 if path.count(".") < _MAX_OPTIONAL_DEPTH else 0.0
        names = [name for name in properties if name in required or self._random.random() < share]
        least = min(int(schema.get("minProperties", 0)), len(properties))
        while len(names) < least:
            names.append(self._random.choice([name for name in properties if name not in names]))
        return {name: self.value(properties[name], f"{path}.{name}", root) for name in properties if name in names}

    def _array(self, schema: Mapping[str, Any], path: str, root: Mapping[str, Any]) -> list[Any]:
        deep = path.count(".") >= _MAX_OPTIONAL_DEPTH
        least = max(0 if deep else 1, int(schema.get("minItems", 0)))
        extra = 0 if deep else _MAX_EXTRA_ITEMS
        most = max(least, min(int(schema.get("maxItems", least + extra)), least + extra))
        size = self._random.choice([least, least, *range(least, most + 1)])
        items: list[Any] = []
        for _ in range(4 * size):
            item = self.value(schema.get("items", {}), path, root)
            if item not in items:
                items.append(item)
            if len(items) == size:
                break
        return items

    def _number(self, schema: Mapping[str, Any], *, integer: bool) -> float:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        step = schema.get("multipleOf", 1 if integer else _plain_step(low, high))
        if low is None:
            low = 0 if high is None or high > 0 else high - 100 * step
        if high is None:
            high = low + 100 * step
        # Multiples of the step; the divisions leave rounding errors that must not cost the last one.
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        value = step * self._random.randint(first, max(first, last))
        return int(value) if float(value).is_integer() else round(value, 10)

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
        raise ConfigError(
            f"parameter {path} takes any text; nothing says which texts are realistic",
            required="some values for it",
            fix=f"list them in the values file under the key {path!r}, or as `examples` in the schema",
        )


def _plain_step(low: float | None, high: float | None) -> float:
    """The step of numbers that people would say: halves, or tenths and less where the range is narrow."""
    if low is None or high is None or high - low >= 5 or high <= low:
        return 0.5
    # Rounded, since a power of ten is not exactly a tenth of the last.
    return float(round(10.0 ** (math.floor(math.log10(high - low)) - 1), 12))
