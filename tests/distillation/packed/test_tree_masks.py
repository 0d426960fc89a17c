"""Tests of `fcdistill.distillation.packed.tree_masks`."""

import random

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, create_mask

from fcdistill.distillation.packed import tree_masks
from fcdistill.distillation.packed.packing import pack_tree
from fcdistill.distillation.packed.tree_masks import block_mask, dense_mask


def _ends(*, branches: int, max_tokens: int) -> torch.Tensor:
    generator = random.Random(branches)
    shared = [generator.randrange(60) for _ in range(30)]
    sequences = [shared + [generator.randrange(60) for _ in range(generator.randint(3, 20))] for _ in range(branches)]
    ends_RT = pack_tree(sequences, max_tokens=max_tokens, attention_tokens=1 << 70).ends_RT
    assert ends_RT is not None
    return ends_RT


@pytest.mark.parametrize("max_tokens", [60, 4096])
@pytest.mark.parametrize("block", [1, 4, 16, 128])
def test_a_block_mask_is_the_one_that_is_found_by_looking_at_every_pair(
    block: int, max_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_masks, "_BLOCK", block)
    ends_RT = _ends(branches=9, max_tokens=max_tokens)
    num_rows, length = ends_RT.shape
    found = block_mask(ends_RT)
    wanted = create_block_mask(found.mask_mod, num_rows, None, length, length, "cpu", BLOCK_SIZE=block)
    assert found.shape == wanted.shape and found.BLOCK_SIZE == wanted.BLOCK_SIZE
    for name in ("kv", "full_kv", "q", "full_q"):
        ours, theirs = (getattr(mask, f"{name}_num_blocks") for mask in (found, wanted))
        assert torch.equal(ours, theirs)
        ours, theirs = (getattr(mask, f"{name}_indices") for mask in (found, wanted))
        assert ours.dtype == theirs.dtype == torch.int32 and torch.equal(ours, theirs)
    assert torch.equal(create_mask(found.mask_mod, num_rows, None, length, length, "cpu"), dense_mask(ends_RT))


def test_branches_do_not_meet_in_a_block_mask() -> None:
    ends_RT = torch.tensor([[4 * 128] * 128 + [2 * 128] * 128 + [3 * 128] * 128 + [4 * 128] * 128])
    assert block_mask(ends_RT).to_dense()[0, 0].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]
