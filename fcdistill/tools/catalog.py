"""Tool catalogues in: JSON in any of the layouts that teams have, or Python functions, become `ToolSpec` records.

A catalogue that was read is sound: names are unique and fit every chat template, schemas are valid and refer only to
themselves. Other names, as MCP servers have them, are mapped to such, and the mapping is kept. How sources are laid out
is known to `catalog_layouts`; what calls are judged by is not known here (`validation`).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from fcdistill.errors import CatalogError, DataError
from fcdistill.records import FunctionTool, ToolSpec
from fcdistill.storage import read_json, sha256_json
from fcdistill.tools.catalog_layouts import LAYOUTS, SourceTool, listed_tools, read_tool
from fcdistill.tools.comparator_keyword import split_comparators
from fcdistill.tools.json_schema import canonical_dialect
from fcdistill.tools.python_functions import describe_function, import_function
from fcdistill.tools.validation import check_spec

__all__ = [
    "Catalog",
    "catalog_from_document",
    "catalog_from_functions",
    "catalog_from_tools",
    "load_catalog",
    "read_catalog",
    "safe_name",
    "with_safe_names",
]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_NAME = 64
_NAME_DIGITS = 8
_UNSAFE = re.compile(r"[ -,./:-@\[-^`{-~]")
"""What ASCII prints besides letters, digits, '_' and '-'."""
_FUNCTION_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(,[A-Za-z_][\w.:]*)*")
_MOST_NAMED = 3


@dataclass(frozen=True)
class Catalog:
    """A sound set of tools.

    Attributes:
        specs: the tools, in the order of their source.
        original_names: name to the name that its source gave, where they differ.
        returns: name to the JSON Schema of what the tool gives back, where the source says it (MCP's `outputSchema`,
            or the `return` of a function).
        comparators: `tool.param` to how an eval compares it, where the source says so (`comparator_keyword`).
        left_out: the tools of the source that can't be used, each with the reason.
        unread: its keys that have no meaning here, in one sentence; empty where there are none.
    """

    specs: tuple[ToolSpec, ...]
    original_names: Mapping[str, str] = field(default_factory=dict)
    returns: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    comparators: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = field(default=(), compare=False)
    unread: str = field(default="", compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the source is not in the catalogue, in sentences for its reader."""
        return (*self.left_out, *([self.unread] if self.unread else []))

    @cached_property
    def by_name(self) -> dict[str, ToolSpec]:
        """The tools by name."""
        return {spec.name: spec for spec in self.specs}

    @cached_property
    def safe_names(self) -> dict[str, str]:
        """The name that a source gave to its name here, where they differ."""
        return {source: name for name, source in self.original_names.items()}

    @cached_property
    def tools(self) -> tuple[FunctionTool, ...]:
        """The tools in OpenAI's wrapping, as records and chat templates hold them."""
        return tuple(FunctionTool(function=spec) for spec in self.specs)

    @cached_property
    def sha256(self) -> str:
        """Hash of the tools, in their order, and of their comparators; independent of the layout of the source."""
        tools = [spec.model_dump(mode="json") for spec in self.specs]
        return sha256_json({"tools": tools, "comparators": dict(self.comparators)} if self.comparators else tools)


def load_catalog(ref: str, *, skip_invalid: bool = False) -> Catalog:
    """The catalogue that `module:function[,function...]` or else a path names.

    Args:
        ref: the reference.
        skip_invalid: leave out tools that are not sound, each with a note.

    Raises:
        CatalogError: as `read_catalog` and `catalog_from_functions` say.
    """
    if _FUNCTION_REFERENCE.fullmatch(ref) and not Path(ref).exists():
        module, _, names = ref.partition(":")
        refs = [name if ":" in name else f"{module}:{name}" for name in names.split(",")]
        return catalog_from_functions(refs, skip_invalid=skip_invalid)
    return read_catalog(Path(ref), skip_invalid=skip_invalid)


def read_catalog(path: Path, *, skip_invalid: bool = False) -> Catalog:
    """The catalogue in a JSON file.

    Accepts OpenAI's `tools` (an array or a single tool, bare or wrapped as `{"type": "function", "function": ...}`) and
    older `functions`, an MCP `tools/list` result (`{"tools": [...]}`, its bare array, the JSON-RPC response around it,
    or an array of these: its pages), and the tools of Anthropic, Gemini and Bedrock as their APIs take them.

    Args:
        path: the file.
        skip_invalid: leave out tools that are not sound, each with a note.

    Raises:
        CatalogError: the file is missing or malformed, or a tool is not sound.
    """
    origin = f"tool catalogue {path}"
    try:
        document = read_json(path, "tool catalogue")
    except DataError as error:
        raise CatalogError(error.found, required=error.required, fix=error.fix) from None
    return catalog_from_document(document, origin, skip_invalid=skip_invalid)


def catalog_from_document(document: Any, origin: str, *, skip_invalid: bool = False) -> Catalog:
    """The catalogue in JSON values of one of the layouts that `read_catalog` accepts.

    Args:
        document: what the JSON says.
        origin: where it stands, for errors.
        skip_invalid: leave out tools that are not sound, each with a note.

    Raises:
        CatalogError: it is in no known layout, or a tool is not sound.
    """
    sources = [
        partial(read_tool, item, f"{origin}, tool {number}")
        for number, item in enumerate(listed_tools(document, origin), 1)
    ]
    return _catalog(sources, origin, skip_invalid=skip_invalid)


