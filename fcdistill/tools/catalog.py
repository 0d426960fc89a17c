"""Tool catalogues in: OpenAI `tools` JSON, an MCP `tools/list` result, or Python functions become `ToolSpec` records.

A catalogue that was read is sound: names are unique and fit every chat template, schemas are valid and refer only to
themselves. Names with dots, as MCP servers have them, are mapped to underscores, and the mapping is kept. What calls
are judged by is not known here (`validation`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fcdistill.errors import CatalogError, DataError
from fcdistill.records import FunctionTool, ToolSpec
from fcdistill.storage import read_json, sha256_json
from fcdistill.tools.comparator_keyword import split_comparators
from fcdistill.tools.python_functions import import_function
from fcdistill.tools.validation import check_spec

__all__ = [
    "Catalog",
    "catalog_from_document",
    "catalog_from_functions",
    "catalog_from_tools",
    "load_catalog",
    "read_catalog",
    "safe_name",
]

_LAYOUTS = "OpenAI tools (an array or a single tool), or the result of MCP tools/list"
_OPENAI_KEYS = frozenset({"name", "description", "parameters", "strict", "return"})
"""`strict` asks a server for constrained decoding, `return` is what transformers adds: neither is shown to a model."""
_MCP_KEYS = frozenset(
    {"name", "description", "inputSchema", "outputSchema", "title", "annotations", "icons", "execution", "_meta"}
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FUNCTION_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(,[A-Za-z_][\w.:]*)*")


@dataclass(frozen=True)
class Catalog:
    """A sound set of tools.

    Attributes:
        specs: the tools, in the order of their source.
        original_names: name to the name with dots that its source gave, where they differ.
        returns: name to the JSON Schema of what the tool gives back, where the source says it (MCP's `outputSchema`,
            or the `return` of a function).
        comparators: `tool.param` to how an eval compares it, where the source says so (`comparator_keyword`).
    """

    specs: tuple[ToolSpec, ...]
    original_names: Mapping[str, str] = field(default_factory=dict)
    returns: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    comparators: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, ToolSpec]:
        """The tools by name."""
        return {spec.name: spec for spec in self.specs}

    @cached_property
    def tools(self) -> tuple[FunctionTool, ...]:
        """The tools in OpenAI's wrapping, as records and chat templates hold them."""
        return tuple(FunctionTool(function=spec) for spec in self.specs)

    @cached_property
    def sha256(self) -> str:
        """Hash of the tools, in their order, and of their comparators; independent of the layout of the source."""
        tools = [spec.model_dump(mode="json") for spec in self.specs]
        return sha256_json({"tools": tools, "comparators": dict(self.comparators)} if self.comparators else tools)


def load_catalog(ref: str) -> Catalog:
    """The catalogue that `module:function[,function...]` or else a path names. Raises `CatalogError`."""
    if _FUNCTION_REFERENCE.fullmatch(ref) and not Path(ref).exists():
        module, _, names = ref.partition(":")
        return catalog_from_functions([name if ":" in name else f"{module}:{name}" for name in names.split(",")])
    return read_catalog(Path(ref))


def read_catalog(path: Path) -> Catalog:
    """The catalogue in a JSON file.

    Accepts OpenAI's `tools` (an array or a single tool, bare or wrapped as `{"type": "function", "function": ...}`) and
    an MCP `tools/list` result (`{"tools": [...]}`, its bare array, or the JSON-RPC response around it).

    Raises:
        CatalogError: the file is missing or malformed, or a tool is not sound.
    """
    origin = f"tool catalogue {path}"
    try:
        document = read_json(path, "tool catalogue")
    except DataError as error:
        raise CatalogError(error.found, required=error.required, fix=error.fix) from None
    return catalog_from_document(document, origin)


