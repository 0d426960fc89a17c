"""A YAML file becomes a checked section; what is wrong is said in the words of the file."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, overload

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fcdistill.config.eval_section import EvalConfig
from fcdistill.config.generate_section import GenerateConfig
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


@overload
def load_config(path: Path, section: Literal["adapt"], overrides: Iterable[str] = ()) -> AdaptConfig: ...
@overload
def load_config(path: Path, section: Literal["eval"], overrides: Iterable[str] = ()) -> EvalConfig: ...
@overload
def load_config(path: Path, section: Literal["generate"], overrides: Iterable[str] = ()) -> GenerateConfig: ...
@overload
def load_config(path: Path, section: Literal["train"], overrides: Iterable[str] = ()) -> TrainConfig: ...
def load_config(path: Path, section: Section, overrides: Iterable[str] = ()) -> StageConfig:
    """The checked configuration of one stage.

    Args:
        path: the YAML file.
        section: `generate`, `adapt`, `train` or `eval`.
        overrides: `field=value` or `field.subfield=value`, the value in YAML.

    Raises:
        ConfigError: the file or a field is unusable; the message names the field, what was found and what is allowed.
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
    values = document[section]
    for override in overrides:
        values = _override(values, override)
    return parse_config(values, section, f"config {path}")


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


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but a key may occur only once in a mapping, and 1e-3 is a number."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        "while reading a mapping", node.start_mark, f"key {key.value!r} occurs twice", key.start_mark
                    )
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


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
        return _parse_yaml(raw.decode("utf-8"), str(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"config {path} is not valid YAML: {error}", required="YAML, UTF-8", fix="correct the file"
        ) from None


def _parse_yaml(text: str, name: str) -> Any:
    loader = _Loader(text)
    loader.name = name  # for the messages of errors
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _override(values: Any, override: str) -> Any:
    name, separator, text = override.partition("=")
    if not separator or not name:
        raise ConfigError(
            f"--set {override!r} names no field and value", required="--set field=value", fix="for example --set seed=1"
        )
    try:
        value = _parse_yaml(text, "--set")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {override!r}: {error}", required="a value in YAML", fix="quote it") from None
    return _replaced(values, name.split("."), value, override)


def _replaced(values: Any, path: list[str], value: Any, override: str) -> Any:
    if not path:
        return value
    if values is not None and not isinstance(values, dict):
        raise ConfigError(
            f"--set {override!r}: {path[0]!r} lies below {values!r}, which is no mapping",
            required="fields below a mapping",
            fix="set the whole mapping, in YAML: --set 'field={subfield: value, ...}'",
        )
    inner = values or {}
    return {**inner, path[0]: _replaced(inner.get(path[0]), path[1:], value, override)}


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
