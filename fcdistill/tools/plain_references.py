"""A schema document written anew so that all its references are plain ones: each a `$ref` to a definition.

Null is among the types where `nullable` allows it. For readers that follow no other reference, such as the library
behind constrained decoding. What the references come to is said in `refs`; what a grammar can enforce is not known
here.
"""

import itertools
from typing import Any

from fcdistill.tools.intersection import CONSTRAINTS, EVALUATING, UNEVALUATED
from fcdistill.tools.json_schema import with_null
from fcdistill.tools.refs import Document, fragment_step, pointer_step

__all__ = ["with_plain_references"]

_CONTAINERS = ("$defs", "definitions")
_LEFT_BEHIND = frozenset({"$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", *_CONTAINERS})
"""What only references of other kinds ask for."""
_JUDGING = CONSTRAINTS | EVALUATING | UNEVALUATED | {"allOf"}
"""Keywords beside a reference that make a schema of their own."""
_ONE_BELOW = frozenset(
    "additionalItems additionalProperties contains contentSchema else if items not propertyNames then unevaluatedItems "
    "unevaluatedProperties".split()
)
_LISTED_BELOW = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_NAMED_BELOW = frozenset({"dependencies", "dependentSchemas", "patternProperties", "properties"})


def with_plain_references(document: Document) -> tuple[dict[str, Any], dict[str, str]]:
    """An equal document in which every reference is a `$ref` to a definition, with annotations alone beside it.

    It has no other base, no anchors and no definition that nothing refers to. A document without references and
    without `nullable` is returned itself.

    Args:
        document: all of whose references can be followed.

    Returns:
        The document, and where the definitions that it adds come from: by JSON pointer, the pointer of the place that
        refers to it, or the reference.

    Raises:
        UnusableReferenceError: a reference can't be followed.
    """
    schema: dict[str, Any] = document.root.schema
    return (schema, {}) if document.is_plain() else _PlainWriter(document).written()


class _PlainWriter:
    """Writes a document anew with definitions for all that its references lead to, and for nothing else."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._schema: dict[str, Any] = document.root.schema
        self._names: dict[int, tuple[str, str]] = {}
        """Container and name of definitions, by identity of what they are for: the document's own and added ones."""
        for container in _CONTAINERS:
            for name, each in self._schema.get(container, {}).items():
                self._names.setdefault(id(each), (container, name))
        self._wanted: dict[tuple[str, str], dict[str, Any]] = {}
        self._origins: dict[str, str] = {}

    def written(self) -> tuple[dict[str, Any], dict[str, str]]:
        root = self._document.resolved(self._schema)
        if isinstance(root, bool):
            root = {"type": "object"} if root else {"type": "object", "not": {}}
        dialect = {"$schema": self._schema["$schema"]} if "$schema" in self._schema else {}
        plain = self._below(root | dialect, "")
        definitions: dict[tuple[str, str], dict[str, Any]] = {}
        while ahead := self._wanted.keys() - definitions.keys():
            for place in sorted(ahead):
                pointer = f"/{place[0]}/{pointer_step(place[1])}"
                definitions[place] = self._below(self._wanted[place], self._origins.get(pointer, pointer))
        for container in _CONTAINERS:
            found = {name: each for (holder, name), each in sorted(definitions.items()) if holder == container}
            plain |= {container: found} if found else {}
        return plain, self._origins

    def _plain(self, schema: Any, pointer: str) -> Any:
        """What stands in a schema's place."""
        if not self._refers(schema):
            return self._below(schema, pointer) if isinstance(schema, dict) else schema
        references = self._document.leaf(schema).references()
        beside = {} if self._document.ignores_siblings(schema) else schema
        origin = pointer
        if _JUDGING.isdisjoint(beside) and len(references) == 1:
            origin = references[0][1]
            schema = self._document.leaf(schema).follow(origin).schema
        # A target that refers to something else itself is no definition as it stands.
        found = self._document.tersely(schema) if self._refers(schema) else schema
        return {"$ref": self._definition(schema, found, origin)} if isinstance(found, dict) else found

    def _refers(self, schema: Any) -> bool:
        return isinstance(schema, dict) and (
            self._document.is_joined(schema) or bool(self._document.leaf(schema).references())
        )

    def _definition(self, place: dict[str, Any], schema: dict[str, Any], origin: str) -> str:
        """A reference to the definition for a place, which holds this schema."""
        if id(place) not in self._names:
            taken = {name for _, name in self._names.values()}
            name = next(name for number in itertools.count() if (name := f"r{number}") not in taken)
            self._names[id(place)] = ("$defs", name)
            self._origins[f"/$defs/{name}"] = origin
        container, name = self._names[id(place)]
        self._wanted.setdefault((container, name), schema)
        return f"#/{container}/{fragment_step(name)}"

    def _below(self, schema: dict[str, Any], pointer: str) -> dict[str, Any]:
        """The schema with what stands below it written anew."""

        def inner(part: Any, *steps: str | int) -> Any:
            return self._plain(part, "/".join([pointer, *map(pointer_step, steps)]))

        written: dict[str, Any] = {}
        for keyword, value in with_null(schema).items():
            if keyword in _LEFT_BEHIND:
                continue
            if keyword in _NAMED_BELOW and isinstance(value, dict):
                written[keyword] = {name: inner(part, keyword, name) for name, part in value.items()}
            elif keyword in _LISTED_BELOW and isinstance(value, list):
                written[keyword] = [inner(part, keyword, index) for index, part in enumerate(value)]
            else:
                written[keyword] = inner(value, keyword) if keyword in _ONE_BELOW else value
        return written
