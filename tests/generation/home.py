"""The smart_home domain as the tests of `fcdistill.generation` share it, and a writer that says every fact."""

import functools
from datetime import UTC, datetime
from typing import Any

from fcdistill.backends.base import Request
from fcdistill.generation.verification.value_book import ValueBook, read_value_book
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import FunctionTool, ToolSpec
from fcdistill.tools.catalog import Catalog, catalog_from_tools, load_catalog
from fcdistill.tools.validation import CallValidator
from tests.paths import ROOT

TOOLS = ROOT / "schemas" / "smart_home.json"
VALUES = ROOT / "data" / "values" / "smart_home.json"
EXAMPLES = ROOT / "data" / "examples" / "smart_home.jsonl"
NOW = datetime(2027, 5, 2, 9, 15, tzinfo=UTC)
"""A Sunday."""


@functools.cache
def catalog() -> Catalog:
    return load_catalog(str(TOOLS))


@functools.cache
def book() -> ValueBook:
    return read_value_book(VALUES, catalog())


@functools.cache
def validator() -> CallValidator:
    return CallValidator(catalog().specs)


@functools.cache
def verifier() -> Verifier:
    return Verifier(catalog(), validator(), book())


def tool(name: str, properties: dict[str, Any], required: tuple[str, ...] = (), **schema: Any) -> ToolSpec:
    parameters = {"type": "object", "properties": properties, "required": list(required), **schema}
    return ToolSpec(name=name, description=f"Does {name}.", parameters=parameters)


def catalog_of(*specs: ToolSpec) -> Catalog:
    return catalog_from_tools([FunctionTool(function=spec) for spec in specs])


def letters(text: str) -> str:
    """A word without digits that is different for different ids."""
    return "z" + "".join(chr(ord("a") + int(digit)) for digit in text if digit.isdigit())


def write_faithfully(request: Request) -> str:
    """What a perfect teacher answers to the prompts of `Prompter`: every fact, the id as a word, or a question."""
    asked = request.messages[-1].content
    if asked.startswith("Request: "):
        return f"Which {asked.partition('Missing: ')[2] or 'one'} do you mean, and when?"
    if asked.startswith("Topic: "):
        return f"tell me about {asked.splitlines()[0].removeprefix('Topic: ')} {letters(request.id)}"
    facts = asked.split("\nFacts: ")[1].split("\nStyle: ")[0]
    said = [fact.partition(": ")[2] for call in facts.split(" / ") for fact in call.split("; ")]
    return f"please {letters(request.id)} {' and then '.join(text for text in said if text)}".strip()
