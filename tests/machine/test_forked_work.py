import atexit
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fcdistill.machine import forked_work
from fcdistill.machine.forked_work import beside, map_parts
from fcdistill.storage import write_parts


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that were started: others of this process's children belong to other tests."""
    started: list[int] = []
    fork = os.fork

    def counted() -> int:
        process = fork()
        if process:
            started.append(process)
        return process

    monkeypatch.setattr(os, "fork", counted)
    return started


def _none_is_left(processes: Sequence[int]) -> bool:
    for process in processes:
        with pytest.raises(ChildProcessError):
            os.waitpid(process, os.WNOHANG)
    return True


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked_work, "_num_cores", lambda: 3)


def test_results_come_in_order_from_several_processes() -> None:
    found = map_parts(lambda part: [(number, os.getpid()) for number in part], range(2000))
    assert [number for number, _ in found] == list(range(2000))
    assert len({process for _, process in found}) == 3


@pytest.mark.parametrize("count", [0, 1, 999])
def test_few_items_are_worked_on_here(count: int) -> None:
    assert map_parts(lambda part: [os.getpid() for _ in part], range(count)) == [os.getpid()] * count


def test_the_part_of_a_process_that_comes_to_nothing_is_done_here() -> None:
    here = os.getpid()

    def work(part: Sequence[int]) -> list[int]:
        if os.getpid() != here:
            raise MemoryError
        return [2 * number for number in part]

    assert map_parts(work, range(2000)) == [2 * number for number in range(2000)]


def test_where_there_can_be_no_process_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refuse)
    assert map_parts(lambda part: [os.getpid() for _ in part], range(2000)) == [os.getpid()] * 2000


def test_an_error_is_raised_as_if_all_were_done_here(capfd: pytest.CaptureFixture[str]) -> None:
    def work(part: Sequence[int]) -> list[float]:
        return [1 / (number - 1999) for number in part]

    with pytest.raises(ZeroDivisionError):
        map_parts(work, range(2000))
    assert capfd.readouterr() == ("", "")


def test_no_process_is_left_behind_when_the_work_here_is_interrupted(forked: list[int]) -> None:
    here = os.getpid()

    def work(part: Sequence[int]) -> list[int]:
        if os.getpid() == here:
            raise KeyboardInterrupt
        return list(part)

    with pytest.raises(KeyboardInterrupt):
        map_parts(work, range(2000))
    assert len(forked) == 2 and _none_is_left(forked)


def test_what_goes_on_beside_the_block_runs_in_another_process() -> None:
    with beside(os.getpid) as process:
        assert process() != os.getpid()


def test_a_result_of_nothing_is_one() -> None:
    here, made_here = os.getpid(), []
    with beside(lambda: made_here.append(1) if os.getpid() == here else None) as result:
        assert result() is None
    assert not made_here


def test_where_there_is_one_core_the_work_is_done_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked_work, "_num_cores", lambda: 1)
    with beside(os.getpid) as process:
        assert process() == os.getpid()


def test_an_error_beside_the_block_is_raised_where_the_result_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    with beside(lambda: 1 // 0) as result, pytest.raises(ZeroDivisionError):
        result()
    assert capfd.readouterr() == ("", "")


def test_work_that_nobody_waits_for_ends_with_the_block(forked: list[int]) -> None:
    with pytest.raises(KeyError), beside(lambda: time.sleep(60)):
        raise KeyError
    assert len(forked) == 1 and _none_is_left(forked)


def test_a_file_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"begun"
        time.sleep(60)

    with pytest.raises(KeyError), beside(lambda: write_parts(tmp_path / "file", parts())):
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_no_process_is_left_behind_when_all_is_done(forked: list[int]) -> None:
    assert map_parts(lambda part: [number + 1 for number in part], range(2000)) == list(range(1, 2001))
    with beside(os.getpid) as process:
        process()
    assert len(forked) == 3 and _none_is_left(forked)


def test_a_result_larger_than_a_pipe_is_received_whole() -> None:
    with beside(lambda: b"x" * 5_000_000) as result:
        assert len(result()) == 5_000_000


def test_a_result_that_can_not_be_sent_is_made_here(capfd: pytest.CaptureFixture[str]) -> None:
    with beside(lambda: (os.getpid(), lambda: None)) as result:
        assert result()[0] == os.getpid()
    assert capfd.readouterr() == ("", "")


def test_a_process_neither_writes_what_its_parent_has_yet_to_write_nor_runs_its_handlers(tmp_path: Path) -> None:
    """Each leaves a line; the file's buffer and the handlers are a parent's own, whatever its processes do."""
    here, log = os.getpid(), tmp_path / "log"

    def note(what: str) -> None:
        with log.open("a") as lines:
            lines.write(f"{what} {os.getpid()}\n")

    def at_exit() -> None:
        note("atexit")

    def at_threads_end() -> None:
        note("threads")

    atexit.register(at_exit)
    threading._register_atexit(at_threads_end)  # type: ignore[attr-defined]
    try:
        with (tmp_path / "buffered").open("w") as buffered, beside(lambda: note("worked")) as result:
            buffered.write("once")
            result()
            assert map_parts(lambda part: [note("worked") for _ in part[:1]] * len(part), range(2000))
    finally:
        atexit.unregister(at_exit)
        threading._threading_atexits.pop()  # type: ignore[attr-defined]
    assert (tmp_path / "buffered").read_text() == "once"
    written = [line.split() for line in log.read_text().splitlines()]
    assert {what for what, _ in written} == {"worked"} and len({process for _, process in written} - {str(here)}) == 3


def test_what_is_printed_before_appears_once(capfd: pytest.CaptureFixture[str]) -> None:
    with open(os.dup(1), "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        print("before", end="")
        with beside(os.getpid) as process:
            assert process() != os.getpid()
    assert capfd.readouterr() == ("before", "")


def test_work_that_ends_as_it_is_given_up_says_nothing(capfd: pytest.CaptureFixture[str], forked: list[int]) -> None:
    for number in range(60):
        with beside(lambda wait_s=number / 20_000: time.sleep(wait_s)):
            time.sleep(number / 20_000)
    assert _none_is_left(forked) and capfd.readouterr() == ("", "")


def test_processes_start_others() -> None:
    def with_another() -> tuple[int, int]:
        with beside(os.getpid) as process:
            return os.getpid(), process()

    with beside(with_another) as result:
        assert len({os.getpid(), *result()}) == 3


def _cores_of_a_daemon(found: "multiprocessing.Queue[int]") -> None:
    found.put(_NUM_CORES())


_NUM_CORES = forked_work._num_cores


def test_a_process_that_may_have_no_children_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[int] = context.Queue()
    assert _NUM_CORES() == 3
    daemon = context.Process(target=_cores_of_a_daemon, args=(found,), daemon=True)
    daemon.start()
    assert found.get(timeout=30) == 1
    daemon.join()