def catalog_from_document(document: Any, origin: str) -> Catalog:
    """The catalogue in JSON values of one of the layouts that `read_catalog` accepts.

    Args:
        document: what the JSON says.
        origin: where it stands, for errors.

    Raises:
        CatalogError: it is in no known layout, or a tool is not sound.
    """
    items = _items(document, origin)
    named = [_named_spec(item, f"{origin}, tool {number}") for number, item in enumerate(items, 1)]
    return _catalog(named, origin, _returns(items))


def catalog_from_tools(tools: Sequence[FunctionTool]) -> Catalog:
    """The catalogue that these records make. Raises `CatalogError` where they are not sound together."""
    return _catalog([(tool.function.name, tool.function) for tool in tools], "tools")


def catalog_from_functions(refs: Sequence[str]) -> Catalog:
    """The catalogue of Python functions, each `module:function`; modules in the current directory are found too.

    Types come from the annotations, descriptions from a Google-style docstring, as `transformers.utils.get_json_schema`
    reads them. An optional type becomes a JSON Schema type with `null`.

    Raises:
        CatalogError: a function can't be imported or described.
    """
    origin = f"functions {', '.join(refs)}"
    items = [_described(ref) for ref in refs]
    named = [_named_spec(item, f"function {ref}") for item, ref in zip(items, refs, strict=True)]
    return _catalog(named, origin, _returns(items))


def safe_name(name: str) -> str:
    """A tool's name without dots, which several chat templates and APIs refuse."""
    return name.replace(".", "_")


def _items(document: Any, origin: str) -> list[Any]:
    """The tools of a document in any of the layouts."""
    found = document
    if isinstance(found, dict) and "jsonrpc" in found and "error" in found:
        raise CatalogError(f"{origin} is a JSON-RPC error: {found['error']!r}", required=_LAYOUTS, fix="ask again")
    if isinstance(found, dict) and isinstance(found.get("result"), dict):
        found = found["result"]
    if isinstance(found, dict) and "tools" in found:
        if found.get("nextCursor"):
            raise CatalogError(
                f"{origin} is one page of several: it has a nextCursor",
                required="the whole list",
                fix="fetch the other pages and put all tools into one array",
            )
        found = found["tools"]
    elif isinstance(found, dict) and found.keys() & {"name", "function", "type"}:
        found = [found]
    if not isinstance(found, list):
        raise CatalogError(
            f"{origin} holds {_kind(found)}, in no known layout", required=_LAYOUTS, fix="see schemas/README.md"
        )
    return found


def _named_spec(item: Any, where: str) -> tuple[str, ToolSpec]:
    """A tool's name in its source, and the tool."""
    tool = _unwrapped(item, where)
    name = tool.get("name")
    if not isinstance(name, str):
        raise CatalogError(f"{where} has no name: found {_kind(name)}", required="a string", fix="give it a name")
    where = f"{where} ({name!r})"
    schema_key, known = (
        ("inputSchema", _MCP_KEYS) if "inputSchema" in tool else ("parameters", _OPENAI_KEYS | _MCP_KEYS)
    )
    unknown = sorted(tool.keys() - known)
    if unknown:
        raise CatalogError(
            f"{where}: unknown key {unknown[0]!r}",
            required=f"name, description and {schema_key}",
            fix="remove or rename it",
        )
    if not _NAME.fullmatch(safe_name(name)):
        raise CatalogError(
            f"{where}: the name can't be called",
            required="1 to 64 letters, digits, '_', '-' (and '.', which becomes '_')",
            fix="rename the tool",
        )
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
    return name, ToolSpec(name=safe_name(name), description=description or "", parameters=parameters)


def _unwrapped(item: Any, where: str) -> dict[str, Any]:
    """The tool inside OpenAI's wrapping, if it has one."""
    if not isinstance(item, dict):
        raise CatalogError(f"{where} is {_kind(item)}", required="an object", fix=f"write it as in {_LAYOUTS}")
    if "type" in item and item["type"] != "function":
        raise CatalogError(
            f"{where} has type {item['type']!r}", required="type 'function'", fix="remove tools that a server provides"
        )
    if "function" not in item:
        return {key: value for key, value in item.items() if key != "type"}
    unknown = sorted(item.keys() - {"type", "function", "strict"})
    if unknown or not isinstance(item["function"], dict):
        found = f"unknown key {unknown[0]!r} beside function" if unknown else f"function is {_kind(item['function'])}"
        raise CatalogError(
            f"{where}: {found}",
            required='{"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}}',
            fix="put name, description and parameters inside function",
        )
    return item["function"]


