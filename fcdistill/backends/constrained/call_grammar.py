"""What a constrained answer may be, as a grammar of llguidance: text, and calls of the given tools in one dialect.

A call is written as the model's own chat template writes it, names a tool and obeys its parameters. Text holds nothing
that could begin a call in any dialect that `toolcalls` reads, so that an answer which is no call can't look like a
broken one. Which tokens that allows is known to `constraint`, which schemas can be enforced, to `enforceable`, and how
arguments are written, to `argument_rules`.
"""

import dataclasses
import functools
import importlib.util
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fcdistill.backends.constrained.argument_rules import UnwritableArgumentError, argument_rules
from fcdistill.backends.constrained.call_layout import CallLayout
from fcdistill.backends.constrained.enforceable import Unenforceable, enforceable_schema
from fcdistill.backends.constrained.grammar_rules import SPACE, Rules, flexible_terminal
from fcdistill.backends.constrained.raw_text import containing, regex
from fcdistill.errors import CatalogError, MissingDependencyError
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.toolcalls.dialects.table import DIALECTS
from fcdistill.toolcalls.parsing import parse_output, render_calls
from fcdistill.toolcalls.regions import MARKERS, UNKNOWN_MARK
from fcdistill.toolcalls.thinking import THOUGHT_MARKS
from fcdistill.tools.refs import pointer_step
from fcdistill.tools.validation import CallValidator

__all__ = ["FORBIDDEN", "call_grammar", "require_enforceable", "require_llguidance"]

FORBIDDEN = (*MARKERS, "{")
"""What text may not hold."""
_LINE_OF_CALLS = r"(?s:(?:.*\n)?[ \t]*\[[ \t\n]*[A-Za-z_][A-Za-z0-9_.\-]*\(.*)"
_CALL_ALONE = r"(?s:\s*[A-Za-z_][A-Za-z0-9_.\-]*\(\s*(?:[A-Za-z_][A-Za-z0-9_]*\s*=|\)).*)"
_MORE_OF_A_LIST = r"(?s:[\s;,]*\[.*)"
_OPEN_LIST = r"(?s:.*\[\s*)"
"""What the readers of Python's calls and of JSON without marks would take for theirs."""
_NEUTRAL = "hermes"
"""The dialect for which tools are checked before a model is known: it writes JSON."""


def require_enforceable(catalogs: Iterable[Sequence[ToolSpec]], dialect: str = _NEUTRAL) -> None:
    """Refuse tools whose parameters a grammar would not enforce wholly; no model is needed to know that.

    Args:
        catalogs: the tools of each request.
        dialect: in which the calls are written; the dialects of JSON enforce most.

    Raises:
        MissingDependencyError: llguidance is not installed.
        CatalogError: a keyword of a tool's parameters is not enforced, or they are no valid schema.
    """
    require_llguidance()
    distinct = {id(catalog): catalog for catalog in catalogs}.values()
    for catalog in distinct:
        CallValidator(catalog)
    specs = {(spec.name, json.dumps(spec.parameters)) for catalog in distinct for spec in catalog}
    problems = list(itertools.chain.from_iterable(_problems(*spec, dialect) for spec in sorted(specs)))
    if problems:
        shown = "; ".join(map(str, problems[:5])) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CatalogError(
            f"these parameters can't be enforced while decoding: {shown}",
            required="for constrained decoding, parameters that the grammar enforces wholly",
            fix="change them, or decode without constrained: the calls are checked afterwards in any case",
        )


def require_llguidance() -> None:
    """Raise `MissingDependencyError` where llguidance is not installed."""
    if importlib.util.find_spec("llguidance") is None:
        raise MissingDependencyError(
            "constrained decoding needs the package llguidance, which is not installed",
            required="the extra [constrained]",
            fix="pip install 'fcdistill[constrained]'",
        )


