"""Tests of `fcdistill.models.students`: adapters, cut models, and what is saved."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from fcdistill.backends.base import Request
from fcdistill.backends.local.local_backend import LocalBackend
from fcdistill.config import DecodeSettings, FromTeacherLayers, LoraTuning
from fcdistill.errors import ConfigError, ModelError, StorageError
from fcdistill.models.loading import load_model
from fcdistill.models.students import (
    StudentCard,
    apply_lora,
    cut_layers,
    layers_to_keep,
    read_card,
    save_student,
    trained_token_ids,
    weight_storage_errors,
)
from fcdistill.prompts.rendering import answer_text, prepare_tokenizer, render_prompt, stop_token_ids
from fcdistill.records import FunctionTool, Message, ModelRef, ToolSpec
from tests.tiny import Family, tiny_model, tiny_tokenizer

FAMILIES: tuple[Family, ...] = ("llama", "qwen2", "gemma3")
IDS = torch.arange(3, 33)[None]
CARD = StudentCard(
    tools_in_prompt="none",
    tools=(FunctionTool(function=ToolSpec(name="set_light")),),
    base=ModelRef(model="smollm2-135m-instruct"),
)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_trains_itself_only(family: Family) -> None:
    model = apply_lora(tiny_model(family), LoraTuning(lora_rank=4, lora_alpha=8))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert not any("lm_head" in name for name in trained)
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.task_type) == (4, 8, "CAUSAL_LM")
    assert torch.allclose(model(IDS).logits, tiny_model(family)(IDS).logits)


def test_tokens_are_named_or_those_around_calls() -> None:
    tokenizer = tiny_tokenizer("qwen")
    ids = [tokenizer.convert_tokens_to_ids(tag) for tag in ("<tool_call>", "</tool_call>")]
    assert trained_token_ids(tokenizer, LoraTuning()) == ids
    assert trained_token_ids(tokenizer, LoraTuning(trainable_tokens=())) == []
    assert trained_token_ids(tokenizer, LoraTuning(trainable_tokens=("</tool_call>",))) == ids[1:]
    with pytest.raises(ConfigError, match="'<call>' is not in the model's vocabulary"):
        trained_token_ids(tokenizer, LoraTuning(trainable_tokens=("<call>",)))


def test_an_adapter_on_named_modules() -> None:
    model = apply_lora(tiny_model(), LoraTuning(target_modules=("q_proj", "layers.1.mlp.up_proj")))
    adapted = {
        name.split(".lora_")[0].removeprefix("base_model.model.model.")
        for name, _ in model.named_parameters()
        if "lora_" in name
    }
    assert adapted == {f"layers.{layer}.self_attn.q_proj" for layer in range(4)} | {"layers.1.mlp.up_proj"}


def test_an_unknown_module_is_named_even_beside_a_known_one() -> None:
    with pytest.raises(ModelError, match="no module 'c_attn'") as caught:
        apply_lora(tiny_model(), LoraTuning(target_modules=("q_proj", "c_attn")))
    assert "q_proj" in caught.value.required and "all-linear" in caught.value.required


def test_a_module_that_can_not_be_adapted_is_named() -> None:
    with pytest.raises(ModelError, match="RMSNorm"):
        apply_lora(tiny_model(), LoraTuning(target_modules=("norm",)))


@pytest.mark.parametrize(
    ("num_layers", "keep_every", "expected"),
    [(24, 2, [*range(0, 24, 2), 23]), (7, 3, [0, 3, 6]), (5, 9, [0, 4]), (1, 2, [0])],
)
def test_every_kth_layer_keeps_the_ends(num_layers: int, keep_every: int, expected: list[int]) -> None:
    rule = FromTeacherLayers(init="from_teacher_layers", model="m", keep_every=keep_every)
    assert layers_to_keep(num_layers, rule) == expected


@pytest.mark.parametrize("keep", [(), (0, 0), (1, 0), (-1, 2), (0, 4)])
def test_impossible_layers_are_refused(keep: tuple[int, ...]) -> None:
    rule = FromTeacherLayers(init="from_teacher_layers", model="the-teacher", keep_layers=keep)
    with pytest.raises(ConfigError, match="keep_layers") as caught:
        layers_to_keep(4, rule)
    assert "0..3" in caught.value.required and "the-teacher" in caught.value.required


def test_explicit_layers_are_kept() -> None:
    rule = FromTeacherLayers(init="from_teacher_layers", model="m", keep_layers=(0, 2, 3))
    assert layers_to_keep(4, rule) == [0, 2, 3]


@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_all_layers_changes_nothing(family: Family) -> None:
    model = tiny_model(family)
    assert torch.equal(cut_layers(model, range(4))(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_is_a_whole_model_of_fewer_layers(family: Family, tmp_path: Path) -> None:
    model = tiny_model(family)
    original = {name: weight.clone() for name, weight in model.state_dict().items()}
    logits = model(IDS).logits
    student = cut_layers(model, [0, 1, 3])
    assert len(student(IDS, output_hidden_states=True).hidden_states) == 4
    assert student.num_parameters() < model.num_parameters()
    with_cache = student.generate(IDS, max_new_tokens=8, do_sample=False, pad_token_id=0)
    without = student.generate(IDS, max_new_tokens=8, do_sample=False, pad_token_id=0, use_cache=False)
    assert torch.equal(with_cache, without)
    for name, weight in student.state_dict().items():
        index = name.split(".")[2] if name.startswith("model.layers.") else None
        source = name if index is None else name.replace(f"layers.{index}.", f"layers.{[0, 1, 3][int(index)]}.")
        assert torch.equal(weight, original[source]), name
    student.save_pretrained(tmp_path)
    assert torch.allclose(type(model).from_pretrained(tmp_path)(IDS).logits, student(IDS).logits, atol=1e-6)
    # The model that was cut is untouched, and shares no weights with the student.
    for weight in student.parameters():
        weight.data.zero_()
    assert model.config.num_hidden_layers == 4
    assert torch.equal(model(IDS).logits, logits)


def test_sliding_layers_stay_sliding() -> None:
    student = cut_layers(tiny_model("gemma3"), [1, 2])
    assert student.config.layer_types == ["full_attention", "sliding_attention"]
    assert [layer.self_attn.layer_idx for layer in student.model.layers] == [0, 1]


@pytest.mark.parametrize("keep", [[], [4], [-1]])
def test_layers_that_do_not_exist_can_not_be_kept(keep: list[int]) -> None:
    with pytest.raises(ModelError, match="can't be kept of a model with 4"):
        cut_layers(tiny_model(), keep)


def test_other_architectures_can_not_be_cut() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=50))
    with pytest.raises(ModelError, match="GPT2LMHeadModel can't be cut"):
        cut_layers(model, [0])


def test_a_saved_student_has_weights_tokenizer_template_and_card(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("qwen")
    save_student(tiny_model("qwen2", len(tokenizer)), tokenizer, tmp_path / "new" / "student", CARD)
    directory = tmp_path / "new" / "student"
    assert {path.name for path in directory.iterdir()} >= {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "fcdistill.json",
    }
    assert read_card(directory) == CARD
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["student"]


def test_a_saved_adapter_names_its_base_and_holds_no_base_weights(tmp_path: Path) -> None:
    model = apply_lora(tiny_model("qwen2", 502), LoraTuning(lora_rank=2))
    assert isinstance(model, PeftModel)
    save_student(model, tiny_tokenizer("qwen"), tmp_path / "adapter", CARD)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "smollm2-135m-instruct"
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "adapter" / "model.safetensors").exists()


def test_saving_replaces_the_directory_as_a_whole(tmp_path: Path) -> None:
    directory = tmp_path / "student"
    directory.mkdir()
    (directory / "stale").write_text("x")
    save_student(tiny_model(), tiny_tokenizer(), directory, CARD)
    assert not (directory / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_failed_save_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, model = tmp_path / "student", tiny_model()
    directory.mkdir()
    (directory / "before").write_text("x")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "save_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_student(model, tiny_tokenizer(), directory, CARD)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    assert [path.name for path in directory.iterdir()] == ["before"]


def test_cards_are_checked(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None
    (tmp_path / "fcdistill.json").write_text('{"tools_in_prompt": "some", "tools": []}')
    with pytest.raises(ModelError, match="tools_in_prompt"):
        read_card(tmp_path)


@pytest.mark.parametrize("write", [lambda tensors, path: save_file(tensors, path), torch.save])
def test_a_disk_that_takes_only_a_part_of_the_weights(tmp_path: Path, write: Callable[..., None]) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, unlimited[1]))
    try:
        with (
            pytest.raises(StorageError, match=r"could not write .*part"),
            weight_storage_errors(tmp_path / "part", "write"),
        ):
            write({"weight": torch.zeros(9000)}, tmp_path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)


@pytest.mark.parametrize(
    "error", [SafetensorError("no such dtype"), RuntimeError("shapes differ"), KeyboardInterrupt()]
)
def test_what_is_no_fault_of_the_disk_passes_through(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), weight_storage_errors(tmp_path, "write"):
        raise error


@pytest.mark.parametrize("saved", ["weights", "adapter"])
def test_what_is_saved_stops_where_the_template_ends_an_answer(tmp_path: Path, saved: str) -> None:
    tokenizer = tiny_tokenizer("chatml")
    model = tiny_model("llama", len(tokenizer))
    model.generation_config.eos_token_id = 7
    student = apply_lora(model, LoraTuning(lora_rank=4, lora_alpha=8)) if saved == "adapter" else model
    save_student(student, tokenizer, tmp_path / "student", CARD)
    written = json.loads((tmp_path / "student" / "generation_config.json").read_text())
    assert written["eos_token_id"] == [*stop_token_ids(tokenizer), 7]
    assert model.generation_config.eos_token_id == written["eos_token_id"]


def test_generate_on_saved_weights_ends_where_a_local_backend_does(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("chatml")
    prepare_tokenizer(tokenizer)
    stop = stop_token_ids(tokenizer)[0]
    base = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.eos_token = "<|im_start|>"  # as a base model names another token than its template
    assert stop_token_ids(tokenizer) == [stop, base]
    model = tiny_model("llama", len(tokenizer), tie_word_embeddings=False)
    model.generation_config.eos_token_id = base
    prompt = torch.tensor([render_prompt(tokenizer, [Message(role="user", content="hi")], [], "none")])
    with torch.no_grad():
        longer = model.generate(prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False)
        hidden = model.model(longer).last_hidden_state[0, -1]
        model.get_output_embeddings().weight[stop] = hidden * 10
    save_student(model, tokenizer, tmp_path / "merged", CARD)

    plain = AutoModelForCausalLM.from_pretrained(str(tmp_path / "merged"), dtype=torch.float32)
    ids = plain.generate(prompt, max_new_tokens=30, do_sample=False)[0, prompt.shape[1] :].tolist()
    assert ids[-1] == stop and ids.count(stop) == 1 and len(ids) < 30
    backend = LocalBackend(load_model(str(tmp_path / "merged"), dtype="float32", device="cpu"))
    request = Request("a", (Message(role="user", content="hi"),), ())
    (answer,) = backend.complete([request], DecodeSettings(max_new_tokens=30))
    assert (answer.finish_reason, answer.text) == ("stop", answer_text(tokenizer, ids[:-1]))
