"""Whole files: read with errors that name the path, written so that they appear by rename.

What a disk refuses becomes a `StorageError` here; other modules use the same words through `storage_errors`.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fcdistill.errors import DataError, StorageError
from fcdistill.storage.strict_json import StrictJsonError, loads_strict

__all__ = ["read_json", "require_file", "storage_errors", "write_bytes", "write_json", "write_parts", "write_text"]


@contextlib.contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an `OSError` inside the block into a `StorageError` that names the path and what was being done."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"could not {doing} {path}: {error.strerror or error}",
            required="a reachable path, permission and free disk space",
            fix="free space or choose another path, then run the same command again; finished work is kept",
        ) from error


def require_file(path: Path, what: str) -> None:
    """Raise `DataError` unless the path is a file; `what` is the message's word for it."""
    with storage_errors(path, "read"):
        exists, is_directory = path.exists(), path.is_dir()
    if not exists:
        raise DataError(
            f"{what} {path} does not exist",
            required=f"an existing file (relative paths start at the current directory, here {Path.cwd()})",
            fix="check the path",
        )
    if is_directory:
        raise DataError(f"{what} {path} is a directory", required="a file", fix="name the file inside it")


def read_json(path: Path, what: str = "file") -> Any:
    """The strict-JSON content of a file.

    Raises:
        DataError: the file is missing or is not strict JSON.
    """
    require_file(path, what)
    with storage_errors(path, "read"):
        raw = path.read_bytes()
    try:
        return loads_strict(raw)
    except StrictJsonError as error:
        line = raw.decode("utf-8-sig", "replace")[: error.position].count("\n") + 1
        where = "" if error.position is None else f" (line {line})"
        raise DataError(
            f"{what} {path} is not valid JSON{where}: {error}",
            required="strict JSON, UTF-8, no duplicate keys",
            fix="correct the file",
        ) from None


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically: readers see the old content or the new, never a part.

    Raises:
        StorageError: the disk refused.
    """
    write_parts(path, (data,))


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write a whole file atomically, part by part. Raises like `write_bytes`, and what `parts` raises."""
    with storage_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a whole file atomically, UTF-8. Raises like `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write one JSON document atomically. Raises like `write_bytes`."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
