"""Answers from a script instead of a model: for tests and rehearsals. Knows no tokens and no model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

from pydantic import Field

from fcdistill.backends.base import Completion, PromptFormat, Request
from fcdistill.config import DecodeSettings, ScriptedBackendConfig
from fcdistill.errors import DataError
from fcdistill.records import ModelRef, Record
from fcdistill.storage import read_jsonl

__all__ = ["ScriptedAnswer", "ScriptedBackend"]


class ScriptedAnswer(Record):
    """A line of a script: the content of the last user message, and the text that answers it."""

    request: str = Field(min_length=1)
    text: str


class ScriptedBackend:
    """A backend whose answers are given beforehand.

    Args:
        answers: the answer for each content of the last user message, or a function of the request.
        name: what `ref` calls this backend.

    A request that a mapping does not know gets a completion with an error, as if a server had refused it. What a
    function raises passes through.
    """

    def __init__(self, answers: Mapping[str, str] | Callable[[Request], str], *, name: str = "scripted") -> None:
        self._answers = answers
        self._ref = ModelRef(model=name)

    @classmethod
    def from_config(cls, config: ScriptedBackendConfig) -> Self:
        """The backend of a script file. Raises `DataError` where it is malformed or answers one request twice."""
        answers: dict[str, str] = {}
        for line in read_jsonl(config.answers, ScriptedAnswer, "script"):
            if answers.setdefault(line.request, line.text) != line.text:
                raise DataError(
                    f"script {config.answers} answers {line.request!r} in two ways",
                    required="one answer per request",
                    fix="remove one of the lines",
                )
        return cls(answers, name=f"scripted:{config.answers}")

    @property
    def ref(self) -> ModelRef:
        """The name of the script."""
        return self._ref

    @property
    def prompt_format(self) -> PromptFormat | None:
        """None: a script reads no prompt."""
        return None

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        """Yield the scripted answers, in the order of the requests; `settings` change nothing."""
        del settings
        for request in requests:
            if callable(self._answers):
                yield Completion(request.id, self._answers(request), "stop", latency_s=0.0)
                continue
            question = next((message.content for message in reversed(request.messages) if message.role == "user"), "")
            text = self._answers.get(question)
            if text is None:
                yield Completion(request.id, "", "error", error=f"the script has no answer to {question!r}")
            else:
                yield Completion(request.id, text, "stop", latency_s=0.0)

    def close(self) -> None:
        """Nothing is held."""
