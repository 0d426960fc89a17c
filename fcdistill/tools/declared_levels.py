"""What a JSON Schema declares at each place of the arguments: names of properties, and whether others are allowed.

An object level that declares `properties` or `patternProperties` is closed, unless it allows others explicitly with an
`additionalProperties` or `unevaluatedProperties` other than false. Where several schemas apply to one place, the union
of their names is declared; under `anyOf` and `oneOf` the place is closed only if every branch that takes an object is.
This is stricter than JSON Schema, and it judges no values: that is `validation`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fcdistill.tools.json_schema import Draft4Validator, Draft6Validator, Draft7Validator, Validator
from fcdistill.tools.patterns import Pattern, pattern_for
from fcdistill.tools.refs import EndlessReferenceError, Leaf

__all__ = ["Level", "Levels", "Place"]


@dataclass(frozen=True, slots=True)
class _Joined:
    """Schemas that apply to one place: all of them, or under `either` at least one."""

    key: tuple[Any, ...]
    parts: tuple["Place", ...]
    either: bool


Place = Leaf | _Joined


@dataclass(frozen=True, slots=True)
class Level:
    """What may stand at one place of the arguments, over all schemas that apply there.

    Attributes:
        names: the declared properties, each with the schemas of its value (None where it has none).
        patterns: the same for names that match a pattern.
        rest: the schemas of other properties.
        positions: the schemas of an array's first items.
        items: the schemas of its other items.
        takes_objects: whether an object may stand here.
        declares: whether properties are declared, so that others are undeclared.
        allows_others: whether other properties are allowed explicitly.
        depth: how many schemas apply in place one inside the other.
    """

    names: Mapping[str, "Place | None"]
    patterns: tuple[tuple[Pattern, "Place"], ...] = ()
    rest: "Place | None" = None
    positions: tuple["Place", ...] = ()
    items: "Place | None" = None
    takes_objects: bool = True
    declares: bool = False
    allows_others: bool = False
    depth: int = 1

    def named(self, name: str) -> "tuple[bool, Place | None]":
        """Whether a property is declared or free, and the schemas of its value."""
        if name in self.names:
            return True, self.names[name]
        for pattern, place in self.patterns:
            if pattern.found_in(name):
                return True, place
        return self.allows_others or not self.declares, self.rest

    def item(self, index: int) -> "Place | None":
        """The schemas of an item of an array."""
        return self.positions[index] if index < len(self.positions) else self.items


class Levels:
    """The levels of one tool's schema, worked out when they are first met."""

    def __init__(self, dialect: type[Validator], schema: dict[str, Any]) -> None:
        self.root = Leaf.of_document(schema, dialect)
        self._lone_references = dialect in (Draft4Validator, Draft6Validator, Draft7Validator)
        self._known: dict[Any, Level] = {}
        self._unfinished: dict[Any, int] = {}
        """Places that are being worked out, each with how many references had led there."""
        self._followed: list[str] = []

    def at(self, place: Place) -> Level:
        """The level at a place.

        Raises:
            EndlessReferenceError: a schema applies in place to itself.
            UnusableReferenceError: a reference leads out of the schema, or nowhere.
        """
        if place.key in self._unfinished:
            raise EndlessReferenceError(self._followed[self._unfinished[place.key] :])
        if place.key not in self._known:
            self._unfinished[place.key] = len(self._followed)
            try:
                self._known[place.key] = self._of_joined(place) if isinstance(place, _Joined) else self._of_leaf(place)
            finally:
                del self._unfinished[place.key]
        return self._known[place.key]

    def _of_joined(self, place: _Joined) -> Level:
        levels = [self.at(part) for part in place.parts]
        return _either(levels) if place.either else _all(levels)

    def _of_leaf(self, leaf: Leaf) -> Level:
        schema = leaf.schema
        if isinstance(schema, bool):
            return Level({}, takes_objects=schema)
        in_place = [self._behind(leaf, reference) for _, reference in leaf.references()]
        if in_place and self._lone_references and "$ref" in schema:
            return _all(in_place)
        in_place += [self.at(leaf.inside(each)) for each in schema.get("allOf", ())]
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                in_place.append(_either([self.at(leaf.inside(each)) for each in schema[keyword]]))
        conditional = [schema[keyword] for keyword in ("if", "then", "else") if keyword in schema]
        for keyword in ("dependentSchemas", "dependencies"):
            conditional += [each for each in schema.get(keyword, {}).values() if isinstance(each, dict)]
        # What applies on a condition adds names; by itself it closes nothing.
        in_place += [replace(self.at(leaf.inside(each)), declares=False) for each in conditional]
        if "not" in schema:
            self.at(leaf.inside(schema["not"]))  # adds nothing, but may be endless
        return _all([self._own(leaf), *in_place])

    def _behind(self, leaf: Leaf, reference: str) -> Level:
        self._followed.append(reference)
        try:
            return self.at(leaf.follow(reference))
        finally:
            self._followed.pop()

    def _own(self, leaf: Leaf) -> Level:
        """What the schema's own keywords say, those of its subschemas in place left aside."""
        schema = leaf.schema
        types = schema.get("type", "object")
        named = schema.get("patternProperties", {})
        others = [schema[key] for key in ("additionalProperties", "unevaluatedProperties") if key in schema]
        positions = schema.get("prefixItems", schema.get("items"))
        later = schema.get("items") if isinstance(schema.get("items"), dict) else schema.get("additionalItems")
        names: dict[str, Place | None] = dict.fromkeys(schema.get("required", ()))
        names |= {name: leaf.inside(each) for name, each in schema.get("properties", {}).items() if each is not False}
        return Level(
            names=names,
            patterns=tuple(
                (pattern, leaf.inside(each))
                for written, each in named.items()
                if (pattern := pattern_for(written)) is not None
            ),
            rest=_join([leaf.inside(each) for each in others if isinstance(each, dict)], either=False),
            positions=tuple(leaf.inside(each) for each in positions) if isinstance(positions, list) else (),
            items=leaf.inside(later) if isinstance(later, dict) else None,
            takes_objects="object" in ([types] if isinstance(types, str) else types),
            declares="properties" in schema or "patternProperties" in schema,
            # A pattern of names that can't be read might mean any.
            allows_others=any(each is not False for each in others) or None in map(pattern_for, named),
        )


