import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.errors import CatalogError
from fcdistill.records import FunctionTool, ToolCall, ToolSpec
from fcdistill.tools.catalog import (
    Catalog,
    catalog_from_document,
    catalog_from_functions,
    catalog_from_tools,
    load_catalog,
    read_catalog,
    safe_name,
)
from fcdistill.tools.validation import CallValidator
from tests.paths import ROOT

SMART_HOME = ROOT / "schemas" / "smart_home.json"
DIM = {
    "name": "dim",
    "description": "Dim a light.",
    "parameters": {"type": "object", "properties": {"level": {"type": "integer"}}, "required": ["level"]},
}
DIM_SPEC = ToolSpec.model_validate(DIM)
MCP_DIM = {
    "name": "dim",
    "title": "Dim",
    "description": "Dim a light.",
    "inputSchema": DIM["parameters"],
    "outputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": False},
    "_meta": {},
}
NO_PARAMETERS = {"type": "object", "properties": {}}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read_document(document: Any) -> Catalog:
        path = tmp_path / "tools.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return read_catalog(path)

    return read_document


@pytest.mark.parametrize(
    "document",
    [
        [{"type": "function", "function": DIM}],
        [{"type": "function", "function": {**DIM, "strict": True}}],
        [{"type": "function", **DIM, "strict": True}],
        {"type": "function", "function": DIM},
        [DIM],
        DIM,
        {"tools": [{"type": "function", "function": DIM}]},
        {"tools": [MCP_DIM]},
        {"tools": [MCP_DIM], "nextCursor": None},
        [MCP_DIM],
        MCP_DIM,
        {"jsonrpc": "2.0", "id": 1, "result": {"tools": [MCP_DIM]}},
    ],
)
def test_every_layout_gives_the_same_tools(read: Any, document: Any) -> None:
    catalog = read(document)
    assert catalog.specs == (DIM_SPEC,)
    assert catalog.sha256 == catalog_from_tools([FunctionTool(function=DIM_SPEC)]).sha256


def test_a_catalogue_gives_its_tools_by_name_and_wrapped(read: Any) -> None:
    catalog = read([DIM, {**DIM, "name": "glow"}])
    assert list(catalog.by_name) == ["dim", "glow"]
    assert [tool.function.name for tool in catalog.tools] == ["dim", "glow"]
    assert catalog.original_names == {}
    assert catalog.sha256 != read([{**DIM, "name": "glow"}, DIM]).sha256


def test_the_demo_catalogue_is_sound() -> None:
    catalog = read_catalog(SMART_HOME)
    assert 10 <= len(catalog.specs) <= 12
    CallValidator(catalog.specs)
    assert catalog_from_tools(catalog.tools) == catalog


@pytest.mark.parametrize("parameters", [{}, {"parameters": None}, {"parameters": {}}, {"inputSchema": {}}])
def test_no_schema_means_no_parameters(read: Any, parameters: dict[str, Any]) -> None:
    assert read([{"name": "stop", **parameters}]).specs == (ToolSpec(name="stop", parameters=NO_PARAMETERS),)


@pytest.mark.parametrize("end", ["", "#"])
def test_a_dialect_written_with_https_judges_as_itself(read: Any, end: str) -> None:
    schema = {"type": "object", "properties": {"level": {"items": [{"type": "integer"}], "additionalItems": False}}}
    catalog = read(
        [{"name": "dim", "parameters": {"$schema": f"https://json-schema.org/draft-07/schema{end}", **schema}}]
    )
    assert catalog.specs[0].parameters["$schema"] == "http://json-schema.org/draft-07/schema#"
    validator = CallValidator(catalog.specs)
    assert not validator.check_call(ToolCall(name="dim", arguments={"level": [1]}))
    assert validator.check_call(ToolCall(name="dim", arguments={"level": [1, 2]}))


def test_a_null_description_is_empty(read: Any) -> None:
    assert read([{"name": "stop", "description": None}]).specs[0].description == ""


