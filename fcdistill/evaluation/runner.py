"""`fcdistill eval`: ask the cases that have no answer yet, score all answers, write the files.

A run directory holds `predictions.jsonl` (appended while the run goes on, so that a killed run resumes),
`scores.jsonl`, `report.json` and `manifest.json`. How a report is shown is not known here (`reporting`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcdistill.backends import Backend, Completion, PromptFormat, Request, prompt_format
from fcdistill.backends.call_grammar import require_enforceable
from fcdistill.config import EvalConfig, GateConfig
from fcdistill.evaluation.bfcl import BfclSuite, read_bfcl
from fcdistill.evaluation.bfcl_official import load_ast_checker, official_verdict
from fcdistill.evaluation.gate import judge, read_baseline, require_comparable
from fcdistill.evaluation.predictions import prediction_from_text, read_predictions
from fcdistill.evaluation.scoring import SCORER_VERSION, Scorer
from fcdistill.evaluation.stats import summarise
from fcdistill.evaluation.suites import Suite, read_suite
from fcdistill.records import Baseline, Prediction, Report, Score
from fcdistill.storage import Journal, RunDirectory, sha256_json, write_json, write_jsonl

__all__ = ["Evaluation", "check_inputs", "exit_code", "open_suite", "run_eval", "with_verdict"]

_VOLATILE = frozenset({"default_equals_omitted", "gate", "limit", "out"})
"""Config fields that change no answer: with others, the answers that are there already still stand."""


@dataclass(frozen=True)
class Evaluation:
    """What an eval run found.

    Attributes:
        report: the figures, as in report.json.
        suite: the evaluated cases and their tools.
        scores: one verdict per scored case, in the cases' order.
        predictions: the answers by case id; an unscored case may have none.
    """

    report: Report
    suite: Suite
    scores: tuple[Score, ...]
    predictions: dict[str, Prediction]


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
    return read_suite(config.cases, config.tools), None


def run_eval(
    config: EvalConfig, backend: Backend | None = None, on_progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Evaluate a model, or saved predictions, on a suite.

    Cases that an earlier run in the same directory answered are not asked again; cases on which the backend failed are.

    Args:
        config: what to evaluate.
        backend: who answers; None where `config.predictions` is given.
        on_progress: is told how many of how many cases have an answer, at the start and whenever that changes.

    Raises:
        DataError: the suite, the predictions, the baseline or the run directory are unusable.
        CatalogError: the suite's catalogue is unusable.
        BackendError: the backend stopped answering; what it answered is kept.
        StorageError: the disk refused, or another process works in the directory.
        ValueError: a backend and `config.predictions` are both given, or neither.
    """
    if (backend is None) == (config.predictions is None):
        raise ValueError("run_eval needs a backend exactly where config.predictions is not given")
    whole_suite, bfcl = open_suite(config)
    suite = whole_suite.first(config.limit)
    conditions = _conditions(config, suite, None if backend is None else backend.prompt_format)
    _require_baseline(config, conditions)
    saved = None
    if config.predictions is not None:
        set_aside = () if bfcl is None else bfcl.unsatisfiable
        known_ids = frozenset([*(case.id for case in whole_suite.cases), *set_aside])
        saved = read_predictions(config.predictions, known_ids, suite.safe_names)
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
        if saved is not None:
            predictions = saved
            if on_progress is not None:
                on_progress(sum(case.id in predictions for case in suite.cases), len(suite.cases))
        else:
            assert backend is not None
            predictions = _ask(config, backend, suite, run.path / "predictions.jsonl", on_progress)
        evaluation = with_verdict(_evaluate(config, backend, suite, predictions, conditions, bfcl), config.gate)
        ordered = [predictions[case.id] for case in whole_suite.cases if case.id in predictions]
        write_jsonl(run.path / "predictions.jsonl", ordered)
        write_jsonl(run.path / "scores.jsonl", evaluation.scores)
        write_json(run.path / "report.json", evaluation.report.model_dump(mode="json"))
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
    verdict = judge(gate, evaluation.report, evaluation.scores, evaluation.suite.cases, baseline)
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
    }


def _require_baseline(config: EvalConfig, conditions: Mapping[str, Any]) -> Baseline | None:
    """What the gate compares with, if anything; refused where it was measured under other conditions."""
    if config.gate.baseline is None:
        return None
    baseline = read_baseline(config.gate.baseline)
    require_comparable(config.gate, baseline, {**conditions, "scorer_version": SCORER_VERSION})
    return baseline


def _ask(
    config: EvalConfig,
    backend: Backend,
    suite: Suite,
    journal_path: Path,
    on_progress: Callable[[int, int], None] | None,
) -> dict[str, Prediction]:
    with Journal(journal_path, Prediction) as journal:
        predictions = {prediction.id: prediction for prediction in journal.records}
        answered = {case_id for case_id, prediction in predictions.items() if prediction.error is None}
        num_cases = len(suite.cases)
        requests = [
            Request(id=case.id, messages=case.messages, specs=suite.specs[case.id])
            for case in suite.cases
            if case.id not in answered
        ]
        num_done = num_cases - len(requests)
        if on_progress is not None:
            on_progress(num_done, num_cases)
        if not requests:
            return predictions
        for completion in backend.complete(requests, config.decode):
            prediction = _prediction(completion)
            journal.append([prediction])
            predictions[prediction.id] = prediction
            num_done += 1
            if on_progress is not None:
                on_progress(num_done, num_cases)
        return predictions


def _prediction(completion: Completion) -> Prediction:
    return prediction_from_text(
        completion.id,
        completion.text,
        completion.finish_reason,
        latency_s=completion.latency_s,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        error=completion.error,
    )


def _evaluate(
    config: EvalConfig,
    backend: Backend | None,
    suite: Suite,
    predictions: dict[str, Prediction],
    conditions: Mapping[str, Any],
    bfcl: BfclSuite | None,
) -> Evaluation:
    scorers: dict[int, Scorer] = {}  # by identity: cases of one catalogue share one tuple of specs
    scores: list[Score] = []
    unscored_ids: list[str] = []
    for case in suite.cases:
        prediction = predictions.get(case.id)
        if prediction is None or prediction.error is not None:
            unscored_ids.append(case.id)
        else:
            specs = suite.specs[case.id]
            if id(specs) not in scorers:
                scorers[id(specs)] = Scorer(specs, default_equals_omitted=config.default_equals_omitted)
            score = scorers[id(specs)].score(case, prediction)
            scores.append(score if bfcl is None else _with_official(score, bfcl, prediction))
    report = summarise(
        scores,
        predictions,
        unscored_ids=unscored_ids,
        model=None if backend is None else backend.ref,
        set_aside=None if bfcl is None else bfcl.unsatisfiable,
        **conditions,
    )
    return Evaluation(report=report, suite=suite, scores=tuple(scores), predictions=predictions)


def _with_official(score: Score, bfcl: BfclSuite, prediction: Prediction) -> Score:
    verdict = official_verdict(bfcl.category, bfcl.entries[score.id], prediction)
    return score.model_copy(
        update={"official_correct": verdict.correct, "official_error": None if verdict.correct else verdict.error}
    )
