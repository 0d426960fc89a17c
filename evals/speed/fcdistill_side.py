"""fcdistill's side of the training benchmark: renders the examples, writes the teacher cache, runs its contenders.

Started by `train.py`, one process per job: `fcdistill_side.py JOB DIRECTORY [TUNING]`. A contender is a whole run of
`run_training`, the function behind `fcdistill train`, with a clock in its Trainer; the last line of stdout is the
result as JSON, or with exit code 2 what is wrong with the input.
"""

import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measuring import ModelSize, StepClock, Work, matmul_flops_per_s, padded_work
from torch import Tensor
from workload import Example, Examples, Settings, read_settings, write_examples

from fcdistill.config import TrainConfig
from fcdistill.distillation import preparation, run
from fcdistill.distillation.batches import MicroBatch, ModelInputs
from fcdistill.distillation.examples.examples import drop_long, render_traces
from fcdistill.distillation.packed.tree_masks import dense_mask
from fcdistill.distillation.signals.sources import OnlineTeacher
from fcdistill.distillation.teacher.write_cache import run_caching
from fcdistill.errors import DataError, FcdistillError
from fcdistill.models.loading import load_tokenizer
from fcdistill.models.vocabulary import shared_vocabulary
from fcdistill.records import Trace
from fcdistill.storage import read_jsonl, write_jsonl

__all__ = ["main"]

_CONTENDERS: dict[str, Callable[[Settings, Path], dict[str, Any]]] = {
    "fcdistill-sft-packed": lambda settings, _: {"examples_per_pack": settings.examples_per_pack},
    "fcdistill-sft-checkpointing": lambda settings, _: {
        "examples_per_pack": settings.examples_per_pack,
        "gradient_checkpointing": True,
    },
    "fcdistill-sft-unpacked": lambda settings, _: {"examples_per_pack": settings.micro_batch},
    "fcdistill-kd-online": lambda settings, _: _distilling(settings, settings.teacher),
    "fcdistill-kd-checkpointing": lambda settings, _: {
        **_distilling(settings, settings.teacher),
        "gradient_checkpointing": True,
    },
    "fcdistill-kd-cached": lambda settings, directory: _distilling(settings, settings.teacher, _cache(directory)),
    "fcdistill-kd-aligned": lambda settings, _: _distilling(settings, settings.aligned_teacher),
}
"""Contender to the fields of its `TrainConfig` that are its own."""


def main(job: str, directory: Path, tuning: str) -> dict[str, Any]:
    """Do one job in a run's directory; returns its result."""
    settings = read_settings(directory)
    if job == "matmul":
        return {"matmul_flops_per_s": matmul_flops_per_s(settings.device)}
    if job == "prepare":
        return _prepare(settings, directory)
    with tempfile.TemporaryDirectory(dir=directory) as out:
        if job == "cache":
            fields = _distilling(settings, settings.teacher, _cache(directory))
            run_caching(_config(settings, directory, tuning, Path(out) / "run", fields), report=_quiet)
            return {}
        fields = _CONTENDERS[job](settings, directory)
        return _train(_config(settings, directory, tuning, Path(out) / "run", fields), packed="unpacked" not in job)


