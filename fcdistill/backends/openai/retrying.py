"""When a failed request is tried again: exponential waits with jitter, or as long as the server asks.

What counts as a failure that passes is decided by the caller, which raises `TransientError`.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tenacity import RetryCallState

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
        import tenacity

        self._first_wait_s = first_wait_s
        self._closed_until = 0.0
        self.num_retries = 0
        """Further tries so far, of all requests."""
        self._growing_wait = tenacity.wait_exponential(multiplier=first_wait_s, max=_LONGEST_OWN_WAIT_S)
        self._policy = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_may_pass),
            stop=tenacity.stop_after_attempt(max_retries + 1),
            wait=self._wait_s,
            before=self._until_open,
            before_sleep=self._note_retry,
            reraise=True,
        )

    async def run(self, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        """What the first attempt that succeeds returns. Raises the last attempt's `TransientError` where none does."""
        async for one_try in self._policy.copy():  # it keeps the state of one request between its tries
            with one_try:
                return await attempt()
        raise AssertionError("the policy raises the last failure")

    def _wait_s(self, state: "RetryCallState") -> float:
        # Jitter, so that requests that failed together do not come back together.
        return self._growing_wait(state) * random.uniform(0.5, 1.0)

    def _note_retry(self, state: "RetryCallState") -> None:
        self.num_retries += 1
        failure = state.outcome.exception() if state.outcome is not None else None
        if isinstance(failure, TransientError) and failure.retry_after_s is not None:
            self._closed_until = max(self._closed_until, time.monotonic() + failure.retry_after_s)

    async def _until_open(self, _: "RetryCallState") -> None:
        while (wait_s := self._closed_until - time.monotonic()) > 0:
            await asyncio.sleep(wait_s + random.uniform(0.0, self._first_wait_s))


def _may_pass(failure: BaseException) -> bool:
    """Whether it is worth another try; a server that asks for longer than anybody waits is not asked again."""
    return isinstance(failure, TransientError) and (failure.retry_after_s or 0.0) <= _LONGEST_ASKED_WAIT_S


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
