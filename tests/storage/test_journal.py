import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.errors import DataError, StorageError
from fcdistill.records import SeedRequest
from fcdistill.storage import Journal, read_jsonl, write_jsonl
from tests.storage.support import refuse, seed


def test_a_journal_keeps_records_over_reopening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.jsonl"
    with Journal(path, SeedRequest) as journal:
        journal.append([seed(1), seed(2)])
        assert read_jsonl(path, SeedRequest) == [seed(1), seed(2)]
    with Journal(path, SeedRequest) as journal:
        assert list(journal) == [seed(1), seed(2)]
        journal.append([seed(3)])
        assert list(journal) == [seed(1), seed(2), seed(3)]
    assert read_jsonl(path, SeedRequest) == [seed(1), seed(2), seed(3)]


def test_a_journal_reads_single_records_by_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Journal(path, SeedRequest) as journal:
        first, second = journal.append([seed(1), seed(2)])
        assert journal.read(second) == seed(2) and journal.read(first) == seed(1)
        assert journal.append([]) == []
        (third,) = journal.append([seed(3)])
        assert journal.read(third) == seed(3)
    with Journal(path, SeedRequest) as journal:
        assert list(journal.places()) == [(first, seed(1)), (second, seed(2)), (third, seed(3))]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(tmp_path_factory: Any, data: Any) -> None:
    path = tmp_path_factory.mktemp("journal") / "a.jsonl"
    write_jsonl(path, [seed(1), seed(2), seed(3)])
    whole = path.read_bytes()
    kept = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:kept])
    with Journal(path, SeedRequest) as journal:
        assert len(list(journal)) == whole[:kept].count(b"\n")
        journal.append([seed(4)])
    assert read_jsonl(path, SeedRequest)[-1] == seed(4)


def test_a_torn_line_longer_than_a_block_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [seed(1)])
    with path.open("ab") as file:
        file.write(b"x" * 200_000)
    with Journal(path, SeedRequest) as journal:
        assert list(journal) == [seed(1)]
    assert path.stat().st_size < 200


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n')
    with Journal(path, SeedRequest) as journal, pytest.raises(DataError, match="journal .*a.jsonl, line 1"):
        list(journal)


@pytest.mark.parametrize("kept_bytes", [0, 7])
def test_a_refused_append_leaves_a_journal_that_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    path = tmp_path / "a.jsonl"
    with Journal(path, SeedRequest) as journal:
        journal.append([seed(1)])

        def write_a_part_then_refuse(_: int) -> None:
            with path.open("ab") as file:
                file.write(b"x" * kept_bytes)
            refuse()

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", write_a_part_then_refuse)
            with pytest.raises(StorageError, match="could not append to .*a.jsonl: No space left"):
                journal.append([seed(2)])
        assert list(journal) == [seed(1)]
        assert read_jsonl(path, SeedRequest) == [seed(1)]
        journal.append([seed(3)])
    assert read_jsonl(path, SeedRequest) == [seed(1), seed(3)]


def test_a_full_disk_is_one_storage_error_also_when_the_journal_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    _, unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(StorageError, match="could not append to .*a.jsonl: File too large"):
            with Journal(path, SeedRequest) as journal:
                journal.append([seed(1)])
                resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, unlimited))
                journal.append([seed(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
        signal.signal(signal.SIGXFSZ, handler)
    assert read_jsonl(path, SeedRequest) == [seed(1)]


WRITE_FOREVER = """
import itertools, pathlib, sys
from fcdistill.records import SeedRequest
from fcdistill.storage import Journal
with Journal(pathlib.Path(sys.argv[1]), SeedRequest) as journal:
    for number in itertools.count(len(list(journal))):
        journal.append([SeedRequest(id=str(number), text="x" * 3000)])
        print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_reported_and_can_be_run_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    reported = -1
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            for _ in range(15):
                reported = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
        with path.open("ab") as file:
            file.write(b'{"id": "torn')
    with Journal(path, SeedRequest) as journal:
        found = [record.id for record in journal]
    assert found == [str(number) for number in range(len(found))]
    assert len(found) > reported >= 29
