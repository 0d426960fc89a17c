"""Tests of `fcdistill.generation.verification.value_book`."""

import json
from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import DataError
from fcdistill.generation.verification.value_book import ValueBook, ValueEntry, read_value_book
from fcdistill.tools.catalog import catalog_from_document
from tests.generation.home import book, catalog


def read(tmp_path: Path, content: Any) -> ValueBook:
    path = tmp_path / "values.json"
    path.write_text(json.dumps(content))
    return read_value_book(path, catalog())


def test_no_file_is_an_empty_book() -> None:
    empty = read_value_book(None, catalog())
    assert empty.values("set_light.room") == () and empty.entry("set_light.room", "kitchen") is None


def test_plain_values_and_phrases(tmp_path: Path) -> None:
    entry = {"value": "heat", "say": ["heat mode"], "hear": ["on heat"], "implied_by": ["x"]}
    read_book = read(tmp_path, {"set_thermostat.mode": ["cool", entry], "add_shopping_items.items.name": ["milk"]})
    assert read_book.values("set_thermostat.mode") == ("cool", "heat")
    assert read_book.entry("set_thermostat.mode", "heat") == ValueEntry("heat", ("heat mode",), ("on heat",), ("x",))
    assert read_book.values("add_shopping_items.items.name") == ("milk",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "holds a list"),
        ({"set_lamp.room": ["kitchen"]}, "'set_lamp.room'"),
        ({"set_light.colour": ["red"]}, "'set_light.colour'"),
        ({"set_light": ["red"]}, "'set_light'"),
        ({"set_timer.duration.weeks": [1]}, "'set_timer.duration.weeks'"),
        ({"set_light.color": "red"}, "no list"),
        ({"set_light.color": []}, "no list"),
        ({"set_light.color": [{"say": ["red"]}]}, "entry"),
        ({"set_light.color": [{"value": "red", "says": ["red"]}]}, "entry"),
        ({"set_light.color": [{"value": "red", "say": "red"}]}, "entry"),
        ({"set_light.color": [{"value": "red", "hear": [""]}]}, "entry"),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert said in caught.value.found and "values.json" in caught.value.found and caught.value.required


def test_the_keys_that_an_error_names_are_read(tmp_path: Path) -> None:
    for wrong in ("set_light.colour", "set_light"):
        with pytest.raises(DataError) as caught:
            read(tmp_path, {wrong: ["red"]})
        advised = caught.value.fix.removeprefix("name one of ").removesuffix(", or what lies inside").split(", ")
        assert "set_light.color" in advised
        assert set(read(tmp_path, {key: ["red"] for key in advised}).entries) == set(advised)
    with pytest.raises(DataError, match="tools are: .*set_light"):
        read(tmp_path, {"set_lamp.color": ["red"]})


def test_keys_may_bear_a_tools_original_name(tmp_path: Path) -> None:
    tools = [
        {"name": name, "parameters": {"type": "object", "properties": {"level.of": {"type": "integer"}}}}
        for name in ("home.light", "home.light/dim", "plain")
    ]
    path = tmp_path / "values.json"
    keys = ["home.light.level.of", "home.light/dim.level.of", "plain.level.of"]
    path.write_text(json.dumps({key: [number] for number, key in enumerate(keys)}))
    found = read_value_book(path, catalog_from_document(tools, "tools"))
    assert {key: found.values(key) for key in found.entries} == {
        "home_light.level.of": (0,),
        "home_light_dim.level.of": (1,),
        "plain.level.of": (2,),
    }


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_value_book(tmp_path / "none.json", catalog())


def test_entries_are_found_by_value() -> None:
    entries = ValueBook({"t.p": (ValueEntry(20, ("twenty",)), ValueEntry(True, ("yes",)), ValueEntry({"a": [1, 2.0]}))})
    found = entries.entry("t.p", 20.0)
    assert found is not None and found.say == ("twenty",)
    assert entries.entry("t.p", 1) is None
    assert entries.entry("t.p", {"a": [1.0, 2]}) is not None
    assert entries.entry("t.p", {"a": [2, 1]}) is None
    assert entries.entry("t.q", 20) is None


def test_the_demos_book_reads() -> None:
    light = book().entry("set_light.state", "on")
    assert light is not None and light.implied_by == ("brightness", "color")
