"""Two JSON Schemas as one for the values that satisfy both, keyword by keyword.

Where both restrict the same, the tighter holds. What no keyword can say exactly is left over and never guessed: two
patterns, two steps of which neither is whole, a closed object beside names that only a pattern allows. References are
not followed here (`refs`): both schemas have none that apply in place.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcdistill.records.equality import same_value
from fcdistill.tools.patterns import pattern_for

__all__ = ["CONSTRAINTS", "EVALUATING", "Join", "UNEVALUATED", "intersect", "join_schemas"]

Schema = Any
"""A dict or a boolean."""
Join = Callable[[Sequence[Schema]], Schema]
"""Gives a schema for the values that satisfy all of these."""

UNEVALUATED = frozenset({"unevaluatedProperties", "unevaluatedItems"})
"""Keywords whose sense depends on the schema that they stand in, and on all that applies in place there."""
_IDENTITY = frozenset(
    "$schema $id id $anchor $dynamicAnchor $recursiveAnchor $vocabulary $defs definitions $comment".split()
)
"""What says which schema this is: the intersection is the first one's."""
_LEAST = frozenset({"minLength", "minItems", "minProperties"})
_MOST = frozenset({"maxLength", "maxItems", "maxProperties"})
_BY_NAME = frozenset({"dependentRequired", "dependentSchemas", "dependencies"})
_EQUAL_ONLY = frozenset({"const", "pattern", "format", "not", "anyOf", "oneOf"})
"""Keywords of which one can't say what two say, unless they say the same."""
_GROUPS: dict[str, tuple[str, ...]] = {
    keyword: group
    for group in (
        ("minimum", "exclusiveMinimum"),
        ("maximum", "exclusiveMaximum"),
        ("properties", "patternProperties", "additionalProperties"),
        ("prefixItems", "items", "additionalItems"),
        ("contains", "minContains", "maxContains"),
        ("if", "then", "else"),
    )
    for keyword in group
}
"""Keywords that mean something together only."""
CONSTRAINTS = frozenset(
    {"type", "enum", "required", "multipleOf", "uniqueItems", "propertyNames"}
    | _LEAST
    | _MOST
    | _BY_NAME
    | (_EQUAL_ONLY - {"anyOf", "oneOf"})
    | _GROUPS.keys()
)
"""Keywords that a value can break by themselves; alternatives and what applies in place aside."""
EVALUATING = frozenset(
    "properties patternProperties additionalProperties prefixItems items additionalItems contains anyOf oneOf if then "
    "else not dependentSchemas dependencies".split()
)
"""Keywords that decide what is left for the unevaluated ones."""


def join_schemas(schemas: Sequence[Schema]) -> Schema:
    """A schema for the values that satisfy all of these: one of them where that is enough, else their `allOf`."""
    distinct = {id(schema): schema for schema in schemas if schema is not True}
    if any(schema is False for schema in schemas):
        return False
    if len(distinct) < 2:
        return next(iter(distinct.values()), True)
    return {"allOf": list(distinct.values())}


