"""Which value an omitted argument stands for, as its JSON Schema says.

Knows the few keywords that lead to a `default`, and nothing of how values are compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fcdistill.tools.refs import read_schema

__all__ = ["Defaults", "MISSING"]


class _Missing(Enum):
    MISSING = "missing"


MISSING = _Missing.MISSING
"""Stands for an argument that was left out; no JSON value equals it."""


@dataclass(frozen=True)
class Defaults:
    """Where the defaults of a value's properties stand: its JSON Schema, and the document that holds the schema.

    Follows `properties`, `items` and what applies in place in any case (references, `allOf`), no other keyword.
    """

    schema: Mapping[str, Any]
    root: Mapping[str, Any]

    @classmethod
    def of_document(cls, root: Mapping[str, Any]) -> "Defaults":
        """The defaults of a value whose schema is the whole document."""
        return cls(root, root)._at(root) or cls({}, root)

    def of(self, name: str) -> Any:
        """The default of an optional property, or `MISSING`."""
        inner = self.below(name)
        required = self.schema.get("required", ())
        return MISSING if inner is None or name in required else inner.schema.get("default", MISSING)

    def below(self, name: str) -> "Defaults | None":
        """The same for the value of a property."""
        properties = self.schema.get("properties")
        return self._at(properties.get(name)) if isinstance(properties, Mapping) else None

    def element(self) -> "Defaults | None":
        """The same for the elements of an array."""
        return self._at(self.schema.get("items"))

    def _at(self, schema: object) -> "Defaults | None":
        found = read_schema(schema, self.root)
        return Defaults(found, self.root) if isinstance(found, Mapping) and found else None
