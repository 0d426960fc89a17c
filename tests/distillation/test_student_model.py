from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel

from fcdistill.config import TrainConfig, parse_config
from fcdistill.distillation.student_model import load_student, quantization_of, reassemble_student, save_trained
from fcdistill.models.loading import load_model
from fcdistill.prompts.rendering import tokenizer_sha256
from tests.tiny import tiny_model, tiny_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "student"
    tiny_model("llama", len(tiny_tokenizer("qwen")), num_layers=4).save_pretrained(directory)
    tiny_tokenizer("qwen").save_pretrained(directory)
    return directory


def _config(model: Path, out: Path, **fields: Any) -> TrainConfig:
    values = {"traces": "t.jsonl", "out": out, "student": {"model": str(model)}, "device": "cpu", **fields}
    config: TrainConfig = parse_config(values, "train", "test")
    return config


def test_weights_that_are_trained_are_float32_and_frozen_ones_are_not(model: Path, tmp_path: Path) -> None:
    lora, base = load_student(_config(model, tmp_path, dtype="bfloat16"), CPU)
    full, _ = load_student(_config(model, tmp_path, dtype="bfloat16", tuning={"method": "full"}), CPU)
    assert isinstance(lora.model, PeftModel) and lora.autocast == full.autocast == torch.bfloat16
    dtypes = {(weight.requires_grad, weight.dtype) for weight in lora.model.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}
    assert {(weight.requires_grad, weight.dtype) for weight in full.model.parameters()} == {(True, torch.float32)}
    assert base.model == str(model) and base.revision and not base.params


def test_a_cut_student_says_which_layers_it_kept(model: Path, tmp_path: Path) -> None:
    student = {"init": "from_teacher_layers", "model": str(model), "keep_every": 2}
    side, base = load_student(_config(model, tmp_path, student=student, dtype="float32"), CPU)
    assert base.params["keep_layers"] == [0, 2, 3]  # the last one always
    assert side.model.config.num_hidden_layers == 3
    assert side.autocast is None


def test_how_weights_are_stored_is_the_adapters_to_say(model: Path, tmp_path: Path) -> None:
    assert quantization_of(_config(model, tmp_path, tuning={"method": "full"})) == "none"
    assert quantization_of(_config(model, tmp_path, tuning={"method": "lora", "quantization": "4bit"})) == "4bit"


@pytest.mark.parametrize("merge", [False, True])
def test_what_is_saved_computes_what_was_trained(model: Path, tmp_path: Path, merge: bool) -> None:
    config = _config(model, tmp_path / "run", dtype="float32", merge=merge, tools_in_prompt="none")
    torch.manual_seed(1)  # of the adapter: how much float32 rounds depends on what is drawn, and may reach the bound
    trained, base = load_student(config, CPU)
    with torch.no_grad():
        for name, weight in trained.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    ids = torch.arange(12)[None]
    expected = trained.model.eval()(ids).logits.detach()
    again = reassemble_student(config, trained.model.state_dict())
    assert torch.equal(again.model.eval()(ids).logits, expected)

    tokenizer = load_model(str(model), dtype="float32").tokenizer
    save_trained(config, trained, SimpleNamespace(tokenizer=tokenizer, tools=()), base, None)  # type: ignore[arg-type]
    assert (config.out / "merged").exists() == merge
    for saved in ["adapter", "merged"][: 1 + merge]:
        loaded = load_model(str(config.out / saved), dtype="float32")
        assert torch.allclose(loaded.model.eval()(ids).logits, expected, atol=1e-5)
        assert loaded.card is not None and loaded.card.tools_in_prompt == "none"
        assert (loaded.card.dialect, loaded.card.server_parsers["vllm"]) == ("hermes", "hermes")
        assert tokenizer_sha256(loaded.tokenizer) == tokenizer_sha256(tokenizer)
