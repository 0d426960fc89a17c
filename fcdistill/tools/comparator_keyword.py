"""What a team writes into its tools' schemas for this kit alone, and what nobody else may see: `x-comparator`.

An annotation stands beside the keywords of a parameter, where people look for it, and is taken out when the catalogue
is read: prompts, servers and traces get the schema without it. What a comparator means is not known here (it belongs to
the evaluation).
"""

from collections.abc import Iterator
from typing import Any

from referencing import Specification
from referencing.jsonschema import specification_with

from fcdistill.errors import CatalogError
from fcdistill.records import ToolSpec
from fcdistill.tools.json_schema import Draft202012Validator, dialect_of

__all__ = ["COMPARATOR_KEYWORD", "split_comparators"]

COMPARATOR_KEYWORD = "x-comparator"


def split_comparators(spec: ToolSpec, origin: str) -> tuple[ToolSpec, dict[str, str]]:
    """The tool without its annotations, and these by `tool.param`.

    Args:
        spec: a tool whose schema is valid.
        origin: where it stands, for errors.

    Raises:
        CatalogError: an annotation is no text, or stands elsewhere than at a parameter.
    """
    properties = dict(spec.parameters.get("properties", {}))
    comparators: dict[str, str] = {}
    for name, schema in properties.items():
        if not isinstance(schema, dict) or COMPARATOR_KEYWORD not in schema:
            continue
        text = schema[COMPARATOR_KEYWORD]
        if not isinstance(text, str):
            raise CatalogError(
                f"{origin}: {COMPARATOR_KEYWORD} of {spec.name}.{name} is {text!r}",
                required="a comparator as text, such as casefold or numeric(0.5)",
                fix="write it in quotes",
            )
        comparators[f"{spec.name}.{name}"] = text
        properties[name] = {key: value for key, value in schema.items() if key != COMPARATOR_KEYWORD}
    if comparators:
        spec = spec.model_copy(update={"parameters": {**spec.parameters, "properties": properties}})
    named = dialect_of(spec.parameters) or Draft202012Validator
    dialect = specification_with(str(named.META_SCHEMA["$schema"]))
    if any(COMPARATOR_KEYWORD in schema for schema in _schemas(spec.parameters, dialect)):
        raise CatalogError(
            f"{origin}: {spec.name} has an {COMPARATOR_KEYWORD} that does not belong to a parameter",
            required="it stands directly in the schema of a parameter (one of the tool's `properties`)",
            fix="move it there: a comparator holds for everything below its parameter",
        )
    return spec, comparators


def _schemas(schema: Any, dialect: Specification[Any]) -> Iterator[dict[str, Any]]:
    """A schema and all schemas below it: values that look like schemas, such as defaults, are none."""
    if isinstance(schema, dict):
        yield schema
        for inner in dialect.subresources_of(schema):
            yield from _schemas(inner, dialect)
