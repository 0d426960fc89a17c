import errno
import json
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
from fcdistill.records import EvalCase, ModelRef, SeedRequest
from fcdistill.storage import (
    MAX_DEPTH,
    Journal,
    RunDirectory,
    StrictJsonError,
    find_run,
    iter_jsonl,
    iter_unique_jsonl,
    loads_strict,
    read_json,
    read_jsonl,
    sha256_bytes,
    sha256_file,
    sha256_json,
    storage_errors,
    write_bytes,
    write_json,
    write_jsonl,
    write_text,
)


def seed(number: int) -> SeedRequest:
    return SeedRequest(id=str(number), text=f"request {number} é")


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# --- strict JSON


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ('[{"b": {"a": 1, "c": 0, "a": 1}}]', "duplicate_key"),
        ("NaN", "not_finite"),
        ("[-Infinity]", "not_finite"),
        ("1e999", "not_finite"),
        ("-1e999", "not_finite"),
        ("9" * 400, "not_finite"),
        ("-" + "9" * 5000, "not_finite"),
        ("", "invalid_json"),
        ("{'a': 1}", "invalid_json"),
        ("[1,]", "invalid_json"),
        ("1 2", "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "invalid_json"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "invalid_json"),
        (r'"\ud800"', "invalid_json"),
        (r'{"\uDFFF": 1}', "invalid_json"),
        ('"\ud800"', "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        ('"é"'.encode("latin-1"), "invalid_json"),
        ('"a"'.encode("utf-16"), "invalid_json"),
    ],
)
def test_text_that_readers_may_disagree_on_is_refused(text: str | bytes, kind: str) -> None:
    with pytest.raises(StrictJsonError) as caught:
        loads_strict(text)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d\ude00"', "😀"),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, None),
        ("[" + "[]," * 500 + "[]]", [[]] * 501),
        ("9" * 308, int("9" * 308)),
        ("1e308", 1e308),
        ('{"a": {"x": 1}, "b": {"x": 1}}', {"a": {"x": 1}, "b": {"x": 1}}),
    ],
)
def test_right_json_is_read(text: str | bytes, value: Any) -> None:
    read = loads_strict(text)
    assert value is None or read == value


def test_the_position_of_a_syntax_error_is_known_and_that_of_a_duplicate_is_not() -> None:
    with pytest.raises(StrictJsonError) as caught:
        loads_strict('{"a": x}')
    assert caught.value.position == 6
    with pytest.raises(StrictJsonError) as caught:
        loads_strict('{"a": 1, "a": 2}')
    assert caught.value.position is None


@settings(deadline=None)
@given(st.text() | st.binary())
def test_arbitrary_text_is_read_or_refused_and_what_is_read_can_be_written(text: str | bytes) -> None:
    try:
        value = loads_strict(text)
    except StrictJsonError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


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


# --- JSONL


def test_jsonl_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.jsonl"
    write_jsonl(path, [seed(1), seed(2)])
    assert read_jsonl(path, SeedRequest) == [seed(1), seed(2)]
    assert path.read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b"}', "text: required and not given"),
        ('{"id": "b", "text": "x", "note": 1}', "note: unknown field"),
        ('{"id": "b", "text": 5}', r"text: Input should be a valid string \(found 5\)"),
        ('{"id": "b", "id": "c", "text": "x"}', "key 'id' occurs more than once"),
        ('{"id": "b", "te', "character 15"),
        ("[]", "must be an object"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"seeds .*a.jsonl, line 3: .*{message}"):
        read_jsonl(path, SeedRequest, "seeds")


def test_validators_of_a_record_speak_without_pydantic_prefixes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": "a", "messages": [{"role": "user"}], "behaviour": "call", "expected": [[]], "category": "simple"}'
    )
    with pytest.raises(DataError) as caught:
        read_jsonl(path, EvalCase)
    assert "behaviour is 'call' but an expected answer holds no call" in caught.value.found
    assert "Value error" not in caught.value.found


