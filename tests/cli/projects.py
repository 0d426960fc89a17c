"""A small project for tests of the command line: a config with all sections, its files, and tiny models."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import decoders, normalizers

from fcdistill import cli
from fcdistill.config import LoraTuning
from fcdistill.models.students import StudentCard, apply_lora, save_student
from fcdistill.records import ModelRef
from tests.distillation.tiny_data import tiny_traces
from tests.tiny import tiny_model, tiny_tokenizer

__all__ = [
    "Ended",
    "files_below",
    "invoke",
    "json_lines",
    "local_student",
    "make_models",
    "run_cli",
    "run_process",
    "write_project",
]

ROOMS = ("kitchen", "bedroom", "hall")
SEEDS = [{"id": f"s{n}", "text": f"Set a timer for {n} minutes.", "category": "simple"} for n in range(1, 7)]


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def invoke(*arguments: str) -> int:
    """Run `fcdistill` in this process, as its entry point does; the exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["fcdistill", *arguments])
        cli.main()
    return int(stop.value.code or 0)


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """Run `fcdistill` in this process and catch what it prints."""
    capsys.readouterr()
    code = invoke(*arguments)
    captured = capsys.readouterr()
    return Ended(code, captured.out, captured.err)


def local_student(directory: Path) -> None:
    """Let `eval` ask the models that the study names."""
    config = directory / "config.yaml"
    scripted = "model: {backend: scripted, answers: answers.jsonl}"
    local = "model: {model: unset, dtype: float32, device: cpu}\n  decode: {max_new_tokens: 4}"
    text = config.read_text()
    assert text.count(f"  {scripted}") == 1
    config.write_text(text.replace(f"  {scripted}", f"  {local}"))


def run_process(directory: Path, *arguments: str, program: str = "", **options: Any) -> Ended:
    """Run `python -m fcdistill.cli`, or a program that calls it, in a process of its own."""
    command = ["-c", program] if program else ["-m", "fcdistill.cli"]
    done = subprocess.run(
        [sys.executable, *command, *arguments], cwd=directory, capture_output=True, text=True, timeout=60, **options
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def json_lines(records: Sequence[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def config_text(models: Path) -> str:
    """Sections for all stages; `generate` and `eval` have a scripted backend."""
    return f"""\
generate:
  tools: tools.json
  seeds: seeds.jsonl
  values: values.json
  examples: examples.jsonl
  decontaminate: [cases.jsonl]
  out: runs/traces
  teacher: {{backend: scripted, answers: answers.jsonl}}
  num_call_first: 0
adapt:
  traces: traces.jsonl
  out: runs/teacher
  teacher: {models}/teacher
  tuning: {{lora_rank: 4, lora_alpha: 8}}
  max_steps: 2
  examples_per_step: 4
  examples_per_pack: 2
  log_steps: 1
  dtype: float32
  device: cpu
train:
  traces: traces.jsonl
  out: runs/student
  student: {{model: {models}/student}}
  teacher: {models}/teacher
  cache: {{dir: runs/cache, shard_traces: 3}}
  tools_in_prompt: compact
  tuning: {{lora_rank: 4, lora_alpha: 8}}
  max_steps: 2
  examples_per_step: 4
  examples_per_pack: 2
  save_steps: 1
  log_steps: 1
  dtype: float32
  device: cpu
eval:
  cases: cases.jsonl
  tools: tools.json
  out: runs/eval
  model: {{backend: scripted, answers: answers.jsonl}}
"""


def write_project(directory: Path, models: Path) -> None:
    """Write the config and the files that it names."""
    tools = [tool.model_dump(mode="json") for tool in tiny_traces(1)[0].tools]
    cases: list[dict[str, Any]] = [
        {
            "id": f"c{n}",
            "messages": [{"role": "user", "content": f"{n} minutes on the clock"}],
            "behaviour": "call",
            "expected": [[_timer(n)]],
            "category": "simple",
        }
        for n in (2, 3)
    ]
    answers = [{"request": seed["text"], "text": json.dumps(_timer(n))} for n, seed in enumerate(SEEDS, 1)]
    answers += [{"request": case["messages"][0]["content"], "text": json.dumps(_timer(2))} for case in cases]
    example = {"id": "e1", "request": "light up the attic", "category": "simple"}
    contents = {
        "config.yaml": config_text(models),
        "tools.json": json.dumps(tools),
        "seeds.jsonl": json_lines(SEEDS),
        "values.json": json.dumps({"set_light.room": ROOMS}),
        "examples.jsonl": json_lines([{**example, "calls": [{"name": "set_light", "arguments": {"room": "attic"}}]}]),
        "cases.jsonl": json_lines(cases),
        "answers.jsonl": json_lines(answers),
        "traces.jsonl": "".join(trace.model_dump_json() + "\n" for trace in tiny_traces(8)),
        "predictions.jsonl": json_lines([{"id": case["id"], "text": json.dumps(_timer(2))} for case in cases]),
    }
    for name, text in contents.items():
        (directory / name).write_text(text)


def _timer(minutes: int) -> dict[str, Any]:
    return {"name": "set_timer", "arguments": {"minutes": minutes}}


def make_models(directory: Path) -> Path:
    """Save tiny models: a student, its teacher, some of other tokenizers (`chatml` alone is alignable), broken ones."""
    size = len(tiny_tokenizer("qwen"))
    models = {
        "student": (tiny_model("llama", size, num_layers=2), "qwen"),
        "teacher": (tiny_model("llama", size + 5, hidden_size=48, num_layers=3, seed=1), "qwen"),
        "chatml": (tiny_model("llama", 500, num_layers=2, seed=1), "chatml"),
        "lowercase": (tiny_model("llama", 500, num_layers=2, seed=1), "chatml"),
        "wordpiece": (tiny_model("llama", 500, num_layers=2, seed=1), "chatml"),
    }
    for name, (model, kind) in models.items():
        model.save_pretrained(directory / name)
        tokenizer = tiny_tokenizer(kind)  # type: ignore[arg-type]
        if name == "lowercase":
            tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
        elif name == "wordpiece":
            tokenizer.backend_tokenizer.decoder = decoders.WordPiece()
        tokenizer.save_pretrained(directory / name)

    def broken(name: str, files: dict[str, bytes], without: str = "") -> None:
        shutil.copytree(directory / "student", directory / name)
        if without:
            (directory / name / without).unlink()
        for file, content in files.items():
            (directory / name / file).write_bytes(content)

    weights = (directory / "student" / "model.safetensors").read_bytes()
    broken("cut_short", {"model.safetensors": weights[:-1000]})
    broken("no_config", {"config.json": b"{"})
    broken("no_tokenizer", {}, without="tokenizer.json")
    broken("pickled", {"pytorch_model.bin": b"\x80"}, without="model.safetensors")
    (directory / "no_model").mkdir()
    (directory / "unfinished").mkdir()
    shutil.copy(directory / "student" / "config.json", directory / "unfinished" / "manifest.json")
    (directory / "broken.gguf").write_bytes(b"GGUF" + bytes(60))
    card = StudentCard(tools_in_prompt="full", tools=(), base=ModelRef(model=str(directory / "deleted")))
    adapted = apply_lora(tiny_model("llama", size, num_layers=2), LoraTuning(lora_rank=2))
    save_student(adapted, tiny_tokenizer("qwen"), directory / "orphan", card)
    return directory


def files_below(directory: Path) -> dict[str, bytes]:
    """Every file with its content."""
    return {
        os.fspath(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
