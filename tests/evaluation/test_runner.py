import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fcdistill.backends.base import Completion, PromptFormat, Request
from fcdistill.backends.scripted import ScriptedBackend
from fcdistill.config import DecodeSettings, EvalConfig
from fcdistill.errors import BackendError, DataError
from fcdistill.evaluation.gate import baseline_of
from fcdistill.evaluation.runner import exit_code, run_eval
from fcdistill.records import ModelRef, Prediction, Report, Score
from fcdistill.storage import iter_jsonl, read_json, read_jsonl, write_json

NUM_CASES = 6
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "dim",
            "parameters": {
                "type": "object",
                "properties": {"level": {"type": "integer"}, "mode": {"type": "string", "default": "slow"}},
                "required": ["level"],
            },
        },
    }
]


def gold_text(level: object) -> str:
    return json.dumps({"name": "dim", "arguments": {"level": level}})


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    cases = [
        {
            "id": f"c{level}",
            "messages": [{"role": "user", "content": f"dim to {level}"}],
            "behaviour": "call",
            "expected": [[{"name": "dim", "arguments": {"level": level}}]],
            "category": "simple",
        }
        for level in range(NUM_CASES)
    ]
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    return tmp_path


def config(suite: Path, **fields: Any) -> EvalConfig:
    values = {"cases": suite / "cases.jsonl", "tools": suite / "tools.json", "out": suite / "out", **fields}
    if "predictions" not in values:
        values["model"] = {"backend": "scripted", "answers": "script.jsonl"}
    return EvalConfig.model_validate(values)


class RecordingBackend:
    """Answers rightly, in reverse order, except where told otherwise; remembers whom it was asked about."""

    def __init__(
        self,
        *,
        errors: Sequence[str] = (),
        stop_after: int | None = None,
        name: str = "recorded",
        prompt_format: PromptFormat | None = None,
    ) -> None:
        self.ref = ModelRef(model=name)
        self.prompt_format = prompt_format
        self.asked: list[str] = []
        self._errors = errors
        self._stop_after = stop_after

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        for number, request in enumerate(reversed(requests)):
            if number == self._stop_after:
                raise BackendError("the server is gone")
            self.asked.append(request.id)
            if request.id in self._errors:
                yield Completion(request.id, "", "error", error="time-out")
            else:
                yield Completion(request.id, gold_text(int(request.id[1:])), "stop", 10, 5, 0.25)

    def close(self) -> None:
        pass


class RepeatingBackend(RecordingBackend):
    """The same for cases that are asked several times."""

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request.id)
            if request.id in self._errors:
                yield Completion(request.id, "", "error", error="time-out")
            else:
                yield Completion(request.id, gold_text(int(request.id[1:].partition("#")[0])), "stop")


def read_jsonl_all(path: Path, record_type: type[Any]) -> list[Any]:
    return list(iter_jsonl(path, record_type))


def test_a_whole_run(suite: Path) -> None:
    progress: list[tuple[int, int]] = []
    answers = {f"dim to {level}": gold_text(level if level else 99) for level in range(NUM_CASES)}
    found = run_eval(config(suite), ScriptedBackend(answers), lambda *step: progress.append(step))
    assert progress == [(done, NUM_CASES) for done in range(NUM_CASES + 1)]
    assert (found.report.call_accuracy.successes, found.report.call_accuracy.n) == (NUM_CASES - 1, NUM_CASES)
    assert found.report.errors == {"wrong_value": 1}
    assert exit_code(found.report) == 0
    out = suite / "out"
    assert Report.model_validate(read_json(out / "report.json")) == found.report
    assert tuple(read_jsonl(out / "scores.jsonl", Score)) == found.scores
    assert {item.id: item for item in read_jsonl(out / "predictions.jsonl", Prediction)} == found.predictions
    manifest = read_json(out / "manifest.json")
    assert (manifest["status"], manifest["stage"], manifest["model"]["model"]) == ("complete", "eval", "scripted")
    assert len(manifest["inputs"]) == 2


