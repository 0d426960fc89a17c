"""Artefact directories while a stage works in them: locked, resumable, given back by a run that made nothing."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from fcdistill.errors import DataError, StorageError
from fcdistill.records import Manifest, ModelRef
from fcdistill.storage.files import storage_errors, write_json
from fcdistill.storage.manifests import MANIFEST_NAME, earlier_manifest, new_manifest, require_same

__all__ = ["RunDirectory", "find_run"]


class RunDirectory:
    """An artefact directory while a stage works in it: locked, with a manifest, resumable.

    A run that fails before it wrote any result gives its directory back: a corrected configuration may use it.

    Args:
        path: the directory; made where it does not exist.
        stage: the stage's name.
        config: the resolved configuration as JSON values.
        inputs: input files, hashed into the manifest.
        seed: the run's seed.
        model: the model that answers or is trained.
        tokenizer_sha256: hash of its tokenizer, where there is one.
        template_sha256: hash of its chat template, where there is one.
        volatile: config keys that may differ between a run and its resumption, because they do not change the result.

    Raises:
        DataError: the directory belongs to a run with another configuration or other inputs, or is a file.
        StorageError: it can't be written, or another process works in it.
    """

    def __init__(
        self,
        path: Path,
        *,
        stage: str,
        config: Mapping[str, Any],
        inputs: Iterable[Path] = (),
        seed: int = 0,
        model: ModelRef | None = None,
        tokenizer_sha256: str | None = None,
        template_sha256: str | None = None,
        volatile: frozenset[str] = frozenset(),
    ) -> None:
        self.path = path
        self._started = time.monotonic()
        with storage_errors(path, "create"):
            if path.is_file():
                raise DataError(
                    f"output directory {path} is a file",
                    required="a directory, or a path where none is yet",
                    fix="choose another output directory",
                )
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / ".lock").open("w")
        try:
            self._take_lock()
            with storage_errors(path, "read"):
                self._entries_before = {entry.name for entry in path.iterdir()} - {".lock", MANIFEST_NAME}
            manifest = new_manifest(stage, config, inputs, seed, model, tokenizer_sha256, template_sha256)
            earlier = earlier_manifest(path)
            if earlier is not None:
                require_same(path, earlier, manifest, volatile)
                kept = {"started_at": earlier.started_at, "wall_time_s": earlier.wall_time_s, "status": earlier.status}
                manifest = manifest.model_copy(update=kept)
            self.manifest = manifest
            self.resumed = earlier is not None
            self._write()
        except BaseException:
            self._lock.close()
            raise

    def _take_lock(self) -> None:
        with storage_errors(self.path, "lock"):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.fstat(self._lock.fileno()).st_nlink:  # its holder has just given the directory back
                    raise BlockingIOError
            except BlockingIOError:
                raise StorageError(
                    f"another process is working in {self.path}",
                    required="one run per output directory",
                    fix="wait for it, stop it, or choose another output directory",
                ) from None

    @property
    def complete(self) -> bool:
        """Whether an earlier run already finished all the work of this directory."""
        return self.manifest.status == "complete"

    def _write(self) -> None:
        write_json(self.path / MANIFEST_NAME, self.manifest.model_dump(mode="json"))

    def mark_complete(self) -> None:
        """Record that all work is done."""
        self._update("complete")

    def reopen(self) -> None:
        """Record that a finished run takes up work again."""
        self._update("running")

    def _update(self, status: str) -> None:
        now = time.monotonic()
        spent = self.manifest.wall_time_s + now - self._started
        self._started = now
        self.manifest = self.manifest.model_copy(update={"status": status, "wall_time_s": round(spent, 3)})
        self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(StorageError, OSError):
            if kind is not None and not self.resumed and not self._has_results():
                self._give_back()
            elif not self.complete:
                self._update("running")
        self._lock.close()

    def _new_entries(self) -> list[Path]:
        """What this run made beside lock and manifest."""
        before = self._entries_before | {".lock", MANIFEST_NAME}
        return [entry for entry in self.path.iterdir() if entry.name not in before]

    def _has_results(self) -> bool:
        return any(entry.is_dir() or entry.stat().st_size for entry in self._new_entries())

    def _give_back(self) -> None:
        for entry in (*self._new_entries(), self.path / MANIFEST_NAME, self.path / ".lock"):
            entry.unlink()
        with contextlib.suppress(OSError):  # it holds other things
            self.path.rmdir()


def find_run(
    path: Path,
    *,
    stage: str,
    config: Mapping[str, Any],
    model: ModelRef | None = None,
    tokenizer_sha256: str | None = None,
    template_sha256: str | None = None,
    volatile: frozenset[str] = frozenset(),
) -> Manifest | None:
    """The manifest of a run that is already there; nothing is locked or written, so that many may read one directory.

    Args:
        path: the artefact directory.
        stage: as of `RunDirectory`, like all that follows.
        config: the resolved configuration.
        model: the model that answers or is trained.
        tokenizer_sha256: hash of its tokenizer.
        template_sha256: hash of its chat template.
        volatile: config keys that may differ.

    Returns:
        None where there is no directory, or none with a manifest.

    Raises:
        DataError: the directory belongs to a run with another configuration.
        StorageError: it can't be read.
    """
    with storage_errors(path, "read"):
        earlier = earlier_manifest(path)
    if earlier is not None:
        now = new_manifest(stage, config, (), 0, model, tokenizer_sha256, template_sha256)
        require_same(path, earlier, now, volatile)
    return earlier
