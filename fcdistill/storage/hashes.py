"""Hex SHA-256 of bytes, files and JSON values."""

import hashlib
import json
from pathlib import Path

from fcdistill.storage.files import require_file, storage_errors

__all__ = ["sha256_bytes", "sha256_file", "sha256_json"]


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in chunks.

    Raises:
        DataError: the file is missing.
        StorageError: it can't be read.
    """
    require_file(path, "file")
    with storage_errors(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Hex SHA-256 of a JSON value in a canonical form (sorted keys, no spaces)."""
    return sha256_bytes(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())
