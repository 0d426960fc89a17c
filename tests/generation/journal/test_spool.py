"""Tests of `fcdistill.generation.journal.spool`."""

from pathlib import Path

import pytest

from fcdistill.errors import StorageError
from fcdistill.generation.journal.spool import Spool
from fcdistill.records import SeedRequest

RECORDS = [SeedRequest(id=str(number), text="äöü" * number) for number in range(1, 5)]


def test_records_are_read_in_any_order_while_more_are_added(tmp_path: Path) -> None:
    with Spool(tmp_path, SeedRequest) as spool:
        assert len(spool) == 0 and list(spool) == []
        for number, record in enumerate(RECORDS, 1):
            spool.add(record)
            assert len(spool) == number and spool[number - 1] == record and spool[0] == RECORDS[0]
        assert list(spool) == RECORDS == list(spool)
        with pytest.raises(IndexError):
            spool[len(RECORDS)]


def test_nothing_of_it_shows_in_its_directory(tmp_path: Path) -> None:
    with Spool(tmp_path, SeedRequest) as spool:
        spool.add(RECORDS[0])
        assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not write to .*/gone: No such file"):
        Spool(tmp_path / "gone", SeedRequest)
