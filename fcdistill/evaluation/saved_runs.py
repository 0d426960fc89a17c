"""Finished evaluations read back from their directories, and whether their figures may stand side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fcdistill.errors import DataError
from fcdistill.records import Report, Score
from fcdistill.storage import describe_validation_error, iter_jsonl, read_json

__all__ = ["SavedRun", "describe_differences", "read_run", "require_comparable"]


@dataclass(frozen=True)
class SavedRun:
    """What an evaluation left behind.

    Attributes:
        path: the directory that holds the files.
        report: report.json.
        scores: scores.jsonl, the verdicts on every case's answers.
    """

    path: Path
    report: Report
    scores: tuple[Score, ...]


def read_run(path: Path) -> SavedRun:
    """Read a complete evaluation.

    Args:
        path: the output directory of `fcdistill eval`, or a report file with scores.jsonl beside it.

    Raises:
        DataError: a file is missing or malformed, cases are unscored, or the two files are of different evaluations.
        StorageError: the disk refused.
    """
    report_path = path / "report.json" if path.is_dir() else path
    scores_path = report_path.with_name("scores.jsonl")
    try:
        report = Report.model_validate(read_json(report_path, "report"))
    except ValidationError as error:
        raise DataError(
            f"report {report_path}: {describe_validation_error(error)}",
            required="a report.json of `fcdistill eval` (schemas/records/report.json)",
            fix="name the output directory of an evaluation",
        ) from None
    if report.num_unscored:
        named = ", ".join(report.unscored_ids[:3]) + (", …" if report.num_unscored > 3 else "")
        raise DataError(
            f"report {report_path}: {report.num_unscored} of {report.num_cases} cases are unscored ({named})",
            required="a complete evaluation: a comparison without these cases would be of another suite",
            fix="run that `fcdistill eval` again: only the cases without an answer are asked",
        )
    scores = tuple(iter_jsonl(scores_path, Score, "scores"))
    found = (sum(score.correct for score in scores), len(scores))
    told = (report.call_accuracy.successes, report.call_accuracy.n)
    if found != told:
        raise DataError(
            f"{report_path} tells of {told[0]} of {told[1]} answers right, {scores_path} of {found[0]} of {found[1]}",
            required="a report and the scores that it was made from",
            fix="run that `fcdistill eval` again in the same directory; answers that are there are not asked again",
        )
    return SavedRun(report_path.parent, report, scores)


def require_comparable(runs: Sequence[SavedRun]) -> None:
    """Refuse runs whose verdicts mean different things.

    Raises:
        DataError: a run has other cases or was scored by other rules than the first.
    """
    first, *others = runs
    for run in others:
        differing = [
            f"{field} {before} there, {now} here"
            for field in ("cases_sha256", "scorer_version", "default_equals_omitted")
            if (before := getattr(first.report, field)) != (now := getattr(run.report, field))
        ]
        if differing:
            raise DataError(
                f"{run.path} can't be compared with {first.path}: {'; '.join(differing)}",
                required="the same cases, scored by the same rules",
                fix="run `fcdistill eval` again with the same cases, limit and default_equals_omitted, by one version "
                "of fcdistill",
            )


def describe_differences(runs: Sequence[SavedRun]) -> list[str]:
    """What differs between the first run and another although it may: tools, prompts, decoding, answers to each case.

    What either run did not record, such as the decode settings of saved predictions, is no difference.
    """
    first, *others = runs
    notes = []
    for run in others:
        for field, what in (
            ("tools_sha256", "tool catalogue"),
            ("template_sha256", "chat template, or the date that it writes"),
            ("tools_in_prompt", "tools_in_prompt"),
            ("decode_sha256", "decode settings"),
            ("repeat", "number of answers to each case"),
        ):
            before, now = getattr(first.report, field), getattr(run.report, field)
            if before is not None and now is not None and before != now:
                notes.append(f"{run.path} and {first.path} differ in their {what}")
    return notes
