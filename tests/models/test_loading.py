"""How models load, and how their files can be broken."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fcdistill.errors import ModelError
from fcdistill.models.catalogue import CATALOGUE
from fcdistill.models.loading import load_model, load_tokenizer
from fcdistill.models.students import save_student
from fcdistill.prompts.rendering import prepare_tokenizer
from tests.models.adapters import IDS, card, trained_adapter
from tests.tiny import CHATML_TEMPLATE, QWEN_TEMPLATE, tiny_model, tiny_tokenizer


def test_a_plain_directory_loads(plain: Path) -> None:
    loaded = load_model(str(plain), dtype="bfloat16")
    assert loaded.model.dtype == torch.bfloat16 and not loaded.model.training
    assert loaded.card is None
    assert loaded.ref.model == str(plain) and loaded.ref.revision.startswith("sampled-sha256:")
    assert loaded.tokenizer.padding_side == "left"
    assert loaded.tokenizer.chat_template == QWEN_TEMPLATE
    exact = load_model(str(plain), dtype="float32")
    reference = tiny_model("qwen2", 502)
    assert torch.equal(exact.model(IDS).logits, reference(IDS).logits)


def test_a_tokenizer_whose_template_drops_tools_is_prepared(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("chatml")
    tiny_model("llama", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    prepared = load_tokenizer(str(tmp_path))
    assert prepared.chat_template != CHATML_TEMPLATE
    prepare_tokenizer(tokenizer)
    assert prepared.chat_template == tokenizer.chat_template


@pytest.mark.parametrize(("keep", "token_ids"), [(None, ()), ([0, 2], ()), (None, (7, 30)), ([0, 2], (7, 30))])
def test_an_adapter_loads_on_the_base_of_its_card(
    plain: Path, tmp_path: Path, keep: list[int] | None, token_ids: tuple[int, ...]
) -> None:
    wanted = trained_adapter(plain, tmp_path / "run" / "adapter", keep, token_ids)
    loaded = load_model(str(tmp_path / "run"), dtype="float32")
    assert torch.allclose(loaded.model(IDS).logits, wanted, atol=1e-3)
    assert not torch.allclose(load_model(str(plain), dtype="float32").model(IDS).logits, wanted, atol=1e-2)
    assert loaded.card is not None and loaded.card.tools_in_prompt == "none"
    assert not any("lora" in name or "tokens_delta" in name for name, _ in loaded.model.named_parameters())
    assert loaded.ref.model == str(tmp_path / "run")


def test_an_adapter_of_peft_alone_loads_with_the_tokenizer_of_its_base(plain: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    wanted = trained_adapter(plain, adapter)
    for path in adapter.iterdir():
        if not path.name.startswith("adapter_"):
            path.unlink()
    loaded = load_model(str(adapter), dtype="float32")
    assert torch.allclose(loaded.model(IDS).logits, wanted, atol=1e-3)
    assert loaded.card is None
    assert loaded.tokenizer.get_vocab() == tiny_tokenizer("qwen").get_vocab()


def test_merged_weights_come_before_the_adapter(plain: Path, tmp_path: Path) -> None:
    wanted = trained_adapter(plain, tmp_path / "run" / "adapter")
    merged = load_model(str(tmp_path / "run"), dtype="float32")
    save_student(merged.model, merged.tokenizer, tmp_path / "run" / "merged", card("base"))
    shutil.rmtree(tmp_path / "run" / "adapter")
    assert torch.allclose(load_model(str(tmp_path / "run"), dtype="float32").model(IDS).logits, wanted, atol=1e-3)


def truncate(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def drop_a_weight(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def edit_config(**fields: object) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return edit


def only_pickled_weights(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def with_larger_vocabulary(directory: Path) -> None:
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(directory)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "SafetensorError"),
        (drop_a_weight, "lacks 1 weights, for example model.layers.1.mlp.up_proj.weight"),
        (edit_config(hidden_size=64), "can't be loaded"),
        (edit_config(num_hidden_layers=5, layer_types=["full_attention"] * 5), "lacks 12 weights"),
        (edit_config(num_hidden_layers=5), "layer_types"),
        (edit_config(model_type="nonsense"), "nonsense"),
        (edit_config(model_type="own", auto_map={"AutoConfig": "own.Config"}), "can't be loaded"),
        (lambda directory: (directory / "config.json").write_text("{"), "can't be loaded"),
        (only_pickled_weights, "no [*].safetensors"),
        (lambda directory: (directory / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda directory: (directory / "tokenizer.json").write_text("{}"), "tokenizer in .* can't be loaded"),
        (lambda directory: (directory / "fcdistill.json").write_text('{"tools": 1}'), "student card"),
        (with_larger_vocabulary, "its tokenizer has id 502, but it embeds only 502 tokens"),
    ],
)
def test_broken_files_say_what_is_broken(plain: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(plain)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(str(plain), dtype="float32")
    assert str(plain) in str(caught.value) and caught.value.fix


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda adapter: (adapter / "adapter_model.safetensors").write_bytes(b"x"), "can't be loaded"),
        (lambda adapter: (adapter / "adapter_model.safetensors").unlink(), "can't be loaded"),
        (lambda adapter: (adapter / "adapter_config.json").write_text("{}"), "can't be loaded"),
        (lambda adapter: (adapter / "fcdistill.json").unlink(), None),
    ],
)
def test_broken_adapters_say_what_is_broken(
    plain: Path, tmp_path: Path, damage: Callable[[Path], object], message: str | None
) -> None:
    trained_adapter(plain, tmp_path / "adapter")
    damage(tmp_path / "adapter")
    if message is None:
        shutil.rmtree(plain)
        message = "no such directory"
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path / "adapter"), dtype="float32")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_layers"), [("smollm2-135m-instruct", 30), ("qwen2.5-coder-0.5b-instruct", 24)])
def test_catalogue_models_load_and_know_their_tokens(name: str, num_layers: int) -> None:
    loaded = load_model(name, dtype="bfloat16")
    assert loaded.model.config.num_hidden_layers == num_layers
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.ref.revision == f"sha256:{CATALOGUE[name].gguf_sha256}"
    assert len(loaded.tokenizer.encode("<|im_start|><|im_end|>", add_special_tokens=False)) == 2
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt").input_ids
    started = time.monotonic()
    following = loaded.model(ids).logits[0, -1].argmax()
    assert loaded.tokenizer.decode(following) == " Paris"
    assert time.monotonic() - started < 60
