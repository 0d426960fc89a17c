"""Traces and eval cases against a catalogue that changed: which still hold, which a rename mends, which are broken.

Only what is mechanical is repaired: names. A value that is no longer allowed, or one that is newly required, needs a
new trace. What the differences between the catalogues are is found in `catalog_diff`.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fcdistill.errors import DataError
from fcdistill.records import EvalCase, Message, ToolCall, ToolSpec, Trace
from fcdistill.storage import StrictJsonError, loads_strict, read_jsonl
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.catalog_diff import CatalogChange, Renames, compare_catalogs
from fcdistill.tools.comparator_keyword import split_comparators
from fcdistill.tools.validation import CallValidator

__all__ = ["Revalidation", "RowVerdict", "read_rows", "revalidate"]


@dataclass(frozen=True)
class RowVerdict:
    """What became of one row.

    Attributes:
        id: the row's.
        cell: its plan cell, or the category of a case.
        state: fits: nothing to do; stale: the calls hold, only the tools that it shows are old; renamed: new names mend
            it; broken: they don't; doubtful: it calls no tool, and one that was added might serve it.
        tools: tools of the catalogue as it was that the row calls.
        detail: what breaks it, for people.
    """

    id: str
    cell: str
    state: Literal["fits", "stale", "renamed", "broken", "doubtful"]
    tools: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True)
class Revalidation:
    """All rows against the new catalogue.

    Attributes:
        changes: what differs between the catalogues.
        verdicts: one per row, in the rows' order.
        repaired: the rows that hold, by their new names and with the new tools.
        broken: the others, as they were.
    """

    changes: tuple[CatalogChange, ...]
    verdicts: tuple[RowVerdict, ...]
    repaired: tuple[Trace | EvalCase, ...]
    broken: tuple[Trace | EvalCase, ...]

    @property
    def states(self) -> Counter[str]:
        """How many rows are in each state."""
        return Counter(verdict.state for verdict in self.verdicts)

    def hit(self, key: Literal["tools", "cell"]) -> dict[str, Counter[str]]:
        """States of the rows that do not simply hold, per tool that they call or per cell; the most hit first."""
        counts: dict[str, Counter[str]] = {}
        for verdict in self.verdicts:
            if verdict.state not in ("fits", "stale"):
                for name in verdict.tools or ("",) if key == "tools" else (verdict.cell,):
                    counts.setdefault(name, Counter())[verdict.state] += 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1].total(), item[0])))


@dataclass
class _Check:
    """The new catalogue, and what it made of the old one."""

    catalog: Catalog
    renames: Renames
    validator: CallValidator
    has_added_tools: bool
    old_names: frozenset[str]
    found: list[RowVerdict] = field(default_factory=list)

    def problems(self, calls: Iterable[ToolCall]) -> list[str]:
        return [
            f"{call.name}{violation.pointer}: {violation.detail}"
            for call in calls
            for violation in self.validator.check_call(call)
        ]

    def shown(self, specs: Sequence[ToolSpec]) -> tuple[ToolSpec, ...]:
        """The new tools for a row that showed these: all for one that showed all, else its own that are left."""
        names = {self.renames.tools.get(spec.name, spec.name) for spec in specs}
        everything = {spec.name for spec in specs} >= self.old_names
        return tuple(spec for spec in self.catalog.specs if everything or spec.name in names)


def read_rows(path: Path) -> list[Trace] | list[EvalCase]:
    """The traces, or the eval cases, of a file; its first row tells which.

    Raises:
        DataError: it is missing or empty, or a row is neither.
    """
    rows = read_jsonl(path, EvalCase, "eval cases") if _holds_cases(path) else read_jsonl(path, Trace, "traces file")
    if not rows:
        raise DataError(f"{path} is empty", required="at least one trace or eval case", fix="give another file")
    return rows


def revalidate(
    rows: Sequence[Trace] | Sequence[EvalCase],
    catalog: Catalog,
    *,
    old: Sequence[ToolSpec] | None = None,
    renames: Renames | None = None,
) -> Revalidation:
    """Check every recorded call against the catalogue as it is now.

    Args:
        rows: traces, or eval cases.
        catalog: the tools as they are.
        old: the tools as they were; by default the union of those that the rows show.
        renames: names that the team knows to have changed; others are found where they are plain.

    Raises:
        ConfigError: a given rename names something that neither catalogue has.
        DataError: the rows show no tools, and `old` is not given.
    """
    before = list(old) if old is not None else _shown_by(rows)
    changes, found = compare_catalogs(before, catalog.specs, renames)
    check = _Check(
        catalog,
        found,
        CallValidator(catalog.specs),
        any(change.kind == "added" and not change.parameter for change in changes),
        frozenset(spec.name for spec in before),
    )
    repaired: list[Trace | EvalCase] = []
    broken: list[Trace | EvalCase] = []
    verdicts = []
    for row in rows:
        renewed = _renewed_trace(row, check) if isinstance(row, Trace) else _renewed_case(row, check)
        verdict = _verdict(row, renewed, check)
        verdicts.append(verdict)
        (broken if verdict.state == "broken" else repaired).append(row if verdict.state == "broken" else renewed)
    return Revalidation(tuple(changes), tuple(verdicts), tuple(repaired), tuple(broken))


def _holds_cases(path: Path) -> bool:
    """Whether the first row is an eval case; what can't be read is left to the reader of records, who says why."""
    with contextlib.suppress(OSError, StrictJsonError), path.open("rb") as file:
        first = loads_strict(file.readline())
        return isinstance(first, dict) and "expected" in first
    return False


