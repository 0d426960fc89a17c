"""The peers' side of the training benchmark: TRL's trainers and DistillKit's, on the same token ids.

Started by `train.py`, one process per contender, with an interpreter that may have nothing of fcdistill:
`peer_side.py CONTENDER DIRECTORY TUNING`; the last line of stdout is the result as JSON. Each peer gets the examples
with their labels, so that it trains on the same tokens and supervises the same positions, the same optimizer and
precision, and one forward pass per `micro_batch` examples. Where a peer would first sample its own completions, it is
handed those of the examples, so that no generation is timed.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from datasets import Dataset
from measuring import ModelSize, StepClock, padded_work
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from workload import Examples, Settings, read_examples, read_settings

__all__ = ["main"]


@dataclass(frozen=True)
class _Run:
    """What every contender starts from."""

    settings: Settings
    examples: Examples
    tuning: str
    output: Path
    clock: StepClock

    def student(self) -> Any:
        """The student, loaded and with its adapters."""
        model = _load(self.examples.student_directory, torch.bfloat16 if self.tuning == "lora" else torch.float32)
        if self.tuning == "full":
            return model
        lora = peft.LoraConfig(
            r=self.settings.lora_rank,
            lora_alpha=self.settings.lora_alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        return peft.get_peft_model(model, lora)

    def teacher(self) -> PreTrainedModel:
        """The teacher that runs beside the student."""
        model = _load(self.examples.teacher_directory, torch.bfloat16).requires_grad_(False)
        self.clock.teacher_size = ModelSize.of(model)
        return model

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The student's tokenizer, which pads; by a name of its class that older transformers know too."""
        tokenizer = PreTrainedTokenizerFast.from_pretrained(self.examples.student_directory)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return tokenizer

    def dataset(self) -> Dataset:
        """The examples as token ids and labels."""
        items = self.examples.items
        return Dataset.from_dict(
            {
                "input_ids": [[*item.prompt, *item.completion] for item in items],
                "labels": [[-100] * len(item.prompt) + list(item.completion) for item in items],
            }
        )

    def arguments(self, *, examples_per_row: int = 1, gradient_checkpointing: bool = False) -> dict[str, Any]:
        """Arguments of a Trainer; they differ between contenders only where these do."""
        settings = self.settings
        num_rows = max(1, settings.micro_batch // examples_per_row)
        return {
            "output_dir": str(self.output),
            "per_device_train_batch_size": num_rows,
            "gradient_accumulation_steps": settings.examples_per_step // (num_rows * examples_per_row),
            "max_steps": settings.num_steps,
            "learning_rate": settings.learning_rate,
            "lr_scheduler_type": "constant",
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "bf16": True,
            "gradient_checkpointing": gradient_checkpointing,
            "use_cpu": settings.device == "cpu",
            "seed": settings.seed,
            "logging_steps": settings.num_steps,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }


def main(contender: str, directory: Path, tuning: str) -> dict[str, Any]:
    """Train one contender in a run's directory; returns its result."""
    settings = read_settings(directory)
    torch.set_num_threads(settings.num_threads)
    run = _Run(settings, read_examples(directory), tuning, directory / "peer", StepClock(settings.device))
    trainer = _CONTENDERS[contender](run)
    trainer.add_callback(run.clock)
    trainer.train()
    return run.clock.result()


def _load(directory: str, dtype: torch.dtype) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, local_files_only=True)


def _timed(trainer_class: Any, run: _Run) -> Any:
    """The trainer, which tells the clock what each micro batch has to compute."""

    class Timed(trainer_class):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            work = padded_work(_lengths(inputs), _num_supervised(inputs))
            run.clock.count(work, work)
            return super().compute_loss(model, inputs, *args, **kwargs)

    return Timed


def _lengths(inputs: dict[str, Tensor]) -> Tensor:
    if "prompt_mask" in inputs:
        return inputs["prompt_mask"].sum(1) + inputs["completion_mask"].sum(1)
    # Packed rows have no mask but say where their sequences begin.
    return inputs["attention_mask"].sum(1) if "attention_mask" in inputs else inputs["cu_seq_lens_q"].diff()


def _num_supervised(inputs: dict[str, Tensor]) -> int:
    if "completion_mask" in inputs:
        return int(inputs["completion_mask"].sum())
    return int((inputs["labels"][:, 1:] != -100).sum())


