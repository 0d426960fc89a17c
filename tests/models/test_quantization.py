import importlib.util
from typing import Any

import pytest
import torch

from fcdistill.errors import ConfigError, MissingDependencyError
from fcdistill.models import quantization
from fcdistill.models.quantization import bits_and_bytes, quantized_bytes, require_quantization

CUDA = torch.device("cuda", 0)


def test_four_bits_are_those_of_qlora_and_multiply_in_the_precision_of_the_configuration() -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        found = bits_and_bytes("4bit", dtype)  # type: ignore[arg-type]
        assert found.load_in_4bit and not found.load_in_8bit
        assert (found.bnb_4bit_quant_type, found.bnb_4bit_use_double_quant) == ("nf4", True)
        assert found.bnb_4bit_compute_dtype == getattr(torch, dtype)


def test_eight_bits_and_none() -> None:
    found = bits_and_bytes("8bit", "bfloat16")
    assert found.load_in_8bit and not found.load_in_4bit
    assert bits_and_bytes("none", "bfloat16") is None


def test_quantised_weights_take_the_bytes_of_their_blocks_and_scales() -> None:
    """4.127 bits a weight (QLoRA, section 3: 0.127 bits for the constants)."""
    assert 8 * quantized_bytes("4bit", 256, 64) / (256 * 64) == pytest.approx(4 + 0.127, abs=1e-3)
    assert quantized_bytes("8bit", 256, 64) == 256 * 64 + 4 * 256


def test_without_cuda_or_the_package_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="tuning.quantization is 4bit, but the model would run on cpu"):
        require_quantization("4bit", "tuning.quantization", torch.device("cpu"))
    there = importlib.util.find_spec

    def absent(name: str, *rest: Any) -> Any:
        return None if name == "bitsandbytes" else there(name, *rest)

    monkeypatch.setattr(quantization.importlib.util, "find_spec", absent)
    with pytest.raises(MissingDependencyError, match=r"bitsandbytes is not installed") as error:
        require_quantization("8bit", "teacher_quantization", CUDA)
    assert "fcdistill[quantized]" in error.value.fix
    require_quantization("none", "teacher_quantization", torch.device("cpu"))
