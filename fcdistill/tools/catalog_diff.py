"""What became of a catalogue between two versions: tools and parameters added, removed, renamed, narrowed or changed.

A rename is found where one thing vanished, one appeared, and nothing but the name differs; where that is ambiguous
nothing is guessed, and the team names it. Whether recorded calls survive is asked elsewhere (`revalidation`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fcdistill.errors import ConfigError
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.storage import sha256_json
from fcdistill.tools.refs import read_schema

__all__ = ["CatalogChange", "ChangeKind", "Renames", "compare_catalogs", "parse_renames"]

ChangeKind = Literal["added", "removed", "renamed", "narrowed", "changed"]

_ANNOTATIONS = frozenset({"title", "description", "examples", "default", "$comment", "deprecated"})
"""Keywords that no argument can break."""

_TIGHTER_UPWARDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_TIGHTER_DOWNWARDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


@dataclass(frozen=True)
class Renames:
    """Old names to new ones.

    Attributes:
        tools: old tool name to new.
        parameters: (old tool name, old parameter) to new parameter.
    """

    tools: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def call(self, call: ToolCall) -> ToolCall:
        """The call by its new names."""
        names = {name: self.parameters.get((call.name, name), name) for name in call.arguments}
        return ToolCall(
            name=self.tools.get(call.name, call.name),
            arguments={names[name]: value for name, value in call.arguments.items()},
        )

    def comparator(self, key: str) -> str:
        """A comparator's key, `tool.parameter`, by its new names."""
        tool, dot, parameter = key.partition(".")
        return f"{self.tools.get(tool, tool)}{dot}{self.parameters.get((tool, parameter), parameter)}"


@dataclass(frozen=True)
class CatalogChange:
    """One difference between two catalogues.

    Attributes:
        kind: narrowed: valid arguments may have become invalid; changed: any other difference.
        tool: the tool's new name; its old one where it was removed.
        parameter: the parameter that differs; empty where the whole tool does.
        detail: what differs, for people.
    """

    kind: ChangeKind
    tool: str
    parameter: str = ""
    detail: str = ""


def compare_catalogs(
    old: Sequence[ToolSpec], new: Sequence[ToolSpec], given: Renames | None = None
) -> tuple[list[CatalogChange], Renames]:
    """The differences, in the new catalogue's order, then what was removed; and all renames.

    Args:
        old: the tools as they were.
        new: the tools as they are.
        given: renames that the team names; others are found.

    Raises:
        ConfigError: a given rename names something that neither catalogue has.
    """
    given = given or Renames()
    before, after = {spec.name: spec for spec in old}, {spec.name: spec for spec in new}
    _require_known(given, before, after)
    tools = _matches(before, after, given.tools, lambda name, specs: _identity(specs[name]))
    parameters: dict[tuple[str, str], str] = {}
    changes: list[CatalogChange] = []
    old_names = {new_name: old_name for old_name, new_name in tools.items()}
    for name, spec in after.items():
        if name not in old_names and name not in before:
            changes.append(CatalogChange("added", name))
            continue
        old_name = old_names.get(name, name)
        if old_name != name:
            changes.append(CatalogChange("renamed", name, detail=f"was {old_name}"))
        own = {old_key: target for (tool, old_key), target in given.parameters.items() if tool == old_name}
        found = _matches(_properties(before[old_name]), _properties(spec), own, _parameter_identity)
        parameters |= {(old_name, old_key): target for old_key, target in found.items()}
        changes += _parameter_changes(before[old_name], spec, found)
    changes += [CatalogChange("removed", name) for name in before if name not in after and name not in tools]
    return changes, Renames(tools, parameters)


def parse_renames(texts: Sequence[str]) -> Renames:
    """Renames as people write them: `old=new` for a tool, `tool.old=new` for a parameter of the tool's old name.

    Raises:
        ConfigError: a text has another form.
    """
    tools: dict[str, str] = {}
    parameters: dict[tuple[str, str], str] = {}
    for text in texts:
        old, equals, new = text.partition("=")
        tool, dot, parameter = old.partition(".")
        if not (tool and equals and new) or (dot and not parameter) or "." in new:
            raise ConfigError(
                f"rename {text!r} can't be read",
                required="old=new for a tool, tool.old=new for one of its parameters",
                fix="for example --rename set_lamp=set_light --rename set_lamp.place=room",
            )
        if dot:
            parameters[tool, parameter] = new
        else:
            tools[tool] = new
    return Renames(tools, parameters)


def _require_known(given: Renames, before: Mapping[str, ToolSpec], after: Mapping[str, ToolSpec]) -> None:
    for old, new in given.tools.items():
        for name, specs, which in ((old, before, "old"), (new, after, "new")):
            if name not in specs:
                raise ConfigError(
                    f"rename {old}={new}: the {which} catalogue has no tool {name}",
                    required=f"one of {', '.join(specs)}",
                    fix="correct the rename",
                )
    for (tool, parameter), new in given.parameters.items():
        spec = before.get(tool)
        if spec is None or parameter not in _properties(spec):
            raise ConfigError(
                f"rename {tool}.{parameter}={new}: the old catalogue has no such parameter",
                required="tool.parameter as they were before the change",
                fix="correct the rename",
            )


