from typing import get_args, get_type_hints

import pytest
import torch

from fcdistill.distillation.batches import ModelInputs, SideBatch, inputs_to, side_to
from fcdistill.distillation.packed.forward import Packing, model_inputs
from fcdistill.distillation.packed.packing import pack_tree, pad_rows

ELSEWHERE = torch.device("meta")


def _inputs(packing: Packing) -> ModelInputs:
    sequences = [[1, 2, 3], [1, 2]]
    return model_inputs(pad_rows(sequences) if packing == "none" else pack_tree(sequences, max_tokens=9), packing)


@pytest.mark.parametrize("packing", get_args(Packing))
def test_all_that_a_model_reads_is_moved(packing: Packing) -> None:
    inputs = _inputs(packing)
    moved = inputs_to(inputs, ELSEWHERE)
    assert moved.keys() == inputs.keys()
    assert {value.device for value in moved.values()} == {ELSEWHERE}  # type: ignore[attr-defined]
    here = inputs_to(inputs, torch.device("cpu"))
    assert all(torch.equal(here[name], inputs[name]) for name in inputs)  # type: ignore[literal-required]


def test_every_way_to_lay_rows_out_is_covered_above() -> None:
    assert {name for packing in get_args(Packing) for name in _inputs(packing)} == get_type_hints(ModelInputs).keys()


def test_a_side_is_moved_as_a_whole() -> None:
    side: SideBatch = {
        "inputs": _inputs("dense_mask"),
        "logit_rows_N": torch.tensor([1, 2]),
        "hidden_rows_M": torch.tensor([0, 1, 2]),
    }
    moved = side_to(side, ELSEWHERE)
    assert moved["inputs"]["input_ids"].device == ELSEWHERE
    assert (moved["logit_rows_N"].device, moved["hidden_rows_M"].device) == (ELSEWHERE, ELSEWHERE)
    assert (moved["logit_rows_N"].shape, moved["hidden_rows_M"].shape) == ((2,), (3,))
