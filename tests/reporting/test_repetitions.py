"""What `generate` shows of removed repetitions."""

from rich.console import Group

from fcdistill.records import DedupeReport, RemovedPair
from fcdistill.reporting.repetitions import render_repetitions
from tests.reporting.reports import printed


def test_pairs_stand_with_their_likeness_and_the_thresholds() -> None:
    pair = RemovedPair(check="near_duplicate", id="b", request="[i]b[/i]", of="a", of_request="the 1st", jaccard=0.714)
    report = DedupeReport(
        near_duplicate_jaccard=0.7, contamination_jaccard=0.5, removed={"near_duplicate": 3}, pairs=(pair,)
    )
    text = printed(Group(*render_repetitions(report)))
    for shown in ("0.7, with the same answer", "[i]b[/i]", "the 1st", "0.71"):
        assert shown in text


def test_nothing_is_shown_where_nothing_was_removed() -> None:
    report = DedupeReport(near_duplicate_jaccard=0.7, contamination_jaccard=0.5, removed={}, pairs=())
    assert render_repetitions(report) == []
