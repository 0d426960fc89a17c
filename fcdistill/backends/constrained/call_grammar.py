"""What a constrained answer may be, as a grammar of llguidance: text, and calls of the given tools in one dialect.

A call is written as the model's own chat template writes it, names a tool and obeys its parameters. Text holds nothing
that could begin a call in any dialect that `toolcalls` reads, so that an answer which is no call can't look like a
broken one. Which tokens that allows is known to `constraint`, and which schemas can be enforced, to `enforceable`.
"""

import functools
import importlib.util
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fcdistill.backends.constrained.enforceable import Unenforceable, enforceable_schema, is_set
from fcdistill.errors import CatalogError, MissingDependencyError, ModelError
from fcdistill.prompts.rendering import calls_text
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.toolcalls.parsing import parse_output
from fcdistill.toolcalls.regions import MARKERS
from fcdistill.tools.refs import pointer_step
from fcdistill.tools.validation import CallValidator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CallLayout", "call_grammar", "read_layout", "require_enforceable", "require_llguidance"]

_FIRST, _SECOND = (ToolCall(name=f"{which}_tool", arguments={"probe": which}) for which in ("first", "second"))
_FORBIDDEN = (*MARKERS, "{")
"""What text may not hold."""
_SPACE = "[ \\t\\r\\n]{0,8}"
_JSON_OPTIONS = {
    "whitespace_flexible": False,
    "item_separator": f"{_SPACE},{_SPACE}",
    "key_separator": f"{_SPACE}:{_SPACE}",
    "json_allow_general_unicode_escapes": True,
}
"""Space stands round commas and colons only, and little of it, since a weak model would go on with it for ever."""
_TERMINALS = (f"SPACE: /{_SPACE}/", 'COMMA: SPACE "," SPACE', 'COLON: SPACE ":" SPACE')


@dataclass(frozen=True)
class CallLayout:
    """What a chat template writes round the names and arguments of calls.

    Attributes:
        opening: before a name.
        middle: between a name and its arguments.
        closing: after the last arguments.
        between: from one call's arguments to the next one's name, where that is no closing and opening.
    """

    opening: str
    middle: str
    closing: str
    between: str | None

    def has(self, mark: str) -> bool:
        """Whether a mark is part of how calls are written, in this layout or in any other that is read."""
        written = (self.opening, self.middle, self.closing, self.between or "", *_FORBIDDEN)
        return any(mark in text for text in written)


def read_layout(tokenizer: "PreTrainedTokenizerBase") -> CallLayout:
    """The layout that a tokenizer's template has.

    Raises:
        ModelError: it writes calls in another way than name, then arguments, or so that they can't be read back.
    """
    name, arguments = r"{0}_tool", r"\{{\s*\"probe\"\s*:\s*\"{0}\"\s*\}}"
    one = calls_text(tokenizer, [_FIRST])
    found = re.fullmatch(f"(.+?){name}(.*?){arguments}(.*)".format("first"), one, re.DOTALL)
    if found is None or parse_output(one).calls != (_FIRST,):
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path!r} writes a call as {one!r}",
            required="for constrained decoding, a name and after it a JSON object of arguments that can be read back",
            fix="decode without constrained, or use the model with another chat template",
        )
    opening, middle, closing = found.groups()
    between = None
    try:
        two = calls_text(tokenizer, [_FIRST, _SECOND])
    except ModelError:  # templates of models that make one call at a time
        two = ""
    if parse_output(two).calls == (_FIRST, _SECOND):
        pattern = arguments.format("first") + "(.*?)" + name.format("second")
        joined = re.search(pattern, two, re.DOTALL)
        between = joined.group(1) if joined and not joined.group(1).startswith(closing) else None
    return CallLayout(opening, middle, closing, between)


def require_enforceable(catalogs: Iterable[Sequence[ToolSpec]]) -> None:
    """Refuse tools whose parameters a grammar would not enforce wholly; no model is needed to know that.

    Raises:
        MissingDependencyError: llguidance is not installed.
        CatalogError: a keyword of a tool's parameters is not enforced, or they are no valid schema.
    """
    require_llguidance()
    distinct = {id(catalog): catalog for catalog in catalogs}.values()
    for catalog in distinct:
        CallValidator(catalog)
    specs = {(spec.name, json.dumps(spec.parameters)) for catalog in distinct for spec in catalog}
    problems = list(itertools.chain.from_iterable(_compiled(*spec)[1] for spec in sorted(specs)))
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
        specs: tools that `require_enforceable` accepts.
        layout: how the model's template writes calls.
        marks: the tokens that are no text to llguidance, by what they look like.
        asides: those of them that may stand in text.
    """
    lines = [
        "%llguidance {}",
        *_TERMINALS,
        f"FORBIDDEN: {' | '.join(json.dumps(mark) for mark in _FORBIDDEN)}",
        "TEXT: /(?s:.*)/ & ~(/(?s:.*)/ FORBIDDEN /(?s:.*)/)",
    ]
    if asides:
        lines.append(f"aside: TEXT <[{','.join(map(str, asides))}]>")
    parts = [*(["aside"] if asides else []), *(["block"] if specs else [])]
    lines.append(f"start: ({' | '.join(parts)})* TEXT" if parts else "start: TEXT")
    if not specs:
        return "\n".join(lines)

    def items(literal: str, name: str) -> list[str]:
        """What matches a literal: marks as tokens, the rest as terminals, which are added."""
        found = []
        for index, part in enumerate(_cut(literal, marks)):
            if part in marks:
                found.append(f"<[{marks[part]}]>")
            else:
                found.append(f"{name}_{index}")
                lines.append(f"{found[-1]}: {_terminal(part)}")
        return found

    first, *rest = items(layout.opening, "OPENING")
    if first.isidentifier():  # lazily, so that the opening is one wherever it stands
        lines.append(f"opened[lazy]: TEXT {first}")
        first = "opened"
    else:
        first = f"TEXT {first}"
    between = f"({' '.join(items(layout.between, 'BETWEEN'))} call)*" if layout.between is not None else ""
    lines += [
        " ".join([f"block: {first}", *rest, "call", between, *items(layout.closing, "CLOSING")]),
        "call: " + " | ".join(f"call_{index}" for index in range(len(specs))),
    ]
    for index, spec in enumerate(specs):
        named = " ".join(items(spec.name + layout.middle, f"NAME_{index}"))
        lines.append(f"call_{index}: {named} arguments_{index}")
        schema, _ = _compiled(spec.name, json.dumps(spec.parameters))
        lines += _arguments(f"arguments_{index}", schema)
    return "\n".join(lines)


@functools.lru_cache(maxsize=4096)
def _compiled(name: str, parameters: str) -> tuple[dict[str, Any], tuple[Unenforceable, ...]]:
    """A tool's schema for the grammar, and what is not enforced."""
    import llguidance

    schema, problems = enforceable_schema(ToolSpec(name=name, parameters=json.loads(parameters)))
    if not problems:
        grammar = "\n".join(["%llguidance {}", *_TERMINALS, "start: arguments", *_arguments("arguments", schema)])
        message = llguidance.LLMatcher.validate_grammar(grammar)
        if message:
            problems = [Unenforceable(name, *_blamed(schema, message))]
    return schema, tuple(problems)


