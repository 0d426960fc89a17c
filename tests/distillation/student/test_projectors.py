from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from fcdistill.distillation.student.projectors import Projectors, pair_layers
from fcdistill.errors import ConfigError, DataError


@given(num_pairs=st.integers(1, 40), student_layers=st.integers(1, 40), teacher_layers=st.integers(1, 90))
def test_proportional_maps_pair_the_last_layers_and_never_the_embeddings(
    num_pairs: int, student_layers: int, teacher_layers: int
) -> None:
    pairs = pair_layers(
        "proportional", num_pairs=num_pairs, student_layers=student_layers, teacher_layers=teacher_layers
    )
    assert len(pairs) == len(set(pairs)) == min(num_pairs, student_layers, teacher_layers)
    assert pairs[-1] == (student_layers, teacher_layers)
    assert all(1 <= student <= student_layers and 1 <= teacher <= teacher_layers for student, teacher in pairs)
    assert list(pairs) == sorted(pairs)


def test_proportional_maps_are_equally_spaced() -> None:
    pairs = pair_layers("proportional", num_pairs=4, student_layers=12, teacher_layers=24)
    assert pairs == ((3, 6), (6, 12), (9, 18), (12, 24))


@pytest.mark.parametrize(
    ("pair", "problem"), [((0, 3), "outside"), ((3, 0), "outside"), ((5, 3), "outside"), ((3, 9), "outside")]
)
def test_explicit_pairs_must_exist(pair: tuple[int, int], problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"objective.layer_map: pair \[{pair[0]}, {pair[1]}\] lies {problem}"):
        pair_layers([(1, 1), pair], num_pairs=4, student_layers=4, teacher_layers=8)


def test_explicit_pairs_are_kept_and_must_differ() -> None:
    explicit = pair_layers([(4, 8), (2, 3)], num_pairs=1, student_layers=4, teacher_layers=8)
    assert explicit == ((2, 3), (4, 8))
    with pytest.raises(ConfigError, match="occurs twice"):
        pair_layers([(2, 3), (2, 3)], num_pairs=4, student_layers=4, teacher_layers=8)


def test_projectors_are_bias_free_maps_in_the_order_of_the_pairs() -> None:
    projectors = Projectors([(1, 2), (3, 4)], student_width=3, teacher_width=5)
    assert [tuple(parameter.shape) for parameter in projectors.parameters()] == [(5, 3), (5, 3)]
    rows = {1: torch.ones(2, 3, dtype=torch.bfloat16), 3: torch.zeros(2, 3), 2: torch.full((2, 3), 7.0)}
    first, second = projectors(rows)
    assert torch.equal(first, torch.ones(2, 3) @ next(projectors.parameters()).T)
    assert second.abs().max() == 0 and first.dtype == torch.float32


def test_equal_widths_need_no_projector() -> None:
    projectors = Projectors([(1, 2)], student_width=3, teacher_width=3)
    assert not list(projectors.parameters())
    assert torch.equal(projectors({1: torch.ones(2, 3)})[0], torch.ones(2, 3))


def test_projectors_are_saved_as_safetensors_and_refused_where_they_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "projectors.safetensors"
    saved = Projectors([(1, 2)], 3, 5)
    saved.save(path)
    assert list(load_file(path)) == ["maps.student1_teacher2.weight"]
    other = Projectors([(1, 2)], 3, 5)
    other.load(path)
    assert torch.equal(next(other.parameters()), next(saved.parameters()))
    with pytest.raises(DataError, match="do not fit this run"):
        Projectors([(1, 3)], 3, 5).load(path)
    with pytest.raises(DataError, match="do not fit this run"):
        Projectors([(1, 2)], 4, 5).load(path)