# --- names


def test_dotted_names_are_mapped_and_the_originals_kept(read: Any) -> None:
    catalog = read([{"name": "light.dim"}, {"name": "light_on"}, {"name": "a.b.c"}])
    assert [spec.name for spec in catalog.specs] == ["light_dim", "light_on", "a_b_c"]
    assert catalog.original_names == {"light_dim": "light.dim", "a_b_c": "a.b.c"}


@given(st.lists(st.text(alphabet="ab._", min_size=1, max_size=4), min_size=1, max_size=6, unique=True))
def test_names_come_back_or_the_catalogue_is_refused(names: list[str]) -> None:
    safe = [safe_name(name) for name in names]
    tools = [FunctionTool(function=ToolSpec(name=name)) for name in safe]
    if len(set(safe)) < len(safe):
        with pytest.raises(CatalogError, match="two tools are called"):
            catalog_from_tools(tools)
    else:
        assert [spec.name for spec in catalog_from_tools(tools).specs] == safe


@pytest.mark.parametrize("other", ["light.dim", "light/dim", "light:dim", "light dim"])
def test_a_collision_after_mapping_names_both_originals(read: Any, other: str) -> None:
    with pytest.raises(CatalogError, match=f"'{other}' and 'light_dim' are both called 'light_dim'"):
        read([{"name": other}, {"name": "light_dim"}])


def test_names_of_servers_and_routes_are_mapped_and_the_originals_kept(read: Any) -> None:
    names = ["home/light:dim", "Dim the light", "GET /lights/{id}", "dim"]
    catalog = read([{"name": name} for name in names])
    assert [spec.name for spec in catalog.specs] == ["home_light_dim", "Dim_the_light", "GET__lights__id_", "dim"]
    assert [catalog.original_names.get(spec.name, spec.name) for spec in catalog.specs] == names


def test_long_names_stay_apart_though_they_begin_alike(read: Any) -> None:
    names = ["a" * 64, "a" * 65, "a" * 66, "b/" * 60]
    catalog = read([{"name": name} for name in names])
    assert [len(spec.name) for spec in catalog.specs] == [64] * 4
    assert [catalog.original_names.get(spec.name, spec.name) for spec in catalog.specs] == names


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=200))
def test_every_name_that_ascii_prints_can_be_called(name: str) -> None:
    assert re.fullmatch("[A-Za-z0-9_-]{1,64}", safe_name(name))
    assert safe_name(safe_name(name)) == safe_name(name)
    if re.fullmatch("[A-Za-z0-9_-]{1,64}", name):
        assert safe_name(name) == name


# --- what is left out


def test_keys_without_a_meaning_are_listed(read: Any) -> None:
    (note,) = read([{**DIM, "x-cost": 2, "tags": []}, {**MCP_DIM, "name": "b"}, {"name": "c", "x-cost": 1}]).notes
    assert "'annotations' (b)" in note and "'tags' (dim)" in note and "'x-cost' (dim, c)" in note
    assert "outputSchema" not in note
    (note,) = read([{"type": "function", "function": {"name": f"t{number}"}, "x-cost": 2} for number in range(5)]).notes
    assert "'x-cost' (5 tools)" in note
    assert read([{"type": "function", "function": {**DIM, "strict": True}}]).notes == ()


def test_one_bad_tool_is_left_out_where_that_is_asked_for(read: Any, tmp_path: Path) -> None:
    bad = {"name": "glow", "parameters": {"type": "object", "properties": {"p": {"type": "int"}}}}
    document = [DIM, bad, {"name": "dim"}, "stop", {"type": "web_search"}, {**DIM, "name": "last"}]
    with pytest.raises(CatalogError, match="tool 'glow' can't be used"):
        read(document)
    catalog = read_catalog(tmp_path / "tools.json", skip_invalid=True)
    assert [spec.name for spec in catalog.specs] == ["dim", "last"]
    reasons = ["tool 'glow' can't be used", "two tools are called 'dim'", "tool 4 is a string", "type 'web_search'"]
    for note, reason in zip(catalog.notes, reasons, strict=True):
        assert reason in note and "\n" not in note
    assert load_catalog(str(tmp_path / "tools.json"), skip_invalid=True) == catalog
    with pytest.raises(CatalogError, match="there is no tool; left out, as .*tool 1 is a string"):
        catalog_from_document(["stop"], "row 1", skip_invalid=True)


