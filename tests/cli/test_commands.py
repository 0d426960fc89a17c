"""The command line as a user meets it: whole commands, what they print, how they end, how they are taken up again."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fcdistill import __version__, cli
from fcdistill.backends.scripted import ScriptedBackend
from fcdistill.cli import call_command, console
from fcdistill.config import EvalConfig, GenerateConfig, TrainConfig
from fcdistill.generation import pipeline
from fcdistill.records import RECORD_TYPES, EvalCase, FunctionTool, Report, Trace
from fcdistill.reporting import plots
from fcdistill.storage import read_json, read_jsonl, write_jsonl
from tests.cli.projects import SEEDS, Ended, files_below, json_lines, run_cli, run_process, write_project

Run = Callable[..., Ended]

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("accelerate", "datasets", "peft", "torch", "transformers"):
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())
from fcdistill import cli
cli.main()
"""


@pytest.fixture
def project(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a project in it."""
    write_project(tmp_path, tiny_models)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: run_cli(capsys, *arguments)


def sets(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


LIGHT_COMMANDS = [
    ["--help"],
    ["--version"],
    ["init", "--help"],
    ["generate", "--help"],
    ["inspect", "--help"],
    ["adapt", "--help"],
    ["train", "--help"],
    ["cache", "--help"],
    ["plot", "--help"],
    ["check", "--help"],
    ["eval", "--help"],
    ["compare", "--help"],
    ["traces", "export", "--help"],
    ["traces", "import", "--help"],
    ["schemas", "config"],
    ["schemas", "export", "made"],
    ["generate", "config.yaml"],
    ["eval", "config.yaml"],
    ["eval", "--cases", "cases.jsonl", "--tools", "tools.json", "--out", "o", "--predictions", "predictions.jsonl"],
]

EACH_WITHOUT_TORCH = """
import contextlib, io, json
codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fcdistill", *arguments]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
    codes.append([code, said.getvalue()])
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def ended_without_torch(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> dict[str, tuple[int, str]]:
    """How each command ends, and what it says, in one process that refuses to import torch and its like."""
    directory = tmp_path_factory.mktemp("light")
    write_project(directory, tiny_models)
    program = WITHOUT_TORCH.replace("cli.main()\n", EACH_WITHOUT_TORCH)
    ended = run_process(directory, json.dumps(LIGHT_COMMANDS), program=program)
    assert ended.code == 0, ended
    return dict(zip(map(" ".join, LIGHT_COMMANDS), json.loads(ended.out), strict=True))


@pytest.mark.parametrize("command", map(" ".join, LIGHT_COMMANDS))
def test_torch_and_transformers_are_imported_only_where_a_model_runs(
    ended_without_torch: dict[str, tuple[int, str]], command: str
) -> None:
    code, said = ended_without_torch[command]
    assert code == 0, said


def test_listing_models_imports_no_torch_and_downloads_nothing(project: Path) -> None:
    environment = {**os.environ, "FCDISTILL_CACHE": str(project / "cache")}
    ended = run_process(project, "models", "list", program=WITHOUT_TORCH, env=environment)
    assert ended.code == 0, ended
    rows = [line for line in ended.out.splitlines() if "Apache-2.0" in line]
    assert len(rows) == 2 and all("absent" in row for row in rows), ended
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in ended.out and not (project / "cache").exists()


def test_the_version(run: Run) -> None:
    assert run("--version").out == f"fcdistill {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generat"], "No such command 'generat'"),
        (["train"], "Missing argument 'CONFIG'"),
        (["train", "config.yaml", "extra"], "unexpected extra argument"),
        (["generate", "config.yaml", "--retries", "2"], "No such option"),
        (["eval", "--limit", "ten"], "Invalid value for '--limit'"),
        (["call", "hello"], "Missing option '--model'"),
        (["models", "pull"], "Missing argument"),
    ],
)
def test_arguments_that_no_command_has_are_usage_errors(run: Run, arguments: list[str], message: str) -> None:
    ended = run(*arguments)
    assert ended.code == 2 and message in ended.err and "Traceback" not in ended.err, ended


def test_no_arguments_print_the_help(run: Run) -> None:
    assert "Distil a large model's function calling" in run().out


