"""How an artefact directory came to be."""

from typing import Any, Literal

from pydantic import Field

from fcdistill.records.conversation import ModelRef
from fcdistill.records.record import Record

__all__ = [
    "Manifest",
]


class Manifest(Record):
    """How an artefact directory came to be."""

    stage: str
    status: Literal["running", "complete"]
    config: dict[str, Any]
    seed: int
    packages: dict[str, str]
    model: ModelRef | None = None
    tokenizer_sha256: str | None = None
    template_sha256: str | None = None
    inputs: dict[str, str] = Field(default_factory=dict)
    """Input path to SHA-256."""
    started_at: str
    wall_time_s: float = 0.0
    """Seconds of work, added up over resumed runs."""