def intersect(one: Mapping[str, Any], other: Mapping[str, Any], join: Join) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema for the values that satisfy both, and what of the other one could not be said in it.

    Annotations, and keywords that JSON Schema does not know, are the first one's where both have them.

    Args:
        one: a schema without `$ref` and `allOf`.
        other: such a schema, without unevaluated keywords wherever the first evaluates anything.
        join: for the schemas that stand below, such as those of one property.

    Returns:
        (merged, rest): a value satisfies both schemas where it satisfies merged and rest. The rest is empty where
        everything could be merged.
    """
    merged = dict(one)
    rest: dict[str, Any] = {}
    seen: set[str] = set()
    for keyword in other:
        group = _GROUPS.get(keyword, (keyword,))
        if keyword in _IDENTITY or group[0] in seen:
            continue
        seen.add(group[0])
        theirs = {name: other[name] for name in group if name in other}
        ours = {name: one[name] for name in group if name in one}
        both = _both(group[0], ours, theirs, join) if ours else theirs
        if both is None:
            rest |= theirs
            continue
        for name in group:
            merged.pop(name, None) if name not in both else merged.update({name: both[name]})
    return merged, rest


def _both(name: str, ours: dict[str, Any], theirs: dict[str, Any], join: Join) -> dict[str, Any] | None:
    """The keywords of one group that say what both say; None where nothing says it exactly."""
    if name in ("minimum", "maximum"):
        return _bounds(ours, theirs, name, f"exclusive{name.capitalize()}", max if name == "minimum" else min)
    if name == "properties":
        return _members(ours, theirs, join)
    if name == "prefixItems":
        is_plain = ours.keys() == theirs.keys() == {"items"} and not any(
            isinstance(each["items"], list) for each in (ours, theirs)
        )
        return {"items": join([ours["items"], theirs["items"]])} if is_plain else _equal(ours, theirs)
    if name in ("contains", "if") or name in _EQUAL_ONLY:
        return _equal(ours, theirs)
    if name not in CONSTRAINTS:
        return ours
    found = _one_keyword(name, ours[name], theirs[name], join)
    return None if found is None else {name: found}


def _one_keyword(name: str, one: Any, other: Any, join: Join) -> Any:
    """The value of a keyword that says what both values say; None where none does."""
    if name == "type":
        return _types(one, other)
    if name == "propertyNames":
        return join([one, other])
    if isinstance(one, list) and isinstance(other, list):
        if name == "enum":
            return [value for value in one if any(same_value(value, each) for each in other)] or None
        return list(dict.fromkeys([*one, *other])) if name == "required" else None
    if isinstance(one, dict) and isinstance(other, dict) and name in _BY_NAME:
        return _by_name(one, other, join)
    if isinstance(one, bool) and isinstance(other, bool) and name == "uniqueItems":
        return one or other
    if _is_number(one) and _is_number(other):
        if name in _LEAST | _MOST:
            return max(one, other) if name in _LEAST else min(one, other)
        if name == "multipleOf" and isinstance(one, int) and isinstance(other, int):
            return math.lcm(one, other)
    return one if same_value(one, other) else None


def _equal(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any] | None:
    return ours if same_value(ours, theirs) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _types(one: Any, other: Any) -> Any:
    """Every integer is a number too."""
    first, second = ([each] if isinstance(each, str) else each for each in (one, other))
    if not isinstance(first, list) or not isinstance(second, list):
        return None
    found = []
    for kind in first:
        if kind in second:
            found.append(kind)
        elif kind in ("integer", "number") and {"integer", "number"} & set(second):
            found.append("integer")
    found = list(dict.fromkeys(found))
    if found == first:
        return one
    return (found[0] if len(found) == 1 else found) or None


def _bounds(
    ours: dict[str, Any], theirs: dict[str, Any], inclusive: str, exclusive: str, tighter: Callable[..., Any]
) -> dict[str, Any] | None:
    """The tighter bounds. Draft-04 says with a boolean that a bound is not allowed itself."""
    limits = [each[inclusive] for each in (ours, theirs) if inclusive in each]
    beyond = [each[exclusive] for each in (ours, theirs) if exclusive in each]
    if all(map(_is_number, limits + beyond)):
        found = {inclusive: limits, exclusive: beyond}
        return {name: tighter(values) for name, values in found.items() if values}
    if not all(map(_is_number, limits)) or not all(isinstance(each, bool) for each in beyond) or len(limits) < 2:
        return None
    limit = tighter(limits)
    is_exclusive = any(each.get(exclusive) and each[inclusive] == limit for each in (ours, theirs))
    return {inclusive: limit, exclusive: True} if is_exclusive else {inclusive: limit}


def _by_name(one: dict[str, Any], other: dict[str, Any], join: Join) -> dict[str, Any] | None:
    """What depends on a name: lists of names together, and schemas joined."""
    found = {**other, **one}
    for name in one.keys() & other.keys():
        values = (one[name], other[name])
        if all(isinstance(each, list) for each in values):
            found[name] = list(dict.fromkeys([*one[name], *other[name]]))
        elif any(isinstance(each, list) for each in values):
            return None
        else:
            found[name] = join(values)
    return found


def _members(ours: dict[str, Any], theirs: dict[str, Any], join: Join) -> dict[str, Any] | None:
    """The members of an object. What one side does not name must satisfy what it says of all others."""
    first, second = _Side.of(ours), _Side.of(theirs)
    if first is None or second is None:
        return None
    sides = (first, second)
    for side, beside in (sides, sides[::-1]):
        if side.is_closed and beside.patterns.keys() - side.patterns.keys():
            return None  # no keyword says "names that match one pattern, and not the other"
    if None in map(pattern_for, (*first.patterns, *second.patterns)):
        return None  # nobody can say which names it means
    found = {
        name: join([part for side in sides for part in side.named(name)])
        for name in (first.properties | second.properties)
    }
    others = [side.others for side in sides if side.others is not None]
    merged: dict[str, Any] = {"additionalProperties": join(others)} if others else {}
    if merged.get("additionalProperties") is False:
        found = {name: each for name, each in found.items() if each is not False}
    if found or "properties" in ours or "properties" in theirs:
        merged["properties"] = found
    if first.patterns or second.patterns:
        merged["patternProperties"] = {
            pattern: join([side.patterns[pattern] for side in sides if pattern in side.patterns])
            for pattern in (first.patterns | second.patterns)
        }
    return merged


@dataclass(frozen=True)
class _Side:
    """What one of two schemas says of an object's members."""

    properties: dict[str, Schema]
    patterns: dict[str, Schema]
    others: Schema | None

    @classmethod
    def of(cls, group: dict[str, Any]) -> "_Side | None":
        properties, patterns = group.get("properties", {}), group.get("patternProperties", {})
        is_sound = isinstance(properties, dict) and isinstance(patterns, dict)
        return cls(properties, patterns, group.get("additionalProperties")) if is_sound else None

    @property
    def is_closed(self) -> bool:
        return self.others is not None and self.others is not True and self.others != {}

    def named(self, name: str) -> list[Schema]:
        """The schemas that a property of this name must satisfy, those of patterns aside, which stay."""
        if name in self.properties:
            return [self.properties[name]]
        if not self.is_closed or any(pattern.found_in(name) for pattern in map(pattern_for, self.patterns) if pattern):
            return []
        return [self.others]