def catalog_from_tools(tools: Sequence[FunctionTool]) -> Catalog:
    """The catalogue that these records make. Raises `CatalogError` where they are not sound together."""
    specs = [tool.function for tool in tools]
    sources = [SourceTool("tools", spec.name, spec.description, spec.parameters, None, ()) for spec in specs]
    return _catalog([partial(_itself, source) for source in sources], "tools")


def catalog_from_functions(refs: Sequence[str], *, skip_invalid: bool = False) -> Catalog:
    """The catalogue of Python functions, each `module:function`; modules in the current directory are found too.

    Types come from the annotations, descriptions from a Google-style docstring, as `transformers.utils.get_json_schema`
    reads them. An optional type becomes a JSON Schema type with `null`, and `**options` further arguments of its type.

    Args:
        refs: the functions.
        skip_invalid: leave out functions that can't be described, each with a note.

    Raises:
        CatalogError: a function can't be imported or described.
    """
    functions = [(ref, import_function(ref, CatalogError)) for ref in refs]

    def described(ref: str, function: Callable[..., Any]) -> SourceTool:
        return read_tool(describe_function(function, ref), f"function {ref}")

    sources = [partial(described, ref, function) for ref, function in functions]
    return _catalog(sources, f"functions {', '.join(refs)}", skip_invalid=skip_invalid)


def safe_name(name: str) -> str:
    """A tool's name as every chat template and API takes it: letters, digits, '_' and '-', at most 64 of them.

    Other signs that ASCII prints become '_'; a longer name is cut and ends in digits that are the name's own. A name of
    other signs still can't be called.
    """
    if len(name) > _LONGEST_NAME:
        digits = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_NAME_DIGITS]
        name = f"{name[: _LONGEST_NAME - _NAME_DIGITS - 1]}_{digits}"
    return _UNSAFE.sub("_", name)


def with_safe_names(key: str, safe_names: Mapping[str, str]) -> str:
    """A key that begins with a tool's name and a dot, with the tool's name in the catalogue.

    Args:
        key: such as `tool.param`; the tool's original name may hold dots too.
        safe_names: original to safe names.
    """
    tool = max((name for name in safe_names if key.startswith(f"{name}.")), key=len, default=None)
    return key if tool is None else safe_names[tool] + key[len(tool) :]


class _Builder:
    """Takes tools one by one into a catalogue, after the checks that concern each and its predecessors."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._sources: dict[str, str] = {}
        self.specs: list[ToolSpec] = []
        self.returns: dict[str, dict[str, Any]] = {}
        self.comparators: dict[str, str] = {}
        self.unread: defaultdict[str, list[str]] = defaultdict(list)
        """Keys without a meaning, each with the tools that have it."""

    @property
    def original_names(self) -> dict[str, str]:
        """Name to the name in the source, where they differ."""
        return {name: source for name, source in self._sources.items() if name != source}

    def add(self, tool: SourceTool) -> None:
        """Take a tool. Raises `CatalogError` where it is not sound, or has the name of an earlier one."""
        name = safe_name(tool.name)
        if not _NAME.fullmatch(name):
            raise CatalogError(
                f"{tool.where}: the name can't be called",
                required="letters, digits, '_', '-' (and other signs of ASCII, such as '.' and '/', which become '_')",
                fix="rename the tool",
            )
        if name in self._sources:
            first = self._sources[name]
            raise CatalogError(
                f"{self._origin}: two tools are called {tool.name!r}"
                if first == tool.name
                else f"{self._origin}: {first!r} and {tool.name!r} are both called {name!r} once their names are made "
                "of letters, digits, '_' and '-' alone",
                required="unique names",
                fix="rename one",
            )
        spec = ToolSpec(name=name, description=tool.description, parameters=canonical_dialect(tool.parameters))
        problems = check_spec(spec)
        if problems:
            raise CatalogError(
                f"{self._origin}: the parameters of tool {tool.name!r} can't be used:\n  " + "\n  ".join(problems),
                required="a JSON Schema of the arguments object that is valid and refers only to itself",
                fix="correct the schema at the named place",
            )
        bare, comparators = split_comparators(spec, self._origin)
        self._sources[name] = tool.name
        self.specs.append(bare)
        self.comparators |= comparators
        if tool.returns is not None:
            self.returns[name] = tool.returns
        for key in tool.unread:
            self.unread[key].append(tool.name)


def _catalog(sources: Iterable[Callable[[], SourceTool]], origin: str, *, skip_invalid: bool = False) -> Catalog:
    """The catalogue of tools, each of which is read when it is asked for."""
    builder, left_out = _Builder(origin), []
    for read in sources:
        try:
            builder.add(read())
        except CatalogError as error:
            if not skip_invalid:
                raise
            left_out.append(f"left out, as it can't be used: {' '.join(error.found.split())}")
    if not builder.specs:
        raise CatalogError(
            "; ".join([f"{origin}: there is no tool", *left_out]), required="at least one tool", fix=f"give {LAYOUTS}"
        )
    keys = ", ".join(f"{key!r} ({_counted(names)})" for key, names in sorted(builder.unread.items()))
    return Catalog(
        tuple(builder.specs),
        builder.original_names,
        builder.returns,
        builder.comparators,
        tuple(left_out),
        f"{origin}: keys without a meaning here are not read: {keys}" if keys else "",
    )


def _counted(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)} tools"


def _itself(tool: SourceTool) -> SourceTool:
    return tool
