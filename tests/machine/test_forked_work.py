import os
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
