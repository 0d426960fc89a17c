"""What all records are made of."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "Frozen",
    "Record",
]


class Frozen(BaseModel):
    """A value inside a record; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Record(Frozen):
    """A line of a file."""

    schema_version: Literal[1] = 1
