"""The world of the tests that train: traces and tiny models on disk, configurations of short runs, what they leave."""

import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from fcdistill.config import TrainConfig, parse_config
from fcdistill.distillation import trainer
from fcdistill.distillation.run import run_training
from fcdistill.records import MetricsLine
from fcdistill.storage import iter_jsonl, write_jsonl
from tests.distillation.tiny_data import tiny_traces
from tests.killed import exit_code_of, kill_me
from tests.tiny import tiny_model, tiny_tokenizer

__all__ = ["make_world", "metrics_lines", "train_config", "train_until_sealed", "train_values", "trained_weights"]


def make_world(directory: Path) -> Path:
    """Save traces and models.

    Returns:
        The directory, with 10 traces in `traces.jsonl`, 9 in `nine.jsonl` (neither 2 x 2 nor 2 divide them) and 40 in
        `forty.jsonl`, and these models:

        `student`, and `teacher`, wider and deeper, with rows in its head that are no tokens;
        `unpadded`, a teacher without such rows, and `names`, which is that one without its weights;
        `sliding`, a student whose attention slides;
        `chatml`, `plain` and `metaspace`: of other tokenizers, the first a student, the others teachers.
    """
    for name, count in (("traces", 10), ("nine", 9), ("forty", 40)):
        write_jsonl(directory / f"{name}.jsonl", tiny_traces(count))
    size = len(tiny_tokenizer("qwen"))
    models = {
        "student": (tiny_model("llama", size, num_layers=3), "qwen"),
        "teacher": (tiny_model("llama", size + 5, hidden_size=48, num_layers=5, seed=1), "qwen"),
        "unpadded": (tiny_model("llama", size, hidden_size=48, num_layers=3, seed=1), "qwen"),
        "sliding": (tiny_model("gemma3", size, num_layers=2), "qwen"),
        "chatml": (tiny_model("llama", 500, num_layers=2), "chatml"),
        "plain": (tiny_model("qwen2", 512, hidden_size=48, num_layers=2, seed=1), "plain"),
        "metaspace": (tiny_model("llama", 512, hidden_size=48, num_layers=2, seed=1), "metaspace"),
    }
    for name, (model, kind) in models.items():
        model.save_pretrained(directory / name)
        tiny_tokenizer(kind).save_pretrained(directory / name)  # type: ignore[arg-type]
    shutil.copytree(directory / "unpadded", directory / "names", ignore=shutil.ignore_patterns("*.safetensors"))
    return directory


def train_values(world: Path, out: Path, **fields: Any) -> dict[str, Any]:
    """Section `train` of a run of two epochs, of three steps each, on the ten traces; `fields` replace what it says."""
    return {
        "traces": str(world / "traces.jsonl"),
        "out": str(out),
        "student": {"model": str(world / "student")},
        "teacher": str(world / "teacher"),
        "tools_in_prompt": "compact",
        "tuning": {"method": "lora", "lora_rank": 4, "lora_alpha": 8},
        "epochs": 2,
        "examples_per_step": 4,
        "examples_per_pack": 2,
        "learning_rate": 1e-2,
        "save_steps": 2,
        "log_steps": 1,
        "dtype": "float32",
        "device": "cpu",
        "seed": 3,
        **fields,
    }


def train_config(world: Path, out: Path, **fields: Any) -> TrainConfig:
    """`train_values`, checked."""
    config: TrainConfig = parse_config(train_values(world, out, **fields), "train", "test")
    return config


def train_until_sealed(config: TrainConfig, checkpoint: str) -> int:
    """Train in a process that dies when all of a checkpoint is written but its seal; the process's exit code."""
    seal = trainer.seal

    def kill(path: Path, *needed: Path) -> None:
        if path.name == checkpoint:
            kill_me()
        seal(path, *needed)

    def work() -> None:
        trainer.seal = kill
        run_training(config)

    return exit_code_of(work)


def metrics_lines(out: Path) -> list[MetricsLine]:
    """All that a run measured, held-out examples too."""
    return list(iter_jsonl(out / "metrics.jsonl", MetricsLine))


def trained_weights(out: Path) -> dict[str, Tensor]:
    """The weights that a run wrote, named after their files too."""
    found = {}
    for name in ("adapter/adapter_model.safetensors", "merged/model.safetensors", "projectors.safetensors"):
        if (out / name).exists():
            found |= {f"{name}:{key}": value for key, value in load_file(out / name).items()}
    return found
