"""A YAML file becomes a checked section; what is wrong is said in the words of the file."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, overload

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fcdistill.config.eval_section import EvalConfig
from fcdistill.config.generate_section import GenerateConfig
from fcdistill.config.overrides import with_flags, with_overrides
from fcdistill.config.strict_yaml import YAML_ERRORS, parse_yaml
from fcdistill.config.train_section import AdaptConfig, TrainConfig
from fcdistill.errors import ConfigError
from fcdistill.storage import storage_errors

__all__ = [
    "SECTIONS",
    "Section",
    "StageConfig",
    "load_config",
    "parse_config",
]

Section = Literal["adapt", "eval", "generate", "train"]
StageConfig = AdaptConfig | EvalConfig | GenerateConfig | TrainConfig

SECTIONS: dict[Section, type[StageConfig]] = {
    "adapt": AdaptConfig,
    "eval": EvalConfig,
    "generate": GenerateConfig,
    "train": TrainConfig,
}


_NO_FLAGS: Mapping[str, Any] = MappingProxyType({})


@overload
def load_config(
    path: Path, section: Literal["adapt"], overrides: Iterable[str] = (), flags: Mapping[str, Any] = ...
) -> AdaptConfig: ...
@overload
def load_config(
    path: Path, section: Literal["eval"], overrides: Iterable[str] = (), flags: Mapping[str, Any] = ...
) -> EvalConfig: ...
@overload
def load_config(
    path: Path, section: Literal["generate"], overrides: Iterable[str] = (), flags: Mapping[str, Any] = ...
) -> GenerateConfig: ...
@overload
def load_config(
    path: Path, section: Literal["train"], overrides: Iterable[str] = (), flags: Mapping[str, Any] = ...
) -> TrainConfig: ...
def load_config(
    path: Path, section: Section, overrides: Iterable[str] = (), flags: Mapping[str, Any] = _NO_FLAGS
) -> StageConfig:
    """The checked configuration of one stage.

    Args:
        path: the YAML file.
        section: `generate`, `adapt`, `train` or `eval`.
        overrides: `field=value` or `field.subfield=value`, the value in YAML.
        flags: values of further fields, by their dotted names, that the command line gives by a flag of that name.

    Raises:
        ConfigError: the file or a field is unusable; the message names the field, what was found and what is allowed.
            Or an override and a flag give one field different values.
    """
    document = _read_yaml(path)
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError(
            f"config {path} is not a mapping", required=f"sections {', '.join(SECTIONS)}", fix="see README.md"
        )
    for key in document:
        if key not in SECTIONS and not key.startswith("x-"):
            raise ConfigError(
                f"config {path}: unknown section {key!r}",
                required=f"sections {', '.join(SECTIONS)} (and x-... for YAML anchors)",
                fix=_did_you_mean(key, SECTIONS) or "remove it",
            )
    if section not in document:
        raise ConfigError(
            f"config {path} has no section {section!r}", required=f"a section {section!r}", fix="add it; see README.md"
        )
    overrides = tuple(overrides)
    values = with_overrides(document[section], overrides)
    if not flags:
        return parse_config(values, section, f"config {path}")
    values = with_flags(values, flags, overrides, spelled_out=SECTIONS[section].spelled_out)
    return parse_config(values, section, f"config {path} and the given options")


@overload
def parse_config(values: Any, section: Literal["adapt"], origin: str) -> AdaptConfig: ...
@overload
def parse_config(values: Any, section: Literal["eval"], origin: str) -> EvalConfig: ...
@overload
def parse_config(values: Any, section: Literal["generate"], origin: str) -> GenerateConfig: ...
@overload
def parse_config(values: Any, section: Literal["train"], origin: str) -> TrainConfig: ...
def parse_config(values: Any, section: Section, origin: str) -> StageConfig:
    """Check the values of one section. Raises `ConfigError`; `origin` says in its message where they come from."""
    config_type = SECTIONS[section]
    try:
        return config_type.model_validate(values)
    except ValidationError as error:
        lines = [_explain(item, values, config_type) for item in error.errors(include_url=False)]
        raise ConfigError(
            f"{origin}, section {section}:\n  " + "\n  ".join(dict.fromkeys(lines)),
            required="the fields and values that `fcdistill schemas config` lists",
            fix="correct the named fields",
        ) from None


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(
            f"config {path} does not exist or is no file",
            required=f"a YAML file (relative paths start at the current directory, here {Path.cwd()})",
            fix="check the path",
        )
    with storage_errors(path, "read"):
        raw = path.read_bytes()
    try:
        return parse_yaml(raw.decode("utf-8"), str(path))
    except YAML_ERRORS as error:
        raise ConfigError(
            f"config {path} is not valid YAML: {error}", required="YAML, UTF-8", fix="correct the file"
        ) from None


def _explain(item: ErrorDetails, values: Any, config_type: type[BaseModel]) -> str:
    field = _field_name(item["loc"], values) or "(section)"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        location = [str(part) for part in item["loc"]]
        fields = _fields_at(config_type, location[:-1])
        hint = _did_you_mean(location[-1], fields)
        return f"{field}: unknown field. {hint or 'Allowed: ' + ', '.join(fields) + '.'}"
    if item["type"] == "missing":
        return f"{field}: required and not given"
    if item["type"] in ("model_type", "model_attributes_type"):
        message = "must be a mapping of fields"
    if item["type"] == "path_type":
        message = "must be a path"
    if item["type"] == "value_error":
        return message if field == "(section)" else f"{field}: {message}"
    return f"{field}: {message} (found {item['input']!r})"


def _field_name(location: tuple[int | str, ...], values: Any) -> str:
    """The dotted name of a place as the user wrote it: pydantic's locations hold the tags of unions too."""
    steps = []
    for index, step in enumerate(location):
        if isinstance(values, dict) and step in values:
            values = values[step]
        elif isinstance(values, list) and isinstance(step, int):
            values = values[step] if step < len(values) else None
        elif index < len(location) - 1 or step == "[key]" or not isinstance(values, dict) or step in _tags(values):
            continue
        steps.append(str(step))
    return ".".join(steps)


def _tags(values: dict[str, Any]) -> list[Any]:
    """What says of which kind a mapping is; the place of an error of the mapping as a whole ends in it."""
    return [values[tag] for tag in ("backend", "init", "method") if tag in values]


def _fields_at(config_type: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the (sub)model at a pydantic error location; union tags are steps of it too."""
    schema = config_type.model_json_schema()
    models = [schema]
    for step in location:
        fields = [model["properties"][step] for model in models if step in model.get("properties", {})]
        if fields:
            models = [branch for field in fields for branch in _branches(field, schema)]
        else:
            models = [model for model in models if step in _constants(model)] or models
    return sorted({name for model in models for name in model.get("properties", {})})


def _branches(field: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas that a field's value may follow, references and unions resolved."""
    if "$ref" in field:
        field = schema["$defs"][field["$ref"].rsplit("/", 1)[1]]
    alternatives = [*field.get("oneOf", ()), *field.get("anyOf", ())]
    return [branch for each in alternatives for branch in _branches(each, schema)] or [field]


def _constants(model: dict[str, Any]) -> list[Any]:
    return [field.get("const") for field in model.get("properties", {}).values()]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""
