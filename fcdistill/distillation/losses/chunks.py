"""Rows of logits are read a chunk at a time, so that no float32 tensor of all rows and the vocabulary ever exists.

Which rows these are, and what is computed from them, is not known here.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["CHUNK_ROWS", "row_chunks"]

CHUNK_ROWS = 128
"""Rows whose [rows, V] float32 intermediates exist at the same time."""


def row_chunks(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of tensors of one length, chunk by chunk; one empty chunk where there are none."""
    return zip(*(torch.split(tensor, CHUNK_ROWS) for tensor in rows), strict=True)
