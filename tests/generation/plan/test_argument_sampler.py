"""Tests of `fcdistill.generation.plan.argument_sampler`."""

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.errors import ConfigError
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.verification.value_book import ValueEntry, read_value_book
from fcdistill.prompts.signatures import compact_signature
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.tools.parameters import optional_parameters, required_parameters
from fcdistill.tools.validation import CallValidator
from tests.generation.home import NOW, book, catalog, catalog_of, tool, validator
from tests.generation.plan.samplers import sampler_of


def samples(schema: dict[str, Any], number: int = 20, *entries: ValueEntry, **root: Any) -> list[Any]:
    """Values of one required parameter `p` of this schema."""
    spec = tool("t", {"p": schema}, ("p",), **root)
    sampler = sampler_of(spec, {"t.p": entries} if entries else None)
    return [sampler.sample(spec, ()).arguments["p"] for _ in range(number)]


# --- smart_home


@pytest.mark.parametrize("spec", catalog().specs, ids=lambda spec: spec.name)
def test_calls_of_the_demo_are_valid_and_hold_exactly_what_is_asked_for(spec: ToolSpec) -> None:
    sampler = ArgumentSampler(validator(), book(), seed=1, now=NOW)
    for optional in ([], optional_parameters(spec), optional_parameters(spec)[:1]):
        for _ in range(5):
            call = sampler.sample(spec, optional)
            assert validator().check_call(call) == []
            assert set(call.arguments) == {*required_parameters(spec), *optional}


def test_the_same_seed_gives_the_same_calls() -> None:
    def calls(seed: int) -> list[ToolCall]:
        sampler = ArgumentSampler(validator(), book(), seed=seed, now=NOW)
        return [sampler.sample(spec, optional_parameters(spec)) for spec in catalog().specs for _ in range(3)]

    assert calls(7) == calls(7)
    assert calls(7) != calls(8)


def test_every_enum_value_comes_before_one_comes_twice() -> None:
    spec = catalog().by_name["get_sensor"]
    sampler = ArgumentSampler(validator(), book(), seed=3, now=NOW)
    rooms = [sampler.sample(spec, ["room"]).arguments["room"] for _ in range(24)]
    assert set(Counter(rooms).values()) == {3}
    for start in (0, 8, 16):
        assert len(set(rooms[start : start + 8])) == 8


def test_implied_values_are_given_and_cost_the_others_no_turn() -> None:
    spec = catalog().by_name["set_light"]
    sampler = ArgumentSampler(validator(), book(), seed=3, now=NOW)
    states = []
    for _ in range(10):
        assert sampler.sample(spec, ["brightness"]).arguments["state"] == "on"
        states.append(sampler.sample(spec, []).arguments["state"])
    assert Counter(states) == {"on": 5, "off": 5}


# --- kinds of schemas


def test_listed_values_come_before_what_the_schema_allows() -> None:
    entries = (ValueEntry("Oslo"), ValueEntry("Rome"), ValueEntry("Lima"))
    drawn = samples({"type": "string"}, 6, *entries)
    assert sorted(drawn[:3]) == sorted(drawn[3:]) == ["Lima", "Oslo", "Rome"]


def test_an_enum_is_drawn_whole_where_the_book_lists_a_part() -> None:
    assert set(samples({"enum": ["a", "b", None]}, 4, ValueEntry("a"))) == {"a", "b"}


def test_listed_values_that_the_schema_refuses_are_left_out() -> None:
    drawn = samples({"type": "integer", "maximum": 10}, 10, ValueEntry(5), ValueEntry(11), ValueEntry(7))
    assert set(drawn) == {5, 7}


def test_texts_listed_under_an_array_are_its_items_and_lists_are_the_array() -> None:
    texts = {"type": "array", "items": {"type": "string"}}
    for drawn in samples(texts, 20, ValueEntry("milk"), ValueEntry("bread")):
        assert drawn and set(drawn) <= {"milk", "bread"}
    assert samples(texts, 3, ValueEntry(["milk", "bread"])) == [["milk", "bread"]] * 3


