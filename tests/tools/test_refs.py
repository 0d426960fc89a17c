"""Tests of `refs`, and that all who read schemas agree with the validator on what references come to.

The generated documents come in two writings: with references of every kind, and expanded by hand. Whoever follows
references rightly sees the same in both.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.backends.constrained.enforceable import enforceable_schema
from fcdistill.evaluation.defaults import MISSING, Defaults
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.plan.edges import schema_edges
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.prompts.signatures import compact_signature
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.tools.json_schema import Draft7Validator, Draft202012Validator
from fcdistill.tools.parameters import property_schema, resolve_schema
from fcdistill.tools.refs import (
    DanglingReferenceError,
    Document,
    EndlessReferenceError,
    RemoteReferenceError,
    fragment_step,
    fragment_steps,
    read_schema,
)
from fcdistill.tools.validation import CallValidator, check_spec
from tests.backends.constrained.walker import Walker

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
NULL = {"type": "null"}
PERCENT = {"type": "integer", "minimum": 0, "maximum": 100}
FORMS = ("pointer", "escaped", "list", "anchor", "own id", "relative id", "resource", "chain")
NOW = datetime(2027, 5, 2, 10, tzinfo=UTC)


def tool(**parameters: Any) -> ToolSpec:
    return ToolSpec(name="t", parameters={"type": "object", **parameters})


def sampler_of(spec: ToolSpec, seed: int = 0) -> ArgumentSampler:
    return ArgumentSampler(CallValidator([spec]), ValueBook({}), seed=seed, now=NOW)


def first_draws(spec: ToolSpec, count: int) -> list[Any]:
    """What the sampler draws for the argument `v`, before the validator sees it."""
    sampler = sampler_of(spec)
    return [sampler.value(spec.parameters["properties"]["v"], "t.v", spec.parameters) for _ in range(count)]


def allows(spec: ToolSpec, arguments: dict[str, Any], walker: Walker) -> bool:
    """Whether the grammar lets a model write a call with these arguments."""
    return walker.allows(f'<tool_call>\n{{"name": "t", "arguments": {json.dumps(arguments)}}}\n</tool_call>')


# --- the two known faults


def test_a_bound_beside_a_reference_counts_for_every_reader() -> None:
    spec = tool(properties={"v": {"$ref": "#/$defs/Percent", "maximum": 50}}, **{"$defs": {"Percent": PERCENT}})
    assert compact_signature(spec) == "t(v?: int 0..50)"
    assert property_schema(spec.parameters, ["v"]) == {**PERCENT, "maximum": 50}
    assert list(schema_edges(spec)) == [("v", "minimum"), ("v", "maximum")]
    assert sampler_of(spec).sample_edge(spec, (), "v", "maximum") == ToolCall(name="t", arguments={"v": 50})
    assert max(first_draws(spec, 200)) == 50
    walker = Walker([spec])
    assert [allows(spec, {"v": value}, walker) for value in (0, 50, 51, 100)] == [True, True, False, False]


def test_a_pointer_through_a_list_is_followed_by_every_reader() -> None:
    spec = tool(properties={"v": {"$ref": "#/$defs/L/anyOf/0"}}, **{"$defs": {"L": {"anyOf": [PERCENT, NULL]}}})
    assert compact_signature(spec) == "t(v?: int 0..100)"
    assert property_schema(spec.parameters, ["v"]) == PERCENT
    assert list(schema_edges(spec)) == [("v", "minimum"), ("v", "maximum")]
    assert all(0 <= value <= 100 for value in first_draws(spec, 20))
    assert Defaults.of_document(spec.parameters).below("v") == Defaults(PERCENT, spec.parameters)
    walker = Walker([spec])
    assert [allows(spec, {"v": value}, walker) for value in (0, 100, 101, None)] == [True, True, False, False]


# --- references of all kinds, for all readers


@dataclass
class Writer:
    """Draws schemas in two writings: with references into a document, and expanded."""

    draw: st.DrawFn
    lone: bool
    """Whether the dialect ignores what stands beside a reference."""
    definitions: dict[str, Any] = field(default_factory=dict)
    number: Iterator[int] = field(default_factory=itertools.count)

    @property
    def container(self) -> str:
        return "definitions" if self.lone else "$defs"

    def schema(self, depth: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
        kinds = [
            "integer",
            "choice",
            "boolean",
            "reference",
            "reference",
            *["list", "object", "optional"] * (depth < 3),
        ]
        kind = self.draw(st.sampled_from(kinds))
        if kind == "reference" and depth < 4:
            return self.reference(depth)
        if kind == "list":
            written, plain = self.schema(depth + 1)
            shape = {"type": "array", "minItems": 1, "maxItems": 3}
            return {**shape, "items": written}, {**shape, "items": plain}
        if kind == "optional":
            written, plain = self.schema(depth + 1)
            return {"anyOf": [written, NULL]}, {"anyOf": [plain, NULL]}
        if kind == "object":
            parts = {name: self.schema(depth + 1) for name in ("a", "b")}
            shape = {"type": "object", "required": ["a"], "additionalProperties": False}
            one, two = ({name: part[index] for name, part in parts.items()} for index in (0, 1))
            return {**shape, "properties": one}, {**shape, "properties": two}
        if kind == "choice":
            words = self.draw(st.lists(st.sampled_from(["red", "green", "blue"]), min_size=1, unique=True))
            return (found := {"type": "string", "enum": [*words, "any"]}), found
        if kind == "boolean":
            return (found := {"type": "boolean"}), found
        low, high = self.draw(st.integers(-9, 9)), self.draw(st.integers(60, 99))
        return (found := {"type": "integer", "minimum": low, "maximum": high}), found

    def reference(self, depth: int) -> tuple[dict[str, Any], dict[str, Any]]:
        form = self.draw(st.sampled_from(FORMS))
        # What has a base of its own, or a name beside it, holds no reference here: its pointers would start elsewhere.
        written, plain = self.schema(depth + 1)
        target = plain if form in ("anchor", "resource") else written
        reference = self.put(target, form)
        if self.draw(st.booleans()):
            return {"$ref": reference, "description": "said here"}, plain
        beside, narrowed = self.narrowed(plain)
        return {"$ref": reference, **beside}, plain if self.lone else narrowed

    def put(self, target: dict[str, Any], form: str) -> str:
        """Define a schema, and refer to it in one of the ways there are."""
        number = next(self.number)
        name = f"a/b~{number} %" if form == "escaped" else f"d{number}"
        here = f"#/{self.container}/{quote(name.replace('~', '~0').replace('/', '~1'))}"
        self.definitions[name] = target
        if form == "list":
            self.definitions[name] = {"anyOf": [NULL, target]}
            return f"{here}/anyOf/1"
        if form == "anchor":
            self.definitions[name] = {**target, **({"$id": f"#{name}"} if self.lone else {"$anchor": name})}
            return f"#{name}"
        if form == "resource":
            inner = {"in": {"$ref": f"#/{self.container}/deep"}, "deep": target}
            self.definitions[name] = {"$id": f"sub/{name}", self.container: inner}
            return f"sub/{name}#/{self.container}/in"
        if form == "chain":
            self.definitions[f"{name}-end"] = target
            self.definitions[name] = {"$ref": f"{here}-end"}
        return {"own id": "https://example.org/kit/t", "relative id": "t"}.get(form, "") + here

    def narrowed(self, plain: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Keywords that may stand beside a reference to this schema, and the schema that both are together."""
        if "anyOf" in plain:
            beside, narrowed = self.narrowed(plain["anyOf"][0])
            beside.pop("type", None)
            rest = [] if "enum" in beside else plain["anyOf"][1:]  # no null is among the words
            return beside, {"anyOf": [narrowed, *rest]}
        if plain["type"] == "integer":
            bounds = {"minimum": self.draw(st.integers(-20, 30)), "maximum": self.draw(st.integers(40, 120))}
            beside = {
                name: bounds[name] for name in self.draw(st.sampled_from([("minimum",), ("maximum",), (*bounds,)]))
            }
            found = {
                name: (max if name == "minimum" else min)(plain[name], beside.get(name, plain[name])) for name in bounds
            }
            return beside, {**plain, **found}
        if plain["type"] == "string":
            words = [word for word in ("any", "blue", "other") if self.draw(st.booleans()) or word == "any"]
            return {"enum": words}, {**plain, "enum": [word for word in words if word in plain["enum"]]}
        if plain["type"] == "array":
            inner, narrowed = self.narrowed(plain["items"])
            return {"maxItems": 2, "items": inner}, {**plain, "maxItems": 2, "items": narrowed}
        if plain["type"] == "object":
            inner, narrowed = self.narrowed(plain["properties"]["a"])
            properties = {"a": narrowed, "b": plain["properties"]["b"]}
            return (
                {"properties": {"a": inner}, "required": ["b"]},
                {**plain, "properties": properties, "required": ["b", "a"]},
            )
        return {"type": ["boolean", "string"]}, plain


