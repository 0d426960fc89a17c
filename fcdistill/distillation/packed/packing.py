"""Prefix-tree packing: token sequences become rows in which every shared token stands once.

The tree is found from the token ids themselves. Sequences are sorted, so that neighbours share the longest prefixes,
and a row lists the nodes of their tree in depth-first order: a node sees its ancestors and itself (`k <= q < end[k]`),
and its position is its depth. A causal model then computes for each node exactly what it would compute in the unpacked
sequence. Everything that is shared is shared, inside completions too.

Nothing here knows what the tokens mean or which of them are supervised: `paths` says where each token of each sequence
went, and `examples` selects rows through it.

Axes: R rows, T positions of a row, S tokens of one sequence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["PackedRows", "pack_tree", "pad_rows"]


@dataclass(frozen=True)
class PackedRows:
    """Token sequences laid out for one forward pass."""

    input_ids_RT: Tensor
    position_ids_RT: Tensor | None
    """Depth of each token; None for padded rows, whose positions are the model's default."""
    ends_RT: Tensor | None
    """The place after each token's last descendant, which says what sees it (`tree_masks`); None for padded rows."""
    padding_mask_RT: Tensor | None
    """Padded rows: int64, 0 at padding; None for packed ones, whose padding `ends_RT` hides."""
    paths: tuple[Tensor, ...]
    """For each sequence, in the given order, the flat index (row * T + position) of each of its tokens; int64 [S]."""
    num_tokens: int
    """Tokens that are computed, without padding."""


def pack_tree(
    sequences: Sequence[Sequence[int]], *, max_tokens: int, pad_id: int = 0, attention_tokens: int = 4096
) -> PackedRows:
    """Lay sequences out as prefix trees.

    Args:
        sequences: token ids, none of them empty.
        max_tokens: longest row; a sequence that is longer gets a row of its own length.
        pad_id: fills up shorter rows; it sees itself only, and nothing sees it.
        attention_tokens: row length at which attention costs as much as all other layers. Attention is quadratic in
            the row, so where little is shared several short rows are cheaper than a long one.

    Returns:
        The rows. They are at most an eighth wider than the fullest one needs: kernels are
        compiled and kept for each width, so that a run whose steps all have widths of their own gets slower and larger.

    Raises:
        ValueError: there is no sequence, or one is empty.
    """
    _require_tokens(sequences)
    tuples = [tuple(sequence) for sequence in sequences]
    order = sorted(range(len(tuples)), key=lambda index: tuples[index])
    shared = [0] + [_common_prefix(tuples[first], tuples[second]) for first, second in pairwise(order)]
    lengths = [len(tuples[index]) for index in order]
    cuts = _cheapest_cuts(lengths, shared, max_tokens, attention_tokens)
    rows = [_tree(tuples[index] for index in order[start:end]) for start, end in cuts]
    longest = max(len(row.ids) for row in rows)
    width = max(longest, min(_few_widths(longest), max_tokens))
    paths: dict[int, Tensor] = {}
    for number, ((start, end), row) in enumerate(zip(cuts, rows, strict=True)):
        for index, path in zip(order[start:end], row.paths, strict=True):
            paths[index] = torch.tensor(path) + number * width

    padding = [width - len(row.ids) for row in rows]
    padded = list(zip(rows, padding, strict=True))
    return PackedRows(
        input_ids_RT=torch.tensor([row.ids + [pad_id] * pad for row, pad in padded]),
        position_ids_RT=torch.tensor([row.depths + [0] * pad for row, pad in padded]),
        ends_RT=torch.tensor([row.ends + list(range(width - pad + 1, width + 1)) for row, pad in padded]),
        padding_mask_RT=None,
        paths=tuple(paths[index] for index in range(len(tuples))),
        num_tokens=sum(len(row.ids) for row in rows),
    )


