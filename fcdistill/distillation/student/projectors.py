"""Which hidden states of the student follow which of the teacher, and the projectors between unequal widths.

Layers are HF `hidden_states` indices: 0 is the embeddings (never aligned), the last is the model's final hidden state.
Projectors are trained with the student and saved beside it: they are no part of what the student is.

Axes: M aligned rows, H width.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fcdistill.errors import ConfigError, DataError

__all__ = ["PROJECTORS_NAME", "LayerPair", "Projectors", "pair_layers"]

PROJECTORS_NAME = "projectors.safetensors"
"""Their file beside a student, and in its checkpoints."""

LayerPair = tuple[int, int]
"""(student_layer, teacher_layer)."""


def pair_layers(
    layer_map: Literal["proportional"] | Sequence[LayerPair],
    *,
    num_pairs: int,
    student_layers: int,
    teacher_layers: int,
) -> tuple[LayerPair, ...]:
    """The pairs whose hidden states are aligned.

    Args:
        layer_map: the pairs, or `proportional`: equally spaced by depth, the last of both models always a pair.
        num_pairs: how many pairs a proportional map has, at most as many as the shallower model has layers.
        student_layers: decoder layers of the student.
        teacher_layers: decoder layers of the teacher.

    Returns:
        Pairs in ascending order of the student's layer.

    Raises:
        ConfigError: an explicit pair lies outside a model, is the embeddings, or occurs twice.
    """
    if layer_map == "proportional":
        count = min(num_pairs, student_layers, teacher_layers)
        return tuple(
            (round(step * student_layers / count), round(step * teacher_layers / count)) for step in range(1, count + 1)
        )
    pairs = sorted((student, teacher) for student, teacher in layer_map)
    for student_layer, teacher_layer in pairs:
        inside = 1 <= student_layer <= student_layers and 1 <= teacher_layer <= teacher_layers
        if not inside or pairs.count((student_layer, teacher_layer)) > 1:
            raise ConfigError(
                f"objective.layer_map: pair [{student_layer}, {teacher_layer}] "
                + ("occurs twice" if inside else "lies outside the models"),
                required=f"distinct pairs of a student layer in 1..{student_layers} and a teacher layer in "
                f"1..{teacher_layers} (0 would be the embeddings)",
                fix="correct the pair, or use layer_map: proportional",
            )
    return tuple(pairs)


class Projectors(nn.Module):
    """One bias-free linear map per pair from the student's width to the teacher's; none where the widths are equal.

    Args:
        pairs: the aligned layers.
        student_width: hidden size of the student.
        teacher_width: hidden size of the teacher.
    """

    def __init__(self, pairs: Sequence[LayerPair], student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.pairs = tuple(pairs)
        self.maps = nn.ModuleDict()
        if student_width != teacher_width:
            for student_layer, teacher_layer in pairs:
                linear = nn.Linear(student_width, teacher_width, bias=False, dtype=torch.float32)
                # Norms survive the map, so that training starts from comparable hidden states.
                nn.init.orthogonal_(linear.weight)
                self.maps[f"student{student_layer}_teacher{teacher_layer}"] = linear

    def forward(self, student_MH: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        """The student's hidden states of each pair in the teacher's width, float32, from its states by layer."""
        rows = [student_MH[student_layer].float() for student_layer, _ in self.pairs]
        if not self.maps:
            return tuple(rows)
        return tuple(linear(rows_MH) for linear, rows_MH in zip(self.maps.values(), rows, strict=True))

    def save(self, path: Path) -> None:
        """Write the maps as safetensors."""
        save_file({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}, path)

    def load(self, path: Path) -> None:
        """Read maps that `save` wrote.

        Raises:
            DataError: the file holds maps of other layers or widths.
        """
        try:
            self.load_state_dict(load_file(path))
        except RuntimeError as error:
            raise DataError(
                f"projectors {path} do not fit this run: {error}",
                required="projectors of the same layer pairs and widths",
                fix="train into another output directory",
            ) from None
