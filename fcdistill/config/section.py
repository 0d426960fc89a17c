"""What all sections are made of."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from fcdistill.records import ToolsInPrompt

__all__ = [
    "ConfigModel",
    "Dtype",
    "ToolsInPrompt",
    "with_default_tag",
]

Dtype = Literal["float32", "bfloat16", "float16"]


class ConfigModel(BaseModel):
    """A mapping of fields; unknown ones are refused."""

    # Numbers and switches are strict: YAML's `yes` must not become 1, nor "10" a number.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def with_default_tag(value: Any, key: str, tag: str, default: str) -> Any:
    """The values of a section, in which the mapping under `key` says of which kind it is, even where users do not."""
    if isinstance(value, dict) and isinstance(value.get(key), dict) and tag not in value[key]:
        return {**value, key: {tag: default, **value[key]}}
    return value
