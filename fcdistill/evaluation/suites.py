"""Eval suites: gold cases with the tools that each is asked with, checked before any model runs.

A case that no answer could satisfy (an unknown tool, a gold call that breaks its own schema, a comparator that never
applies) is a mistake of the suite and refused here, so that scores speak of the model alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fcdistill.config import CasesFormat
from fcdistill.errors import CatalogError, DataError
from fcdistill.evaluation.comparators import (
    EXACT,
    Rule,
    check_expected,
    describe_value,
    escape_pointer,
    expected_alternatives,
    parse_rule,
)
from fcdistill.evaluation.openai_messages import read_message_cases
from fcdistill.records import EvalCase, ToolCall, ToolSpec
from fcdistill.storage import read_jsonl, sha256_json
from fcdistill.tools.catalog import Catalog, catalog_from_tools, read_catalog, with_safe_names
from fcdistill.tools.comparator_keyword import COMPARATOR_KEYWORD
from fcdistill.tools.validation import CallValidator

__all__ = ["Suite", "read_suite"]


@dataclass(frozen=True)
class Suite:
    """Gold cases and their tools.

    Attributes:
        cases: the cases, tools named as in the catalogues, with the comparators that these give.
        specs: the tools of each case, by case id; cases of one catalogue share one tuple.
        safe_names: a tool's original name to its name in the suite's catalogue, where the two differ.
        tools_sha256: hash of the suite's catalogue; None where every case holds its own tools.
        notes: what was inferred when the cases were read, or left out, in sentences.
    """

    cases: tuple[EvalCase, ...]
    specs: Mapping[str, tuple[ToolSpec, ...]]
    safe_names: Mapping[str, str]
    tools_sha256: str | None
    notes: tuple[str, ...] = ()

    @cached_property
    def cases_sha256(self) -> str:
        """Hash of the cases, their own tools included."""
        return sha256_json([case.model_dump(mode="json") for case in self.cases])

    def first(self, limit: int | None) -> "Suite":
        """The suite with only the first so many cases; None keeps all."""
        return replace(self, cases=self.cases[:limit])


def read_suite(
    cases: Path, tools: Path | None = None, cases_format: CasesFormat = "cases", *, skip_invalid: bool = False
) -> Suite:
    """Read and check a suite.

    Args:
        cases: JSONL of `EvalCase` records, or a file in another format.
        tools: the catalogue of the cases that hold no tools of their own.
        cases_format: that format.
        skip_invalid: leave out tools of the catalogue, and of rows in another format, that can't be used.

    Raises:
        DataError: a file is missing or malformed, or a case contradicts itself or its tools; it names the case.
        CatalogError: the catalogue is unusable.
    """
    catalog = None if tools is None else read_catalog(tools, skip_invalid=skip_invalid)
    safe_names = {} if catalog is None else dict(catalog.safe_names)
    notes = () if catalog is None else catalog.notes
    if cases_format == "openai-messages":
        rows = read_message_cases(cases, catalog, skip_invalid=skip_invalid)
        found, notes = rows.cases, (*notes, *rows.left_out, f"cases {cases}: {rows.note}")
        safe_names |= rows.safe_names
    else:
        found = read_jsonl(cases, EvalCase, "cases")
    if not found:
        raise DataError(f"cases {cases} holds no case", required="at least one EvalCase", fix="check the path")
    shared = None if catalog is None else _Tools(catalog, f"tool catalogue {tools}")
    checked, specs = [], {}
    for case in found:
        try:
            own = shared if case.tools is None else _Tools(catalog_from_tools(case.tools), "tools")
        except CatalogError as error:
            raise _defect(cases, case, f"its tools are unusable: {error.found}", error.required) from None
        if own is None:
            raise _defect(cases, case, "it holds no tools and no catalogue was given", "tools in the case, or --tools")
        named = _with_catalogue_comparators(_with_safe_names(case, safe_names) if case.tools is None else case, own)
        for problem in _problems(named, own):
            raise _defect(cases, case, problem, "a case that a right answer satisfies")
        checked.append(named)
        specs[case.id] = own.specs
    tools_sha256 = None if catalog is None else catalog.sha256
    return Suite(tuple(checked), specs, safe_names, tools_sha256, notes)


class _Tools:
    """A catalogue with its compiled validators. Raises `CatalogError` where its comparators can't be used."""

    def __init__(self, catalog: Catalog, origin: str) -> None:
        _require_comparators(catalog.comparators, origin)
        self.specs = catalog.specs
        self.by_name = catalog.by_name
        self.comparators = catalog.comparators
        self.validator = CallValidator(catalog.specs)