def _matches(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    given: Mapping[str, str],
    identity: Callable[[str, Mapping[str, Any]], str | None],
) -> dict[str, str]:
    """Old name to new name, for what is the same but for its name and has no rival; what is given comes first."""
    gone = [name for name in before if name not in after and name not in given]
    come = [name for name in after if name not in before and name not in given.values()]
    found = dict(given)
    for name in gone:
        own = identity(name, before)
        rivals = [other for other in gone if identity(other, before) == own]
        targets = [other for other in come if identity(other, after) == own]
        if own is not None and len(rivals) == len(targets) == 1:
            found[name] = targets[0]
    return found


def _identity(spec: ToolSpec) -> str | None:
    """What stays when a tool is renamed; None where too little is known to tell."""
    if not _properties(spec) and not spec.description:
        return None
    return sha256_json([_constraints(spec.parameters), spec.description])


def _parameter_identity(name: str, properties: Mapping[str, Any]) -> str | None:
    """Plain strings and numbers look alike: only a description or a choice of values tells them apart."""
    schema = properties[name]
    if not isinstance(schema, dict) or not (schema.get("description") or "enum" in schema):
        return None
    return sha256_json([_constraints(schema), schema.get("description", "")])


def _parameter_changes(old: ToolSpec, new: ToolSpec, renamed: Mapping[str, str]) -> Iterator[CatalogChange]:
    before = {renamed.get(name, name): (name, schema) for name, schema in _properties(old).items()}
    after = _properties(new)
    required_before = {renamed.get(name, name) for name in _root(old).get("required", ())}
    required = set(_root(new).get("required", ()))
    for name, schema in after.items():
        if name not in before:
            detail = "required" if name in required else "optional"
            yield CatalogChange("added", new.name, name, detail)
            continue
        old_name, old_schema = before[name]
        if old_name != name:
            yield CatalogChange("renamed", new.name, name, f"was {old_name}")
        narrowings = list(_narrowings(old_schema, schema))
        if name in required - required_before:
            narrowings.append("is required now")
        if narrowings:
            yield CatalogChange("narrowed", new.name, name, "; ".join(narrowings))
        elif _constraints(old_schema) != _constraints(schema):
            yield CatalogChange("changed", new.name, name)
    for name, (old_name, _) in before.items():
        if name not in after:
            yield CatalogChange("removed", new.name, old_name)
    rest = [{key: part for key, part in spec.parameters.items() if key not in ("properties", "required")}
            for spec in (old, new)]  # fmt: skip
    if _constraints(rest[0]) != _constraints(rest[1]):
        yield CatalogChange("changed", new.name, detail="its schema, beyond its parameters")


def _narrowings(old: Any, new: Any) -> Iterator[str]:
    """How a schema became stricter, where that can be read off; what can't is left to the calls themselves."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return
    if "enum" in new and "enum" not in old:
        yield "takes listed values only"
    elif "enum" in new:
        lost = [value for value in old["enum"] if value not in new["enum"]]
        if lost:
            yield f"lost {', '.join(map(repr, lost))}"
    types = [{found} if isinstance(found := schema.get("type"), str) else set(found or ()) for schema in (old, new)]
    if types[1] and (not types[0] or types[0] - types[1]):
        yield f"type {old.get('type', 'any')} became {new['type']}"
    for keywords, direction in ((_TIGHTER_UPWARDS, 1), (_TIGHTER_DOWNWARDS, -1)):
        for keyword in keywords:
            if keyword in new and (keyword not in old or direction * (new[keyword] - old[keyword]) > 0):
                yield f"{keyword} {old.get(keyword, 'none')} became {new[keyword]}"
    for keyword in ("pattern", "format", "const", "multipleOf", "uniqueItems"):
        if keyword in new and new[keyword] is not False and old.get(keyword) != new[keyword]:
            yield f"{keyword} is {new[keyword]!r} now"


def _root(spec: ToolSpec) -> dict[str, Any]:
    found = read_schema(spec.parameters, spec.parameters)
    return found if isinstance(found, dict) else {}


def _properties(spec: ToolSpec) -> dict[str, Any]:
    """The parameters' schemas by name, what references lead to taken in."""
    found = _root(spec).get("properties", {})
    return {name: read_schema(part, spec.parameters) for name, part in found.items()} if isinstance(found, dict) else {}


def _constraints(schema: Any) -> Any:
    """The schema without what no argument can break."""
    if isinstance(schema, dict):
        # Under `properties` the keys are names of parameters, which may read like keywords.
        return {
            key: {name: _constraints(part) for name, part in value.items()}
            if key in ("properties", "$defs", "definitions", "patternProperties") and isinstance(value, dict)
            else _constraints(value)
            for key, value in schema.items()
            if key not in _ANNOTATIONS
        }
    if isinstance(schema, list):
        return [_constraints(part) for part in schema]
    return schema
