"""Several processes, started by accelerate's launcher: the same student as from one, and no line said twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fcdistill.config import TrainConfig, parse_config
from fcdistill.distillation.run import run_training
from fcdistill.records import MetricsLine
from fcdistill.storage import read_json
from tests.cli.projects import Ended
from tests.distillation.world import metrics_lines, train_values, trained_weights
from tests.paths import ROOT

LAUNCH = [
    sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "data/accelerate/multi_cpu.yaml"),
]  # fmt: skip
KD_AND_HIDDEN = {"kd_weight": 0.5, "kd_temperature": 2.0, "hidden_weight": 0.5, "num_layer_pairs": 2}

pytestmark = pytest.mark.slow


def _values(world: Path, out: Path, *, teacher: str | None = "teacher", **fields: Any) -> dict[str, Any]:
    return train_values(
        world,
        out,
        **{"traces": str(world / "nine.jsonl"), "teacher": teacher and str(world / teacher), "epochs": 3, **fields},
    )


def _alone(world: Path, out: Path, **fields: Any) -> None:
    config: TrainConfig = parse_config(_values(world, out, **fields), "train", "test")
    run_training(config)


def _write_config(world: Path, out: Path, **fields: Any) -> Path:
    path = out.parent / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump({"train": _values(world, out, **fields)}))
    return path


def _start(world: Path, out: Path, program: str = "", **fields: Any) -> "subprocess.Popen[str]":
    return _launch(out.parent, program, "train", _write_config(world, out, **fields))


def _launch(directory: Path, program: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    script = directory / "program.py"
    script.write_text(program)
    command = [script] if program else ["-m", "fcdistill.cli"]
    # A group of its own, so that no process outlives a test that fails.
    return subprocess.Popen(
        [*LAUNCH, *command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[str]", timeout_s: float = 120) -> Ended:
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # the launcher ends its processes
        out, err = process.communicate(timeout=60)
        pytest.fail(f"the processes hang\n{out}\n{err}")
    return Ended(process.returncode, out, err)


def _together(world: Path, out: Path, **fields: Any) -> Ended:
    return _end(_start(world, out, **fields))


def _lines(out: Path) -> list[MetricsLine]:
    return [line for line in metrics_lines(out) if line.loss is not None]


def _assert_same_run(found: Path, expected: Path, *, names: tuple[str, ...]) -> None:
    """Float32 sums in another order: losses and norms differ by 1e-5 of themselves, weights by 2e-5 after 9 steps."""
    lines, expected_lines = _lines(found), _lines(expected)
    assert [line.step for line in lines] == [line.step for line in expected_lines]
    for name in ("loss", "grad_norm", "learning_rate", *names):
        values, expected_values = (
            {line.step: value for line in each if (value := getattr(line, name)) is not None}
            for each in (lines, expected_lines)
        )
        assert expected_values and values == pytest.approx(expected_values, rel=1e-5), name
    weights, expected_weights = trained_weights(found), trained_weights(expected)
    assert weights.keys() == expected_weights.keys()
    for name, value in expected_weights.items():
        assert torch.allclose(weights[name], value, rtol=0, atol=2e-5), name


RUNS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "sft-lora": ({"log_steps": 2, "save_steps": 100}, ("ce",)),
    "kd-hidden-projectors": (
        {"objective": KD_AND_HIDDEN, "held_out_fraction": 0.1, "examples_per_pack": 1},
        ("ce", "kd", "hidden"),
    ),
    "hidden-alone-full": (
        {"objective": {"ce_weight": 0, "hidden_weight": 1.0}, "tuning": {"method": "full"}},
        ("hidden",),
    ),
    "augmented": ({"objective": KD_AND_HIDDEN, "augmentation": {"shuffle_tools": True}}, ("ce", "kd", "hidden")),
    "on-policy": (
        {"objective": KD_AND_HIDDEN, "on_policy_fraction": 0.6, "on_policy": {"max_new_tokens": 12}},
        ("ce", "kd", "hidden", "on_policy_kd", "on_policy_hidden", "on_policy_valid", "on_policy_examples"),
    ),
    "self": ({"objective": KD_AND_HIDDEN, "signal": "self", "teacher": None}, ("ce", "kd", "hidden")),
    "another-tokenizer": ({"objective": KD_AND_HIDDEN, "teacher": "plain"}, ("ce", "kd", "hidden")),
}
"""Fields of a run, and which figures of it are compared."""

ONE_AFTER_THE_OTHER = """
import sys
import torch
from fcdistill import cli
from fcdistill.distillation.launch.processes import Processes

