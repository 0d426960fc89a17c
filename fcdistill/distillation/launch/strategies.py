"""Which of accelerate's strategies can train a student: plain data parallelism, FSDP 2, DeepSpeed up to ZeRO-2.

A student is loaded, adapted and compared with its packed rows whole, and only then sharded; the rows of a loss are
selected inside its own forward pass (`forward`), where sharded weights are gathered. ZeRO-3 shards already while
weights are loaded. Strategies are known from the launcher's variables before any weights are.
"""

import os

from fcdistill.config import LoraTuning, TrainConfig
from fcdistill.distillation.preparation import PreparedTeacher
from fcdistill.errors import ConfigError
from fcdistill.models.shapes import model_shape

__all__ = ["require_strategy", "shards_weights"]


def shards_weights() -> bool:
    """Whether each process will hold only a part of the student's weights."""
    return _is_set("ACCELERATE_USE_FSDP")


def require_strategy(config: TrainConfig, teacher: PreparedTeacher | None) -> None:
    """Check that the launcher's strategy can train what a configuration asks for.

    Raises:
        ConfigError: it can't.
    """
    if _is_set("ACCELERATE_USE_DEEPSPEED"):
        stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "")
        if stage not in ("0", "1", "2"):
            raise ConfigError(
                f"the launcher's strategy is DeepSpeed with ZeRO stage {stage or 'unknown'}",
                required="stage 0, 1 or 2, given as zero_stage in accelerate's own configuration: a student is loaded "
                "whole",
                fix="set zero_stage to 2 (data/accelerate/deepspeed_zero2.yaml), or use FSDP 2 (fsdp.yaml beside it)",
            )
    elif shards_weights():
        found = {name: os.environ.get(name, "") for name in ("FSDP_VERSION", "FSDP_STATE_DICT_TYPE")}
        if found != {"FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}:
            raise ConfigError(
                "the launcher's strategy is FSDP with "
                + ", ".join(f"{name.lower()} {value or 'unset'}" for name, value in found.items()),
                required="fsdp_version 2 with fsdp_state_dict_type FULL_STATE_DICT, so that a checkpoint is whole",
                fix="set them as data/accelerate/fsdp.yaml does",
            )
        if isinstance(config.tuning, LoraTuning) and config.tuning.quantization != "none":
            raise ConfigError(
                f"tuning.quantization is {config.tuning.quantization}, but the launcher's strategy is FSDP",
                required="weights that can be sharded",
                fix="set tuning.quantization to none, or launch without FSDP",
            )
        for name, needs_whole_student in (
            ("monitor.steps", config.monitor.enabled),
            ("on_policy_fraction", config.on_policy_fraction > 0),
            ("signal self", config.signal == "self" and config.objective.needs_teacher),
        ):
            if needs_whole_student:
                raise ConfigError(
                    f"{name} is set, but the launcher's strategy is FSDP, which divides the student's weights",
                    required="a whole student in each process, which answers or teaches in its own number of passes",
                    fix=f"launch with plain data parallelism, or train without {name}",
                )
    else:
        return
    if teacher and teacher.pairs and teacher.shape and _student_width(config) != teacher.shape.width:
        raise ConfigError(
            "objective.hidden_weight is set for models of unequal widths, but the launcher's strategy shards the "
            "optimizer",
            required="plain data parallelism: projectors are no part of the student that a strategy wraps",
            fix="launch with data/accelerate/multi_cpu.yaml or --multi_gpu, or set objective.hidden_weight to 0",
        )


def _student_width(config: TrainConfig) -> int:
    return model_shape(config.student.model).width


def _is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true")
