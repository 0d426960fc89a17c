"""Plain Python work, spread over the cores.

A forked process knows all that this one does, so that nothing but results passes between the two. It has none of its
threads and can't use its GPU: what is spread here neither computes with tensors nor waits for anything. Where a
process can't be had, or comes to nothing, its part of the work is done here, with the errors that it may raise.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

__all__ = ["beside", "map_parts"]

T = TypeVar("T")
R = TypeVar("R")

_WORTHWHILE = 500
"""Items per process: for fewer, a process takes longer to start than it saves."""


@dataclass(frozen=True)
class _Started:
    """A process at work."""

    process: ForkProcess
    result: Connection
    """Where it leaves its result, in a tuple."""


@contextlib.contextmanager
def beside(function: Callable[[], R]) -> Iterator[Callable[[], R]]:
    """`function` at work in a process of its own while the block runs.

    Args:
        function: gives a picklable result, or leaves files behind; it may run twice, here where the process failed.

    Yields:
        What waits for the result and returns it. Where the block never calls it, the work is given up.
    """
    started = _start(function) if _num_cores() > 1 else None

    def result() -> R:
        found = None if started is None else _received(started)
        return function() if found is None else found[0]

    try:
        yield result
    finally:
        _end([started])


def map_parts(function: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
    """What `function` returns for all items, called with parts of them, each in a process of its own.

    Args:
        function: gives a picklable result for each item, the same whatever part the item is in.
        items: what to work on; a few are given to `function` at once, here.
    """
    num_parts = max(1, min(_num_cores(), len(items) // _WORTHWHILE))
    bounds = [len(items) * number // num_parts for number in range(num_parts + 1)]
    first, *others = [items[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
    started = [_start(partial(function, part)) for part in others]
    try:
        results = list(function(first))
        for part, process in zip(others, started, strict=True):
            found = None if process is None else _received(process)
            results += function(part) if found is None else found[0]
        return results
    finally:
        _end(started)


def _num_cores() -> int:
    """The cores that forked processes may use; 1 where there can be none.

    That is beside torch's threads and on macOS, where forking is not safe, and in a daemonic process of
    multiprocessing, which may have no children.
    """
    if sys.platform != "linux" or "torch" in sys.modules or multiprocessing.current_process().daemon:
        return 1
    return len(os.sched_getaffinity(0))


def _start(work: Callable[[], Any]) -> _Started | None:
    """A process at work; None where there can't be one."""
    context = multiprocessing.get_context("fork")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, writing))
    try:
        process.start()
    except OSError:
        reading.close()
        return None
    finally:
        writing.close()  # where the process ends without a result, nobody else may hold its end
    return _Started(process, reading)


def _answer(work: Callable[[], Any], writing: Connection) -> None:
    """What a process does: it says its result or nothing, and leaves what is open here to its parent."""

    def leave(*_: object) -> None:
        sys.exit()  # on the way out, work that is given up clears away what it began

    try:
        signal.signal(signal.SIGTERM, leave)
        with contextlib.suppress(Exception):  # the parent does the work again, and meets the error itself
            writing.send((work(),))
    finally:
        os._exit(0)  # at its own end multiprocessing flushes the parent's streams and ends the pools of its threads


def _end(started: Sequence[_Started | None]) -> None:
    for each in filter(None, started):
        each.result.close()
        each.process.terminate()  # one that has not ended has nothing more to say
        each.process.join()
        each.process.close()


def _received(started: _Started) -> tuple[Any] | None:
    """The result of a process, None where it ended without one."""
    try:
        found: tuple[Any] = started.result.recv()
    except (EOFError, OSError, pickle.UnpicklingError):
        return None
    return found
