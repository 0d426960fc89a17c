"""Tests of `fcdistill.backends.openai.fan_out`."""

import asyncio
from collections.abc import Iterator

import pytest

from fcdistill.backends.openai.fan_out import LoopThread


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


async def at_once(item: int) -> int:
    await asyncio.sleep(0)
    return item


def test_many_items_are_answered_once_each_with_few_taken_in_advance(loop: LoopThread) -> None:
    num_taken = 0

    def items() -> Iterator[int]:
        nonlocal num_taken
        for number in range(10_000):
            num_taken += 1
            yield number

    answered = set()
    most_ahead = 0
    for count, answer in enumerate(loop.answers(items(), at_once, max_concurrency=8), 1):
        most_ahead = max(most_ahead, num_taken - count)
        answered.add(answer)
    assert answered == set(range(10_000)) and count == 10_000
    assert most_ahead <= 16


def test_no_items_have_no_answers(loop: LoopThread) -> None:
    assert list(loop.answers([], at_once, max_concurrency=3)) == []


def test_the_first_exception_comes_behind_the_ready_answers_and_cancels_the_rest(loop: LoopThread) -> None:
    cancelled = []

    async def answer(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        if item > 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(item)
                raise
        return item

    taken = []
    with pytest.raises(ValueError, match="two"):
        for each in loop.answers([0, 1, 3, 2], answer, max_concurrency=2):
            taken.append(each)
    assert taken == [0, 1] and cancelled == [3]


def test_stopping_early_waits_until_everything_is_cancelled(loop: LoopThread) -> None:
    under_way = 0

    async def answer(item: int) -> int:
        nonlocal under_way
        under_way += 1
        try:
            await asyncio.sleep(60 if item else 0)
        finally:
            under_way -= 1
        return item

    for _ in loop.answers(range(100), answer, max_concurrency=4):
        break
    # A `for` that is left drops the iterator, which closes it.
    assert under_way == 0


def test_two_iterations_share_one_loop(loop: LoopThread) -> None:
    first, second = (loop.answers(range(20), at_once, max_concurrency=2) for _ in range(2))
    pairs = list(zip(first, second, strict=True))
    assert {one for one, _ in pairs} == {two for _, two in pairs} == set(range(20))


def test_closing_twice_changes_nothing() -> None:
    thread = LoopThread()
    thread.close()
    thread.close()
