"""A model that runs here. Requests become prompts, prompts are continued, what was written becomes text.

How prompts share their common beginning and are decoded together is known to `continuation`; what a call looks like, to
`toolcalls`; which tokens a constrained answer may have, to `constraint`.
"""

import contextlib
import functools
import random
from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from fcdistill.backends.base import Completion, PromptFormat, Request
from fcdistill.backends.constrained.constraint import Constraint, RowMasks
from fcdistill.backends.local.continuation import Row, continued
from fcdistill.backends.local.decoding import Decoder
from fcdistill.config import DecodeSettings, LocalBackendConfig, ToolsInPrompt
from fcdistill.errors import BackendError
from fcdistill.models.loading import LoadedModel, load_model
from fcdistill.prompts.rendering import answer_text, call_format, render_prompt, stop_token_ids, template_sha256
from fcdistill.records import FinishReason, ModelRef
from fcdistill.toolcalls.parsing import is_complete, parse_output

__all__ = ["LocalBackend"]


class LocalBackend:
    """A backend on a loaded model.

    Args:
        loaded: the model, its tokenizer and its card.
        batch_size: most rows that are decoded together.
        tools_in_prompt: how prompts show the tools; None: as the card of a trained student says, else `full`.
    """

    def __init__(
        self, loaded: LoadedModel, *, batch_size: int = 32, tools_in_prompt: ToolsInPrompt | None = None
    ) -> None:
        self._loaded = loaded
        self._batch_size = batch_size
        self.tools_in_prompt: ToolsInPrompt = tools_in_prompt or (
            loaded.card.tools_in_prompt if loaded.card else "full"
        )
        card_dialect = loaded.card.dialect if loaded.card else None
        self._dialect = card_dialect or call_format(loaded.tokenizer).dialect
        self._stop_ids = frozenset(stop_token_ids(loaded.tokenizer)) | _generation_stop_ids(loaded)
        self._closing_ids = {
            index
            for token, index in loaded.tokenizer.get_vocab().items()
            if any(mark in token for mark in ("}", "]", ">", "`"))
        }
        self._decoder = Decoder(loaded.model)
        self._constraint: Constraint | None = None

    @classmethod
    def from_config(cls, config: LocalBackendConfig) -> Self:
        """The backend of a config. Raises what `loading.load_model` raises."""
        loaded = load_model(
            config.model, config, dtype=config.dtype, device=config.device, template_date=config.template_date
        )
        return cls(loaded, batch_size=config.batch_size, tools_in_prompt=config.tools_in_prompt)

    @property
    def ref(self) -> ModelRef:
        """The model that answers."""
        return self._loaded.ref

    @property
    def prompt_format(self) -> PromptFormat:
        """The chat template of the model, and how it shows tools."""
        return PromptFormat(template_sha256(self._loaded.tokenizer), self.tools_in_prompt, self._dialect)

    @property
    def shares_prefix(self) -> bool:
        """Whether the common beginning of prompts is computed once; false for models with unusual layers."""
        return self._decoder.shares_prefix

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        """Answer each request, each as soon as it is finished, in no particular order.

        Sampled answers depend on `settings.seed` and the request's id, not on what else is in the batch, up to
        rounding.

        Raises:
            ModelError: a message can't be rendered; or the answers can't be constrained for this tokenizer or template.
            CatalogError: answers are to be constrained, and the parameters of a tool can't be enforced.
            MissingDependencyError: answers are to be constrained, and llguidance is not installed.
            BackendError: the model failed, for example for lack of memory.
        """
        masks = self._masks(requests) if settings.constrained else None
        rows: list[Row] = []
        for request in requests:
            row = self._row(request, settings)
            if isinstance(row, Completion):
                yield row
            else:
                rows.append(row)
        with _backend_errors(self.ref, self._batch_size):
            for row, (reason, text) in continued(
                self._decoder,
                rows,
                settings,
                self._end,
                batch_size=self._batch_size,
                allowed_of=None if masks is None else functools.partial(_allowed_tokens, masks),
            ):
                if masks is not None:
                    masks.forget(row.id)
                yield Completion(
                    row.id,
                    text,
                    reason,
                    len(row.prompt),
                    len(row.generated),
                    latency_s=row.latency_s,
                    dialect=self._dialect,
                    thought_tokens=self._thought_tokens(text),
                )

    def close(self) -> None:
        """Forget the remembered prompt beginnings."""
        self._decoder.close()

    def _masks(self, requests: Sequence[Request]) -> RowMasks:
        if self._constraint is None:
            self._constraint = Constraint(self._loaded.tokenizer, self._stop_ids)
        return self._constraint.masks(requests)

    def _row(self, request: Request, settings: DecodeSettings) -> Row | Completion:
        prompt = render_prompt(self._loaded.tokenizer, request.messages, request.specs, self.tools_in_prompt)
        limit = getattr(self._loaded.model.config.get_text_config(), "max_position_embeddings", None)
        room = settings.max_new_tokens if limit is None else limit - len(prompt)
        if room < 1:
            found = f"the prompt has {len(prompt)} tokens; the model's context has {limit}"
            return Completion(request.id, "", "error", prompt_tokens=len(prompt), error=found)
        uniforms = random.Random(f"{settings.seed}/{request.id}")
        return Row(request.id, prompt, min(settings.max_new_tokens, room), uniforms)

    def _thought_tokens(self, text: str) -> int:
        thought = parse_output(text, expected=self._dialect).thought
        return len(self._loaded.tokenizer.encode(thought, add_special_tokens=False)) if thought else 0

    def _end(self, row: Row) -> tuple[FinishReason, str] | None:
        """How and with which text a row has ended; None where it has not."""
        if row.generated[-1] in self._stop_ids:
            return "stop", answer_text(self._loaded.tokenizer, row.generated[:-1])
        # Before a token that can end a call block, no text needs to be looked at.
        may_close = not self._closing_ids.isdisjoint(row.generated)
        is_full = len(row.generated) >= row.num_allowed
        if not may_close and not is_full:
            return None
        text = answer_text(self._loaded.tokenizer, row.generated)
        if may_close and is_complete(text, expected=self._dialect):
            return "call_complete", text
        return ("length", text) if is_full else None


def _allowed_tokens(masks: RowMasks, rows: Sequence[Row]) -> Tensor:
    """Which tokens each row may go on with, as booleans [B, V]."""
    return torch.from_numpy(masks.allowed({row.id: row.generated for row in rows}))


@contextlib.contextmanager
def _backend_errors(ref: ModelRef, batch_size: int) -> Iterator[None]:
    """Turn failures of the model's code inside the block into a `BackendError`."""
    try:
        yield
    except FloatingPointError as error:
        raise BackendError(
            f"{ref.model} computes numbers that are not finite",
            required="intact weights in a precision that holds their range",
            fix="use dtype bfloat16 or float32",
        ) from error
    except (RuntimeError, MemoryError, IndexError) as error:  # torch's out-of-memory errors are RuntimeErrors
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BackendError(
            f"the model stopped: {reason}",
            required="enough memory for the batch, and a working device",
            fix=f"set a batch_size below {batch_size}, another dtype or another device; finished answers are kept",
        ) from error


def _generation_stop_ids(loaded: LoadedModel) -> frozenset[int]:
    found = getattr(loaded.model.generation_config, "eos_token_id", None)
    return frozenset([found] if isinstance(found, int) else found or [])
