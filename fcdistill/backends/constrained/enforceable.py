"""Tools' parameters as JSON Schemas that a decoding grammar enforces exactly, or what stands in the way.

The result accepts only what `validation` calls valid: objects are closed where `declared_levels` says so, and formats
are as strict as the validator's. What is open says so: `additionalProperties` and `items` are never left out where
they are not false, and `true` stands for any value. A keyword that the grammar would leave out is a problem and never
ignored. It is narrower than the parameters where nobody misses anything: arguments come in the schema's order, numbers
have at most 18 digits before the point and no exponent, and a place that declares properties and no type holds an
object. How the grammar is written and used is not known here (`call_grammar`, `constraint`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcdistill.backends.constrained.raw_text import REAL_DAY, is_long
from fcdistill.records import ToolSpec
from fcdistill.tools.declared_levels import Levels
from fcdistill.tools.json_schema import Validator, dialect_of
from fcdistill.tools.plain_references import with_plain_references
from fcdistill.tools.refs import Document, Leaf, pointer_step

__all__ = ["FARTHEST", "Unenforceable", "enforceable_schema", "is_set"]

_ENFORCED = frozenset(
    "$ref additionalItems additionalProperties allOf anyOf const enum exclusiveMaximum exclusiveMinimum format items "
    "maxItems maxLength maxProperties maximum minItems minLength minProperties minimum multipleOf oneOf pattern "
    "patternProperties prefixItems properties propertyNames required type".split()
)
_ENFORCED_FORMATS = frozenset("date date-time duration email hostname ipv4 ipv6 time uri uuid".split())

_STRICTER = {
    "date": f"^{REAL_DAY}",
    "date-time": f"^{REAL_DAY}[-0-9]*[tT][0-9]{{2}}:[0-9]{{2}}:[0-5]",
    "time": "^[0-9]{2}:[0-9]{2}:[0-5]",
    "hostname": "^.{1,253}$",
}
"""Where the grammar's format admits what the validator refuses: 29 February in any year, second 60, long names."""

_VALUES = frozenset({"const", "enum"})
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
FARTHEST = 10**18
"""Numbers lie between its negative and itself: a bounded one has no exponent and no endless digits, which could lead
beyond the numbers of a machine."""
_MAX_SET_VALUES = 64
"""Grammar rules carry so many bits."""
_JOINING = ("$ref", "allOf", "anyOf", "oneOf")
_TYPES = ["string", "number", "boolean", "null", "array", "object"]
_IMPLIED = {
    "object": {"properties", "patternProperties", "additionalProperties", "propertyNames", "required"},
    "array": {"items", "prefixItems"},
}
"""What a place without a type is meant for, by the keywords that speak of nothing else."""
_NAMED_BY = frozenset({"type", "pattern", "minLength", "maxLength", "description", "title"})
_CONTAINERS = frozenset({"$defs", "definitions"})
_LONG_NAME = 32
"""Names that may have as many characters do not run out, so that an object need not repeat one."""
_OPEN_BESIDE = "opens a place that other schemas describe too"


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
    if origins or _refers(parameters):
        for container in _CONTAINERS & parameters.keys():
            parts = parameters[container]
            inside = {name: f"/{container}/{pointer_step(name)}" for name in parts}
            schema |= {container: {name: writer.place(writer.inside(parts[name]), inside[name]) for name in parts}}
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


def _refers(schema: Any) -> bool:
    """Whether a `$ref` stands somewhere outside of the definitions of a document whose references are plain."""
    if isinstance(schema, list):
        return any(map(_refers, schema))
    if not isinstance(schema, dict):
        return False
    return "$ref" in schema or any(_refers(part) for name, part in schema.items() if name not in _CONTAINERS)


