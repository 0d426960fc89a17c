"""New names for tools and for the properties of their arguments, alike in schemas, calls and tool messages.

A renaming gives a tool's properties new names wherever they stand: one name is replaced by one other in `properties`,
`required`, `dependentRequired`, `$defs` and in pointers that lead through properties, and as a key of arguments and of
values in the schema. No new name occurs in the old text, so what is renamed alike on both sides stays equal or
different as it was, and a call breaks its tool's schema exactly where it did before. Values and descriptions are kept,
those that mention a tool included. Which traces are renamed is decided elsewhere (`augmentation`).

Masking of names: Hammer, section 3.2 (arXiv:2410.04587). A name that is masked must be told by the tool's description:
what has none keeps its name, since no reader could know what it means.
"""

import functools
import json
import random
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fcdistill.records import FunctionTool, Message, ToolCall, ToolSpec, Trace
from fcdistill.tools.declared_levels import Level, Levels
from fcdistill.tools.json_schema import dialect_of
from fcdistill.tools.refs import REFERENCE_KEYWORDS, fragment_step, fragment_steps
from fcdistill.tools.validation import check_spec

__all__ = ["Renaming", "draw_renaming", "property_names"]

_NAME_CHARACTERS = 7
_BY_PROPERTY = frozenset({"properties", "dependentRequired", "dependentSchemas", "dependencies"})
"""Keywords whose keys are names of properties."""
_VALUES = frozenset({"const", "default", "enum", "examples"})
"""Keywords that hold arguments, not schemas."""
_NAME_TESTS = frozenset({"patternProperties", "propertyNames"})


@dataclass(frozen=True)
class Renaming:
    """A one-to-one map of names; what it does not mention keeps its name."""

    tools: Mapping[str, str]
    properties: Mapping[str, Mapping[str, str]]
    """By the old name of the tool, old to new names of the properties of its arguments, at every depth."""

    @property
    def inverse(self) -> "Renaming":
        """The renaming that gives the old names back."""
        return Renaming(
            tools={new: old for old, new in self.tools.items()},
            properties={
                self.tools.get(tool, tool): {new: old for old, new in names.items()}
                for tool, names in self.properties.items()
            },
        )

    def spec(self, spec: ToolSpec) -> ToolSpec:
        """A tool under its new names."""
        names = self.properties.get(spec.name, {})
        return ToolSpec(
            name=self.tools.get(spec.name, spec.name),
            description=spec.description,
            parameters=_parameters_of(spec).renamed(names) if names else spec.parameters,
        )

    def call(self, call: ToolCall) -> ToolCall:
        """A call under its new names."""
        return ToolCall(
            name=self.tools.get(call.name, call.name),
            arguments=_with_keys(call.arguments, self.properties.get(call.name, {})),
        )

    def trace(self, trace: Trace) -> Trace:
        """A trace under its new names: its tools, its calls, and the tools that its results name."""
        return trace.model_copy(
            update={
                "messages": tuple(map(self._message, trace.messages)),
                "tools": tuple(FunctionTool(function=self.spec(spec)) for spec in trace.specs),
            }
        )

    def _message(self, message: Message) -> Message:
        changes: dict[str, Any] = {}
        if message.tool_calls:
            changes["tool_calls"] = tuple(
                call.model_copy(update={"function": self.call(call.function)}) for call in message.tool_calls
            )
        if message.role == "tool" and message.name is not None:
            changes["name"] = self.tools.get(message.name, message.name)
        return message.model_copy(update=changes)


def property_names(spec: ToolSpec) -> tuple[str, ...]:
    """All names of properties in a tool's schema that can be replaced, sorted.

    There are none where a schema tests names (`patternProperties`, `propertyNames`), has another base for its
    references somewhere inside, or is unsound: what it says of a new name need not be what it says of the old one.
    """
    return _parameters_of(spec).names


def draw_renaming(trace: Trace, key: str, *, with_properties: bool) -> Renaming:
    """Names without a meaning for all that a trace's tools describe.

    Lower-case ASCII letters and digits, a letter first: every template, parser and tokenizer keeps them as they are.
    They come from the key and the old name alone, so that traces which share a tool share its new names too, and occur
    nowhere in the trace.

    Args:
        trace: whose tools are renamed.
        key: another one gives other names.
        with_properties: also the properties whose every declaration has a description; those that a call of the trace
            also uses as free keys, where no schema declares them and their user chose them, keep their names.
    """
    text = trace.model_dump_json()
    taken: set[str] = set()
    tools: dict[str, str] = {}
    properties: dict[str, dict[str, str]] = {}
    for spec in trace.specs:
        generator = random.Random(f"{key} names {spec.name}")
        if spec.description.strip():
            tools[spec.name] = _new_name(generator, text, taken)
        if with_properties:
            parameters = _parameters_of(spec)
            names = {name: _new_name(generator, text, taken) for name in parameters.described}
            calls = [call for message in trace.messages for call in message.calls if call.name == spec.name]
            free = {name for call in calls for name in parameters.free_keys(call.arguments)}
            properties[spec.name] = {old: new for old, new in names.items() if old not in free}
    return Renaming(tools, properties)