def test_booleans_are_true_unless_the_book_lists_false() -> None:
    assert set(samples({"type": "boolean"}, 5)) == {True}
    assert set(samples({"type": "boolean"}, 4, ValueEntry(True), ValueEntry(False, ("off",)))) == {True, False}


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        ({"const": "x"}, {"x"}),
        ({"type": "string", "examples": ["a", "b"]}, {"a", "b"}),
        ({"type": ["null", "string"], "examples": ["a"]}, {"a"}),
        ({"anyOf": [{"type": "null"}, {"enum": ["a", "b"]}]}, {"a", "b"}),
        ({"anyOf": [{"enum": ["a"]}, {"enum": [1]}, {"type": "null"}]}, {"a", 1}),
        ({"oneOf": [{"$ref": "#/$defs/S"}, {"const": 2}]}, {"s", 2}),
        ({"allOf": [{"$ref": "#/$defs/S"}]}, {"s"}),
        ({"$ref": "#/$defs/T"}, {"s"}),
        ({"type": "null"}, {None}),
        ({"type": "integer", "minimum": 3, "maximum": 5}, {3, 4, 5}),
        ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, {4}),
        ({"type": "integer", "minimum": 5, "maximum": 12, "multipleOf": 4}, {8, 12}),
        ({"type": "integer", "minimum": 0.5, "maximum": 2.5}, {1, 2}),
        ({"type": "number", "minimum": 0.2, "maximum": 0.8, "multipleOf": 0.25}, {0.25, 0.5, 0.75}),
        ({"type": "number", "minimum": 20, "maximum": 20}, {20}),
        ({"type": "number", "minimum": 4.3, "maximum": 4.34, "multipleOf": 0.01}, {4.3, 4.31, 4.32, 4.33, 4.34}),
        ({"minimum": 0.2, "maximum": 0.4, "multipleOf": 0.1}, {0.2, 0.3, 0.4}),
        ({"type": "string", "nullable": True, "enum": ["a", None]}, {"a"}),
        ({"type": "string", "enum": ["a", "b", 3, None]}, {"a", "b"}),
        ({"type": ["string", "null"], "enum": [None]}, {None}),
        ({"type": "string", "anyOf": [{"enum": ["a", 1]}, {"type": "integer"}]}, {"a"}),
        ({"type": "string", "pattern": r"^\p{Lu}\d$", "enum": ["Ä1", "ä1", "Ä٤"]}, {"Ä1"}),
    ],
)
def test_all_of_a_small_set_comes_and_nothing_else(schema: dict[str, Any], allowed: set[Any]) -> None:
    defs = {"S": {"enum": ["s"]}, "T": {"$ref": "#/$defs/S"}}
    assert set(samples(schema, 60, **{"$defs": defs})) == allowed


@pytest.mark.parametrize("schema", [{"maximum": -10}, {"exclusiveMaximum": 0}, {"minimum": 1000}, {}])
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_open_ranges_have_values(schema: dict[str, Any], kind: str) -> None:
    assert len(set(samples({"type": kind, **schema}, 20))) > 3


def test_fractions_are_sampled_finely_enough_to_differ() -> None:
    drawn = samples({"type": "number", "minimum": 0, "maximum": 1}, 60)
    assert len(set(drawn)) > 5 and all(round(value, 1) == value for value in drawn)


def test_whole_numbers_are_integers() -> None:
    assert all(
        isinstance(value, int) for value in samples({"type": "number", "minimum": 5, "maximum": 6, "multipleOf": 1})
    )


def test_arrays() -> None:
    drawn = samples({"type": "array", "items": {"enum": list("abcd")}, "minItems": 2, "uniqueItems": True}, 40)
    assert {len(value) for value in drawn} == {2, 3, 4}
    assert all(len(set(value)) == len(value) for value in drawn)
    assert {len(value) for value in samples({"type": "array", "items": {"const": 1}, "maxItems": 1})} == {1}


