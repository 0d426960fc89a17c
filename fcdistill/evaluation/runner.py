"""`fcdistill eval`: ask the cases that have no answer yet, score all answers, write the files.

A run directory holds `predictions.jsonl` (appended while the run goes on, so that a killed run resumes),
`scores.jsonl`, `report.json` and `manifest.json`. With `repeat`, the first two hold several answers to each case. How a
report is shown is not known here (`reporting`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fcdistill.backends import Backend, Completion, PromptFormat, Request, prompt_format
from fcdistill.backends.constrained.call_grammar import require_enforceable
from fcdistill.config import EvalConfig, GateConfig
from fcdistill.errors import DataError
from fcdistill.evaluation.bfcl import BfclSuite, read_bfcl
from fcdistill.evaluation.bfcl_official import load_ast_checker, official_verdict
from fcdistill.evaluation.gate import judge, read_baseline, require_comparable
from fcdistill.evaluation.predictions import prediction_from_text, predictions_of_suite, read_predictions
from fcdistill.evaluation.repeats import by_case, case_verdict
from fcdistill.evaluation.scoring import SCORER_VERSION, Scorer
from fcdistill.evaluation.stats import summarise
from fcdistill.evaluation.suites import Suite, read_suite
from fcdistill.machine.forked_work import beside, map_parts
from fcdistill.records import Baseline, EvalCase, Prediction, Report, Score, ToolSpec
from fcdistill.storage import Journal, RunDirectory, sha256_json, write_json, write_jsonl

__all__ = ["Evaluation", "check_inputs", "exit_code", "open_suite", "run_eval", "with_verdict"]

_VOLATILE = frozenset({"default_equals_omitted", "gate", "limit", "out", "repeat", "skip_invalid"})
"""Config fields that change no answer: with others, the answers that are there already still stand."""


@dataclass(frozen=True)
class Evaluation:
    """What an eval run found.

    Attributes:
        report: the figures, as in report.json.
        suite: the evaluated cases and their tools.
        scores: one verdict per scored case, in the cases' order: that of the answer which speaks for the case.
        predictions: these answers by case id; an unscored case has the one that failed, or none.
        answer_scores: the verdicts on all answers to the scored cases, case by case.
    """

    report: Report
    suite: Suite
    scores: tuple[Score, ...]
    predictions: dict[str, Prediction]
    answer_scores: tuple[Score, ...]


_Answers = dict[tuple[str, int], Prediction]
"""By case id and repetition."""


def exit_code(report: Report) -> int:
    """0 where every case was scored and the gate passes, 1 where it fails, 3 where the run is incomplete."""
    if report.num_unscored:
        return 3
    return 1 if report.gate is not None and not report.gate.passed else 0


def check_inputs(config: EvalConfig) -> None:
    """Refuse what can be refused before a model is loaded: a defect of the suite, a baseline of other conditions.

    Raises:
        DataError: the suite, or the baseline, is unusable.
        CatalogError: the suite's catalogue is unusable, or can't be enforced although answers are to be constrained.
        MissingDependencyError: answers are to be constrained, and llguidance is not installed.
        FcdistillError: the model's tokenizer, by which its prompts are compared with the baseline's, can't be used.
    """
    suite = open_suite(config)[0].first(config.limit)
    if config.decode.constrained:
        require_enforceable(suite.specs.values())
    baseline = _require_baseline(config, _conditions(config, suite, None))
    if baseline is not None and baseline.template_sha256 is not None and config.model is not None:
        # Last, since the tokenizer that it needs may have to be fetched.
        _require_baseline(config, _conditions(config, suite, prompt_format(config.model)))


def open_suite(config: EvalConfig) -> tuple[Suite, BfclSuite | None]:
    """The suite that a config names, and what it is of the leaderboard where it is. Raises like `run_eval`."""
    if config.suite is not None:
        bfcl = read_bfcl(config.suite.partition(":")[2])
        load_ast_checker()
        return bfcl.suite, bfcl
    assert config.cases is not None
    return read_suite(config.cases, config.tools, config.cases_format, skip_invalid=config.skip_invalid), None


def run_eval(
    config: EvalConfig, backend: Backend | None = None, on_progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Evaluate a model, or saved predictions, on a suite.

    Cases that an earlier run in the same directory answered are not asked again; cases on which the backend failed are.

    Args:
        config: what to evaluate.
        backend: who answers; None where `config.predictions` is given.
        on_progress: is told how many of how many answers are there, at the start and whenever that changes.

    Raises:
        DataError: the suite, the predictions, the baseline or the run directory are unusable.
        CatalogError: the suite's catalogue is unusable.
        BackendError: the backend stopped answering; what it answered is kept.
        StorageError: the disk refused, or another process works in the directory.
        ValueError: a backend and `config.predictions` are both given, or neither.
    """
    if (backend is None) == (config.predictions is None):
        raise ValueError("run_eval needs a backend exactly where config.predictions is not given")
    path = config.predictions
    with nullcontext(dict) if path is None else beside(partial(read_predictions, path, repeat=config.repeat)) as read:
        whole_suite, bfcl = open_suite(config)
        suite = whole_suite.first(config.limit)
        conditions = _conditions(config, suite, None if backend is None else backend.prompt_format)
        _require_baseline(config, conditions)
        saved = read()
    if path is not None:
        set_aside = () if bfcl is None else bfcl.unsatisfiable
        known_ids = {*(case.id for case in whole_suite.cases), *set_aside}
        saved = predictions_of_suite(path, saved, known_ids, suite.safe_names, suite.specs)
    files = () if bfcl is None else bfcl.files
    inputs = [path for path in (config.cases, config.tools, config.predictions, *files) if path is not None]
    with RunDirectory(
        config.out,
        stage="eval",
        config=config.model_dump(mode="json"),
        inputs=inputs,
        seed=config.decode.seed,
        model=None if backend is None else backend.ref,
        template_sha256=conditions["template_sha256"],
        volatile=_VOLATILE,
    ) as run:
        if run.complete:
            run.reopen()
        if backend is None:
            answers = saved
            if on_progress is not None:
                asked = _asked(suite, config.repeat)
                on_progress(sum(key in answers for key in asked), len(asked))
        else:
            answers = _ask(config, backend, suite, run.path / "predictions.jsonl", on_progress)
        evaluation = with_verdict(_evaluate(config, backend, suite, answers, conditions, bfcl), config.gate)
        with beside(lambda: write_jsonl(run.path / "predictions.jsonl", _ordered(answers, whole_suite))) as written:
            write_jsonl(run.path / "scores.jsonl", evaluation.answer_scores)
            write_json(run.path / "report.json", evaluation.report.model_dump(mode="json"))
            written()
        if not evaluation.report.num_unscored:
            run.mark_complete()
    return evaluation


