"""What all contenders of a run are given: its settings, and examples as token ids that were rendered once.

Two JSON files in the run's directory: settings.json, written first, and examples.json, which fcdistill's side writes
when it has rendered the traces. Only the standard library is used, since a peer may run in an environment of its own
and the process that starts the contenders has to stay small. How anything is trained or timed is not known here.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "Example",
    "Examples",
    "Settings",
    "Tuning",
    "read_examples",
    "read_settings",
    "write_examples",
    "write_settings",
]

Tuning = Literal["lora", "full"]


@dataclass(frozen=True)
class Settings:
    """What a run measures, the same for every contender."""

    traces: str
    student: str
    """Model reference."""
    teacher: str
    """Model reference of a teacher with the student's tokenizer."""
    aligned_teacher: str
    """Model reference of a teacher with another tokenizer."""
    device: Literal["cpu", "cuda"]
    num_threads: int
    examples_per_step: int
    examples_per_pack: int
    """Of fcdistill's packed contenders."""
    micro_batch: int
    """Examples per forward pass of the contenders that do not pack."""
    num_steps: int
    """Optimizer steps of each contender, the first of which is a warm-up and not timed."""
    seed: int
    lora_rank: int = 32
    lora_alpha: float = 64.0
    learning_rate: float = 1e-4

    @property
    def num_examples(self) -> int:
        """Every contender sees each of them once."""
        return self.num_steps * self.examples_per_step


@dataclass(frozen=True)
class Example:
    """A trace as token ids of the student's tokenizer; the completion is supervised, its stop token included."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


@dataclass(frozen=True)
class Examples:
    """The rendered examples, and where the weights lie that they are for."""

    student_directory: str
    teacher_directory: str
    items: tuple[Example, ...]

    @property
    def num_supervised(self) -> int:
        """Supervised tokens of all examples."""
        return sum(len(example.completion) for example in self.items)


def write_settings(directory: Path, settings: Settings) -> None:
    """Write settings.json."""
    (directory / "settings.json").write_text(json.dumps(asdict(settings)), encoding="utf-8")


def read_settings(directory: Path) -> Settings:
    """Read settings.json."""
    return Settings(**json.loads((directory / "settings.json").read_text(encoding="utf-8")))


def write_examples(directory: Path, examples: Examples) -> None:
    """Write examples.json."""
    (directory / "examples.json").write_text(json.dumps(asdict(examples)), encoding="utf-8")


def read_examples(directory: Path) -> Examples:
    """Read examples.json."""
    content = json.loads((directory / "examples.json").read_text(encoding="utf-8"))
    items = tuple(Example(tuple(item["prompt"]), tuple(item["completion"])) for item in content.pop("items"))
    return Examples(**content, items=items)
