"""The main job on the real models, through the command line, in the smallest size that still is the whole job."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from fcdistill.records import GenerationStats, Report, Trace
from fcdistill.storage import read_json, read_jsonl
from tests.paths import ROOT

pytestmark = pytest.mark.slow

CONFIG = ROOT / "evals" / "smart_home" / "weak_teacher.yaml"
STUDENT = "smollm2-135m-instruct"


def fcdistill(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "fcdistill.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def overrides(**fields: object) -> list[str]:
    return [part for name, value in fields.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("end-to-end")
    few = overrides(out=out / "traces", num_call_first=12, num_request_first=4, num_varied=8, num_joined=4, rounds=1)
    fcdistill("generate", str(CONFIG), *few)
    return out


@pytest.fixture(scope="module")
def teacher(made: Path) -> Path:
    short = overrides(traces=made / "traces" / "traces.jsonl", out=made / "teacher", max_steps=4, log_steps=1)
    fcdistill("adapt", str(CONFIG), *short)
    return made / "teacher"


@pytest.fixture(scope="module")
def student(made: Path, teacher: Path) -> Path:
    short = overrides(traces=made / "traces" / "traces.jsonl", out=made / "student", epochs=6, teacher=teacher)
    fcdistill("train", str(CONFIG), *short, *overrides(cache__dir=made / "cache"))
    return made / "student"


def test_the_teacher_writes_verified_traces(made: Path) -> None:
    stats = GenerationStats.model_validate(read_json(made / "traces" / "stats.json"))
    traces = read_jsonl(made / "traces" / "traces.jsonl", Trace)
    assert stats.kept == len(traces) and stats.by_source["call_first"].kept >= 4
    assert stats.completion_tokens > 0 and stats.stages["grounding"].checked >= 4


def test_the_teacher_learns_the_traces_and_the_tokens_around_calls(teacher: Path) -> None:
    lines = [json.loads(line) for line in (teacher / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["ce"] < 0.8 * lines[0]["ce"]
    with safe_open(teacher / "adapter" / "adapter_model.safetensors", "pt") as adapter:
        rows = [name for name in adapter.keys() if "trainable_tokens_delta" in name]  # noqa: SIM118
        assert rows and all(adapter.get_slice(name).get_shape()[0] == 2 for name in rows)


def test_the_student_learns_its_traces_and_answers(made: Path, student: Path) -> None:
    lines = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["ce"] < 0.5 * lines[0]["ce"]
    assert all(line[term] > 0 for line in lines for term in ("kd", "hidden", "kd_gate_pass"))
    out = made / "eval"
    fcdistill("eval", str(CONFIG), *overrides(model__model=student, out=out, limit=16))
    report = Report.model_validate(read_json(out / "report.json"))
    assert report.num_cases == 16 and report.num_unscored == 0
    assert report.parse_rate.successes >= 12  # an untrained SmolLM2 writes prose
    assert report.prompt_tokens.mean is not None and report.prompt_tokens.mean < 60
    printed = fcdistill("call", "bathroom light off", "--model", str(student))
    assert json.loads(printed) == {"name": "set_light", "arguments": {"room": "bathroom", "state": "off"}}


def test_logit_and_hidden_losses_with_lora_on_a_cut_student(made: Path) -> None:
    out = made / "cut"
    fcdistill(
        "train", str(CONFIG),
        *overrides(
            traces=made / "traces" / "traces.jsonl", out=out, max_steps=6, log_steps=1, examples_per_pack=8,
            examples_per_step=8, teacher=STUDENT, signal="online",
            student=f"{{init: from_teacher_layers, model: {STUDENT}, keep_every: 3}}",
            objective="{ce_weight: 0.5, kd_weight: 1.0, kd_temperature: 2.0, hidden_weight: 0.5}",
        ),
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for term in ("ce", "kd", "hidden"):
        assert all(line[term] > 0 for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert (out / "merged" / "model.safetensors").is_file() and (out / "adapter").is_dir()