def test_from_seeds_to_a_student_that_calls_right(run: Run, project: Path, tiny_models: Path) -> None:
    """generate, train on all weights, eval, call: a tiny student learns its six requests by heart."""
    ended = run("generate", "config.yaml")
    assert ended.code == 0 and "7 of 7 planned traces kept" in ended.out, ended
    assert ended.out.endswith("Traces: runs/traces/traces.jsonl; rejects with reasons: runs/traces/rejects.jsonl\n")
    traces = read_jsonl(project / "runs/traces/traces.jsonl", Trace)
    assert {trace.messages[0].content for trace in traces} == {"light up the attic", *(seed["text"] for seed in SEEDS)}

    tuning = sets("traces=runs/traces/traces.jsonl", "tuning={method: full}", "tools_in_prompt=none", "epochs=75")
    longer = sets("max_steps=150", "learning_rate=0.01", "examples_per_pack=4", "save_steps=100")
    ended = run("train", "config.yaml", *tuning, *longer)
    assert ended.code == 0 and "Student: runs/student (150 steps, 7 examples" in ended.out, ended

    cases = [
        {
            "id": seed["id"],
            "messages": [{"role": "user", "content": seed["text"]}],
            "behaviour": "call",
            "expected": [[{"name": "set_timer", "arguments": {"minutes": number}}]],
            "category": "simple",
        }
        for number, seed in enumerate(SEEDS, 1)
    ]
    (project / "cases.jsonl").write_text(json_lines(cases))
    suite = ["--cases", "cases.jsonl", "--tools", "tools.json", "--model", "runs/student", "--batch-size", "4"]
    ended = run("eval", *suite, "--out", "runs/report")
    assert ended.code == 0 and "Call accuracy 100.0%" in ended.out and "6 of 6 cases right" in ended.out, ended
    report = Report.model_validate(read_json(project / "runs/report/report.json"))
    assert report.call_accuracy.value == 1.0 and report.model is not None and report.model.model == "runs/student"
    assert "100.0%" in (project / "runs/report/report.md").read_text()

    ended = run("call", SEEDS[2]["text"], "--model", "runs/student")
    assert ended.code == 0, ended
    assert json.loads(ended.out) == {"name": "set_timer", "arguments": {"minutes": 3}}


def test_all_losses_with_lora_from_a_teacher(run: Run, project: Path) -> None:
    objective = "objective={kd_weight: 0.5, kd_temperature: 2.0, hidden_weight: 0.5, num_layer_pairs: 2}"
    ended = run("train", "config.yaml", *sets(objective))
    assert ended.code == 0, ended
    lines = [json.loads(line) for line in (project / "runs/student/metrics.jsonl").read_text().splitlines()]
    assert all(line["kd"] > 0 and line["hidden"] > 0 for line in lines), lines
    assert {path.name for path in (project / "runs/student").iterdir()} >= {"adapter", "merged", "manifest.json"}
    again = run("train", "config.yaml", *sets(objective))
    assert again.code == 0 and again.out.startswith("Student: runs/student (2 steps"), again

    for name, model in (("merged", "runs/student"), ("adapter", "runs/student/adapter")):
        changes = sets(f"model={{model: {model}, dtype: float32}}", "decode.max_new_tokens=8", f"out=runs/{name}")
        ended = run("eval", "config.yaml", *changes)
        assert ended.code == 0 and "of 2 cases right" in ended.out, ended
    answers = [(project / "runs" / name / "predictions.jsonl").read_text() for name in ("merged", "adapter")]
    texts = [[json.loads(line)["text"] for line in answer.splitlines()] for answer in answers]
    assert texts[0] == texts[1]


