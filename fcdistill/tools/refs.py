"""References within one JSON Schema document, followed in one way for every reader; nothing is ever fetched.

A reference may be a JSON pointer, also through lists (`#/$defs/A/anyOf/0`), an `$anchor`, or the `$id` of the document
or of a schema in it. What stands beside a `$ref` counts together with its target, except where the dialect ignores it
(draft-07 and older). How two schemas become one is said in `intersection`; whether a document is sound, in
`validation`, which uses the same `Leaf`.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from fcdistill.tools.intersection import CONSTRAINTS, EVALUATING, UNEVALUATED, Join, intersect, join_schemas
from fcdistill.tools.json_schema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft202012Validator,
    Validator,
    dialect_of,
    with_null,
)

__all__ = [
    "DanglingReferenceError",
    "Document",
    "EndlessReferenceError",
    "Leaf",
    "REFERENCE_KEYWORDS",
    "RemoteReferenceError",
    "UnusableReferenceError",
    "document_of",
    "fragment_step",
    "fragment_steps",
    "pointer_step",
    "read_schema",
]

REFERENCE_KEYWORDS = ("$ref", "$dynamicRef", "$recursiveRef")

_MAX_REFERENCES = 64
"""More schemas that apply in place one inside the other are no sound document (see `validation`)."""
_IN_PLACE = frozenset({*REFERENCE_KEYWORDS, "allOf", "nullable"})
_ALTERNATIVES = ("anyOf", "oneOf")
_CLOSED_SETS = frozenset({"enum", "const"})
_BREAKS_NULL = frozenset({"not", "if", "then", "else"})
"""Limits that null may break, though no type and no closed set says so."""
_NULL = {"type": "null"}
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)
"""What the library raises of documents that are no JSON Schema."""
_KEPT_DOCUMENTS = 512


class UnusableReferenceError(Exception):
    """A reference can't be followed."""


class RemoteReferenceError(UnusableReferenceError):
    """A reference leads out of the document."""


class DanglingReferenceError(UnusableReferenceError):
    """A reference leads nowhere."""


class EndlessReferenceError(UnusableReferenceError):
    """A schema applies in place to itself, or more references than are sound lead from one to the next.

    Attributes:
        cycle: the references that lead round, in their order, beginning with the least; empty where there is none.
    """

    def __init__(self, references: Sequence[str] = ()) -> None:
        distinct = list(dict.fromkeys(filter(None, references)))
        first = distinct.index(min(distinct)) if distinct else 0
        self.cycle = (*distinct[first:], *distinct[:first])
        super().__init__(" -> ".join([*self.cycle, *self.cycle[:1]]))


@dataclass(frozen=True, slots=True)
class Leaf:
    """A schema with the base from which its references start."""

    schema: Any
    resolver: Any
    specification: Any

    @classmethod
    def of_document(cls, schema: Mapping[str, Any], dialect: type[Validator]) -> "Leaf":
        """The whole of a document. Raises `DanglingReferenceError` where its own name can't be read."""
        specification = specification_with(str(dialect.META_SCHEMA["$schema"]))
        try:
            resolver: Any = Registry().resolver_with_root(specification.create_resource(schema))
        except _MALFORMED as error:
            raise DanglingReferenceError from error
        return cls(schema, resolver, specification)

    @property
    def key(self) -> int:
        """Identifies the schema as long as it lives."""
        return id(self.schema)

    def inside(self, schema: Any) -> "Leaf":
        """A subschema of this one."""
        resource = self.specification.create_resource(schema)
        try:
            return Leaf(schema, self.resolver.in_subresource(resource), self.specification)
        except _MALFORMED:  # a name that can't be read names nothing
            return Leaf(schema, self.resolver, self.specification)

    def subschemas(self) -> list["Leaf"]:
        """All direct subschemas."""
        found = [each for each in self.specification.subresources_of(self.schema) if isinstance(each, dict | bool)]
        # Of dependencies that mix schemas and lists of names, the library finds none.
        dependent = self.schema.get("dependencies", {}).values() if isinstance(self.schema, dict) else ()
        found += [each for each in dependent if isinstance(each, dict) and not any(each is other for other in found)]
        return [self.inside(each) for each in found]

    def references(self) -> list[tuple[str, str]]:
        """Keyword and target of the references that stand here."""
        named = [(keyword, self.schema.get(keyword)) for keyword in REFERENCE_KEYWORDS]
        return [(keyword, target) for keyword, target in named if isinstance(target, str)]

    def follow(self, reference: str) -> "Leaf":
        """The schema that a reference names.

        Raises:
            RemoteReferenceError: it names another document.
            DanglingReferenceError: it names nothing in this one.
        """
        try:
            resolved = self.resolver.lookup(reference)
        except Unresolvable as error:
            # Of a document that it does not know, the library says no more than this.
            leads_out = type(error) is Unresolvable and not reference.startswith("#")
            raise (RemoteReferenceError if leads_out else DanglingReferenceError)(reference) from None
        except _MALFORMED:  # odd pointers
            raise DanglingReferenceError(reference) from None
        return Leaf(resolved.contents, resolved.resolver, self.specification)

    def reachable(self) -> Iterator["Leaf"]:
        """This schema and all in or behind it that are objects, each once; what can't be followed is passed over."""
        pending = [self]
        reached: set[int] = set()
        while pending:
            leaf = pending.pop()
            if leaf.key in reached or not isinstance(leaf.schema, dict):
                continue
            reached.add(leaf.key)
            yield leaf
            try:
                pending += leaf.subschemas()
            except _MALFORMED:
                continue
            for _, reference in leaf.references():
                try:
                    pending.append(leaf.follow(reference))
                except UnusableReferenceError:
                    continue