def with_verdict(evaluation: Evaluation, gate: GateConfig) -> Evaluation:
    """The evaluation with the verdict of a gate; unchanged where that has no rule, or a case has no answer.

    Raises:
        DataError: the baseline is unusable, or of other conditions and `gate.allow_mismatch` is off.
    """
    if not gate.is_on or evaluation.report.num_unscored:
        return evaluation
    baseline = None if gate.baseline is None else read_baseline(gate.baseline)
    verdict = judge(gate, evaluation.report, evaluation.answer_scores, evaluation.suite.cases, baseline)
    return replace(evaluation, report=evaluation.report.model_copy(update={"gate": verdict}))


def _conditions(config: EvalConfig, suite: Suite, prompts: PromptFormat | None) -> dict[str, Any]:
    """Under what the run's verdicts are found, as `Report` and `Baseline` name it."""
    return {
        "cases_sha256": suite.cases_sha256,
        "tools_sha256": suite.tools_sha256,
        "template_sha256": None if prompts is None else prompts.template_sha256,
        "tools_in_prompt": None if prompts is None else prompts.tools_in_prompt,
        "decode_sha256": None if config.model is None else sha256_json(config.decode.model_dump(mode="json")),
        "default_equals_omitted": config.default_equals_omitted,
        "repeat": config.repeat,
    }


def _require_baseline(config: EvalConfig, conditions: Mapping[str, Any]) -> Baseline | None:
    """What the gate compares with, if anything; refused where it was measured under other conditions."""
    if config.gate.baseline is None:
        return None
    baseline = read_baseline(config.gate.baseline)
    require_comparable(config.gate, baseline, {**conditions, "scorer_version": SCORER_VERSION})
    return baseline


def _asked(suite: Suite, repeat: int) -> list[tuple[str, int]]:
    """Every answer that a run is to have."""
    return [(case.id, repetition) for case in suite.cases for repetition in range(repeat)]


def _ordered(answers: _Answers, suite: Suite) -> Iterator[Prediction]:
    """All answers that are there, case by case: also those that this run's `limit` or `repeat` leave out."""
    place = {case.id: number for number, case in enumerate(suite.cases)}
    for case_id, repetition in sorted(
        (key for key in answers if key[0] in place), key=lambda key: (place[key[0]], key[1])
    ):
        yield answers[case_id, repetition]


