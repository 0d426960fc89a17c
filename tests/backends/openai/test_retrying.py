"""Tests of `fcdistill.backends.openai.retrying`."""

import asyncio
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
