"""Tests of `fcdistill.models`: what references mean, how models load, and how their files can be broken."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from fcdistill import models
from fcdistill.config import LoraTuning
from fcdistill.errors import ConfigError, DownloadError, ModelError
from fcdistill.models import (
    StudentCard,
    apply_lora,
    cut_layers,
    load_model,
    load_tokenizer,
    model_shape,
    resolve,
    save_student,
    shared_vocabulary,
)
from fcdistill.prompts import prepare_tokenizer
from fcdistill.records import ModelRef
from tests.tiny import CHATML_TEMPLATE, QWEN_TEMPLATE, tiny_model, tiny_tokenizer

IDS = torch.arange(3, 33)[None]


def card(base: str, **params: object) -> StudentCard:
    return StudentCard(tools_in_prompt="none", tools=(), base=ModelRef(model=base, params=params))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A model directory as any tool writes it, without a card."""
    tokenizer = tiny_tokenizer("qwen")
    directory = tmp_path / "plain"
    tiny_model("qwen2", len(tokenizer)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def trained_adapter(
    base: Path, directory: Path, keep: list[int] | None = None, token_ids: Sequence[int] = ()
) -> torch.Tensor:
    """Save an adapter that changes something; its logits on `IDS`."""
    loaded = load_model(str(base), dtype="float32")
    tuning = LoraTuning(lora_rank=2, lora_alpha=4)
    model = apply_lora(loaded.model if keep is None else cut_layers(loaded.model, keep), tuning, token_ids)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_" in name or "trainable_tokens" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=generator)
    save_student(model, loaded.tokenizer, directory, card(str(base), **({"keep_layers": keep} if keep else {})))
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(IDS).logits
    return logits


@pytest.mark.parametrize(
    ("ref", "kind"),
    [
        ("smollm2-135m-instruct", "catalogue"),
        ("qwen2.5-coder-0.5b-instruct", "catalogue"),
        ("gpt2", "hub"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "hub"),
    ],
)
def test_names_mean_the_catalogue_or_the_hub(ref: str, kind: str) -> None:
    found = resolve(ref)
    assert (found.kind, found.path_or_id, found.ref.model) == (kind, ref, ref)


def test_a_catalogue_name_wins_over_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert resolve("smollm2-135m-instruct").kind == "catalogue"


@pytest.mark.parametrize(
    ("files", "kind", "inside"),
    [
        (["config.json"], "directory", ""),
        (["adapter_config.json"], "adapter", ""),
        (["manifest.json", "merged/config.json", "adapter/adapter_config.json"], "run", "merged"),
        (["manifest.json", "adapter/adapter_config.json"], "run", "adapter"),
    ],
)
def test_directories_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], kind: str, inside: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in files:
        path = tmp_path / "runs" / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    found = resolve("runs/x")
    assert (found.kind, Path(found.path_or_id)) == (kind, Path("runs/x") / inside)
    assert found.ref == ModelRef(model="runs/x")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("./missing", "no such directory"),
        ("/missing", "no such directory"),
        ("~/missing-model", "no such directory"),
        ("runs/x/merged", "no such directory"),
        ("missing.gguf", "model missing.gguf: no such directory or file"),
        ("runs/", "no such directory"),
        ("", "no model reference"),
        ("two words", "no model reference"),
        ("empty", "holds no model"),
        ("unfinished", "without a trained model"),
        ("file.bin", "is a file"),
    ],
)
def test_unusable_references_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ref: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "manifest.json").write_text("{}")
    (tmp_path / "file.bin").write_text("x")
    with pytest.raises(ModelError, match=message) as caught:
        load_model(ref, dtype="float32")
    assert caught.value.required and caught.value.fix


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


def test_the_revision_follows_the_content(plain: Path) -> None:
    before = load_model(str(plain), dtype="float32").ref
    assert load_model(str(plain), dtype="float32").ref == before
    tiny_model("qwen2", 502, seed=1).save_pretrained(plain)
    assert load_model(str(plain), dtype="float32").ref.revision != before.revision


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


@pytest.mark.parametrize("keep", [None, [0, 1, 3]])
def test_the_shape_and_revision_of_a_model_are_known_without_its_weights(
    plain: Path, tmp_path: Path, keep: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_adapter(plain, tmp_path / "adapter", keep)
    revisions = [load_model(str(path), dtype="float32").ref.revision for path in (plain, tmp_path / "adapter")]
    monkeypatch.setattr(models, "_weights", lambda *_: pytest.fail("no weights are needed"))
    shape, adapted = model_shape(str(plain)), model_shape(str(tmp_path / "adapter"))
    assert (shape.num_layers, shape.width, shape.ref.revision) == (4, 32, revisions[0])
    assert (adapted.num_layers, adapted.width, adapted.ref.revision) == (3 if keep else 4, 32, revisions[1])
    shutil.rmtree(plain)
    with pytest.raises(ModelError, match="the base of adapter .*adapter is missing"):
        model_shape(str(tmp_path / "adapter"))


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


def test_an_adapter_without_a_base_is_refused(plain: Path, tmp_path: Path) -> None:
    trained_adapter(plain, tmp_path / "adapter")
    (tmp_path / "adapter" / "fcdistill.json").unlink()
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="does not name its base"):
        load_model(str(tmp_path / "adapter"), dtype="float32")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "tpu:x"])
