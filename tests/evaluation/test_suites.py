import json
from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import CatalogError, DataError
from fcdistill.evaluation.predictions import prediction_from_text
from fcdistill.evaluation.scoring import Scorer
from fcdistill.evaluation.suites import read_suite
from tests.paths import ROOT

ROOMS = ["kitchen", "office"]
TOOLS = [
    {
        "name": name,
        "parameters": {
            "type": "object",
            "properties": {
                "room": {"type": "string", "enum": ROOMS},
                "label": {"type": "string", "minLength": 1},
                "days": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["room"],
        },
    }
    for name in ("light", "heat")
]


def call(name: str = "light", **arguments: object) -> dict[str, object]:
    return {"name": name, "arguments": {"room": "kitchen", **arguments}}


def case(name: str = "a", **fields: object) -> dict[str, Any]:
    return {
        "id": name,
        "messages": [{"role": "user", "content": "light"}],
        "behaviour": "call",
        "expected": [[call()]],
        "category": "simple",
        **fields,
    }


def write_cases(path: Path, *cases: dict[str, Any]) -> Path:
    file = path / "cases.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in cases))
    return file


def write_tools(path: Path, tools: object) -> Path:
    file = path / "tools.json"
    file.write_text(json.dumps(tools))
    return file


def wrapped(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": tool} for tool in tools]


def refusal(path: Path, *cases: dict[str, Any], tools: bool = True) -> str:
    with pytest.raises(DataError) as caught:
        read_suite(write_cases(path, *cases), write_tools(path, wrapped(TOOLS)) if tools else None)
    return str(caught.value)


def test_the_smart_home_suite_is_sound() -> None:
    suite = read_suite(ROOT / "evals/smart_home/cases.jsonl", ROOT / "schemas/smart_home.json")
    assert len(suite.cases) >= 250
    assert len({id(specs) for specs in suite.specs.values()}) == 1


def test_cases_may_hold_their_tools(tmp_path: Path) -> None:
    own = [{"type": "function", "function": {**TOOLS[0], "name": "lamp"}}]
    cases = [case("a"), case("b", tools=own, expected=[[call("lamp")]])]
    suite = read_suite(write_cases(tmp_path, *cases), write_tools(tmp_path, wrapped(TOOLS)))
    assert [spec.name for spec in suite.specs["a"]] == ["light", "heat"]
    assert [spec.name for spec in suite.specs["b"]] == ["lamp"]
    alone = read_suite(write_cases(tmp_path, cases[1]))
    assert alone.tools_sha256 is None


def test_any_of_and_ignore_are_gold_values_of_their_own(tmp_path: Path) -> None:
    good = case(
        expected=[[call(room=["kitchen", "office"], label="")]],
        comparators={"light.room": "any_of", "light.label": "ignore"},
    )
    assert len(read_suite(write_cases(tmp_path, good), write_tools(tmp_path, wrapped(TOOLS))).cases) == 1
    left_out = case(expected=[[{"name": "light", "arguments": {}}]], comparators={"light.room": "ignore"})
    assert len(read_suite(write_cases(tmp_path, left_out), write_tools(tmp_path, wrapped(TOOLS))).cases) == 1
    bad = case(expected=[[call(room=["kitchen", "cellar"])]], comparators={"light.room": "any_of"})
    assert "enum_violation" in refusal(tmp_path, bad)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"expected": [[call("lamp")]]}, "unknown_function"),
        ({"expected": [[call(room="cellar")]]}, "breaks its tool's schema: enum_violation"),
        ({"expected": [[call(colour="red")]]}, "breaks its tool's schema: extra_arg"),
        ({"expected": [[call()], [{"name": "light", "arguments": {}}]]}, "missing_required"),
        ({"comparators": {"lamp.room": "exact"}}, "'lamp.room' names no tool of the catalogue (light, heat)"),
        ({"comparators": {"light": "exact"}}, "'light' names no parameter of light"),
        ({"comparators": {"light.rom": "exact"}}, "'light.rom' names no parameter of light (room, label, days)"),
        ({"comparators": {"light.room": "equal"}}, "comparator 'equal' is none of exact"),
        ({"comparators": {"light.room": "numeric(x)"}}, "'x' is no number"),
        ({"comparators": {"light.room": "set"}}, "expected light.room: set needs an array"),
        ({"comparators": {"light.room": "any_of"}}, "expected light.room: any_of needs a list"),
        ({"comparators": {"light.room": "date"}}, "expected light.room: date needs"),
        ({"tools": [{"type": "function", "function": {"name": "light", "parameters": {"type": 5}}}]}, "unusable"),
    ],
)
def test_a_case_that_no_answer_satisfies_is_refused_by_name(tmp_path: Path, fields: Any, found: str) -> None:
    message = refusal(tmp_path, case("fine"), case("bad one", **fields))
    assert "case 'bad one'" in message
    assert found in message