def test_predictions_stand_in_the_cases_order(suite: Path) -> None:
    found = run_eval(config(suite), RecordingBackend())
    order = [f"c{level}" for level in range(NUM_CASES)]
    assert [item.id for item in read_jsonl(suite / "out/predictions.jsonl", Prediction)] == order
    assert [score.id for score in found.scores] == order
    assert found.report.prompt_tokens.mean == 10
    assert found.report.latency_s.p50 == 0.25


def test_a_finished_run_asks_nobody_again(suite: Path) -> None:
    first = run_eval(config(suite), RecordingBackend())
    backend = RecordingBackend()
    again = run_eval(config(suite), backend)
    assert backend.asked == []
    assert again.report == first.report


def test_a_backend_that_stops_loses_nothing(suite: Path) -> None:
    with pytest.raises(BackendError):
        run_eval(config(suite), RecordingBackend(stop_after=4))
    assert not (suite / "out/report.json").exists()
    backend = RecordingBackend()
    progress: list[tuple[int, int]] = []
    found = run_eval(config(suite), backend, lambda *step: progress.append(step))
    assert backend.asked == ["c1", "c0"]
    assert progress[0] == (4, NUM_CASES)
    assert found.report.call_accuracy.value == 1


def test_failed_requests_are_unscored_and_asked_again(suite: Path) -> None:
    found = run_eval(config(suite), RecordingBackend(errors=("c1", "c2")))
    assert found.report.unscored_ids == ("c1", "c2")
    assert (found.report.num_cases, found.report.call_accuracy.n) == (NUM_CASES, NUM_CASES - 2)
    assert exit_code(found.report) == 3
    assert read_json(suite / "out/manifest.json")["status"] == "running"
    backend = RecordingBackend()
    again = run_eval(config(suite), backend)
    assert backend.asked == ["c2", "c1"]
    assert exit_code(again.report) == 0
    assert len(read_jsonl(suite / "out/predictions.jsonl", Prediction)) == NUM_CASES


def test_a_backend_that_answers_nothing_gives_no_accuracy(suite: Path) -> None:
    found = run_eval(config(suite), ScriptedBackend({}))
    assert found.report.call_accuracy.value is None
    assert found.report.num_unscored == NUM_CASES
    assert exit_code(found.report) == 3


def test_limit_and_scoring_options_change_no_answer(suite: Path) -> None:
    def slow(request: Request) -> str:
        return json.dumps({"name": "dim", "arguments": {"level": int(request.id[1:]), "mode": "slow"}})

    few = run_eval(config(suite, limit=2), ScriptedBackend(slow))
    assert (few.report.num_cases, few.report.call_accuracy.successes) == (2, 0)
    backend = RecordingBackend(name="scripted")
    more = run_eval(config(suite, limit=4, default_equals_omitted=True), backend)
    assert backend.asked == ["c3", "c2"]
    assert more.report.call_accuracy.value == 1
    fewer = run_eval(config(suite, limit=3), RecordingBackend(name="scripted"))
    assert (fewer.report.num_cases, fewer.report.call_accuracy.successes) == (3, 1)
    assert len(read_jsonl(suite / "out/predictions.jsonl", Prediction)) == 4


def test_another_run_is_not_continued(suite: Path) -> None:
    run_eval(config(suite), RecordingBackend())
    with pytest.raises(DataError, match="max_new_tokens"):
        run_eval(config(suite, decode={"max_new_tokens": 5}), RecordingBackend())
    with pytest.raises(DataError, match="model"):
        run_eval(config(suite), ScriptedBackend({}))
    (suite / "cases.jsonl").write_text((suite / "cases.jsonl").read_text().replace("dim to 1", "dim to one"))
    with pytest.raises(DataError, match="content changed"):
        run_eval(config(suite), RecordingBackend())


