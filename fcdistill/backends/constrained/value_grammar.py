"""Values of a schema as rules: in JSON, as Python's literals, or with bare keys and texts between tokens.

The schemas are those that `enforceable` writes. What llguidance's own JSON Schema knows is left to it. Objects with any
names, any values, and arrays of distinct values are rules of their own; the names of such objects are noted, so that
`constraint` keeps them from repeating. Where a value stands in an answer is not known here (`call_grammar`).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from fcdistill.backends.constrained.enforceable import FARTHEST, is_set
from fcdistill.backends.constrained.grammar_rules import COLON, COMMA, Rules
from fcdistill.backends.constrained.raw_text import UnwritableError, regex, text_terminal
from fcdistill.toolcalls.json_text import json_text
from fcdistill.toolcalls.literals import PYTHON, write_literal
from fcdistill.tools.intersection import CONSTRAINTS
from fcdistill.tools.json_schema import Draft202012Validator, dialect_of
from fcdistill.tools.refs import Document

__all__ = ["CLOSED", "NAME", "OPENED", "Spelling", "ValueRules"]

Spelling = Literal["json", "python", "bare"]
OPENED, NAME, CLOSED = "opened", "name", "closed"
"""What is noted of objects with any names."""
_ANY_DEPTH = 5
"""Levels of a value of which the schema says nothing."""
_ANY = {
    "type": ["string", "number", "boolean", "null", "array", "object"],
    "minimum": -FARTHEST,
    "maximum": FARTHEST,
    "items": True,
    "additionalProperties": True,
}
_ALTERNATIVES = ("anyOf", "oneOf")
_DEFINITIONS = ("$schema", "$defs", "definitions")
_NUMERIC = ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "allOf")
_TEXTUAL = ("type", "minLength", "maxLength", "pattern", "format", "allOf")
_QUOTED_NAME = r"[^\"'\\\x00-\x1f\x7f]{0,128}"
_ENDING_QUOTE = r"(?s:'.*|.*'[ \t\r\n]*(?:[,:)\]}].*)?)"
"""What a text between single quotes may not be: only a quote before a mark ends it, since templates leave others."""
_BARE_NAME = r"[^\s\"'<>|{}\[\],:\\\x00-\x1f\x7f]{1,128}"


class ValueRules:
    """The rules of one tool's values.

    Args:
        rules: where they are written.
        root: the schema of all arguments, with the definitions that its parts refer to.
        spelling: how values are written.
        quote: with spelling `bare`, what stands before and behind a text.
        sorts_names: names stand in the order of the alphabet, not in that of the schema.
    """

    def __init__(
        self,
        rules: Rules,
        root: Mapping[str, Any],
        spelling: Spelling,
        quote: str = "",
        *,
        sorts_names: bool = False,
    ) -> None:
        self._rules = rules
        self._sorts_names = sorts_names
        self._root = root
        self._spelling = spelling
        self._quote = quote
        self._definitions = {keyword: root[keyword] for keyword in _DEFINITIONS if keyword in root}
        dialect = dialect_of(root) or Draft202012Validator
        self._document = Document(root, dialect)
        self._validator = dialect(dict(root))
        self._known: dict[str, str] = {}

    def value(self, schema: Any) -> str:
        """The rule of a schema's values; `UnwritableError` where a keyword can't be enforced in this spelling."""
        key = json.dumps(schema)
        if key not in self._known:
            self._known[key] = name = self._rules.reserve()
            self._rules.define(name, self._body(schema))
        return self._known[key]

    def leaves(self, schema: Any) -> Iterator[dict[str, Any]]:
        """A schema's alternatives one by one: each of a single type, or a list of values in `enum`."""
        found = self._document.resolved(schema)
        if found is True:
            found = _ANY
        if found is False:
            return
        keyword = next((keyword for keyword in _ALTERNATIVES if keyword in found), None)
        if "enum" in found or "const" in found:
            values = [value for value in found.get("enum", [found.get("const")]) if self._is_valid(value, found)]
            if values:
                yield {"enum": values}
        elif keyword is not None:
            beside = {name: part for name, part in found.items() if name != keyword}
            is_plain = (CONSTRAINTS | {"allOf", *_ALTERNATIVES}).isdisjoint(beside)
            for branch in found[keyword]:
                yield from self.leaves(branch if is_plain else {"allOf": [beside, branch]})
        else:
            types = found.get("type", _ANY["type"])
            for kind in [types] if isinstance(types, str) else types:
                yield {**found, "type": kind}

    def quoted(self, terminal: str) -> str:
        """A text between quotes: of a terminal's body that holds no quote."""
        opening = self._rules.literal(self._quote, flexible=False)
        return f"{opening} {self.until(terminal, self._quote)}"

    def until(self, terminal: str, end: str) -> str:
        """A text up to what ends it: of a terminal's body that holds nothing of the kind."""
        rules, (first, *rest) = self._rules, self._rules.cut(end)
        if rules.is_mark(first):
            return f"{rules.terminal(terminal)} {rules.literal(end, flexible=False)}"
        body = f"({terminal}) {json.dumps(first)}"
        if not rest:  # lazily, so that the end is one wherever it stands
            return rules.rule(rules.terminal(body), "[lazy]")
        return f"{rules.terminal(body)} {rules.literal(''.join(rest), flexible=False)}"

    def entries(self, leaf: Mapping[str, Any]) -> list[tuple[str, Any, bool]]:
        """Of an object's schema: name, schema and whether it is required, of the properties that may be given."""
        required = leaf.get("required", ())
        properties = {name: part for name, part in leaf.get("properties", {}).items() if part is not False}
        if impossible := [name for name in required if name not in properties and name in leaf.get("properties", {})]:
            raise UnwritableError("required", f"names {impossible[0]!r}, which can have no value")
        names = sorted(properties, key=str.lower) if self._sorts_names else properties
        return [(name, properties[name], name in required) for name in names]

    def sequence(self, parts: list[tuple[str, bool]], comma: str, tail: str = "", more: str = "") -> str:
        """A rule for parts of which those that are not required may be left out, and what follows them.

        Args:
            parts: what each is, and whether it is required.
            comma: what stands between them; empty for nothing.
            tail: what stands behind all of them.
            more: what may follow further, as often as wanted.
        """
        rules = self._rules
        again = f"({comma} {more})*" if more else ""
        after = rules.rule(f"{again} {tail}".strip() or '""')
        first = rules.rule(f"({more} {again})? {tail}".strip()) if more else after
        for part, is_required in reversed(parts):
            following = f"{part} {after}"
            first = rules.rule(following + ("" if is_required else f" | {first}"))
            after = rules.rule(f"{comma} {following}".strip() + ("" if is_required else f" | {after}"))
        return first

    def _body(self, schema: Any) -> str:
        if schema is True:
            return self._any(0)
        if self._spelling == "json" and not self._is_own(schema, set()):
            whole = {**self._definitions, **schema} if "$ref" in json.dumps(schema) else schema
            return self._rules.json(_sorted(whole) if self._sorts_names else whole)
        if isinstance(schema, dict) and "$ref" in schema and CONSTRAINTS.isdisjoint(schema) and "allOf" not in schema:
            return self.value(self._document.leaf(schema).follow(schema["$ref"]).schema)
        alternatives = list(dict.fromkeys(self._leaf(leaf) for leaf in self.leaves(schema)))
        if not alternatives:
            raise UnwritableError("schema", "allows no value")
        return " | ".join(alternatives)

    def _is_own(self, schema: Any, inside: set[str]) -> bool:
        """Whether somewhere in a schema stands what llguidance's JSON Schema does not know or keep."""
        if not isinstance(schema, dict):
            return schema is True
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in inside:
            inside.add(reference)
            if self._is_own(self._document.leaf(schema).follow(reference).schema, inside):
                return True
        if schema.get("uniqueItems") is True or not {"patternProperties", "propertyNames"}.isdisjoint(schema):
            return True
        parts = [schema.get(keyword) for keyword in ("items", "additionalItems", "additionalProperties")]
        parts += schema.get("properties", {}).values()
        for keyword in ("prefixItems", "allOf", *_ALTERNATIVES):
            parts += schema.get(keyword, ())
        parts += parts[0] if isinstance(parts[0], list) else ()
        if schema.get("additionalProperties") not in (None, False):
            return True
        return any(self._is_own(part, inside) for part in parts)

    def _is_valid(self, value: Any, schema: dict[str, Any]) -> bool:
        return bool(self._validator.evolve(schema=schema).is_valid(value))

    def _leaf(self, leaf: dict[str, Any]) -> str:
        if "enum" in leaf:
            return " | ".join(map(self._literal, leaf["enum"]))
        kind = leaf["type"]
        if kind in ("array", "object") and leaf.get("allOf"):
            raise UnwritableError("allOf", "is not enforced where it can't be taken in")
        if kind == "string":
            return self._text(leaf)
        if kind in ("number", "integer"):
            return self._rules.json({keyword: leaf[keyword] for keyword in _NUMERIC if keyword in leaf})
        if kind == "boolean":
            return f"{self._literal(True)} | {self._literal(False)}"
        if kind == "null":
            return self._literal(None)
        return self._array(leaf) if kind == "array" else self._object(leaf)

    def _literal(self, value: Any) -> str:
        """What matches a value, however it is written."""
        written = [self._written(value)]
        if self._spelling == "python":  # some templates write JSON in the place of Python's literals, or its `repr`
            written = list(dict.fromkeys([*written, json_text(value), repr(value)]))
        return " | ".join(self._rules.literal(each, flexible=False) for each in written)

    def _written(self, value: Any) -> str:
        """A value as it stands in an answer."""
        if self._spelling == "json":
            return json_text(value)
        if self._spelling == "python":
            return write_literal(value, PYTHON)
        if isinstance(value, str):
            if self._quote in value:
                raise UnwritableError("enum", f"has a text that holds {self._quote!r}")
            return f"{self._quote}{value}{self._quote}"
        if isinstance(value, list):
            return f"[{','.join(map(self._written, value))}]"
        if isinstance(value, dict):
            return (
                "{" + ",".join(f"{self._written_key(name)}:{self._written(part)}" for name, part in value.items()) + "}"
            )
        return json_text(value)

    def _text(self, leaf: Mapping[str, Any]) -> str:
        if self._spelling == "bare":
            return self.quoted(text_terminal(leaf, [self._quote]))
        quoted = self._rules.json({keyword: leaf[keyword] for keyword in _TEXTUAL if keyword in leaf})
        if self._spelling == "json":
            return quoted
        try:
            body = text_terminal(leaf, ["\\"])
        except UnwritableError:
            return quoted
        mark = json.dumps("'")
        return f"{quoted} | {self._rules.terminal(f'{mark} ({body} & ~({regex(_ENDING_QUOTE)})) {mark}')}"

    def _any(self, depth: int) -> str:
        scalars = [self._leaf(leaf) for leaf in self.leaves(True) if leaf["type"] not in ("array", "object")]
        if depth == _ANY_DEPTH:
            return " | ".join(scalars)
        inner = self._rules.rule(self._any(depth + 1))
        return " | ".join([*scalars, _list_of(inner, 0, None), self._map(inner, {}, 0, None)])

    def _array(self, leaf: Mapping[str, Any]) -> str:
        if leaf.get("uniqueItems") is True:
            if not is_set(leaf):
                raise UnwritableError("uniqueItems", "is not enforced but for lists of enum values")
            return self._set(leaf)
        listed = leaf.get("prefixItems", leaf.get("items"))
        prefix = listed if isinstance(listed, list) else []
        rest = leaf.get("additionalItems", True) if isinstance(leaf.get("items"), list) else leaf.get("items", True)
        least, most = leaf.get("minItems", 0), leaf.get("maxItems")
        if rest is False:
            most = len(prefix) if most is None else min(most, len(prefix))
        if not prefix:
            return _list_of("" if most == 0 else self.value(rest), least, most)
        prefix = prefix[:most]
        after = ""
        if most is None or most > len(prefix):
            after = f"({COMMA} {self.value(rest)}){_times(least - len(prefix), most, len(prefix))}"
        for index, part in reversed(list(enumerate(prefix))):
            comma = f"{COMMA} " if index else ""
            after = f"({comma}{self.value(part)} {after}){'' if index < least else '?'}"
        return f'"[" {after} "]"'

    def _set(self, leaf: Mapping[str, Any]) -> str:
        """An array of distinct values: the rules carry a bit for each value that it has."""
        values = [f"({self._literal(value)})" for value in leaf["items"]["enum"]]
        least, most = leaf.get("minItems", 0), leaf.get("maxItems", len(values))
        may_follow = f"bit_count_lt(_, {most})"
        first, following = self._rules.reserve(), self._rules.reserve()
        ended = f'"]" %if bit_count_ge(_, {least})'
        firsts = [f"{value} {following}::set_bit({bit}) %if {may_follow}" for bit, value in enumerate(values)]
        others = [
            f"{COMMA} {value} {following}::set_bit({bit}) %if and(bit_clear({bit}), {may_follow})"
            for bit, value in enumerate(values)
        ]
        self._rules.define(f"{first}::_", "\n  | ".join([ended, *firsts]))
        self._rules.define(f"{following}::_", "\n  | ".join([ended, *others]))
        return f'"[" {first}::0x0'

    def _object(self, leaf: Mapping[str, Any]) -> str:
        entries = self.entries(leaf)
        patterns = leaf.get("patternProperties", {})
        others = leaf.get("additionalProperties", True)
        if patterns:
            ((pattern, others),) = patterns.items()
            names: Mapping[str, Any] = {"pattern": pattern}
        else:
            names = leaf.get("propertyNames", {})
        least, most = leaf.get("minProperties", 0), leaf.get("maxProperties")
        num_required = sum(is_required for _, _, is_required in entries)
        if others is not False and not entries:
            return self._map(self.value(others), names, least, most)
        if least > num_required or (most is not None and (others is not False or most < len(entries))):
            keyword = "minProperties" if least > num_required else "maxProperties"
            raise UnwritableError(keyword, "is enforced for objects of any names only")
        parts = [(f"{self.key(name)} {COLON} {self.value(part)}", needed) for name, part, needed in entries]
        if others is False:
            return f'"{{" {self.sequence(parts, COMMA, tail=json.dumps("}"))}'
        more = f"{self._other_name(names, [name for name, _, _ in entries])} {COLON} {self.value(others)}"
        return f"{self._opened()} {self.sequence(parts, COMMA, tail=self._closed(), more=more)}"

    def _map(self, value: str, names: Mapping[str, Any], least: int, most: int | None) -> str:
        entry = f"{self._other_name(names, [])} {COLON} {value}"
        return _list_of(entry, least, most, self._opened(), self._closed())

    def _opened(self) -> str:
        return self._rules.noted(OPENED, '"{"')

    def _closed(self) -> str:
        return self._rules.noted(CLOSED, '"}"')

    def key(self, name: str) -> str:
        """What matches a declared name in front of its value."""
        if self._spelling == "python":
            return f"({self._literal(name)})"
        return self._rules.literal(self._written_key(name), flexible=False)

    def _written_key(self, name: str) -> str:
        if self._spelling != "bare":
            return json_text(name)
        if not name or name != name.strip() or any(mark in name for mark in "{}[],:\n\"'") or self._quote in name:
            raise UnwritableError("properties", f"has a name that can't be written without quotes: {name!r}")
        return name

    def _other_name(self, names: Mapping[str, Any], declared: list[str]) -> str:
        """A name that is none of those that are declared."""
        is_bare = self._spelling == "bare"
        inner = [regex(_BARE_NAME if is_bare else _QUOTED_NAME)]
        if not {"pattern", "minLength", "maxLength"}.isdisjoint(names):
            inner.append(f"({text_terminal({key: names[key] for key in names if key != 'type'})})")
        if declared:
            inner.append(f"~({' | '.join(map(json.dumps, declared))})")
        body = " & ".join(inner)
        if not is_bare:
            marks = ['"', "'"] if self._spelling == "python" else ['"']
            body = " | ".join(f"{json.dumps(mark)} ({body}) {json.dumps(mark)}" for mark in marks)
        return self._rules.noted(NAME, self._rules.terminal(body))


def _sorted(schema: Any) -> Any:
    """A schema whose objects have their names in the order of the alphabet."""
    if isinstance(schema, list):
        return [_sorted(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    written = {keyword: _sorted(part) for keyword, part in schema.items()}
    if isinstance(schema.get("properties"), dict):
        properties = written["properties"]
        written["properties"] = {name: properties[name] for name in sorted(properties, key=str.lower)}
    return written


def _list_of(
    element: str, least: int, most: int | None, opening: str = json.dumps("["), closing: str = json.dumps("]")
) -> str:
    """Elements with commas between them, and what stands round them."""
    if most == 0:
        if least:
            raise UnwritableError("minItems", "is more than there may be")
        return f"{opening} {closing}"
    elements = f"{element} ({COMMA} {element}){_times(least, most, 1)}"
    return f"{opening} {elements if least else f'({elements})?'} {closing}"


def _times(least: int, most: int | None, before: int) -> str:
    """How often something may follow what stands a number of times before it."""
    fewest = max(least - before, 0)
    if most is None:
        return f"{{{fewest},}}" if fewest else "*"
    if most < max(least, before):
        raise UnwritableError("minItems", "is more than there may be")
    return f"{{{fewest},{most - before}}}"
