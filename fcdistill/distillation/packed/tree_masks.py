"""What the tokens of a packed row may see, as the masks that attention kernels take.

One rule, `_sees`, over each token's end, the place after its last descendant: in depth-first order the ancestors of a
query are exactly the keys at or before it whose end lies behind it. How the ends come about is not known here
(`packing`), nor which kernel takes which mask (`attention`).

Axes: R rows, T positions of a row, N blocks of queries or keys.
"""

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

__all__ = ["block_mask", "dense_mask"]

_BLOCK = 128
"""Tokens of a block, as flex attention's kernels like it."""


def _sees(query: Tensor, key: Tensor, key_end: Tensor) -> Tensor:
    """Whether the token at place `query` sees the one at place `key`."""
    return (key <= query) & (query < key_end)


def dense_mask(ends_RT: Tensor) -> Tensor:
    """The mask of every pair: bool [R, 1, T, T], true where query q sees key k."""
    place_T = torch.arange(ends_RT.shape[1], device=ends_RT.device)
    return _sees(place_T[:, None], place_T, ends_RT[:, None, None, :])


def block_mask(ends_RT: Tensor) -> BlockMask:
    """The mask for flex attention, made without a tensor of every pair.

    A block of queries from first to last meets a key that one of them sees, and needs no mask for keys that all of them
    see; both follow from the key's interval.
    """
    num_rows, length = ends_RT.shape
    num_blocks = -(-length // _BLOCK)
    padded_RT = torch.nn.functional.pad(ends_RT, (0, num_blocks * _BLOCK - length))
    place_T = torch.arange(padded_RT.shape[1], device=ends_RT.device)
    first_N1 = place_T[::_BLOCK, None]
    last_N1 = first_N1 + _BLOCK - 1
    ends_R1T = padded_RT[:, None]
    by_one_RNT = (place_T <= last_N1) & (first_N1 < ends_R1T)
    by_all_RNT = _sees(first_N1, place_T, ends_R1T) & _sees(last_N1, place_T, ends_R1T)
    by_one_R1NN = by_one_RNT.view(num_rows, num_blocks, num_blocks, _BLOCK).any(3)[:, None]
    by_all_R1NN = by_all_RNT.view(num_rows, num_blocks, num_blocks, _BLOCK).all(3)[:, None]

    def sees(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return _sees(query, key, ends_RT[row, key])

    partial, whole = (_listed(found) for found in (by_one_R1NN & ~by_all_R1NN, by_all_R1NN))
    return BlockMask.from_kv_blocks(*partial, *whole, BLOCK_SIZE=_BLOCK, mask_mod=sees, seq_lengths=(length, length))


def _listed(found_R1NN: Tensor) -> tuple[Tensor, Tensor]:
    """For each block of queries how many blocks of keys were found, and which: theirs stand first."""
    order_R1NN = found_R1NN.int().argsort(dim=3, descending=True, stable=True)
    return found_R1NN.sum(3, dtype=torch.int32), order_R1NN.int()