def _trl_sft(run: _Run, *, gradient_checkpointing: bool = False) -> Any:
    from trl import SFTConfig, SFTTrainer

    arguments = run.arguments(gradient_checkpointing=gradient_checkpointing)
    return _timed(SFTTrainer, run)(
        model=run.student(),
        args=SFTConfig(**arguments, max_length=None),
        train_dataset=run.dataset(),
        processing_class=run.tokenizer(),
    )


def _trl_sft_packed(run: _Run) -> Any:
    """TRL's packing: sequences behind one another in a row, each for itself, without padding."""
    from trl import SFTConfig, SFTTrainer

    lengths = [len(item.prompt) + len(item.completion) for item in run.examples.items]
    # Rows of exactly two, so that an optimizer step has as many examples as everyone else's.
    row = 2 * max(lengths)
    if 3 * min(lengths) <= row or run.settings.examples_per_step % 2:
        sys.exit(
            f"examples of {min(lengths)} to {max(lengths)} tokens, {run.settings.examples_per_step} a step, do not "
            f"fill rows of two each: its optimizer steps would have other numbers of examples"
        )
    return _timed(SFTTrainer, run)(
        model=run.student(),
        args=SFTConfig(**run.arguments(examples_per_row=2), max_length=row, packing=True),
        train_dataset=run.dataset(),
        processing_class=run.tokenizer(),
    )


def _trl_gkd(run: _Run) -> Any:
    """Forward KL on the given completions (`lmbda` 0 samples none)."""
    from trl.experimental.gkd import GKDConfig, GKDTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    tokenizer = run.tokenizer()
    return _timed(GKDTrainer, run)(
        model=run.student(),
        teacher_model=run.teacher(),
        args=GKDConfig(**run.arguments(), max_length=None, lmbda=0.0, beta=0.0),
        data_collator=DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id),
        train_dataset=run.dataset(),
        processing_class=tokenizer,
    )


def _trl_distillation(run: _Run) -> Any:
    """Forward KL by TRL's chunked loss, on the given completions in place of its own samples."""
    from trl import DistillationConfig, DistillationTrainer

    items = run.examples.items

    class Given(DistillationTrainer):  # type: ignore[misc]
        def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
            chosen = [items[int(prompt)] for prompt in prompts]
            return [list(item.prompt) for item in chosen], [list(item.completion) for item in chosen], None, None, []

    return _timed(Given, run)(
        model=run.student(),
        teacher_model=run.teacher(),
        args=DistillationConfig(**run.arguments(), beta=0.0),
        train_dataset=Dataset.from_dict({"prompt": [str(index) for index in range(len(items))]}),
        processing_class=run.tokenizer(),
    )


def _distillkit(run: _Run) -> Any:
    """DistillKit with a teacher that runs beside the student: cross-entropy and forward KL, its defaults."""
    from distillkit.configuration import DistillationRunConfig
    from distillkit.signals import OnlineSignalSource
    from distillkit.trainer import DistillationTrainer
    from trl import SFTConfig

    teacher = run.teacher().to(run.settings.device)
    longest = max(len(item.prompt) + len(item.completion) for item in run.examples.items)
    config = DistillationRunConfig.model_validate(
        {
            "model": run.examples.student_directory,
            "dataset": {"train_dataset": {"disk_path": "given"}},
            "teacher": {"kind": "hf", "path": run.examples.teacher_directory},
            "sequence_length": longest,
            "output_path": str(run.output),
            "use_flash_attention": False,
        }
    )
    vocabulary_size = teacher.config.get_text_config().vocab_size
    return _timed(DistillationTrainer, run)(
        model=run.student(),
        config=config,
        signal_source=OnlineSignalSource(teacher, vocab_size=vocabulary_size),
        true_vocab_size=vocabulary_size,
        args=SFTConfig(**run.arguments(), max_length=longest),
        train_dataset=run.dataset(),
        processing_class=run.tokenizer(),
    )


_CONTENDERS: dict[str, Callable[[_Run], Any]] = {
    "trl-sft": _trl_sft,
    "trl-sft-checkpointing": lambda run: _trl_sft(run, gradient_checkpointing=True),
    "trl-sft-packed": _trl_sft_packed,
    "trl-gkd": _trl_gkd,
    "trl-distillation": _trl_distillation,
    "distillkit-kd": _distillkit,
}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
