"""Weights in 8 or 4 bits: the settings that the library gets, what they need, how much memory they take.

4 bits are those of QLoRA (arXiv:2305.14314, section 3): normal floats in blocks of 64 whose scales are quantised again,
products in the precision of the configuration. Who is quantised is not known here.
"""

import importlib.util
from typing import Any

import torch

from fcdistill.config import Dtype, Quantization
from fcdistill.errors import ConfigError, MissingDependencyError

__all__ = ["bits_and_bytes", "quantized_bytes", "require_quantization"]

_BYTES = {
    # One byte a weight, a float32 scale per output row.
    "8bit": lambda outputs, inputs: outputs * inputs + 4 * outputs,
    # Half a byte a weight, a byte per block of 64, and a float32 scale per 256 of those.
    "4bit": lambda outputs, inputs: outputs * inputs * (1 / 2 + 1 / 64 + 4 / (64 * 256)),
}


def require_quantization(kind: Quantization, field: str, device: torch.device) -> None:
    """Check that weights can be quantised here.

    Args:
        kind: how.
        field: the field that asks for it.
        device: where the model is to run.

    Raises:
        ConfigError: the model is to run elsewhere than on a CUDA device.
        MissingDependencyError: bitsandbytes is not installed.
    """
    if kind == "none":
        return
    if device.type != "cuda":
        raise ConfigError(
            f"{field} is {kind}, but the model would run on {device}",
            required="a CUDA device, on which the kernels for quantised weights run",
            fix=f"set {field} to none, or run it on a machine with a CUDA device",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            f"{field} is {kind}, but the package bitsandbytes is not installed",
            required="bitsandbytes, which quantises the weights and multiplies by them",
            fix="pip install 'fcdistill[quantized]'",
        )


def bits_and_bytes(kind: Quantization, dtype: Dtype) -> Any:
    """The library's settings; None for weights as they are. What `require_quantization` asks for must be there."""
    if kind == "none":
        return None
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def quantized_bytes(kind: Quantization, outputs: int, inputs: int) -> float:
    """Bytes of a linear layer's weight of this shape; only these are quantised, and not the LM head's."""
    return float(_BYTES[kind](outputs, inputs))