class Document:
    """One schema document, and what its references come to.

    Schemas are known by identity: each subschema keeps the base from which its references start, wherever a reader
    found it. A schema that the document does not hold is read from the document's own base.

    Args:
        schema: the whole document; it is not changed, and must not be while this lives.
        dialect: whose rules count.

    Raises:
        DanglingReferenceError: the document's own name can't be read.
    """

    def __init__(self, schema: Mapping[str, Any], dialect: type[Validator]) -> None:
        self.root = Leaf.of_document(schema, dialect)
        self._lone_references = dialect in (Draft4Validator, Draft6Validator, Draft7Validator)
        self._leaves = {leaf.key: leaf for leaf in self.root.reachable()}
        self._joined: dict[tuple[int, ...], dict[str, Any]] = {}
        self._parts: dict[int, tuple[Any, ...]] = {}
        self._resolved: dict[int, Any] = {}
        self._told: dict[int, frozenset[str]] = {}

    def resolved(self, schema: Any) -> Any:
        """An equal schema without references, in place, and with its `allOf` taken in as far as that is exact.

        Where `nullable` allows null, it is among the types.

        What applies further down (to properties, items, alternatives) stays as it is written. A schema that says
        nothing of this kind is returned itself.

        Raises:
            UnusableReferenceError: a reference in place can't be followed, or leads back to where it stands.
        """
        if not isinstance(schema, dict) or _IN_PLACE.isdisjoint(schema):
            return schema
        return self._resolve(self.leaf(schema), (), ())

    def tersely(self, schema: dict[str, Any]) -> Any:
        """What `resolved` says, without what stands beside alternatives that all say it too."""
        found = self.resolved(schema)
        told = self._told.get(id(found), frozenset())
        return {keyword: value for keyword, value in found.items() if keyword not in told} if told else found

    def is_plain(self) -> bool:
        """Whether nothing in the document refers to anything, and null is allowed by types alone."""
        return not any(leaf.references() or "nullable" in leaf.schema for leaf in self._leaves.values())

    def leaf(self, schema: dict[str, Any]) -> Leaf:
        """A schema with its base."""
        return self._leaves.get(id(schema)) or self.root.inside(schema)

    def is_joined(self, schema: Any) -> bool:
        """Whether a schema was made by `join`."""
        return id(schema) in self._parts

    def ignores_siblings(self, schema: Mapping[str, Any]) -> bool:
        """Whether a schema's reference alone counts, and nothing that stands beside it."""
        return self._lone_references and "$ref" in schema

    def _resolve(self, leaf: Leaf, inside: tuple[int, ...], references: tuple[str, ...]) -> Any:
        """What a schema comes to, met inside of these schemas, which lead from one to the next by these references."""
        schema = leaf.schema
        if not isinstance(schema, dict) or _IN_PLACE.isdisjoint(schema):
            return schema
        if leaf.key in self._resolved:
            return self._resolved[leaf.key]
        if leaf.key in inside:
            raise EndlessReferenceError(references[inside.index(leaf.key) :])
        if len(inside) > _MAX_REFERENCES:
            raise EndlessReferenceError
        within = (*inside, leaf.key)
        followed = leaf.references()[: 1 if self.ignores_siblings(schema) else None]
        parts = [self._resolve(leaf.follow(reference), within, (*references, reference)) for _, reference in followed]
        if self.ignores_siblings(schema):
            resolved = parts[0] if parts else {}
        else:
            all_of = schema.get("allOf")
            parts += [
                self._resolve(self._leaves.get(id(each)) or leaf.inside(each), within, (*references, ""))
                for each in (all_of if isinstance(all_of, list) else ())
            ]
            own = {keyword: value for keyword, value in with_null(schema).items() if keyword not in _IN_PLACE}
            # Only what is kept may be told apart by identity later.
            resolved = self._taken_in(own, parts, self._join if leaf.key in self._leaves else join_schemas)
        if leaf.key in self._leaves:
            self._resolved[leaf.key] = resolved
        return resolved

    def _taken_in(self, own: dict[str, Any], parts: Sequence[Any], join: Join) -> Any:
        """One schema for its own keywords and for parts that are resolved."""
        if any(part is False for part in parts):
            return False
        if not own and len(parts) == 1:
            return parts[0]
        parts = [part for part in parts if isinstance(part, dict) and part]
        merged, left = own, []
        told: set[str] = set()
        for part in parts:
            if UNEVALUATED & part.keys() and (len(parts) > 1 or (EVALUATING | UNEVALUATED) & own.keys()):
                left.append(part)  # it must not see what its neighbours evaluate
                continue
            left += part.get("allOf", ())
            plain = {keyword: value for keyword, value in part.items() if keyword != "allOf"}
            told = _told(merged, plain, told) | _told(plain, merged, told)
            outer = _narrowed(merged, plain, join)
            inner = _narrowed(
                plain, merged, lambda schemas: join(schemas[::-1])
            )  # names and values in the outer's order
            merged, rest = intersect(outer, inner, join)
            # Who reads a closed set asks for no alternatives.
            merged = {keyword: value for keyword, value in merged.items() if keyword not in told & _CLOSED_SETS}
            left += [rest] if rest else []
        resolved = {**merged, "allOf": left} if left else merged
        if told and join == self._join:
            self._told[id(resolved)] = frozenset(told)
        return resolved

    def _join(self, schemas: Sequence[Any]) -> Any:
        """What `join_schemas` says; the same schemas give the same object, so that what holds itself has an end."""
        flat = [part for schema in schemas for part in self._parts.get(id(schema), (schema,))]
        joined = join_schemas(flat)
        if any(joined is part for part in flat) or not isinstance(joined, dict):
            return joined
        parts = tuple(joined["allOf"])
        key = tuple(map(id, parts))
        if key not in self._joined:
            self._joined[key] = joined
            self._parts[id(joined)] = parts
            self._leaves[id(joined)] = self.root.inside(joined)
        return self._joined[key]