def test_a_teacher_is_adapted_and_then_teaches_fills_a_cache_and_generates(run: Run, project: Path) -> None:
    longer = sets("max_steps=40", "epochs=40", "learning_rate=0.01", "save_steps=100", "log_steps=20")
    ended = run("adapt", "config.yaml", *longer)
    assert ended.code == 0 and ended.out.startswith("Teacher: runs/teacher (40 steps, 8 examples"), ended
    again = run("adapt", "config.yaml", *longer)
    assert again.code == 0 and again.out == ended.out and "runs/teacher is already trained" in again.err, again
    assert json.loads((project / "runs/teacher/merged/fcdistill.json").read_text())["tools_in_prompt"] == "full"

    objective = sets("objective.kd_weight=1.0", "objective.kd_gate=agree", "max_steps=1")
    nll, passed = {}, {}
    for name, teacher in (("raw", ()), ("adapted", ("teacher=runs/teacher",))):
        ended = run("train", "config.yaml", *objective, *sets(*teacher, f"out=runs/{name}"))
        assert ended.code == 0 and "its likeliest" in ended.err, ended
        nll[name] = json.loads((project / "runs" / name / "teacher.json").read_text())["overall"]["nll"]
        passed[name] = json.loads((project / "runs" / name / "metrics.jsonl").read_text())["kd_gate_pass"]
    assert nll["adapted"] < 0.5 * nll["raw"] and passed["adapted"] > passed["raw"]

    ended = run("cache", "config.yaml", *sets("teacher=runs/teacher"))
    assert ended.code == 0 and "8 traces" in ended.out, ended
    teacher = "teacher={model: runs/teacher, dtype: float32, device: cpu}"
    ended = run("generate", "config.yaml", *sets(teacher, "max_new_tokens=24", "attempts=1"))
    assert ended.code == 0 and "of 7 planned traces kept" in ended.out, ended


def test_a_teacher_learns_between_rounds(run: Run, project: Path, tiny_models: Path) -> None:
    teacher = f"teacher={{model: {tiny_models}/teacher, dtype: float32, device: cpu}}"
    adaptation = "adaptation={max_steps: 1, examples_per_step: 1, examples_per_pack: 1, dtype: float32, device: cpu}"
    flags = ["generate", "config.yaml", "--rounds", "2", *sets(teacher, adaptation, "max_new_tokens=8", "attempts=1")]
    ended = run(*flags)
    assert ended.code == 0 and "1 of 7 planned traces kept in 12 attempts" in ended.out, ended
    table = [line.split() for line in ended.out.partition("Rounds")[2].splitlines()[:7]]
    learned = "runs/traces/teacher-round-2"
    assert ["1", f"{tiny_models}/teacher", "6", "0", "0.0%"] in table and ["2", learned, "6", "0", "0.0%"] in table
    manifest = read_json(project / learned / "manifest.json")
    assert (manifest["stage"], manifest["inputs"].keys()) == ("adapt", {"runs/traces/traces-round-1.jsonl"})
    again = run(*flags)
    assert again.code == 0 and again.out == ended.out and "already trained" not in again.err, again
    ended = run("eval", "config.yaml", *sets(f"model={{model: {learned}, dtype: float32, device: cpu}}"))
    assert ended.code == 0 and "of 2 cases right" in ended.out, ended


