"""Prompts of token ids are continued, greedily or by sampling, each until its caller says that it has ended.

Prompts with a long common beginning (a tool catalogue) form a group whose beginning is computed once and remembered
for later calls. Finished rows leave at once and waiting ones take their places. How attention and caches achieve that
is known to `decoding`; texts and stop tokens are not known here.

Axes: B rows, V vocabulary.
"""

import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from fcdistill.backends.local.decoding import Decoder
from fcdistill.config import DecodeSettings

__all__ = ["Row", "continued"]

# A group of its own pays off for this many rows with this many more tokens in common.
_MIN_GROUP_ROWS = 4
_MIN_GROUP_TOKENS = 64

End = TypeVar("End")


@dataclass
class Row:
    """A prompt and what has been written after it."""

    id: str
    prompt: list[int]
    """At least one token."""
    num_allowed: int
    """Most tokens that the caller lets it have."""
    uniforms: random.Random
    """Sampled decoding draws from it: a row's tokens depend on its own numbers, not on what else is decoded."""
    generated: list[int] = field(default_factory=list)
    latency_s: float = 0.0
    """Seconds of each forward pass divided by the rows in it, added up."""


def continued(
    decoder: Decoder,
    rows: Sequence[Row],
    settings: DecodeSettings,
    end_of: Callable[[Row], End | None],
    *,
    batch_size: int,
    vocabulary_size: int | None = None,
    allowed_of: Callable[[Sequence[Row]], Tensor] | None = None,
) -> Iterator[tuple[Row, End]]:
    """Continue each row until it has ended, and give it back as soon as it has, in no particular order.

    Args:
        decoder: computes the logits.
        rows: the prompts; their `generated` grows.
        settings: how tokens are chosen; `seed` and `max_new_tokens` are the rows' own affair.
        end_of: looks at a row with a new token; what it returns, unless None, is how the row has ended.
        batch_size: most rows that are decoded together.
        vocabulary_size: columns of the logits that may be chosen; None: all.
        allowed_of: tells before each token which ones may be chosen for each row, as booleans [B, V]; columns that are
            missing may not. None: all may.

    Raises:
        FloatingPointError: the logits are not finite.
        RuntimeError: the model's code failed, for example for lack of memory.
    """
    for num_shared, group in _grouped(rows):
        yield from _group_continued(
            decoder, num_shared, group, settings, end_of, batch_size, vocabulary_size, allowed_of
        )


def _group_continued(
    decoder: Decoder,
    num_shared: int,
    group: Sequence[Row],
    settings: DecodeSettings,
    end_of: Callable[[Row], End | None],
    batch_size: int,
    vocabulary_size: int | None,
    allowed_of: Callable[[Sequence[Row]], Tensor] | None,
) -> Iterator[tuple[Row, End]]:
    # Rows of similar length begin together; the longest first, so that a lack of memory shows at once.
    waiting = deque(sorted(group, key=lambda row: -len(row.prompt)))
    active: list[Row] = []
    joining = max(1, batch_size // 4)
    rows = decoder.open(group[0].prompt[:num_shared])
    while waiting or active:
        started = time.perf_counter()
        free = batch_size - len(active)
        if waiting and (not active or (rows.can_join and free >= min(joining, len(waiting)))):
            moved = [waiting.popleft() for _ in range(min(free, len(waiting)))]
            logits_BV = rows.add([row.prompt[num_shared:] for row in moved])
            if not logits_BV.isfinite().all():
                raise FloatingPointError("the logits are not finite")
            active += moved
        else:
            moved = list(active)
            logits_BV = rows.step([row.generated[-1] for row in active])
        logits_BV = logits_BV[:, :vocabulary_size]
        if allowed_of is not None:
            allowed_BV = allowed_of(moved)[:, : logits_BV.shape[1]].to(logits_BV.device)
            logits_BV = logits_BV[:, : allowed_BV.shape[1]].masked_fill(~allowed_BV, -math.inf)
        tokens = _chosen(logits_BV, moved, settings)
        for row, token in zip(moved, tokens, strict=True):
            row.generated.append(token)
        ends = {id(row): end for row in moved if (end := end_of(row)) is not None}
        seconds = (time.perf_counter() - started) / len(moved)
        for row in moved:
            row.latency_s += seconds
        if not ends:
            continue
        kept = [index for index, row in enumerate(active) if id(row) not in ends]
        rows.keep(kept)
        for row in active:
            if id(row) in ends:
                yield row, ends[id(row)]
        active = [active[index] for index in kept]


def _num_shared(rows: Sequence[Row]) -> int:
    """Tokens that the prompts of lexicographically sorted rows have in common, leaving each row one of its own."""
    first, last = rows[0].prompt, rows[-1].prompt
    common = next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(common, *(len(row.prompt) - 1 for row in rows))


def _grouped(rows: Sequence[Row]) -> Iterator[tuple[int, list[Row]]]:
    """Groups of rows, each with the number of its common first tokens.

    Where many rows share much more than all do (several tool catalogues in one call), they become a group of their own.
    """
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.prompt)
    shared = _num_shared(ordered)
    rest: list[Row] = []
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


def _chosen(logits_BV: Tensor, rows: Sequence[Row], settings: DecodeSettings) -> list[int]:
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