def test_how_prompts_were_rendered_is_recorded_and_other_prompts_are_refused(suite: Path) -> None:
    here, there = PromptFormat("1" * 64, "none", "hermes"), PromptFormat("2" * 64, "none", "hermes")
    found = run_eval(config(suite), RecordingBackend(prompt_format=here))
    assert (found.report.template_sha256, found.report.tools_in_prompt) == ("1" * 64, "none")
    assert read_json(suite / "out/manifest.json")["template_sha256"] == "1" * 64
    write_json(suite / "base.json", baseline_of(found.report, found.scores).model_dump(mode="json"))
    gated = config(suite, out=suite / "gated", gate={"baseline": suite / "base.json"})
    with pytest.raises(DataError, match="template_sha256 was 1{12}… and is 2{12}…"):
        run_eval(gated, RecordingBackend(prompt_format=there))
    verdict = run_eval(gated, RecordingBackend(prompt_format=here)).report.gate
    assert verdict is not None and verdict.passed and verdict.mismatches == ()


def test_saved_predictions(suite: Path) -> None:
    lines = [
        {"id": "c0", "text": gold_text(0)},
        {"id": "c1", "tool_calls": [{"name": "dim", "arguments": {"level": 1}}]},
        {"id": "c2", "tool_calls": [{"type": "function", "function": {"name": "dim", "arguments": '{"level": 2}'}}]},
        {"id": "c3", "text": "I dimmed it."},
        {"id": "c4", "error": "time-out"},
    ]
    saved = suite / "saved.jsonl"
    saved.write_text("".join(json.dumps(line) + "\n" for line in lines))
    progress: list[tuple[int, int]] = []
    found = run_eval(config(suite, predictions=saved), None, lambda *step: progress.append(step))
    assert progress == [(5, NUM_CASES)]
    assert (found.report.call_accuracy.successes, found.report.call_accuracy.n) == (3, 4)
    assert found.report.unscored_ids == ("c4", "c5")
    assert found.report.model is None and found.report.decode_sha256 is None
    assert exit_code(found.report) == 3
    few = run_eval(config(suite, predictions=saved, limit=4))
    assert exit_code(few.report) == 0


def test_an_evals_own_predictions_score_the_same(suite: Path) -> None:
    answers = {f"dim to {level}": gold_text(level % 2) for level in range(NUM_CASES)}
    first = run_eval(config(suite), ScriptedBackend(answers))
    again = run_eval(config(suite, predictions=suite / "out/predictions.jsonl", out=suite / "again"))
    assert again.scores == first.scores


def test_someone_must_answer(suite: Path) -> None:
    with pytest.raises(ValueError, match="needs a backend exactly where"):
        run_eval(config(suite))
    with pytest.raises(ValueError, match="needs a backend exactly where"):
        run_eval(config(suite, predictions=suite / "saved.jsonl"), RecordingBackend())


def wavering(request: Request) -> str:
    """Right, but wrong for the second answer to c1 and all but the first to c2."""
    number, _, repetition = request.id[1:].partition("#")
    wrong = (number == "1" and repetition == "1") or (number == "2" and repetition != "")
    return gold_text(99 if wrong else int(number))


