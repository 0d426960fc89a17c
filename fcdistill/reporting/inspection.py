"""What a traces or rejects file holds: how its records are distributed, and some of them to read.

The records are read one at a time, so that a file of any size is counted in the memory of its counts. Nothing here
changes a file or judges a trace: why a candidate was rejected stands in its record.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fcdistill.errors import DataError
from fcdistill.records import JudgeStats, Message, Reject, ToolCall, ToolSpec, Trace
from fcdistill.reporting.tables import render_judging
from fcdistill.reporting.terminal import rich_table
from fcdistill.reporting.wording import visible
from fcdistill.storage import StrictJsonError, earlier_manifest, iter_jsonl, loads_strict, read_json, storage_errors
from fcdistill.tools.parameters import optional_parameters, required_parameters

__all__ = ["Inspection", "Row", "Selection", "inspect_records", "inspection_json", "render_inspection"]

_FREQUENT = 3
_LONGEST_VALUE = 40


@dataclass(frozen=True)
class Row:
    """One record of a file: a trace, and for a reject the check that failed with its detail."""

    trace: Trace
    check: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Selection:
    """Which records are looked at; a field that is not given selects all.

    Attributes:
        tool: called in the answer.
        category: the trace's category.
        check: the check that failed, which only rejects have.
        passed: a check that was passed, for example `judge` or `repair`; it stands in the record.
        source: where the trace comes from.
        grep: stands in a message, in a call of one or in a check's detail, whatever its case.
    """

    tool: str | None = None
    category: str | None = None
    check: str | None = None
    passed: str | None = None
    source: str | None = None
    grep: str | None = None

    def matches(self, row: Row) -> bool:
        """Whether all that is given holds of the row."""
        meta = row.trace.meta
        return (
            (self.tool is None or any(call.name == self.tool for call in row.trace.answer.calls))
            and (self.category is None or meta.category == self.category)
            and (self.check is None or row.check == self.check)
            and (self.passed is None or self.passed in _passed(row))
            and (self.source is None or meta.source == self.source)
            and (self.grep is None or any(self.grep.casefold() in text.casefold() for text in _texts(row)))
        )


@dataclass
class Tally:
    """How often something occurs in kept and in rejected records."""

    kept: int = 0
    rejected: int = 0

    def add(self, row: Row) -> None:
        """Count one occurrence in the row."""
        if row.check:
            self.rejected += 1
        else:
            self.kept += 1


@dataclass
class ArgumentTally(Tally):
    """How often an argument is given, and which values it has.

    Attributes:
        kind: `required`, `optional` or, of a tool that does not have it, `undeclared`.
        values: JSON text to how often it occurs.
    """

    kind: str = "undeclared"
    values: Counter[str] = field(default_factory=Counter)


@dataclass
class Inspection:
    """What the selected records of some files hold.

    Attributes:
        files: what was read.
        read: records in these files.
        selected: of these, those that the selection matches.
        tools: calls by tool; tools of the prompts that nobody calls too.
        categories: records by category.
        sources: records by source.
        checks: rejects by the check that failed.
        passed: records by the checks that they passed.
        arguments: by `tool.param`, of the tools that are called.
        optional: calls by `tool[optional,arguments]` that they give.
        samples: the selected records that are shown, in the files' order.
        judged: what `traces judge` found, where it made the directory.
    """

    files: tuple[Path, ...]
    read: Tally = field(default_factory=Tally)
    selected: Tally = field(default_factory=Tally)
    tools: dict[str, Tally] = field(default_factory=dict)
    categories: dict[str, Tally] = field(default_factory=dict)
    sources: dict[str, Tally] = field(default_factory=dict)
    checks: dict[str, Tally] = field(default_factory=dict)
    passed: dict[str, Tally] = field(default_factory=dict)
    arguments: dict[str, ArgumentTally] = field(default_factory=dict)
    optional: dict[str, Tally] = field(default_factory=dict)
    samples: list[Row] = field(default_factory=list)
    judged: JudgeStats | None = None


def inspect_records(path: Path, selection: Selection, *, limit: int, seed: int) -> Inspection:
    """Count the selected records and draw some of them.

    Args:
        path: a file of `Trace` or `Reject` records, or a directory that holds both.
        selection: which records count.
        limit: how many samples are drawn at most.
        seed: of the draw.

    Raises:
        DataError: there is no such file, a line is no such record, or the selection names a tool, category, check or
            source that occurs nowhere.
    """
    files = _files(path)
    found = Inspection(files, judged=_judged(path))
    known: dict[str, dict[str, None]] = {"tool": {}, "category": {}, "check": {}, "passed": {}, "source": {}}
    drawn: list[tuple[int, Row]] = []
    chance = random.Random(seed)
    for row in (row for file in files for row in _rows(file)):
        found.read.add(row)
        specs = {spec.name: spec for spec in row.trace.specs}
        known["tool"] |= dict.fromkeys([*specs, *(call.name for call in row.trace.answer.calls)])
        known["category"][row.trace.meta.category] = None
        known["source"][row.trace.meta.source] = None
        if row.check:
            known["check"][row.check] = None
        known["passed"] |= _passed(row)
        if not selection.matches(row):
            continue
        position = found.selected.kept + found.selected.rejected
        _count(found, row, specs, selection.tool)
        # Algorithm R: every record is drawn with the same probability, without knowing how many follow.
        slot = position if position < limit else chance.randint(0, position)
        if position < limit:
            drawn.append((position, row))
        elif slot < limit:
            drawn[slot] = (position, row)
    for kind, values in known.items():
        wanted = getattr(selection, kind)
        if wanted is not None and wanted not in values:
            raise DataError(
                f"no record of {path} has {kind} {wanted!r}",
                required=f"one that occurs: {', '.join(values) or 'there is none'}",
                fix=f"correct or leave away --{kind}",
            )
    found.samples = [row for _, row in sorted(drawn, key=lambda each: each[0])]
    return found


def render_inspection(found: Inspection) -> Group:
    """The distributions as tables, then the samples."""
    read, selected = found.read, found.selected
    headline = f"{selected.kept} of {read.kept} traces and {selected.rejected} of {read.rejected} rejects selected"
    parts: list[Text | Table | Group] = [Text(headline, style="bold")]
    if found.judged is not None:
        parts.append(render_judging(found.judged))
    for title, head, tallies in (
        ("Calls", "tool", found.tools),
        ("Categories", "category", found.categories),
        ("Sources", "source", found.sources),
        ("Checks passed", "check", found.passed),
        ("Optional arguments used", "calls of", found.optional),
    ):
        if tallies:
            rows = [(name, str(tally.kept), str(tally.rejected)) for name, tally in tallies.items()]
            parts.append(rich_table(title, (head, "kept", "rejected"), rows))
    if found.arguments:
        head_row = ("argument", "", "kept", "rejected", "distinct", "most frequent")
        parts.append(rich_table("Arguments", head_row, map(_argument_row, found.arguments.items()), texts=(0, 1, 5)))
    if found.checks:
        rejects = sorted(found.checks.items(), key=lambda item: -item[1].rejected)
        checks = [(name, str(tally.rejected)) for name, tally in rejects]
        parts.append(rich_table("Checks that failed", ("check", "rejects"), checks))
    if found.samples:
        parts.append(Text(f"{len(found.samples)} of {selected.kept + selected.rejected}", style="bold"))
    parts += [part for row in found.samples for part in _sample(row)]
    return Group(*parts)


def inspection_json(found: Inspection) -> dict[str, Any]:
    """The same as JSON; samples without the tools that their prompts show."""

    def tallies(of: Mapping[str, Tally]) -> dict[str, dict[str, int]]:
        return {name: {"kept": tally.kept, "rejected": tally.rejected} for name, tally in of.items()}

    return {
        "files": [str(file) for file in found.files],
        **tallies({"read": found.read, "selected": found.selected}),
        "tools": tallies(found.tools),
        "categories": tallies(found.categories),
        "sources": tallies(found.sources),
        "checks": {name: tally.rejected for name, tally in found.checks.items()},
        "passed": tallies(found.passed),
        "arguments": {
            name: {"kind": tally.kind, "kept": tally.kept, "rejected": tally.rejected}
            | {"values": [{"value": json.loads(text), "count": n} for text, n in tally.values.most_common()]}
            for name, tally in found.arguments.items()
        },
        "optional_arguments": tallies(found.optional),
        "judged": found.judged.model_dump(mode="json") if found.judged is not None else None,
        "samples": [
            {
                "id": row.trace.id,
                "kept": not row.check,
                "check": row.check,
                "detail": row.detail,
                "meta": row.trace.meta.model_dump(mode="json"),
                "messages": [message.model_dump(mode="json") for message in row.trace.messages],
            }
            for row in found.samples
        ],
    }


def _files(path: Path) -> tuple[Path, ...]:
    with storage_errors(path, "read"):
        if not path.is_dir():
            return (path,)
        files = tuple(path / name for name in ("traces.jsonl", "rejects.jsonl") if (path / name).is_file())
    if not files:
        raise DataError(
            f"directory {path} holds neither traces.jsonl nor rejects.jsonl",
            required="a finished output directory of `fcdistill generate`, or a file",
            fix="run the same `fcdistill generate` again to finish it, or name the file",
        )
    return files


def _judged(path: Path) -> JudgeStats | None:
    """The counts of a judging, where a directory was made by one."""
    manifest = earlier_manifest(path) if path.is_dir() else None
    if manifest is None or manifest.stage != "judge" or manifest.status != "complete":
        return None
    return JudgeStats.model_validate(read_json(path / "stats.json", "stats file"))


def _rows(path: Path) -> Iterator[Row]:
    if _holds_rejects(path):
        for reject in iter_jsonl(path, Reject, "rejects"):
            yield Row(reject.candidate, reject.check, reject.detail)
    else:
        yield from map(Row, iter_jsonl(path, Trace, "traces"))


def _holds_rejects(path: Path) -> bool:
    """Whether the first line is a reject; what is wrong with a file is said by who reads it in full."""
    if not path.is_file():
        return False
    with storage_errors(path, "read"), path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"{}")
    try:
        record = loads_strict(first)
    except StrictJsonError:
        return False
    return isinstance(record, dict) and "candidate" in record


def _passed(row: Row) -> dict[str, None]:
    """The checks that a record passed, each once, in their order."""
    return dict.fromkeys(check.name for check in row.trace.meta.checks if check.ok)


def _texts(row: Row) -> Iterator[str]:
    yield row.detail
    yield from (check.detail for check in row.trace.meta.checks)
    for message in row.trace.messages:
        yield message.content
        yield from map(_call_json, message.calls)


def _count(found: Inspection, row: Row, specs: Mapping[str, ToolSpec], only_tool: str | None) -> None:
    found.selected.add(row)
    found.categories.setdefault(row.trace.meta.category, Tally()).add(row)
    found.sources.setdefault(row.trace.meta.source, Tally()).add(row)
    if row.check:
        found.checks.setdefault(row.check, Tally()).add(row)
    for name in _passed(row):
        found.passed.setdefault(name, Tally()).add(row)
    for name in specs:
        found.tools.setdefault(name, Tally())
    for call in row.trace.answer.calls:
        found.tools.setdefault(call.name, Tally()).add(row)
        if only_tool in (None, call.name):
            _count_arguments(found, row, call, specs.get(call.name))


def _count_arguments(found: Inspection, row: Row, call: ToolCall, spec: ToolSpec | None) -> None:
    required = required_parameters(spec) if spec else []
    optional = optional_parameters(spec) if spec else []
    for kind, names in (("required", required), ("optional", optional)):
        for name in names:
            found.arguments.setdefault(f"{call.name}.{name}", ArgumentTally(kind=kind))
    for name, value in call.arguments.items():
        tally = found.arguments.setdefault(f"{call.name}.{name}", ArgumentTally())
        tally.add(row)
        tally.values[json.dumps(value, ensure_ascii=False, sort_keys=True)] += 1
    if optional:
        used = ",".join(name for name in optional if name in call.arguments)
        found.optional.setdefault(f"{call.name}[{used}]", Tally()).add(row)


def _argument_row(item: tuple[str, ArgumentTally]) -> tuple[str, ...]:
    name, tally = item
    frequent = ", ".join(f"{_shortened(text)} ({count})" for text, count in tally.values.most_common(_FREQUENT))
    return (name, tally.kind, str(tally.kept), str(tally.rejected), str(len(tally.values)), frequent)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _sample(row: Row) -> Iterator[Text]:
    meta = row.trace.meta
    yield Text(visible(f"\n{row.trace.id}  {meta.source}  {meta.category}  {meta.plan_cell}"), style="bold")
    if row.check:
        yield Text(visible(f"rejected by {row.check}: {row.detail}"), style="red")
    for check in meta.checks:
        if check.ok and check.detail:
            yield Text(visible(f"{check.name}: {check.detail}"), style="dim")
    for message in row.trace.messages:
        yield Text(visible(f"{message.role}: {_said(message)}"))


def _said(message: Message) -> str:
    return "\n  ".join(filter(None, (message.content, *map(_call_json, message.calls))))


def _call_json(call: ToolCall) -> str:
    return json.dumps(call.model_dump(), ensure_ascii=False)