def test_objects() -> None:
    inner = {
        "type": "object",
        "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}},
        "required": ["c"],
    }
    drawn = samples(inner, 40)
    assert {tuple(value) for value in drawn} == {("c",), ("a", "c"), ("b", "c"), ("a", "b", "c")}
    full = samples({**inner, "required": [], "minProperties": 2}, 40)
    assert {len(value) for value in full} == {2, 3}


@pytest.mark.parametrize(
    ("schema", "shapes"),
    [
        ({"type": "array", "prefixItems": [{"const": 1}, {"const": "a"}]}, [[1, "a"]]),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 3}, [[1, 2, 2]]),
        ({"type": "array", "items": {"enum": [1, 2]}, "contains": {"const": 9}, "maxItems": 1}, None),
        ({"type": "array", "items": {"type": "integer"}, "contains": {"const": 9}, "maxItems": 1}, [[9]]),
        ({"type": "object", "additionalProperties": {"const": 4}, "required": ["left"]}, [{"left": 4}]),
        ({"allOf": [{"enum": [1, 2]}, {"enum": [2, 3]}]}, [2]),
        ({"allOf": [{"properties": {"a": {"minimum": 4}}}, {"type": "object", "required": ["a"], "properties":
            {"a": {"type": "integer", "maximum": 4}}}]}, [{"a": 4}]),
        ({"anyOf": [{"enum": ["a"]}, {"type": "string"}], "examples": ["b"]}, ["b"]),
    ],
)  # fmt: skip
def test_combined_schemas(schema: dict[str, Any], shapes: list[Any] | None) -> None:
    if shapes is None:
        with pytest.raises(ConfigError, match="no valid arguments"):
            samples(schema)
    else:
        assert all(value in shapes for value in samples(schema))


def test_what_one_argument_requires_comes_with_it() -> None:
    properties = {name: {"const": name} for name in ("a", "b", "c")}
    spec = tool("t", properties, dependentRequired={"a": ["b"]}, anyOf=[{"required": ["b"]}, {"required": ["c"]}])
    sampler = sampler_of(spec)
    given = {tuple(sampler.sample(spec, ()).arguments) for _ in range(20)}
    assert given == {("b",), ("c",)}, "an argument of either branch, though none was asked for"
    assert all({"a", "b"} <= sampler.sample(spec, ("a",)).arguments.keys() for _ in range(9))


def test_texts_come_from_a_pattern_a_format_or_a_name_and_at_last_from_a_default() -> None:
    assert all(len(text) == 3 for text in samples({"type": "string", "pattern": "^[a-c]{3}$"}))
    assert all(text.endswith((".com", ".org", ".net")) for text in samples({"type": "string", "format": "email"}))
    assert set(samples({"type": "string", "default": "as usual"}, 3)) == {"as usual"}
    spec = tool("t", {"order_id": {"type": "string", "default": "unknown"}}, ("order_id",))
    assert sampler_of(spec).sample(spec, ()).arguments["order_id"] != "unknown"


