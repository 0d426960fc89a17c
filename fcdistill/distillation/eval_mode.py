"""A model that is being trained answers for a while, and goes on being trained as if nothing had happened."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["answering"]


@contextlib.contextmanager
def answering(model: nn.Module, autocast: torch.dtype | None) -> Iterator[None]:
    """Let a model answer: in eval mode and in the precision of training.

    Args:
        model: the model; afterwards each of its modules is in the mode in which it was.
        autocast: precision of matrix products where that is not the precision of the weights.
    """
    modes = [(module, module.training) for module in model.modules()]
    place = next(model.parameters()).device.type
    precision = torch.autocast(place, dtype=autocast) if autocast is not None else contextlib.nullcontext()
    model.eval()
    try:
        with precision:
            yield
    finally:
        for module, training in modes:
            module.training = training
