"""Where a model computes: from the word of a configuration to a device that is there."""

import re

import torch

from fcdistill.errors import ConfigError

__all__ = ["choose_device"]

_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


def choose_device(device: str, field: str = "device") -> torch.device:
    """The torch device of a config: `auto` is CUDA, else MPS, else CPU. Raises `ConfigError` where there is no such."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        if not _DEVICE.fullmatch(device):
            raise RuntimeError("no such device")
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{field} {device!r}: {reason}", required="auto, cpu, cuda, cuda:N or mps", fix="use auto"
        ) from None
    return place
