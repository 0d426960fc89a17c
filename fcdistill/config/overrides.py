"""How the command line changes the values of a section before they are checked: flags, and `--set`.

A flag has its field's name, and both override what the file says of the field. Which flags a command has is not known
here, nor which values are right.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcdistill.config.strict_yaml import YAML_ERRORS, parse_yaml
from fcdistill.errors import ConfigError

__all__ = ["flag_of", "with_flags", "with_overrides"]


@dataclass(frozen=True)
class _Override:
    """One `--set`.

    Attributes:
        text: as it was given.
        path: the steps to the field.
        value: what it becomes.
    """

    text: str
    path: tuple[str, ...]
    value: Any


def flag_of(field: str) -> str:
    """The flag of a field, or of a field of a subsection, as it is written on the command line."""
    return "--" + field.rpartition(".")[2].replace("_", "-")


def with_overrides(values: Any, overrides: Iterable[str]) -> Any:
    """The values of a section as `--set` changes them.

    Args:
        values: of the section.
        overrides: `field=value` or `field.subfield=value`, the value in YAML; later ones override earlier ones.

    Raises:
        ConfigError: one of them can't be read, or names a field below a value.
    """
    for override in map(_parsed, overrides):
        values = _replaced(values, override.path, override.value, f"--set {override.text!r}")
    return values


def with_flags(
    values: Any, flags: Mapping[str, Any], overrides: Iterable[str] = (), *, spelled_out: Callable[[Any], Any]
) -> Any:
    """The values of a section as flags change them.

    Args:
        values: of the section, to which `overrides` are applied already; a subsection may be missing.
        flags: values by the dotted names of their fields.
        overrides: of `--set`.
        spelled_out: gives the values of the section with a mapping for each subsection that has a shorter form.

    Raises:
        ConfigError: a flag and a `--set` give one field different values, or a subsection is no mapping.
    """
    parsed = [_parsed(override) for override in overrides]
    values = spelled_out(values)
    for field, value in flags.items():
        path = tuple(field.split("."))
        for override in parsed:
            if _disagrees(spelled_out(_replaced(None, override.path, override.value, "")), path, value):
                raise ConfigError(
                    f"{_written(field, value)} and --set {override.text!r} disagree",
                    required=f"one value of {field}",
                    fix="leave one of them away",
                )
        values = _replaced(values, path, value, _written(field, value))
    return values


def _written(field: str, value: Any) -> str:
    """A flag as it was given."""
    if isinstance(value, list):
        return " ".join(_written(field, each) for each in value)
    return flag_of(field) if value is True else f"{flag_of(field)} {value}"


def _parsed(override: str) -> _Override:
    name, separator, text = override.partition("=")
    if not separator or not name:
        raise ConfigError(
            f"--set {override!r} names no field and value", required="--set field=value", fix="for example --set seed=1"
        )
    try:
        value = parse_yaml(text, "--set")
    except YAML_ERRORS as error:
        raise ConfigError(f"--set {override!r}: {error}", required="a value in YAML", fix="quote it") from None
    return _Override(override, tuple(name.split(".")), value)


def _replaced(values: Any, path: tuple[str, ...], value: Any, said: str) -> Any:
    if not path:
        return value
    if values is not None and not isinstance(values, dict):
        raise ConfigError(
            f"{said}: {path[0]!r} lies below {values!r}, which is no mapping",
            required="fields below a mapping",
            fix="set the whole mapping, in YAML: --set 'field={subfield: value, ...}'",
        )
    inner = values or {}
    return {**inner, path[0]: _replaced(inner.get(path[0]), path[1:], value, said)}


def _disagrees(said: Any, path: tuple[str, ...], value: Any) -> bool:
    """Whether what is said of a section gives the field at a path another value; nothing said of it is no other."""
    for step in path:
        if not isinstance(said, dict):
            return True  # the field's subsection is not to be there
        if step not in said:
            return False
        said = said[step]
    return not _is_same(said, value)


def _is_same(said: Any, value: Any) -> bool:
    if isinstance(value, list):
        return isinstance(said, list) and len(said) == len(value) and all(map(_is_same, said, value))
    return bool(Path(said) == value if isinstance(value, Path) and isinstance(said, str) else said == value)