def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    node = {
        "type": "object",
        "properties": {"name": {"enum": ["x", "y"]}, "parts": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        "required": ["name", "parts"],
    }
    drawn = samples({"$ref": "#/$defs/node"}, 20, **{"$defs": {"node": node}})
    assert all("name" in value for value in drawn)


def test_dates_and_times_lie_ahead() -> None:
    now = datetime(2027, 5, 2, 22, 30, tzinfo=UTC)
    spec = tool("t", {name: {"type": "string", "format": name} for name in ("date-time", "date", "time")})
    sampler = sampler_of(spec, now=now)
    months = set()
    for _ in range(60):
        found = sampler.sample(spec, ["date-time", "date", "time"]).arguments
        when = datetime.fromisoformat(found["date-time"])
        assert now < when < now + timedelta(days=620) and when.utcoffset() == timedelta(0)
        assert found["date-time"].endswith("Z") and found["date"] >= "2027-05-02"
        months.add((when.year, when.month))
    assert len(months) > 4, "near days mostly, but not only this month"


def test_the_time_zone_of_now_changes_nothing() -> None:
    spec = tool("t", {"at": {"type": "string", "format": "date-time"}}, ("at",))

    def drawn(now: datetime) -> list[ToolCall]:
        sampler = sampler_of(spec, now=now)
        return [sampler.sample(spec, ()) for _ in range(10)]

    assert drawn(NOW) == drawn(NOW.astimezone(timezone(timedelta(hours=9)))) == drawn(NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    "schema",
    [{"type": "string"}, {}, {"type": "string", "format": "x-own"}, {"type": "array", "items": {"type": "string"}}],
)
def test_free_text_without_known_values_is_an_error_that_names_the_key(schema: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        samples(schema)
    assert "t.p" in caught.value.found and "'t.p'" in caught.value.fix


TEXT = {"type": "string"}
ADVISED: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "a parameter": (TEXT, ["tin"]),
    "an object": ({"type": "object", "properties": {"inner": TEXT}, "required": ["inner"]}, ["tin"]),
    "a name with a dot": ({"type": "object", "properties": {"in.ner": TEXT}, "required": ["in.ner"]}, ["tin"]),
    "a name with a slash": ({"type": "object", "properties": {"a/b": {"not": TEXT}}, "required": ["a/b"]}, [5]),
    "an undeclared name": ({"type": "object", "required": ["k"], "additionalProperties": TEXT}, ["tin"]),
    "items": ({"type": "array", "items": TEXT, "minItems": 1}, ["tin", "rope"]),
    "the first of two items": ({"type": "array", "prefixItems": [TEXT, {"type": "integer"}], "minItems": 2}, ["tin"]),
    "alternatives": (
        {
            "oneOf": [
                {"properties": {"label": TEXT, "text": TEXT}, "required": ["label", "text"],
                 "additionalProperties": False},
                {"properties": {"number": {"type": "integer"}, "text": TEXT}, "required": ["number", "text"],
                 "additionalProperties": False},
            ]
        },
        ["tin", "rope"],
    ),
    "a list or a number": ({"anyOf": [{"type": "array", "items": TEXT, "minItems": 1}, {"type": "integer"}]}, ["tin"]),
    "a kind and a text of one name": (
        {
            "oneOf": [
                {"properties": {"kind": {"const": "plain"}, "text": TEXT}, "required": ["kind", "text"]},
                {"properties": {"kind": {"type": "string", "not": {"const": "plain"}}}, "required": ["kind"]},
            ]
        },
        ["tin"],
    ),
    "what is not allowed": ({"type": "integer", "not": {"minimum": 0}}, [-5]),
    "a text of a strange pattern": ({"type": "string", "pattern": "^(?!a)[a-z]{3}(?<=n)$"}, ["tin"]),
    "all of several": (
        {"allOf": [{"properties": {"x": TEXT}}, {"properties": {"y": TEXT}}], "required": ["x", "y"]},
        ["a"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("schema, values", ADVISED.values(), ids=ADVISED)
def test_what_an_error_advises_helps_when_it_is_done(tmp_path: Path, schema: dict[str, Any], values: list[Any]) -> None:
    catalog = catalog_of(tool("t", {"p": schema}, ("p",)))
    spec, file = catalog.specs[0], tmp_path / "values.json"
    content: dict[str, list[Any]] = {}
    while True:
        file.write_text(json.dumps(content))
        found = read_value_book(file, catalog)
        sampler = ArgumentSampler(CallValidator([spec]), found, seed=0, now=NOW)
        try:
            calls = [sampler.sample(spec, ()) for _ in range(20)]
            break
        except ConfigError as error:
            key = error.fix.split("'")[1]
        assert key not in content, "the advice was followed, and is given again"
        content[key] = values
    assert content
    assert all(not CallValidator([spec]).check_call(call) for call in calls)


@pytest.mark.parametrize(
    "schema, examples",
    [(TEXT, ["tin"]), ({"type": "integer", "not": {"minimum": 0}}, [-5]), ({"not": TEXT}, [5, None])],
)
def test_examples_in_the_schema_help_too(schema: dict[str, Any], examples: list[Any]) -> None:
    with pytest.raises(ConfigError, match="or as `examples` in the schema"):
        samples(schema)
    assert set(samples({**schema, "examples": examples})) == set(examples)


def test_an_argument_that_only_some_values_require_is_given() -> None:
    then = {"if": {"properties": {"p": {"const": "x"}}}, "then": {"required": ["q/r"]}}
    spec = tool("t", {"p": {"enum": ["x"]}, "q/r": {"type": "integer"}}, ("p",), **then)
    assert set(sampler_of(spec).sample(spec, ()).arguments) == {"p", "q/r"}


def test_an_array_of_itself_comes_to_an_end() -> None:
    loop = {"L": {"type": "array", "items": {"$ref": "#/$defs/L"}}}
    for value in samples({"$ref": "#/$defs/L"}, **{"$defs": loop}):
        assert isinstance(value, list)


def test_values_that_never_satisfy_the_schema_are_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        samples({"type": "string", "pattern": "^[0-9]+$"}, 1, ValueEntry("abc"))
    assert "'t'" in caught.value.found and "/p" in caught.value.found


LEAVES = st.one_of(
    st.lists(st.sampled_from(["a", "b", 1, 2.5, True]), min_size=1, unique=True).map(lambda values: {"enum": values}),
    st.sampled_from(["a", 3, True]).map(lambda value: {"const": value}),
    st.just({"type": "boolean"}),
    st.builds(
        lambda low, span, step: {"type": "integer", "minimum": low, "maximum": low + span + step, "multipleOf": step},
        st.integers(-50, 50), st.integers(0, 50), st.integers(1, 7),
    ),
    st.builds(
        lambda low, span: {"type": "number", "minimum": low, "maximum": low + span},
        st.integers(-9, 9), st.integers(0, 30),
    ),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low}, st.integers(-9, 9)),
    st.sampled_from(["date-time", "date", "time"]).map(lambda name: {"type": "string", "format": name}),
    st.just({"$ref": "#/$defs/word"}),
    st.sampled_from(["email", "uri", "uuid", "ipv4", "ipv6", "hostname", "duration"]).map(
        lambda name: {"type": "string", "format": name}
    ),
    st.sampled_from(["^[A-Z]{2}-[0-9]{4}$", "^(am|pm)$", "[a-z]+[0-9]*"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.builds(
        lambda low, step: {"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": low + 3 * step + 1,
                           "multipleOf": step},
        st.integers(-20, 20), st.integers(1, 5),
    ),
    st.just({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]}),
    st.just({"type": "string", "default": "as usual"}),
)  # fmt: skip


def _containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.builds(
        lambda properties, least: {
            "type": "object",
            "properties": properties,
            "minProperties": min(least, len(properties)),
        },
        st.dictionaries(st.sampled_from(["x", "y", "z"]), inner, min_size=1),
        st.integers(0, 2),
    )
    return st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "uniqueItems": True}, inner),
        objects,
        inner.map(lambda schema: {"anyOf": [schema, {"type": "null"}]}),
        st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner),
        st.builds(lambda one, two: {"type": "array", "prefixItems": [one, two], "items": False}, inner, inner),
        st.builds(
            lambda one, two: {
                "type": "object",
                "properties": {"a": one, "b": two},
                "additionalProperties": False,
                "oneOf": [{"required": ["a"], "maxProperties": 1}, {"required": ["b"], "maxProperties": 1}],
            },
            inner,
            inner,
        ),
        st.builds(
            lambda one, two: {
                "allOf": [
                    {"type": "object", "properties": {"a": one}, "required": ["a"]},
                    {"properties": {"b": two}, "required": ["b"]},
                ]
            },
            inner,
            inner,
        ),
    )


