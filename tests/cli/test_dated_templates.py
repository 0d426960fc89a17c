"""A model whose chat template writes today's date, on two days: what is asked, cached, trained and judged stays one."""

import datetime
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.utils import chat_template_utils

from fcdistill.config import load_config
from fcdistill.prompts.rendering import template_sha256
from fcdistill.records import Prediction
from fcdistill.storage import iter_jsonl, read_json
from tests.cli.projects import Ended, files_below, run_cli, write_project
from tests.distillation.world import train_until_sealed, trained_weights
from tests.tiny import tiny_model, tiny_tokenizer

Run = Callable[..., Ended]

DATE = "{{- 'Today: ' + strftime_now('%d %b %Y') + '\n' -}}"
FIRST, NEXT = datetime.datetime(2026, 3, 1, 23, 59), datetime.datetime(2026, 3, 2, 0, 1)
OTHER = "template_date=2025-01-03"


@pytest.fixture(scope="module")
def dated_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dated")
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.chat_template = DATE + str(tokenizer.chat_template)
    for seed, name in enumerate(("student", "teacher")):
        tiny_model("llama", len(tokenizer), num_layers=2, seed=seed).save_pretrained(directory / name)
        tokenizer.save_pretrained(directory / name)
    return directory


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime.datetime], None]:
    """Sets the clock that templates see."""

    def set_clock(moment: datetime.datetime) -> None:
        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "Clock":
                return cls.combine(moment.date(), moment.time(), tz)

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)
        tokenizer = tiny_tokenizer("qwen")
        tokenizer.chat_template = DATE
        said = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
        assert said == f"Today: {moment:%d %b %Y}\n"

    return set_clock


@pytest.fixture
def run(tmp_path: Path, dated_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    write_project(tmp_path, dated_models)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_cli(capsys, *arguments)


def sets(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def hash_of(date: str) -> str:
    """The hash of the template with a date."""
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.chat_template = DATE + str(tokenizer.chat_template)
    tokenizer.init_kwargs["template_date"] = date
    return template_sha256(tokenizer)


def test_a_cache_of_one_day_is_read_on_the_next(run: Run, today: Callable[[datetime.datetime], None]) -> None:
    signal = sets("objective.kd_weight=1.0", "signal=cached", "tools_in_prompt=none", "max_steps=1")
    today(FIRST)
    assert run("cache", "config.yaml", *signal).code == 0
    before = files_below(Path("runs/cache"))
    manifest = read_json(Path("runs/cache/manifest.json"))
    assert manifest["config"]["template_date"] == "2024-07-26"
    today(NEXT)
    for ended in (run("train", "config.yaml", *signal), run("cache", "config.yaml", *signal)):
        assert ended.code == 0 and "teacher cache runs/cache: 8 traces, complete" in ended.err, ended
    assert files_below(Path("runs/cache")) == before
    for command in ("cache", "train"):
        ended = run(command, "config.yaml", *signal, *sets(OTHER, f"out=runs/{command}"))
        assert ended.code == 2 and "template_date: was '2024-07-26', is '2025-01-03'" in ended.err, ended
    assert files_below(Path("runs/cache")) == before


def test_a_training_goes_on_after_midnight_with_the_prompts_that_it_began_with(
    run: Run, today: Callable[[datetime.datetime], None]
) -> None:
    changes = ["objective.kd_weight=0.0", "tools_in_prompt=none", "max_steps=3"]
    today(FIRST)
    assert run("train", "config.yaml", *sets(*changes, "out=runs/whole")).code == 0
    config = load_config(Path("config.yaml"), "train", [*changes, "out=runs/killed"])
    assert train_until_sealed(config, "checkpoint-2") == -signal.SIGKILL
    today(NEXT)
    other = run("train", "config.yaml", *sets(*changes, "out=runs/killed", OTHER))
    assert other.code == 2 and "template_date: was None, is '2025-01-03'" in other.err, other
    ended = run("train", "config.yaml", *sets(*changes, "out=runs/killed"))
    assert ended.code == 0 and "going on from runs/killed/checkpoints/checkpoint-1" in ended.err, ended
    whole, killed = trained_weights(Path("runs/whole")), trained_weights(Path("runs/killed"))
    assert whole.keys() == killed.keys() and all(torch.equal(whole[name], killed[name]) for name in whole)
    assert read_json(Path("runs/killed/manifest.json"))["template_sha256"] == hash_of("2024-07-26")


def test_a_student_keeps_its_date_and_the_gate_refuses_another(
    run: Run, today: Callable[[datetime.datetime], None]
) -> None:
    today(FIRST)
    training = sets("objective.kd_weight=0.0", "tools_in_prompt=none", OTHER, "max_steps=1")
    assert run("train", "config.yaml", *training).code == 0
    student = sets("model={model: runs/student}", "decode.max_new_tokens=8")
    first = run("eval", "config.yaml", *student, *sets("out=runs/first"), "--write-baseline", "base.json")
    assert first.code == 0, first
    today(NEXT)
    ended = run("eval", "config.yaml", *student, *sets("out=runs/next"), "--baseline", "base.json", "--max-drop", "0")
    assert ended.code == 0 and "Gate: passed" in ended.out, ended
    answers = [
        [answer.text for answer in iter_jsonl(Path(f"runs/{name}/predictions.jsonl"), Prediction)]
        for name in ("first", "next")
    ]
    assert answers[0] == answers[1] and len(answers[0]) == 2
    hashes = {read_json(Path(f"runs/{name}"))["template_sha256"] for name in ("first/report.json", "next/report.json")}
    hashes |= {read_json(Path(name))["template_sha256"] for name in ("base.json", "runs/next/manifest.json")}
    assert hashes == {hash_of("2025-01-03")}
    changed = sets(f"model.{OTHER.replace('2025', '2026')}", "out=runs/changed")
    ended = run("eval", "config.yaml", *student, *changed, "--baseline", "base.json")
    assert ended.code == 2 and "(of the chat template and the date that it writes)" in ended.err, ended
    ended = run("eval", "config.yaml", *student, *sets(f"model.{OTHER.replace('2025', '2026')}", "out=runs/next"))
    assert ended.code == 2 and "model.template_date: was None, is '2026-01-03'" in ended.err, ended
