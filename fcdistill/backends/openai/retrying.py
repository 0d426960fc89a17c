"""When a failed request is tried again: exponential waits with jitter, or as long as the server asks.

What counts as a failure that passes is decided by the caller, which raises `TransientError`.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeVar

__all__ = ["Retrying", "TransientError", "retry_after_s"]

_LONGEST_OWN_WAIT_S = 60.0
_LONGEST_ASKED_WAIT_S = 600.0

Answer = TypeVar("Answer")


class TransientError(Exception):
    """A failure that may pass.

    Args:
        reason: what happened, for people.
        retry_after_s: how long the server asks to wait; None where it does not say.
        unreachable: nobody accepted the connection.
    """

    def __init__(self, reason: str, *, retry_after_s: float | None = None, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.unreachable = unreachable


class Retrying:
    """The one policy of all requests to one server; for one event loop.

    Where the server asks one request to wait, no other is sent before that time either: each would only use up a try.

    Args:
        max_retries: further tries after the first.
        first_wait_s: the wait after the first failure; it doubles with every further one, up to a minute.
    """

    def __init__(self, max_retries: int, *, first_wait_s: float = 0.5) -> None:
        self._max_retries = max_retries
        self._first_wait_s = first_wait_s
        self._closed_until = 0.0
        self.num_retries = 0
        """Further tries so far, of all requests."""

    async def run(self, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        """What the first attempt that succeeds returns. Raises the last attempt's `TransientError` where none does."""
        for number in range(self._max_retries + 1):
            await self._until_open()
            try:
                return await attempt()
            except TransientError as failure:
                asked = failure.retry_after_s
                if number == self._max_retries or (asked is not None and asked > _LONGEST_ASKED_WAIT_S):
                    raise
                if asked is not None:
                    self._closed_until = max(self._closed_until, time.monotonic() + asked)
            self.num_retries += 1
            # Jitter, so that requests that failed together do not come back together.
            await asyncio.sleep(self._wait_s(number) * random.uniform(0.5, 1.0))
        raise AssertionError("max_retries is negative")

    def _wait_s(self, num_failed_before: int) -> float:
        return min(self._first_wait_s * 2.0 ** min(num_failed_before, 32), _LONGEST_OWN_WAIT_S)

    async def _until_open(self) -> None:
        while (wait_s := self._closed_until - time.monotonic()) > 0:
            await asyncio.sleep(wait_s + random.uniform(0.0, self._first_wait_s))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait before the next try, >= 0; None where it does not say so intelligibly.

    Source: RFC 9110, section 10.2.3: seconds or a date. `retry-after-ms` is what OpenAI's servers add to it.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        date = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time())
