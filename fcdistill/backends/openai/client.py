"""One server that speaks OpenAI's API, asked with bounded concurrency through the `openai` client.

What passes (rate limits, server errors, time-outs, dropped connections) is tried again by one policy, `retrying`; what
concerns one request is a `RequestFailedError`; what would fail every request is a `BackendError`. The key comes from
the environment alone and is cut out of whatever a server says. What is asked, and what an answer means, is not known
here.
"""

import asyncio
import importlib.util
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from fcdistill.backends.openai.fan_out import LoopThread
from fcdistill.backends.openai.retrying import Retrying, TransientError, retry_after_s
from fcdistill.config import ServerConfig
from fcdistill.errors import BackendError, ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from openai import APIStatusError

__all__ = ["OpenAIClient", "RequestFailedError", "Usage"]

_PACKAGES = ("openai", "tenacity")
_NO_KEY = "none"
"""Sent to servers that ask for no key: the client refuses to send nothing."""
_SHOWN_CHARACTERS = 300
_PASSING_STATUS = frozenset({408, 409, 425, 429})

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass
class Usage:
    """What a server was asked and what that cost so far."""

    num_answered: int = 0
    num_failed: int = 0
    num_retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    """In the currency of the configured prices; None where there are none."""

    def __str__(self) -> str:
        text = (
            f"{self.num_answered} answers, {self.num_failed} failed, {self.num_retries} retries; "
            f"{self.prompt_tokens} prompt and {self.completion_tokens} completion tokens"
        )
        return text if self.cost is None else f"{text}; cost {self.cost:.4f}"


class RequestFailedError(Exception):
    """This request has no answer; others may have one. The message is for people, without the key."""


