import torch

from fcdistill.distillation.losses.chunks import CHUNK_ROWS, row_chunks


def test_chunks_are_the_rows_of_all_tensors_in_their_order() -> None:
    wide_NV, narrow_N = torch.randn(2 * CHUNK_ROWS + 3, 5), torch.arange(2 * CHUNK_ROWS + 3)
    chunks = list(row_chunks(wide_NV, narrow_N))
    assert [len(narrow) for _, narrow in chunks] == [CHUNK_ROWS, CHUNK_ROWS, 3]
    assert torch.equal(torch.cat([wide for wide, _ in chunks]), wide_NV)
    assert torch.equal(torch.cat([narrow for _, narrow in chunks]), narrow_N)


def test_no_rows_are_one_empty_chunk() -> None:
    (chunk,) = row_chunks(torch.zeros(0, 5), torch.zeros(0))
    assert [tensor.shape for tensor in chunk] == [(0, 5), (0,)]
