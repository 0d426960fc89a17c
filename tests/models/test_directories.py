import json
from pathlib import Path

import pytest

from fcdistill.errors import ModelError
from fcdistill.models.loading import load_model
from tests.models.adapters import trained_adapter


def test_an_adapter_without_a_base_is_refused(plain: Path, tmp_path: Path) -> None:
    trained_adapter(plain, tmp_path / "adapter")
    (tmp_path / "adapter" / "fcdistill.json").unlink()
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="does not name its base"):
        load_model(str(tmp_path / "adapter"), dtype="float32")