def test_repeated_cases_are_asked_under_names_of_their_own(suite: Path) -> None:
    progress: list[tuple[int, int]] = []
    asked: list[str] = []

    def answer(request: Request) -> str:
        asked.append(request.id)
        return wavering(request)

    found = run_eval(config(suite, repeat=3), ScriptedBackend(answer), lambda *step: progress.append(step))
    assert asked == [f"c{level}{name}" for level in range(NUM_CASES) for name in ("", "#1", "#2")]
    assert progress[-1] == (3 * NUM_CASES, 3 * NUM_CASES)
    report = found.report
    assert (report.repeat, report.num_cases) == (3, NUM_CASES)
    assert (report.call_accuracy.successes, report.call_accuracy.n) == (3 * NUM_CASES - 3, 3 * NUM_CASES)
    assert report.repeats is not None and report.repeats.num_sometimes_right == 2
    assert report.repeats.pass_hat[2].value == pytest.approx((NUM_CASES - 2) / NUM_CASES)
    assert [(score.id, score.correct) for score in found.scores] == [
        (f"c{level}", level != 2) for level in range(NUM_CASES)
    ]
    assert found.predictions["c2"].repetition == 1 and found.predictions["c1"].repetition == 0
    saved = read_jsonl_all(suite / "out/predictions.jsonl", Prediction)
    assert [(item.id, item.repetition) for item in saved] == [
        (f"c{level}", number) for level in range(NUM_CASES) for number in range(3)
    ]
    assert tuple(read_jsonl_all(suite / "out/scores.jsonl", Score)) == found.answer_scores
    again = run_eval(config(suite, predictions=suite / "out/predictions.jsonl", out=suite / "again", repeat=3))
    assert again.answer_scores == found.answer_scores and again.report.repeats == report.repeats


def test_more_repetitions_ask_only_for_what_is_missing(suite: Path) -> None:
    first = run_eval(config(suite), ScriptedBackend(wavering))
    asked: list[str] = []

    def answer(request: Request) -> str:
        asked.append(request.id)
        return wavering(request)

    run_eval(config(suite, repeat=2, limit=3), ScriptedBackend(answer))
    assert asked == ["c0#1", "c1#1", "c2#1"]
    fewer = run_eval(config(suite), ScriptedBackend(answer))
    assert len(asked) == 3 and fewer.report == first.report
    assert len(read_jsonl_all(suite / "out/predictions.jsonl", Prediction)) == NUM_CASES + 3


def test_a_case_that_lacks_one_of_its_answers_is_unscored(suite: Path) -> None:
    found = run_eval(config(suite, repeat=2), RepeatingBackend(errors=("c1#1",)))
    assert found.report.unscored_ids == ("c1",) and found.report.call_accuracy.n == 2 * (NUM_CASES - 1)
    assert found.predictions["c1"].error == "time-out" and exit_code(found.report) == 3
    backend = RepeatingBackend()
    assert exit_code(run_eval(config(suite, repeat=2), backend).report) == 0
    assert backend.asked == ["c1#1"]


def test_a_case_named_like_a_repetition_is_refused(suite: Path) -> None:
    text = (suite / "cases.jsonl").read_text()
    (suite / "cases.jsonl").write_text(text.replace('"id": "c4"', '"id": "c0#1"'))
    run_eval(config(suite, out=suite / "single"), ScriptedBackend(lambda request: ""))
    with pytest.raises(DataError, match="case 'c0#1' has the name that a repetition of another case is asked under"):
        run_eval(config(suite, repeat=2), ScriptedBackend(lambda request: ""))


KILLED_RUN = """
import os, signal, sys
from fcdistill.backends.scripted import ScriptedBackend
from fcdistill.config import EvalConfig
from fcdistill.evaluation.runner import run_eval

asked = []
def answer(request):
    if len(asked) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    asked.append(request.id)
    return '{"name": "dim", "arguments": {"level": %s}}' % request.id[1:]

run_eval(EvalConfig.model_validate_json(sys.argv[1]), ScriptedBackend(answer))
print(" ".join(asked))
"""


def test_a_killed_run_goes_on_where_it_was(suite: Path) -> None:
    def run(kill_after: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED_RUN, config(suite).model_dump_json(), str(kill_after)]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)

    assert run(3).returncode == -signal.SIGKILL
    with (suite / "out/predictions.jsonl").open("a") as journal:
        journal.write('{"id": "c3", "text": "torn')
    resumed = run(99)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.split() == ["c3", "c4", "c5"]
    assert Report.model_validate(read_json(suite / "out/report.json")).call_accuracy.value == 1
