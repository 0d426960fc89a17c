"""Many awaited answers behind a plain iterator: an event loop in a thread, bounded room between it and the consumer.

Of however many items there are, only so many are under way or wait to be taken; a slow consumer slows the work instead
of piling up answers. What is awaited is not known here.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["LoopThread"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


class LoopThread:
    """An event loop that runs in a thread of its own until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon: where nobody closes it, it does not keep the process alive.
        self._thread = threading.Thread(target=self._loop.run_forever, name="fcdistill-http", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """What a coroutine returns, run in the loop while the caller waits."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def answers(
        self, items: Iterable[Item], answer: Callable[[Item], Awaitable[Answer]], *, max_concurrency: int
    ) -> Iterator[Answer]:
        """The answer to each item exactly once, each as soon as it is there.

        A consumer that stops early cancels what is under way.

        Args:
            items: taken one by one, in the loop's thread, when there is room for them.
            answer: what is awaited. The first exception out of it cancels the others and is raised here, behind the
                answers that were ready before.
            max_concurrency: most items that are under way at once; as many more answers may wait to be taken.
        """
        ready: SimpleQueue[Answer | _End] = SimpleQueue()
        room = asyncio.Semaphore(2 * max_concurrency)

        async def start() -> asyncio.Task[None]:
            task = asyncio.create_task(_work(iter(items), answer, ready, room, max_concurrency))
            # A callback and no `finally` inside: it also runs where the task is cancelled before its first step.
            task.add_done_callback(lambda done: ready.put(_End(done)))
            return task

        task = self.run(start())
        end: _End | None = None
        try:
            while not isinstance(taken := ready.get(), _End):
                self._loop.call_soon_threadsafe(room.release)
                yield taken
            end = taken
        finally:
            if end is None:
                self._loop.call_soon_threadsafe(task.cancel)
                while not isinstance(ready.get(), _End):
                    pass
        end.raise_error()

    def close(self) -> None:
        """Stop the loop; to do so twice changes nothing."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class _End:
    """Stands behind the last answer."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def raise_error(self) -> None:
        """Raise what ended the work before its time."""
        error = None if self._task.cancelled() else self._task.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None:
            raise error


async def _work(
    items: Iterator[Item],
    answer: Callable[[Item], Awaitable[Answer]],
    ready: "SimpleQueue[Answer | _End]",
    room: asyncio.Semaphore,
    max_concurrency: int,
) -> None:
    async def worker() -> None:
        while True:
            await room.acquire()
            try:
                item = next(items)  # shared by all workers, which take turns only where they await
            except StopIteration:
                room.release()
                return
            ready.put(await answer(item))

    async with asyncio.TaskGroup() as group:
        for _ in range(max_concurrency):
            group.create_task(worker())