def call_grammar(
    specs: Sequence[ToolSpec], layout: CallLayout, marks: Mapping[str, int], asides: Sequence[int] = ()
) -> str:
    """The grammar of answers, in llguidance's dialect of Lark; without tools it is that of text.

    Args:
        specs: tools that `require_enforceable` accepts for the layout's dialect.
        layout: how the model's template writes calls.
        marks: the tokens that are no text to llguidance, by what they look like.
        asides: those of them that may stand in text.
    """
    rules = Rules(marks)
    text = _text(rules, layout)
    # What stands behind a list without a closing mark must not look as if it went on.
    is_open_list = DIALECTS[layout.dialect].syntax == "json" and not re.search("[A-Za-z]", layout.closing)
    later = rules.terminal(f"{text} & ~({regex(_MORE_OF_A_LIST)})") if is_open_list else text
    tokens = [f"<[{','.join(map(str, asides))}]>"] if asides else []
    if layout.dialect == "harmony":
        tokens += [rules.literal(f"<|channel|>{name}<|message|>") for name in ("analysis", "commentary", "final")]
        tokens += [rules.literal("<|end|>"), rules.literal("<|start|>assistant")]
    before = [rules.rule(f"{text} ({' | '.join(tokens)})")] if tokens else []
    if not specs:
        start = f"start: {f'({before[0]})* ' if before else ''}{text}"
        return "\n".join(["%llguidance {}", *rules.lines, start])
    calls = _calls(rules, specs, layout)
    block = rules.rule(f"{_opened(rules, layout, text)} {calls}")
    again = rules.rule(f"{_opened(rules, layout, later)} {calls}")
    between = [rules.rule(f"{later} ({' | '.join(tokens)})")] if tokens else []
    if layout.lead:  # the first of all needs none where it begins the answer
        unled = _opened(rules, dataclasses.replace(layout, lead=""), regex(r"\s*"))
        block = rules.rule(f"{unled} {calls} | {block}")
    repeated = " | ".join([*between, again])
    first = f"({before[0]})*" if before else ""
    start = f"start: {first} ({block} ({repeated})* {later} | {text})"
    return "\n".join(["%llguidance {}", *rules.lines, start])


def _text(rules: Rules, layout: CallLayout) -> str:
    """The terminal of what is said in words."""
    own = [mark for mark in THOUGHT_MARKS if mark not in layout.thoughts]
    # Words that would be another dialect's mark with the opening behind them.
    own += [mark[:-1] for mark in MARKERS if mark[:-1].isalpha() and layout.opening.startswith(mark[-1])]
    forbidden = [*map(containing, (*FORBIDDEN, *own)), f"/(?s:.*)/ {regex(_unbounded(UNKNOWN_MARK))} /(?s:.*)/"]
    forbidden += [regex(_LINE_OF_CALLS), regex(_CALL_ALONE)]
    return rules.terminal(" & ".join(["/(?s:.*)/", f"~({' | '.join(forbidden)})"]))


def _unbounded(pattern: str) -> str:
    """An expression that matches as much or more, without laziness and counting, which cost a grammar seconds."""
    return re.sub(r"([*+?])\?", r"\1", re.sub(r"\{0,\d+\}", "*", pattern))


def _opened(rules: Rules, layout: CallLayout, text: str) -> str:
    """Text, and the opening of a block of calls behind it."""
    lead = layout.lead
    if lead.isspace():
        text, lead = f"{text} {json.dumps(lead)}", ""
    first, *rest = rules.cut(lead + layout.opening)
    if rules.is_mark(first):
        return f"{text} {rules.literal(lead + layout.opening)}"
    if first.startswith("{"):  # no text holds that: where it stands, the text has ended
        said = rules.terminal(f"{text} & ~({regex(_OPEN_LIST)}) & /(?s:.+)/")
        return f"{said}? {rules.literal(layout.opening)}"
    body = rules.terminal(f"{text} {flexible_terminal(first)}")
    # Lazily, so that the opening is one wherever it stands.
    return f"{rules.rule(body, '[lazy]')} {rules.literal(''.join(rest))}"


def _calls(rules: Rules, specs: Sequence[ToolSpec], layout: CallLayout) -> str:
    """The calls of one block, and what closes it."""
    dialect = DIALECTS[layout.dialect]
    written = []
    for spec in specs:
        schema, _ = enforceable_schema(spec)
        named = rules.literal(spec.name + layout.middle)
        arguments = argument_rules(rules, schema, spec.parameters, dialect, sorts_names=layout.sorts_names)
        written.append(rules.rule(f"{named} {arguments}"))
    space = SPACE if dialect.tags is not None and dialect.tags.write_call.startswith("{name}") else ""
    call = rules.rule(f"{space} ({' | '.join(written)})".strip())
    more = f"({rules.literal(layout.between)} {call})*" if layout.between is not None else ""
    return rules.rule(f"{call} {more} {rules.literal(layout.closing)}")


