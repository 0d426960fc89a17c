"""Records to store, runs to open, and a disk that refuses, as the tests of `fcdistill.storage` share them."""

import errno
from pathlib import Path
from typing import Any

from fcdistill.records import SeedRequest
from fcdistill.storage import RunDirectory


def seed(number: int) -> SeedRequest:
    return SeedRequest(id=str(number), text=f"request {number} é")


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def run(path: Path, **changes: Any) -> RunDirectory:
    settings_of_run: dict[str, Any] = {
        "stage": "train",
        "config": {"epochs": 1, "objective": {"ce_weight": 1.0, "kd_weight": 0.0}, "batch": 8},
        "seed": 3,
        "volatile": frozenset({"batch"}),
    }
    return RunDirectory(path, **{**settings_of_run, **changes})