def _narrowed(schema: dict[str, Any], beside: Mapping[str, Any], join: Join) -> dict[str, Any]:
    """The schema with what stands beside it said in each of its alternatives too, which readers take one by one."""
    limits = {keyword: value for keyword, value in beside.items() if keyword in CONSTRAINTS}
    changed = {}
    for keyword in _ALTERNATIVES:
        branches = schema.get(keyword)
        if limits and isinstance(branches, list):
            possible = [each for each in branches if each != _NULL or _takes_null(limits)]
            # Of null, nothing but a closed set and a type says anything, and the schema itself keeps the other limits.
            changed[keyword] = [each if each == _NULL else join([each, limits]) for each in possible] or [False]
    return {**schema, **changed}


def _told(schema: Mapping[str, Any], beside: Mapping[str, Any], before: Set[str]) -> set[str]:
    """The keywords beside a schema that each of its alternatives says once more."""
    branches = [schema[keyword] for keyword in _ALTERNATIVES if isinstance(schema.get(keyword), list)]
    if not branches:
        return set()
    said_by_all = CONSTRAINTS - (_BREAKS_NULL if any(_NULL in each for each in branches) else frozenset())
    return {keyword for keyword in beside if keyword in said_by_all and (keyword not in schema or keyword in before)}


def _takes_null(limits: Mapping[str, Any]) -> bool:
    kinds = limits.get("type", "null")
    listed = limits.get("enum", [limits.get("const")])
    return "null" in ([kinds] if isinstance(kinds, str) else kinds) and any(value is None for value in listed)


@dataclass(frozen=True, slots=True)
class _Known:
    """A document by identity: dicts have no hash, and those that are equal need not have the same subschemas."""

    schema: Mapping[str, Any]

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and other.schema is self.schema


def document_of(root: Mapping[str, Any]) -> Document:
    """The document that these parameters are, in the dialect that they name, or the newest where it is unknown.

    Raises:
        DanglingReferenceError: the document's own name can't be read.
    """
    return _document(_Known(root))


def read_schema(schema: Any, root: Mapping[str, Any]) -> Any:
    """What `Document.resolved` says; of references that can't be followed nothing but what stands beside them.

    Args:
        schema: of the document.
        root: the document; it must not be changed in place afterwards.
    """
    if not isinstance(schema, dict) or _IN_PLACE.isdisjoint(schema):
        return schema
    try:
        return document_of(root).resolved(schema)
    except UnusableReferenceError:
        return {keyword: value for keyword, value in with_null(schema).items() if keyword not in REFERENCE_KEYWORDS}


def pointer_step(step: str | int) -> str:
    """A name or an index as a JSON pointer holds it (RFC 6901, section 3)."""
    return str(step).replace("~", "~0").replace("/", "~1")


def fragment_step(name: str) -> str:
    """A name as the JSON pointer of a reference holds it (RFC 6901, section 6)."""
    return quote(pointer_step(name), safe="!$&'()*+,;=:@?")


def fragment_steps(pointer: str) -> list[tuple[str, str, str]]:
    """The steps of a reference's JSON pointer: the slash before each and the step as written, and what it means."""
    parts = re.split("(/|%2[Ff])", pointer)[1:]
    return [
        (slash, step, unquote(step).replace("~1", "/").replace("~0", "~"))
        for slash, step in zip(parts[::2], parts[1::2], strict=True)
    ]


@functools.lru_cache(maxsize=_KEPT_DOCUMENTS)
def _document(known: _Known) -> Document:
    return Document(known.schema, dialect_of(known.schema) or Draft202012Validator)
