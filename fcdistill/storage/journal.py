"""Journals: JSONL that a stage appends to while it works; a killed run takes it up again."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Generic, Self, TypeVar

from pydantic import BaseModel

from fcdistill.storage.files import storage_errors
from fcdistill.storage.jsonl import iter_places, line_of

__all__ = ["Journal"]

T = TypeVar("T", bound=BaseModel)


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
        return iter_places(self.path, self._record_type, "journal")

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
        lines = list(map(line_of, records))
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
