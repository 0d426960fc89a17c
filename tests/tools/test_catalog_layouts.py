from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.errors import CatalogError
from fcdistill.tools.catalog_layouts import SourceTool, listed_tools, read_tool

SCHEMA = {
    "type": "object",
    "properties": {"level": {"type": "integer", "minimum": 0}, "room": {"type": ["string", "null"]}},
    "required": ["level"],
}
CAPITALS = {
    "type": "OBJECT",
    "properties": {"level": {"type": "INTEGER", "minimum": 0}, "room": {"type": "STRING", "nullable": True}},
    "required": ["level"],
}
NAMED = {"name": "dim", "description": "Dim a light."}
OPENAI = {**NAMED, "parameters": SCHEMA}
MCP = {**NAMED, "inputSchema": SCHEMA}
ANTHROPIC = {**NAMED, "input_schema": SCHEMA}
GEMINI = {**NAMED, "parameters": CAPITALS}
BEDROCK = {"toolSpec": {**NAMED, "inputSchema": {"json": SCHEMA}}}


def read(document: Any) -> list[SourceTool]:
    return [read_tool(item, f"tool {number}") for number, item in enumerate(listed_tools(document, "tools"), 1)]


@pytest.mark.parametrize(
    "document",
    [
        [ANTHROPIC],
        ANTHROPIC,
        {"tools": [ANTHROPIC]},
        [{**ANTHROPIC, "type": "custom"}],
        {"functions": [OPENAI]},
        {"functionDeclarations": [GEMINI]},
        {"function_declarations": [GEMINI]},
        [{"functionDeclarations": [GEMINI]}],
        {"tools": [{"functionDeclarations": [GEMINI]}]},
        {"tools": {"function_declarations": [GEMINI]}},
        {"functionDeclarations": [{**NAMED, "parametersJsonSchema": SCHEMA}]},
        [GEMINI],
        [BEDROCK],
        BEDROCK,
        {"tools": [BEDROCK, {"cachePoint": {"type": "default"}}], "toolChoice": {"auto": {}}},
        {"toolConfig": {"tools": [BEDROCK]}},
        {"jsonrpc": "2.0", "id": 1, "result": {"tools": [MCP]}},
    ],
)
def test_every_vendor_says_the_same_tool(document: Any) -> None:
    (tool,) = read(document)
    assert (tool.name, tool.description, tool.parameters, tool.unread) == ("dim", "Dim a light.", SCHEMA, ())


def test_pages_are_joined_in_their_order() -> None:
    first, last = {"tools": [MCP], "nextCursor": "x"}, {"tools": [{**MCP, "name": "glow"}]}
    in_answers = [{"jsonrpc": "2.0", "id": number, "result": page} for number, page in enumerate((first, last))]
    for pages in ([first, last], in_answers):
        assert [tool.name for tool in read(pages)] == ["dim", "glow"]


@pytest.mark.parametrize("wrap", [lambda page: page, lambda page: {"jsonrpc": "2.0", "id": 2, "result": page}])
def test_a_last_page_that_promises_another_is_refused(wrap: Any) -> None:
    page = wrap({"tools": [MCP], "nextCursor": "x"})
    for document in (page, [page], [page, page]):
        with pytest.raises(CatalogError, match="is one page of several"):
            listed_tools(document, "tools")


def test_an_error_among_the_pages_is_refused() -> None:
    with pytest.raises(CatalogError, match="is a JSON-RPC error"):
        listed_tools([{"tools": [MCP], "nextCursor": "x"}, {"jsonrpc": "2.0", "id": 2, "error": {"code": 1}}], "tools")


@pytest.mark.parametrize("key", ["x-cost", "securitySchemes", "cache_control", "tags", "annotations", "title"])
@pytest.mark.parametrize("tool", [OPENAI, MCP, ANTHROPIC, GEMINI])
def test_other_keys_of_vendors_are_not_read(tool: dict[str, Any], key: str) -> None:
    (found,) = read([{**tool, key: {"a": 1}}])
    assert (found.parameters, found.unread) == (SCHEMA, (key,))


def test_keys_beside_a_wrapping_are_not_read_either() -> None:
    (found,) = read([{"type": "function", "function": {**OPENAI, "tags": ["a"]}, "x-cost": 2}])
    assert (found.name, found.unread) == ("dim", ("tags", "x-cost"))
    (found,) = read([{**BEDROCK, "cachePoint": {}}])
    assert (found.name, found.unread) == ("dim", ("cachePoint",))


def test_what_a_tool_gives_back_is_read_in_each_vendors_words() -> None:
    returns = {"type": "object"}
    for key in ("outputSchema", "return", "responseJsonSchema"):
        assert read([{**OPENAI, key: returns}])[0].returns == returns
    assert read({"functionDeclarations": [{**GEMINI, "response": {"type": "OBJECT"}}]})[0].returns == returns
    assert read([OPENAI])[0].returns is None


@pytest.mark.parametrize(
    ("tool", "found", "fix"),
    [
        ({**NAMED, "paramters": SCHEMA}, "unknown key 'paramters'", "'parameters'"),
        ({**OPENAI, "desciption": "x"}, "unknown key 'desciption'", "'description'"),
        ({**NAMED, "input_shema": {}}, "unknown key 'input_shema'", "'input_schema'"),
        ({**NAMED, "args": SCHEMA}, "unknown key 'args'", "'parameters'"),
        ({**MCP, "input_schema": SCHEMA}, "unknown key 'inputSchema' beside 'input_schema'", "remove one"),
        ({"type": "custom", "name": "sql"}, "has type 'custom'", "remove"),
        ({"googleSearch": {}}, "has no name", "remove it where a server provides it"),
        ({"toolSpec": [1]}, "toolSpec is an array", "inside toolSpec"),
        ({**BEDROCK, "name": "x"}, "unknown key 'name' beside toolSpec", "inside toolSpec"),
    ],
)
def test_keys_that_can_only_be_mistakes_are_refused(tool: dict[str, Any], found: str, fix: str) -> None:
    with pytest.raises(CatalogError) as caught:
        read([tool])
    assert found in caught.value.found and fix in caught.value.fix


def test_a_misspelt_key_is_read_once_it_is_renamed_as_advised() -> None:
    with pytest.raises(CatalogError) as caught:
        read([{**NAMED, "args": SCHEMA}])
    advised = caught.value.fix.split("'")[1]
    assert read([{**NAMED, advised: SCHEMA}])[0].parameters == SCHEMA


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "tools functions functionDeclarations toolSpec result toolConfig name type function parameters "
                "inputSchema json nextCursor jsonrpc error".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_document_is_read_or_refused_in_words(document: Any) -> None:
    try:
        tools = read(document)
    except CatalogError as error:
        assert error.found and error.required and error.fix
    else:
        assert all(isinstance(tool.parameters, dict) for tool in tools)