def pad_rows(sequences: Sequence[Sequence[int]], *, pad_id: int = 0) -> PackedRows:
    """Lay sequences out one a row, padded on the right: right for every causal model, and the slow way.

    Rows are filled up to one of few widths, see `pack_tree`.

    Raises:
        ValueError: there is no sequence, or one is empty.
    """
    _require_tokens(sequences)
    width = _few_widths(max(map(len, sequences)))
    lengths_R = torch.tensor([len(sequence) for sequence in sequences])
    return PackedRows(
        input_ids_RT=torch.tensor([[*sequence, *[pad_id] * (width - len(sequence))] for sequence in sequences]),
        position_ids_RT=None,
        ends_RT=None,
        padding_mask_RT=(torch.arange(width)[None, :] < lengths_R[:, None]).long(),
        paths=tuple(torch.arange(len(sequence)) + row * width for row, sequence in enumerate(sequences)),
        num_tokens=int(lengths_R.sum()),
    )


def _few_widths(width: int) -> int:
    """The next of eight widths per power of two."""
    step = 1 << max(width.bit_length() - 4, 0)
    return -(-width // step) * step


def _require_tokens(sequences: Sequence[Sequence[int]]) -> None:
    if not sequences or not all(sequences):
        raise ValueError("packing needs at least one sequence, and no empty one")


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common prefix, by bisection: slices compare at C speed."""
    same, limit = 0, min(len(first), len(second))
    while same < limit:
        middle = (same + limit + 1) // 2
        if first[same:middle] == second[same:middle]:
            same = middle
        else:
            limit = middle - 1
    return same


@dataclass(frozen=True)
class _Tree:
    """One row: its nodes in depth-first order, and the nodes of each sequence."""

    ids: list[int]
    depths: list[int]
    ends: list[int]
    """For each node, the index after its last descendant."""
    paths: list[list[int]]


def _tree(sequences: Iterable[tuple[int, ...]]) -> _Tree:
    """The prefix tree of sorted sequences."""
    ids: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    paths: list[list[int]] = []
    path: list[int] = []
    before: tuple[int, ...] = ()
    for sequence in sequences:
        common = _common_prefix(before, sequence)
        for node in path[common:]:
            ends[node] = len(ids)
        path = path[:common] + list(range(len(ids), len(ids) + len(sequence) - common))
        ids.extend(sequence[common:])
        depths.extend(range(common, len(sequence)))
        ends.extend([-1] * (len(sequence) - common))
        paths.append(path)
        before = sequence
    for node in path:
        ends[node] = len(ids)
    return _Tree(ids, depths, ends, paths)


def _cheapest_cuts(
    lengths: list[int], shared: list[int], max_tokens: int, attention_tokens: int
) -> list[tuple[int, int]]:
    """Ranges of the sorted sequences that become rows: of 1, 2, 4, ... rows of equal budget, the cheapest that fits."""
    longest = max(lengths)
    limit = max(max_tokens, longest)
    best: list[tuple[int, int]] = []
    best_cost, num_rows = float("inf"), 1
    while num_rows < 2 * len(lengths):
        low, high = longest, sum(lengths)
        while low < high:
            middle = (low + high) // 2
            if len(_greedy_cuts(lengths, shared, middle)) <= num_rows:
                high = middle
            else:
                low = middle + 1
        budget = min(low, limit)
        cuts = _greedy_cuts(lengths, shared, budget)
        cost = len(cuts) * budget * (1 + budget / attention_tokens)
        if cost < best_cost:
            best, best_cost = cuts, cost
        num_rows *= 2
    return best


def _greedy_cuts(lengths: list[int], shared: list[int], budget: int) -> list[tuple[int, int]]:
    cuts, start, used = [], 0, 0
    for index, (length, common) in enumerate(zip(lengths, shared, strict=True)):
        added = length - common if index > start else length
        if index > start and used + added > budget:
            cuts.append((start, index))
            start, added, used = index, length, 0
        used += added
    return [*cuts, (start, len(lengths))]