def test_training_draws_its_curves_where_it_can_and_says_so_where_not(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(plots, "can_draw", lambda: False)
        ended = run("train", "config.yaml")
    assert ended.code == 0 and "matplotlib is not installed (pip install 'fcdistill[report]')" in ended.out, ended
    assert not (project / "runs/student/plots").exists()
    pytest.importorskip("matplotlib")
    ended = run("train", "config.yaml")  # a finished run only draws
    assert ended.code == 0 and ended.out.endswith("Plots: runs/student/plots\n"), ended
    assert (project / "runs/student/plots/losses.png").is_file()


def test_a_monitored_training_prints_its_call_accuracy(run: Run) -> None:
    monitor = "monitor={steps: 1, patience: 1, max_new_tokens: 2}"
    ended = run("train", "config.yaml", *sets(monitor, "held_out_fraction=0.3", "max_steps=1"))
    assert ended.code == 0 and "Held-out call accuracy: 0.0% (its best, at step 1)\n" in ended.out, ended


def test_runs_are_drawn_without_torch(project: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, loss in (("sft", 2.0), ("kd", 1.0)):
        lines = [{"step": step, "epoch": 0.5 * step, "loss": loss / step} for step in (1, 2)]
        (project / name).mkdir()
        (project / name / "metrics.jsonl").write_text(json_lines(lines))
    ended = run_process(project, "plot", "sft", program=WITHOUT_TORCH)
    assert ended.code == 0 and ended.out == "sft/plots/losses.png\nsft/plots/losses.svg\n", ended
    ended = run_process(project, "plot", "sft", "kd", program=WITHOUT_TORCH)
    assert ended.code == 0 and ended.out == "plots/losses.png\nplots/losses.svg\n", ended
    ended = run_process(project, "plot", "sft", "nothing", "--out", "other", program=WITHOUT_TORCH)
    assert ended.code == 2 and "metrics nothing/metrics.jsonl does not exist" in ended.err, ended
    assert not (project / "other").exists()


def test_check_works_out_the_memory_without_weights(run: Run, project: Path, tiny_models: Path) -> None:
    shutil.copytree(tiny_models / "teacher", project / "described", ignore=shutil.ignore_patterns("*.safetensors"))
    changes = sets("objective.kd_weight=1.0", "teacher=described")
    ended = run("check", "config.yaml", *changes)
    assert ended.code == 0 and "Memory while training, on cpu" in ended.out, ended
    assert "warning: the weights of described are not here yet" in ended.out and "fits" in ended.out, ended
    ended = run("check", "config.yaml", *changes, "--json")
    report = json.loads(ended.out)
    assert ended.code == 0 and report["teacher"]["model"] == "described" and report["tokens"]["steps"] == 2, ended
    ended = run("check", "config.yaml", "--processes", "3")
    assert ended.code == 2 and "training would be refused here: examples_per_step is 4" in ended.err, ended
    assert not (project / "runs").exists()


def test_a_cache_is_not_written_by_several_processes(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    ended = run("cache", "config.yaml")
    assert ended.code == 2 and "`fcdistill cache` was launched as 2 processes" in ended.err, ended


def test_a_process_beside_the_main_one_lets_it_speak_first(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(console.time, "sleep", waited.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    ended = run("train", "nope.yaml")
    assert ended.code == 2 and ended.err.startswith("fcdistill: process 1 of 2: config nope.yaml does not exist"), ended
    assert len(waited) == 1 and 1 < waited[0] < 60


def test_a_cache_is_written_once_and_read_by_every_training(run: Run, project: Path) -> None:
    objective = "objective={kd_weight: 0.5, kd_temperature: 2.0, hidden_weight: 0.5, num_layer_pairs: 2}"
    ended = run("cache", "config.yaml", *sets(objective))
    assert ended.code == 0, ended
    assert re.fullmatch(r"Cache: runs/cache \(8 traces, \d+ tokens, \d+ bytes/token, \d+ s\)\n", ended.out), ended
    assert ended.err.count("teacher cache: shard ") == 3, ended
    before = files_below(project / "runs/cache")
    assert before.keys() >= {"index.jsonl", "manifest.json", "shard-00002.json", "shard-00002.parquet"}
    again = run("cache", "config.yaml", *sets(objective))
    assert again.code == 0 and again.out.split(",")[:3] == ended.out.split(",")[:3], again
    assert again.err == "teacher cache runs/cache: 8 traces, complete\n", again
    for out in ("one", "two"):
        ended = run("train", "config.yaml", *sets(objective, "signal=cached", f"out=runs/{out}"))
        assert ended.code == 0 and "Student: runs/" in ended.out, ended
        assert "teacher cache runs/cache: 8 traces, complete" in ended.err, ended
    lines = [json.loads(line) for line in (project / "runs/two/metrics.jsonl").read_text().splitlines()]
    assert all(line["kd"] > 0 and line["hidden"] > 0 for line in lines), lines
    assert files_below(project / "runs/cache") == before


def test_training_makes_the_cache_that_it_lacks(run: Run, project: Path) -> None:
    ended = run("train", "config.yaml", *sets("objective.kd_weight=1.0", "signal=cached", "cache.top_k=4"))
    assert ended.code == 0 and ended.err.count("teacher cache: shard ") == 3, ended
    manifest = json.loads((project / "runs/cache/manifest.json").read_text())
    assert (manifest["stage"], manifest["status"], manifest["config"]["top_k"]) == ("cache", "complete", 4)


def test_a_student_cut_from_its_teacher(run: Run, tiny_models: Path) -> None:
    student = f"student={{init: from_teacher_layers, model: '{tiny_models}/teacher', keep_layers: [0, 2]}}"
    ended = run("train", "config.yaml", *sets(student, "max_steps=1", "objective.kd_weight=1.0"))
    assert ended.code == 0 and "(1 steps" in ended.out, ended


def test_rejects_of_a_finished_run_are_tried_again(run: Run, project: Path) -> None:
    answers = (project / "answers.jsonl").read_text()
    (project / "answers.jsonl").write_text(answers.replace('\\"minutes\\": 3', '\\"minutes\\": 4'))
    assert "6 of 7 planned traces kept" in run("generate", "config.yaml").out
    (project / "answers.jsonl").write_text(answers)
    assert "6 of 7 planned traces kept" in run("generate", "config.yaml").out
    assert "7 of 7 planned traces kept" in run("generate", "config.yaml", "--retry-rejects").out


def test_a_generation_in_shards(run: Run, project: Path) -> None:
    ended = run("generate", "config.yaml", "--shard", "2/2")
    assert ended.code == 0 and "3 of 3 planned traces kept" in ended.out and "Shard 2/2 is done." in ended.out, ended
    ended = run("generate", "config.yaml")
    assert ended.code == 2 and "1/2 is missing" in ended.err, ended
    assert run("generate", "config.yaml", "--set", "shard=1/2").code == 0
    ended = run("generate", "config.yaml")
    assert ended.code == 0 and "7 of 7 planned traces kept" in ended.out, ended
    assert len((project / "runs/traces/traces.jsonl").read_text().splitlines()) == 7


@pytest.mark.slow
def test_a_generation_with_ray(project: Path) -> None:
    pytest.importorskip("ray")
    ended = run_process(project, "generate", "config.yaml", "--ray", "2")
    assert ended.code == 0 and "7 of 7 planned traces kept" in ended.out, ended
    again = run_process(project, "generate", "config.yaml", "--ray", "2")
    assert again.code == 0 and "7 of 7 planned traces kept" in again.out, again


def test_saved_predictions_are_scored(run: Run, project: Path) -> None:
    suite = ["--cases", "cases.jsonl", "--tools", "tools.json", "--out", "o", "--predictions", "predictions.jsonl"]
    ended = run("eval", *suite)
    assert ended.code == 0 and "1 of 2 cases right" in ended.out, ended
    assert "Report: o/report.md, o/report.json, o/report.html, o/junit.xml" in ended.out, ended
    assert "<h1>o</h1>" in (project / "o/report.html").read_text()
    limited = run("eval", *suite, "--limit", "1")
    assert limited.code == 0 and "1 of 1 cases right" in limited.out, limited


def test_a_gate_fails_the_command_and_all_that_it_writes_says_so(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "summary.md"))
    suite = ["--cases", "cases.jsonl", "--tools", "tools.json", "--out", "o", "--predictions", "predictions.jsonl"]
    ended = run("eval", *suite, "--min-accuracy", "0.5")
    assert ended.code == 0 and "Gate: passed" in ended.out, ended
    ended = run("eval", *suite, "--min-accuracy", "0.6", "--write-baseline", "base.json")
    assert ended.code == 1 and "Gate: FAILED" in ended.out and not (project / "base.json").exists(), ended
    assert "fcdistill: the gate failed: call accuracy is 50.0%, and at least 60.0% is required" in ended.err
    assert Report.model_validate(read_json(project / "o/report.json")).gate is not None
    assert "Gate: FAILED" in (project / "o/report.md").read_text()
    assert 'type="min_accuracy"' in (project / "o/junit.xml").read_text()
    summary = (project / "summary.md").read_text()
    assert summary.index("Gate: passed") < summary.index("Gate: FAILED")


def test_a_run_is_judged_against_a_baseline(run: Run, project: Path) -> None:
    suite = ["--cases", "cases.jsonl", "--tools", "tools.json"]
    first = run("eval", *suite, "--out", "a", "--predictions", "predictions.jsonl", "--write-baseline", "base.json")
    assert first.code == 0 and "Baseline: base.json" in first.out, first
    # The configuration's model gives the same answers; CI adds its gate to it.
    ended = run("eval", "config.yaml", "--baseline", "base.json", "--max-drop", "0")
    assert ended.code == 0 and "Gate: passed" in ended.out and "Warning: the suite is small" in ended.out, ended
    cases = (project / "cases.jsonl").read_text()
    (project / "cases.jsonl").write_text(cases.replace("on the clock", "on a clock"))
    (project / "predictions.jsonl").write_text(json_lines([{"id": f"c{n}", "text": "no"} for n in (2, 3)]))
    other = ["--out", "b", "--predictions", "predictions.jsonl", "--baseline", "base.json"]
    ended = run("eval", *suite, *other)
    assert ended.code == 2 and "cases_sha256 was" in ended.err and "--write-baseline" in ended.err, ended
    ended = run("eval", *suite, *other, "--allow-mismatch")
    assert ended.code == 0 and "Allowed mismatch with the baseline: cases_sha256" in ended.out, ended


def test_a_baseline_of_other_conditions_is_refused_before_a_model_is_loaded(
    run: Run, project: Path, tiny_models: Path
) -> None:
    suite = ["--cases", "cases.jsonl", "--tools", "tools.json"]
    run("eval", *suite, "--out", "a", "--predictions", "predictions.jsonl", "--write-baseline", "base.json")
    ended = run("eval", *suite, "--out", "b", "--model", "no-such-model", "--limit", "1", "--baseline", "base.json")
    assert ended.code == 2 and "cases_sha256 was" in ended.err and "no-such-model" not in ended.err, ended
    template = sets("model={model: {models}/cut_short}".replace("{models}", str(tiny_models)), "out=c")
    baseline = read_json(project / "base.json") | {"template_sha256": "0" * 64, "tools_in_prompt": "none"}
    (project / "base.json").write_text(json.dumps(baseline))
    ended = run("eval", "config.yaml", *template, "--baseline", "base.json")
    assert ended.code == 2 and "template_sha256 was 000000000000… and is " in ended.err, ended
    assert "tools_in_prompt was none and is full" in ended.err and ended.err.startswith("fcdistill: "), ended
    missing = run("eval", *suite, "--out", "b", "--model", "no-such-model", "--baseline", "none.json")
    assert missing.code == 2 and "baseline none.json does not exist" in missing.err, missing


def test_raw_and_constrained_answers_stand_side_by_side(run: Run, project: Path, tiny_models: Path) -> None:
    cases = read_jsonl(project / "cases.jsonl", EvalCase, "cases")
    more = [case.model_copy(update={"id": f"{case.id}-{n}"}) for case in cases for n in range(3)]
    write_jsonl(project / "cases.jsonl", more)
    suite = ["--cases", "cases.jsonl", "--tools", "tools.json", "--model", str(tiny_models / "student")]
    for name, flags in (("raw", []), ("constrained", ["--constrained"])):
        ended = run("eval", *suite, "--out", name, *flags)
        assert ended.code == 0, ended
    assert read_json(project / "constrained" / "manifest.json")["config"]["decode"]["constrained"] is True
    ended = run("compare", "raw", "constrained")
    assert ended.code == 0 and "Against raw" in ended.out, ended
    assert "note: constrained and raw differ in their decode settings" in ended.err
    ended = run("eval", *suite, "--out", "raw", "--constrained")
    assert ended.code == 2 and "another configuration" in ended.err, ended


@pytest.mark.parametrize(
    ("answer", "code", "out", "err"),
    [
        (
            '<tool_call>{"name": "set_timer", "arguments": {"minutes": 5}}</tool_call>',
            0,
            '{"name": "set_timer", "arguments": {"minutes": 5}}\n',
            "",
        ),
        ("Which timer do you mean?", 0, "Which timer do you mean?\n", ""),
        (
            '{"name": "set_timer", "arguments": {"minutes": "five"}}',
            1,
            '{"name": "set_timer", "arguments": {"minutes": "five"}}\n',
            "set_timer/minutes: 'five' is not of type 'integer'",
        ),
        ('{"name": "set_tmier", "arguments": {}}', 1, '{"name": "set_tmier", "arguments": {}}\n', "did you mean"),
        ('<tool_call>{"name": "set_timer", "arg', 1, "", "unclosed"),
        (None, 3, "", "the request could not be answered: the script has no answer"),
    ],
)
def test_a_call_is_printed_and_judged(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None, code: int, out: str, err: str
) -> None:
    backend = ScriptedBackend({} if answer is None else {"5 minutes": answer})
    tools = tuple(FunctionTool.model_validate(tool) for tool in read_json(project / "tools.json"))
    monkeypatch.setattr(
        call_command, "_local_backend", lambda config: (backend, tools if config.model == "trained" else ())
    )
    for arguments in (["--model", "trained"], ["--model", "plain", "--tools", "tools.json", "--system", "It is noon."]):
        ended = run("call", "5 minutes", *arguments)
        assert (ended.code, ended.out) == (code, out), ended
        assert err in ended.err and bool(ended.err) == bool(code), ended


def test_a_constrained_call_is_a_call_or_text(run: Run, tiny_models: Path) -> None:
    call = ["call", "5 minutes", "--tools", "tools.json", "--model"]
    ended = run(*call, str(tiny_models / "student"), "--constrained")
    # Random weights: whatever is not finished after the longest answer is not valid, all else is.
    assert ended.code == 0 or "unclosed" in ended.err, ended
    ended = run(*call, str(tiny_models / "wordpiece"), "--constrained")
    assert ended.code == 2 and "llguidance can't read the tokenizer" in ended.err, ended


def test_misuse_of_call(run: Run, tiny_models: Path) -> None:
    for arguments, message in (
        ((" ", "--model", "x"), "the request is empty"),
        (("hi", "--model", f"{tiny_models}/student"), "knows no tools of its own"),
        (("hi", "--model", "./nowhere"), "model ./nowhere: no such directory or file"),
        (("hi", "--model", "x", "--tools", "none.json"), "tool catalogue none.json does not exist"),
    ):
        ended = run("call", *arguments)
        assert ended.code == 2 and ended.err.startswith("fcdistill: ") and message in ended.err, ended


def test_an_unknown_name_of_the_catalogue(run: Run) -> None:
    ended = run("models", "pull", "smollm3")
    assert ended.code == 2 and ended.err.startswith("fcdistill: ") and "smollm2-135m-instruct" in ended.err, ended


def test_schemas_are_written_and_drift_is_found(run: Run, project: Path) -> None:
    assert run("schemas", "export", "made").code == 0
    assert {path.stem for path in (project / "made").iterdir()} == set(RECORD_TYPES)
    assert run("schemas", "export", "made", "--check").code == 0
    (project / "made/trace.json").write_text("{}")
    (project / "made/score.json").unlink()
    before = files_below(project)
    ended = run("schemas", "export", "made", "--check")
    assert ended.code == 2 and "made/trace.json" in ended.err and "made/score.json" in ended.err, ended
    assert "made/report.json" not in ended.err and files_below(project) == before


def test_every_config_field_is_described(run: Run) -> None:
    out = run("schemas", "config").out
    names = {name for config in (GenerateConfig, TrainConfig, EvalConfig) for name in config.model_fields}
    assert not {name for name in names if name not in out}


@pytest.mark.parametrize("arguments", [["schemas", "config"], ["--version"]])
def test_a_reader_that_goes_away_is_no_defect(project: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "fcdistill.cli", *arguments], stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_a_defect_is_told_from_a_users_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(pipeline, "run_generation", fail)
    ended = run("generate", "config.yaml")
    assert ended.code == 3 and ended.err.startswith("fcdistill: internal error"), ended
    assert "KeyError: 'lost'" in ended.err and "FCDISTILL_DEBUG=1" in ended.err and "Traceback" not in ended.err
    monkeypatch.setenv("FCDISTILL_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["fcdistill", "generate", "config.yaml"])
    with pytest.raises(KeyError):
        cli.main()


SLOW = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the parent ignores it
from fcdistill.backends.base import Completion
from fcdistill.backends.scripted import ScriptedBackend
from fcdistill.generation import generator
generator._CHUNK = 2
answers = []

def complete(self, requests, settings):
    for request in requests:
        if len(answers) == 4:
            pathlib.Path("ready").touch()
            time.sleep(60)
        answers.append(request.id)
        yield Completion(request.id, self._answers[request.messages[-1].content], "stop")

ScriptedBackend.complete = complete
from fcdistill import cli
cli.main()
"""

SLOW_TRAINING = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from fcdistill.distillation.trainer import DistillTrainer
compute_loss = DistillTrainer.compute_loss

def slowly(self, *arguments, **options):
    if self.state.global_step == 2:
        pathlib.Path("ready").touch()
        for _ in range(600):
            time.sleep(0.1)
            if pathlib.Path("go").exists():
                break
    return compute_loss(self, *arguments, **options)

DistillTrainer.compute_loss = slowly
from fcdistill import cli
cli.main()
"""


def interrupted(project: Path, program: str, *arguments: str) -> Ended:
    """Run a program, send it Ctrl-C when it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=project,
    )
    try:
        while not (project / "ready").exists():
            assert process.poll() is None, process.communicate()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05)
        process.send_signal(signal.SIGINT)
        (project / "go").touch()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


def test_ctrl_c_in_generate_keeps_what_is_done(run: Run, project: Path) -> None:
    ended = interrupted(project, SLOW, "generate", "config.yaml")
    assert ended.code == 130 and "Traceback" not in ended.err, ended
    last = ended.err.splitlines()[-1]
    assert last == "fcdistill: Interrupted. Finished work is kept: run the same command again.", ended
    kept = (project / "runs/traces/journal.jsonl").read_text()
    assert kept.count("\n") == 4
    assert not (project / "runs/traces/traces.jsonl").exists()
    ended = run("generate", "config.yaml")
    assert ended.code == 0 and "7 of 7 planned traces kept" in ended.out, ended
    assert (project / "runs/traces/journal.jsonl").read_text().startswith(kept)
    assert len(read_jsonl(project / "runs/traces/traces.jsonl", Trace)) == 7


def test_ctrl_c_in_train_keeps_a_checkpoint(run: Run, project: Path) -> None:
    changes = sets("max_steps=4", "save_steps=100")
    ended = interrupted(project, SLOW_TRAINING, "train", "config.yaml", *changes)
    assert ended.code == 130 and "Traceback" not in ended.err, ended
    assert ended.err.splitlines()[-1].startswith("fcdistill: Interrupted."), ended
    assert [path.name for path in (project / "runs/student/checkpoints").iterdir()] == ["checkpoint-3"]
    ended = run("train", "config.yaml", *changes)
    assert ended.code == 0 and "(4 steps" in ended.out, ended


@pytest.mark.parametrize(
    ("command", "kilobytes", "message"),
    [
        ("generate", 4, "could not append to runs/traces/journal.jsonl: File too large"),
        ("train", 8, "could not write a checkpoint in runs/student/checkpoints: "),
        ("train", 40, "could not write a checkpoint in runs/student/checkpoints: "),
        ("train", 120, "could not write runs/student/merged: "),
        ("cache", 4, "could not write runs/cache/shard-00000.parquet: File too large"),
        ("eval", 1, "could not write runs/eval/"),
    ],
)
def test_a_disk_that_fills_up_in_the_middle(
    run: Run, project: Path, command: str, kilobytes: int, message: str
) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, unlimited[1]))
    try:
        ended = run(command, "config.yaml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert ended.code == 3, ended
    assert message in ended.err and "finished work is kept" in ended.err and "Traceback" not in ended.err, ended
    assert not [name for name in files_below(project) if ".tmp" in name]
    assert run(command, "config.yaml").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["generate", "nope.yaml"], 2, "config nope.yaml does not exist"),
        (["train", "config.yaml", "--set", "student.model=./nowhere"], 2, "model ./nowhere: no such directory"),
        (["eval", "config.yaml", "--set", "cases=none.jsonl"], 2, "cases none.jsonl does not exist"),
        (["eval", "config.yaml", "--set", "out=/dev/null/x"], 3, "could not create /dev/null/x: Not a directory"),
    ],
)
def test_misuse_in_a_process_of_its_own(project: Path, arguments: list[str], code: int, message: str) -> None:
    ended = run_process(project, *arguments)
    assert ended.code == code and ended.out == "", ended
    assert ended.err.startswith("fcdistill: ") and message in ended.err and "Traceback" not in ended.err, ended