def _prepare(settings: Settings, directory: Path) -> dict[str, Any]:
    """Choose traces, render them, write what the contenders read; returns token counts of the examples."""
    traces = read_jsonl(Path(settings.traces), Trace, "traces")
    tokenizer, teacher_tokenizer = load_tokenizer(settings.student), load_tokenizer(settings.teacher)
    vocabulary = shared_vocabulary(tokenizer, teacher_tokenizer)
    if not vocabulary.same:
        raise DataError(
            f"student {settings.student} and teacher {settings.teacher} have different tokenizers "
            f"({vocabulary.detail})",
            required="a teacher with the student's tokenizer: the peers compare the two token by token",
            fix="name another --teacher; fcdistill-kd-aligned measures a teacher with another tokenizer",
        )
    if len(traces) < settings.num_examples:
        raise DataError(
            f"{settings.traces} has {len(traces)} traces",
            required=f"at least {settings.num_examples}: {settings.num_steps} steps of {settings.examples_per_step}, "
            f"the warm-up included",
            fix="lower --steps or --examples-per-step, or generate more traces",
        )
    chosen = random.Random(settings.seed).sample(traces, settings.num_examples)
    limit = TrainConfig.model_fields["max_example_tokens"].default
    rendered, too_long = drop_long(render_traces(chosen, tokenizer, "full"), limit)
    if too_long:
        raise DataError(
            f"{len(too_long)} traces of {settings.traces} have more than {limit} tokens, for example {too_long[0]!r}",
            required="traces that every contender trains on whole",
            fix="leave them out of --traces",
        )
    write_jsonl(directory / "traces.jsonl", chosen)
    items = tuple(Example(example.student_prompt, example.completion) for example in rendered)
    examples = Examples(tokenizer.name_or_path, teacher_tokenizer.name_or_path, items)
    write_examples(directory, examples)
    lengths = {
        "prompt": sorted(len(example.prompt) for example in items),
        "completion": sorted(len(example.completion) for example in items),
    }
    return {
        "tokens": {
            "total": sum(map(sum, lengths.values())),
            "supervised": examples.num_supervised,
            "prompt_median": lengths["prompt"][len(items) // 2],
            "completion_median": lengths["completion"][len(items) // 2],
        }
    }


def _config(settings: Settings, directory: Path, tuning: str, out: Path, fields: dict[str, Any]) -> TrainConfig:
    lora = {"method": "lora", "lora_rank": settings.lora_rank, "lora_alpha": settings.lora_alpha}
    return TrainConfig.model_validate(
        {
            "traces": directory / "traces.jsonl",
            "out": out,
            "student": {"model": settings.student},
            "tuning": lora if tuning == "lora" else {"method": "full"},
            "epochs": 1.0,
            "examples_per_step": settings.examples_per_step,
            "learning_rate": settings.learning_rate,
            "learning_rate_schedule": "constant",
            "warmup_fraction": 0.0,
            "device": settings.device,
            "log_steps": settings.num_steps,
            "save_steps": settings.num_steps,
            "merge": False,
            "seed": settings.seed,
            **fields,
        }
    )


def _distilling(settings: Settings, teacher: str, cache: Path | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "examples_per_pack": settings.examples_per_pack,
        "teacher": teacher,
        "objective": {"kd_weight": 1.0},
    }
    return fields if cache is None else fields | {"signal": "cached", "cache": {"dir": cache}}


def _cache(directory: Path) -> Path:
    return directory / "cache"


def _train(config: TrainConfig, *, packed: bool) -> dict[str, Any]:
    clock = StepClock("cuda" if config.device == "cuda" else "cpu")

    class TimedTrainer(run.DistillTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(clock)
            if isinstance(self._teacher, OnlineTeacher):
                clock.teacher_size = ModelSize.of(self._teacher.model)

        def compute_loss(self, model: Any, inputs: MicroBatch, *args: Any, **kwargs: Any) -> Tensor:
            rows = len(inputs["targets_N"])
            side = inputs.get("teacher")
            teacher = _work(side["inputs"], len(side["logit_rows_N"])) if side is not None else None
            clock.count(_work(inputs["student"]["inputs"], rows), teacher)
            return super().compute_loss(model, inputs, *args, **kwargs)

    with mock.patch.object(run, "DistillTrainer", TimedTrainer):
        if packed:
            run.run_training(config, report=_quiet)
        else:
            # What a model gets for which packing is not exact.
            with mock.patch.object(preparation, "choose_packing", return_value="none"):
                run.run_training(config, report=_quiet)
    return clock.result()


def _work(inputs: ModelInputs, num_rows: int) -> Work:
    """The work of a micro batch, from its mask."""
    mask = dense_mask(inputs["ends_RT"]) if "ends_RT" in inputs else inputs["attention_mask"]
    if mask.ndim == 2:
        return padded_work(mask.sum(1), num_rows)
    # Padding sees itself alone and is seen by nothing else.
    is_padding_RT = (mask[:, 0].sum(1) == 1) & (mask[:, 0].sum(2) == 1) & (inputs["position_ids"] == 0)
    num_padding = int(is_padding_RT.sum())
    return Work(is_padding_RT.numel() - num_padding, int(mask.sum()) - num_padding, num_rows)


def _quiet(_: str) -> None:
    pass


if __name__ == "__main__":
    torch.set_num_threads(read_settings(Path(sys.argv[2])).num_threads)
    try:
        print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "lora")))
    except FcdistillError as error:
        print(error)
        sys.exit(error.exit_code)
