"""What a model reference means.

A reference is a name of the catalogue, a local directory (plain weights, an adapter, or a run), a `.gguf` file, or a
hub id. What it is depends on its form and on the local disk only, never on whether a download works: `fetching` brings
its files here.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fcdistill.errors import ModelError
from fcdistill.models.catalogue import CATALOGUE
from fcdistill.records import ModelRef

__all__ = ["ModelKind", "ResolvedModel", "resolve"]

ModelKind = Literal["catalogue", "run", "adapter", "directory", "gguf", "hub"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class ResolvedModel:
    """What a reference means.

    Attributes:
        kind: `run` is a training run's directory; its weights are in `path_or_id`.
        path_or_id: the directory or file that holds the weights; for `catalogue` and `hub` the name.
        ref: the reference as given; its revision is known only once the model is there.
    """

    kind: ModelKind
    path_or_id: str
    ref: ModelRef


def resolve(ref: str) -> ResolvedModel:
    """What a reference means, without network and without loading anything.

    Raises:
        ModelError: it looks like a path and nothing usable is there, or it can't be a reference at all.
    """
    model_ref = ModelRef(model=ref)
    if ref in CATALOGUE:
        return ResolvedModel("catalogue", ref, model_ref)
    path = Path(ref).expanduser()
    if ref and path.is_dir():
        return _resolve_directory(path, model_ref)
    if ref and path.exists():
        if path.suffix == ".gguf":
            return ResolvedModel("gguf", str(path), model_ref)
        raise ModelError(f"model {ref} is a file", required="a directory or a .gguf file", fix="name the directory")
    if ref.startswith((".", "/", "~")) or ref.endswith(("/", ".gguf")) or ref.count("/") > 1:
        raise ModelError(
            f"model {ref}: no such directory or file",
            required=f"an existing path (relative paths start at the current directory, here {Path.cwd()})",
            fix="check the path",
        )
    if not _HUB_ID.fullmatch(ref):
        raise ModelError(
            f"{ref!r} is no model reference",
            required="a catalogue name, a local directory, a .gguf file or a hub id such as org/name",
            fix="see `fcdistill models list` for the catalogue",
        )
    return ResolvedModel("hub", ref, model_ref)


def _resolve_directory(path: Path, ref: ModelRef) -> ResolvedModel:
    if (path / "merged" / "config.json").is_file():
        return ResolvedModel("run", str(path / "merged"), ref)
    if (path / "adapter" / "adapter_config.json").is_file():
        return ResolvedModel("run", str(path / "adapter"), ref)
    if (path / "adapter_config.json").is_file():
        return ResolvedModel("adapter", str(path), ref)
    if (path / "config.json").is_file():
        return ResolvedModel("directory", str(path), ref)
    if (path / "manifest.json").is_file():
        raise ModelError(
            f"{path} is a run directory without a trained model",
            required="a finished training run (merged/ or adapter/ in it)",
            fix="run `fcdistill train` or `fcdistill adapt` again: it resumes",
        )
    raise ModelError(
        f"directory {path} holds no model: neither config.json nor adapter_config.json",
        required="a model, adapter or run directory",
        fix="check the path",
    )