def test_functions_that_can_not_be_described_are_left_out_too(module: str) -> None:
    catalog = load_catalog(f"{module}:stop,route,untyped", skip_invalid=True)
    assert [spec.name for spec in catalog.specs] == ["stop"]
    assert "*stops" in catalog.notes[0] and "untyped" in catalog.notes[1]
    with pytest.raises(CatalogError, match="has no 'dam'"):
        load_catalog(f"{module}:stop,dam", skip_invalid=True)


# --- refusals


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is not valid JSON"),
        ('[{"name": "a", "name": "b"}]', "key 'name' occurs more than once"),
        ("[" * 2000, "nested more than"),
        ([], "there is no tool"),
        ({"tools": []}, "there is no tool"),
        ({}, "holds an object, in no known layout"),
        ({"tools": {"dim": {}}}, "holds an object, in no known layout"),
        (5, "holds a number, in no known layout"),
        (None, "holds nothing, in no known layout"),
        ("true", "holds a boolean, in no known layout"),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601}}, "is a JSON-RPC error"),
        ({"tools": [MCP_DIM], "nextCursor": "abc"}, "is one page of several"),
        (["dim"], "tool 1 is a string"),
        ([DIM, None], "tool 2 is nothing"),
        ([{"type": "web_search"}], "tool 1 has type 'web_search'"),
        ([{"type": "function"}], "tool 1 has no name: found nothing"),
        ([{"name": 5}], "tool 1 has no name: found a number"),
        ([{"type": "function", "function": [DIM]}], "tool 1: function is an array"),
        ([{"type": "function", "function": DIM, "name": "x"}], "tool 1: unknown key 'name' beside function"),
        ([{**DIM, "paramters": {}}], "tool 1 ('dim'): unknown key 'paramters'"),
        ([{**MCP_DIM, "parameters": {}}], "tool 1 ('dim'): unknown key 'parameters'"),
        ([{"name": ""}], "tool 1 (''): the name can't be called"),
        ([{"name": "a\tb"}], "tool 1 ('a\\tb'): the name can't be called"),
        ([{"name": "dämpfen"}], "the name can't be called"),
        ([{"name": "a\n"}], "the name can't be called"),
        ([{"name": "ä" * 65}], "the name can't be called"),
        ([{"name": "a", "description": ["x"]}], "tool 1 ('a'): description is an array"),
        ([{"name": "a", "parameters": "{}"}], "tool 1 ('a'): parameters is a string"),
        ([{"name": "a", "parameters": []}], "tool 1 ('a'): parameters is an array"),
        ([{"name": "a", "parameters": False}], "tool 1 ('a'): parameters is a boolean"),
        ([{"name": "a", "inputSchema": 0}], "tool 1 ('a'): inputSchema is a number"),
        ([DIM, DIM], "two tools are called 'dim'"),
        (
            [{"name": "a", "parameters": {"type": "string"}}],
            "tool 'a' can't be used:\n  /type: the root must have type",
        ),
        (
            [DIM, {"name": "x.y", "parameters": {"type": "object", "properties": {"p": {"type": "int"}}}}],
            "tool 'x.y' can't be used:\n  /properties/p/type: 'int' is not one of",
        ),
        (
            [{"name": "a", "parameters": {"type": "object", "properties": {"p": {"$ref": "https://x.org/p"}}}}],
            "$ref 'https://x.org/p' leads out of the schema",
        ),
        (
            [{"name": "a", "parameters": {"type": "object", "properties": {"p": {"$ref": "#/$defs/p"}}}}],
            "$ref '#/$defs/p' leads nowhere",
        ),
        ([{"name": "a", "parameters": {"type": "object", "$schema": "x:y"}}], "/$schema: unknown dialect 'x:y'"),
        (
            [{"name": "a", "parameters": {"type": "object", "default": json.loads("[" * 65 + "]" * 65)}}],
            "nested more than 64 levels",
        ),
    ],
)
def test_unusable_catalogues(read: Any, document: Any, message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        read(document)
    assert message in caught.value.found
    assert caught.value.required and caught.value.fix


def test_json_values_are_read_like_a_file_and_errors_name_their_origin() -> None:
    assert catalog_from_document({"tools": [MCP_DIM]}, "row 3") == catalog_from_document([MCP_DIM], "row 4")
    with pytest.raises(CatalogError, match="row 3, tool 1 is a string"):
        catalog_from_document(["dim"], "row 3")


def test_missing_files_and_text_that_is_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="tool catalogue .*no.json does not exist"):
        read_catalog(tmp_path / "no.json")
    with pytest.raises(CatalogError, match="is a directory"):
        read_catalog(tmp_path)
    (tmp_path / "latin.json").write_bytes('[{"name": "dämpfen"}]'.encode("latin-1"))
    with pytest.raises(CatalogError, match="is not UTF-8"):
        read_catalog(tmp_path / "latin.json")


