from pathlib import Path

import pytest

from fcdistill.errors import ConfigError
from fcdistill.models.loading import load_model


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "tpu:x"])
def test_unusable_devices_are_refused(plain: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=device):
        load_model(str(plain), dtype="float32", device=device)