def test_unusable_devices_are_refused(plain: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=device):
        load_model(str(plain), dtype="float32", device=device)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets where the hub is; its cache is empty."""

    def place(endpoint: str, *, offline: bool = False) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)

    return place


def test_a_hub_that_refuses_connections_is_one_clear_error(hub: Callable[..., None]) -> None:
    hub("http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="'example/model' is no local directory and could not be fetched") as caught:
        load_tokenizer("example/model")
    assert "Connect" in caught.value.found and "local directory" in caught.value.fix


def test_a_hub_that_never_answers_costs_the_timeout(hub: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert models._HUB_TIMEOUT_S <= 10
    monkeypatch.setattr(models, "_HUB_TIMEOUT_S", 0.5)
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        hub(f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(DownloadError, match="imeout"):
            load_model("example/model", dtype="float32")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("status", [401, 404])
def test_a_name_that_the_hub_does_not_know_is_a_model_error(hub: Callable[..., None], status: int) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 (the base class decides)
            self.send_response(status)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(ModelError, match="no model 'smollm2' on the hub") as caught:
            load_model("smollm2", dtype="float32")
        server.shutdown()
    assert "smollm2-135m-instruct" in caught.value.fix


@pytest.mark.parametrize("offline", [True, False])
def test_a_snapshot_in_the_hubs_cache_needs_no_hub(hub: Callable[..., None], tmp_path: Path, offline: bool) -> None:
    hub("http://127.0.0.1:9", offline=offline)
    with pytest.raises(DownloadError):
        load_model("example/model", dtype="float32")
    snapshot = tmp_path / "hub" / "models--example--model" / "snapshots" / "0123abc"
    (snapshot.parent.parent / "refs").mkdir(parents=True)
    (snapshot.parent.parent / "refs" / "main").write_text("0123abc")
    tokenizer = tiny_tokenizer("qwen")
    tiny_model("qwen2", len(tokenizer)).save_pretrained(snapshot)
    tokenizer.save_pretrained(snapshot)
    found = load_model("example/model", dtype="float32").ref
    assert found == ModelRef(model="example/model", revision="0123abc", params={"dtype": "float32"})


def test_equal_tokenizers_share_their_vocabulary() -> None:
    found = shared_vocabulary(tiny_tokenizer("qwen"), tiny_tokenizer("qwen"))
    assert (found.same, found.size) == (True, 502)


def test_padded_heads_do_not_matter_and_tokens_do() -> None:
    longer = tiny_tokenizer("qwen")
    longer.add_tokens(["<extra>"])
    found = shared_vocabulary(tiny_tokenizer("qwen"), longer)
    assert (found.same, found.size) == (False, 502)
    assert "'<extra>'" in found.detail


def test_different_tokenizers_share_nothing_they_disagree_on() -> None:
    found = shared_vocabulary(tiny_tokenizer("qwen"), tiny_tokenizer("plain"))
    assert (found.same, found.size) == (False, 0)
    assert "'<s>'" in found.detail


def test_equal_maps_that_cut_differently_are_not_the_same() -> None:
    a, b = tiny_tokenizer("qwen"), tiny_tokenizer("qwen")
    b.backend_tokenizer.pre_tokenizer = type(b.backend_tokenizer.pre_tokenizer)(add_prefix_space=True)
    found = shared_vocabulary(a, b)
    assert not found.same and "cut differently" in found.detail


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_layers"), [("smollm2-135m-instruct", 30), ("qwen2.5-coder-0.5b-instruct", 24)])
def test_catalogue_models_load_and_know_their_tokens(name: str, num_layers: int) -> None:
    loaded = load_model(name, dtype="bfloat16")
    assert loaded.model.config.num_hidden_layers == num_layers
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.ref.revision == f"sha256:{models.CATALOGUE[name].gguf_sha256}"
    assert len(loaded.tokenizer.encode("<|im_start|><|im_end|>", add_special_tokens=False)) == 2
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt").input_ids
    started = time.monotonic()
    following = loaded.model(ids).logits[0, -1].argmax()
    assert loaded.tokenizer.decode(following) == " Paris"
    assert time.monotonic() - started < 60
