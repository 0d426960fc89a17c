"""The work of packed rows, counted from their mask."""

import random

import pytest
import torch
from fcdistill_side import _work
from measuring import Work

from fcdistill.distillation.packed.forward import model_inputs
from fcdistill.distillation.packed.packing import pack_tree, pad_rows


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_tokens", [12, 4096])
def test_work_of_a_pack_is_that_of_its_tree(seed: int, max_tokens: int) -> None:
    generator = random.Random(seed)
    prefix = [generator.randrange(9) for _ in range(6)]
    sequences = [prefix + [generator.randrange(9) for _ in range(generator.randint(1, 5))] for _ in range(6)]
    rows = pack_tree(sequences, max_tokens=max_tokens, attention_tokens=1 << 70)
    depths = rows.position_ids_RT.flatten()
    nodes = torch.unique(torch.cat(rows.paths))
    # A node sees itself and its ancestors, as many as it is deep.
    pairs = int((depths[nodes] + 1).sum())
    for packing in ("dense_mask", "block_mask"):
        assert _work(model_inputs(rows, packing), 3) == Work(rows.num_tokens, pairs, 3)  # type: ignore[arg-type]


def test_work_of_padded_rows_leaves_padding_out() -> None:
    rows = pad_rows([[1, 2, 3], [4]])
    assert _work(model_inputs(rows, "none"), 2) == Work(4, 6 + 1, 2)
