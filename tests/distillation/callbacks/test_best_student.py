import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerControl, TrainerState, TrainingArguments

from fcdistill.config import MonitorConfig, TrainConfig
from fcdistill.distillation import run
from fcdistill.distillation.callbacks.best_student import BestStudent
from fcdistill.distillation.callbacks.call_accuracy import CallMonitor
from fcdistill.distillation.run import TrainResult, run_training
from tests.distillation.world import metrics_lines, train_config, train_until_sealed

ACCURACIES = {2: 0.25, 4: 0.75, 6: 0.5, 8: 0.75, 10: 0.5}
"""Call accuracy by step: with a patience of 3 the run ends after step 10 with the student of step 4."""
LATE = {2: 0.25, 4: 0.125, 6: 0.125, 8: 0.125, 10: 0.75}
"""With a patience of 4 it ends after step 18 with the student of step 10."""


class ScriptedMonitor(CallMonitor):
    """Measures what it is told."""

    accuracies = ACCURACIES

    def is_due(self, state: TrainerState) -> bool:
        self.step = state.global_step
        return super().is_due(state)

    def call_accuracy(self, accelerator: Accelerator) -> float:
        return self.accuracies.get(self.step, 0.0)


def _config(world: Path, out: Path, **fields: Any) -> TrainConfig:
    values = {
        "objective": {"ce_weight": 1.0, "hidden_weight": 0.5, "num_layer_pairs": 1},
        "tools_in_prompt": "none",
        "tuning": {"method": "lora", "lora_rank": 4, "lora_dropout": 0.1},
        "max_steps": 20,
        "epochs": 20.0,
        "examples_per_pack": 4,
        "held_out_fraction": 0.2,
        "monitor": {"steps": 2, "patience": 3},
        "save_steps": 1,
        "log_steps": 100,
        **fields,
    }
    return train_config(world, out, **values)


