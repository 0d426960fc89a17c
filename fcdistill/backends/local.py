"""A model that runs here. Requests become prompts, prompts share their common beginning, rows are decoded together.

Prompts with a long common beginning (a tool catalogue) form a group whose beginning is computed once and remembered
for later calls. Finished rows leave at once and waiting ones take their places. How attention and caches achieve that
is known to `decoding`; what a call looks like, to `toolcalls`.
"""

import contextlib
import itertools
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from fcdistill.backends.base import Completion, Request
from fcdistill.backends.decoding import Decoder
from fcdistill.config import DecodeSettings, LocalBackendConfig, ToolsInPrompt
from fcdistill.errors import BackendError
from fcdistill.models import LoadedModel, load_model
from fcdistill.prompts import render_prompt, stop_token_ids
from fcdistill.records import FinishReason, ModelRef
from fcdistill.toolcalls import is_complete

__all__ = ["LocalBackend"]

# A group of its own pays off for this many rows with this many more tokens in common.
_MIN_GROUP_ROWS = 4
_MIN_GROUP_TOKENS = 64


@dataclass
class _Row:
    """A request while it is answered."""

    id: str
    prompt: list[int]
    num_allowed: int
    uniforms: random.Random
    generated: list[int] = field(default_factory=list)
    latency_s: float = 0.0
    may_close: bool = False
    """A token was decoded that can end a call block; before that no text needs to be looked at."""


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
        self._stop_ids = frozenset(stop_token_ids(loaded.tokenizer)) | _generation_stop_ids(loaded)
        self._closing_ids = {
            index
            for token, index in loaded.tokenizer.get_vocab().items()
            if any(mark in token for mark in ("}", "]", ">", "`"))
        }
        self._decoder = Decoder(loaded.model)

    @classmethod
    def from_config(cls, config: LocalBackendConfig) -> Self:
        """The backend of a config. Raises what `models.load_model` raises."""
        loaded = load_model(config.model, dtype=config.dtype, device=config.device)
        return cls(loaded, batch_size=config.batch_size, tools_in_prompt=config.tools_in_prompt)

    @property
    def ref(self) -> ModelRef:
        """The model that answers."""
        return self._loaded.ref

    @property
    def shares_prefix(self) -> bool:
        """Whether the common beginning of prompts is computed once; false for models with unusual layers."""
        return self._decoder.shares_prefix

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        """Answer each request, each as soon as it is finished, in no particular order.

        Sampled answers depend on `settings.seed` and the request's id, not on what else is in the batch, up to
        rounding.

        Raises:
            ModelError: a message can't be rendered.
            BackendError: the model failed, for example for lack of memory.
        """
        rows: list[_Row] = []
        for request in requests:
            row = self._row(request, settings)
            if isinstance(row, Completion):
                yield row
            else:
                rows.append(row)
        for num_shared, group in _grouped(rows):
            yield from self._decoded(num_shared, group, settings)

    def close(self) -> None:
        """Forget the remembered prompt beginnings."""
        self._decoder.close()

    def _row(self, request: Request, settings: DecodeSettings) -> _Row | Completion:
        prompt = render_prompt(self._loaded.tokenizer, request.messages, request.specs, self.tools_in_prompt)
        limit = getattr(self._loaded.model.config.get_text_config(), "max_position_embeddings", None)
        room = settings.max_new_tokens if limit is None else limit - len(prompt)
        if room < 1:
            found = f"the prompt has {len(prompt)} tokens; the model's context has {limit}"
            return Completion(request.id, "", "error", prompt_tokens=len(prompt), error=found)
        uniforms = random.Random(f"{settings.seed}/{request.id}")
        return _Row(request.id, prompt, min(settings.max_new_tokens, room), uniforms)

    def _decoded(self, num_shared: int, group: list[_Row], settings: DecodeSettings) -> Iterator[Completion]:
        # Rows of similar length begin together; the longest first, so that a lack of memory shows at once.
        waiting = deque(sorted(group, key=lambda row: -len(row.prompt)))
        active: list[_Row] = []
        joining = max(1, self._batch_size // 4)
        with _backend_errors(self._batch_size):
            rows = self._decoder.open(group[0].prompt[:num_shared])
        while waiting or active:
            started = time.perf_counter()
            free = self._batch_size - len(active)
            with _backend_errors(self._batch_size):
                if waiting and (not active or (rows.can_join and free >= min(joining, len(waiting)))):
                    moved = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                    logits_BV = rows.add([row.prompt[num_shared:] for row in moved])
                    if not logits_BV.isfinite().all():
                        raise BackendError(
                            f"{self.ref.model} computes numbers that are not finite",
                            required="intact weights in a precision that holds their range",
                            fix="use dtype bfloat16 or float32",
                        )
                    active += moved
                else:
                    moved = list(active)
                    logits_BV = rows.step([row.generated[-1] for row in active])
                tokens = _chosen(logits_BV, moved, settings)
            for row, token in zip(moved, tokens, strict=True):
                row.generated.append(token)
            finished = {id(row): completion for row in moved if (completion := self._finished(row))}
            seconds = (time.perf_counter() - started) / len(moved)
            for row in moved:
                row.latency_s += seconds
            if not finished:
                continue
            kept = [index for index, row in enumerate(active) if id(row) not in finished]
            with _backend_errors(self._batch_size):
                rows.keep(kept)
            for row in active:
                if id(row) in finished:
                    reason, text = finished[id(row)]
                    yield Completion(row.id, text, reason, len(row.prompt), len(row.generated), latency_s=row.latency_s)
            active = [active[index] for index in kept]

    def _finished(self, row: _Row) -> tuple[FinishReason, str] | None:
        token = row.generated[-1]
        if token in self._stop_ids:
            return "stop", self._text(row.generated[:-1])
        row.may_close = row.may_close or token in self._closing_ids
        if row.may_close and is_complete(text := self._text(row.generated)):
            return "call_complete", text
        if len(row.generated) >= row.num_allowed:
            return "length", self._text(row.generated)
        return None

    def _text(self, ids: list[int]) -> str:
        # Special tokens stay: for some models the marks around a call are special.
        text: str = self._loaded.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


@contextlib.contextmanager
def _backend_errors(batch_size: int) -> Iterator[None]:
    """Turn failures of the model's code inside the block into a `BackendError`."""
    try:
        yield
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


def _num_shared(rows: Sequence[_Row]) -> int:
    """Tokens that the prompts of lexicographically sorted rows have in common, leaving each row one of its own."""
    first, last = rows[0].prompt, rows[-1].prompt
    common = next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(common, *(len(row.prompt) - 1 for row in rows))


def _grouped(rows: Sequence[_Row]) -> Iterator[tuple[int, list[_Row]]]:
    """Groups of rows, each with the number of its common first tokens.

    Where many rows share much more than all do (several tool catalogues in one call), they become a group of their own.
    """
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.prompt)
    shared = _num_shared(ordered)
    rest: list[_Row] = []
    for _, same_token in itertools.groupby(ordered, key=lambda row: row.prompt[shared]):
        branch = list(same_token)
        if not _MIN_GROUP_ROWS <= len(branch) < len(ordered):
            rest += branch
            continue
        for branch_shared, group in _grouped(branch):
            if len(group) >= _MIN_GROUP_ROWS and branch_shared - shared >= _MIN_GROUP_TOKENS:
                yield branch_shared, group
            else:
                rest += group
    if rest:
        yield _num_shared(rest), rest


