"""What accelerate's strategies need of the code: refusals, wrapped forward passes, and configurations that parse."""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file

import fcdistill
from fcdistill.config import TrainConfig, parse_config
from fcdistill.distillation.launch.strategies import require_strategy, shards_weights
from fcdistill.errors import ConfigError
from fcdistill.models.shapes import ModelShape
from fcdistill.records import ModelRef
from tests.paths import ROOT

CONFIGS = ROOT / "data" / "accelerate"
DEEPSPEED = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}

KD = {"objective": {"kd_weight": 1.0}}


def _config(models: Path, **fields: Any) -> TrainConfig:
    values = {"traces": "t", "out": "o", "student": {"model": str(models / "student")}, **fields}
    config: TrainConfig = parse_config(values, "train", "test")
    return config


def _teacher(width: int) -> Any:
    return SimpleNamespace(pairs=((1, 1),), shape=ModelShape(ModelRef(model="teacher"), 3, width))


def test_strategies_that_keep_students_whole_or_shard_them_afterwards_are_used(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_strategy(_config(tiny_models), _teacher(48))
    for variables in (DEEPSPEED, FSDP):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            require_strategy(_config(tiny_models), None)
            require_strategy(_config(tiny_models), _teacher(32))
            assert shards_weights() == (variables is FSDP)


@pytest.mark.parametrize(
    ("variables", "fields", "width", "message"),
    [
        ({**DEEPSPEED, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, {}, 32, "DeepSpeed with ZeRO stage 3"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, 32, "ZeRO stage unknown"),
        ({**FSDP, "FSDP_VERSION": "1"}, {}, 32, "fsdp_version 1, fsdp_state_dict_type FULL_STATE_DICT"),
        ({**FSDP, "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, {}, 32, "fsdp_state_dict_type SHARDED_STATE_DICT"),
        (FSDP, {"tuning": {"quantization": "4bit"}}, 32, "tuning.quantization is 4bit, but the launcher's strategy"),
        (FSDP, {"held_out_fraction": 0.1, "monitor": {"steps": 5}}, 32, "monitor.steps is set, but the launcher's"),
        (FSDP, {"on_policy_fraction": 0.5, **KD, "teacher": "t"}, 32, "on_policy_fraction is set, but the launcher's"),
        (FSDP, {"signal": "self", **KD}, 32, "signal self is set, but the launcher's strategy is FSDP"),
        (FSDP, {}, 48, "unequal widths"),
        (DEEPSPEED, {}, 48, "unequal widths"),
    ],
)
def test_others_are_refused(
    tiny_models: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    fields: dict[str, Any],
    width: int,
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        require_strategy(_config(tiny_models, **fields), _teacher(width))


@pytest.mark.parametrize(
    ("name", "strategy"), [("multi_cpu", "MULTI_GPU"), ("fsdp", "FSDP"), ("deepspeed_zero2", "DEEPSPEED")]
)
def test_accelerate_reads_the_configurations(name: str, strategy: str) -> None:
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert (config.distributed_type.value, config.num_processes) == (strategy, 2)
    if strategy == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
        assert config.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    if strategy == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == 2
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {"multi_cpu", "fsdp", "deepspeed_zero2"}


def test_no_code_reaches_into_a_wrapped_model() -> None:
    """`wrapped.module` would step round the wrapper's forward pass, which averages gradients and gathers weights.

    And the head is never called by itself: its weights may be shards outside of the model's own forward pass.
    """
    for path in Path(fcdistill.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                assert node.attr != "module", f"{path}:{node.lineno}"
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in ("head", "lm_head"), f"{path}:{node.lineno}"
