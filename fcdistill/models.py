"""From a model reference to a model and its tokenizer; whether two tokenizers share a vocabulary.

A reference is a name of the catalogue, a local directory (plain weights, an adapter, or a run), a `.gguf` file, or a
hub id. What a reference is depends on its form and on the local disk only, never on whether a download works. Weights
come from safetensors, and code from a model's repository is never run. How prompts are rendered is not known here.
The names of `students` and of the catalogue are offered here too: whoever uses models meets all three.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from fcdistill.config import Dtype, Quantization
from fcdistill.errors import ConfigError, DownloadError, ModelError
from fcdistill.memory import keep_freed_memory
from fcdistill.model_catalogue import CATALOGUE, cached_gguf, pull
from fcdistill.prompts import prepare_tokenizer
from fcdistill.quantization import bits_and_bytes
from fcdistill.records import ModelRef
from fcdistill.storage import read_json, storage_errors
from fcdistill.students import (
    CARD_NAME,
    StudentCard,
    apply_lora,
    cut_layers,
    layers_to_keep,
    model_errors,
    read_card,
    save_student,
    trained_token_ids,
)

__all__ = [
    "CARD_NAME",
    "CATALOGUE",
    "LoadedModel",
    "ModelShape",
    "ResolvedModel",
    "SharedVocabulary",
    "StudentCard",
    "apply_lora",
    "card_of",
    "choose_device",
    "cut_layers",
    "layers_to_keep",
    "load_model",
    "load_skeleton",
    "load_tokenizer",
    "model_shape",
    "pull",
    "resolve",
    "save_student",
    "shared_vocabulary",
    "trained_token_ids",
    "without_weights",
]

ModelKind = Literal["catalogue", "run", "adapter", "directory", "gguf", "hub"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
_HUB_TIMEOUT_S = 5.0
_LONGEST_REASON = 300
_SMALL_HUB_FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
_HUB_FILES = ("*.safetensors", *_SMALL_HUB_FILES)
# Only what is at a repository's top level: many keep other formats of the same weights in folders.
_HUB_IGNORED = ("*/*",)
_PROBES = (
    '{"name": "set_timer", "arguments": {"minutes": 10}}',
    "Straße  naïve\t12345 don't\n\n日本語 🙂",
    "<tool_call>\n",
)


@dataclass(frozen=True)
class ResolvedModel:
    """What a reference means.

    Attributes:
        kind: `run` is a training run's directory; its weights are in `path_or_id`.
        path_or_id: the directory or file that holds the weights; for `catalogue` and `hub` the name.
        ref: the reference as given; its revision is known only once the model is there.
    """

    kind: ModelKind
    path_or_id: str
    ref: ModelRef


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, its prepared tokenizer, where they come from, and the card of a student."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ref: ModelRef
    card: StudentCard | None


@dataclass(frozen=True)
class ModelShape:
    """What is known of a model without its weights.

    Attributes:
        ref: the reference with its revision.
        num_layers: decoder layers.
        width: hidden size.
    """

    ref: ModelRef
    num_layers: int
    width: int


@dataclass(frozen=True)
class SharedVocabulary:
    """Whether two tokenizers cut text into the same ids.

    Attributes:
        same: the token-to-id maps are equal and sample texts encode equally.
        size: ids below it mean the same token on both sides; the whole vocabulary where `same`.
        detail: for users: what was compared, or the first difference.
    """

    same: bool
    size: int
    detail: str


def resolve(ref: str) -> ResolvedModel:
    """What a reference means, without network and without loading anything.

    Raises:
        ModelError: it looks like a path and nothing usable is there, or it can't be a reference at all.
    """
    model_ref = ModelRef(model=ref)
    if ref in CATALOGUE:
        return ResolvedModel("catalogue", ref, model_ref)
    path = Path(ref).expanduser()
    if ref and path.is_dir():
        return _resolve_directory(path, model_ref)
    if ref and path.exists():
        if path.suffix == ".gguf":
            return ResolvedModel("gguf", str(path), model_ref)
        raise ModelError(f"model {ref} is a file", required="a directory or a .gguf file", fix="name the directory")
    if ref.startswith((".", "/", "~")) or ref.endswith(("/", ".gguf")) or ref.count("/") > 1:
        raise ModelError(
            f"model {ref}: no such directory or file",
            required=f"an existing path (relative paths start at the current directory, here {Path.cwd()})",
            fix="check the path",
        )
    if not _HUB_ID.fullmatch(ref):
        raise ModelError(
            f"{ref!r} is no model reference",
            required="a catalogue name, a local directory, a .gguf file or a hub id such as org/name",
            fix="see `fcdistill models list` for the catalogue",
        )
    return ResolvedModel("hub", ref, model_ref)


def load_tokenizer(ref: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a reference, with a template that shows tools, padding on the left.

    Raises:
        ModelError: the reference, or what it names, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    directory, _ = _local(resolve(ref))
    return _tokenizer(directory)


def load_model(
    ref: str,
    *,
    dtype: Dtype,
    device: str = "auto",
    quantization: Quantization = "none",
    max_memory: Mapping[int, int] | None = None,
) -> LoadedModel:
    """The model of a reference, in eval mode. An adapter is loaded on its base and merged into it.

    Args:
        ref: a catalogue name, directory, run directory, .gguf file or hub id.
        dtype: `float32`, `bfloat16` or `float16`.
        device: `auto` (CUDA, else MPS, else CPU) or a torch device.
        quantization: of its linear layers; `require_quantization` has found that they can be.
        max_memory: bytes of weights by index of the GPU, where the model is spread over several instead of `device`.

    Raises:
        ModelError: the reference, or what it names, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    resolved = resolve(ref)
    place = choose_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    directory, revision = _local(resolved)
    tokenizer = _tokenizer(directory)
    options: dict[str, Any] = {}
    if quantization != "none":
        options = {"quantization_config": bits_and_bytes(quantization, dtype), "device_map": {"": place}}
    if max_memory is not None:
        options |= {"device_map": "auto", "max_memory": dict(max_memory)}
    model = _weights(directory, dtype, options)
    if not options:
        model = model.to(place)
    model.eval()
    num_rows = model.get_input_embeddings().num_embeddings
    largest_id = max(tokenizer.get_vocab().values())
    if largest_id >= num_rows:
        raise ModelError(
            f"model {ref}: its tokenizer has id {largest_id}, but it embeds only {num_rows} tokens",
            required="a tokenizer and weights that belong together",
            fix="restore the model's own tokenizer files",
        )
    params = {"dtype": dtype} | ({"quantization": quantization} if quantization != "none" else {})
    found = resolved.ref.model_copy(update={"revision": revision, "params": params})
    return LoadedModel(model, tokenizer, found, read_card(directory))


