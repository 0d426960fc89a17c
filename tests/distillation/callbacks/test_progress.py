import os
import re
import signal
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from fcdistill.distillation.callbacks import progress
from fcdistill.distillation.callbacks.progress import (
    GracefulStop,
    LinesBeforeCheckpoints,
    MetricsLog,
    ProgressBar,
    step_of,
)
from fcdistill.records import MetricsLine
from fcdistill.storage import iter_jsonl


@pytest.fixture
def args(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")


def _log(metrics: MetricsLog, args: TrainingArguments, step: int, **logs: float) -> None:
    state = TrainerState(global_step=step, max_steps=9, epoch=step / 4)
    metrics.on_log(args, state, TrainerControl(), logs=logs)


def test_lines_hold_what_the_trainer_logs_but_not_its_summaries(tmp_path: Path, args: TrainingArguments) -> None:
    reported: list[str] = []
    metrics = MetricsLog(tmp_path / "metrics.jsonl", 0, reported.append)
    _log(metrics, args, 2, loss=1.5, ce=1.5, grad_norm=0.3, learning_rate=1e-3, epoch=0.5)
    _log(metrics, args, 2, held_out_ce=1.25, held_out_token_accuracy=0.5)
    _log(metrics, args, 2, train_runtime=3.0, train_loss=2.0)
    lines = list(iter_jsonl(tmp_path / "metrics.jsonl", MetricsLine))
    assert lines == metrics.lines
    assert [(line.step, line.epoch, line.loss, line.held_out_ce) for line in lines] == [
        (2, 0.5, 1.5, None),
        (2, 0.5, None, 1.25),
    ]
    assert reported == [
        "step 2/9  epoch 0.50  loss 1.5  ce 1.5  learning_rate 0.001  grad_norm 0.3",
        "step 2/9  epoch 0.50  held_out_ce 1.25  held_out_token_accuracy 0.5",
    ]


def test_lines_say_how_long_the_rest_takes(
    tmp_path: Path, args: TrainingArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on at step 4 of 9 and takes a minute for two steps needs a minute and a half for the others."""
    reported: list[str] = []
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    metrics = MetricsLog(tmp_path / "metrics.jsonl", 4, reported.append)
    metrics.on_train_begin(args, TrainerState(global_step=4, max_steps=9), TrainerControl())
    _log(metrics, args, 4, held_out_ce=1.0)
    now[0] += 60
    _log(metrics, args, 6, loss=1.5, ce=1.25)
    now[0] += 4000
    _log(metrics, args, 9, loss=1.0)
    assert [line.rpartition("  ")[2] for line in reported] == ["held_out_ce 1", "01:30 left", "00:00 left"]


def test_what_is_or_may_be_saved_is_logged_first(args: TrainingArguments) -> None:
    for fields in ({}, {"should_log": True}, {"should_save": True}, {"should_evaluate": True}):
        control = TrainerControl(**fields)
        LinesBeforeCheckpoints().on_step_end(args, TrainerState(), control)
        assert control == TrainerControl(**fields | {"should_log": bool(fields)})


def test_the_bar_shows_components_speed_and_the_time_left(
    args: TrainingArguments, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = ProgressBar()

    def shown() -> str:
        bar.training_bar.refresh()
        return capsys.readouterr().err.rpartition("\r")[2]

    bar.on_train_begin(args, TrainerState(global_step=4, max_steps=9), TrainerControl())
    assert "4/9" in shown()
    bar.on_step_end(args, TrainerState(global_step=6, max_steps=9), TrainerControl())
    logs = {"loss": 1.23456, "ce": 1.0, "kd": 0.5, "tokens_per_s": 1234.5, "learning_rate": 1e-3, "epoch": 1.0}
    bar.on_log(args, TrainerState(global_step=6, max_steps=9), TrainerControl(), logs=logs)
    bar.on_log(args, TrainerState(global_step=6, max_steps=9), TrainerControl(), logs={"held_out_call_accuracy": 0.75})
    bar.on_log(args, TrainerState(global_step=6, max_steps=9), TrainerControl(), logs={"loss": 1.125})
    text = shown()
    assert re.search(r"6/9 \[\d\d:\d\d<\d\d:\d\d", text), text
    assert "loss=1.125, ce=1, kd=0.5, tokens/s=1234, held-out calls=0.75" in text and "learning_rate" not in text
    bar.on_train_end(args, TrainerState(global_step=6, max_steps=9), TrainerControl())
    bar.on_log(args, TrainerState(global_step=6, max_steps=9), TrainerControl(), logs={"train_runtime": 3.0})


def test_a_bar_of_another_process_stays_closed(args: TrainingArguments, capsys: pytest.CaptureFixture[str]) -> None:
    bar, state = ProgressBar(), TrainerState(global_step=0, max_steps=9, is_world_process_zero=False)
    bar.on_train_begin(args, state, TrainerControl())
    bar.on_step_end(args, state, TrainerControl())
    bar.on_log(args, state, TrainerControl(), logs={"loss": 1.0})
    bar.on_train_end(args, state, TrainerControl())
    assert capsys.readouterr().err == ""


def test_a_resumed_run_drops_lines_that_come_again_and_a_torn_one(tmp_path: Path, args: TrainingArguments) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsLog(path, 0, [].append)
    for step in (1, 2, 3):
        _log(metrics, args, step, loss=float(step))
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    resumed = MetricsLog(path, 2, [].append)
    _log(resumed, args, 3, loss=30.0)
    assert [(line.step, line.loss) for line in iter_jsonl(path, MetricsLine)] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_an_interrupt_asks_for_a_checkpoint_and_goes_on_to_the_caller(args: TrainingArguments) -> None:
    stop, control, before = GracefulStop(), TrainerControl(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop.listening():
        stop.on_step_end(args, TrainerState(), control)
        assert not control.should_save
        os.kill(os.getpid(), signal.SIGINT)
        stop.on_step_end(args, TrainerState(), control)
        assert control.should_save and control.should_training_stop
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_interrupt_stops_at_once() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), GracefulStop().listening():
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(2)
    assert reached == [1]


def test_the_step_of_a_checkpoint() -> None:
    assert step_of(None) == 0
    assert step_of(Path("somewhere/checkpoint-120")) == 120
