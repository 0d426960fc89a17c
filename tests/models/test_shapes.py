import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from fcdistill.errors import ModelError
from fcdistill.models.loading import load_model
from fcdistill.models.shapes import model_shape
from tests.models.adapters import trained_adapter


@pytest.mark.parametrize("keep", [None, [0, 1, 3]])
def test_the_shape_and_revision_of_a_model_are_known_without_its_weights(
    plain: Path, tmp_path: Path, keep: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_adapter(plain, tmp_path / "adapter", keep)
    revisions = [load_model(str(path), dtype="float32").ref.revision for path in (plain, tmp_path / "adapter")]
    unwanted = classmethod(lambda *_, **__: pytest.fail("no weights are needed"))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", unwanted)
    shape, adapted = model_shape(str(plain)), model_shape(str(tmp_path / "adapter"))
    assert (shape.num_layers, shape.width, shape.ref.revision) == (4, 32, revisions[0])
    assert (adapted.num_layers, adapted.width, adapted.ref.revision) == (3 if keep else 4, 32, revisions[1])
    shutil.rmtree(plain)
    with pytest.raises(ModelError, match="the base of adapter .*adapter is missing"):
        model_shape(str(tmp_path / "adapter"))