@settings(max_examples=80, deadline=None)
@given(st.recursive(LEAVES, _containers, max_leaves=4), st.integers(0, 100))
def test_every_sample_of_a_generated_schema_is_valid(schema: dict[str, Any], seed: int) -> None:
    spec = tool("t", {"p": schema, "q": {"type": "boolean"}}, ("p",), **{"$defs": {"word": {"enum": ["red", "blue"]}}})
    check = CallValidator([spec])
    for optional in ((), ("q",)):
        call = sampler_of(spec, seed=seed).sample(spec, optional)
        assert check.check_call(call) == []
        assert set(call.arguments) == {"p", *optional}


MEMBERS: dict[str, dict[str, Any]] = {
    "price": {"type": "number", "multipleOf": 0.01, "minimum": 0},
    "degrees": {"multipleOf": 0.1, "minimum": 0.3, "maximum": 0.9},
    "lane": {"type": "string", "enum": ["inner", "outer", None]},
    "mark": {"type": "string", "nullable": True, "enum": ["5", "true", None]},
    "code": {"type": "string", "pattern": r"^\p{Lu}{2}-\d{2}$"},
    "count": {"$ref": "#/$defs/Count", "maximum": 3},
    "shape": {"oneOf": [{"const": "round"}, {"type": "object", "properties": {"side": {"type": "integer"}}}]},
}
NAMES = st.lists(st.sampled_from(sorted(MEMBERS)), unique=True, min_size=1, max_size=3)