def _chosen(logits_BV: Tensor, rows: Sequence[_Row], settings: DecodeSettings) -> list[int]:
    """The next token of each row: the likeliest, or one drawn with the row's own random numbers."""
    if settings.sampling_temperature == 0:
        greedy: list[int] = logits_BV.argmax(-1).tolist()
        return greedy
    if logits_BV.device.type == "mps":  # which has no float64
        logits_BV = logits_BV.cpu()
    probs_BV = (logits_BV / settings.sampling_temperature).softmax(-1)
    order_BV = None
    if settings.top_p < 1:
        probs_BV, order_BV = probs_BV.sort(-1, descending=True)
        before_BV = probs_BV.cumsum(-1) - probs_BV
        probs_BV = probs_BV.masked_fill(before_BV >= settings.top_p, 0)
    # In float64, since float32 sums over a large vocabulary lose the unlikely tokens.
    reached_BV = probs_BV.double().cumsum(-1)
    drawn_B1 = torch.tensor([[row.uniforms.random()] for row in rows], dtype=torch.float64, device=reached_BV.device)
    index_B1 = torch.searchsorted(reached_BV, drawn_B1 * reached_BV[:, -1:], right=True)
    index_B1 = index_B1.clamp(max=reached_BV.shape[1] - 1)
    if order_BV is not None:
        index_B1 = order_BV.gather(1, index_B1)
    sampled: list[int] = index_B1[:, 0].tolist()
    return sampled
