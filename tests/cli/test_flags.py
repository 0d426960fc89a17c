"""Flags and config files: a flag overrides its field, whichever it is, and never says other than a `--set`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fcdistill import cli
from fcdistill.cli import generate_command
from fcdistill.cli.flags import FLAGS
from fcdistill.config import EvalConfig, GenerateConfig, describe_fields
from fcdistill.errors import FcdistillError
from fcdistill.evaluation import runner
from fcdistill.generation.journal import ray_shards
from fcdistill.records import Report
from fcdistill.storage import read_json
from tests.cli.projects import Ended, json_lines, run_cli, write_project

ROWS = [(section, field) for section, fields in FLAGS.items() for field in fields]

# What the file says of a field, and what the flag says; a switch has no value, and the file the other one.
VALUES: dict[str, tuple[Any, Any]] = {
    "predictions": ("file.jsonl", "flag.jsonl"),
    "cases": ("file.jsonl", "flag.jsonl"),
    "cases_format": ("openai-messages", "cases"),
    "suite": ("bfcl:multiple", "bfcl:parallel"),
    "tools": ("file.json", "flag.json"),
    "skip_invalid": (False, True),
    "out": ("runs/file", "runs/flag"),
    "limit": (5, 3),
    "repeat": (4, 2),
    "default_equals_omitted": (False, True),
    "model.model": ("file-model", "5"),  # a name, though it reads like a number
    "model.tools_in_prompt": ("full", "none"),
    "model.template": ("own", "kit"),
    "model.batch_size": (16, 4),
    "decode.sampling_temperature": (1.0, 0.5),
    "decode.constrained": (False, True),
    "gate.baseline": ("file.json", "flag.json"),
    "gate.min_accuracy": (0.5, 0.75),
    "gate.max_drop": (0.5, 0.25),
    "gate.alpha": (0.5, 0.25),
    "gate.allow_mismatch": (False, True),
    "recorded": (["file.jsonl"], ["flag.jsonl", "other.jsonl"]),
    "shard": ("1/2", "2/3"),
    "rounds": (2, 3),
    "ray": (2, 3),
    "verification.policy": ("strict", "trusting"),
}

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
NO_FIELDS = {"eval": {"write_baseline"}, "generate": {"retry_rejects"}, "check": {"processes", "as_json"}}

Settings = EvalConfig | GenerateConfig
Run = Callable[..., Settings]


class CapturedError(FcdistillError):
    pass


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command up to its work, and gives the configuration that it would work by."""
    monkeypatch.chdir(tmp_path)
    found: list[Settings] = []

    def capture(settings: Settings, *_: object) -> None:
        found.append(settings)
        raise CapturedError("captured", required="no work", fix="none")

    monkeypatch.setattr(runner, "check_inputs", capture)
    monkeypatch.setattr(runner, "run_eval", capture)
    monkeypatch.setattr(generate_command, "_run", capture)
    monkeypatch.setattr(ray_shards, "run_shards", capture)

    def run(*arguments: str) -> Settings:
        found.clear()
        ended = run_cli(capsys, *arguments)
        assert len(found) == 1 and "captured" in ended.err, ended
        return found[0]

    return run


def section_with(section: str, field: str) -> dict[str, Any]:
    """A valid section to which any value of a field can be added."""
    if section == "generate":
        return {"tools": "t.json", "out": "o", "seeds": "s.jsonl", "teacher": {"model": "m"}}
    values: dict[str, Any] = {"out": "o"}
    values |= {"suite": "bfcl:simple_python"} if field == "suite" else {"cases": "c.jsonl"}
    if field == "predictions":
        return values | {"predictions": "p.jsonl"}
    return values | {"model": {"model": "m"}, "decode": {"sampling_temperature": 0.5}}


