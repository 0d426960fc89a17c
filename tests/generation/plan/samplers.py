"""A sampler of one tool's arguments."""

from typing import Any

from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.verification.value_book import ValueBook, ValueEntry
from fcdistill.records import ToolSpec
from fcdistill.tools.validation import CallValidator
from tests.generation.home import NOW


def sampler_of(
    spec: ToolSpec, entries: dict[str, tuple[ValueEntry, ...]] | None = None, **options: Any
) -> ArgumentSampler:
    return ArgumentSampler(
        CallValidator([spec]), ValueBook(entries or {}), seed=options.get("seed", 0), now=options.get("now", NOW)
    )
