"""Which checkpoints of a run are whole: a seal with the hash of every file is written last.

A killed run leaves at most one checkpoint without a seal, and a damaged file contradicts its seal; such checkpoints are
removed before training goes on from an older one. A seal can also name another checkpoint without which this one is of
no use. Older ones are removed only once a newer one is sealed, so that there is a whole one whenever a run is killed.
What a checkpoint holds is not known here.
"""

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from fcdistill.errors import DataError
from fcdistill.storage import read_json, sha256_file, write_json

__all__ = ["checkpoint_of", "last_sealed", "remove_older", "seal"]

log = logging.getLogger(__name__)

_SEAL = "sealed.json"
_BESIDE = "../"
_NUM_KEPT = 2
"""The newest, and the one before it in case the newest gets damaged."""


def checkpoint_of(directory: Path, step: int) -> Path:
    """Where the Trainer writes the checkpoint of a step."""
    return directory / f"checkpoint-{step}"


def seal(checkpoint: Path, *needed: Path) -> None:
    """Declare a checkpoint whole.

    Args:
        checkpoint: all of it is written.
        needed: sealed checkpoints beside it that must be whole for it to count as whole.

    Raises:
        StorageError: the disk refused.
    """
    write_json(checkpoint / _SEAL, _hashes(checkpoint) | _seals(needed))


def last_sealed(directory: Path) -> Path | None:
    """The newest whole checkpoint under a directory; newer ones, which are not whole, are removed."""
    for path in _newest_first(directory):
        if _is_whole(path):
            return path
        log.warning("checkpoint %s is incomplete or damaged: removed, training goes on from an older one", path)
        shutil.rmtree(path)
    return None


def remove_older(directory: Path) -> None:
    """Remove the checkpoints under a directory but for the newest two and those that they need; the newest is whole."""
    newest_first = _newest_first(directory)
    kept = newest_first[:_NUM_KEPT]
    kept += [other for path in kept for other in _needed(path, _read_seal(path))]
    for path in newest_first:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)  # what can't be removed is tried again after the next one


def _newest_first(directory: Path) -> list[Path]:
    numbered = {
        int(found[1]): path
        for path in (directory.iterdir() if directory.is_dir() else ())
        if (found := re.fullmatch(r"checkpoint-(\d+)", path.name))
    }
    return [numbered[step] for step in sorted(numbered, reverse=True)]


def _is_whole(checkpoint: Path) -> bool:
    sealed = _read_seal(checkpoint)
    needed = _needed(checkpoint, sealed)
    try:
        return bool(sealed) and sealed == _hashes(checkpoint) | _seals(needed) and all(map(_is_whole, needed))
    except DataError:  # one that it needs has no seal
        return False


def _read_seal(checkpoint: Path) -> dict[str, str]:
    """What is sealed; nothing where the seal is missing or damaged."""
    try:
        sealed = read_json(checkpoint / _SEAL, "checkpoint seal")
    except DataError:
        return {}
    return sealed if isinstance(sealed, dict) else {}


def _needed(checkpoint: Path, sealed: Mapping[str, str]) -> list[Path]:
    return [checkpoint.parent / Path(name).parent.name for name in sealed if name.startswith(_BESIDE)]


def _seals(needed: Sequence[Path]) -> dict[str, str]:
    return {f"{_BESIDE}{other.name}/{_SEAL}": sha256_file(other / _SEAL) for other in needed}


def _hashes(checkpoint: Path) -> dict[str, str]:
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != _SEAL)
    return {str(path.relative_to(checkpoint)): sha256_file(path) for path in files}
