"""JSONL: one record a line, read in constant memory; an error names its line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fcdistill.errors import DataError
from fcdistill.storage.error_text import describe_validation_error
from fcdistill.storage.files import require_file, storage_errors, write_parts
from fcdistill.storage.strict_json import StrictJsonError, loads_strict

__all__ = ["iter_jsonl", "iter_places", "iter_unique_jsonl", "line_of", "read_jsonl", "write_jsonl"]

T = TypeVar("T", bound=BaseModel)


def iter_jsonl(path: Path, record_type: type[T], what: str = "file") -> Iterator[T]:
    """The records of a JSONL file, one at a time, in constant memory.

    Raises:
        DataError: the file is missing, or a line is not strict JSON or not such a record; it names the line.
    """
    return (record for _, record in iter_places(path, record_type, what))


def iter_places(path: Path, record_type: type[T], what: str) -> Iterator[tuple[int, T]]:
    """The records of a JSONL file, each with the byte at which its line begins."""
    require_file(path, what)
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


def write_jsonl(path: Path, records: Iterable[BaseModel]) -> None:
    """Write records as JSONL atomically, one at a time. Raises like `write_bytes`, and what `records` raises."""
    write_parts(path, map(line_of, records))


def line_of(record: BaseModel) -> bytes:
    """A record as a line of JSONL."""
    return record.model_dump_json().encode() + b"\n"
