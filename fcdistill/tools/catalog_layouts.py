"""The layouts in which servers, vendors and teams hold their tools, read into one form.

OpenAI's `tools` and older `functions`, MCP's `tools/list` with all its pages, Anthropic's `input_schema`, Gemini's
`functionDeclarations` and Bedrock's `toolSpec` differ in wrappings and in the words for one thing. What a layout says
besides a name, a description, the arguments' and the result's schema is not read, and its keys are kept for a note.
Whether a tool is sound is not known here (`catalog`).
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fcdistill.errors import CatalogError
from fcdistill.tools.openapi_schema import from_openapi, is_openapi

__all__ = ["LAYOUTS", "SourceTool", "listed_tools", "read_tool"]

LAYOUTS = (
    "OpenAI tools or functions (an array or a single tool), MCP tools/list (one result, or an array of all pages), or "
    "the tools of Anthropic, Gemini or Bedrock"
)
_SCHEMA_KEYS = ("parameters", "inputSchema", "input_schema", "parametersJsonSchema", "parameters_json_schema")
_RETURN_KEYS = ("outputSchema", "return", "response", "responseJsonSchema", "response_json_schema")
"""MCP's, transformers' and Gemini's."""
_SAID = ("name", "description", *_SCHEMA_KEYS)
_SILENT = frozenset({"type", "strict"})
"""`strict` asks a server for constrained decoding; the schema says the same of the arguments."""
_LISTS = ("tools", "functions", "functionDeclarations", "function_declarations")
_OPENAPI_LISTS = _LISTS[2:]
_HOLDERS = ("result", "toolConfig", "tool_config")
"""JSON-RPC's and Bedrock's: an object around the one that holds the list."""
_CACHE_MARKS = frozenset({"cachePoint"})
"""Entries that stand between tools, and are none."""
_TYPO = 0.85


@dataclass(frozen=True)
class SourceTool:
    """What a source says of one tool.

    Attributes:
        where: which one it is, for errors.
        name: as the source has it.
        description: may be empty.
        parameters: the schema of the arguments object.
        returns: the schema of what it gives back; None where nothing is said of it.
        unread: keys that mean nothing here.
    """

    where: str
    name: str
    description: str
    parameters: dict[str, Any]
    returns: dict[str, Any] | None
    unread: tuple[str, ...]


def listed_tools(document: Any, origin: str) -> list[Any]:
    """The tools of a document in any of the layouts, each still as it stands there.

    Args:
        document: what the JSON says.
        origin: where it stands, for errors.

    Raises:
        CatalogError: it is in no known layout, reports an error, or lacks pages.
    """
    if _holds_list(document) or isinstance(document, list):
        return list(_tools_in(document, origin))
    if isinstance(document, dict) and document.keys() & {"name", "function", "type", "toolSpec"}:
        return [document]
    raise CatalogError(
        f"{origin} holds {_kind(document)}, in no known layout",
        required=LAYOUTS,
        fix='put the tools into one array, or into {"tools": [...]}',
    )


def read_tool(item: Any, where: str) -> SourceTool:
    """What one of the listed tools says.

    Args:
        item: the tool.
        where: which one it is, for errors.

    Raises:
        CatalogError: it is no tool, or has a key that can only be a misspelt one.
    """
    tool, unread = _unwrapped(item, where)
    name = tool.get("name")
    if not isinstance(name, str):
        raise CatalogError(
            f"{where} has no name: found {_kind(name)}",
            required="a string",
            fix="give it a name, or remove it where a server provides it",
        )
    where = f"{where} ({name!r})"
    schema_key = _schema_key(tool, where)
    return_key = next((key for key in _RETURN_KEYS if isinstance(tool.get(key), dict)), None)
    unknown = tool.keys() - {*_SAID, *_RETURN_KEYS} - _SILENT
    _require_no_typo(tool, unknown, schema_key, where)
    description = tool.get("description")
    if not isinstance(description, str | None):
        raise CatalogError(f"{where}: description is {_kind(description)}", required="a string", fix="make it one")
    parameters = tool.get(schema_key)
    if parameters is None or parameters == {}:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise CatalogError(
            f"{where}: {schema_key} is {_kind(parameters)}",
            required="a JSON Schema object, or nothing for a tool without parameters",
            fix="write the schema of the arguments object",
        )
    return SourceTool(
        where=where,
        name=name,
        description=description or "",
        parameters=from_openapi(parameters) if is_openapi(parameters) else parameters,
        returns=None if return_key is None else tool[return_key],
        unread=tuple(sorted({*unread, *unknown})),
    )


def _holds_list(found: Any) -> bool:
    """Whether this is an object around a list of tools, or around another such object."""
    if not isinstance(found, dict):
        return False
    return (
        ("jsonrpc" in found and "error" in found)
        or any(isinstance(found.get(key), list) for key in _LISTS)
        or any(_holds_list(found.get(key)) for key in ("tools", *_HOLDERS))
    )


