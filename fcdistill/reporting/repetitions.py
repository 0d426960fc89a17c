"""Which requests of a generation repeat one another or an eval case, with the pairs by which thresholds are judged."""

from rich.table import Table

from fcdistill.records import DedupeReport
from fcdistill.reporting.terminal import rich_table

__all__ = ["render_repetitions"]


def render_repetitions(report: DedupeReport) -> list[Table]:
    """How many were removed at which likeness, then the pairs that are least alike; all stand in rejects.jsonl."""
    if not report.pairs:
        return []
    from_likeness = {
        "duplicate": "the same words",
        "near_duplicate": f"{report.near_duplicate_jaccard:g}, with the same answer",
        "contaminated": f"{report.contamination_jaccard:g}, to an eval case",
    }
    counts = [(check, str(count), from_likeness[check]) for check, count in report.removed.items()]
    pairs = [(pair.check, pair.request, pair.of_request, f"{pair.jaccard:.2f}") for pair in report.pairs]
    return [
        rich_table("Repetitions", ("check", "removed", "from a likeness of"), counts, texts=(0, 2)),
        rich_table("The least alike", ("check", "removed", "like", "likeness"), pairs, texts=(0, 1, 2)),
    ]