class _Writer:
    """Rewrites one tool's schema and collects its problems."""

    def __init__(self, tool: str, dialect: type[Validator], schema: dict[str, Any], origins: Mapping[str, str]) -> None:
        self.levels = Levels(dialect, schema)
        self.problems: list[Unenforceable] = []
        self._tool = tool
        self._origins = origins
        self._unenforced = frozenset(dialect.VALIDATORS) - _ENFORCED
        self._checked_formats = frozenset(dialect.FORMAT_CHECKER.checkers)

    def inside(self, schema: Any) -> Leaf:
        """A subschema of the document."""
        return self.levels.root.inside(schema)

    def place(self, leaf: Leaf, pointer: str) -> Any:
        """The schema of all that may stand at a place of the arguments."""
        schema = leaf.schema
        if isinstance(schema, bool):
            return schema
        if not _VALUES.isdisjoint(schema):
            return self._rewritten(leaf, pointer)
        if set(_JOINING).isdisjoint(schema):
            return self._plain_place(leaf, pointer)
        if (delegates := self._delegates(leaf)) is not None:
            return self._rewritten(leaf, pointer, places=delegates)
        level = self.levels.at(leaf)
        if not level.takes_objects:
            return self._rewritten(leaf, pointer)
        for keyword, is_open in (
            ("patternProperties", bool(level.patterns)),
            ("additionalProperties", level.allows_others),
            ("type", not level.declares and bool(pointer)),
        ):
            if is_open:
                self._refuse(pointer, keyword, _OPEN_BESIDE)
                break
        undescribed = [name for name, place in level.names.items() if place is None]
        if undescribed:
            self._refuse(pointer, "required", f"names {undescribed[0]!r}, which properties does not declare")
        written = self._rewritten(leaf, pointer, joined=True)
        own = written.pop("properties", {})
        # A name that only a schema in place declares is added here, since here all others are forbidden.
        added = {name: True for name in level.names if name not in own}
        return {**written, "properties": own | added, "additionalProperties": False}

    def _plain_place(self, leaf: Leaf, pointer: str) -> Any:
        """The schema of a place that no other schema in place speaks of: what it leaves open is said."""
        schema = leaf.schema
        implied = [kind for kind, keywords in _IMPLIED.items() if not keywords.isdisjoint(schema)]
        kinds = _types(schema) or (implied if len(implied) == 1 else _TYPES)
        written = self._rewritten(leaf, pointer, kinds=kinds)
        if _ENFORCED.isdisjoint(schema):
            return True
        if "object" in kinds:
            written |= self._object(leaf, pointer, written)
        if "array" in kinds:
            is_tuple = isinstance(written.get("items"), list)
            written.setdefault("additionalItems" if is_tuple else "items", True)
        return {**written, "type": kinds[0] if len(kinds) == 1 else kinds}

    def _object(self, leaf: Leaf, pointer: str, written: dict[str, Any]) -> dict[str, Any]:
        """What the schema of objects says beside its rewritten keywords."""
        level, schema = self.levels.at(leaf), leaf.schema
        undescribed = {name: True for name, place in level.names.items() if place is None}
        properties = {**written.get("properties", {}), **undescribed}
        patterns = schema.get("patternProperties", {})
        others = written.get("additionalProperties", not level.declares and bool(pointer))
        matched = [name for name in properties for pattern in patterns if re.search(pattern, name)]
        if len(patterns) > 1 or patterns and (matched or others is not False):
            self._refuse(pointer, "patternProperties", "is enforced for one pattern that no other name matches")
        names = written.pop("propertyNames", True)
        if isinstance(names, dict) and (listed := names.get("enum", [names["const"]] if "const" in names else None)):
            # Names out of a few are optional arguments.
            properties |= {name: others for name in listed if isinstance(name, str) and name not in properties}
            others, names = False, True
        if not _NAMED_BY.issuperset(names if isinstance(names, dict) else ()) or names is False:
            self._refuse(pointer, "propertyNames", "is enforced for lists of names, lengths and patterns only")
        elif isinstance(names, dict) and not {"pattern", "minLength", "maxLength"}.isdisjoint(names):
            if patterns or properties or others is False:
                self._refuse(pointer, "propertyNames", "is not enforced beside properties")
            written["propertyNames"] = names
        limits = names if isinstance(names, dict) else {}
        limiting = [*patterns, *([limits["pattern"]] if "pattern" in limits else [])]
        if limits.get("maxLength", _LONG_NAME) < _LONG_NAME or not all(map(is_long, limiting)):
            keyword = "patternProperties" if patterns else "propertyNames"
            self._refuse(pointer, keyword, "allows only short names, which may run out")
        return {"properties": properties, "additionalProperties": others}

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

    def _rewritten(
        self,
        leaf: Leaf,
        pointer: str,
        *,
        places: Sequence[Any] = (),
        joined: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> Any:
        """A schema whose subschemas are rewritten and whose keywords are enforced.

        Args:
            leaf: the schema.
            pointer: where it stands.
            places: those of its schemas in place that are places of their own.
            joined: whether others declare arguments at the same place.
            kinds: the types of the values where it alone says what stands here.
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

        self._check_keywords(leaf, pointer, joined=joined, alone=kinds is not None)
        written: dict[str, Any] = {}
        for keyword, value in schema.items():
            if keyword in ("properties", "patternProperties"):
                written[keyword] = {name: inner(part, keyword, name) for name, part in value.items()}
            elif keyword == "additionalItems" and not isinstance(schema.get("items"), list):
                continue  # it speaks of what follows the places of a list
            elif keyword in (*_JOINING, "prefixItems", "items") and isinstance(value, list):
                written[keyword] = [inner(part, keyword, index) for index, part in enumerate(value)]
            elif keyword in ("items", "additionalItems", "additionalProperties"):
                written[keyword] = inner(value, keyword)
            elif keyword == "$schema" or (keyword in _ENFORCED and keyword != "format"):
                written[keyword] = value
        if is_set(schema):
            written["uniqueItems"] = True
        named_format = schema.get("format")
        if named_format in self._checked_formats:
            written["format"] = named_format
            if named_format in _STRICTER:
                written["allOf"] = [*written.get("allOf", ()), {"pattern": _STRICTER[named_format]}]
        if not {"number", "integer"}.isdisjoint(kinds or _types(schema)) and _VALUES.isdisjoint(schema):
            given = [abs(schema[bound]) for bound in _BOUNDS if type(schema.get(bound)) in (int, float)]
            farthest = max([FARTHEST, *(10 * each for each in given)])
            for bound, least in (("minimum", -farthest), ("maximum", farthest)):
                if bound not in schema and type(schema.get(f"exclusive{bound.title()}")) not in (int, float):
                    written[bound] = least
        return written

    def _check_keywords(self, leaf: Leaf, pointer: str, *, joined: bool, alone: bool) -> None:
        schema = leaf.schema
        idle = {"uniqueItems"} if joined else {"uniqueItems", "unevaluatedProperties"}  # with the value false
        for keyword in self._unenforced.intersection(schema):
            if keyword == "uniqueItems" and is_set(schema) and alone:
                continue
            if schema[keyword] is not False or keyword not in idle:
                only = " but for lists of enum values" if keyword == "uniqueItems" else ""
                self._refuse(pointer, keyword, f"is not enforced{only}")
        checked = schema.get("format") in self._checked_formats
        if checked and schema["format"] not in _ENFORCED_FORMATS:
            self._refuse(pointer, "format", f"{schema['format']!r} is not enforced")
        if schema.get("multipleOf", 1) % 1:
            self._refuse(pointer, "multipleOf", "is enforced for whole numbers only")
        if joined and "$ref" in schema and self.levels.at(leaf.follow(schema["$ref"])).declares:
            self._refuse(pointer, "$ref", "adds arguments to others that are declared beside it")
        if not alone and "propertyNames" in schema:
            self._refuse(pointer, "propertyNames", _OPEN_BESIDE)
        open_items = "items" not in schema and schema.get("maxItems") != 0 and not alone
        if "array" in _types(schema) and open_items and _VALUES.isdisjoint(schema):
            self._refuse(pointer, "items", f"is missing and so {_OPEN_BESIDE}")

    def _refuse(self, pointer: str, keyword: str, detail: str) -> None:
        place = "/".join(pointer.split("/")[:3])
        if place in self._origins:
            pointer = self._origins[place] + pointer.removeprefix(place)
        self.problems.append(Unenforceable(self._tool, pointer, keyword, detail))


def _types(schema: Mapping[str, Any]) -> list[str]:
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else list(named)
