"""A training's configuration in the words of transformers' Trainer."""

import os
import sys
from pathlib import Path

from transformers import TrainingArguments

from fcdistill.config import TrainConfig
from fcdistill.distillation.preparation import Prepared
from fcdistill.errors import ConfigError
from fcdistill.machine.launcher import num_processes
from fcdistill.models.devices import choose_device

__all__ = ["accumulation_steps", "training_arguments"]


def training_arguments(config: TrainConfig, checkpoints: Path, prepared: Prepared) -> TrainingArguments:
    """What the Trainer is told.

    Args:
        config: of the training.
        checkpoints: the directory for its checkpoints.
        prepared: the examples, whose number decides that of the steps.

    Raises:
        ConfigError: device, launched processes and numbers of examples don't fit one another.
    """
    _choose_gpu(config)
    schedule = {"constant": "constant_with_warmup"}.get(config.learning_rate_schedule, config.learning_rate_schedule)
    args = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=config.examples_per_pack,
        max_steps=config.num_steps(len(prepared.train)),
        learning_rate=config.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=config.warmup_fraction,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        logging_steps=config.log_steps,
        logging_nan_inf_filter=False,
        save_steps=config.save_steps,
        eval_strategy="steps" if prepared.held_out else "no",
        eval_steps=config.save_steps,
        seed=config.seed,
        fp16=config.dtype == "float16",
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=choose_device(config.device).type == "cpu",  # or else accelerate would not join processes on CPUs
        dataloader_pin_memory=False,
        # Every pass reaches all trained weights, see `DistillTrainer.compute_loss`.
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        report_to="none",  # those that are asked for are callbacks of the run
        run_name=config.run_name or config.out.name,
        disable_tqdm=not sys.stderr.isatty(),
    )
    _require_joined(args)
    args.gradient_accumulation_steps = accumulation_steps(config, args.world_size)
    return args


def accumulation_steps(config: TrainConfig, world_size: int) -> int:
    """Micro batches of one process per optimizer step.

    Args:
        config: of the training.
        world_size: how many processes share each step.

    Raises:
        ConfigError: they can't share it evenly.
    """
    num_parallel = config.examples_per_pack * world_size
    if config.examples_per_step % num_parallel:
        raise ConfigError(
            f"examples_per_step is {config.examples_per_step}, but {world_size} processes with examples_per_pack "
            f"{config.examples_per_pack} take {num_parallel} at a time",
            required="a multiple of examples_per_pack times the number of processes",
            fix="change examples_per_step or examples_per_pack",
        )
    return config.examples_per_step // num_parallel


def _choose_gpu(config: TrainConfig) -> None:
    """Tell accelerate which GPU a configuration names, of which a launcher's processes can't all have the same one."""
    if not config.device.startswith("cuda:"):
        return
    if num_processes() > 1:
        raise ConfigError(
            f"device is {config.device}, but {num_processes()} processes were launched",
            required="a device for each of them",
            fix="set device to cuda, and choose the GPUs by CUDA_VISIBLE_DEVICES or the launcher's --gpu_ids",
        )
    os.environ["ACCELERATE_TORCH_DEVICE"] = config.device


def _require_joined(args: TrainingArguments) -> None:
    if args.world_size != num_processes():
        raise ConfigError(
            f"{num_processes()} processes were launched, but on {args.device} they can't be joined",
            required="a launcher and a device that accelerate knows together",
            fix="use `accelerate launch` or torchrun with device cuda or cpu, or a single process",
        )
