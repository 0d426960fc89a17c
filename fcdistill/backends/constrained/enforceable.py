"""Tools' parameters as JSON Schemas that a decoding grammar enforces exactly, or what stands in the way.

The result accepts only what `validation` calls valid: objects are closed where `declared_levels` says so, and formats
are as strict as the validator's. A keyword that the grammar would leave out is a problem and never ignored. It is
narrower than the parameters in notation only: arguments come in the schema's order, numbers have no exponent. How the
grammar is written and used is not known here (`call_grammar`, `constraint`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcdistill.records import ToolSpec
from fcdistill.tools.declared_levels import Levels
from fcdistill.tools.json_schema import Validator, dialect_of
from fcdistill.tools.plain_references import with_plain_references
from fcdistill.tools.refs import Document, Leaf, pointer_step

__all__ = ["Unenforceable", "enforceable_schema", "is_set"]

_ENFORCED = frozenset(
    "$ref additionalItems additionalProperties allOf anyOf const enum exclusiveMaximum exclusiveMinimum format items "
    "maxItems maxLength maxProperties maximum minItems minLength minProperties minimum multipleOf oneOf pattern "
    "patternProperties prefixItems properties required type".split()
)
_NEEDED = frozenset({"$schema", "$id", "id", "$anchor", "$defs", "definitions"})
"""What judges nothing by itself, but leads to what does."""
_ENFORCED_FORMATS = frozenset("date date-time duration email hostname ipv4 ipv6 time uri uuid".split())

_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_REAL_DAY = f"(?:{_YEAR}-(?:0[13-9]|1[0-2]|02-(?:[01]|2[0-8]))|{_LEAP_YEAR}-02-29)"
_STRICTER = {
    "date": f"^{_REAL_DAY}",
    "date-time": f"^{_REAL_DAY}[-0-9]*[tT][0-9]{{2}}:[0-9]{{2}}:[0-5]",
    "time": "^[0-9]{2}:[0-9]{2}:[0-5]",
    "hostname": "^.{1,253}$",
}
"""Where the grammar's format admits what the validator refuses: 29 February in any year, second 60, long names."""

_VALUES = frozenset({"const", "enum"})
_BOUNDS = _VALUES | frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_WITHOUT_EXPONENT = {"anyOf": [{"minimum": 0}, {"maximum": 0}]}
"""Any number; but of a bounded one the grammar knows no exponent, which could lead beyond the numbers of a machine."""
_MAX_SET_VALUES = 64
"""Grammar rules carry so many bits."""
_JOINING = ("$ref", "allOf", "anyOf", "oneOf")
_REPEATING = "names that no grammar keeps from repeating"


@dataclass(frozen=True)
class Unenforceable:
    """What of a tool's parameters a grammar can't enforce.

    Attributes:
        tool: its name.
        pointer: JSON pointer into its parameters.
        keyword: the JSON Schema keyword.
        detail: what is wrong with it.
    """

    tool: str
    pointer: str
    keyword: str
    detail: str

    def __str__(self) -> str:
        return f"tool {self.tool!r}, {self.pointer or '/'}: {self.keyword} {self.detail}"


def enforceable_schema(spec: ToolSpec) -> tuple[dict[str, Any], list[Unenforceable]]:
    """A tool's parameters for a grammar, and what of them it could not enforce: use the first where there is none.

    Args:
        spec: a tool whose parameters `validation.check_spec` finds right.
    """
    dialect = dialect_of(spec.parameters)
    assert dialect is not None
    # What the grammar's library makes of other references need not be what the validator does.
    parameters, origins = with_plain_references(Document(spec.parameters, dialect))
    writer = _Writer(spec.name, dialect, parameters, origins)
    schema = writer.place(writer.levels.root, "")
    return schema, writer.problems


def is_set(schema: Any) -> bool:
    """Whether a schema is that of an array of distinct values out of a few: `uniqueItems` can be enforced here only."""
    if not isinstance(schema, dict) or schema.get("uniqueItems") is not True or schema.get("type") != "array":
        return False
    items = schema.get("items")
    return (
        _ENFORCED.intersection(schema) <= {"type", "items", "minItems", "maxItems"}
        and isinstance(items, dict)
        and _ENFORCED.intersection(items) <= {"type", "enum"}
        and 1 <= len(items.get("enum", ())) <= _MAX_SET_VALUES
        and not any(isinstance(value, dict | list) for value in items["enum"])
    )


