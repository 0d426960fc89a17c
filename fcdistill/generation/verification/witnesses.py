"""What a witness says of a candidate: per argument whether it speaks for it or against it, and what makes it doubt.

Words are one witness. An open value (a number, a date, an id, a text) has to be stated, so that words speak against one
that is not. A closed value, one of a few that the schema lists, may be meant without being said ("let there be light"),
so that words which do not say it say nothing, unless they say another choice instead. A choice that is said for an
argument which no call gives is missing; whatever else a request says beyond the calls is a doubt, as a number may be
small talk. What follows from all this is decided elsewhere (`policy`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fcdistill.generation.verification.grounding import Grounding, doubts_of
from fcdistill.records import ToolCall
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import required_parameters, resolve_schema

__all__ = ["ArgumentEvidence", "Stance", "WordEvidence", "is_closed", "is_numeric", "schema_at", "word_evidence"]

Stance = Literal["for", "against", "nothing"]


@dataclass(frozen=True)
class ArgumentEvidence:
    """What the words of a conversation say of one argument, or of one part of it.

    Attributes:
        path: `tool.param`, or `tool.param.inner`.
        value: the argument's value, or that part of it.
        stance: what the words say.
        is_open: whether the value is one of infinitely many, which has to be stated.
        is_number: whether it is a number.
        call: index of the call.
        is_optional: whether the call might leave the argument out.
    """

    path: str
    value: Any
    stance: Stance
    is_open: bool
    is_number: bool
    call: int = 0
    is_optional: bool = False

    @property
    def told(self) -> str:
        """The argument as reasons name it."""
        return f"{self.path} = {self.value!r}"


@dataclass(frozen=True)
class WordEvidence:
    """What the words of a conversation say of an answer.

    Attributes:
        arguments: of all calls, in their order.
        missing: choices that the request says for a parameter which the called tool has and no call gives.
        doubts: what the request says and no argument holds, and what may belong to either of several calls.
        refusals: all that a reading refuses which takes every value for unsaid that no word says.
    """

    arguments: tuple[ArgumentEvidence, ...]
    missing: tuple[str, ...]
    doubts: tuple[str, ...]
    refusals: tuple[str, ...]

    def said(self, stance: Stance) -> list[ArgumentEvidence]:
        """The arguments of which the words say this."""
        return [argument for argument in self.arguments if argument.stance == stance]


def word_evidence(
    catalog: Catalog,
    calls: Sequence[ToolCall],
    sources: Grounding,
    uses: Grounding,
    *,
    refusals: Sequence[str],
    reads_language: bool,
) -> WordEvidence:
    """The evidence of words.

    Args:
        catalog: the tools.
        calls: the answer.
        sources: what of the calls nobody said, by whoever reads the language, or by digits and copies alone.
        uses: what of the request no call holds, by the same reader.
        refusals: see `WordEvidence`.
        reads_language: whether the words could be read, so that a value which they do not say is not said.
    """
    unsaid: dict[tuple[int, str], list[tuple[str, Any]]] = {}
    for index, path, value in sources.unsaid:
        unsaid.setdefault((index, path.split(".")[1]), []).append((path, value))
    # Of a choice, the request says another one, which no argument holds: then this one is not merely left unsaid.
    others = {path for path, _, _ in uses.choices}
    arguments: list[ArgumentEvidence] = []
    for index, call in enumerate(calls):
        for name, value in call.arguments.items():
            whole = f"{call.name}.{name}"
            for path, part in unsaid.get((index, name), [(whole, value)]):
                schema, root = schema_at(catalog, path)
                is_open = not is_closed(schema, root)
                stance: Stance = "for"
                if (index, name) in unsaid:
                    stance = (
                        "against" if (is_open and reads_language) or (not is_open and path in others) else "nothing"
                    )
                is_optional = name not in required_parameters(catalog.by_name[call.name])
                arguments.append(ArgumentEvidence(path, part, stance, is_open, is_numeric(part), index, is_optional))
    given = {f"{call.name}.{name}" for call in calls for name in call.arguments}
    left_out = [(path, form) for path, _, form in uses.choices if ".".join(path.split(".")[:2]) not in given]
    missing = dict.fromkeys(f"in no argument: {form!r} ({path})" for path, form in left_out)
    doubts = doubts_of(sources, uses)
    doubts += [f"the request mixes what belongs to different parts: {parts}" for parts in uses.mixed]
    return WordEvidence(
        arguments=tuple(arguments),
        missing=tuple(missing),
        doubts=tuple(doubt for doubt in dict.fromkeys(doubts) if doubt not in missing),
        refusals=tuple(refusals),
    )


def is_closed(schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether the schema lists the values: an enum, a constant, a boolean, or a list or an alternative of these."""
    schema = resolve_schema(schema, root)
    if "enum" in schema or "const" in schema or schema.get("type") in ("boolean", "null"):
        return True
    for alternatives in (schema.get("anyOf"), schema.get("oneOf")):
        if alternatives:
            return all(is_closed(each, root) for each in alternatives)
    return "items" in schema and is_closed(schema["items"], root)


def is_numeric(value: Any) -> bool:
    """Whether a value is a number, or made of nothing but numbers."""
    if isinstance(value, dict | list):
        parts = list(value.values()) if isinstance(value, dict) else value
        return bool(parts) and all(map(is_numeric, parts))
    return isinstance(value, int | float) and not isinstance(value, bool)


def schema_at(catalog: Catalog, path: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The schema of `tool.param` or `tool.param.inner`, and the one in which its references are found.

    Items of a list have their list's path.
    """
    tool, *names = path.split(".")
    root = catalog.by_name[tool].parameters
    schema: Mapping[str, Any] = resolve_schema(root, root)
    for name in names:
        schema = next((found for found in _properties(schema, root, name)), {})
    return schema, root


def _properties(schema: Mapping[str, Any], root: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    schema = resolve_schema(schema, root)
    if name in schema.get("properties", {}):
        yield resolve_schema(schema["properties"][name], root)
    for part in (schema.get("items"), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        if isinstance(part, dict):
            yield from _properties(part, root, name)
