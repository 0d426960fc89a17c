import pytest
import torch

from fcdistill.distillation.losses.chunks import CHUNK_ROWS, row_chunks
from fcdistill.distillation.losses.soft_labels import LogitLabels


def test_chunks_are_the_rows_of_all_tensors_in_their_order() -> None:
    wide_NV, narrow_N = torch.randn(2 * CHUNK_ROWS + 3, 5), torch.arange(2 * CHUNK_ROWS + 3)
    chunks = list(row_chunks(wide_NV, narrow_N))
    assert [len(narrow) for _, narrow in chunks] == [CHUNK_ROWS, CHUNK_ROWS, 3]
    assert torch.equal(torch.cat([wide for wide, _ in chunks]), wide_NV)
    assert torch.equal(torch.cat([narrow for _, narrow in chunks]), narrow_N)


def test_no_rows_are_one_empty_chunk() -> None:
    (chunk,) = row_chunks(torch.zeros(0, 5), torch.zeros(0))
    assert [tensor.shape for tensor in chunk] == [(0, 5), (0,)]


def test_soft_labels_are_read_beside_tensors_and_what_is_not_there_is_not_there_in_any_chunk() -> None:
    logits_NV = torch.randn(CHUNK_ROWS + 2, 5)
    chunks = list(row_chunks(LogitLabels(logits_NV), logits_NV, None))
    assert [len(labels) for labels, _, _ in chunks] == [CHUNK_ROWS, 2]
    assert all(torch.equal(labels.logits_NV, rows_NV) and nothing is None for labels, rows_NV, nothing in chunks)


@pytest.mark.parametrize("others", [1, CHUNK_ROWS - 1, CHUNK_ROWS + 1, 2 * CHUNK_ROWS])
def test_different_numbers_of_rows_are_refused(others: int) -> None:
    with pytest.raises(ValueError, match=f"numbers of rows differ: \\[{CHUNK_ROWS}, {others}\\]"):
        list(row_chunks(torch.zeros(CHUNK_ROWS), torch.zeros(others)))
