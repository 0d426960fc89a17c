"""`fcdistill traces judge`: a model that learned the other folds joins the words as a witness of traces that exist.

    <out>/manifest.json, fold-K/        see `fold_students`
    <out>/traces.jsonl, rejects.jsonl   what became of the candidates; every reject says why
    <out>/stats.json                    `records.JudgeStats`

Which answers the model was right about is not known; how often it notices an error is, since errors were planted. From
that, from the words and from the source's prior error rate follows how precise the kept traces are, and which are kept.
Where a refused answer's own request bears out another one that the model gives by itself, that takes its place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdistill.backends import Request, open_backend
from fcdistill.backends.base import complete_all
from fcdistill.config import AdaptConfig, DecodeSettings, LocalBackendConfig, Trust
from fcdistill.errors import ConfigError
from fcdistill.evidence.candidates import (
    WORD_CHECK,
    Domain,
    Source,
    Variant,
    plant_errors,
    read_domains,
    read_source,
    with_calls,
)
from fcdistill.evidence.fold_students import assign_folds, fold_training, gaps_of_fold, train_fold
from fcdistill.evidence.witness_rates import kept_precision, policy_rates, witness_rates, word_rates
from fcdistill.generation.dataset.collection import Collection
from fcdistill.generation.dataset.dedupe import Contamination, NearDuplicates, request_key
from fcdistill.generation.dataset.trace_words import trace_words
from fcdistill.generation.dataset.turns import merge_groups, user_texts
from fcdistill.generation.plan.plan import calls_group
from fcdistill.generation.verification.calibration import (
    Calibration,
    Sample,
    calibrate,
    gap_measures,
    joint_measures,
    threshold_keeping,
)
from fcdistill.generation.verification.ladder import proving_answer
from fcdistill.generation.verification.policy import PRIOR_ERROR_RATE, decide
from fcdistill.records import (
    AnswerGaps,
    Check,
    EvalCase,
    JudgeStats,
    Reject,
    ToolCall,
    Trace,
    WitnessRates,
)
from fcdistill.records.equality import same_calls
from fcdistill.storage import RunDirectory, read_json, read_jsonl, sha256_json, write_json, write_jsonl
from fcdistill.traces.recorded_steps import category_of

__all__ = ["Judging", "judge_traces"]

JUDGED, RELABELLED = "judged", "relabelled"
"""Names of checks."""
_COMPARED_SHARES = (0.9, 0.97)
"""Of the candidates; what witnesses let through is compared where they keep so many."""
_MAX_ANSWER_TOKENS = 256


@dataclass(frozen=True)
class Judging:
    """How traces are judged.

    Attributes:
        model: reference of the student that is trained once per fold.
        num_folds: 2 or more.
        precision: share of right ones that what is kept is to have; None: as the source's configuration says.
        trust: whose answers the source has; None: as the source's configuration says.
        epochs: passes of each student over the other folds.
        device: as `train` takes it.
        seed: of folds, planted errors and training.
    """

    model: str
    num_folds: int = 2
    precision: float | None = None
    trust: Trust | None = None
    epochs: float = 3.0
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class _Judged:
    """The candidates with what all witnesses say of them and of planted errors.

    Attributes:
        source: the candidates.
        domains: what knows their tools, by candidate.
        variants: candidates and planted errors.
        gaps: of each, by the id of its trace.
        folds: of the candidates, by id.
        groups: their split groups.
        trainings: of each fold.
        prior: share of wrong ones among the candidates.
        precision: that is aimed at.
    """

    source: Source
    domains: Mapping[str, Domain]
    variants: Sequence[Variant]
    gaps: Mapping[str, AnswerGaps]
    folds: Mapping[str, int]
    groups: Mapping[str, str]
    trainings: Sequence[AdaptConfig]
    prior: float
    precision: float

    def samples(self, *, with_words: bool = True) -> list[Sample]:
        """What is measured of each variant."""
        return [
            Sample(
                self.groups[variant.of],
                variant.kind,
                joint_measures(variant.words, self.gaps[variant.trace.id])
                if with_words
                else gap_measures(self.gaps[variant.trace.id]),
            )
            for variant in self.variants
        ]

    def calibrated(self, samples: Sequence[Sample]) -> Calibration:
        """The combination of these measures."""
        return calibrate(samples, prior_error_rate=self.prior, precision=self.precision)


def judge_traces(
    directory: Path,
    out: Path,
    judging: Judging,
    *,
    report: Callable[[str], None],
    on_progress: Callable[[int, int], None],
) -> JudgeStats:
    """Judge the traces and word rejects of an import or a generation; a finished directory returns its stats at once.

    Args:
        directory: what `traces import` or `generate` wrote; it stays as it is.
        out: the directory to write.
        judging: how.
        report: takes lines about the training.
        on_progress: called with (answers done, answers in all) of a fold while they are measured.

    Raises:
        FcdistillError: inputs are unusable, or the model can't be trained.
    """
    if out.resolve() == directory.resolve():
        raise ConfigError(
            f"--out {out} is the input", required="another directory", fix="choose another one, or leave --out away"
        )
    source = read_source(directory)
    precision, trust = judging.precision or source.precision, judging.trust or source.trust
    config = {
        "traces": str(directory), "model": judging.model, "folds": judging.num_folds, "precision": precision,
        "trust": trust, "epochs": judging.epochs, "device": judging.device,
    }  # fmt: skip
    inputs = [directory / "traces.jsonl", directory / "rejects.jsonl"]
    with RunDirectory(
        out, stage="judge", config=config, inputs=inputs, seed=judging.seed, volatile=frozenset({"device"})
    ) as run:
        if run.complete:
            return JudgeStats.model_validate(read_json(out / "stats.json", "stats file"))
        judged = _heard(source, out, judging, PRIOR_ERROR_RATE[trust], precision, report, on_progress)
        samples = judged.samples()
        combined = judged.calibrated(samples)
        kept, rejects, counts = _collected(source, _verdicts(judged, combined))
        witnesses = _rates(judged, samples, combined)
        stats = JudgeStats(
            candidates=len(source.candidates),
            kept=len(kept),
            **counts,
            prior_error_rate=judged.prior,
            precision=precision,
            estimated_precision=kept_precision(witnesses[-1], judged.prior),
            threshold=round(combined.threshold, 4),
            weights=combined.weights,
            witnesses=tuple(witnesses),
        )
        write_jsonl(out / "traces.jsonl", merge_groups(kept, _group_keys))
        write_jsonl(out / "rejects.jsonl", rejects)
        write_json(out / "stats.json", stats.model_dump(mode="json"))
        run.mark_complete()
    return stats


# --- what the witnesses say


def _heard(
    source: Source,
    out: Path,
    judging: Judging,
    prior: float,
    precision: float,
    report: Callable[[str], None],
    on_progress: Callable[[int, int], None],
) -> _Judged:
    """Plant errors, train the students of all folds, and hear words and students."""
    domains = read_domains(source, seed=judging.seed)
    groups, folds = assign_folds(source, judging.num_folds, seed=judging.seed)
    variants = plant_errors(source, domains)
    gaps: dict[str, AnswerGaps] = {}
    trainings = []
    for fold in range(judging.num_folds):
        training = fold_training(
            judging.model,
            source,
            out / f"fold-{fold + 1}",
            epochs=judging.epochs,
            device=judging.device,
            seed=judging.seed,
        )
        report(f"fold {fold + 1} of {judging.num_folds}")
        train_fold(training, source, folds, fold, report)
        gaps |= gaps_of_fold(training, [each for each in variants if folds[each.of] == fold], on_progress)
        trainings.append(training)
    return _Judged(source, domains, variants, gaps, folds, groups, trainings, prior, precision)


def _rates(judged: _Judged, samples: Sequence[Sample], combined: Calibration) -> list[WitnessRates]:
    """What each witness keeps and lets through; the last are the rates of what was decided."""
    variants = judged.variants
    bare = judged.samples(with_words=False)
    alone = judged.calibrated(bare)

    def from_score(name: str, calibration: Calibration, threshold: float) -> WitnessRates:
        scores = {each.trace.id: score for each, score in zip(variants, calibration.scores, strict=True)}
        return witness_rates(name, variants, lambda variant: scores[variant.trace.id] >= threshold)

    compared = [
        from_score(f"{name}, {share:.0%} kept", fitted, threshold_keeping(fitted.scores, measured, share))
        for name, fitted, measured in (("model", alone, bare), ("words and model", combined, samples))
        for share in _COMPARED_SHARES
    ]
    decided = from_score("words and model, as decided", combined, combined.threshold)
    return [word_rates(variants), *policy_rates(variants), *compared, decided]


# --- what follows from it


def _verdicts(judged: _Judged, combined: Calibration) -> list[tuple[Trace, Check | None]]:
    """Every candidate with its checks, and the one that it failed."""
    decided: list[tuple[Variant, Check]] = []
    for variant, score in zip(judged.variants, combined.scores, strict=True):
        if variant.kind is None:
            keeps = score >= combined.threshold
            decision = decide("balanced", variant.words, independent=True, model="for" if keeps else "against")
            measured = f"log odds {score:.1f}, kept from {combined.threshold:.1f}"
            measured += _told(judged.gaps[variant.trace.id])
            detail = "; ".join(filter(None, (measured, decision.detail)))
            decided.append((variant, Check(name=JUDGED, ok=decision.keep, detail=detail)))
    others = _other_answers(judged, [variant for variant, check in decided if not check.ok])
    verdicts: list[tuple[Trace, Check | None]] = []
    for variant, check in decided:
        trace = variant.trace
        calls = others.get(trace.id)
        checks = [_overruled(each) for each in trace.meta.checks]
        if calls is not None:
            made = ", ".join(f"{call.name}{call.arguments}" for call in trace.answer.calls)
            checks.append(Check(name=RELABELLED, ok=True, detail=f"{check.detail}; took the place of {made}"))
            trace = with_calls(trace, calls, trace.id)
            meta = trace.meta.model_copy(update={"checks": tuple(checks), "category": category_of(calls)})
            verdicts.append((trace.model_copy(update={"meta": meta}), None))
        else:
            checks = checks if check.ok else list(trace.meta.checks)
            meta = trace.meta.model_copy(update={"checks": (*checks, check)})
            verdicts.append((trace.model_copy(update={"meta": meta}), None if check.ok else check))
    return verdicts


def _told(gaps: AnswerGaps) -> str:
    """Where the model would most have liked another token."""
    places = {"the name of a tool": gaps.name, "an end": gaps.end}
    places |= {f"the argument {each.name} of call {each.call + 1}": each.gap for each in gaps.arguments}
    place, gap = max(places.items(), key=lambda item: item[1])
    return f"; largest gap {gap:.1f} nats, at {place}" if gap > 0 else ""


def _overruled(check: Check) -> Check:
    """A refusal by words that the judging has heard, and which is no verdict any more; other checks as they are."""
    return check.model_copy(update={"ok": True}) if check.name == WORD_CHECK else check


def _other_answers(judged: _Judged, refused: Sequence[Variant]) -> dict[str, tuple[ToolCall, ...]]:
    """What the students themselves answer to refused candidates, where the words agree with them; by candidate.

    They do where they speak against the candidate and bear out all of the other answer. Where they are merely silent
    about the candidate, a student that forgets a call would have its way.
    """
    refused = [variant for variant in refused if variant.words.said("against") or variant.words.missing]
    found: dict[str, tuple[ToolCall, ...]] = {}
    for fold, training in enumerate(judged.trainings):
        own = [variant.trace for variant in refused if judged.folds[variant.of] == fold]
        if not own:
            continue
        backend = open_backend(
            LocalBackendConfig(model=str(training.out), dtype=training.dtype, device=training.device)
        )
        try:
            requests = [Request(id=trace.id, messages=trace.messages[:-1], specs=trace.specs) for trace in own]
            answers = complete_all(backend, requests, DecodeSettings(max_new_tokens=_MAX_ANSWER_TOKENS))
        finally:
            backend.close()
        for trace, answer in zip(own, answers, strict=True):
            verifier = judged.domains[trace.id].verifier
            output = answer.parsed(trace.specs)
            if answer.error is None and output.calls and all(check.ok for check in proving_answer(verifier, output)):
                calls = tuple(map(verifier.tidied, output.calls))
                is_other = not same_calls(calls, trace.answer.calls)
                if is_other and not trace_words(verifier, trace, calls).refusals:
                    found[trace.id] = calls
    return found


def _collected(
    source: Source, verdicts: Sequence[tuple[Trace, Check | None]]
) -> tuple[list[Trace], list[Reject], dict[str, int]]:
    """Traces and rejects, and what changed; what was no trace before is held against traces and eval cases."""
    cases = [case for path in source.decontaminate for case in read_jsonl(path, EvalCase, "eval cases")]
    collection = Collection(
        (), Contamination(cases, source.contamination_jaccard), NearDuplicates(source.near_duplicate_jaccard)
    )
    kept, rejects = list(source.silent), list(source.rejects)
    counts = {"readmitted": 0, "relabelled": 0, "withdrawn": 0}
    for trace in source.silent:
        collection.check(trace, _past(trace))
    # Traces come before rejects in a source: they keep their places.
    for trace, failed in verdicts:
        is_relabelled = any(check.name == RELABELLED for check in trace.meta.checks)
        was_trace = trace.id not in source.refused
        if failed is None:
            found = collection.check(trace, _past(trace))
            if not was_trace or is_relabelled:
                checks = (*trace.meta.checks, *found)
                trace = trace.model_copy(update={"meta": trace.meta.model_copy(update={"checks": checks})})
                failed = next((check for check in found if not check.ok), None)
        if failed is None:
            kept.append(trace)
            counts["readmitted"] += not was_trace
            counts["relabelled"] += is_relabelled
        else:
            rejects.append(Reject(id=trace.id, check=failed.name, detail=failed.detail, candidate=trace))
            counts["withdrawn"] += was_trace
    return kept, rejects, counts


def _past(trace: Trace) -> str:
    """What traces share of which one repeats the other: conversation and tools."""
    messages = [message.model_dump(mode="json") for message in trace.messages[:-1]]
    return sha256_json([messages, [tool.model_dump(mode="json") for tool in trace.tools]])


def _group_keys(trace: Trace) -> list[str]:
    calls = [calls_group(trace.answer.calls)] if trace.answer.calls else []
    return [*calls, f"begins-{request_key(user_texts(trace)[0])}"]
