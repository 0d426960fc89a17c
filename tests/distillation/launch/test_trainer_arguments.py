from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fcdistill.config import TrainConfig, parse_config
from fcdistill.distillation.launch import trainer_arguments
from fcdistill.distillation.launch.trainer_arguments import accumulation_steps, training_arguments
from fcdistill.errors import ConfigError

PREPARED: Any = SimpleNamespace(train=list(range(10)), held_out=[])


def _config(**fields: Any) -> TrainConfig:
    values = {
        "traces": "t.jsonl",
        "out": "run",
        "student": {"model": "m"},
        "device": "cpu",
        "dtype": "float32",
        **fields,
    }
    config: TrainConfig = parse_config(values, "train", "test")
    return config


def test_a_steps_examples_come_in_packs(tmp_path: Path) -> None:
    args = training_arguments(_config(examples_per_step=12, examples_per_pack=4, epochs=3), tmp_path, PREPARED)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (4, 3)
    assert args.max_steps == 3  # ten examples are one step of twelve


def test_a_constant_rate_is_warmed_up_too(tmp_path: Path) -> None:
    constant = training_arguments(_config(learning_rate_schedule="constant", warmup_fraction=0.1), tmp_path, PREPARED)
    cosine = training_arguments(_config(learning_rate_schedule="cosine"), tmp_path, PREPARED)
    assert [str(args.lr_scheduler_type.value) for args in (constant, cosine)] == ["constant_with_warmup", "cosine"]
    assert constant.warmup_steps == 0.1


def test_only_held_out_examples_are_evaluated(tmp_path: Path) -> None:
    none = training_arguments(_config(), tmp_path, PREPARED)
    some = training_arguments(
        _config(save_steps=7),
        tmp_path,
        SimpleNamespace(train=PREPARED.train, held_out=[1]),  # type: ignore[arg-type]
    )
    assert (none.eval_strategy.value, some.eval_strategy.value, some.eval_steps) == ("no", "steps", 7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "cuda:1"}, "device is cuda:1, but 2 processes were launched"),
        ({}, "2 processes were launched, but on cpu they can't be joined"),
    ],
)
def test_processes_that_do_not_fit_the_device_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(trainer_arguments, "num_processes", lambda: 2)
    with pytest.raises(ConfigError, match=message) as error:
        training_arguments(_config(**fields), tmp_path, PREPARED)
    assert error.value.required and error.value.fix


def test_processes_share_a_step_evenly_or_are_refused() -> None:
    config = _config(examples_per_step=12, examples_per_pack=2)
    assert [accumulation_steps(config, world_size) for world_size in (1, 2, 3, 6)] == [6, 3, 2, 1]
    with pytest.raises(
        ConfigError, match="examples_per_step is 12, but 4 processes with examples_per_pack 2 take 8 at"
    ):
        accumulation_steps(config, 4)