def _blamed(schema: Mapping[str, Any], message: str) -> tuple[str, str, str]:
    """Pointer, keyword and detail of what llguidance refuses: of the first argument that it refuses by itself."""
    import llguidance

    for name, part in schema.get("properties", {}).items():
        own = {"type": "object", "properties": {name: part}, "required": [name], **_definitions(schema)}
        rules = "\n".join([*_TERMINALS, *_arguments("start", own)])
        if found := llguidance.LLMatcher.validate_grammar(rules):
            return f"/properties/{pointer_step(name)}", "schema", f"is refused by llguidance: {_reason(found)}"
    return "", "schema", f"is refused by llguidance: {_reason(message)}"


def _reason(message: str) -> str:
    """What llguidance says, without the excerpt of the grammar behind it."""
    said = re.split(r"\n\s*\d+ \|", message.rpartition("failed to compile JSON schema: ")[2])[0]
    return " ".join(said.split())[:300]


def _definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a schema that its properties may refer to."""
    return {keyword: schema[keyword] for keyword in ("$schema", "$defs", "definitions") if keyword in schema}


def _arguments(rule: str, schema: Mapping[str, Any]) -> list[str]:
    """The rule of a tool's arguments, and those that it needs.

    Sets, of which llguidance's JSON Schema knows nothing, are rules of their own, and so is the object that holds them.
    """
    properties = {name: part for name, part in schema.get("properties", {}).items() if part is not False}
    if not any(is_set(part) for part in properties.values()):
        return [_json_rule(rule, schema)]
    lines = [f'{rule}: "{{" {rule}_first_0']
    for index, (name, part) in enumerate(properties.items()):
        key, value = json.dumps(json.dumps(name, ensure_ascii=False)), f"{rule}_value_{index}"
        lines.append(f"{rule}_entry_{index}: {key} COLON {value}")
        lines += _set_rules(value, part) if is_set(part) else [_json_rule(value, {**_definitions(schema), **part})]
        for place, before in (("first", ""), ("next", "COMMA ")):
            skipped = "" if name in schema.get("required", ()) else f" | {rule}_{place}_{index + 1}"
            lines.append(f"{rule}_{place}_{index}: {before}{rule}_entry_{index} {rule}_next_{index + 1}{skipped}")
    return [*lines, *(f'{rule}_{place}_{len(properties)}: "}}"' for place in ("first", "next"))]


def _json_rule(rule: str, schema: Mapping[str, Any]) -> str:
    return f"{rule}: %json {json.dumps({**schema, 'x-guidance': _JSON_OPTIONS})}"


def _set_rules(rule: str, schema: Mapping[str, Any]) -> list[str]:
    """An array of distinct values: the rules carry a bit for each value that it has."""
    values = [json.dumps(json.dumps(value, ensure_ascii=False)) for value in schema["items"]["enum"]]
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(values))
    may_follow = f"bit_count_lt(_, {most})"
    lines = [f'{rule}: "[" {rule}_first::0x0', f'{rule}_first::_: "]" %if bit_count_ge(_, {least})']
    lines += [f"  | {value} {rule}_next::set_bit({bit}) %if {may_follow}" for bit, value in enumerate(values)]
    lines.append(f'{rule}_next::_: "]" %if bit_count_ge(_, {least})')
    for bit, value in enumerate(values):
        lines.append(f"  | COMMA {value} {rule}_next::set_bit({bit}) %if and(bit_clear({bit}), {may_follow})")
    return lines


def _cut(literal: str, marks: Mapping[str, int]) -> list[str]:
    """A literal cut into marks and what lies between them."""
    pattern = "|".join(map(re.escape, sorted(marks, key=len, reverse=True)))
    parts = re.split(f"({pattern})", literal) if pattern else [literal]
    return [part for part in parts if part]


def _terminal(literal: str) -> str:
    """A terminal that matches a literal, whose space may be another, or none."""
    words = re.split(r"(\s+)", literal)
    return " ".join("SPACE" if word.isspace() else json.dumps(word) for word in words if word)
