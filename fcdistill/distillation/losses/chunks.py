"""Rows of logits are read a chunk at a time, so that no float32 tensor of all rows and the vocabulary ever exists.

Which rows these are, and what is computed from them, is not known here.
"""

from collections.abc import Iterator
from typing import Any, TypeVarTuple

__all__ = ["CHUNK_ROWS", "row_chunks"]

CHUNK_ROWS = 128
"""Rows whose [rows, V] float32 intermediates exist at the same time."""

Tables = TypeVarTuple("Tables")


def row_chunks(*tables: *Tables) -> Iterator[tuple[*Tables]]:
    """The same rows of tensors and soft labels of one length, chunk by chunk; one empty chunk where there are none.

    Args:
        tables: what has a length and gives slices of itself; None, for what is not there, is None in every chunk.

    Raises:
        ValueError: the numbers of rows differ.
    """
    each_table: tuple[Any, ...] = tables  # a TypeVarTuple has no bound that would say what they can do
    numbers = {len(table) for table in each_table if table is not None}
    if len(numbers) != 1:
        raise ValueError(f"numbers of rows differ: {[len(table) for table in each_table if table is not None]}")
    for start in range(0, max(*numbers, 1), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        chunk: Any = tuple(None if table is None else table[rows] for table in each_table)
        yield chunk
