"""Which checkpoints of a run are whole: a seal with the hash of every file is written last.

A killed run leaves at most one checkpoint without a seal, and a damaged file contradicts its seal; such checkpoints are
removed before training goes on from an older one. A seal can also name another checkpoint without which this one is of
no use. What a checkpoint holds is not known here.
"""

import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from fcdistill.errors import DataError
from fcdistill.storage import read_json, sha256_file, write_json

__all__ = ["checkpoint_of", "last_sealed", "seal"]

log = logging.getLogger(__name__)

_SEAL = "sealed.json"
_BESIDE = "../"


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
    numbered = {
        int(found[1]): path
        for path in (directory.iterdir() if directory.is_dir() else ())
        if (found := re.fullmatch(r"checkpoint-(\d+)", path.name))
    }
    for _, path in sorted(numbered.items(), reverse=True):
        if _is_whole(path):
            return path
        log.warning("checkpoint %s is incomplete or damaged: removed, training goes on from an older one", path)
        shutil.rmtree(path)
    return None


def _is_whole(checkpoint: Path) -> bool:
    if not (checkpoint / _SEAL).is_file():
        return False
    try:
        sealed = read_json(checkpoint / _SEAL, "checkpoint seal")
        needed = [(checkpoint / name).parent for name in sealed if name.startswith(_BESIDE)]
        return bool(sealed == _hashes(checkpoint) | _seals(needed)) and all(map(_is_whole, needed))
    except DataError:
        return False


def _seals(needed: Sequence[Path]) -> dict[str, str]:
    return {f"{_BESIDE}{other.name}/{_SEAL}": sha256_file(other / _SEAL) for other in needed}


def _hashes(checkpoint: Path) -> dict[str, str]:
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != _SEAL)
    return {str(path.relative_to(checkpoint)): sha256_file(path) for path in files}