@pytest.fixture(scope="module")
def stopped(world: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """The run of `ACCURACIES`, uninterrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CallMonitor", ScriptedMonitor)
        return run_training(_config(world, tmp_path_factory.mktemp("stopped") / "run"))


def _weights(directory: Path) -> dict[str, Tensor]:
    found = load_file(directory / "adapter" / "adapter_model.safetensors")
    return found | load_file(directory / "projectors.safetensors")


def _equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], value) for name, value in expected.items())


def _measure(
    config: MonitorConfig, accuracies: dict[int, float], tmp_path: Path
) -> tuple[int | None, int | None, list[int]]:
    """The best step, the step at which training stops, and the steps that are saved because of it."""
    best, state, saved = BestStudent(config), TrainerState(max_steps=100), []
    for step, call_accuracy in accuracies.items():
        control = TrainerControl()
        state.global_step = step
        args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
        best.on_evaluate(args, state, control, {"held_out_ce": 1.0})
        assert control == TrainerControl()
        best.on_evaluate(args, state, control, {"held_out_ce": 1.0, "held_out_call_accuracy": call_accuracy})
        if control.should_save:
            saved.append(step)
        if control.should_training_stop:
            return state.best_global_step, step, saved
    return state.best_global_step, None, saved


@pytest.mark.parametrize(
    ("fields", "accuracies", "expected"),
    [
        ({"patience": 2}, [0.1, 0.2, 0.2, 0.3, 0.3, 0.1], (20, 30, [5, 10, 20])),
        ({"patience": 1}, [0.0, 0.0], (5, 10, [5])),
        ({"patience": 3}, [0.5, 0.4, 0.4, 0.6], (20, None, [5, 20])),
        ({"patience": 2, "keep_best": False}, [0.5, 0.4, 0.4], (5, 15, [])),
        ({"keep_best": True}, [0.5, 0.4, 0.4, 0.4, 0.5], (5, None, [5])),
        ({}, [0.5, 0.6], (10, None, [])),
    ],
)
def test_measurements_decide(
    tmp_path: Path,
    fields: dict[str, Any],
    accuracies: list[float],
    expected: tuple[int | None, int | None, list[int]],
) -> None:
    config = MonitorConfig(steps=5, **fields)
    by_step = {5 * number: accuracy for number, accuracy in enumerate(accuracies, 1)}
    assert _measure(config, by_step, tmp_path) == expected


def test_a_checkpoint_is_not_written_where_training_stops(tmp_path: Path) -> None:
    state = TrainerState(max_steps=100, global_step=10, best_metric=0.5, best_global_step=5)
    control = TrainerControl(should_save=True)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    BestStudent(MonitorConfig(steps=5, patience=1)).on_evaluate(args, state, control, {"held_out_call_accuracy": 0.5})
    assert control.should_training_stop and not control.should_save


class _CopiesTheBest(ScriptedMonitor):
    """Copies the checkpoint of step 4 once step 6 is reached."""

    copy: Path

    def call_accuracy(self, accelerator: Accelerator) -> float:
        if self.step == 6:
            shutil.copytree(self.copy.parent / "run" / "checkpoints" / "checkpoint-4", self.copy)
        return super().call_accuracy(accelerator)


def test_a_run_that_no_longer_improves_stops_and_saves_its_best_student(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "CallMonitor", _CopiesTheBest)
    monkeypatch.setattr(_CopiesTheBest, "copy", tmp_path / "copy", raising=False)
    reported: list[str] = []
    out = tmp_path / "run"
    result = run_training(_config(world, out), reported.append)
    assert (result.steps, result.best_step, result.held_out_call_accuracy) == (10, 4, 0.75)
    assert "call accuracy has not risen in 3 measurements" in caplog.text
    assert any("the student of step 4 is saved" in line for line in reported)
    lines = metrics_lines(out)
    assert result.held_out_ce == next(line.held_out_ce for line in lines if line.step == 4 and line.held_out_ce)
    assert [line.step for line in lines if line.loss is not None] == list(range(1, 11))
    best = load_file(tmp_path / "copy" / "adapter_model.safetensors")
    best |= load_file(tmp_path / "copy" / "projectors.safetensors")
    assert _equal(_weights(out), best)
    assert json.loads((out / "result.json").read_text())["best_step"] == 4
    assert not (out / "checkpoints").exists()


def test_without_patience_the_run_goes_on_and_still_saves_its_best_student(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: TrainResult
) -> None:
    monkeypatch.setattr(run, "CallMonitor", ScriptedMonitor)
    whole = run_training(_config(world, tmp_path / "whole", monitor={"steps": 2, "keep_best": True}))
    assert (whole.steps, whole.best_step, whole.held_out_ce) == (20, 4, stopped.held_out_ce)
    assert _equal(_weights(tmp_path / "whole"), _weights(stopped.directory))


def test_the_last_student_is_saved_where_the_best_is_not_kept(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: TrainResult
) -> None:
    monkeypatch.setattr(run, "CallMonitor", ScriptedMonitor)
    monitor = {"steps": 2, "patience": 3, "keep_best": False}
    last = run_training(_config(world, tmp_path / "last", monitor=monitor))
    assert (last.steps, last.best_step, last.held_out_call_accuracy) == (stopped.steps, None, 0.5)
    assert last.held_out_ce != stopped.held_out_ce
    assert not _equal(_weights(tmp_path / "last"), _weights(stopped.directory))


@pytest.mark.parametrize(
    ("accuracies", "patience", "ends", "killed_at", "left"),
    [
        (ACCURACIES, 3, (10, 4), 4, [2, 3, 4]),
        (ACCURACIES, 3, (10, 4), 5, [2, 3, 4, 5]),
        (LATE, 4, (18, 10), 10, [2, 8, 9, 10]),
    ],
    ids=["new-best", "after-a-new-best", "new-best-long-after-the-last"],
)
def test_a_killed_run_ends_with_the_best_student_of_an_uninterrupted_one(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped: TrainResult,
    accuracies: dict[int, float],
    patience: int,
    ends: tuple[int, int],
    killed_at: int,
    left: list[int],
) -> None:
    """It is killed when all of a checkpoint is written but its seal."""
    monkeypatch.setattr(run, "CallMonitor", ScriptedMonitor)
    monkeypatch.setattr(ScriptedMonitor, "accuracies", accuracies)
    config = _config(world, tmp_path / "killed", monitor={"steps": 2, "patience": patience})
    assert train_until_sealed(config, f"checkpoint-{killed_at}") == -signal.SIGKILL
    checkpoints = tmp_path / "killed" / "checkpoints"
    assert sorted(checkpoints.iterdir()) == sorted(checkpoints / f"checkpoint-{step}" for step in left)
    reported: list[str] = []
    found = run_training(config, reported.append)
    expected = stopped
    if accuracies is not ACCURACIES:
        expected = run_training(config.model_copy(update={"out": tmp_path / "whole"}))
    assert f"going on from {checkpoints / f'checkpoint-{killed_at - 1}'}" in reported
    assert (found.steps, found.best_step) == (expected.steps, expected.best_step) == ends
    assert found.held_out_ce == pytest.approx(expected.held_out_ce, rel=1e-6)
    for name, value in _weights(expected.directory).items():
        assert torch.allclose(_weights(found.directory)[name], value, atol=1e-6), name


def test_a_damaged_best_checkpoint_is_made_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: TrainResult
) -> None:
    monkeypatch.setattr(run, "CallMonitor", _DiesAtStep8)
    out = tmp_path / "run"
    with pytest.raises(_DiedError):
        run_training(_config(world, out))
    monkeypatch.setattr(run, "CallMonitor", ScriptedMonitor)
    best = out / "checkpoints" / "checkpoint-4" / "adapter_model.safetensors"
    best.write_bytes(b"x" * best.stat().st_size)
    run_training(_config(world, out))
    for name, value in _weights(stopped.directory).items():
        assert torch.allclose(_weights(out)[name], value, atol=1e-6), name


class _DiedError(Exception):
    pass


class _DiesAtStep8(ScriptedMonitor):
    def call_accuracy(self, accelerator: Accelerator) -> float:
        if self.step == 8:
            raise _DiedError
        return super().call_accuracy(accelerator)
