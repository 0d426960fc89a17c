"""Tests of `fcdistill.evidence.judge_run`: what follows from what witnesses say, and one run with a tiny model."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fcdistill.backends.base import Completion, Request
from fcdistill.errors import ConfigError, DataError
from fcdistill.evidence import judge_run
from fcdistill.evidence.candidates import Variant
from fcdistill.evidence.judge_run import Judging, judge_traces
from fcdistill.generation.verification.policy import PRIOR_ERROR_RATE
from fcdistill.records import AnswerGaps, ArgumentGap, EvalCase, JudgeStats, Message, ModelRef, Reject, ToolCall, Trace
from fcdistill.storage import read_json, read_jsonl
from fcdistill.toolcalls.parsing import render_calls
from tests.cli.projects import invoke, run_cli
from tests.evidence.imported import ROWS, examples, imported
from tests.paths import ROOT

TIMER = ToolCall(name="set_timer", arguments={"duration": {"minutes": 10}})


class Answers:
    """A backend that answers by heart."""

    ref = ModelRef(model="by heart")
    prompt_format = None

    def __init__(self, answers: dict[str, str]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def complete(self, requests: Iterable[Request], settings: Any) -> Iterable[Completion]:
        for request in requests:
            self.asked.append(request.messages[-1].content)
            text = self._answers.get(request.messages[-1].content, "no idea")
            yield Completion(id=request.id, text=text, finish_reason="stop")

    def close(self) -> None:
        pass


class Judged:
    """What a judging made whose model notices every planted error, and the candidates of some requests."""

    def __init__(self, directory: Path, out: Path) -> None:
        self.stats = JudgeStats.model_validate(read_json(out / "stats.json"))
        self.traces = {trace.id: trace for trace in read_jsonl(out / "traces.jsonl", Trace)}
        self.rejects = {reject.id: reject for reject in read_jsonl(out / "rejects.jsonl", Reject)}
        self.before = {trace.id for trace in read_jsonl(directory / "traces.jsonl", Trace)}


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Judged]:
    """Judges a directory without training: `suspects` are the requests whose answers the model finds unlikely."""

    def run(
        directory: Path, *, suspects: Iterable[str] = (), answers: dict[str, str] | None = None, **options: Any
    ) -> Judged:
        wrong, asked = set(suspects), Answers(answers or {})

        def gaps(_: Any, variants: Iterable[Variant], __: Any) -> dict[str, AnswerGaps]:
            found = {}
            for variant in variants:
                gap = 9.0 if variant.kind or variant.trace.messages[-2].content in wrong else 0.01
                identity = variant.trace.id
                arguments = tuple(
                    ArgumentGap(call=number, name=name, key=0, value=gap)
                    for number, call in enumerate(variant.trace.answer.calls)
                    for name in call.arguments
                )
                found[identity] = AnswerGaps(id=identity, name=0, arguments=arguments, end=gap, total=gap, nll=gap)
            return found

        monkeypatch.setattr(judge_run, "train_fold", lambda *_: None)
        monkeypatch.setattr(judge_run, "gaps_of_fold", gaps)
        monkeypatch.setattr(judge_run, "open_backend", lambda config: asked)
        out = directory / "judged"
        judge_traces(directory, out, Judging("m", **options), report=lambda _: None, on_progress=lambda *_: None)
        return Judged(directory, out)

    return run


def test_what_words_refused_is_readmitted_on_the_models_word(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    rows = [*ROWS, *examples()]
    made = judge(imported(tmp_path, rows, policy="strict"))
    assert "log-2" not in made.before and "log-2" in made.traces
    checks = made.traces["log-2"].meta.checks
    assert all(check.ok for check in checks)
    names = [check.name for check in checks]
    assert names.index("grounding") < names.index("judged") < names.index("duplicate") < names.index("contaminated")
    assert "kept on the word of a model that learned the other answers" in checks[names.index("judged")].detail
    assert made.stats.readmitted >= 2 and not made.stats.withdrawn and made.before <= made.traces.keys()
    assert made.stats.kept == len(made.traces) and made.stats.candidates == len(made.traces) + len(made.rejects)
    assert made.stats.estimated_precision is not None and made.stats.estimated_precision > 0.97
    *_, decided = made.stats.witnesses
    assert decided.kept.num == decided.kept.of and decided.planted.num < 0.1 * decided.planted.of


def test_a_trace_that_the_model_does_not_expect_is_withdrawn(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    made = judge(imported(tmp_path, [*ROWS, *examples()]), suspects=["lock the front door"])
    assert "log-5" in made.before and "log-5" not in made.traces
    reject = made.rejects["log-5"]
    assert reject.check == "judged" and "largest gap 9.0 nats, at " in reject.detail
    assert "a model that learned the other answers expects another" in reject.detail
    assert reject.candidate.meta.checks[-1].detail == reject.detail
    assert made.stats.withdrawn == 1


@pytest.mark.parametrize(
    ("answer", "relabelled"),
    [
        (render_calls([TIMER]), True),
        (render_calls([ToolCall(name="set_timer", arguments={"duration": {"minutes": 11}})]), False),  # not said
        (render_calls([ToolCall(name="set_timer", arguments={"duration": {"minutes": 12}})]), False),  # the same
        (render_calls([ToolCall(name="set_timer", arguments={"duration": {"years": 10}})]), False),  # invalid
        (render_calls([ToolCall(name="set_lamp", arguments={})]), False),
        ("ten minutes", False),
    ],
)
def test_a_wrong_answer_is_relabelled_where_model_and_words_agree(
    tmp_path: Path, judge: Callable[..., Judged], answer: str, relabelled: bool
) -> None:
    request = ROWS[2][0]
    made = judge(imported(tmp_path, [*ROWS, *examples()]), suspects=[request], answers={request: answer})
    assert ("log-3" in made.traces) == relabelled and made.stats.relabelled == relabelled
    if relabelled:
        trace = made.traces["log-3"]
        assert trace.answer == Message.calling([TIMER]) and trace.meta.category == "simple"
        (check,) = [check for check in trace.meta.checks if check.name == "relabelled"]
        assert "took the place of set_timer{'duration': {'minutes': 12}}" in check.detail


def test_words_that_are_merely_silent_agree_to_no_other_answer(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    request = ROWS[1][0]
    other = render_calls([ToolCall(name="control_playback", arguments={"action": "pause"})])
    made = judge(imported(tmp_path, [*ROWS, *examples()]), suspects=[request], answers={request: other})
    assert made.rejects["log-2"].check == "judged" and not made.stats.relabelled


def test_readmitted_candidates_meet_duplicates_and_eval_cases(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    light = ROWS[1][1]
    case = read_jsonl(ROOT / "evals" / "smart_home" / "cases.jsonl", EvalCase)[0]
    rows = [*ROWS, ("let there be light where we cook!", light), (case.messages[-1].content, ROWS[0][1]), *examples()]
    path = tmp_path / "cases.jsonl"
    path.write_text(case.model_dump_json() + "\n")
    made = judge(imported(tmp_path, rows, policy="strict", decontaminate=[path]))
    assert "log-2" in made.traces
    assert made.rejects["log-7"].check in ("duplicate", "near_duplicate")
    assert made.rejects["log-8"].check == "contaminated"


def test_a_finished_directory_returns_its_stats_and_another_precision_is_another_run(
    tmp_path: Path, judge: Callable[..., Judged]
) -> None:
    directory = imported(tmp_path, [*ROWS, *examples()])
    first = judge(directory)
    assert judge(directory).stats == first.stats
    with pytest.raises(DataError, match="precision"):
        judge(directory, precision=0.99)
    with pytest.raises(ConfigError, match="is the input"):
        judge_traces(directory, directory, Judging("m"), report=lambda _: None, on_progress=lambda *_: None)


def test_the_prior_is_that_of_the_source_unless_another_is_named(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    directory = imported(tmp_path, ROWS, trust="hand_written")
    assert judge(directory).stats.prior_error_rate == PRIOR_ERROR_RATE["hand_written"]
    shutil.rmtree(directory / "judged")
    assert judge(directory, trust="teacher").stats.prior_error_rate == PRIOR_ERROR_RATE["teacher"]


def test_a_tiny_model_judges_from_the_command_line(
    tmp_path: Path, tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = imported(tmp_path, ROWS)
    arguments = ("traces", "judge", str(directory), "--model", f"{tiny_models}/student", "--epochs", "1")
    ended = run_cli(capsys, *arguments, "--device", "cpu")
    assert ended.code == 0 and "Witnesses" in ended.out and "words and model, as decided" in ended.out, ended
    made = Judged(directory, directory / "judged")
    assert len(made.traces) + len(made.rejects) == len(ROWS)
    assert {path.name for path in (directory / "judged" / "fold-2").iterdir()} == {
        "traces.jsonl", "student", "gaps.jsonl",
    }  # fmt: skip
    learned = {trace.id for trace in read_jsonl(directory / "judged" / "fold-1" / "traces.jsonl", Trace)}
    heard = {line.id.split("/")[0] for line in read_jsonl(directory / "judged" / "fold-1" / "gaps.jsonl", AnswerGaps)}
    assert learned.isdisjoint(heard) and len(learned | heard) == len(ROWS)
    assert invoke("inspect", str(directory / "judged"), "--limit", "0") == 0
    assert "words and model, as decided" in capsys.readouterr().out