@st.composite
def documents(draw: st.DrawFn) -> tuple[ToolSpec, ToolSpec]:
    """A tool with references, and the same one without."""
    writer = Writer(draw, lone=draw(st.booleans()))
    parts = {"v": writer.reference(0), "w": writer.schema()}
    written, plain = ({name: part[index] for name, part in parts.items()} for index in (0, 1))
    dialect = {"$schema": DRAFT_7} if writer.lone else {}
    base = {"$id": "https://example.org/kit/t", writer.container: writer.definitions}
    return (
        tool(properties=written, required=["v"], **dialect, **base),
        tool(properties=plain, required=["v"], **dialect),
    )


def seen(schema: Any, root: dict[str, Any]) -> Any:
    """A schema as grounding and its like see it, at every depth, without what names or describes it."""
    found = {
        keyword: value
        for keyword, value in resolve_schema(schema, root).items()
        if keyword not in ("description", "$anchor", "$id", "$defs", "definitions", "$schema")
    }
    if "properties" in found:
        found["properties"] = {name: seen(part, root) for name, part in found["properties"].items()}
    if "items" in found:
        found["items"] = seen(found["items"], root)
    if "required" in found:
        found["required"] = sorted(found["required"])
    return found


def mutants(value: Any, random: Random) -> Iterator[Any]:
    """Values like this one that may be wrong."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        yield from (None, True, "any", "blue", "other", 3)
    elif isinstance(value, int):
        yield from (value + step for step in (-60, -10, 10, 40, 60))
        yield None
    elif isinstance(value, list):
        yield from ([], value * 2, [*value, value[0]])
        for place, item in enumerate(value):
            yield from ([*value[:place], each, *value[place + 1 :]] for each in mutants(item, random))
    else:
        yield from ({key: part for key, part in value.items() if key != name} for name in value)
        yield {**value, "other": 1}
        for name, part in value.items():
            yield from ({**value, name: each} for each in mutants(part, random))


@settings(max_examples=60, deadline=None)
@given(documents(), st.integers(0, 9))
def test_all_readers_see_what_the_validator_sees(pair: tuple[ToolSpec, ToolSpec], seed: int) -> None:
    spec, plain = pair
    assert check_spec(spec) == check_spec(plain) == []
    assert compact_signature(spec) == compact_signature(plain)
    assert set(schema_edges(spec)) == set(schema_edges(plain))
    for name in ("v", "w"):
        part = property_schema(spec.parameters, [name])
        expected = property_schema(plain.parameters, [name])
        assert seen(part, spec.parameters) == seen(expected, plain.parameters)
    judge, plain_judge, random = CallValidator([spec]), CallValidator([plain]), Random(seed)
    sampler, values = sampler_of(spec, seed), []
    for _ in range(4):
        value = sampler.value(spec.parameters["properties"]["v"], "t.v", spec.parameters)
        assert judge.check_call(ToolCall(name="t", arguments={"v": value})) == []
        values.append(value)
    for value in [*values, *mutants(values[0], random)]:
        call = ToolCall(name="t", arguments={"v": value})
        assert bool(judge.check_call(call)) == bool(plain_judge.check_call(call)), value
    sampled = sampler.sample(spec, ("w",))
    assert plain_judge.check_call(sampled) == []


@settings(max_examples=15, deadline=None)
@given(documents(), st.integers(0, 9))
def test_the_grammar_accepts_what_the_validator_accepts(pair: tuple[ToolSpec, ToolSpec], seed: int) -> None:
    spec, _ = pair
    assert enforceable_schema(spec)[1] == []
    walker, judge, random = Walker([spec]), CallValidator([spec]), Random(seed)
    arguments = sampler_of(spec, seed).sample(spec, ("w",)).arguments
    others = list(mutants(arguments, random))
    for each in [arguments, *random.sample(others, min(12, len(others)))]:
        assert allows(spec, each, walker) == (not judge.check_call(ToolCall(name="t", arguments=each))), each


# --- single kinds

DEFINITIONS: dict[str, Any] = {
    "a/b": PERCENT,
    "two words": {"type": "boolean"},
    "list": {"prefixItems": [{"const": 1}, {"const": 2}]},
    "named": {"$anchor": "here", "const": "named"},
    "inner": {"$id": "inner", "$defs": {"x": {"const": "inner"}, "y": {"$ref": "#/$defs/x"}}},
    "yes": True,
    "no": False,
}


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("#/$defs/a~1b", PERCENT),
        ("#/$defs/two%20words", {"type": "boolean"}),
        ("#/%24defs/a~1b", PERCENT),
        ("#/$defs%2Fa~1b", PERCENT),
        ("#/$defs/list/prefixItems/1", {"const": 2}),
        ("#here", DEFINITIONS["named"]),
        ("https://example.org/tools/t#/$defs/a~1b", PERCENT),
        ("t#here", DEFINITIONS["named"]),
        ("/tools/inner#/$defs/y", {"const": "inner"}),
        ("inner#/$defs/x", {"const": "inner"}),
        ("#/$defs/inner/$defs/y", {"const": "inner"}),
        ("#/elsewhere/0", {"const": 0}),
        ("#/$defs/yes", True),
        ("#/$defs/no", False),
    ],
)
def test_where_a_reference_leads(reference: str, found: Any) -> None:
    root = {"$id": "https://example.org/tools/t", "$defs": DEFINITIONS, "elsewhere": [{"const": 0}]}
    assert Document(root, Draft202012Validator).resolved({"$ref": reference}) == found
    assert read_schema({"$ref": reference}, root) == found


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("#/$defs/missing", DanglingReferenceError),
        ("#/$defs/list/prefixItems/2", DanglingReferenceError),
        ("#/$defs/list/prefixItems/x", DanglingReferenceError),
        ("#there", DanglingReferenceError),
        ("other", RemoteReferenceError),
        ("https://example.org/tools/other#/$defs/x", RemoteReferenceError),
        ("https://json-schema.org/draft/2020-12/schema", RemoteReferenceError),
    ],
)
def test_references_that_lead_out_or_nowhere(
    reference: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a schema is fetched")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    root = {"$id": "https://example.org/tools/t", "$defs": DEFINITIONS}
    with pytest.raises(error):
        Document(root, Draft202012Validator).resolved({"$ref": reference})
    assert read_schema({"$ref": reference, "maximum": 3}, root) == {"maximum": 3}
    assert check_spec(tool(properties={"v": {"$ref": reference}}, **root))


def test_a_cycle_is_named_and_not_an_endless_loop() -> None:
    loop = {"A": {"$ref": "#/$defs/B"}, "B": {"allOf": [{"type": "object"}, {"$ref": "#/$defs/A"}]}}
    spec = tool(properties={"v": {"$ref": "#/$defs/B"}}, **{"$defs": loop})
    with pytest.raises(EndlessReferenceError, match="^#/\\$defs/A -> #/\\$defs/B -> #/\\$defs/A$"):
        Document(spec.parameters, Draft202012Validator).resolved(spec.parameters["properties"]["v"])
    assert [problem.rpartition(" (")[2] for problem in check_spec(spec)] == ["#/$defs/A -> #/$defs/B -> #/$defs/A)"]
    assert compact_signature(spec) == "t(v?: any)"
    chain: dict[str, Any] = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(2000)}
    assert read_schema({"$ref": "#/$defs/d0"}, {"$defs": {**chain, "d2000": {}}}) == {}


def test_a_schema_that_holds_itself_is_read_level_by_level() -> None:
    further = {"$ref": "#/$defs/Node", "properties": {"size": {"minimum": 1}}}
    node = {"type": "object", "properties": {"size": PERCENT, "next": further}, "required": ["size"]}
    held = {"$ref": "#/$defs/Node", "properties": {"size": {"maximum": 7}, "next": {"required": ["next"]}}}
    spec = tool(properties={"v": held}, required=["v"], **{"$defs": {"Node": node}})
    assert check_spec(spec) == []
    shown = compact_signature(spec)
    assert shown.startswith("t(v: {size: int 0..7, next?: {size: int 1..100, next: {size: int 1..100, next?: {")
    for arguments in (sampler_of(spec, seed).sample(spec, ()).arguments for seed in range(9)):
        assert arguments["v"]["size"] <= 7 and len(arguments["v"].get("next", {})) in (0, 2)
    walker, judge = Walker([spec]), CallValidator([spec])
    values: list[dict[str, Any]] = [{"size": 7}, {"size": 8}, {"size": 7, "next": {"size": 8}}]
    values += [{"size": 0, "next": {"size": 1, "next": {"size": size}}} for size in (0, 1)]
    values += [{"size": 0, "next": {"size": 1, "next": {"size": 1, "more": 2}}}]
    for value in values:
        is_right = not judge.check_call(ToolCall(name="t", arguments={"v": value}))
        assert allows(spec, {"v": value}, walker) == is_right, value


def test_what_stands_beside_a_reference_is_ignored_before_2019() -> None:
    for dialect, ignores in ((Draft7Validator, True), (Draft202012Validator, False)):
        root = {"$schema": dialect.META_SCHEMA["$schema"], "definitions": {"P": PERCENT}}
        beside = {"$ref": "#/definitions/P", "maximum": 5, "description": "x"}
        assert read_schema(beside, root) == (PERCENT if ignores else {**PERCENT, "maximum": 5, "description": "x"})


@pytest.mark.parametrize(
    ("schema", "resolved"),
    [
        ({"$ref": "#/$defs/P", "description": "mine"}, {**PERCENT, "title": "P", "description": "mine"}),
        ({"$ref": "#/$defs/P", "title": "mine"}, {**PERCENT, "title": "mine"}),
        ({"allOf": [{"$ref": "#/$defs/P"}, {"minimum": 5}]}, {**PERCENT, "title": "P", "minimum": 5}),
        ({"$ref": "#/$defs/Text", "pattern": "b$"}, {"type": "string", "pattern": "b$", "allOf": [{"pattern": "^a"}]}),
        ({"$ref": "#/$defs/P", "not": False, "allOf": [True]}, {**PERCENT, "title": "P", "not": False}),
        ({"$ref": "#/$defs/P", "allOf": [False]}, False),
        ({"$ref": "#/$defs/Open", "required": ["a"]}, {"unevaluatedProperties": False, "required": ["a"]}),
        (
            {"$ref": "#/$defs/Open", "properties": {"a": {}}},
            {"properties": {"a": {}}, "allOf": [{"unevaluatedProperties": False}]},
        ),
        ({"$dynamicRef": "#P", "maximum": 9}, {**PERCENT, "title": "P", "maximum": 9}),
        ({"$ref": "#/$defs/Name", "maxLength": 5}, {"type": ["string", "null"], "maxLength": 5}),
        ({"$ref": "#/$defs/Name", "type": "string"}, {"type": "string"}),
        ({"$ref": "#/$defs/Name", "type": ["string", "boolean"], "nullable": True}, {"type": ["string", "null"]}),
        ({"$ref": "#/$defs/Text", "nullable": True}, {"type": "string", "pattern": "^a"}),
    ],
)
def test_what_a_reference_and_its_neighbours_come_to(schema: dict[str, Any], resolved: Any) -> None:
    definitions = {
        "P": {**PERCENT, "title": "P", "$dynamicAnchor": "P"},
        "Text": {"type": "string", "pattern": "^a"},
        "Name": {"type": "string", "nullable": True},
        "Open": {"unevaluatedProperties": False},
    }
    found = read_schema(schema, {"$defs": definitions})
    assert (
        {key: part for key, part in found.items() if key != "$dynamicAnchor"} == resolved
        if found
        else found == resolved
    )


def test_a_schema_without_references_is_returned_itself() -> None:
    root = {"properties": {"a": {"anyOf": [PERCENT, NULL]}}}
    assert read_schema(root, root) is root


def test_defaults_are_found_behind_references_of_every_kind() -> None:
    inner = {"type": "object", "properties": {"b": {"$ref": "#five"}, "c": {"$ref": "#/$defs/L/anyOf/0", "default": 6}}}
    root = tool(
        properties={"a": {"$ref": "t#/$defs/In"}},
        **{"$id": "t", "$defs": {"In": inner, "Five": {"$anchor": "five", "default": 5}, "L": {"anyOf": [{}]}}},
    ).parameters
    below = Defaults.of_document(root).below("a")
    assert below is not None
    assert [below.of(name) for name in ("b", "c", "d")] == [5, 6, MISSING]


def test_what_the_grammar_can_t_enforce_is_named_where_it_is_referred_to() -> None:
    number = {"type": "number", "minimum": 0}
    spec = tool(properties={"v": {"$ref": "#/$defs/N", "multipleOf": 0.5}}, **{"$defs": {"N": number}})
    assert [(each.pointer, each.keyword) for each in enforceable_schema(spec)[1]] == [("/properties/v", "multipleOf")]


@given(st.text(), st.text())
def test_steps_of_a_pointer_come_back(one: str, other: str) -> None:
    pointer = f"/{fragment_step(one)}/{fragment_step(other)}"
    steps = fragment_steps(pointer)
    assert [name for _, _, name in steps] == [one, other]
    assert "".join(slash + step for slash, step, _ in steps) == pointer
    assert read_schema({"$ref": f"#/x{pointer}"}, {"x": {one: {other: {"const": 1}}}}) == {"const": 1}
