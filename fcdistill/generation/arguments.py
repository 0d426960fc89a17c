"""Schema-valid arguments, sampled: the calls for which the teacher will write requests.

Values come from the team's values file where it lists some, else from the schema (`enum`, `const`, `examples`, ranges,
formats). Choices rotate through shuffled decks, so that every enum value and every listed value gets its turn before
one comes twice. Every sampled call is checked by the validator before it leaves.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fcdistill.errors import ConfigError
from fcdistill.generation.phrasing import ValueBook, resolve_schema
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.validation import CallValidator

__all__ = ["ArgumentSampler", "optional_parameters", "required_parameters"]

_ATTEMPTS = 40
_MAX_EXTRA_ITEMS = 2


class ArgumentSampler:
    """Samples arguments for the tools of one catalogue; the same seed gives the same sequence."""

    def __init__(self, validator: CallValidator, book: ValueBook, *, seed: int, now: datetime) -> None:
        self._validator = validator
        self._book = book
        self._random = random.Random(seed)
        self._now = now
        self._decks: dict[tuple[str, int], list[Any]] = {}

    def sample(self, spec: ToolSpec, optional: Iterable[str]) -> ToolCall:
        """A valid call of a tool with all required and exactly these optional arguments.

        Raises:
            ConfigError: no valid value could be made for some parameter; the message names it.
        """
        wanted = set(optional) | set(required_parameters(spec))
        root = resolve_schema(spec.parameters, spec.parameters)
        problem = ""
        for _ in range(_ATTEMPTS):
            arguments = {
                name: self._value(schema, f"{spec.name}.{name}", spec.parameters)
                for name, schema in root.get("properties", {}).items()
                if name in wanted
            }
            self._imply(spec.name, arguments)
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

    def _imply(self, tool: str, arguments: dict[str, Any]) -> None:
        """Give an argument the value that others imply: a light with a brightness is on."""
        for name in arguments:
            for entry in self._book.entries.get(f"{tool}.{name}", ()):
                if any(other in arguments for other in entry.implied_by):
                    arguments[name] = entry.value

    def _value(self, schema: Any, path: str, root: Mapping[str, Any]) -> Any:
        schema = resolve_schema(schema, root)
        listed = self._book.values(path)
        if listed and not ("enum" in schema or schema.get("type") == "boolean"):
            return self._draw(path, listed)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._draw(path, schema["enum"])
        for combined in ("anyOf", "oneOf"):
            branches = [branch for branch in schema.get(combined, []) if branch.get("type") != "null"]
            if branches and "properties" not in schema:
                return self._value(self._random.choice(branches), path, root)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        if kind == "object":
            return self._object(schema, path, root)
        if kind == "array":
            return self._array(schema, path, root)
        if schema.get("examples"):
            return self._draw(path, schema["examples"])
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
        names = [name for name in properties if name in required or self._random.random() < 0.5]
        least = min(int(schema.get("minProperties", 0)), len(properties))
        while len(names) < least:
            names.append(self._random.choice([name for name in properties if name not in names]))
        return {name: self._value(properties[name], f"{path}.{name}", root) for name in properties if name in names}

    def _array(self, schema: Mapping[str, Any], path: str, root: Mapping[str, Any]) -> list[Any]:
        least = max(1, int(schema.get("minItems", 0)))
        most = min(int(schema.get("maxItems", least + _MAX_EXTRA_ITEMS)), least + _MAX_EXTRA_ITEMS)
        size = self._random.choice([least, least, *range(least, most + 1)])
        items: list[Any] = []
        for _ in range(4 * size):
            item = self._value(schema.get("items", {}), path, root)
            if item not in items:
                items.append(item)
            if len(items) == size:
                break
        return items

    def _number(self, schema: Mapping[str, Any], *, integer: bool) -> float:
        step = schema.get("multipleOf", 1 if integer else 0.5)
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100 * step))
        value = low + step * self._random.randint(0, max(0, int((high - low) / step)))
        return int(value) if float(value).is_integer() else round(value, 10)

    def _text(self, schema: Mapping[str, Any], path: str) -> str:
        if schema.get("format") in ("date-time", "date", "time"):
            ahead = timedelta(days=self._random.choice([0, 1, 1, 2, 3, 5, 12, 40]), minutes=0)
            day = (self._now + ahead).replace(minute=0, second=0, microsecond=0)
            # Between the next full hour and the last evening hour, so that the time is never past.
            hour = self._random.randint(min(22, self._now.hour + 1) if not ahead.days else 7, 22)
            when = day.replace(hour=hour, minute=self._random.choice([0, 0, 0, 15, 30, 45])).astimezone(UTC)
            text = when.isoformat().replace("+00:00", "Z")
            return {"date-time": text, "date": text[:10], "time": text[11:]}[schema["format"]]
        raise ConfigError(
            f"parameter {path} takes any text; nothing says which texts are realistic",
            required="some values for it",
            fix=f"list them in the values file under the key {path!r}, or as `examples` in the schema",
        )


def required_parameters(spec: ToolSpec) -> list[str]:
    """Names of the required parameters, in the schema's order."""
    return list(resolve_schema(spec.parameters, spec.parameters).get("required", []))


def optional_parameters(spec: ToolSpec) -> list[str]:
    """Names of the optional parameters, in the schema's order."""
    root = resolve_schema(spec.parameters, spec.parameters)
    return [name for name in root.get("properties", {}) if name not in root.get("required", [])]
