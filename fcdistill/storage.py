"""Files: strict JSON, JSONL of records, atomic writes, append-and-resume journals, run directories and their manifests.

What is written here survives a kill at any instant: whole files appear by rename, journals lose at most the line that
was being written, and the next open cuts such a torn line off. It knows nothing of what the records mean.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import math
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, NoReturn, Self, TypeVar

from pydantic import BaseModel, ValidationError

from fcdistill.errors import DataError, StorageError
from fcdistill.records import Manifest, ModelRef

__all__ = [
    "Journal",
    "MAX_DEPTH",
    "RunDirectory",
    "StrictJsonError",
    "describe_validation_error",
    "find_run",
    "iter_jsonl",
    "iter_unique_jsonl",
    "loads_strict",
    "read_json",
    "read_jsonl",
    "sha256_bytes",
    "sha256_file",
    "sha256_json",
    "storage_errors",
    "write_bytes",
    "write_json",
    "write_jsonl",
    "write_parts",
    "write_text",
]

T = TypeVar("T", bound=BaseModel)

MAX_DEPTH = 128
"""Levels of nested arrays and objects that a document may have: what is read here must also be writable, and pydantic
refuses to write beyond 254."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")

_FINDINGS = {
    "missing": "required and not given",
    "extra_forbidden": "unknown field",
    "model_type": "must be an object",
}
_MANIFEST = "manifest.json"
_PACKAGES = ("fcdistill", "torch", "transformers", "accelerate", "peft", "jsonschema", "pydantic", "datasets")