@functools.lru_cache(maxsize=4096)
def _problems(name: str, parameters: str, dialect: str) -> tuple[Unenforceable, ...]:
    """What of a tool is not enforced in a dialect."""
    import llguidance

    spec = ToolSpec(name=name, parameters=json.loads(parameters))
    schema, problems = enforceable_schema(spec)
    if problems:
        return tuple(problems)
    if unreadable := _unreadable(spec, schema, dialect):
        return (unreadable,)
    # The library's JSON Schema knows of more contradictions than rules can show, such as alternatives that overlap.
    checked = Rules()
    start = checked.json(_for_library(schema))
    if message := llguidance.LLMatcher.validate_grammar(_grammar_of(checked, start)):
        return (Unenforceable(name, *_blamed(schema, message)),)
    rules = Rules()
    try:
        start = argument_rules(rules, schema, spec.parameters, DIALECTS[dialect])
    except UnwritableArgumentError as error:
        return (Unenforceable(name, error.pointer, error.keyword, error.detail),)
    if message := llguidance.LLMatcher.validate_grammar(_grammar_of(rules, start)):
        return (Unenforceable(name, "", "schema", f"is refused by llguidance: {_reason(message)}"),)
    return ()


def _grammar_of(rules: Rules, start: str) -> str:
    return "\n".join(["%llguidance {}", *rules.lines, f"start: {start}"])


def _unreadable(spec: ToolSpec, schema: Mapping[str, Any], dialect: str) -> Unenforceable | None:
    """A name of the tool or its arguments that the dialect can't say."""
    for argument in ("", *schema.get("properties", {})):
        call = ToolCall(name=spec.name, arguments={argument: "x"} if argument else {})
        read = parse_output(render_calls([call], dialect), (), expected=dialect).calls
        if [(each.name, each.arguments.keys()) for each in read] != [(call.name, call.arguments.keys())]:
            pointer = f"/properties/{pointer_step(argument)}" if argument else ""
            return Unenforceable(spec.name, pointer, "the name", f"can't be written in calls of the dialect {dialect}")
    return None


def _for_library(schema: Any) -> Any:
    """A schema without the keywords that llguidance's JSON Schema does not know, which rules enforce."""
    if isinstance(schema, list):
        return [_for_library(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {keyword: value for keyword, value in schema.items() if keyword not in ("uniqueItems", "propertyNames")}
    for keyword, value in found.items():
        if keyword in ("properties", "patternProperties", "$defs", "definitions"):
            found[keyword] = {name: _for_library(part) for name, part in value.items()}
        elif keyword not in ("enum", "const", "required", "type"):
            found[keyword] = _for_library(value)
    return found


def _blamed(schema: Mapping[str, Any], message: str) -> tuple[str, str, str]:
    """Pointer, keyword and detail of what llguidance refuses: of the first argument that it refuses by itself."""
    import llguidance

    for name, part in schema.get("properties", {}).items():
        own = {"type": "object", "properties": {name: part}, "required": [name], **_definitions(schema)}
        rules = Rules()
        start = rules.json(_for_library(own))
        if found := llguidance.LLMatcher.validate_grammar(_grammar_of(rules, start)):
            return f"/properties/{pointer_step(name)}", "schema", f"is refused by llguidance: {_reason(found)}"
    return "", "schema", f"is refused by llguidance: {_reason(message)}"


def _reason(message: str) -> str:
    """What llguidance says, without the excerpt of the grammar behind it."""
    said = re.split(r"\n\s*\d+ \|", message.rpartition("failed to compile JSON schema: ")[2])[0]
    return " ".join(said.split())[:300]


def _definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a schema that its properties may refer to."""
    return {keyword: schema[keyword] for keyword in ("$schema", "$defs", "definitions") if keyword in schema}
