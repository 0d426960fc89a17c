import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import DataError, StorageError
from fcdistill.records import ModelRef, SeedRequest
from fcdistill.storage import Journal, RunDirectory, find_run, read_json
from tests.storage.support import run


def test_a_run_is_taken_up_again_until_it_is_complete(tmp_path: Path) -> None:
    with run(tmp_path / "out") as first:
        assert (first.resumed, first.complete) == (False, False)
    started_at = first.manifest.started_at
    with run(tmp_path / "out", config={**first.manifest.config, "batch": 16}) as second:
        assert (second.resumed, second.complete) == (True, False)
        assert second.manifest.started_at == started_at
        assert second.manifest.config["batch"] == 16
        second.mark_complete()
    with run(tmp_path / "out") as third:
        assert (third.resumed, third.complete) == (True, True)
        assert third.manifest.wall_time_s >= second.manifest.wall_time_s > 0
        third.reopen()
    with run(tmp_path / "out") as fourth:
        assert not fourth.complete


def test_time_is_added_up_also_over_a_failed_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), run(tmp_path):
        (tmp_path / "result.json").write_text("1")
        raise RuntimeError
    spent = read_json(tmp_path / "manifest.json")["wall_time_s"]
    with run(tmp_path) as again:
        again.mark_complete()
    assert read_json(tmp_path / "manifest.json")["wall_time_s"] >= spent
    assert read_json(tmp_path / "manifest.json")["status"] == "complete"


def test_a_run_that_fails_before_its_first_result_gives_the_directory_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for error in (KeyboardInterrupt(), DataError("refused")):
        with pytest.raises(type(error)), run(out):
            Journal(out / "journal.jsonl", SeedRequest).close()
            raise error
        assert not out.exists()
    with run(out, seed=4) as other:
        other.mark_complete()


def test_what_lay_in_the_directory_before_a_failed_run_stays(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "empty").touch()
    with pytest.raises(RuntimeError), run(tmp_path):
        raise RuntimeError
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "notes"]


def test_a_resumed_run_that_fails_keeps_its_manifest(tmp_path: Path) -> None:
    with run(tmp_path):
        pass
    with pytest.raises(RuntimeError), run(tmp_path):
        raise RuntimeError
    assert read_json(tmp_path / "manifest.json")["status"] == "running"


def test_a_lock_file_that_was_given_back_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder removed it between another process's open and lock."""
    with monkeypatch.context() as patch:
        patch.setattr("fcdistill.storage.run_directory.fcntl.flock", lambda *_: (tmp_path / ".lock").unlink())
        with pytest.raises(StorageError, match="another process is working"):
            run(tmp_path)
    with run(tmp_path) as again:
        assert not again.resumed


def test_a_missing_input_is_the_users_error_and_leaves_the_directory_free(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no.jsonl does not exist"):
        run(tmp_path, inputs=[tmp_path / "no.jsonl"])
    run(tmp_path).__exit__(None, None, None)


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="output directory .*out is a file"):
        run(tmp_path / "out")
    with pytest.raises(StorageError, match="could not create .*out/below"):
        run(tmp_path / "out" / "below")


def test_a_run_is_found_beside_its_holder_and_another_one_refused(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"stage": "train", "config": {"epochs": 1, "batch": 8}, "volatile": frozenset({"batch"})}
    assert find_run(tmp_path / "none", **wanted) is None
    assert find_run(tmp_path, **wanted) is None and not os.listdir(tmp_path)
    with RunDirectory(tmp_path, model=ModelRef(model="m"), **wanted) as holder:
        before = (tmp_path / "manifest.json").read_bytes()
        changed = {**wanted, "config": {"epochs": 1, "batch": 16}}
        assert find_run(tmp_path, model=ModelRef(model="m"), **changed) == holder.manifest
        with pytest.raises(DataError, match="model.model: was 'm', is 'n'"):
            find_run(tmp_path, model=ModelRef(model="n"), **wanted)
        with pytest.raises(DataError, match="holds a run of `fcdistill train`"):
            find_run(tmp_path, **{**wanted, "stage": "cache"})
        assert (tmp_path / "manifest.json").read_bytes() == before


HOLD = """
import pathlib, sys
from fcdistill.storage import RunDirectory
with RunDirectory(pathlib.Path(sys.argv[1]), stage="train", config={}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match="another process is working in"):
            RunDirectory(tmp_path, stage="train", config={})
        os.kill(holder.pid, signal.SIGKILL)
    with RunDirectory(tmp_path, stage="train", config={}) as after:
        assert after.resumed