def _kind(value: Any) -> str:
    names = {bool: "a boolean", str: "a string", list: "an array", dict: "an object", type(None): "nothing"}
    return names.get(type(value), "a number")


def _returns(items: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the tools of a source say of their results, by name; the tools themselves are known to be sound."""
    tools = [item.get("function", item) for item in items]
    said = {safe_name(tool["name"]): tool.get("outputSchema", tool.get("return")) for tool in tools}
    return {name: schema for name, schema in said.items() if isinstance(schema, dict)}


def _catalog(
    named: Iterable[tuple[str, ToolSpec]], origin: str, returns: Mapping[str, dict[str, Any]] | None = None
) -> Catalog:
    """The catalogue of tools, each with its name in the source, after the checks that concern them all."""
    sources: dict[str, str] = {}
    specs = []
    comparators: dict[str, str] = {}
    for source_name, spec in named:
        if spec.name in sources:
            first = sources[spec.name]
            raise CatalogError(
                f"{origin}: two tools are called {source_name!r}"
                if first == source_name
                else f"{origin}: {first!r} and {source_name!r} are both called {spec.name!r} once dots are replaced",
                required="unique names",
                fix="rename one",
            )
        problems = check_spec(spec)
        if problems:
            raise CatalogError(
                f"{origin}: the parameters of tool {source_name!r} can't be used:\n  " + "\n  ".join(problems),
                required="a JSON Schema of the arguments object that is valid and refers only to itself",
                fix="correct the schema at the named place",
            )
        sources[spec.name] = source_name
        bare, own_comparators = split_comparators(spec, origin)
        specs.append(bare)
        comparators |= own_comparators
    if not specs:
        raise CatalogError(f"{origin}: there is no tool", required="at least one tool", fix=f"give {_LAYOUTS}")
    original_names = {name: source for name, source in sources.items() if name != source}
    return Catalog(tuple(specs), original_names, returns or {}, comparators)


def _described(ref: str) -> dict[str, Any]:
    """What transformers makes of a function: name, description and parameters."""
    from transformers.utils import chat_template_utils, get_json_schema

    function = import_function(ref, CatalogError)
    try:
        tool: dict[str, Any] = get_json_schema(function)["function"]
    except (
        chat_template_utils.DocstringParsingException,
        chat_template_utils.TypeHintParsingException,
        NameError,
        TypeError,
        ValueError,
    ) as error:
        raise CatalogError(
            f"function {ref} can't be described: {error}",
            required="type hints and a Google-style docstring that describes every argument",
            fix="complete the function's signature and docstring",
        ) from None
    return {**tool, "parameters": _with_null_types(tool["parameters"])}


def _with_null_types(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with `nullable: true`, which JSON Schema does not know, said as a type."""
    result = {key: value for key, value in schema.items() if key != "nullable"}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _with_null_types(result[key])
    for key in ("prefixItems", "anyOf"):
        if key in result:
            result[key] = [_with_null_types(each) for each in result[key]]
    if "properties" in result:
        result["properties"] = {name: _with_null_types(each) for name, each in result["properties"].items()}
    if not schema.get("nullable"):
        return result
    if "anyOf" in result:
        result["anyOf"] = [*result["anyOf"], {"type": "null"}]
    if "type" in result:
        types = result["type"] if isinstance(result["type"], list) else [result["type"]]
        result["type"] = list(dict.fromkeys([*types, "null"]))
    if "enum" in result and None not in result["enum"]:
        result["enum"] = [*result["enum"], None]
    return result
