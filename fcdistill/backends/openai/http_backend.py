"""A model behind a server that speaks OpenAI's API, as a backend.

What concerns one request becomes a completion with an error; what would fail every request ends the run, see
`client`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self

from fcdistill.backends.base import Completion, PromptFormat, Request
from fcdistill.backends.openai.chat_wire import (
    MalformedAnswerError,
    decode_fields,
    read_answer,
    wire_messages,
    wire_tools,
)
from fcdistill.backends.openai.client import OpenAIClient, RequestFailedError, Usage
from fcdistill.config import DecodeSettings, OpenAIBackendConfig
from fcdistill.errors import ConfigError
from fcdistill.records import ModelRef

__all__ = ["OpenAIBackend"]

RenderPrompt = Callable[[Request], list[int]]


class OpenAIBackend:
    """A backend on a server.

    Args:
        config: which model is asked, and through which API.
        client: of its server; closed with the backend.
        render_prompt: for the completions API, the token ids of a request's prompt.
        prompt_format: how `render_prompt` renders.
        report: is told the totals when the backend is closed.
    """

    def __init__(
        self,
        config: OpenAIBackendConfig,
        client: OpenAIClient,
        *,
        render_prompt: RenderPrompt | None = None,
        prompt_format: PromptFormat | None = None,
        report: Callable[[Usage], None] | None = None,
    ) -> None:
        self._config = config
        self._client = client
        self._render_prompt = render_prompt
        self._prompt_format = prompt_format
        self._report = report

    @classmethod
    def from_config(cls, config: OpenAIBackendConfig, report: Callable[[Usage], None] | None = None) -> Self:
        """The backend of a config; nothing is asked yet. `report` is told the totals when it is closed.

        Raises:
            MissingDependencyError: the package openai is not installed.
            ConfigError: the key's variable is not set or holds no key.
            ModelError: the tokenizer of the completions API is unusable.
        """
        client = OpenAIClient.from_config(config)
        try:
            render_prompt, prompt_format = _prompt_renderer(config)
            return cls(config, client, render_prompt=render_prompt, prompt_format=prompt_format, report=report)
        except BaseException:
            client.close()
            raise

    @property
    def ref(self) -> ModelRef:
        """The model that answers, and where."""
        return ModelRef(model=self._config.model, params={"base_url": self._config.base_url, "api": self._config.api})

    @property
    def prompt_format(self) -> PromptFormat | None:
        """How prompts are rendered; None where the server does that."""
        return self._prompt_format

    @property
    def usage(self) -> Usage:
        """Token totals and cost of all answers so far."""
        return self._client.usage

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        """Answer each request, each as soon as its answer is there, in no particular order.

        A consumer that stops early cancels the requests under way.

        Raises:
            ConfigError: answers are to be constrained.
            BackendError: the server refuses the key or the model, or can't be reached: no request could be answered.
            ModelError: for the completions API, a message can't be rendered.
        """
        if settings.constrained:
            raise ConfigError(
                "a server's answers can't be constrained from here",
                required="constrained false with backend openai_http",
                fix="let the server constrain them (vLLM, for example, has structured outputs)",
            )

        async def answer(request: Request) -> Completion:
            return await self._answer(request, settings)

        for completion in self._client.answers(requests, answer):
            self._client.count(
                answered=completion.error is None,
                prompt_tokens=completion.prompt_tokens,
                completion_tokens=completion.completion_tokens,
            )
            yield completion

    def close(self) -> None:
        """Close the connections and report the totals; to do so twice changes nothing."""
        self._client.close()
        if self._report is not None:
            self._report(self.usage)
            self._report = None

    async def _answer(self, request: Request, settings: DecodeSettings) -> Completion:
        api, body = self._body(request, settings)
        try:
            content, latency_s = await self._client.post(api, body, self._extension)
        except RequestFailedError as failure:
            return Completion(request.id, "", "error", error=str(failure))
        try:
            answer = read_answer(content, request.specs)
        except MalformedAnswerError as defect:
            error = self._client.redacted(str(defect))
            return Completion(request.id, "", "error", latency_s=latency_s, error=error)
        return Completion(
            request.id,
            answer.text,
            answer.finish_reason,
            answer.prompt_tokens,
            answer.completion_tokens,
            latency_s=latency_s,
            structured=answer.structured,
            thought=answer.thought,
            dialect=None if self._prompt_format is None else self._prompt_format.dialect,
            thought_tokens=answer.thought_tokens,
        )

    @property
    def _extension(self) -> dict[str, Any] | None:
        """What vLLM and its like know beside OpenAI's API; a prompt that is rendered here has its values already."""
        values = self._config.chat_template_kwargs
        return {"chat_template_kwargs": values} if values and self._render_prompt is None else None

    def _body(
        self, request: Request, settings: DecodeSettings
    ) -> tuple[Literal["chat", "completions"], dict[str, Any]]:
        body = {
            "model": self._config.model,
            **decode_fields(request, settings, self._config.max_tokens_field),
        }
        if self._render_prompt is not None:
            return "completions", {**body, "prompt": self._render_prompt(request)}
        body["messages"] = wire_messages(request.messages)
        if request.specs:
            body["tools"] = wire_tools(request.specs)
        return "chat", body


def _prompt_renderer(config: OpenAIBackendConfig) -> tuple[RenderPrompt | None, PromptFormat | None]:
    """What renders prompts, and how; neither where the server does that."""
    if config.tokenizer is None:
        return None, None
    from fcdistill.models.loading import load_tokenizer
    from fcdistill.prompts.rendering import call_format, render_prompt, template_sha256

    tokenizer = load_tokenizer(config.tokenizer, config, template_date=config.template_date)
    style = config.tools_in_prompt or "full"
    found = PromptFormat(template_sha256(tokenizer), style, call_format(tokenizer).dialect)
    return lambda request: render_prompt(tokenizer, request.messages, request.specs, style), found