def test_other_refusals(tmp_path: Path) -> None:
    assert "holds id 'a' twice" in refusal(tmp_path, case(), case())
    assert "holds no case" in refusal(tmp_path)
    assert "no catalogue was given" in refusal(tmp_path, case(), tools=False)
    assert "expected must be [[]]" in refusal(tmp_path, case(behaviour="no_call"))
    with pytest.raises(DataError, match="does not exist"):
        read_suite(tmp_path / "none.jsonl", None)
    with pytest.raises(CatalogError):
        read_suite(write_cases(tmp_path, case()), write_tools(tmp_path, {"a": 1}))


def test_dotted_names_are_mapped(tmp_path: Path) -> None:
    tools = [{**tool, "name": f"home.{tool['name']}"} for tool in TOOLS]
    dotted = case(expected=[[call("home.light")]], comparators={"home.light.room": "casefold"})
    suite = read_suite(write_cases(tmp_path, dotted), write_tools(tmp_path, wrapped(tools)))
    (name,) = {safe for original, safe in suite.safe_names.items() if original == "home.light"}
    assert "." not in name
    assert suite.cases[0].expected[0][0].name == name
    assert suite.cases[0].comparators == {f"{name}.room": "casefold"}
    assert name in {spec.name for spec in suite.specs["a"]}


def comparing(**rules: str) -> list[dict[str, Any]]:
    """The tools, with comparators for parameters of `light`."""
    parameters = TOOLS[0]["parameters"]
    properties = {
        name: {**schema, "x-comparator": rules[name]} if name in rules else schema
        for name, schema in parameters["properties"].items()
    }
    return [{**TOOLS[0], "parameters": {**parameters, "properties": properties}}, TOOLS[1]]


def test_a_catalogues_comparators_hold_for_its_cases_where_these_have_none(tmp_path: Path) -> None:
    labelled = [[call(label="Desk", days=["mon", "tue"])]]
    cases = [
        case("a", expected=labelled),
        case("own", expected=labelled, comparators={"light.label": "exact"}),
        case("heat", expected=[[call("heat", label="Desk")]]),
    ]
    tools = wrapped(comparing(label="casefold", days="set"))
    suite = read_suite(write_cases(tmp_path, *cases), write_tools(tmp_path, tools))
    assert [item.comparators for item in suite.cases] == [
        {"light.label": "casefold", "light.days": "set"},
        {"light.label": "exact", "light.days": "set"},
        {},
    ]
    assert all("x-comparator" not in str(specs) for specs in suite.specs.values())
    answer = prediction_from_text("x", json.dumps(call(label="DESK", days=["tue", "mon"])))
    scorer = Scorer(suite.specs["a"])
    verdicts = [scorer.score(item, answer.model_copy(update={"id": item.id})).correct for item in suite.cases]
    assert verdicts == [True, False, False]


def test_the_tools_of_a_case_may_hold_comparators(tmp_path: Path) -> None:
    own = case(tools=wrapped(comparing(label="casefold")), expected=[[call(label="Desk")]])
    suite = read_suite(write_cases(tmp_path, own))
    assert suite.cases[0].comparators == {"light.label": "casefold"}
    assert "x-comparator" not in str(suite.specs["a"])


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("fuzzy", "x-comparator of light.label: comparator 'fuzzy' is none of exact"),
        ("any_of(casefold)", "any_of(casefold) says how one case writes its expected value"),
        ("optional(any_of)", "optional(any_of) says how one case"),
    ],
)
def test_a_catalogues_comparator_must_hold_for_every_case(tmp_path: Path, rule: str, found: str) -> None:
    tools = wrapped(comparing(label=rule))
    with pytest.raises(CatalogError) as caught:
        read_suite(write_cases(tmp_path, case()), write_tools(tmp_path, tools))
    assert found in str(caught.value) and "tools.json" in str(caught.value)
    message = refusal(tmp_path, case(tools=tools), tools=False)
    assert "case 'a'" in message and found in message


def test_a_catalogues_comparator_that_a_case_can_not_serve_is_refused_by_name(tmp_path: Path) -> None:
    tools = wrapped(comparing(label="date"))
    with pytest.raises(DataError, match="case 'a': expected light.label: date needs"):
        read_suite(write_cases(tmp_path, case(expected=[[call(label="Desk")]])), write_tools(tmp_path, tools))


def test_hashes_follow_the_content(tmp_path: Path) -> None:
    def hashes(cases: list[dict[str, Any]], tools: list[dict[str, Any]], limit: int | None = None) -> tuple[Any, Any]:
        suite = read_suite(write_cases(tmp_path, *cases), write_tools(tmp_path, wrapped(tools))).first(limit)
        return suite.cases_sha256, suite.tools_sha256

    cases = [case("a"), case("b")]
    cases_hash, tools_hash = hashes(cases, TOOLS)
    assert hashes([dict(reversed(item.items())) for item in cases], TOOLS) == (cases_hash, tools_hash)
    assert hashes(cases, TOOLS, 2) == (cases_hash, tools_hash)
    assert hashes(cases, TOOLS, 1)[0] != cases_hash
    assert hashes([cases[0], case("b", critical=True)], TOOLS)[0] != cases_hash
    assert hashes(cases, [{**TOOLS[0], "description": "x"}, TOOLS[1]]) != (cases_hash, tools_hash)
    assert hashes(cases, comparing(label="casefold"))[1] != tools_hash