def with_value(values: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    head, _, rest = field.partition(".")
    return {**values, head: with_value(values.get(head, {}), rest, value) if rest else value}


def value_at(settings: Any, field: str) -> Any:
    for step in field.split("."):
        settings = getattr(settings, step)
    if isinstance(settings, tuple):
        return list(map(str, settings))
    return str(settings) if isinstance(settings, Path) else settings


def flag(field: str, value: Any) -> list[str]:
    name = "--" + field.rpartition(".")[2].replace("_", "-")
    if isinstance(value, list):
        return [part for each in value for part in (name, each)]
    return [name] if value is True else [name, str(value)]


def write_config(section: str, values: dict[str, Any]) -> None:
    Path("config.yaml").write_text(json.dumps({section: values}))


@pytest.mark.parametrize(("section", "field"), ROWS)
def test_a_flag_overrides_its_field_and_no_other(settings_of: Run, section: str, field: str) -> None:
    in_file, given = VALUES[field]
    write_config(section, with_value(section_with(section, field), field, in_file))
    before = settings_of(section, "config.yaml")
    assert value_at(before, field) == in_file
    after = settings_of(section, "config.yaml", *flag(field, given))
    assert value_at(after, field) == given != in_file
    changed = with_value(before.model_dump(mode="json"), field, given)
    assert after.model_dump(mode="json") == changed


@pytest.mark.parametrize(("section", "field"), ROWS)
def test_a_flag_gives_a_field_that_the_file_does_not(settings_of: Run, section: str, field: str) -> None:
    given = VALUES[field][1]
    write_config(section, section_with(section, field))
    assert value_at(settings_of(section, "config.yaml", *flag(field, given)), field) == given


@pytest.mark.parametrize("field", FLAGS["eval"])
def test_flags_alone_say_everything(settings_of: Run, field: str) -> None:
    given = VALUES[field][1]
    values = with_value(section_with("eval", field), field, given)
    fields = {name: values[name] for name in ("out", "cases", "suite", "predictions") if name in values}
    if "model" in values:
        fields |= {"model.model": values["model"]["model"], "decode.sampling_temperature": 0.5}
    arguments = [part for name, value in (fields | {field: given}).items() for part in flag(name, value)]
    assert value_at(settings_of("eval", *arguments), field) == given


@pytest.mark.parametrize(("section", "field"), ROWS)
def test_a_flag_and_a_set_agree_or_are_refused(
    settings_of: Run, capsys: pytest.CaptureFixture[str], section: str, field: str
) -> None:
    in_file, given = VALUES[field]
    write_config(section, section_with(section, field))
    same, other = f"{field}={json.dumps(given)}", f"{field}={json.dumps(in_file)}"
    both = settings_of(section, "config.yaml", *flag(field, given), "--set", same)
    assert value_at(both, field) == given
    ended = run_cli(capsys, section, "config.yaml", *flag(field, given), "--set", other)
    assert ended.code == 2 and f"{' '.join(flag(field, given))} and --set {other!r} disagree" in ended.err, ended
    assert f"Required: one value of {field}\nFix: leave one of them away" in ended.err, ended


@pytest.mark.parametrize("field", [field for field in FLAGS["eval"] if field.startswith("model.")])
def test_a_flag_reaches_a_model_that_is_named_by_its_reference_alone(settings_of: Run, field: str) -> None:
    write_config("eval", section_with("eval", field) | {"model": "named"})
    settings = settings_of("eval", "config.yaml", *flag(field, VALUES[field][1]))
    assert value_at(settings, field) == VALUES[field][1]
    if field != "model.model":
        assert value_at(settings, "model.model") == "named"


def test_flags_and_sets_of_other_fields_of_one_subsection_hold_both(settings_of: Run) -> None:
    write_config("eval", section_with("eval", "model"))
    settings = settings_of(
        "eval", "config.yaml", "--set", "model=other", "--batch-size", "4", "--set", "gate={max_drop: 0.5}",
        "--alpha", "0.25",
    )  # fmt: skip
    found = [value_at(settings, name) for name in ("model.model", "model.batch_size", "gate.max_drop", "gate.alpha")]
    assert found == ["other", 4, 0.5, 0.25]


def test_a_model_of_a_server_keeps_its_server(settings_of: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    server = {"backend": "openai_http", "base_url": "http://localhost:1/v1", "model": "big", "api_key_env": None}
    write_config("eval", {"out": "o", "cases": "c.jsonl", "model": server})
    settings = settings_of("eval", "config.yaml", "--model", "small")
    assert value_at(settings, "model.model") == "small" and value_at(settings, "model.backend") == "openai_http"


def test_every_flag_of_a_command_that_is_named_like_a_field_is_in_the_table() -> None:
    for command in ("generate", "adapt", "train", "cache", "check", "eval"):
        names = {parameter.name for parameter in COMMANDS[command].params}
        listed = {field.rpartition(".")[2] for field in FLAGS.get(command, ())}
        assert names == {"config", "overrides"} | listed | NO_FIELDS.get(command, set()), command
    for section, fields in FLAGS.items():
        known = {name for name, *_ in describe_fields()[section]}
        assert set(fields) <= known, set(fields) - known
        assert len({field.rpartition(".")[2] for field in fields}) == len(fields)


def test_relative_paths_start_at_the_current_directory(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, tiny_models)
    (tmp_path / "configs").mkdir()
    (tmp_path / "config.yaml").rename(tmp_path / "configs/config.yaml")
    first, *_ = (tmp_path / "cases.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "few").mkdir()
    (tmp_path / "few/cases.jsonl").write_text(first)
    monkeypatch.chdir(tmp_path)
    ended = run_cli(capsys, "eval", "configs/config.yaml", "--cases", "few/cases.jsonl", "--out", "runs/few")
    assert ended.code == 0, ended
    assert Report.model_validate(read_json(tmp_path / "runs/few/report.json")).num_cases == 1
    assert not (tmp_path / "runs/eval").exists()


def test_an_evaluation_is_cut_repeated_and_sampled_by_flags(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, tiny_models)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        return run_cli(capsys, "eval", "config.yaml", *arguments)

    ended = run("--limit", "1", "--repeat", "2", "--sampling-temperature", "0.7")
    assert ended.code == 0 and "of 2 answers (2 to each case) right" in ended.out, ended
    manifest = read_json(tmp_path / "runs/eval/manifest.json")
    assert manifest["config"]["decode"]["sampling_temperature"] == 0.7
    assert (manifest["config"]["limit"], manifest["config"]["repeat"]) == (1, 2)
    Path("saved.jsonl").write_text(json_lines([{"id": f"c{n}", "text": "no"} for n in (2, 3)]))
    ended = run("--set", "model=null", "--predictions", "saved.jsonl", "--out", "o", "--min-accuracy", "0.5")
    assert ended.code == 1 and "the gate failed" in ended.err, ended
