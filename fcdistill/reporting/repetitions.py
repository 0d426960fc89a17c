"""Which requests of a generation repeat one another or an eval case, with the pairs by which thresholds are judged."""

from rich.table import Table
from rich.text import Text

from fcdistill.records import DedupeReport
from fcdistill.reporting.terminal import rich_table

__all__ = ["render_repetitions"]


def render_repetitions(report: DedupeReport) -> list[Text | Table]:
    """The removed pairs that are least alike, per check; all stand in rejects.jsonl."""
    if not report.pairs:
        return []
    thresholds = {
        "duplicate": "the same words",
        "near_duplicate": f"from {report.near_duplicate_jaccard:g}, with the same answer",
        "contaminated": f"from {report.contamination_jaccard:g}, by eval cases",
    }
    told = "; ".join(f"{check} {count} ({thresholds[check]})" for check, count in report.removed.items())
    rows = [(pair.check, pair.request, pair.of_request, f"{pair.jaccard:.2f}") for pair in report.pairs]
    title = f"Repetitions: {told}. The least alike:"
    return [rich_table(title, ("check", "removed", "for its likeness to", "likeness"), rows, texts=(0, 1, 2))]
