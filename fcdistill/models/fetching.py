"""From a resolved reference to a directory on this machine that holds its files, and to its revision.

The hub is asked with a timeout, for safetensors and small files only. What the files hold is not known here.
"""

import hashlib
from pathlib import Path

from fcdistill.errors import DownloadError, ModelError
from fcdistill.models.catalogue import CATALOGUE, cached_gguf, pull
from fcdistill.models.references import ResolvedModel, resolve
from fcdistill.storage import storage_errors

__all__ = ["local_directory", "without_weights"]

_HUB_TIMEOUT_S = 5.0
_LONGEST_REASON = 300
_SMALL_HUB_FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
_HUB_FILES = ("*.safetensors", *_SMALL_HUB_FILES)
# Only what is at a repository's top level: many keep other formats of the same weights in folders.
_HUB_IGNORED = ("*/*",)


def local_directory(resolved: ResolvedModel) -> tuple[Path, str]:
    """The directory with a model's files, fetched where needed, and its revision.

    Raises:
        ModelError: the hub knows no such model, or does not grant access to it.
        DownloadError: the model is not here and can't be fetched.
    """
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


def without_weights(ref: str) -> str:
    """A reference to a model's config and tokenizer alone: of a hub model only the small files are fetched.

    Raises like `load_skeleton`.
    """
    resolved = resolve(ref)
    return str(_hub_snapshot(resolved.path_or_id, _SMALL_HUB_FILES)) if resolved.kind == "hub" else ref


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
