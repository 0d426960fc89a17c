"""Finished evaluations for tests, written as `fcdistill eval` writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcdistill.evaluation.stats import summarise
from fcdistill.records import Prediction
from fcdistill.storage import write_json, write_jsonl
from tests.evaluation.scores import score

__all__ = ["write_run"]


def write_run(directory: Path, outcomes: Sequence[bool], *, unscored_ids: Sequence[str] = (), **changes: Any) -> Path:
    """A run on cases `c0`, `c1`, … with these outcomes; `changes` replace fields of the report."""
    scores = [score(f"c{number}", correct=outcome) for number, outcome in enumerate(outcomes)]
    report = summarise(
        scores,
        [Prediction(id=item.id) for item in scores],
        unscored_ids=unscored_ids,
        cases_sha256="c" * 64,
        tools_sha256="d" * 64,
    )
    write_json(directory / "report.json", report.model_dump(mode="json") | changes)
    write_jsonl(directory / "scores.jsonl", scores)
    return directory
