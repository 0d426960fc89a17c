"""Records that wait on disk until a generation ends.

A sequence that is read again and again need not lie in memory: it lies in a file without a name, which is gone with
the process.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from pydantic import BaseModel

from fcdistill.records import Trace
from fcdistill.storage import storage_errors

__all__ = ["Spool", "Traces"]

T = TypeVar("T", bound=BaseModel)


class Traces(Protocol):
    """Traces to be read in any order and more than once: a list of them, or a spool."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Trace: ...

    def __iter__(self) -> Iterator[Trace]: ...


class Spool(Generic[T]):
    """Records in the order in which they were added.

    Args:
        directory: on whose disk they lie.
        record_type: of all of them.

    Raises:
        StorageError: the disk refused.
    """

    def __init__(self, directory: Path, record_type: type[T]) -> None:
        self._directory = directory
        self._record_type = record_type
        self._places: list[int] = []
        self._end = 0
        with storage_errors(directory, "write to"):
            self._file = tempfile.TemporaryFile(dir=directory)

    def add(self, record: T) -> None:
        """Put a record at the end. Raises `StorageError` where the disk refuses."""
        line = record.model_dump_json().encode() + b"\n"
        with storage_errors(self._directory, "write to"):
            self._file.seek(self._end)
            self._file.write(line)
        self._places.append(self._end)
        self._end += len(line)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int, /) -> T:
        place = self._places[index]
        with storage_errors(self._directory, "read from"):
            self._file.seek(place)
            return self._record_type.model_validate_json(self._file.readline())

    def __iter__(self) -> Iterator[T]:
        """The records that are there when each is asked for."""
        return (self[index] for index in range(len(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