def test_records_are_checked_together() -> None:
    wrong = ToolSpec(name="a", parameters={"type": "object", "properties": {"p": {"minimum": "1"}}})
    with pytest.raises(CatalogError, match="'1' is not of type 'number'"):
        catalog_from_tools([FunctionTool(function=wrong)])
    with pytest.raises(CatalogError, match="there is no tool"):
        catalog_from_tools([])


# --- Python functions

FUNCTIONS = '''
from typing import Any, Literal, Optional

def dim(room: str, level: Optional[int] = None, mode: Literal["soft", "hard"] | None = None,
        steps: list[int | None] | None = None, nullable: bool = False, other: int | list[str] | None = None,
        anything: Any | None = None) -> str:
    """Dim a light.

    Args:
        room: The room.
        level: How far.
        mode: How.
        steps: Levels on the way.
        nullable: A name like a keyword.
        other: Something else.
        anything: Anything.
    """
    return ""

def stop() -> None:
    """Stop."""

def undocumented(room: str): ...

def half_documented(room: str, level: int):
    """Dim.

    Args:
        room: The room.
    """

def untyped(room):
    """Dim.

    Args:
        room: The room.
    """

def strange(room: "Unheard"):
    """Dim.

    Args:
        room: The room.
    """

class Lamp:
    @staticmethod
    def glow(level: float) -> None:
        """Glow.

        Args:
            level: How much.
        """

def route(name: str, *stops: int, **fees: int):
    """Mark a route.

    Args:
        name: Its name.
        stops: Numbers of stops.
        fees: Fees by stop.
    """

def card(to: str, greeting: Optional[str] = None, **options: "int | None"):
    """Send a card.

    Args:
        to: Who gets it.
        greeting: The words on it.
        **options (int): Whatever the printer takes.
    """

def note(text: str, **fields):
    """Take a note.

    Args:
        text: What it says.
    """

def form(**fields: Any):
    """Fill a form."""

class Kind: ...

def of_a_class(kind: Kind):
    """Dim.

    Args:
        kind: The kind.
    """

number = 5
anonymous = lambda: None
anonymous.__doc__ = "Nothing."
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current directory, under a name that no other test imports."""
    name = f"functions_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    (tmp_path / f"{name}_broken.py").write_text("1 / 0")
    (tmp_path / f"{name}_leaving.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    return name


def test_functions_become_tools(module: str) -> None:
    path = list(sys.path)
    catalog = load_catalog(f"{module}:dim,stop")
    assert sys.path == path
    dim, stop = catalog.specs
    assert (dim.name, dim.description) == ("dim", "Dim a light.")
    assert dim.parameters["required"] == ["room"]
    properties = dim.parameters["properties"]
    assert properties["level"] == {"type": ["integer", "null"], "description": "How far."}
    assert properties["mode"] == {"type": ["string", "null"], "enum": ["soft", "hard", None], "description": "How."}
    assert properties["steps"]["type"] == ["array", "null"]
    assert properties["steps"]["items"] == {"type": ["integer", "null"]}
    assert properties["nullable"] == {"type": "boolean", "description": "A name like a keyword."}
    assert {"type": "null"} in properties["other"]["anyOf"]
    assert properties["anything"] == {"description": "Anything."}
    assert (stop.description, stop.parameters) == ("Stop.", NO_PARAMETERS)


def test_named_variadic_arguments_are_further_ones_of_their_type(module: str) -> None:
    catalog = load_catalog(f"{module}:card,note,form")
    card, note, form = (spec.parameters for spec in catalog.specs)
    assert (list(card["properties"]), card["required"]) == (["to", "greeting"], ["to"])
    assert card["additionalProperties"] == {"type": ["integer", "null"]}
    assert note["additionalProperties"] is form["additionalProperties"] is True
    assert note["required"] == ["text"] and form["properties"] == {}
    validator = CallValidator(catalog.specs)
    for arguments in ({"to": "Alma"}, {"to": "Alma", "weight": 3}, {"to": "Alma", "weight": None}):
        assert validator.check_call(ToolCall(name="card", arguments=arguments)) == []
    (violation,) = validator.check_call(ToolCall(name="card", arguments={"to": "Alma", "weight": "3"}))
    assert (violation.code, violation.pointer) == ("wrong_type", "/weight")


def test_values_without_a_name_are_read_once_they_are_a_list_as_advised(module: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_catalog(f"{module}:route")
    assert "write `stops` without the star" in caught.value.fix and "list[str]" in caught.value.fix
    Path(f"{module}_advised.py").write_text(FUNCTIONS.replace("*stops: int", "stops: list[str]"))
    (spec,) = load_catalog(f"{module}_advised:route").specs
    assert spec.parameters["properties"]["stops"]["items"] == {"type": "string"}
    assert (spec.parameters["required"], spec.parameters["additionalProperties"]) == (
        ["name", "stops"],
        {"type": "integer"},
    )


def test_functions_of_several_modules_and_of_classes(module: str) -> None:
    assert [spec.name for spec in catalog_from_functions([f"{module}:stop", f"{module}:Lamp.glow"]).specs] == [
        "stop",
        "glow",
    ]
    assert load_catalog(f"{module}:stop,{module}:Lamp.glow") == load_catalog(f"{module}:stop,Lamp.glow")


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        ("_missing:dim", "can't be imported: ModuleNotFoundError"),
        ("_broken:dim", "can't be imported: ZeroDivisionError: division by zero"),
        ("_leaving:dim", "can't be imported: SystemExit: 3"),
        (":dam", "has no 'dam'"),
        (":Lamp.shine", "has no 'Lamp.shine'"),
        (":number", "is int"),
        (":Lamp", "is type"),
        (":undocumented", "can't be described: "),
        (":half_documented", "can't be described: "),
        (":untyped", "can't be described: "),
        (":strange", "can't be described: name 'Unheard' is not defined"),
        (":of_a_class", "can't be described: "),
        (":anonymous", "the name can't be called"),
        (":route", "takes *stops, arguments without a name"),
        (":dim,dim", "two tools are called 'dim'"),
    ],
)
def test_unusable_functions(module: str, suffix: str, message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_catalog(module + suffix)
    assert message in caught.value.found
    assert caught.value.required and caught.value.fix


def test_a_missing_function_is_answered_with_those_that_exist(module: str) -> None:
    with pytest.raises(CatalogError) as caught:
        catalog_from_functions([f"{module}:dam"])
    assert "dim" in caught.value.fix and "stop" in caught.value.fix


@pytest.mark.parametrize("ref", ["dim", ":dim", "tools:"])
def test_references_that_name_no_function(ref: str) -> None:
    with pytest.raises(CatalogError, match="names no function"):
        catalog_from_functions([ref])


def test_a_reference_is_a_path_unless_it_can_only_be_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools.json").write_text(json.dumps([DIM]))
    (tmp_path / "odd:name").write_text(json.dumps([DIM]))
    assert load_catalog("tools.json").specs == load_catalog("odd:name").specs == (DIM_SPEC,)
    with pytest.raises(CatalogError, match="tool catalogue other.json does not exist"):
        load_catalog("other.json")


def test_what_tools_say_of_their_results_is_kept_beside_them(read: Any) -> None:
    bare = {**DIM, "name": "bare"}
    with_return = {**DIM, "name": "home.read", "return": {"type": "number"}}
    own = read(
        [MCP_DIM, bare, {"type": "function", "function": with_return}, {**bare, "name": "odd", "return": "text"}]
    )
    assert own.returns == {"dim": {"type": "object"}, "home_read": {"type": "number"}}
    assert own.sha256 == catalog_from_tools(own.tools).sha256, "a model is not shown it"


def annotated(**schema: Any) -> dict[str, Any]:
    properties = {"level": {"type": "integer"}, "label": {"type": "string", **schema}}
    return {"name": "home.dim", "parameters": {"type": "object", "properties": properties}}


@pytest.mark.parametrize("key", ["parameters", "inputSchema"])
def test_comparators_are_taken_out_of_the_schemas_that_others_see(key: str) -> None:
    tool = annotated(**{"x-comparator": "casefold"})
    tool[key] = tool.pop("parameters")
    catalog = catalog_from_document([tool], "tools")
    assert catalog.comparators == {"home_dim.label": "casefold"}
    bare = catalog_from_document([annotated()], "tools")
    assert catalog.specs == bare.specs and list(catalog.specs[0].parameters["properties"]) == ["level", "label"]
    assert bare.comparators == {} and catalog.sha256 != bare.sha256
    other = catalog_from_document([annotated(**{"x-comparator": "date"})], "tools")
    assert other.sha256 not in (catalog.sha256, bare.sha256)


def test_records_of_tools_give_comparators_too() -> None:
    catalog = catalog_from_tools([FunctionTool.model_validate({"function": {**annotated(**{"x-comparator": "exact"}),
                                                                            "name": "dim"}})])  # fmt: skip
    assert catalog.comparators == {"dim.label": "exact"} and "x-comparator" not in str(catalog.specs)


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"x-comparator": 1}, "x-comparator of home_dim.label is 1"),
        ({"items": {"x-comparator": "exact"}}, "home_dim has an x-comparator that does not belong to a parameter"),
        ({"anyOf": [{"x-comparator": "exact"}]}, "does not belong to a parameter"),
    ],
)
def test_a_comparator_elsewhere_than_at_a_parameter_is_refused(schema: dict[str, Any], found: str) -> None:
    with pytest.raises(CatalogError, match=found):
        catalog_from_document([annotated(**schema)], "tools")


def test_comparators_elsewhere_are_found_in_older_dialects_too() -> None:
    tool = annotated(items=[{"x-comparator": "exact"}])
    for scheme in ("http", "https"):
        tool["parameters"]["$schema"] = f"{scheme}://json-schema.org/draft-07/schema#"
        with pytest.raises(CatalogError, match="does not belong to a parameter"):
            catalog_from_document([tool], "tools")


def test_a_value_that_looks_like_a_comparator_is_none() -> None:
    example = {"x-comparator": "exact"}
    catalog = catalog_from_document([annotated(default=example, examples=[example], enum=[example])], "tools")
    assert catalog.comparators == {} and catalog.specs[0].parameters["properties"]["label"]["default"] == example