@st.composite
def _branches(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Alternatives of which each requires a member that no other has."""
    marks = draw(st.lists(st.sampled_from(["first", "second", "third"]), unique=True, min_size=1))
    return [
        {
            "properties": {mark: {"type": "boolean"}, **{name: MEMBERS[name] for name in draw(NAMES)}},
            "required": [mark, *draw(st.lists(st.sampled_from(["undescribed"]), max_size=1))],
        }
        for mark in marks
    ]


@st.composite
def _roots(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(NAMES)
    own = {"properties": {name: MEMBERS[name] for name in names}, "required": names[: draw(st.integers(0, 2))]}
    found = draw(
        st.sampled_from([own, {"allOf": [own, {"$ref": "#/$defs/Base"}]}, {**own, "$ref": "#/$defs/Base"}, {}])
    )
    for keyword in draw(st.sampled_from([(), ("anyOf",), ("oneOf",)])):
        found = {**found, keyword: draw(_branches())}
    count = {"type": "integer", "minimum": 1, "maximum": 1000}
    base = {"properties": {"base": {"type": "integer", "nullable": True, "minimum": 1}}, "required": ["base"]}
    return {"type": "object", **found, "$defs": {"Count": count, "Base": base}}


@settings(max_examples=80, deadline=None)
@given(_roots(), st.data())
def test_prompt_sampler_and_validator_say_the_same_of_a_schema(root: dict[str, Any], data: st.DataObject) -> None:
    spec = ToolSpec(name="t", parameters=root)
    judge = CallValidator([spec])
    required, optional = required_parameters(spec), optional_parameters(spec)
    chosen = data.draw(st.lists(st.sampled_from(optional), unique=True)) if optional else []
    sampler = sampler_of(spec, {"t.undescribed": (ValueEntry("something"),)}, seed=data.draw(st.integers(0, 99)))
    call = sampler.sample(spec, chosen)
    assert judge.check_call(call) == []
    assert set(required) <= call.arguments.keys() <= {*required, *optional}
    if not {"anyOf", "oneOf"} & root.keys():
        assert call.arguments.keys() == {*required, *chosen}
    signature = compact_signature(spec)
    for name in (*required, *optional):
        assert re.search(rf"\b{name}\??: ", signature), signature
        # What is shown is declared: whatever else is wrong with such a call, its name is not.
        found = judge.check_call(ToolCall(name="t", arguments={name: object}))
        assert not any(each.code == "extra_arg" for each in found)
    shown = set(re.findall(r"(?:^|[(, ])(\w+)\??: ", re.sub(r"\{.*?\}", "", signature)))
    assert shown == {*required, *optional}
