"""Less memory for a training step: what is cheap to compute is computed again on the way back instead of being kept.

Norms and the gates of MLPs cost a hundredth of a layer's time, but their intermediate results, and their outputs, which
the matrix products behind them keep for their own gradients, are half of what a layer keeps. Here such a function keeps
its inputs alone, and a saved output is replaced by the recipe for it. Losses are bit for bit those of the model as it
is, gradients up to the order of a sum. Gradient checkpointing, which computes whole layers again, needs none of this.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

__all__ = ["keep_recipes", "recompute_cheap_parts"]

_MLP_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


def recompute_cheap_parts(model: nn.Module) -> int:
    """Let a model's RMS norms and gated MLPs keep less, in place; returns how many.

    A module that does anything else than its kind's formula is left alone.
    """
    changed = 0
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and len(inspect.signature(module.forward).parameters) == 1:
            module.forward = _norm(module, module.forward)
            changed += 1
        elif all(isinstance(getattr(module, part, None), nn.Module) for part in _MLP_PARTS) and _is_gated(module):
            module.forward = _gated_mlp(module)
            changed += 1
    return changed


def _norm(norm: nn.Module, original: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(hidden_states: Tensor) -> Tensor:
        return _cheaply(original, (hidden_states,), tuple(norm.parameters(recurse=False)))

    return forward


def _gated_mlp(mlp: Any) -> Callable[[Tensor], Tensor]:
    def gated(gate: Tensor, up: Tensor) -> Tensor:
        product: Tensor = mlp.act_fn(gate) * up
        return product

    def forward(hidden_states: Tensor) -> Tensor:
        result: Tensor = mlp.down_proj(_cheaply(gated, (mlp.gate_proj(hidden_states), mlp.up_proj(hidden_states))))
        return result

    return forward


@torch.no_grad()
def _is_gated(mlp: Any) -> bool:
    """Whether the module computes nothing but down(act(gate) * up)."""
    weight = getattr(mlp.gate_proj, "weight", None)
    if weight is None or not weight.is_floating_point() or list(mlp.act_fn.parameters()):
        return False
    probe = torch.linspace(-2.0, 2.0, 3 * weight.shape[1], device=weight.device, dtype=weight.dtype).view(1, 3, -1)
    return torch.equal(mlp(probe), _gated_mlp(mlp)(probe))


class _Recipe:
    """How a result comes about; made again at most once, for those who read it and for its own gradient."""

    def __init__(
        self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> None:
        self.function = function
        self.weights = weights
        self._inputs = tuple(tensor.detach() for tensor in inputs)
        self._again: tuple[list[Tensor], Tensor] | None = None

    def again(self) -> tuple[list[Tensor], Tensor]:
        """The inputs as leaves, and what follows from them."""
        if self._again is None:
            with torch.enable_grad():
                leaves = [tensor.detach().requires_grad_() for tensor in self._inputs]
                self._again = leaves, self.function(*leaves)
        return self._again

    def forget(self) -> None:
        """Free the memory: nobody will ask again."""
        self._inputs, self._again = (), None


@dataclass(frozen=True)
class _View:
    """A saved tensor: a recipe's result as it lies in memory."""

    recipe: _Recipe
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


_results: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
"""Living results of cheap functions, by their memory's address; their recipes are attributes of theirs."""


def _cheaply(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], weights: tuple[Tensor, ...] = ()) -> Tensor:
    """What the function gives for these inputs; it may use weights, which are named for their gradients."""
    if not torch.is_grad_enabled():
        return function(*inputs)
    recipe = _Recipe(function, inputs, weights)
    result: Tensor = _Cheap.apply(recipe, *inputs, *weights)  # type: ignore[no-untyped-call]
    if address := result.untyped_storage().data_ptr():
        result.recipe = recipe  # type: ignore[attr-defined]
        _results[address] = result
    return result


class _Cheap(torch.autograd.Function):
    """A function that keeps its inputs alone."""

    @staticmethod
    def forward(ctx: Any, recipe: _Recipe, *tensors: Tensor) -> Tensor:
        inputs = tensors[: len(tensors) - len(recipe.weights)]
        ctx.recipe = recipe
        ctx.save_for_backward(*inputs)
        return recipe.function(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        assert ctx.saved_tensors  # PyTorch refuses inputs that were changed meanwhile, and a second pass
        leaves, result = ctx.recipe.again()
        needed = ctx.needs_input_grad[1:]
        tensors = [
            tensor for tensor, is_needed in zip([*leaves, *ctx.recipe.weights], needed, strict=True) if is_needed
        ]
        found = iter(torch.autograd.grad(result, tensors, gradients))
        ctx.recipe.forget()
        return None, *(next(found) if is_needed else None for is_needed in needed)


@contextlib.contextmanager
def keep_recipes() -> Iterator[None]:
    """Within it, a forward pass keeps recipes instead of the results of cheap functions."""
    with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
        yield


def _pack(tensor: Tensor) -> Tensor | _View:
    result = _results.get(tensor.untyped_storage().data_ptr())
    if result is None or result.numel() != tensor.numel() or tensor._version:
        return tensor
    recipe: _Recipe = result.recipe  # type: ignore[attr-defined]
    return _View(recipe, tensor.shape, tensor.stride(), int(tensor.storage_offset()))


def _unpack(kept: Tensor | _View) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    _, result = kept.recipe.again()
    return result.detach().as_strided(kept.size, kept.stride, kept.offset)