Processes.leave = lambda self: None  # they stay together for the next run
for config in sys.argv[1:]:
    cli.app(["train", config], standalone_mode=False)
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def runs(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have finished all of `RUNS`: that they start takes longer than what they do."""
    directory = tmp_path_factory.mktemp("runs")
    configs = [_write_config(world, directory / name, **fields) for name, (fields, _) in RUNS.items()]
    ended = _end(_launch(directory, ONE_AFTER_THE_OTHER, *configs), timeout_s=300)
    assert ended.code == 0, ended
    return directory


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_take_the_steps_of_one(world: Path, tmp_path: Path, runs: Path, name: str) -> None:
    """Where the last micro batches of an epoch are too few for both, too."""
    fields, names = RUNS[name]
    _alone(world, tmp_path / "one", **fields)
    _assert_same_run(runs / name, tmp_path / "one", names=names)
    assert read_json(runs / name / "manifest.json")["status"] == "complete"


def _said(ended: Ended, start: str) -> int:
    return len([line for line in (ended.out + ended.err).splitlines() if line.startswith(start)])


def test_a_missing_cache_is_written_by_one_and_read_by_all_and_nothing_is_said_twice(
    world: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        fields = {
            "objective": {"kd_weight": 1.0, "hidden_weight": 0.5, "num_layer_pairs": 2},
            "signal": "cached",
            "cache": {"dir": str(tmp_path / f"cache-{name}"), "shard_traces": 3},
        }
        if name == "one":
            _alone(world, tmp_path / name, **fields)
        else:
            ended = _together(world, tmp_path / name, **fields)
            assert ended.code == 0 and _said(ended, "teacher cache: shard ") == 3, ended
            assert _said(ended, "Student: ") == 1, ended
            assert _said(ended, "step ") == len(metrics_lines(tmp_path / name)), ended
            said = [line for line in (ended.out + ended.err).splitlines() if line.strip()]
            assert len(said) == len(set(said)), ended
    _assert_same_run(tmp_path / "two", tmp_path / "one", names=("ce", "kd", "hidden"))
    shards = [(tmp_path / f"cache-{name}" / "shard-00001.parquet").read_bytes() for name in ("one", "two")]
    assert shards[0] == shards[1]


INTERRUPTED_IN_STEP_5 = """
import os, signal, time
from fcdistill import cli
from fcdistill.distillation import run
from fcdistill.machine import launcher

class Interrupted(run.DistillTrainer):
    def compute_loss(self, *args, **kwargs):
        if self.state.global_step == 4 and launcher.is_main_process():
            os.kill(os.getppid(), signal.SIGINT)  # the launcher, as a terminal does
            time.sleep(1)
        return super().compute_loss(*args, **kwargs)

run.DistillTrainer = Interrupted
cli.main()
"""


def test_ctrl_c_saves_a_checkpoint_from_which_two_processes_go_on(world: Path, tmp_path: Path) -> None:
    """In the middle of the second epoch, whose order of examples is its own."""
    fields = {"objective": KD_AND_HIDDEN, "save_steps": 100}
    _alone(world, tmp_path / "one", **fields)
    ended = _end(_start(world, tmp_path / "two", INTERRUPTED_IN_STEP_5, **fields))
    assert ended.code != 0 and _said(ended, "fcdistill: Interrupted.") == 1, ended
    assert [path.name for path in (tmp_path / "two" / "checkpoints").iterdir()] == ["checkpoint-5"]
    assert read_json(tmp_path / "two" / "manifest.json")["status"] == "running"
    ended = _together(world, tmp_path / "two", **fields)
    assert ended.code == 0 and _said(ended, "going on from ") == 1, ended
    _assert_same_run(tmp_path / "two", tmp_path / "one", names=("ce", "kd", "hidden"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"examples_per_step": 2}, "examples_per_step is 2, but 2 processes with examples_per_pack 2 take 4 at a time"),
        ({"learning_rate": -1.0}, "section train"),
        ({"out": Path("traces.jsonl")}, "output directory traces.jsonl is a file"),
    ],
    ids=["by-all", "before-torch", "by-the-owner-of-the-directory"],
)
def test_what_is_refused_is_said_once(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(world)
    started = time.monotonic()
    ended = _together(world, **{"out": tmp_path / "run", **fields})
    assert time.monotonic() - started < 60
    assert ended.code != 0 and _said(ended, "fcdistill: ") == 1, ended
    assert re.search(rf"^fcdistill: .*{re.escape(message)}", ended.err, re.MULTILINE), ended
    assert not (tmp_path / "run").exists()


FAILS_IN_PROCESS_1 = """
from fcdistill import cli
from fcdistill.distillation import run
from fcdistill.errors import ModelError
from fcdistill.machine import launcher

class Failing(run.DistillTrainer):
    def compute_loss(self, *args, **kwargs):
        if self.state.global_step == 2 and not launcher.is_main_process():
            raise ModelError("out of luck")
        return super().compute_loss(*args, **kwargs)

run.DistillTrainer = Failing
cli.main()
"""


def test_a_process_that_fails_alone_says_so_and_ends_the_others(world: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    ended = _end(_start(world, tmp_path / "run", FAILS_IN_PROCESS_1))
    assert time.monotonic() - started < 60
    assert ended.code != 0 and "fcdistill: process 1 of 2: out of luck" in ended.err, ended
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "running"
    assert _together(world, tmp_path / "run").code == 0


FSDP_ON_CPUS = """
import os, time

os.environ |= {
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_TORCH_DEVICE": "cpu",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
import torch
from accelerate.state import DistributedType, PartialState
from fcdistill import cli
from fcdistill.distillation import run
from torch.distributed.tensor import DTensor

class Sharded(run.DistillTrainer):
    def compute_loss(self, model, *args, **kwargs):
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        if self.state.global_step == INTERRUPTED_AT - 1 and self.accelerator.is_main_process:
            os.kill(os.getppid(), 2)
            time.sleep(1)
        return super().compute_loss(model, *args, **kwargs)

run.DistillTrainer = Sharded
# accelerate itself has no FSDP on CPUs.
torch.distributed.init_process_group("gloo")
PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)

cli.main()
"""


@pytest.mark.parametrize("tuning", [{"method": "lora", "lora_rank": 4, "lora_alpha": 8}, {"method": "full"}])
def test_sharded_weights_take_the_steps_of_whole_ones(world: Path, tmp_path: Path, tuning: dict[str, Any]) -> None:
    """FSDP 2, as accelerate sets it up for GPUs, on two CPU processes; a checkpoint in between is taken up again."""
    fields = {"objective": {"kd_weight": 0.5}, "tuning": tuning, "save_steps": 100}
    _alone(world, tmp_path / "one", **fields)
    ended = _end(_start(world, tmp_path / "two", FSDP_ON_CPUS.replace("INTERRUPTED_AT", "5"), **fields))
    assert [path.name for path in (tmp_path / "two" / "checkpoints").iterdir()] == ["checkpoint-5"], ended
    ended = _end(_start(world, tmp_path / "two", FSDP_ON_CPUS.replace("INTERRUPTED_AT", "0"), **fields))
    assert ended.code == 0 and _said(ended, "going on from ") == 1, ended
    _assert_same_run(tmp_path / "two", tmp_path / "one", names=("ce", "kd"))