def _ask(
    config: EvalConfig,
    backend: Backend,
    suite: Suite,
    journal_path: Path,
    on_progress: Callable[[int, int], None] | None,
) -> _Answers:
    with Journal(journal_path, Prediction) as journal:
        answers = {(answer.id, answer.repetition): answer for answer in journal}
        asked = _asked(suite, config.repeat)
        names = _request_names(asked)
        cases = {case.id: case for case in suite.cases}
        requests = [
            Request(id=name, messages=cases[case_id].messages, specs=suite.specs[case_id])
            for name, (case_id, repetition) in names.items()
            if (case_id, repetition) not in answers or answers[case_id, repetition].error is not None
        ]
        num_done = len(asked) - len(requests)
        if on_progress is not None:
            on_progress(num_done, len(asked))
        if not requests:
            return answers
        for completion in backend.complete(requests, config.decode):
            case_id, repetition = names[completion.id]
            answer = _prediction(case_id, repetition, completion, suite.specs[case_id])
            journal.append([answer])
            answers[case_id, repetition] = answer
            num_done += 1
            if on_progress is not None:
                on_progress(num_done, len(asked))
        return answers


def _request_names(asked: Sequence[tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """What each answer is asked for as: backends draw its sample from that name, so that a case's answers differ."""
    names = {f"{case_id}#{number}" if number else case_id: (case_id, number) for case_id, number in asked}
    if len(names) < len(asked):
        case_ids = {case_id for case_id, _ in asked}
        clash = next(name for case_id, number in asked if (name := f"{case_id}#{number}") in case_ids)
        raise DataError(
            f"case {clash!r} has the name that a repetition of another case is asked under",
            required="ids that do not end in # and a number, where cases are repeated",
            fix="rename that case",
        )
    return names


def _prediction(case_id: str, repetition: int, completion: Completion, specs: Sequence[ToolSpec]) -> Prediction:
    return prediction_from_text(
        case_id,
        completion.text,
        completion.finish_reason,
        parsed=completion.parsed(specs) if completion.error is None else None,
        repetition=repetition,
        latency_s=completion.latency_s,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        thought_tokens=completion.thought_tokens,
        error=completion.error,
    )


def _evaluate(
    config: EvalConfig,
    backend: Backend | None,
    suite: Suite,
    answers: _Answers,
    conditions: Mapping[str, Any],
    bfcl: BfclSuite | None,
) -> Evaluation:
    scorers: dict[int, Scorer] = {}  # by identity: cases of one catalogue share one tuple of specs
    answered: list[tuple[EvalCase, list[Prediction]]] = []
    unscored_ids: list[str] = []
    speaking: dict[str, Prediction] = {}
    for case in suite.cases:
        given = [answers[case.id, number] for number in range(config.repeat) if (case.id, number) in answers]
        failed = next((answer for answer in given if answer.error is not None), None)
        if failed is not None:
            speaking[case.id] = failed
        if failed is not None or len(given) < config.repeat:
            unscored_ids.append(case.id)
            continue
        specs = suite.specs[case.id]
        if id(specs) not in scorers:
            scorers[id(specs)] = Scorer(specs, default_equals_omitted=config.default_equals_omitted)
        answered.append((case, given))

    def scored(part: Sequence[tuple[EvalCase, list[Prediction]]]) -> list[list[Score]]:
        return [[scorers[id(suite.specs[case.id])].score(case, answer) for answer in given] for case, given in part]

    scores = [score for found in map_parts(scored, answered) for score in found]
    if bfcl is not None:
        scores = [_with_official(score, bfcl, answers[score.id, score.repetition]) for score in scores]
    verdicts = [case_verdict(found) for found in by_case(scores).values()]
    speaking |= {score.id: answers[score.id, score.repetition] for score in verdicts}
    prompts = None if backend is None else backend.prompt_format
    report = summarise(
        scores,
        [answers[score.id, score.repetition] for score in scores],
        dialect=None if prompts is None else prompts.dialect,
        unscored_ids=unscored_ids,
        model=None if backend is None else backend.ref,
        decode=None if backend is None else config.decode.model_dump(mode="json"),
        set_aside=None if bfcl is None else bfcl.unsatisfiable,
        **conditions,
    )
    return Evaluation(
        report=report,
        suite=suite,
        scores=tuple(verdicts),
        predictions=speaking,
        answer_scores=tuple(scores),
    )


def _with_official(score: Score, bfcl: BfclSuite, prediction: Prediction) -> Score:
    verdict = official_verdict(bfcl.category, bfcl.entries[score.id], prediction)
    return score.model_copy(
        update={"official_correct": verdict.correct, "official_error": None if verdict.correct else verdict.error}
    )
