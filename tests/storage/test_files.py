import os
from pathlib import Path

import pytest

from fcdistill.errors import DataError, StorageError
from fcdistill.storage import read_json, storage_errors, write_bytes, write_json, write_text
from tests.storage.support import refuse


def test_a_syntax_error_names_its_line_behind_wide_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"é": "ééééé",\n "b": \n ?}', encoding="utf-8")
    with pytest.raises(DataError, match=r"catalogue .*a\.json is not valid JSON \(line 3\)"):
        read_json(path, "catalogue")


def test_missing_files_and_directories_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match="is a directory"):
        read_json(tmp_path)
    with pytest.raises(StorageError, match="could not read"):
        read_json(tmp_path / ("a" * 300))


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_refused_write_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    monkeypatch.setattr(os, broken, refuse)
    with pytest.raises(StorageError, match="could not write .*a.json: No space left on device"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "a", b"\xff\x00\r\n")
    assert (tmp_path / "new" / "a").read_bytes() == b"\xff\x00\r\n"


def test_a_write_of_something_unwritable_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_directory_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match="could not write"):
        write_text(tmp_path / "a", "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not write"):
        write_text(tmp_path / "file" / "a", "x")


def test_json_without_numbers_that_json_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert os.listdir(tmp_path) == []


def test_storage_errors_lets_other_errors_through(tmp_path: Path) -> None:
    with pytest.raises(KeyError), storage_errors(tmp_path, "read"):
        raise KeyError("x")
