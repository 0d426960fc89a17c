"""Every field of the configuration with its type, default and meaning, for people."""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from fcdistill.config.config_file import SECTIONS

__all__ = [
    "describe_fields",
]


def describe_fields() -> dict[str, list[tuple[str, str, str, str]]]:
    """Per section, every field as (name, type, default, meaning); fields of subsections as `field.subfield`."""
    return {section: list(_described(config_type, "")) for section, config_type in SECTIONS.items()}


def _described(config_type: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in config_type.model_fields.items():
        members = [member for member in _members(field.annotation) if isinstance(member, type)]
        nested = [member for member in members if issubclass(member, BaseModel)]
        if not nested:
            shown = _type_text(field.annotation)
            default = "required" if field.is_required() else str(field.get_default(call_default_factory=True))
            yield f"{prefix}{name}", shown, default, field.description or ""
        for member in nested:
            yield from _described(member, f"{prefix}{name}.")


def _members(annotation: Any) -> Iterator[Any]:
    """The types of a possibly annotated union."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _type_text(annotation: Any) -> str:
    """A type as users read it: `full | compact | none`, `int`, `list of str`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin is Literal:
        return " | ".join(str(value) for value in arguments)
    if origin in (Union, UnionType):
        return " | ".join(_type_text(member) for member in arguments if member is not NoneType)
    if origin is tuple:
        inner = [_type_text(member) for member in arguments if member is not ...]
        return f"list of {inner[0]}" if ... in arguments else f"[{', '.join(inner)}]"
    if origin is dict:
        return f"{_type_text(arguments[0])} -> {_type_text(arguments[1])}"
    return {"Path": "path", "StrictInt": "int"}.get(annotation.__name__, str(annotation.__name__))
