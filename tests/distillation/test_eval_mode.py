import pytest
import torch

from fcdistill.distillation.eval_mode import answering
from tests.tiny import tiny_model


def test_modules_get_their_own_modes_back_also_after_an_error() -> None:
    model = tiny_model("llama", 60).train()
    model.model.layers[2].eval()
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    with answering(model, None):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(RuntimeError), answering(model, None):
        raise RuntimeError
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize(("autocast", "dtype"), [(None, torch.float32), (torch.bfloat16, torch.bfloat16)])
def test_matrix_products_have_the_precision_of_training(autocast: torch.dtype | None, dtype: torch.dtype) -> None:
    model = tiny_model("llama", 60)
    with answering(model, autocast):
        assert model(torch.tensor([[1, 2]])).logits.dtype == dtype
    assert not torch.is_autocast_enabled("cpu")
