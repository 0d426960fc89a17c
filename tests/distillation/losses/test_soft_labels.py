import dataclasses

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fcdistill.distillation.losses.divergences import TopK
from fcdistill.distillation.losses.soft_labels import LogitLabels, SoftLabels, TopKLabels


def _labels(num_rows: int) -> list[SoftLabels]:
    generator = torch.Generator().manual_seed(num_rows)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(num_rows, *shape, generator=generator)

    return [LogitLabels(drawn(7)), TopKLabels(drawn(3).argsort(1), drawn(3), drawn(3), drawn())]


@given(st.integers(0, 9), st.slices(9), st.lists(st.integers(0, 8)))
def test_rows_are_chosen_as_those_of_a_tensor(num_rows: int, part: slice, places: list[int]) -> None:
    chosen = torch.tensor([place for place in places if place < num_rows], dtype=torch.long)
    forwards = slice(part.start, part.stop, abs(part.step or 1))  # tensors have no backward slices
    for labels in _labels(num_rows):
        assert len(labels) == num_rows
        for rows in (forwards, chosen):
            found = labels[rows]
            assert type(found) is type(labels)
            for field in dataclasses.fields(labels):
                assert torch.equal(getattr(found, field.name), getattr(labels, field.name)[rows]), field.name
            assert len(found) == len(torch.arange(num_rows)[rows])


def test_a_part_of_the_rows_is_a_view() -> None:
    """Logits of all rows and the vocabulary are large: a chunk of them must not be a copy."""
    labels = LogitLabels(torch.randn(5, 4))
    assert labels[1:3].logits_NV.data_ptr() == labels.logits_NV[1:].data_ptr()


def test_the_student_is_compared_with_logits_or_with_the_top_k_at_kd_temperature() -> None:
    logits, top_k = _labels(3)
    assert isinstance(logits, LogitLabels) and logits.compared is logits.logits_NV
    assert isinstance(top_k, TopKLabels) and isinstance(top_k.compared, TopK)
    assert top_k.compared.ids_NK is top_k.ids_NK and top_k.compared.logprobs_NK is top_k.logprobs_NK
