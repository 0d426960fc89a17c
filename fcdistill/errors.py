"""Every error that a user can meet, as one tree.

    FcdistillError                exit code 2: usage or configuration
    ├── ConfigError               a field of a config file or a flag
    ├── CatalogError              a tool catalogue or one of its schemas
    ├── DataError                 a record file: missing, malformed, torn
    ├── ModelError                a model reference, its weights, tokenizer or template
    ├── MissingDependencyError    an optional package is not installed
    └── InfrastructureError       exit code 3: the work could not be finished
        ├── BackendError          whoever answers prompts stopped answering
        ├── DownloadError         a model could not be fetched or failed its check
        └── StorageError          the disk refused a read or a write

Each says what was found, what is required and how to fix it. The command line prints that text and no traceback;
an exception outside this tree is a defect of fcdistill.
"""

__all__ = [
    "BackendError",
    "CatalogError",
    "ConfigError",
    "DataError",
    "DownloadError",
    "FcdistillError",
    "InfrastructureError",
    "MissingDependencyError",
    "ModelError",
    "StorageError",
]


class FcdistillError(Exception):
    """Base of all errors meant for users.

    Args:
        found: what is wrong, with the offending value and where it stands.
        required: what would have been right.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, found: str, *, required: str = "", fix: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.required = required
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.found]
        if self.required:
            lines.append(f"Required: {self.required}")
        if self.fix:
            lines.append(f"Fix: {self.fix}")
        return "\n".join(lines)


class ConfigError(FcdistillError):
    """A config field or a command-line flag holds something unusable."""


class CatalogError(FcdistillError):
    """A tool catalogue can't be read, or one of its schemas is invalid."""


class DataError(FcdistillError):
    """A record file is missing, malformed, or does not belong to the run that it was found in."""


class ModelError(FcdistillError):
    """A model reference can't be resolved, or what it names can't be used as asked."""


class MissingDependencyError(FcdistillError):
    """A feature needs a package that is not installed."""


class InfrastructureError(FcdistillError):
    """The work was right but could not be finished; running it again may succeed."""

    exit_code = 3


class BackendError(InfrastructureError):
    """The backend that answers prompts failed."""


class DownloadError(InfrastructureError):
    """A download failed, or what arrived does not match its pinned hash."""


class StorageError(InfrastructureError):
    """A file could not be written or read: disk full, no permission, vanished."""
