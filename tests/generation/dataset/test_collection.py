"""Tests of `fcdistill.generation.dataset.collection`."""

from collections.abc import Sequence

import pytest

from fcdistill.generation.dataset.collection import Collection
from fcdistill.generation.dataset.dedupe import Contamination, NearDuplicates
from fcdistill.records import Check, Trace
from tests.generation.dataset.light_requests import LONG, calling, case, trace


def collected(
    traces: Sequence[Trace], *cases: str, near: float = 0.7, contaminated: float = 0.5
) -> tuple[Collection, dict[str, Check]]:
    """The collection, and of each trace the last check, which is the one that failed where one did."""
    contamination = Contamination([case(f"case {number}", text) for number, text in enumerate(cases)], contaminated)
    collection = Collection(traces, contamination, NearDuplicates(near))
    return collection, {each.id: collection.check(each)[-1] for each in traces}


def test_each_repetition_is_removed_for_its_reason_and_the_first_stays() -> None:
    traces = [
        trace("first", LONG),
        trace("again", f"{LONG.upper()}!"),
        trace("almost", f"{LONG} thanks"),
        trace("other room", f"{LONG} thank you", answer=calling(room="office")),
        trace("taken", "lower the blinds in the hall"),
    ]
    collection, found = collected(traces, "now lower the blinds in the hall")
    assert {identity: (check.name, check.ok) for identity, check in found.items()} == {
        "first": ("contaminated", True),
        "again": ("duplicate", False),
        "almost": ("near_duplicate", False),
        "other room": ("contaminated", True),
        "taken": ("contaminated", False),
    }
    assert found["again"].detail == "repeats first"
    assert found["almost"].detail == f"says almost what first says (0.89), with the same answer: {LONG!r}"
    detail = "shares its wording with eval case case 0 (0.80): 'now lower the blinds in the hall'"
    assert found["taken"].detail == detail
    report = collection.report()
    assert report.removed == {"duplicate": 1, "near_duplicate": 1, "contaminated": 1}
    assert [(pair.check, pair.id, pair.of, pair.jaccard) for pair in report.pairs] == [
        ("duplicate", "again", "first", 1.0),
        ("near_duplicate", "almost", "first", 0.889),
        ("contaminated", "taken", "case 0", 0.8),
    ]
    assert report.pairs[1].request == f"{LONG} thanks" and report.pairs[1].of_request == LONG


@pytest.mark.parametrize(("near", "contaminated", "last"), [(0.9, 0.9, True), (0.7, 0.9, False), (0.9, 0.5, False)])
def test_thresholds_are_what_they_are_set_to(near: float, contaminated: float, last: bool) -> None:
    traces = [trace("first", LONG), trace("almost", f"{LONG} thanks")]
    collection, found = collected(traces, f"{LONG} thanks a lot my friend", near=near, contaminated=contaminated)
    assert found["almost"].ok == last
    report = collection.report()
    assert (report.near_duplicate_jaccard, report.contamination_jaccard) == (near, contaminated)


def test_what_was_removed_removes_nothing_itself() -> None:
    """Likeness is not passed on: the third is like the second, which is gone, and not like the first."""
    words = "one fine morning we all went down to a very old mill by that river".split()
    traces = [trace(str(start), " ".join(words[start : start + 11])) for start in range(3)]
    _, found = collected(traces, near=0.7)
    assert [check.ok for check in found.values()] == [True, False, True]


def test_the_report_shows_the_least_alike() -> None:
    words = "please turn the light in the kitchen on right now so that we can read our books"
    traces = [trace("first", words), *(trace(f"n{more}", words + " thanks" * more) for more in range(1, 9))]
    collection, found = collected(traces, near=0.6)
    pairs = collection.report().pairs
    assert sum(not check.ok for check in found.values()) > len(pairs) == 5
    assert [pair.jaccard for pair in pairs] == sorted(pair.jaccard for pair in pairs)
