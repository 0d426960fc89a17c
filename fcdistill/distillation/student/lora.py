"""LoRA layers: a faster forward and backward pass, and the model as it is without them.

peft computes base(x) + scaling * B(A(x)) as separate operations, in float32 where the adapter is float32. Here one
function does it in the precision of the base weights, accumulating into the base layer's result, with gradients for the
adapter in float32. Layers of any other kind (dropout, DoRA, quantised bases, several adapters) are left to peft.
Where rows of the embeddings are trained, peft copies the whole matrix and computes the gradient of all of it; here only
these rows are looked up and multiplied.

Axes: T tokens (all leading axes), I inputs, O outputs, R rank, K trained tokens, H width.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch import Tensor, nn

__all__ = ["adapter_off", "fuse_lora"]


@contextlib.contextmanager
def adapter_off(model: PeftModel) -> Iterator[None]:
    """Let a model be what it was before it was adapted: in eval mode, without its adapter; afterwards as it is now."""
    was_training = model.training
    model.eval()
    try:
        with model.disable_adapter():
            yield
    finally:
        model.train(was_training)


def fuse_lora(model: nn.Module) -> int:
    """Speed up the LoRA layers of a model and its trained embedding rows, in place; returns how many modules.

    Weights stay where they are: saving, merging and disabling adapters work as before.
    """
    fused = 0
    for module in model.modules():
        if type(module) is LoraLinear and _is_plain(module):
            module.forward = _fused_forward(module, module.forward)
            fused += 1
        elif type(module) is TrainableTokensLayer and _has_one_adapter(module):
            module.forward = _rows_forward(module, module.forward)
            fused += 1
    return fused


def _has_one_adapter(layer: Any) -> bool:
    return len(layer.active_adapters) == 1


def _is_plain(layer: Any) -> bool:
    if not _has_one_adapter(layer) or type(layer.base_layer) is not nn.Linear:
        return False
    name = layer.active_adapters[0]
    return (
        name in layer.lora_A
        and name not in layer.lora_variant
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and layer.lora_A[name].bias is None
        and layer.lora_B[name].bias is None
    )


def _fused_forward(layer: Any, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name = layer.active_adapters[0]

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if layer.disable_adapters or layer.merged or args or kwargs:
            return original(x, *args, **kwargs)
        base = layer.base_layer
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        result: Tensor = _LoraProduct.apply(  # type: ignore[no-untyped-call]
            x, base.weight, base.bias, down, up, layer.scaling[name]
        )
        return result

    return forward


def _rows_forward(layer: Any, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name = layer.active_adapters[0]
    ids = list(layer.token_indices[name])

    def embedded(x: Tensor) -> Tensor:
        result_TH: Tensor = layer.base_layer(x)
        rows_KH = layer.trainable_tokens_delta[name].to(result_TH.dtype)
        scale = getattr(layer.base_layer, "embed_scale", None)
        for index, row_H in zip(ids, rows_KH if scale is None else rows_KH * scale.to(rows_KH.dtype), strict=True):
            result_TH = torch.where((x == index).unsqueeze(-1), row_H, result_TH)
        return result_TH

    def scored(x: Tensor) -> Tensor:
        logits: Tensor = layer.base_layer(x)
        rows_KH = layer.trainable_tokens_delta[name].to(layer.base_layer.weight.dtype)
        columns = torch.tensor(ids, device=logits.device)
        return logits.index_copy_(-1, columns, nn.functional.linear(x, rows_KH).to(logits.dtype))

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if layer.disable_adapters or layer.merged or args or kwargs:
            return original(x, *args, **kwargs)
        return embedded(x) if isinstance(layer.base_layer, nn.Embedding) else scored(x)

    return forward


class _LoraProduct(torch.autograd.Function):
    """x W^T + bias + scaling * x A^T B^T; gradients for x, A and B."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, down_RI: Tensor, up_OR: Tensor, scaling: float
    ) -> Tensor:
        dtype = weight_OI.dtype
        x_TI = x.reshape(-1, x.shape[-1]).to(dtype)
        down, up = down_RI.to(dtype), up_OR.to(dtype)
        y_TO = x_TI @ weight_OI.T if bias_O is None else torch.addmm(bias_O, x_TI, weight_OI.T)
        inner_TR = x_TI @ down.T
        y_TO.addmm_(inner_TR, up.T, alpha=scaling)
        ctx.save_for_backward(x_TI, inner_TR, weight_OI, down, up)
        ctx.scaling, ctx.shape, ctx.x_dtype = scaling, x.shape, x.dtype
        return y_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, inner_TR, weight_OI, down, up = ctx.saved_tensors
        dy_TO = gradient.reshape(-1, gradient.shape[-1]).to(weight_OI.dtype)
        dinner_TR = dy_TO @ up
        dx = None
        if ctx.needs_input_grad[0]:
            dx_TI = dy_TO @ weight_OI
            dx_TI.addmm_(dinner_TR, down, alpha=ctx.scaling)
            dx = dx_TI.view(ctx.shape).to(ctx.x_dtype)
        ddown_RI = (dinner_TR.T @ x_TI).float().mul_(ctx.scaling)
        dup_OR = (dy_TO.T @ inner_TR).float().mul_(ctx.scaling)
        return dx, None, None, ddown_RI, dup_OR, None