class OpenAIClient:
    """The connections to one server.

    Args:
        config: which server and model, and how they are asked.
        api_key: the key; None where the server asks for none.
        first_wait_s: the wait after the first failure of a request, see `Retrying`.
    """

    def __init__(self, config: ServerConfig, *, api_key: str | None, first_wait_s: float = 0.5) -> None:
        import openai

        self._config = config
        self._api_key = api_key
        self._retrying = Retrying(config.max_retries, first_wait_s=first_wait_s)
        self._usage = Usage()
        self._client = openai.AsyncOpenAI(
            api_key=api_key or _NO_KEY, base_url=config.base_url, timeout=config.timeout_s, max_retries=0
        )
        self._loop = LoopThread()
        self._closed = False

    @classmethod
    def from_config(cls, config: ServerConfig) -> Self:
        """The client of a config; nothing is asked yet.

        Raises:
            MissingDependencyError: a package of the extra [http] is not installed.
            ConfigError: the key's variable is not set or holds no key.
        """
        for package in _PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise MissingDependencyError(
                    f"a model behind a server needs the package {package}, which is not installed",
                    required="the extra [http]",
                    fix="pip install 'fcdistill[http]'",
                )
        return cls(config, api_key=_api_key(config.api_key_env))

    @property
    def usage(self) -> Usage:
        """Token totals and cost of all answers so far."""
        usage = self._usage
        usage.num_retries = self._retrying.num_retries
        if self._config.prompt_price is not None and self._config.completion_price is not None:
            prompts = usage.prompt_tokens * self._config.prompt_price
            usage.cost = (prompts + usage.completion_tokens * self._config.completion_price) / 1e6
        return usage

    def count(self, *, answered: bool, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Add a request to the totals; token counts are None where the server says nothing of them."""
        self._usage.num_answered += answered
        self._usage.num_failed += not answered
        self._usage.prompt_tokens += prompt_tokens or 0
        self._usage.completion_tokens += completion_tokens or 0

    def answers(self, items: Iterable[Item], answer: Callable[[Item], Awaitable[Answer]]) -> Iterator[Answer]:
        """What `answer` makes of each item, as soon as it is there, in no particular order.

        A consumer that stops early cancels what is under way; the first exception out of `answer` ends the others.
        """
        return self._loop.answers(items, answer, max_concurrency=self._config.max_concurrency)

    async def post(
        self, api: Literal["chat", "completions"], body: dict[str, Any], extension: dict[str, Any] | None = None
    ) -> tuple[bytes, float]:
        """The body of a successful response, and the seconds of the try that brought it.

        Args:
            api: which of the server's.
            body: what OpenAI's API knows.
            extension: what other servers know beside it.

        Raises:
            RequestFailedError: this request is refused, or still failed when tried again.
            BackendError: the server refuses the key or the model, or can't be reached: no request can be answered.
        """

        async def attempt() -> tuple[bytes, float]:
            started = time.monotonic()
            content = await self._try(api, body, extension)
            return content, time.monotonic() - started

        try:
            return await self._retrying.run(attempt)
        except TransientError as failure:
            if failure.unreachable:
                raise self._unreachable(failure.reason) from None
            asked = failure.retry_after_s
            wait = "" if asked is None else f"; the server asks to wait {asked:.0f} s"
            tries = f"{failure.reason} (tried up to {self._config.max_retries + 1} times{wait})"
            raise RequestFailedError(tries) from None

    def redacted(self, text: str) -> str:
        """At most a few lines of what a server or a library said, without the key."""
        if self._api_key:
            text = text.replace(self._api_key, "[key]")
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."

    def close(self) -> None:
        """Close the connections; to do so twice changes nothing."""
        if not self._closed:
            self._closed = True
            self._loop.run(self._client.close())
            self._loop.close()

    async def _try(self, path: str, body: dict[str, Any], extension: dict[str, Any] | None) -> bytes:
        """One try of `post`. Raises `TransientError` too."""
        import openai

        api = self._client.completions if path == "completions" else self._client.chat.completions
        try:
            # The client's limit is per read, so that a server that drips bytes would never meet it.
            async with asyncio.timeout(self._config.timeout_s):
                # Raw: the client would turn bodies of any shape into an answer.
                response = await api.with_raw_response.create(**body, extra_body=extension)
                content: bytes = response.content
                return content
        except (TimeoutError, openai.APITimeoutError):
            raise TransientError(f"no answer within {self._config.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            # By name: the client brings its own HTTP library, which is not the same in all its versions.
            unreachable = type(cause).__name__ == "ConnectError"
            detail = self.redacted(str(cause)) or type(cause).__name__
            raise TransientError(f"the connection failed: {detail}", unreachable=unreachable) from None
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except openai.OpenAIError as error:
            raise RequestFailedError(self.redacted(f"the client failed: {error}")) from None

    def _status_error(self, error: "APIStatusError") -> Exception:
        """What a response without success means for its request, or for all of them."""
        status, code = error.status_code, str(error.code or "")
        said = self.redacted(_said(error))
        where = f"model {self._config.model!r} at {self._config.base_url}"
        if status in (401, 403):
            # What the server says is not repeated: some servers repeat parts of the key.
            variable = self._config.api_key_env
            return BackendError(
                f"the server refuses the key (HTTP {status}): {where}",
                required="a key that the server accepts for this model",
                fix=f"correct the environment variable {variable}" if variable else "name its variable in api_key_env",
            )
        lowered = said.lower()
        about_model = "model" in lowered and ("not exist" in lowered or "not found" in lowered)
        about_model = about_model or "pinned to" in lowered  # `transformers serve MODEL` answers for no other name
        if status == 404 or code == "model_not_found" or (status == 400 and about_model):
            return BackendError(
                f"the server knows no {where} (HTTP {status}): {said}",
                required="the base_url where the API begins (it mostly ends in /v1), and a model that it serves",
                fix="compare base_url and model with the list under <base_url>/models",
            )
        if code == "insufficient_quota":
            return BackendError(
                f"the account has no quota left (HTTP {status}): {where}",
                required="an account that can pay for the answers",
                fix="add to its quota, then run the same command again; finished answers are kept",
            )
        if status in _PASSING_STATUS or status >= 500:
            return TransientError(f"HTTP {status}: {said}", retry_after_s=retry_after_s(error.response.headers))
        return RequestFailedError(f"the server refuses the request (HTTP {status}): {said}")

    def _unreachable(self, reason: str) -> BackendError:
        tries = f"tried {self._config.max_retries + 1} times"
        return BackendError(
            f"no server can be reached at {self._config.base_url}: {reason} ({tries})",
            required="a running server at base_url",
            fix="start it or correct base_url, then run the same command again; finished answers are kept",
        )


def _said(error: "APIStatusError") -> str:
    """What the server says, in OpenAI's shape or in FastAPI's, which the client does not know."""
    detail = error.body.get("detail") if isinstance(error.body, dict) else None
    return f"{error.message}: {detail}" if detail else error.message


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        state = "holds something that is no key" if key else "is not set"
        raise ConfigError(
            f"the environment variable {variable} {state}",
            required="the server's key, in the variable that api_key_env names",
            fix=f"export {variable}=..., or set api_key_env to null for a server that asks for no key",
        )
    return key
