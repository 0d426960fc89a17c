"""What all sections are made of: fields, and rules of what they must not be together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from fcdistill.records import ToolsInPrompt

__all__ = [
    "ConfigModel",
    "Dtype",
    "Rule",
    "ToolsInPrompt",
    "with_default_tag",
]

Dtype = Literal["float32", "bfloat16", "float16"]

S = TypeVar("S", bound="ConfigModel")


@dataclass(frozen=True)
class Rule(Generic[S]):
    """What the fields of a section, each of which is right by itself, must not be together.

    Attributes:
        broken: whether a section breaks the rule.
        message: what is wrong and what to do about it; a callable where it names values of the section, which is asked
            only where the rule is broken.
    """

    broken: Callable[[S], bool]
    message: str | Callable[[S], str]


class ConfigModel(BaseModel):
    """A mapping of fields; unknown ones are refused.

    Attributes:
        rules: what the fields must keep together, those of a base first; the first that is broken is named.
    """

    # Numbers and switches are strict: YAML's `yes` must not become 1, nor "10" a number.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    rules: ClassVar[tuple[Rule[Any], ...]] = ()

    @classmethod
    def spelled_out(cls, values: Any) -> Any:
        """The values as they are given, in which what may be written shorter is written out."""
        return values

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, values: Any) -> Any:
        return cls.spelled_out(values)

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> Self:
        for rule in self.rules:
            if rule.broken(self):
                raise ValueError(rule.message if isinstance(rule.message, str) else rule.message(self))
        return self


def with_default_tag(value: Any, key: str, tag: str, default: str) -> Any:
    """The values of a section, in which the mapping under `key` says of which kind it is, even where users do not."""
    if isinstance(value, dict) and isinstance(value.get(key), dict) and tag not in value[key]:
        return {**value, key: {tag: default, **value[key]}}
    return value
