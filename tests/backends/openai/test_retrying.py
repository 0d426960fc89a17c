"""Tests of `fcdistill.backends.openai.retrying`."""

import asyncio
import subprocess
import sys
import time
from email.utils import formatdate

import pytest

from fcdistill.backends.openai.retrying import Retrying, TransientError, retry_after_s


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_or_ignored(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers) == expected


def test_a_date_is_the_time_until_then() -> None:
    asked = retry_after_s({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert asked is not None and 55 < asked <= 60


def test_waits_grow_up_to_a_limit_with_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(wait_s: float) -> None:
        waits.append(wait_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def fails() -> None:
        raise TransientError("no")

    retrying = Retrying(12, first_wait_s=1.0)
    with pytest.raises(TransientError, match="no"):
        asyncio.run(retrying.run(fails))
    assert retrying.num_retries == len(waits) == 12
    for number, wait_s in enumerate(waits):
        assert min(2.0**number, 60.0) / 2 <= wait_s <= min(2.0**number, 60.0)
    assert len({wait_s / min(2.0**number, 60.0) for number, wait_s in enumerate(waits)}) > 1


def test_without_retries_there_is_one_try() -> None:
    tries = []

    async def fails() -> None:
        tries.append(1)
        raise TransientError("no")

    with pytest.raises(TransientError):
        asyncio.run(Retrying(0).run(fails))
    assert len(tries) == 1


@pytest.mark.parametrize("failure", [ValueError("mine"), asyncio.CancelledError("stop"), KeyboardInterrupt()])
def test_other_failures_are_raised_as_they_are_after_one_try(failure: BaseException) -> None:
    tries = []

    async def fails() -> None:
        tries.append(1)
        raise failure

    async def caught() -> BaseException | None:
        try:
            await retrying.run(fails)
        except BaseException as error:
            return error
        return None

    retrying = Retrying(5)
    assert asyncio.run(caught()) is failure
    assert (len(tries), retrying.num_retries) == (1, 0)


def test_a_request_under_way_can_be_cancelled_while_it_waits() -> None:
    async def fails() -> None:
        raise TransientError("no")

    async def cancelled() -> None:
        task = asyncio.ensure_future(Retrying(5, first_wait_s=60.0).run(fails))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_requests_at_the_same_time_have_their_own_tries() -> None:
    """Every request fails as often as its number says, and each failure holds all others up for a moment."""
    retrying = Retrying(3, first_wait_s=0.001)

    async def request(number: int) -> tuple[int, int]:
        tries = 0

        async def attempt() -> int:
            nonlocal tries
            tries += 1
            await asyncio.sleep(0.001 * (number % 3))
            if tries <= number:
                raise TransientError("no", retry_after_s=0.002 * (number % 2))
            return number

        try:
            return await retrying.run(attempt), tries
        except TransientError:
            return -1, tries

    async def together() -> list[tuple[int, int]]:
        return list(await asyncio.gather(*map(request, [0, 1, 2, 3, 4, 9] * 5)))

    expected = [(0, 1), (1, 2), (2, 3), (3, 4), (-1, 4), (-1, 4)]
    assert asyncio.run(together()) == expected * 5
    assert retrying.num_retries == 5 * (0 + 1 + 2 + 3 + 3 + 3)


def test_nobody_asks_before_the_time_that_one_was_told_and_none_waits_longer_than_anybody_would() -> None:
    retrying = Retrying(2, first_wait_s=0.01)
    asked: list[float] = []

    async def told(wait_s: float) -> None:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise TransientError("later", retry_after_s=wait_s)

    async def scenario() -> None:
        first = asyncio.ensure_future(retrying.run(lambda: told(0.2)))
        await asyncio.sleep(0.02)
        await asyncio.gather(first, *(retrying.run(lambda: told(0.2)) for _ in range(3)))
        assert len(asked) == 5 and min(asked[1:]) - asked[0] >= 0.2
        asked.clear()
        with pytest.raises(TransientError, match="later"):
            await retrying.run(lambda: told(601.0))
        assert len(asked) == 1

    asyncio.run(scenario())
    assert retrying.num_retries == 1


def test_the_library_behind_it_is_loaded_where_a_server_is_asked() -> None:
    program = "import sys, fcdistill.backends.openai.client; sys.exit('tenacity' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
