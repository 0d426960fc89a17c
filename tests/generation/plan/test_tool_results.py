"""What tools give back, and whose arguments that can fill."""

import json
from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import DataError
from fcdistill.generation.plan.tool_results import Feed, holds, is_reader, put_value, read_results, result_problem
from fcdistill.tools.catalog import Catalog, catalog_from_document
from tests.generation.home import catalog, catalog_of, tool

TEXT, NUMBER, WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}


def object_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def travel(**returns: dict[str, Any]) -> Catalog:
    tools = [
        tool("find_flights", {"city": TEXT}, ("city",)),
        tool(
            "book_flight", {"flight_id": TEXT, "city": TEXT, "seats": WHOLE, "fare": {"enum": ["low"]}}, ("flight_id",)
        ),
        tool("pay", {"amount": NUMBER, "currency": TEXT}, ("amount",)),
    ]
    document = [
        {**spec.model_dump(), **({"outputSchema": returns[spec.name]} if spec.name in returns else {})}
        for spec in tools
    ]
    return catalog_from_document(document, "test")


def feeds(own: Catalog, content: Any = None, folder: Path | None = None) -> set[tuple[str, str]]:
    """(place in the result, argument) of every feed."""
    path = None
    if content is not None:
        assert folder is not None
        path = folder / "results.json"
        path.write_text(json.dumps(content))
    return {
        (".".join(map(str, feed.steps)), f"{feed.target}.{feed.argument}") for feed in read_results(path, own).feeds
    }


def test_without_any_word_on_results_a_reader_tells_what_its_choices_are_called() -> None:
    """And no other tool of the home tells anything: `text`, `time` and `room` are everybody's."""
    assert read_results(None, catalog()).feeds == (
        Feed("get_sensor", (), "set_thermostat", "temperature", {"sensor": "temperature"}),
    )


def test_a_reader_tells_what_its_description_speaks_of() -> None:
    own = catalog_of(
        tool("find_flight", {"city": TEXT}), tool("delete_flight", {}), tool("book", {"flight_id": TEXT, "name": TEXT})
    )
    assert [(feed.source, feed.argument, dict(feed.when)) for feed in read_results(None, own).feeds] == [
        ("find_flight", "flight_id", {})
    ]


def test_properties_fill_arguments_of_their_name_and_type() -> None:
    flights = {"type": "array", "items": object_of(id=TEXT, seats=WHOLE, fare=TEXT, city=TEXT)}
    own = travel(
        find_flights=object_of(flights=flights, amount=WHOLE, currency=NUMBER), book_flight=object_of(amount=TEXT)
    )
    assert feeds(own) == {
        ("flights.0.id", "book_flight.flight_id"),
        ("flights.0.seats", "book_flight.seats"),
        ("amount", "pay.amount"),  # a whole number is a number, and a text is none; a city was said, a fare is a choice
    }


def test_the_file_says_more_than_names_and_stops_wrong_guesses(tmp_path: Path) -> None:
    own = travel(find_flights=object_of(seats=WHOLE, best=object_of(price=NUMBER)))
    assert feeds(own) == {("seats", "book_flight.seats")}
    declared = {"find_flights": {"feeds": [{"from": "best.price", "to": "pay.amount", "when": {"city": "Rome"}}]}}
    assert feeds(own, declared, tmp_path) == {("best.price", "pay.amount")}
    assert feeds(own, {"find_flights": {"feeds": []}}, tmp_path) == set()
    unknown = {"pay": {"feeds": [{"from": "code", "to": "book_flight.flight_id"}]}}
    assert feeds(own, unknown, tmp_path) == {("", "book_flight.flight_id"), ("seats", "book_flight.seats")}
    own_returns = {"find_flights": {"returns": object_of(flight_id=TEXT)}}
    assert feeds(own, own_returns, tmp_path) == {("flight_id", "book_flight.flight_id")}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([], "no object"),
        ({"fly": {}}, "'fly' is unknown"),
        ({"pay": {"gives": {}}}, "'pay' is unknown or malformed"),
        ({"pay": {"returns": {"type": "thing"}}}, "is no JSON Schema"),
        ({"pay": {"returns": {"$schema": "urn:mine"}}}, "unknown dialect"),
        ({"pay": {"feeds": "all"}}, "malformed"),
        ({"pay": {"feeds": [{"from": "a"}]}}, "malformed"),
        ({"pay": {"feeds": [{"from": "a", "to": "pay"}]}}, "names no argument"),
        ({"pay": {"feeds": [{"from": "a", "to": "fly.id"}]}}, "names no argument"),
        ({"pay": {"feeds": [{"from": "a", "to": "pay.amount", "when": {"x": 1}}]}}, "`when` names no argument of pay"),
        ({"find_flights": {"feeds": [{"from": "x", "to": "pay.amount"}]}}, "`from` names no property"),
        ({"pay": {"returns": {"$ref": "#/$defs/x"}}}, "no JSON Schema: $ref '#/$defs/x' leads nowhere"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: Any, found: str) -> None:
    with pytest.raises(DataError) as caught:
        feeds(travel(find_flights=object_of(seats=WHOLE)), content, tmp_path)
    assert found in caught.value.found


def test_a_result_schema_of_the_catalogue_that_is_none_is_left_aside() -> None:
    assert read_results(None, travel(find_flights={"type": "thing"})).returns == {}
    assert read_results(None, travel(find_flights={"$ref": "https://example.org/flights"})).returns == {}


def test_results_are_judged_by_their_schema_or_hold_at_least_something() -> None:
    schema = object_of(value=WHOLE)
    assert result_problem({"value": 3}, schema) == ""
    assert "$.value" in result_problem({"value": "3"}, schema)
    assert result_problem({"value": 3}, None) == result_problem([1], None) == ""
    assert all(result_problem(empty, None) for empty in ({}, [], "text", 3, None))


def test_a_value_is_held_exactly_at_any_depth() -> None:
    result = {"a": [{"b": 21}], "c": True, "d": "21"}
    assert holds(result, 21) and holds(result, 21.0) and holds(result, "21") and holds(result, True)
    assert not holds(result, 1) and not holds(result, "2") and not holds({}, 21)


def test_a_value_is_put_into_a_copy() -> None:
    result = {"flights": [{"id": "a"}]}
    assert put_value(result, ("flights", 0, "id"), "b") == {"flights": [{"id": "b"}]}
    assert result == {"flights": [{"id": "a"}]}


@pytest.mark.parametrize(
    ("name", "reads"), [("get_sensor", True), ("list-orders", True), ("set_light", False), ("budget", False)]
)
def test_readers_are_known_by_their_first_word(name: str, reads: bool) -> None:
    assert is_reader(tool(name, {})) == reads