def _join(places: Iterable[Place | None], *, either: bool) -> Place | None:
    """One place for several, without repetitions; None where there is none."""
    distinct: dict[Any, Place] = {}
    for place in places:
        nested = place.parts if isinstance(place, _Joined) and place.either == either else (place,)
        distinct |= {part.key: part for part in nested if part is not None}
    if len(distinct) < 2:
        return next(iter(distinct.values()), None)
    return _Joined((either, *distinct), tuple(distinct.values()), either)


def _all(levels: list[Level]) -> Level:
    """The level where all of these apply."""
    return replace(
        _merged(levels, either=False),
        takes_objects=all(level.takes_objects for level in levels),
        declares=any(level.declares for level in levels),
    )


def _either(levels: list[Level]) -> Level:
    """The level where one of these applies: closed only if each that takes an object is."""
    for_objects = [level.declares for level in levels if level.takes_objects]
    return replace(
        _merged(levels, either=True),
        takes_objects=bool(for_objects),
        declares=bool(for_objects) and all(for_objects),
    )


def _merged(levels: list[Level], *, either: bool) -> Level:
    names: dict[str, list[Place | None]] = {}
    for level in levels:
        for name, place in level.names.items():
            names.setdefault(name, []).append(place)
    num_positions = max((len(level.positions) for level in levels), default=0)
    return Level(
        names={name: _join(places, either=either) for name, places in names.items()},
        patterns=tuple(pattern for level in levels for pattern in level.patterns),
        rest=_join([level.rest for level in levels], either=either),
        positions=tuple(
            place
            for index in range(num_positions)
            if (place := _join([level.item(index) for level in levels], either=either)) is not None
        ),
        items=_join([level.items for level in levels], either=either),
        allows_others=any(level.allows_others for level in levels),
        depth=1 + max((level.depth for level in levels), default=0),
    )