def _new_name(generator: random.Random, text: str, taken: set[str]) -> str:
    while True:
        later = generator.choices(string.ascii_lowercase + string.digits, k=_NAME_CHARACTERS - 1)
        name = generator.choice(string.ascii_lowercase) + "".join(later)
        if name not in text and name not in taken:
            taken.add(name)
            return name


def _with_keys(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value with other keys in its objects."""
    if isinstance(value, dict):
        return {names.get(key, key): _with_keys(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_keys(each, names) for each in value]
    return value


def _parameters_of(spec: ToolSpec) -> "_Parameters":
    return _analysed(json.dumps(spec.parameters))


@functools.lru_cache(maxsize=1024)
def _analysed(parameters: str) -> "_Parameters":
    return _Parameters(json.loads(parameters))


class _Parameters:
    """Where names of properties stand in one tool's parameters."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._levels: Levels | None = None
        self._places: set[int] = set()
        """Identities of the dicts that are schemas, and not values or maps of schemas."""
        self.names: tuple[str, ...] = ()
        self.described: tuple[str, ...] = ()
        """Names that have a description wherever they are declared."""
        dialect = dialect_of(schema)
        if dialect is None or check_spec(ToolSpec(name="tool", parameters=schema)):
            return
        self._levels = Levels(dialect, schema)
        schemas = [leaf.schema for leaf in self._levels.root.reachable()]
        if any(_NAME_TESTS & each.keys() or (each is not schema and {"$id", "id"} & each.keys()) for each in schemas):
            return
        self._places = {id(each) for each in schemas}
        self.names = tuple(sorted({name for each in schemas for name in _own_names(each)}))
        declared = [item for each in schemas for item in each.get("properties", {}).items()]
        unclear = {name for name, each in declared if not _has_description(each)}
        self.described = tuple(sorted({name for name, _ in declared} - unclear))

    def renamed(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The schema under new names."""
        renamed: dict[str, Any] = self._renamed(self._schema, names)
        return renamed

    def _renamed(self, part: Any, names: Mapping[str, str]) -> Any:
        if isinstance(part, list):
            return [self._renamed(each, names) for each in part]
        if not isinstance(part, dict):
            return part
        if id(part) not in self._places:
            return {key: self._renamed(each, names) for key, each in part.items()}
        return {keyword: self._renamed_keyword(keyword, value, names) for keyword, value in part.items()}

    def _renamed_keyword(self, keyword: str, value: Any, names: Mapping[str, str]) -> Any:
        if keyword in _BY_PROPERTY:
            return {
                names.get(name, name): (
                    [names.get(other, other) for other in each]
                    if isinstance(each, list)
                    else self._renamed(each, names)
                )
                for name, each in value.items()
            }
        if keyword == "required":
            return [names.get(name, name) for name in value]
        if keyword in _VALUES:
            return _with_keys(value, names)
        if keyword in REFERENCE_KEYWORDS:
            return self._renamed_pointer(value, names)
        return self._renamed(value, names)

    def _renamed_pointer(self, reference: str, names: Mapping[str, str]) -> str:
        """A reference whose JSON pointer leads through renamed properties (RFC 6901; in a fragment, section 6).

        Only the whole document has a name, so that whatever stands before the pointer names the document.
        """
        document, _, pointer = reference.partition("#")
        if not pointer.startswith("/"):
            return reference
        steps = []
        part: Any = self._schema
        is_name = False
        for slash, step, key in fragment_steps(pointer):
            steps += [slash, fragment_step(names[key]) if is_name and key in names else step]
            is_name = id(part) in self._places and key in _BY_PROPERTY
            part = part[int(key)] if isinstance(part, list) else part[key]
        return f"{document}#{''.join(steps)}"

    def free_keys(self, arguments: dict[str, Any]) -> Iterator[str]:
        """Keys of the arguments that no schema declares at their place."""
        if self._levels is None:
            return
        pending: list[tuple[Any, Level | None]] = [(arguments, self._levels.at(self._levels.root))]
        while pending:
            value, level = pending.pop()
            children = []
            if isinstance(value, dict):
                yield from (name for name in value if level is None or name not in level.names)
                children = [(child, level.named(name)[1] if level else None) for name, child in value.items()]
            elif isinstance(value, list):
                children = [(child, level.item(index) if level else None) for index, child in enumerate(value)]
            pending += [(child, None if place is None else self._levels.at(place)) for child, place in children]


def _own_names(schema: Mapping[str, Any]) -> Iterator[str]:
    """Names of properties that a schema's own keywords mention."""
    yield from schema.get("required", ())
    for keyword in _BY_PROPERTY & schema.keys():
        for name, each in schema[keyword].items():
            yield name
            yield from each if isinstance(each, list) else ()


def _has_description(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(str(schema.get("description", "")).strip())
