import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fcdistill.records import Prediction, Report, Score
from fcdistill.storage import iter_jsonl, read_json
from tests.cli.projects import Ended, json_lines, make_models, run_cli, write_project

SUITE = ("--cases", "cases.jsonl", "--tools", "tools.json")
Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def run(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    write_project(tmp_path, models)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_cli(capsys, "eval", *arguments)


def timer(minutes: int) -> str:
    return json.dumps({"name": "set_timer", "arguments": {"minutes": minutes}})


def test_a_sampled_model_gives_other_answers_to_each_repetition(run: Run, models: Path, tmp_path: Path) -> None:
    (tmp_path / "sampled.yaml").write_text(
        (tmp_path / "config.yaml")
        .read_text()
        .replace(
            "  model: {backend: scripted, answers: answers.jsonl}",
            f"  model: {{model: {models}/student, device: cpu, dtype: float32}}\n"
            "  decode: {max_new_tokens: 6, sampling_temperature: 1.0}",
        )
    )
    ended = run("sampled.yaml", "--set", "repeat=3")
    assert ended.code == 0 and "of 6 answers (3 to each case) right" in ended.out, ended
    texts = {
        (item.id, item.repetition): item.text for item in iter_jsonl(Path("runs/eval/predictions.jsonl"), Prediction)
    }
    assert len(texts) == 6 and len({text for (case_id, _), text in texts.items() if case_id == "c2"}) == 3
    again = run("sampled.yaml", "--set", "repeat=4", "--set", "out=runs/other")
    assert again.code == 0, again
    more = {
        (item.id, item.repetition): item.text for item in iter_jsonl(Path("runs/other/predictions.jsonl"), Prediction)
    }
    assert texts.items() <= more.items() and len(more) == 8


def test_saved_repetitions_pass_through_gate_files_and_baseline(run: Run, tmp_path: Path) -> None:
    lines = [{"id": f"c{n}", "text": timer(got)} for n, gots in ((2, (2, 2, 9)), (3, (3, 3, 3))) for got in gots]
    (tmp_path / "predictions.jsonl").write_text(json_lines(lines))
    saved = (*SUITE, "--predictions", "predictions.jsonl", "--repeat", "3")
    ended = run(*saved, "--out", "a", "--min-accuracy", "0.8", "--write-baseline", "base.json")
    assert ended.code == 0 and "5 of 6 answers (3 to each case) right" in ended.out, ended
    assert "pass^3" in ended.out and "consistency" in ended.out
    report = Report.model_validate(read_json(Path("a/report.json")))
    assert report.repeats is not None and report.repeats.pass_hat[2].value == 0.5
    assert [score.repetition for score in iter_jsonl(Path("a/scores.jsonl"), Score)] == [0, 1, 2] * 2
    assert 'tests="2" failures="0"' in Path("a/junit.xml").read_text()
    worse = json_lines([line | {"text": timer(9)} if line["id"] == "c3" else line for line in lines])
    (tmp_path / "predictions.jsonl").write_text(worse)
    ended = run(*saved, "--out", "b", "--baseline", "base.json")
    assert ended.code == 0 and "Turned wrong: c3" in ended.out, ended  # one case is no proof
    assert 'tests="2" failures="1"' in Path("b/junit.xml").read_text()
    single = run(*SUITE, "--predictions", "predictions.jsonl", "--out", "c", "--baseline", "base.json")
    assert single.code == 2 and "repeat was 3 and is 1" in single.err, single


def test_openai_message_rows_are_a_suite(run: Run, tmp_path: Path) -> None:
    def row(minutes: int, answer: dict[str, object]) -> dict[str, object]:
        asked = {"role": "user", "content": f"{minutes} minutes on the clock"}
        return {"id": f"m{minutes}", "messages": [asked, {"role": "assistant", **answer}]}

    function = {"name": "set_timer", "arguments": '{"minutes": 2}'}
    rows = [row(2, {"tool_calls": [{"id": "x", "type": "function", "function": function}]}), row(3, {"content": "No."})]
    (tmp_path / "rows.jsonl").write_text(json_lines(rows))
    given = ("--cases", "rows.jsonl", "--cases-format", "openai-messages", "--tools", "tools.json", "--out", "o")
    (tmp_path / "saved.jsonl").write_text(json_lines([{"id": "m2", "text": timer(2)}, {"id": "m3", "text": timer(3)}]))
    ended = run(*given, "--predictions", "saved.jsonl")
    assert ended.code == 0 and "1 of 2 cases right" in ended.out, ended
    assert ended.err.endswith("fcdistill: note: cases rows.jsonl: 1 of 2 cases want a call, 1 want none\n"), ended
