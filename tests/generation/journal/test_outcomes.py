"""Tests of `fcdistill.generation.journal.outcomes`."""

from pathlib import Path

import pytest

from fcdistill.errors import DataError
from fcdistill.generation.journal.outcomes import Entry, Outcomes
from fcdistill.records import Check, Message, ModelRef, Outcome, Trace, TraceMeta


def outcome(identity: str, attempt: int, *failed: str) -> Outcome:
    checks = (Check(name="request", ok=True), *(Check(name=name, ok=False, detail=f"no {name}") for name in failed))
    meta = TraceMeta(source="call_first", category="simple", plan_cell="c", teacher=ModelRef(model="t"), checks=checks)
    messages = (Message(role="user", content=f"request {identity}"), Message(role="assistant", content="y"))
    trace = Trace(id=identity, messages=messages, tools=(), split_group="g", meta=meta)
    return Outcome(id=identity, attempt=attempt, candidate=trace)


MADE = [outcome("a", 0, "parse", "schema"), outcome("b", 0), outcome("a", 1), outcome("c", 1, "schema")]


def test_entries_say_what_is_on_disk_over_reopening(tmp_path: Path) -> None:
    with Outcomes(tmp_path / "journal.jsonl") as outcomes:
        outcomes.append(MADE[:3])
        outcomes.append(MADE[3:])
        entries = outcomes.entries
    with Outcomes(tmp_path / "journal.jsonl") as outcomes:
        assert outcomes.entries == entries
        assert [(entry.id, entry.attempt, entry.failed, entry.teacher) for entry in entries] == [
            ("a", 0, "parse", "t"),
            ("b", 0, "", "t"),
            ("a", 1, "", "t"),
            ("c", 1, "schema", "t"),
        ]
        assert [outcomes.read(entry) for entry in reversed(entries)] == MADE[::-1]
        assert list(outcomes) == MADE


def test_the_last_attempt_at_each_item_before_another_one(tmp_path: Path) -> None:
    def attempts(found: dict[str, Entry]) -> dict[str, int]:
        return {name: entry.attempt for name, entry in found.items()}

    with Outcomes(tmp_path / "journal.jsonl") as outcomes:
        outcomes.append(MADE)
        assert attempts(outcomes.last()) == {"a": 1, "b": 0, "c": 1}
        assert attempts(outcomes.last(before=1)) == {"a": 0, "b": 0}
        assert outcomes.last(before=0) == {}


def test_what_is_taken_over_is_added_once_however_often_it_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcdistill.generation.journal.outcomes._BATCH", 2)
    appended: list[int] = []
    append = Outcomes.append

    def stops_after_the_first(self: Outcomes, added: list[Outcome]) -> None:
        if appended:
            raise InterruptedError
        appended.append(len(added))
        append(self, added)

    found = {(made.id, made.attempt) for made in MADE}
    with monkeypatch.context() as patch, Outcomes(tmp_path / "journal.jsonl") as outcomes:
        patch.setattr(Outcomes, "append", stops_after_the_first)
        with pytest.raises(InterruptedError):
            outcomes.append_missing(MADE)
    assert appended == [2]
    for _ in range(2):
        with Outcomes(tmp_path / "journal.jsonl") as outcomes:
            assert outcomes.append_missing(iter(MADE)) == found
            assert list(outcomes) == MADE


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="journal.jsonl, line 1"):
        Outcomes(tmp_path / "journal.jsonl")
