"""Manifests: how an artefact directory came to be, and whether a run may go on in it.

Locks and the life of a run are not known here (`run_directory`).
"""

import contextlib
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fcdistill.errors import DataError
from fcdistill.records import Manifest, ModelRef
from fcdistill.storage.error_text import describe_validation_error, shorten
from fcdistill.storage.files import read_json
from fcdistill.storage.hashes import sha256_file

__all__ = ["MANIFEST_NAME", "earlier_manifest", "new_manifest", "require_same"]

MANIFEST_NAME = "manifest.json"

_PACKAGES = ("fcdistill", "torch", "transformers", "accelerate", "peft", "jsonschema", "pydantic", "datasets")


def new_manifest(
    stage: str,
    config: Mapping[str, Any],
    inputs: Iterable[Path],
    seed: int,
    model: ModelRef | None,
    tokenizer_sha256: str | None,
    template_sha256: str | None,
) -> Manifest:
    """The manifest of a run that begins now. Raises like `sha256_file`."""
    return Manifest(
        stage=stage,
        status="running",
        config=dict(config),
        seed=seed,
        packages=_package_versions(),
        model=model,
        tokenizer_sha256=tokenizer_sha256,
        template_sha256=template_sha256,
        inputs={str(file): sha256_file(file) for file in inputs},
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def earlier_manifest(directory: Path) -> Manifest | None:
    """The manifest that lies in a directory, None where there is none. Raises `DataError` where it is malformed."""
    path = directory / MANIFEST_NAME
    if not path.exists():
        return None
    try:
        return Manifest.model_validate(read_json(path, "manifest"))
    except DataError as error:
        found = error.found
    except ValidationError as error:
        found = f"manifest {path} is not one: {describe_validation_error(error)}"
    raise DataError(
        found,
        required="a manifest that this version wrote",
        fix="choose another output directory, or delete this one",
    )


def require_same(path: Path, earlier: Manifest, now: Manifest, volatile: frozenset[str]) -> None:
    """Raise `DataError` with every difference, unless both have one stage, configuration, seed, model and inputs."""
    if earlier.stage != now.stage:
        raise DataError(
            f"{path} holds a run of `fcdistill {earlier.stage}`",
            required=f"an output directory of its own for each stage, here {now.stage}",
            fix="choose another output directory, or delete this one",
        )
    differences: list[str] = []
    for key in sorted((earlier.config.keys() | now.config.keys()) - volatile):
        differences += _differences(key, earlier.config.get(key), now.config.get(key))
    for key in ("seed", "model", "tokenizer_sha256", "template_sha256"):
        differences += _differences(key, _plain(getattr(earlier, key)), _plain(getattr(now, key)))
    for name in sorted(earlier.inputs.keys() | now.inputs.keys()):
        if name not in now.inputs:
            differences.append(f"input {name}: was read, is not")
        elif name not in earlier.inputs:
            differences.append(f"input {name}: was not read, is now")
        elif earlier.inputs[name] != now.inputs[name]:
            differences.append(f"input {name}: its content changed")
    if differences:
        raise DataError(
            f"{path} holds a run with another configuration or other inputs:\n  " + "\n  ".join(differences),
            required="the same configuration and inputs, so that the run can go on",
            fix="choose another output directory, or delete this one",
        )


def _differences(field: str, old: Any, new: Any) -> Iterator[str]:
    """Where two JSON values differ, each place by its dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(f"{field}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield f"{field}: was {shorten(old)}, is {shorten(new)}"


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