def _tools_in(found: Any, origin: str, *, more_follow: bool = False) -> Iterator[Any]:
    """The tools of a list, or of an object around one; lists stand in lists where a source has pages or groups."""
    if isinstance(found, list):
        for number, each in enumerate(found, 1):
            if isinstance(each, dict) and each.keys() and each.keys() <= _CACHE_MARKS:
                continue
            if _holds_list(each):
                yield from _tools_in(each, origin, more_follow=more_follow or number < len(found))
            else:
                yield each
        return
    if "jsonrpc" in found and "error" in found:
        raise CatalogError(f"{origin} is a JSON-RPC error: {found['error']!r}", required=LAYOUTS, fix="ask again")
    if found.get("nextCursor") and not more_follow:
        raise CatalogError(
            f"{origin} is one page of several: it has a nextCursor",
            required="the whole list",
            fix="fetch the other pages and put all of them into one array: [first page, second page, ...]",
        )
    for key in (*_LISTS, *_HOLDERS):
        inner = found.get(key)
        if isinstance(inner, list):
            yield from (
                map(_declared, inner) if key in _OPENAPI_LISTS else _tools_in(inner, origin, more_follow=more_follow)
            )
        elif _holds_list(inner):
            yield from _tools_in(inner, origin, more_follow=more_follow)


def _declared(item: Any) -> Any:
    """A function that Gemini declares: its `parameters` and `response` are written in OpenAPI's words."""
    if not isinstance(item, dict):
        return item
    return {key: from_openapi(value) if key in ("parameters", "response") else value for key, value in item.items()}


def _unwrapped(item: Any, where: str) -> tuple[dict[str, Any], set[str]]:
    """The tool inside a vendor's wrapping, if it has one, and what stands beside it without a meaning here."""
    if not isinstance(item, dict):
        raise CatalogError(f"{where} is {_kind(item)}", required="an object", fix=f"write it as in {LAYOUTS}")
    if "toolSpec" in item:
        tool, beside = _inside(item, "toolSpec", where)
        schema = tool.get("inputSchema")
        if isinstance(schema, dict) and schema.keys() == {"json"}:
            tool = {**tool, "inputSchema": schema["json"]}
        return tool, beside
    is_custom = item.get("type") == "custom" and "input_schema" in item  # what Anthropic calls a client's tool
    if "type" in item and item["type"] != "function" and not is_custom:
        raise CatalogError(
            f"{where} has type {item['type']!r}", required="type 'function'", fix="remove tools that a server provides"
        )
    return _inside(item, "function", where) if "function" in item else (item, set())


def _inside(item: Mapping[str, Any], key: str, where: str) -> tuple[dict[str, Any], set[str]]:
    inner, beside = item[key], item.keys() - {key} - _SILENT
    misplaced = sorted(beside & {*_SAID})
    if misplaced or not isinstance(inner, dict):
        found = f"unknown key {misplaced[0]!r} beside {key}" if misplaced else f"{key} is {_kind(inner)}"
        raise CatalogError(
            f"{where}: {found}",
            required=f'{{"{key}": {{"name": ..., "description": ..., and the schema of the arguments}}}}',
            fix=f"put name, description and schema inside {key}",
        )
    return inner, set(beside)


def _schema_key(tool: Mapping[str, Any], where: str) -> str:
    """The key under which the schema of the arguments stands, or would."""
    given = [key for key in _SCHEMA_KEYS if tool.get(key) is not None]
    if len(given) > 1:
        raise CatalogError(
            f"{where}: unknown key {given[0]!r} beside {given[1]!r}",
            required="one schema of the arguments",
            fix="remove one of the two",
        )
    return given[0] if given else "parameters"


def _require_no_typo(tool: Mapping[str, Any], unknown: Iterable[str], schema_key: str, where: str) -> None:
    """Raise `CatalogError` where a key without a meaning is a misspelt one: the tool would lose what stands there."""
    for key in sorted(unknown):
        value = tool[key]
        is_schema = isinstance(value, dict) and (isinstance(value.get("properties"), dict) or "$ref" in value)
        close = difflib.get_close_matches(key, _SAID, n=1, cutoff=_TYPO)
        if close or (is_schema and schema_key not in tool):
            raise CatalogError(
                f"{where}: unknown key {key!r}",
                required=f"name, description and {schema_key}",
                fix=f"rename it to {(close or [schema_key])[0]!r}, or remove it",
            )


def _kind(value: Any) -> str:
    names = {bool: "a boolean", str: "a string", list: "an array", dict: "an object", type(None): "nothing"}
    return names.get(type(value), "a number")