def model_shape(ref: str) -> ModelShape:
    """The shape and the revision of a reference; no weights are loaded.

    Raises:
        ModelError: the reference, or what it names, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    resolved = resolve(ref)
    directory, revision = _local(resolved)
    num_layers, width = _layers_and_width(directory)
    return ModelShape(resolved.ref.model_copy(update={"revision": revision}), num_layers, width)


def card_of(ref: str) -> StudentCard | None:
    """The card of a student or of an adapted teacher, None for any other model; no weights are loaded.

    Raises:
        ModelError: the reference, or the card, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    return read_card(_local(resolve(ref))[0])


def load_skeleton(ref: str) -> PreTrainedModel:
    """The modules of a reference on the meta device: shapes and names, no weights. An adapter has merged into its base.

    Raises:
        ModelError: the reference, or what it names, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    return _skeleton(_local(resolve(ref))[0])


def without_weights(ref: str) -> str:
    """A reference to a model's config and tokenizer alone: of a hub model only the small files are fetched.

    Raises like `load_skeleton`.
    """
    resolved = resolve(ref)
    return str(_hub_snapshot(resolved.path_or_id, _SMALL_HUB_FILES)) if resolved.kind == "hub" else ref


def choose_device(device: str, field: str = "device") -> torch.device:
    """The torch device of a config: `auto` is CUDA, else MPS, else CPU. Raises `ConfigError` where there is no such."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        if not _DEVICE.fullmatch(device):
            raise RuntimeError("no such device")
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{field} {device!r}: {reason}", required="auto, cpu, cuda, cuda:N or mps", fix="use auto"
        ) from None
    return place


