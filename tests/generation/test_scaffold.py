"""A drafted project is one that the kit itself can read and use."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fcdistill.config import CONTAMINATION_JACCARD, load_config
from fcdistill.errors import ConfigError
from fcdistill.evaluation.suites import read_suite
from fcdistill.generation.dataset.dedupe import WordingIndex
from fcdistill.generation.plan.plan import make_plan
from fcdistill.generation.plan.tool_results import ToolResults
from fcdistill.generation.scaffold import DRAFT_TAG, Project, draft_project, write_project
from fcdistill.generation.verification.value_book import read_value_book
from fcdistill.records import SeedRequest
from fcdistill.storage import read_jsonl
from fcdistill.tools.catalog import Catalog, read_catalog
from fcdistill.tools.validation import CallValidator
from tests.cli.projects import files_below, run_cli
from tests.generation.home import TOOLS, catalog_of, tool

MANY_KINDS = {
    "title": {"type": "string", "minLength": 20},
    "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{3}$"},
    "mail": {"type": "string", "format": "email"},
    "site": {"type": ["string", "null"], "format": "uri"},
    "note": {"anyOf": [{"type": "string", "maxLength": 4}, {"type": "null"}]},
    "either": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 3}, {"type": "string"}]},
    "tags": {"type": "array", "items": {"type": "string"}},
    "where": {"type": "object", "properties": {"street name": {"type": "string"}}, "required": ["street name"]},
    "linked": {"$ref": "#/$defs/named"},
    "when": {"type": "string", "format": "date-time"},
    "level": {"type": "string", "enum": ["low", "high"]},
    "known": {"type": "string", "examples": ["x"]},
}


def many_kinds() -> Catalog:
    definitions = {"named": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}}
    spec = tool("book", MANY_KINDS, tuple(MANY_KINDS), additionalProperties=False, **{"$defs": definitions})
    return catalog_of(spec, tool("stop", {}), tool("tune", {"station": {"type": "string"}}))


def drafted(directory: Path, catalog: Catalog) -> Project:
    tools = directory / "my tools.json"
    tools.write_text(json.dumps([each.model_dump(mode="json") for each in catalog.tools]))
    return draft_project(tools, catalog, directory / "new", teacher="some/teacher: 7b", student="some/student")


@pytest.mark.parametrize("catalog", [many_kinds(), read_catalog(TOOLS)], ids=["many kinds", "smart home"])
def test_all_files_are_read_by_the_kit(tmp_path: Path, catalog: Catalog) -> None:
    project = drafted(tmp_path, catalog)
    write_project(project)
    config = project.config
    settings = load_config(config, "generate")
    assert settings.teacher.model == "some/teacher: 7b"  # type: ignore[union-attr]
    training, evaluation = load_config(config, "train"), load_config(config, "eval")
    assert training.traces == settings.out / "traces.jsonl"
    assert evaluation.model is not None and evaluation.model.model == str(training.out)  # type: ignore[union-attr]
    assert settings.decontaminate == (evaluation.cases,)
    suite = read_suite(evaluation.cases, evaluation.tools)
    assert {call.name for case in suite.cases for answer in case.expected for call in answer} == set(catalog.by_name)
    assert {case.behaviour for case in suite.cases} == {"call", "no_call"}
    assert all(case.tags == (DRAFT_TAG,) for case in suite.cases)
    assert settings.seeds is not None and settings.values is not None
    seeds = read_jsonl(settings.seeds, SeedRequest)
    assert len(seeds) == len(catalog.specs)
    asked = WordingIndex(CONTAMINATION_JACCARD)
    for case in suite.cases:
        asked.add(case.id, case.messages[-1].content)
    assert [seed.text for seed in seeds if asked.find(seed.text)] == []
    book = read_value_book(settings.values, catalog)
    plan = make_plan(
        settings, read_catalog(settings.tools), CallValidator(catalog.specs), book, seeds, ToolResults({}, ())
    )
    assert len(plan) == settings.num_call_first + len(seeds)
    assert project.notes == ()


def test_values_are_drafted_where_nothing_else_says_them(tmp_path: Path) -> None:
    values = drafted(tmp_path, many_kinds()).values
    assert set(values) == {
        "book.title", "book.code", "book.mail", "book.site", "book.note", "book.either", "book.tags",
        "book.where.street name", "book.linked.name", "tune.station",
    }  # fmt: skip
    assert len(values["book.code"]) == 3 and all(
        re.fullmatch("[A-Z]{3}-[0-9]{3}", text) for text in values["book.code"]
    )
    assert values["book.tags"] == ("first tags", "second tags", "third tags")
    assert all(len(text) <= 4 for text in values["book.note"])
    assert all(len(text) >= 20 for text in values["book.title"])


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        (
            {
                "oneOf": [
                    {"type": "object", "properties": {"label": TEXT, "text": TEXT}, "required": ["label", "text"]},
                    {"type": "object", "properties": {"number": {"type": "integer"}, "text": TEXT}},
                    {"type": "integer"},
                ]
            },
            {"t.p.label", "t.p.text"},
        ),
        ({"anyOf": [TEXT, {"type": "object", "properties": {"inner": TEXT}}]}, {"t.p", "t.p.inner"}),
        (
            {
                "type": "object",
                "properties": {"a": TEXT, "b": TEXT},
                "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
            {"t.p.a", "t.p.b"},
        ),
        ({"type": "string", "anyOf": [{"minLength": 3}, {"maxLength": 9}]}, {"t.p"}),
        ({"type": "array", "prefixItems": [TEXT, {"type": "integer"}], "minItems": 2}, {"t.p"}),
        ({"type": "object", "required": ["k"], "additionalProperties": TEXT}, {"t.p.k"}),
        ({"type": "object", "properties": {"a.b": TEXT}}, {"t.p.a.b"}),
        ({"$ref": "#/$defs/L"}, set()),
    ],
)
def test_texts_in_alternatives_are_drafted_and_read_again(
    tmp_path: Path, schema: dict[str, Any], paths: set[str]
) -> None:
    loop = {"L": {"type": "array", "items": {"$ref": "#/$defs/L"}}}
    catalog = catalog_of(tool("t", {"p": schema}, ("p",), **{"$defs": loop}))
    project = drafted(tmp_path, catalog)
    assert (set(project.values), project.notes) == (paths, ())
    assert {case.id for case in project.cases} == {"t-1", "no-call-1"}
    write_project(project)
    assert set(read_value_book(project.files[2], catalog).entries) == paths


def test_a_seed_says_its_call_in_words(tmp_path: Path) -> None:
    items = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "integer", "minimum": 1, "maximum": 2}}
    size = {"type": "object", "properties": {"num_rows": {"const": 7}}, "required": ["num_rows"]}
    catalog = catalog_of(tool("draw_grid", {"cells": items, "size": size}, ("cells", "size")))
    (seed,) = drafted(tmp_path, catalog).seeds
    assert seed.text in ("draw grid: cells 1 and 2, size num rows 7", "draw grid: cells 2 and 1, size num rows 7")


def test_optional_arguments_get_a_case_of_their_own(tmp_path: Path) -> None:
    cases = {case.id: case for case in drafted(tmp_path, many_kinds()).cases}
    assert cases["tune-1"].expected[0][0].arguments == {}
    assert list(cases["tune-2"].expected[0][0].arguments) == ["station"]
    assert set(cases) == {"book-1", "stop-1", "tune-1", "tune-2", "no-call-1"}


def test_what_can_not_be_drafted_is_named_and_the_rest_is_drafted(tmp_path: Path) -> None:
    odd: dict[str, Any] = {"key": {"type": "string", "pattern": "^(?=z)q{7}$"}}
    project = drafted(tmp_path, catalog_of(tool("unlock", odd, ("key",)), tool("stop", {})))
    assert [note.partition(":")[0] for note in project.notes] == ["unlock.key", "unlock"]
    assert [case.id for case in project.cases] == ["stop-1", "no-call-1"]
    write_project(project)
    read_suite(project.files[3], tmp_path / "my tools.json")


@pytest.mark.parametrize("number", range(4))
def test_nothing_is_overwritten_and_then_nothing_is_written(tmp_path: Path, number: int) -> None:
    project = drafted(tmp_path, many_kinds())
    there = project.files[number]
    there.parent.mkdir()
    there.write_text("mine")
    before = files_below(tmp_path)
    with pytest.raises(ConfigError, match=there.name):
        write_project(project)
    assert files_below(tmp_path) == before


def test_the_command_drafts_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run_cli(capsys, "init", str(TOOLS), "--out", "my home")
    assert ended.code == 0, ended
    assert "fcdistill generate 'my home/fcdistill.yaml'\n" in ended.out
    assert set(files_below(tmp_path)) == {
        f"my home/{name}" for name in ("fcdistill.yaml", "seeds.jsonl", "values.json", "cases.jsonl")
    }
    before = files_below(tmp_path)
    ended = run_cli(capsys, "init", str(TOOLS), "--out", "my home")
    assert ended.code == 2 and "fcdistill.yaml" in ended.err and "--out" in ended.err
    assert files_below(tmp_path) == before