def _defect(path: Path, case: EvalCase, found: str, required: str) -> DataError:
    return DataError(f"cases {path}, case {case.id!r}: {found}", required=required, fix="correct that case")


def _with_safe_names(case: EvalCase, safe_names: Mapping[str, str]) -> EvalCase:
    if not safe_names:
        return case

    def renamed(call: ToolCall) -> ToolCall:
        return call.model_copy(update={"name": safe_names.get(call.name, call.name)})

    comparators = {with_safe_names(key, safe_names): text for key, text in case.comparators.items()}
    expected = tuple(tuple(renamed(call) for call in answer) for answer in case.expected)
    return case.model_copy(update={"expected": expected, "comparators": comparators})


def _require_comparators(comparators: Mapping[str, str], origin: str) -> None:
    for key, text in comparators.items():
        try:
            rule = parse_rule(text)
            if "any_of" in (rule.kind, rule.inner and rule.inner.kind):
                raise ValueError(f"{text} says how one case writes its expected value")
        except ValueError as error:
            raise CatalogError(
                f"{origin}: {COMPARATOR_KEYWORD} of {key}: {error}",
                required="what holds for every case: exact, casefold, numeric(TOL), date, set, optional or ignore",
                fix="correct it there, or give comparators to single cases",
            ) from None


def _with_catalogue_comparators(case: EvalCase, tools: _Tools) -> EvalCase:
    """The case with the comparators that its catalogue has for the tools of its answers; its own come first."""
    called = {call.name for answer in case.expected for call in answer}
    given = {key: text for key, text in tools.comparators.items() if key.partition(".")[0] in called}
    return case.model_copy(update={"comparators": given | case.comparators}) if given else case


def _problems(case: EvalCase, tools: _Tools) -> Iterator[str]:
    """What keeps any answer from being right; reading may stop at the first."""
    rules: dict[tuple[str, str], Rule] = {}
    for key, text in case.comparators.items():
        tool, _, parameter = key.partition(".")
        if tool not in tools.by_name:
            yield f"comparator {key!r} names no tool of the catalogue ({', '.join(tools.by_name)})"
            return
        parameters = tools.by_name[tool].parameters.get("properties", {})
        if parameter not in parameters:
            yield f"comparator {key!r} names no parameter of {tool} ({', '.join(parameters) or 'it has none'})"
            return
        try:
            rules[tool, parameter] = parse_rule(text)
        except ValueError as error:
            yield f"comparator of {key!r}: {error}"
            return
    for call in (call for answer in case.expected for call in answer):
        yield from _call_problems(call, rules, tools)


def _call_problems(call: ToolCall, rules: Mapping[tuple[str, str], Rule], tools: _Tools) -> Iterator[str]:
    own = {name: rules.get((call.name, name), EXACT) for name in call.arguments}
    for name, value in call.arguments.items():
        problem = "" if own[name].kind == "ignore" else check_expected(own[name], value)
        if problem:
            yield f"expected {call.name}.{name}: {problem}"
            return
    ignored = tuple(
        f"/{escape_pointer(parameter)}/"
        for (tool, parameter), rule in rules.items()
        if tool == call.name and rule.kind == "ignore"
    )
    for arguments in _alternatives(call.arguments, own):
        for violation in tools.validator.check_call(ToolCall(name=call.name, arguments=arguments)):
            if f"{violation.pointer}/".startswith(ignored):
                continue
            shown = describe_value({"name": call.name, "arguments": arguments})
            yield f"the expected call {shown} breaks its tool's schema: {violation.code}: {violation.detail}"


def _alternatives(arguments: Mapping[str, Any], rules: Mapping[str, Rule]) -> Iterator[dict[str, Any]]:
    """Arguments that satisfy the rules: every alternative of every argument occurs, the others at their first."""
    choices = {name: expected_alternatives(rules[name], value) for name, value in arguments.items()}
    first = {name: values[0] for name, values in choices.items()}
    yield first
    for name, values in choices.items():
        for value in values[1:]:
            yield {**first, name: value}