class StrictJsonError(ValueError):
    """Text that is not JSON, or that RFC 8259 readers may disagree on.

    Attributes:
        kind: `invalid_json`, `duplicate_key` or `not_finite`.
        position: character offset, where it is known.
    """

    def __init__(self, kind: str, detail: str, position: int | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.position = position


def loads_strict(text: str | bytes) -> Any:
    """Parse JSON that every reader understands alike and that can be written again.

    Refused: duplicate keys, NaN, Infinity, numbers beyond a double, bytes that are not UTF-8, halves of surrogate pairs
    (RFC 8259, section 8.2), more than `MAX_DEPTH` levels.

    Raises:
        StrictJsonError: with the kind of defect.
    """
    try:
        if isinstance(text, bytes):
            decoded = text.decode("utf-8-sig")
        else:
            decoded = text
            text.encode()
        if decoded.startswith("\ufeff"):
            raise json.JSONDecodeError("Unexpected UTF-8 BOM", decoded, 0)
        value = _STRICT.decode(decoded)
        if _SURROGATE_ESCAPE.search(decoded):
            json.dumps(value, ensure_ascii=False).encode()
    except StrictJsonError:
        raise
    except json.JSONDecodeError as error:
        raise StrictJsonError("invalid_json", f"{error.msg} at character {error.pos}", error.pos) from None
    except UnicodeDecodeError as error:
        raise StrictJsonError("invalid_json", f"byte {error.start} is not UTF-8") from None
    except UnicodeEncodeError:
        raise StrictJsonError("invalid_json", "half of a surrogate pair is not a character") from None
    except RecursionError:
        raise StrictJsonError("invalid_json", f"nested more than {MAX_DEPTH} levels") from None
    if decoded.count("[") + decoded.count("{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise StrictJsonError("invalid_json", f"nested more than {MAX_DEPTH} levels")
    return value


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise StrictJsonError("duplicate_key", f"key {twice!r} occurs more than once in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJsonError("not_finite", f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise StrictJsonError("not_finite", f"{_shorten(text)} is beyond the range of a double")
    return value


def _finite_int(text: str) -> int:
    if len(text) > 300:
        _finite_float(text)
    return int(text)


_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique_object,
    parse_constant=_refuse_constant,
    parse_float=_finite_float,
    parse_int=_finite_int,
)
"""Made once: `json.loads` would make one for every line of a file."""


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for item in level for child in _children(item)]
    return any(isinstance(item, list | dict) for item in level)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


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


def _require_file(path: Path, what: str) -> None:
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
    _require_file(path, what)
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


def describe_validation_error(error: ValidationError) -> str:
    """All findings of a pydantic error in one line: `field: message (found VALUE); ...`."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(map(str, item["loc"]))
        message = _FINDINGS.get(item["type"]) or item["msg"].removeprefix("Value error, ")
        # Of a whole record that breaks a rule nothing but the rule is worth reading.
        if item["type"] not in ("missing", "extra_forbidden") and (where or item["type"] != "value_error"):
            message += f" (found {_shorten(item['input'])})"
        lines.append(f"{where}: {message}" if where else message)
    return "; ".join(lines)


def _shorten(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def iter_jsonl(path: Path, record_type: type[T], what: str = "file") -> Iterator[T]:
    """The records of a JSONL file, one at a time, in constant memory.

    Raises:
        DataError: the file is missing, or a line is not strict JSON or not such a record; it names the line.
    """
    return (record for _, record in _iter_places(path, record_type, what))


def _iter_places(path: Path, record_type: type[T], what: str) -> Iterator[tuple[int, T]]:
    """The records of a JSONL file, each with the byte at which its line begins."""
    _require_file(path, what)
    with storage_errors(path, "read"), path.open("rb") as lines:
        end = 0
        for number, line in enumerate(lines, 1):
            start, end = end, end + len(line)
            if not line.strip():
                continue
            try:
                yield start, record_type.model_validate(loads_strict(line))
            except StrictJsonError as error:
                found = str(error)
            except ValidationError as error:
                found = describe_validation_error(error)
            else:
                continue
            raise DataError(
                f"{what} {path}, line {number}: {found}",
                required=f"one {record_type.__name__} record a line (schemas/records/)",
                fix="correct that line",
            )


def iter_unique_jsonl(path: Path, record_type: type[T], what: str = "file") -> Iterator[T]:
    """The records of a JSONL file, one at a time; of those before it, memory holds their ids.

    Raises like `iter_jsonl`, and `DataError` where two records share an id.
    """
    known: set[str] = set()
    for record in iter_jsonl(path, record_type, what):
        identity = getattr(record, "id", None)
        if identity is not None:
            if identity in known:
                raise DataError(f"{what} {path} holds id {identity!r} twice", required="unique ids", fix="rename one")
            known.add(identity)
        yield record


def read_jsonl(path: Path, record_type: type[T], what: str = "file") -> list[T]:
    """All records of a JSONL file. Raises like `iter_unique_jsonl`."""
    return list(iter_unique_jsonl(path, record_type, what))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically: readers see the old content or the new, never a part.

    Raises:
        StorageError: the disk refused.
    """
    write_parts(path, (data,))


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write a whole file atomically, one part at a time. Raises like `write_bytes`, and what `parts` raises."""
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


def write_jsonl(path: Path, records: Iterable[BaseModel]) -> None:
    """Write records as JSONL atomically, one at a time. Raises like `write_bytes`, and what `records` raises."""
    write_parts(path, map(_line_of, records))


def _line_of(record: BaseModel) -> bytes:
    return record.model_dump_json().encode() + b"\n"


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in chunks.

    Raises:
        DataError: the file is missing.
        StorageError: it can't be read.
    """
    _require_file(path, "file")
    with storage_errors(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Hex SHA-256 of a JSON value in a canonical form (sorted keys, no spaces)."""
    return sha256_bytes(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())


class Journal(Generic[T]):
    """An append-only JSONL file that a killed run can take up again; its records stay on disk.

    Opening it cuts off a torn last line. `append` returns after the records are on disk.
    """

    def __init__(self, path: Path, record_type: type[T]) -> None:
        self.path = path
        self._record_type = record_type
        with contextlib.ExitStack() as opened, storage_errors(path, "open"):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a write that the disk refused leaves nothing behind that `close` would try again.
            self._file = opened.enter_context(path.open("ab+", buffering=0))
            self._reader = opened.enter_context(path.open("rb"))
            with storage_errors(path, "repair"):
                self._cut_torn_line()
            self._opened = opened.pop_all()

    def __iter__(self) -> Iterator[T]:
        """The records, read from disk one at a time. Raises like `iter_jsonl`."""
        return (record for _, record in self.places())

    def places(self) -> Iterator[tuple[int, T]]:
        """The records, each with its place, for `read`. Raises like `iter_jsonl`."""
        return _iter_places(self.path, self._record_type, "journal")

    def read(self, place: int) -> T:
        """The record at a place that `places` or `append` named."""
        with storage_errors(self.path, "read"):
            self._reader.seek(place)
            return self._record_type.model_validate_json(self._reader.readline())

    def _cut_torn_line(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        keep = size
        while keep > 0:
            start = max(0, keep - 65536)
            self._file.seek(start)
            newline = self._file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep != size:
            self._file.truncate(keep)

    def append(self, records: Iterable[T]) -> list[int]:
        """Add records durably: all of them, or, with a `StorageError` where the disk refuses, none.

        Returns:
            The place of each, for `read`.
        """
        lines = list(map(_line_of, records))
        data = b"".join(lines)
        with storage_errors(self.path, "append to"):
            end = self._file.seek(0, os.SEEK_END)
            try:
                while data:
                    data = data[self._file.write(data) :]
                os.fsync(self._file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(end)
                raise
        return list(accumulate(map(len, lines[:-1]), initial=end)) if lines else []

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RunDirectory:
    """An artefact directory while a stage works in it: locked, with a manifest, resumable.

    A run that fails before it wrote any result gives its directory back: a corrected configuration may use it.

    Args:
        path: the directory; made where it does not exist.
        stage: the stage's name.
        config: the resolved configuration as JSON values.
        inputs: input files, hashed into the manifest.
        seed: the run's seed.
        model: the model that answers or is trained.
        tokenizer_sha256: hash of its tokenizer, where there is one.
        template_sha256: hash of its chat template, where there is one.
        volatile: config keys that may differ between a run and its resumption, because they do not change the result.

    Raises:
        DataError: the directory belongs to a run with another configuration or other inputs, or is a file.
        StorageError: it can't be written, or another process works in it.
    """

    def __init__(
        self,
        path: Path,
        *,
        stage: str,
        config: Mapping[str, Any],
        inputs: Iterable[Path] = (),
        seed: int = 0,
        model: ModelRef | None = None,
        tokenizer_sha256: str | None = None,
        template_sha256: str | None = None,
        volatile: frozenset[str] = frozenset(),
    ) -> None:
        self.path = path
        self._started = time.monotonic()
        with storage_errors(path, "create"):
            if path.is_file():
                raise DataError(
                    f"output directory {path} is a file",
                    required="a directory, or a path where none is yet",
                    fix="choose another output directory",
                )
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / ".lock").open("w")
        try:
            self._take_lock()
            with storage_errors(path, "read"):
                self._entries_before = {entry.name for entry in path.iterdir()} - {".lock", _MANIFEST}
            manifest = _new_manifest(stage, config, inputs, seed, model, tokenizer_sha256, template_sha256)
            earlier = _earlier_manifest(path)
            if earlier is not None:
                _require_same(path, earlier, manifest, volatile)
                kept = {"started_at": earlier.started_at, "wall_time_s": earlier.wall_time_s, "status": earlier.status}
                manifest = manifest.model_copy(update=kept)
            self.manifest = manifest
            self.resumed = earlier is not None
            self._write()
        except BaseException:
            self._lock.close()
            raise

    def _take_lock(self) -> None:
        with storage_errors(self.path, "lock"):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.fstat(self._lock.fileno()).st_nlink:  # its holder has just given the directory back
                    raise BlockingIOError
            except BlockingIOError:
                raise StorageError(
                    f"another process is working in {self.path}",
                    required="one run per output directory",
                    fix="wait for it, stop it, or choose another output directory",
                ) from None

    @property
    def complete(self) -> bool:
        """Whether an earlier run already finished all the work of this directory."""
        return self.manifest.status == "complete"

    def _write(self) -> None:
        write_json(self.path / _MANIFEST, self.manifest.model_dump(mode="json"))

    def mark_complete(self) -> None:
        """Record that all work is done."""
        self._update("complete")

    def reopen(self) -> None:
        """Record that a finished run takes up work again."""
        self._update("running")

    def _update(self, status: str) -> None:
        now = time.monotonic()
        spent = self.manifest.wall_time_s + now - self._started
        self._started = now
        self.manifest = self.manifest.model_copy(update={"status": status, "wall_time_s": round(spent, 3)})
        self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(StorageError, OSError):
            if kind is not None and not self.resumed and not self._has_results():
                self._give_back()
            elif not self.complete:
                self._update("running")
        self._lock.close()

    def _new_entries(self) -> list[Path]:
        """What this run made beside lock and manifest."""
        before = self._entries_before | {".lock", _MANIFEST}
        return [entry for entry in self.path.iterdir() if entry.name not in before]

    def _has_results(self) -> bool:
        return any(entry.is_dir() or entry.stat().st_size for entry in self._new_entries())

    def _give_back(self) -> None:
        for entry in (*self._new_entries(), self.path / _MANIFEST, self.path / ".lock"):
            entry.unlink()
        with contextlib.suppress(OSError):  # it holds other things
            self.path.rmdir()


def find_run(
    path: Path,
    *,
    stage: str,
    config: Mapping[str, Any],
    model: ModelRef | None = None,
    tokenizer_sha256: str | None = None,
    template_sha256: str | None = None,
    volatile: frozenset[str] = frozenset(),
) -> Manifest | None:
    """The manifest of a run that is already there; nothing is locked or written, so that many may read one directory.

    Args:
        path: the artefact directory.
        stage: as of `RunDirectory`, like all that follows.
        config: the resolved configuration.
        model: the model that answers or is trained.
        tokenizer_sha256: hash of its tokenizer.
        template_sha256: hash of its chat template.
        volatile: config keys that may differ.

    Returns:
        None where there is no directory, or none with a manifest.

    Raises:
        DataError: the directory belongs to a run with another configuration.
        StorageError: it can't be read.
    """
    with storage_errors(path, "read"):
        earlier = _earlier_manifest(path)
    if earlier is not None:
        now = _new_manifest(stage, config, (), 0, model, tokenizer_sha256, template_sha256)
        _require_same(path, earlier, now, volatile)
    return earlier


def _new_manifest(
    stage: str,
    config: Mapping[str, Any],
    inputs: Iterable[Path],
    seed: int,
    model: ModelRef | None,
    tokenizer_sha256: str | None,
    template_sha256: str | None,
) -> Manifest:
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


def _earlier_manifest(directory: Path) -> Manifest | None:
    path = directory / _MANIFEST
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


def _require_same(path: Path, earlier: Manifest, now: Manifest, volatile: frozenset[str]) -> None:
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
        yield f"{field}: was {_shorten(old)}, is {_shorten(new)}"


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