def test_two_records_of_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [seed(1), seed(2), seed(1)])
    assert len(list(iter_jsonl(path, SeedRequest))) == 3
    with pytest.raises(DataError, match="holds id '1' twice"):
        read_jsonl(path, SeedRequest)
    records = iter_unique_jsonl(path, SeedRequest)
    assert [next(records), next(records)] == [seed(1), seed(2)]
    with pytest.raises(DataError, match="holds id '1' twice"):
        next(records)


# --- whole files


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


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_file(path) == sha256_bytes(b"abc")
    assert sha256_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1}) != sha256_json({"a": 1, "b": [3]})
    with pytest.raises(DataError, match="does not exist"):
        sha256_file(tmp_path / "b")


# --- journals


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


# --- run directories


def run(path: Path, **changes: Any) -> RunDirectory:
    settings_of_run: dict[str, Any] = {
        "stage": "train",
        "config": {"epochs": 1, "objective": {"ce_weight": 1.0, "kd_weight": 0.0}, "batch": 8},
        "seed": 3,
        "volatile": frozenset({"batch"}),
    }
    return RunDirectory(path, **{**settings_of_run, **changes})


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


def test_the_manifest_says_how_the_directory_came_to_be(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"abc")
    with run(tmp_path / "out", inputs=[source], model=ModelRef(model="m", revision="r")):
        manifest = read_json(tmp_path / "out" / "manifest.json")
    assert manifest["inputs"] == {str(source): sha256_bytes(b"abc")}
    assert manifest["model"] == {"model": "m", "revision": "r", "params": {}}
    assert (manifest["stage"], manifest["status"], manifest["seed"]) == ("train", "running", 3)
    assert {"fcdistill", "torch", "pydantic"} <= manifest["packages"].keys()


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
        patch.setattr("fcdistill.storage.fcntl.flock", lambda *_: (tmp_path / ".lock").unlink())
        with pytest.raises(StorageError, match="another process is working"):
            run(tmp_path)
    with run(tmp_path) as again:
        assert not again.resumed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "generate"}, "holds a run of `fcdistill train`"),
        ({"seed": 4}, "seed: was 3, is 4"),
        ({"config": {"epochs": 2, "batch": 8}}, "epochs: was 1, is 2"),
        (
            {"config": {"epochs": 1, "objective": {"ce_weight": 1.0, "kd_weight": 0.5}, "batch": 8}},
            "objective.kd_weight: was 0.0, is 0.5",
        ),
        ({"model": ModelRef(model="m")}, "model: was None, is {'model': 'm'"),
        ({"tokenizer_sha256": "t"}, "tokenizer_sha256: was None, is 't'"),
        ({"template_sha256": "t"}, "template_sha256: was None, is 't'"),
    ],
)
def test_another_run_in_its_place_is_refused_and_the_difference_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with run(tmp_path):
        before = read_json(tmp_path / "manifest.json")
    with pytest.raises(DataError) as caught:
        run(tmp_path, **changes)
    assert message in caught.value.found
    assert "batch" not in caught.value.found
    assert read_json(tmp_path / "manifest.json")["config"] == before["config"]
    with run(tmp_path) as again:
        assert again.resumed


def test_changed_added_and_removed_inputs_are_named(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    for path in (one, two, three):
        path.write_text("old")
    with run(tmp_path / "out", inputs=[one, two]):
        one.write_text("new")
    with pytest.raises(DataError) as caught:
        run(tmp_path / "out", inputs=[one, three])
    assert f"input {one}: its content changed" in caught.value.found
    assert f"input {two}: was read, is not" in caught.value.found
    assert f"input {three}: was not read, is now" in caught.value.found


def test_a_missing_input_is_the_users_error_and_leaves_the_directory_free(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no.jsonl does not exist"):
        run(tmp_path, inputs=[tmp_path / "no.jsonl"])
    run(tmp_path).__exit__(None, None, None)


@pytest.mark.parametrize("content", ["{", "[]", '{"stage": "train"}', '{"stage": 1, "stage": 1}'])
def test_a_corrupt_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="manifest") as caught:
        run(tmp_path)
    assert "choose another output directory" in caught.value.fix
    assert (tmp_path / "manifest.json").read_text() == content


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