def shared_vocabulary(a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase) -> SharedVocabulary:
    """Compare two tokenizers by their token-to-id maps, never by the (padded) sizes of their models."""
    a_tokens, b_tokens = ({index: token for token, index in side.get_vocab().items()} for side in (a, b))
    end = max([*a_tokens, *b_tokens]) + 1
    size = next((index for index in range(end) if a_tokens.get(index) != b_tokens.get(index)), end)
    if size < end:
        detail = f"id {size} is {a_tokens.get(size)!r} on one side and {b_tokens.get(size)!r} on the other"
        return SharedVocabulary(False, size, detail)
    for probe in _PROBES:
        if a.encode(probe, add_special_tokens=False) != b.encode(probe, add_special_tokens=False):
            return SharedVocabulary(False, size, f"equal maps of {size} tokens, but {probe!r} is cut differently")
    return SharedVocabulary(True, size, f"equal maps of {size} tokens")


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()


def _resolve_directory(path: Path, ref: ModelRef) -> ResolvedModel:
    if (path / "merged" / "config.json").is_file():
        return ResolvedModel("run", str(path / "merged"), ref)
    if (path / "adapter" / "adapter_config.json").is_file():
        return ResolvedModel("run", str(path / "adapter"), ref)
    if (path / "adapter_config.json").is_file():
        return ResolvedModel("adapter", str(path), ref)
    if (path / "config.json").is_file():
        return ResolvedModel("directory", str(path), ref)
    if (path / "manifest.json").is_file():
        raise ModelError(
            f"{path} is a run directory without a trained model",
            required="a finished training run (merged/ or adapter/ in it)",
            fix="run `fcdistill train` or `fcdistill adapt` again: it resumes",
        )
    raise ModelError(
        f"directory {path} holds no model: neither config.json nor adapter_config.json",
        required="a model, adapter or run directory",
        fix="check the path",
    )


def _local(resolved: ResolvedModel) -> tuple[Path, str]:
    """The directory with a model's files, fetched where needed, and its revision."""
    if resolved.kind == "catalogue":
        return pull(resolved.path_or_id), f"sha256:{CATALOGUE[resolved.path_or_id].gguf_sha256}"
    if resolved.kind == "hub":
        directory = _hub_snapshot(resolved.path_or_id)
        return directory, directory.name
    if resolved.kind == "gguf":
        directory = cached_gguf(Path(resolved.path_or_id))
        return directory, _fingerprint(directory)
    directory = Path(resolved.path_or_id)
    return directory, _fingerprint(directory)


def _fingerprint(directory: Path) -> str:
    """A hash that changes with a model: its small files whole, samples of its weights."""
    digest = hashlib.sha256()
    with storage_errors(directory, "read"):
        for path in sorted(directory.iterdir()):
            if path.suffix not in (".json", ".jinja", ".safetensors"):
                continue
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                if path.suffix != ".safetensors":
                    digest.update(file.read())
                    continue
                for sample in range(64):
                    file.seek(sample * size // 64)
                    digest.update(file.read(65536))
    return f"sampled-sha256:{digest.hexdigest()}"


def _hub_snapshot(hub_id: str, files: tuple[str, ...] = _HUB_FILES) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    nearest = f"; the catalogue has {', '.join(sorted(CATALOGUE))}" if "/" not in hub_id else ""
    reason = ""
    try:
        try:
            # Asked first and by itself, because it is the one request that can be given a timeout; what then comes
            # from the hub comes from one that answers.
            revision = HfApi().model_info(hub_id, timeout=_HUB_TIMEOUT_S).sha
            return Path(
                snapshot_download(
                    hub_id,
                    revision=revision,
                    allow_patterns=list(files),
                    ignore_patterns=list(_HUB_IGNORED),
                    etag_timeout=_HUB_TIMEOUT_S,
                )
            )
        except (GatedRepoError, HFValidationError, RepositoryNotFoundError):
            raise
        except Exception as error:  # the errors of the hub library's HTTP client have no common base
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST_REASON]}"
        return Path(snapshot_download(hub_id, local_files_only=True, allow_patterns=list(files)))
    except GatedRepoError as error:
        raise ModelError(
            f"hub model {hub_id} is gated", required="access granted on the hub", fix="log in with `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"there is no model {hub_id!r} on the hub, and no local directory of that name",
            required="a catalogue name, a local directory, a .gguf file or a hub id",
            fix=f"check the name{nearest}",
        ) from error
    except OSError as error:
        raise DownloadError(
            f"model {hub_id!r} is no local directory and could not be fetched from the hub: {reason}",
            required="a reachable hub, or the model in the hub's local cache",
            fix=f"check the connection and run it again, or use a local directory{nearest}",
        ) from error


