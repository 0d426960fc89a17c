"""Plain Python work, spread over the cores.

A forked process knows all that this one does, so that nothing but results passes between the two. It has none of its
threads and can't use its GPU: what is spread here neither computes with tensors nor waits for anything. Where a
process can't be had, or comes to nothing, its part of the work is done here, with the errors that it may raise.
"""

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, TypeVar

__all__ = ["beside", "map_parts"]

T = TypeVar("T")
R = TypeVar("R")

_WORTHWHILE = 500
"""Items per process: for fewer, a process takes longer to start than it saves."""


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
        found = None if started is None else _received(started[1])
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
            found = None if process is None else _received(process[1])
            results += function(part) if found is None else found[0]
        return results
    finally:
        _end(started)


def _num_cores() -> int:
    """The cores that forked processes may use; 1 where forking is not safe: beside torch's threads, or on macOS."""
    return 1 if sys.platform != "linux" or "torch" in sys.modules else len(os.sched_getaffinity(0))


def _start(work: Callable[[], Any]) -> tuple[int, BinaryIO] | None:
    """A process at work: its id, and where its result can be read; None where there can't be one."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        return None
    if pid:
        os.close(writing)
        return pid, open(reading, "rb")
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # work that is given up clears away what it began
        with open(writing, "wb") as pipe:
            pickle.dump((work(),), pipe, pickle.HIGHEST_PROTOCOL)
    finally:
        os._exit(0)  # says nothing, and leaves what this process has open to its parent


def _end(started: Sequence[tuple[int, BinaryIO] | None]) -> None:
    for pid, pipe in filter(None, started):
        pipe.close()
        os.kill(pid, signal.SIGTERM)  # one that has not ended has nothing more to say
        os.waitpid(pid, 0)


def _received(pipe: BinaryIO) -> tuple[Any] | None:
    """The result of a process, None where it ended without one."""
    try:
        found: tuple[Any] = pickle.load(pipe)  # written by this program's own fork, through a pipe that no other has
    except (EOFError, pickle.UnpicklingError):
        return None
    return found
