"""What the tests of `fcdistill.distillation` share: tiny models on disk, and flex attention on a CPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn.attention import flex_attention

from fcdistill.distillation.packed import attention
from tests.distillation.world import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces and models, see `make_world`; no test writes there."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def flex_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models on a CPU attend to packed rows as those on CUDA do, but through uncompiled kernels.

    PyTorch refuses gradients on CPUs, for want of a compiled backward pass only.
    """
    monkeypatch.setattr(attention, "_FLEX_DEVICES", frozenset({"cpu"}))
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex_attention, "_warn_once", lambda *_, **__: None)
    with torch.compiler.set_stance("force_eager"):
        yield