def _shown_by(rows: Sequence[Trace] | Sequence[EvalCase]) -> list[ToolSpec]:
    shown: dict[str, ToolSpec] = {}
    for row in rows:
        for tool in row.tools or ():
            shown.setdefault(tool.function.name, split_comparators(tool.function, "the rows")[0])
    if not shown:
        raise DataError(
            "the rows hold no tools of their own, so that what changed is not known",
            required="the catalogue as it was",
            fix="give --old-tools",
        )
    return list(shown.values())


def _verdict(row: Trace | EvalCase, renewed: Trace | EvalCase, check: _Check) -> RowVerdict:
    calls, new_calls = _calls(row), _calls(renewed)
    cell = row.meta.plan_cell if isinstance(row, Trace) else row.category
    problems = check.problems(new_calls)
    if problems:
        state: Literal["fits", "stale", "renamed", "broken", "doubtful"] = "broken"
    elif calls != new_calls:
        state = "renamed"
    elif not calls and check.has_added_tools:
        state = "doubtful"
    else:
        state = "fits" if row == renewed else "stale"
    names = tuple(dict.fromkeys(call.name for call in calls))
    return RowVerdict(row.id, cell, state, names, "; ".join(dict.fromkeys(problems)))


def _calls(row: Trace | EvalCase) -> list[ToolCall]:
    """All calls: those of the conversation, and the right answers of a case."""
    calls = [call for message in row.messages for call in message.calls]
    if isinstance(row, EvalCase):
        calls += [call for answer in row.expected for call in answer]
    return calls


def _renewed_trace(trace: Trace, check: _Check) -> Trace:
    shown = check.shown(trace.specs)
    tools = tuple(tool for tool in check.catalog.tools if tool.function in shown)
    return trace.model_copy(update={"messages": _renewed_messages(trace.messages, check.renames), "tools": tools})


def _renewed_case(case: EvalCase, check: _Check) -> EvalCase:
    fields: dict[str, Any] = {
        "messages": _renewed_messages(case.messages, check.renames),
        "expected": tuple(tuple(check.renames.call(call) for call in answer) for answer in case.expected),
        "comparators": {check.renames.comparator(key): rule for key, rule in case.comparators.items()},
    }
    if case.tools is not None:
        shown = check.shown([tool.function for tool in case.tools])
        fields["tools"] = tuple(tool for tool in check.catalog.tools if tool.function in shown)
        # The catalogue's schemas no longer hold them, and the case would lose what its tools said.
        names = {spec.name for spec in shown}
        told = {key: rule for key, rule in check.catalog.comparators.items() if key.partition(".")[0] in names}
        fields["comparators"] = told | fields["comparators"]
    return case.model_copy(update=fields)


def _renewed_messages(messages: Sequence[Message], renames: Renames) -> tuple[Message, ...]:
    def renewed(message: Message) -> Message:
        fields: Mapping[str, Any] = {
            "tool_calls": tuple(
                call.model_copy(update={"function": renames.call(call.function)}) for call in message.tool_calls
            )
        }
        if message.role == "tool" and message.name is not None:
            fields = {**fields, "name": renames.tools.get(message.name, message.name)}
        return message.model_copy(update=fields)

    return tuple(renewed(message) for message in messages)