def _tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    if not any(
        (directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    ):
        base = _adapter_base(directory)
        if base is None:
            raise ModelError(
                f"{directory} has no tokenizer",
                required="tokenizer.json (or the older tokenizer.model, vocab.json or vocab.txt)",
                fix="copy the tokenizer files of the model beside its weights",
            )
        return load_tokenizer(base.model)
    config = _config(directory) if (directory / "config.json").is_file() else None
    with model_errors(f"the tokenizer in {directory} can't be loaded", "a tokenizer that transformers knows"):
        tokenizer = AutoTokenizer.from_pretrained(
            str(directory), config=config, trust_remote_code=False, local_files_only=True, padding_side="left"
        )
    prepare_tokenizer(tokenizer)
    return tokenizer


def _weights(directory: Path, dtype: str, options: Mapping[str, Any]) -> PreTrainedModel:
    """The weights of a directory; `options` are further arguments of transformers, for where and how they are kept."""
    base = _adapter_base(directory)
    if base is not None:
        if options:
            raise ModelError(
                f"{directory} is an adapter, which is merged into its base as a whole",
                required="merged weights, where they are to be quantised or spread over several devices",
                fix="name the directory with the merged weights",
            )
        model = _weights(_base_directory(directory, base), dtype, {})
        if keep := base.params.get("keep_layers"):
            model = cut_layers(model, keep)
        with (
            _without_progress_bars(),
            model_errors(f"adapter {directory} can't be loaded", f"an adapter of {base.model}"),
        ):
            # Merged, because an unmerged adapter makes each forward pass about a third slower.
            merged: PreTrainedModel = PeftModel.from_pretrained(model, str(directory)).merge_and_unload()
        return merged
    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory} has no config.json", required="a model directory", fix="check the path")
    if not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"{directory} has no *.safetensors file",
            required="weights as safetensors (pickled .bin weights are never loaded)",
            fix="convert the weights, or restore the missing file",
        )
    config = _config(directory)
    with _without_progress_bars(), model_errors(f"model {directory} can't be loaded", "intact weights"):
        loaded, info = AutoModelForCausalLM.from_pretrained(
            str(directory),
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"model {directory} lacks {len(missing)} weights, for example {missing[0]}",
            required="all weights that its config.json asks for",
            fix="restore the model's files",
        )
    return loaded


def _skeleton(directory: Path) -> PreTrainedModel:
    base = _adapter_base(directory)
    if base is not None:
        model = _skeleton(_base_directory(directory, base))
        keep = base.params.get("keep_layers")
        return cut_layers(model, keep) if keep else model
    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory} has no config.json", required="a model directory", fix="check the path")
    config = _config(directory)
    with torch.device("meta"), model_errors(f"model {directory} can't be built", "a causal language model's config"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return model


def _config(directory: Path) -> PretrainedConfig:
    with model_errors(f"model {directory} can't be loaded", "the config.json of a causal language model"):
        return AutoConfig.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True)


def _layers_and_width(directory: Path) -> tuple[int, int]:
    base = _adapter_base(directory)
    if base is None:
        shape = _config(directory).get_text_config()
        return shape.num_hidden_layers, shape.hidden_size
    num_layers, width = _layers_and_width(_base_directory(directory, base))
    return len(base.params.get("keep_layers") or range(num_layers)), width


def _base_directory(adapter: Path, base: ModelRef) -> Path:
    try:
        return _local(resolve(base.model))[0]
    except ModelError as error:
        raise ModelError(
            f"the base of adapter {adapter} is missing: {error.found}",
            required=error.required,
            fix="restore the base model, or use merged weights, which need none",
        ) from error


def _adapter_base(directory: Path) -> ModelRef | None:
    """The base of an adapter directory, from its card or else from peft's config; None for other directories."""
    if not (directory / "adapter_config.json").is_file():
        return None
    card = read_card(directory)
    if card is not None:
        return card.base
    found = read_json(directory / "adapter_config.json", "adapter config").get("base_model_name_or_path")
    if not found:
        raise ModelError(
            f"adapter {directory} does not name its base model",
            required="base_model_name_or_path in adapter_config.json",
            fix="add it",
        )
    return ModelRef(model=str(found))
