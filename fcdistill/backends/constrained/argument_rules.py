"""The arguments of one tool's calls as rules, in the syntax of a dialect.

JSON and the notation with bare keys write an object; Python's writes keywords. Where each argument has a tag of its
own, or texts stand between tokens, the reader asks the schema what a text means (`typed_text`): such a text may hold
only what is read back as a valid value. What stands round arguments is said in `call_layout`.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fcdistill.backends.constrained.enforceable import FARTHEST
from fcdistill.backends.constrained.grammar_rules import COLON, COMMA, SPACE, Rules
from fcdistill.backends.constrained.raw_text import UnwritableError, regex, text_terminal
from fcdistill.backends.constrained.value_grammar import Spelling, ValueRules
from fcdistill.toolcalls.dialect import Dialect, Tags
from fcdistill.toolcalls.json_text import json_text
from fcdistill.toolcalls.typed_text import readings
from fcdistill.tools.refs import pointer_step

__all__ = ["UnwritableArgumentError", "argument_rules"]

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")
_LIMITING = frozenset({"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "allOf"})
T = TypeVar("T")
_NUMBERS = {"integer": "-?(?:0|[1-9][0-9]{0,17})", "number": "-?(?:0|[1-9][0-9]{0,17})(?:\\.[0-9]{1,17})?"}
_LIKE_NUMBER = regex(r"\s*[-+.0-9](?s:.*)")
_LIKE_CONTAINER = regex(r"\s*[\[{(](?s:.*)")


class UnwritableArgumentError(Exception):
    """An argument that a grammar can't enforce in a dialect.

    Attributes:
        pointer: JSON pointer into the parameters.
        keyword: the JSON Schema keyword.
        detail: what is wrong with it.
    """

    def __init__(self, pointer: str, keyword: str, detail: str) -> None:
        super().__init__(f"{pointer}: {keyword} {detail}")
        self.pointer = pointer
        self.keyword = keyword
        self.detail = detail


def argument_rules(
    rules: Rules,
    schema: Mapping[str, Any],
    parameters: Mapping[str, Any],
    dialect: Dialect,
    *,
    sorts_names: bool = False,
) -> str:
    """What matches the arguments of a call.

    Args:
        rules: where the rules are written.
        schema: what `enforceable` makes of the parameters.
        parameters: the tool's own, by which texts are read.
        dialect: whose syntax it is.
        sorts_names: names stand in the order of the alphabet, not in that of the schema.

    Raises:
        UnwritableArgumentError: an argument can't be enforced in this dialect.
    """
    if dialect.syntax == "json":
        values = ValueRules(rules, schema, "json", sorts_names=sorts_names)
        return _of_argument("", lambda: values.value(dict(schema)))
    quote = dialect.quote if dialect.syntax == "bare" else ""
    spelling: Spelling = "bare" if dialect.syntax == "bare" else "python"
    if dialect.tags is not None and "{string}" in dialect.tags.write_argument:
        spelling = "json"
    values = ValueRules(rules, schema, spelling, quote, sorts_names=sorts_names)
    found = []
    for leaf in values.leaves(dict(schema)):
        entries = _of_argument("", functools.partial(_entries, values, leaf))
        if dialect.syntax == "python":
            found.append(_keywords(rules, values, entries))
            continue
        parts = []
        for name, part, is_required in entries:
            meant = readings(name, parameters)
            if dialect.tags is not None:
                write = functools.partial(_tagged, rules, values, dialect.tags, name, part, meant)
            else:
                write = functools.partial(_bare, rules, values, quote, name, part, meant)
            parts.append((rules.rule(_of_argument(f"/properties/{pointer_step(name)}", write)), is_required))
        if dialect.tags is not None:
            found.append(f"{SPACE} {values.sequence(parts, '')}")
        else:
            found.append(f'"{{" {values.sequence(parts, COMMA, tail=json.dumps("}"))}')
    return rules.rule(" | ".join(found))


def _of_argument(pointer: str, write: Callable[[], T]) -> T:
    try:
        return write()
    except UnwritableError as error:
        raise UnwritableArgumentError(pointer, error.keyword, error.detail) from None


def _entries(values: ValueRules, leaf: Mapping[str, Any]) -> list[tuple[str, Any, bool]]:
    """The arguments that may be given; others than those that are declared are given in the dialects of JSON alone."""
    if leaf.get("type") != "object" or leaf.get("allOf"):
        raise UnwritableError("allOf", "is not enforced where it can't be taken in")
    entries = values.entries(leaf)
    if not entries and leaf.get("additionalProperties") is not False:
        raise UnwritableError("additionalProperties", "for all arguments is enforced in dialects of JSON only")
    if leaf.get("minProperties", 0) > sum(is_required for _, _, is_required in entries):
        raise UnwritableError("minProperties", "for all arguments is enforced in dialects of JSON only")
    if leaf.get("maxProperties", len(entries)) < len(entries):
        raise UnwritableError("maxProperties", "for all arguments is enforced in dialects of JSON only")
    return entries


def _keywords(rules: Rules, values: ValueRules, entries: Sequence[tuple[str, Any, bool]]) -> str:
    """Keywords in parentheses; names that are no identifiers stand in a dictionary behind them."""
    parts = []
    for name, part, is_required in entries:
        if _IDENTIFIER.match(name):
            value = _of_argument(f"/properties/{pointer_step(name)}", functools.partial(values.value, part))
            parts.append((f"{rules.literal(f'{name}=')} {value}", is_required))
    others = {name: part for name, part, _ in entries if not _IDENTIFIER.match(name)}
    if others:
        required = [name for name, _, is_required in entries if is_required and name in others]
        held = {"type": "object", "properties": others, "required": required, "additionalProperties": False}
        value = _of_argument(f"/properties/{pointer_step(next(iter(others)))}", lambda: values.value(held))
        parts.append((f'"**" {value}', bool(required)))
    return f'"(" {values.sequence(parts, COMMA, tail=json.dumps(")"))}'


def _tagged(
    rules: Rules, values: ValueRules, tags: Tags, name: str, schema: Any, meant: tuple[set[str], list[Any]]
) -> str:
    """An argument in its tag."""
    pad = "\n" if tags.pads_values else ""
    says_kind = "{string}" in tags.write_argument
    texts, others = _alternatives(values, schema, None if says_kind else meant, tags.value_end)
    found = []
    for is_text, bodies in (("true", texts), ("false", others)):
        opening = tags.write_argument.format(key=name, string=is_text)
        opened = f" {SPACE} ".join(rules.literal(part, flexible=False) for part in opening.split("\n"))
        if pad:
            opened += f" {rules.literal(pad, flexible=False)}"
        if bodies and is_text == "true":
            body = " | ".join(f"({text})" for text in texts)
            found.append(f"{opened} {values.until(body, pad + tags.value_end)} {SPACE}")
        found += [
            f"{opened} {values.value(leaf)} {rules.literal(pad + tags.value_end)} {SPACE}"
            for leaf in (others if is_text == "false" else ())
        ]
    return " | ".join(found)


def _bare(
    rules: Rules, values: ValueRules, quote: str, name: str, schema: Any, meant: tuple[set[str], list[Any]]
) -> str:
    """An argument behind its key; the reader asks the schema what a text means, also where it stands in quotes."""
    texts, others = _alternatives(values, schema, meant, quote, has_quotes=True)
    found = [values.quoted(" | ".join(f"({text})" for text in texts))] if texts else []
    found += [values.value(leaf) for leaf in others]
    return f"{values.key(name)} {COLON} ({' | '.join(found)})"


def _alternatives(
    values: ValueRules,
    schema: Any,
    meant: tuple[set[str], list[Any]] | None,
    end: str,
    *,
    has_quotes: bool = False,
) -> tuple[list[str], list[dict[str, Any]]]:
    """What an argument may be: texts, as bodies of terminals, and schemas of values of another notation.

    Args:
        values: of the tool.
        schema: of the argument.
        meant: the types as which a text is read, and the values that are listed; None where texts are marked as such.
        end: what ends a text.
        has_quotes: texts stand between quotes, and values that are none do not.
    """
    types, listed = meant or ({"string"}, [])
    literals: list[str] = []
    free: list[str] = []
    others: list[dict[str, Any]] = []
    excluded: list[str] = []
    is_marked = has_quotes or meant is None
    for leaf in values.leaves(schema):
        kind = leaf.get("type", "enum")
        if kind == "enum":
            texts = [value for value in leaf["enum"] if isinstance(value, str)]
            if any(end in text for text in texts):
                raise UnwritableError("enum", f"has a text that holds {end!r}")
            literals += [json.dumps(text) for text in texts if "string" in types]
            if rest := [value for value in leaf["enum"] if not isinstance(value, str)]:
                others.append({"enum": rest})
        elif kind == "string" and "string" in types:
            free.append(text_terminal(leaf, [end]))
        elif kind != "string":
            others.append(leaf)
    if not is_marked and types == {"string"}:
        others = []  # whatever stands there is a text
    elif "string" in types and types != {"string"}:
        kept = []
        for leaf in others:
            kind = leaf.get("type", "enum")
            if kind == "enum":
                kept += [leaf] if is_marked else []
                literals += (
                    []
                    if is_marked
                    else [json.dumps(text) for value in leaf["enum"] for text in {json_text(value): 0, repr(value): 0}]
                )
            elif listed:  # then only what is listed is read as anything but a text
                kept += [leaf] if is_marked else []
            elif kind in ("boolean", "null"):
                literals += [json.dumps(word) for word in ("null",)] if kind == "null" else ['"true"', '"false"']
                kept += [leaf] if is_marked else []
            elif kind in ("array", "object"):
                excluded.append(_LIKE_CONTAINER)
                kept.append(leaf)
            elif _is_free(leaf) and not is_marked:
                free.append(regex(_NUMBERS[kind]))
            else:
                excluded += [] if _is_free(leaf) else [_LIKE_NUMBER]
                kept.append(leaf)
        others = kept
    free = [" & ".join([f"({text})", *(f"~({each})" for each in excluded)]) for text in free]
    if not (literals or free or others):
        raise UnwritableError("schema", "allows no value that this dialect can say")
    return [*literals, *free], others


def _is_free(leaf: Mapping[str, Any]) -> bool:
    """Whether a schema allows all numbers of its type that are ever written."""
    bounds = (leaf.get("minimum"), leaf.get("maximum"))
    return bounds == (-FARTHEST, FARTHEST) and _LIMITING.isdisjoint(leaf)
