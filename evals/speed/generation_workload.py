"""What all contenders of the generation benchmark are given: settings, and prompts that were rendered once.

JSON files in the run's directory: settings.json, written first; prompts.json, which the job `prepare` writes; and
differences.json, where contenders chose other tokens. Only the standard library is used, since a peer may run in an
environment of its own. How anything is written or timed is not known here.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "Difference",
    "Prompt",
    "Settings",
    "read_differences",
    "read_prompts",
    "read_settings",
    "write_differences",
    "write_prompts",
    "write_settings",
]


@dataclass(frozen=True)
class Settings:
    """What a run measures, the same for every contender."""

    model: str
    """Model reference."""
    dtype: Literal["bfloat16", "float32"]
    requests: str
    tools: str
    num_requests: int
    num_tools: int
    batch_size: int
    max_new_tokens: int
    device: Literal["cpu", "cuda"]
    num_threads: int
    gguf: str | None = None
    """The model as llama.cpp reads it."""


@dataclass(frozen=True)
class Prompt:
    """A request, as text and as the token ids of its whole prompt."""

    id: str
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """The first place where two contenders chose different tokens after the same ones."""

    id: str
    """The prompt's."""
    before: tuple[int, ...]
    """What both wrote."""
    ours: int
    theirs: int


def write_settings(directory: Path, settings: Settings) -> None:
    """Write settings.json."""
    (directory / "settings.json").write_text(json.dumps(asdict(settings)), encoding="utf-8")


def read_settings(directory: Path) -> Settings:
    """Read settings.json."""
    return Settings(**json.loads((directory / "settings.json").read_text(encoding="utf-8")))


def write_prompts(directory: Path, prompts: Sequence[Prompt]) -> None:
    """Write prompts.json."""
    (directory / "prompts.json").write_text(json.dumps([asdict(each) for each in prompts]), encoding="utf-8")


def read_prompts(directory: Path) -> list[Prompt]:
    """Read prompts.json."""
    found = json.loads((directory / "prompts.json").read_text(encoding="utf-8"))
    return [Prompt(each["id"], each["text"], tuple(each["ids"])) for each in found]


def write_differences(directory: Path, differences: Sequence[Difference]) -> None:
    """Write differences.json."""
    (directory / "differences.json").write_text(json.dumps([asdict(each) for each in differences]), encoding="utf-8")


def read_differences(directory: Path) -> list[Difference]:
    """Read differences.json."""
    found = json.loads((directory / "differences.json").read_text(encoding="utf-8"))
    return [Difference(each["id"], tuple(each["before"]), each["ours"], each["theirs"]) for each in found]
