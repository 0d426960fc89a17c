"""The recorded requests of each domain: right by form, each said once, apart from the eval cases, and wide enough."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from fcdistill.generation.dataset.dedupe import Contamination, NearDuplicates, request_key
from fcdistill.generation.plan.plan import time_context, time_of_context
from fcdistill.prompts.worked_examples import example_answer, read_examples
from fcdistill.records import EvalCase, Message, ModelRef, SeedRequest, Trace, TraceMeta, WorkedExample
from fcdistill.storage import read_jsonl
from fcdistill.tools.catalog import Catalog, load_catalog
from fcdistill.tools.validation import CallValidator
from tests.paths import ROOT

FEWEST_ROWS = {"smart_home": 3000, "support_desk": 600}
FEWEST_CALLS_OF_A_TOOL = 8
FEWEST_USES_OF_A_CHOICE = 8
FEWEST_USES_OF_AN_OPTION = 15
CATEGORIES = {"simple", "multiple", "parallel", "parallel_multiple", "irrelevance", "clarify"}

_ID = re.compile(r"\b(?:ORD|CUS|TKT)-\d+\b")
_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}")


@pytest.fixture(scope="module", params=FEWEST_ROWS)
def domain(request: pytest.FixtureRequest) -> str:
    name = request.param
    assert isinstance(name, str)
    return name


@pytest.fixture(scope="module")
def catalog(domain: str) -> Catalog:
    return load_catalog(str(ROOT / "schemas" / f"{domain}.json"))


@pytest.fixture(scope="module")
def rows(domain: str, catalog: Catalog) -> list[WorkedExample]:
    """All rows of the domain; read_examples refuses a second row of an id, and a call that breaks its schema."""
    return read_examples(ROOT / "data" / "recorded" / f"{domain}.jsonl", CallValidator(catalog.specs))


def cases_of(domain: str) -> list[EvalCase]:
    paths = [ROOT / "evals" / domain / name for name in ("cases.jsonl", "multi_turn.jsonl")]
    return [case for path in paths if path.exists() for case in read_jsonl(path, EvalCase)]


def trace_of(row: WorkedExample) -> Trace:
    turns = [Message(role="user", content=row.request), example_answer(row)]
    meta = TraceMeta(source="import", category=row.category, plan_cell="recorded", teacher=ModelRef(model="recorded"))
    return Trace(id=row.id, messages=tuple(turns), tools=(), split_group=row.id, meta=meta)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def declared(schema: dict[str, Any], path: str, root: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """What a schema leaves to the caller: (path, None) of an optional argument, (path, choice) of a listed value.

    Items of arrays have the path of the array.
    """
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    for choice in schema.get("enum", ()):
        yield path, choice
    for name, inner in schema.get("properties", {}).items():
        if name not in schema.get("required", ()):
            yield f"{path}.{name}", None
        yield from declared(inner, f"{path}.{name}", root)
    if "items" in schema:
        yield from declared(schema["items"], path, root)


def given(value: Any, path: str) -> Iterator[tuple[str, str | None]]:
    """What a value gives, in the form of `declared`: each argument once, and each string."""
    if isinstance(value, list):
        for item in value:
            yield from given(item, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}.{name}", None
            yield from given(inner, f"{path}.{name}")
    elif isinstance(value, str):
        yield path, value


def test_what_is_declared_and_given_is_counted_through_references_and_arrays() -> None:
    item = {"type": "object", "properties": {"size": {"enum": ["s", "m"]}, "note": {}}, "required": ["size"]}
    schema = {"properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}}, "$defs": {"item": item}}
    assert set(declared(schema, "buy", schema)) == {
        ("buy.items", None), ("buy.items.size", "s"), ("buy.items.size", "m"), ("buy.items.note", None),
    }  # fmt: skip
    counts = Counter(given({"items": [{"size": "s"}, {"size": "s", "note": "red"}]}, "buy"))
    assert counts["buy.items", None] == counts["buy.items.note", None] == 1
    assert counts["buy.items.size", "s"] == 2 and counts["buy.items.size", "m"] == 0


def test_there_are_rows_of_every_category(domain: str, rows: list[WorkedExample]) -> None:
    assert len(rows) >= FEWEST_ROWS[domain]
    assert {row.category for row in rows} == CATEGORIES


def test_number_and_kind_of_calls_follow_the_category(rows: list[WorkedExample]) -> None:
    for row in rows:
        names = {call.name for call in row.calls}
        match row.category:
            case "simple" | "multiple":
                assert len(row.calls) == 1, row.id
            case "parallel":
                assert len(row.calls) >= 2 and len(names) == 1, row.id
            case "parallel_multiple":
                assert len(names) >= 2, row.id
            case _:
                assert not row.calls, row.id


def test_a_clarifying_answer_asks(rows: list[WorkedExample]) -> None:
    assert [row.id for row in rows if (row.category == "clarify") != row.text.endswith("?")] == []


def test_requests_are_unique(rows: list[WorkedExample]) -> None:
    counts = Counter(request_key(row.request) for row in rows)
    assert [key for key, count in counts.items() if count > 1] == []


def test_no_row_almost_repeats_another(rows: list[WorkedExample]) -> None:
    known, repeated = NearDuplicates(), []
    for row in rows:
        trace = trace_of(row)
        like = known.find(trace)
        if like is None:
            known.add(trace)
        else:
            repeated.append(f"{row.id} and {like.id}: {row.request}")
    assert repeated == []


def test_no_row_has_the_wording_of_an_eval_case(domain: str, rows: list[WorkedExample]) -> None:
    contamination = Contamination(cases_of(domain))
    found = [(row.id, like.id) for row in rows if (like := contamination.find(trace_of(row)))]
    assert found == []


def test_a_row_that_starts_like_a_seed_is_that_seed(domain: str, rows: list[WorkedExample]) -> None:
    seeds = {seed.id: seed.text for seed in read_jsonl(ROOT / "data" / "seeds" / f"{domain}.jsonl", SeedRequest)}
    assert [row.id for row in rows if row.id.startswith("seed-") and seeds[row.id] != row.request] == []


def test_no_case_has_the_ids_of_a_row(domain: str, rows: list[WorkedExample]) -> None:
    of_cases = {id_ for case in cases_of(domain) for id_ in _ID.findall(case.model_dump_json())}
    of_rows = Counter(id_ for row in rows for id_ in {id_ for call in row.calls for id_ in _ID.findall(str(call))})
    assert sorted(of_cases & set(of_rows)) == []
    assert [id_ for id_, count in of_rows.items() if count > 1] == []
    assert bool(of_rows) == (domain == "support_desk")


def test_dates_follow_the_current_time_that_a_row_gives(rows: list[WorkedExample]) -> None:
    for row in rows:
        if row.system:
            now = time_of_context(row.system)
            assert now is not None and row.system == time_context(now), row.id
            found = [leaf for call in row.calls for leaf in leaves(call.arguments) if _DATE.match(str(leaf))]
            assert all(date.fromisoformat(leaf[:10]) >= now.date() for leaf in found), row.id


def test_every_tool_optional_argument_and_choice_is_used_often(rows: list[WorkedExample], catalog: Catalog) -> None:
    tools = Counter(call.name for row in rows for call in row.calls)
    uses = Counter(use for row in rows for call in row.calls for use in given(call.arguments, call.name))
    assert {spec.name: tools[spec.name] for spec in catalog.specs if tools[spec.name] < FEWEST_CALLS_OF_A_TOOL} == {}
    wanted = {use for spec in catalog.specs for use in declared(spec.parameters, spec.name, spec.parameters)}
    fewest = {use: FEWEST_USES_OF_AN_OPTION if use[1] is None else FEWEST_USES_OF_A_CHOICE for use in wanted}
    assert {use: uses[use] for use, minimum in fewest.items() if uses[use] < minimum} == {}