class _Writer:
    """Rewrites one tool's schema and collects its problems."""

    def __init__(self, tool: str, dialect: type[Validator], schema: dict[str, Any], origins: Mapping[str, str]) -> None:
        self.levels = Levels(dialect, schema)
        self.problems: list[Unenforceable] = []
        self._tool = tool
        self._origins = origins
        self._unenforced = frozenset(dialect.VALIDATORS) - _ENFORCED
        self._checked_formats = frozenset(dialect.FORMAT_CHECKER.checkers)
        is_plain = _ENFORCED.intersection(schema) <= {"type", "properties", "required", "additionalProperties"}
        names = schema.get("properties", ()) if is_plain else ()
        self._own_arguments = {f"/properties/{pointer_step(name)}" for name in names}

    def place(self, leaf: Leaf, pointer: str) -> Any:
        """The schema of all that may stand at a place of the arguments."""
        schema, level = leaf.schema, self.levels.at(leaf)
        if schema is True:
            self._refuse(pointer, "true", f"allows objects with {_REPEATING}")
        if isinstance(schema, bool):
            return schema
        if not level.takes_objects or "enum" in schema or "const" in schema:
            return self._rewritten(leaf, pointer)
        if (delegates := self._delegates(leaf)) is not None:
            return self._rewritten(leaf, pointer, places=delegates)
        if level.patterns:
            self._refuse(pointer, "patternProperties", f"allows {_REPEATING}")
        elif level.allows_others:
            self._refuse(pointer, "additionalProperties", f"allows {_REPEATING}")
        elif not level.declares and pointer:
            missing = "" if "type" in schema else "is missing and so "
            self._refuse(pointer, "type", f"{missing}allows objects with {_REPEATING}")
        undescribed = [name for name, place in level.names.items() if place is None]
        if undescribed:
            self._refuse(pointer, "required", f"names {undescribed[0]!r}, which properties does not declare")
        written = self._rewritten(leaf, pointer, joined=not set(_JOINING).isdisjoint(schema))
        own = written.pop("properties", {})
        # A name that only a schema in place declares is added here, since here all others are forbidden.
        added = {name: True for name in level.names if name not in own}
        return {**written, "properties": own | added, "additionalProperties": False}

    def _delegates(self, leaf: Leaf) -> list[Any] | None:
        """The schemas in place that alone say what stands here, each a place of its own; None where there are none."""
        schema = leaf.schema
        joining = [keyword for keyword in _JOINING if keyword in schema]
        if len(joining) != 1 or not {"properties", "patternProperties"}.isdisjoint(schema):
            return None
        if joining == ["$ref"]:
            return []
        parts: list[Any] = schema[joining[0]]
        if joining != ["allOf"] or len(parts) == 1:
            return parts
        declaring = [part for part in parts if self.levels.at(leaf.inside(part)).declares]
        return declaring if len(declaring) == 1 else None

    def _rewritten(self, leaf: Leaf, pointer: str, *, places: Sequence[Any] = (), joined: bool = False) -> Any:
        """A schema whose subschemas are rewritten and whose keywords are enforced.

        Args:
            leaf: the schema.
            pointer: where it stands.
            places: those of its schemas in place that are places of their own.
            joined: whether others declare arguments at the same place.
        """
        schema = leaf.schema
        if isinstance(schema, bool):
            return schema

        def inner(part: Any, *steps: str | int) -> Any:
            where = "/".join([pointer, *map(pointer_step, steps)])
            in_place = steps[0] in _JOINING and not any(part is each for each in places)
            if in_place:
                return self._rewritten(leaf.inside(part), where, joined=joined)
            return self.place(leaf.inside(part), where)

        self._check_keywords(leaf, pointer, joined=joined)
        written: dict[str, Any] = {}
        for keyword, value in schema.items():
            if keyword in ("properties", "$defs", "definitions"):
                written[keyword] = {name: inner(part, keyword, name) for name, part in value.items()}
            elif keyword in (*_JOINING, "prefixItems", "items", "additionalItems") and isinstance(value, list):
                written[keyword] = [inner(part, keyword, index) for index, part in enumerate(value)]
            elif keyword in ("items", "additionalItems") and value is not False:
                written[keyword] = inner(value, keyword)
            elif keyword in _NEEDED or (keyword in _ENFORCED and keyword != "format"):
                written[keyword] = value
        if is_set(schema):
            written["uniqueItems"] = True
        also: list[Any] = []
        named_format = schema.get("format")
        if named_format in self._checked_formats:
            written["format"] = named_format
            also += [{"pattern": _STRICTER[named_format]}] if named_format in _STRICTER else []
        if "number" in _types(schema) and _BOUNDS.isdisjoint(schema):
            also.append(_WITHOUT_EXPONENT)
        if also:
            written["allOf"] = [*written.get("allOf", ()), *also]
        return written

    def _check_keywords(self, leaf: Leaf, pointer: str, *, joined: bool) -> None:
        schema = leaf.schema
        idle = {"uniqueItems"} if joined else {"uniqueItems", "unevaluatedProperties"}  # with the value false
        for keyword in self._unenforced.intersection(schema):
            if keyword == "uniqueItems" and is_set(schema) and pointer in self._own_arguments:
                continue
            if schema[keyword] is not False or keyword not in idle:
                only = " but for lists of enum values, as arguments of the tool" if keyword == "uniqueItems" else ""
                self._refuse(pointer, keyword, f"is not enforced{only}")
        checked = schema.get("format") in self._checked_formats
        if checked and schema["format"] not in _ENFORCED_FORMATS:
            self._refuse(pointer, "format", f"{schema['format']!r} is not enforced")
        if schema.get("multipleOf", 1) % 1:
            self._refuse(pointer, "multipleOf", "is enforced for whole numbers only")
        if joined and "$ref" in schema and self.levels.at(leaf.follow(schema["$ref"])).declares:
            self._refuse(pointer, "$ref", "adds arguments to others that are declared beside it")
        open_items = "items" not in schema and schema.get("maxItems") != 0
        if "array" in _types(schema) and open_items and _VALUES.isdisjoint(schema):
            self._refuse(pointer, "items", f"is missing and so allows objects with {_REPEATING}")

    def _refuse(self, pointer: str, keyword: str, detail: str) -> None:
        place = "/".join(pointer.split("/")[:3])
        if place in self._origins:
            pointer = self._origins[place] + pointer.removeprefix(place)
        self.problems.append(Unenforceable(self._tool, pointer, keyword, detail))


def _types(schema: Mapping[str, Any]) -> list[str]:
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else list(named)
