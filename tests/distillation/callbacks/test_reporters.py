import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, integration_utils

from fcdistill.config import TrainConfig
from fcdistill.distillation import preparation, run, student_model
from fcdistill.distillation.callbacks import reporters
from fcdistill.distillation.callbacks.reporters import open_reporters, require_reporters
from fcdistill.distillation.run import run_training
from fcdistill.distillation.trainer import DistillTrainer
from fcdistill.errors import MissingDependencyError
from tests.distillation.world import train_config


def _config(world: Path, out: Path, **fields: Any) -> TrainConfig:
    values = {
        "objective": {"ce_weight": 1.0, "kd_weight": 0.5, "hidden_weight": 0.5, "num_layer_pairs": 1},
        "tools_in_prompt": "none",
        "max_steps": 4,
        "examples_per_pack": 4,
        "held_out_fraction": 0.2,
        "monitor": {"steps": 4, "max_new_tokens": 2},
        **fields,
    }
    return train_config(world, out, **values)


class _Recorder(TrainerCallback):  # type: ignore[misc]
    """Stands in for a reporter: keeps what it is given."""

    logs: list[dict[str, float]] = []
    run_names: list[str] = []

    def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
        self.run_names.append(args.run_name)

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        self.logs.append(dict(logs))


FIGURES = {
    "loss", "ce", "kd", "hidden", "learning_rate", "grad_norm", "tokens_per_s", "examples_per_s",
    "held_out_ce", "held_out_token_accuracy", "held_out_call_accuracy",
}  # fmt: skip


def test_a_reporter_receives_every_figure_and_the_run_s_name(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def integrations(names: list[str]) -> list[type[TrainerCallback]]:
        asked.append(names)
        return [_Recorder]

    monkeypatch.setattr(reporters, "get_reporting_integration_callbacks", integrations)
    monkeypatch.setattr(run, "require_reporters", lambda names: None)
    monkeypatch.setenv("WANDB_API_KEY", "secret-key")
    for out, fields in (("plain", {}), ("named", {"run_name": "kd, T=2"})):
        run_training(_config(world, tmp_path / out, report_to=["wandb"], **fields))
    assert asked == [["wandb"], ["wandb"]] and _Recorder.run_names == ["plain", "kd, T=2"]
    assert FIGURES <= {name for logs in _Recorder.logs for name in logs}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret-key" in path.read_bytes()]


def test_a_missing_package_is_named_before_weights_are_loaded(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing needs to be read")

    monkeypatch.setattr(reporters, "find_spec", lambda name: None)
    monkeypatch.setattr(student_model, "load_model", refuse)
    monkeypatch.setattr(preparation, "load_tokenizer", refuse)
    for name in ("tensorboard", "wandb", "trackio"):
        with pytest.raises(MissingDependencyError, match=f"the package {name} is not installed") as error:
            run_training(_config(world, tmp_path / "run", report_to=[name]))
        assert f"pip install {name}" in error.value.fix
    assert not (tmp_path / "run").exists()
    require_reporters([])


def test_a_finished_run_may_be_asked_for_with_other_reporters(world: Path, tmp_path: Path) -> None:
    result = run_training(_config(world, tmp_path / "run", run_name="first"))
    assert run_training(_config(world, tmp_path / "run", run_name="second")) == result
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["config"]["report_to"] == [] and manifest["status"] == "complete"


class _DiedError(Exception):
    pass


class _DiesInStep4(DistillTrainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3:
            raise _DiedError
        return super().compute_loss(*args, **kwargs)


def test_tensorboard_has_every_step_once_also_of_a_resumed_run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    config = _config(world, tmp_path / "run", report_to=["tensorboard"])
    with monkeypatch.context() as patch:
        patch.setattr(run, "DistillTrainer", _DiesInStep4)
        with pytest.raises(_DiedError):
            run_training(config)
    run_training(config)
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {f"train/{name}" for name in FIGURES} <= tags, tags
    assert [event.step for event in events.Scalars("train/ce")] == [1, 2, 3, 4]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    ce = [line["ce"] for line in lines if line["ce"] is not None]
    assert [event.value for event in events.Scalars("train/ce")] == pytest.approx(ce, rel=1e-5)


class _Writer:
    """Stands in for TensorBoard's writer."""

    def __init__(self, directory: str, purge_step: int) -> None:
        self.directory, self.purge_step = directory, purge_step


def test_tensorboard_writes_into_the_run_or_where_its_variable_says_and_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=_Writer))
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)

    def writer(is_main_process: bool) -> Any:
        (callback,) = open_reporters(["tensorboard"], tmp_path / "run", resumed_step=7, is_main_process=is_main_process)
        assert type(callback) is TensorBoardCallback
        return callback.tb_writer

    assert (writer(True).directory, writer(True).purge_step) == (str(tmp_path / "run" / "tensorboard"), 8)
    assert writer(False) is None
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "elsewhere"))
    assert writer(True).directory == str(tmp_path / "elsewhere")
