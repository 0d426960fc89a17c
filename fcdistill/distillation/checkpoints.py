"""Which checkpoints of a run are whole: a seal with the hash of every file is written last.

A killed run leaves at most one checkpoint without a seal, and a damaged file contradicts its seal; such checkpoints are
removed before training goes on from an older one. What a checkpoint holds is not known here.
"""

import logging
import re
import shutil
from pathlib import Path

from fcdistill.errors import DataError
from fcdistill.storage import read_json, sha256_file, write_json

__all__ = ["last_sealed", "seal"]

log = logging.getLogger(__name__)

_SEAL = "sealed.json"


def seal(checkpoint: Path) -> None:
    """Declare a checkpoint whole. Raises `StorageError` where the disk refuses."""
    write_json(checkpoint / _SEAL, _hashes(checkpoint))


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
        return bool(read_json(checkpoint / _SEAL, "checkpoint seal") == _hashes(checkpoint))
    except DataError:
        return False


def _hashes(checkpoint: Path) -> dict[str, str]:
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != _SEAL)
    return {str(path.relative_to(checkpoint)): sha256_file(path) for path in files}
