"""The candidates of an import or a generation, each with planted errors beside it and what the words say of both.

Candidates are its traces with calls, and those rejects that nothing but words refused. What a model says of them, and
what becomes of them, is not known here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcdistill.config import CONTAMINATION_JACCARD, NEAR_DUPLICATE_JACCARD, PolicyName, Trust
from fcdistill.errors import DataError
from fcdistill.generation.dataset.trace_words import trace_words
from fcdistill.generation.verification.planted_errors import ErrorKind, Planter
from fcdistill.generation.verification.value_book import ValueBook, read_value_book
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.generation.verification.witnesses import WordEvidence
from fcdistill.records import Message, Reject, ToolCall, Trace
from fcdistill.storage import earlier_manifest, read_jsonl, sha256_json
from fcdistill.tools.catalog import catalog_from_tools
from fcdistill.tools.validation import CallValidator

__all__ = ["WORD_CHECK", "Domain", "Source", "Variant", "plant_errors", "read_domains", "read_source", "with_calls"]

WORD_CHECK = "grounding"
"""The check by which words refuse a candidate."""


@dataclass(frozen=True)
class Source:
    """What a directory of traces holds.

    Attributes:
        candidates: traces with calls, and what was refused by its words, in the order of the files.
        silent: traces without a call, of which no witness knows anything.
        rejects: those that failed another check.
        refused: ids of the candidates that were rejects.
        policy: by which its witnesses were combined.
        trust: whose answers it has.
        precision: that its configuration aims at.
        values: the team's values file, where there is one.
        decontaminate: eval cases that it was held against.
        near_duplicate_jaccard: as it was configured.
        contamination_jaccard: as it was configured.
    """

    candidates: Sequence[Trace]
    silent: Sequence[Trace]
    rejects: Sequence[Reject]
    refused: frozenset[str]
    policy: PolicyName
    trust: Trust
    precision: float
    values: Path | None
    decontaminate: tuple[Path, ...]
    near_duplicate_jaccard: float
    contamination_jaccard: float


@dataclass(frozen=True)
class Domain:
    """What knows the tools of a candidate: one for all candidates that show the same ones."""

    verifier: Verifier
    planter: Planter


@dataclass(frozen=True)
class Variant:
    """A candidate, or one with a planted error in its place.

    Attributes:
        trace: with the calls that are judged as its answer; a planted error has an id of its own.
        of: id of the candidate.
        kind: of the planted error; None for the candidate itself.
        words: what the words say.
    """

    trace: Trace
    of: str
    kind: ErrorKind | None
    words: WordEvidence


def read_source(directory: Path) -> Source:
    """Read what `traces import` or `generate` wrote.

    Raises:
        DataError: the directory is none of theirs, is unfinished, or has no candidate.
    """
    manifest = earlier_manifest(directory)
    if manifest is None or manifest.stage not in ("import", "generate") or manifest.status != "complete":
        found = "no run" if manifest is None else f"a run of stage {manifest.stage!r} that is {manifest.status}"
        raise DataError(
            f"directory {directory} holds {found}",
            required="a finished output directory of `traces import` or `generate`",
            fix="name one, or run the command again that makes it",
        )
    traces = read_jsonl(directory / "traces.jsonl", Trace, "traces file")
    rejects = read_jsonl(directory / "rejects.jsonl", Reject, "rejects file")
    refused = [each for each in rejects if each.check == WORD_CHECK and each.candidate.answer.calls]
    candidates = [*(trace for trace in traces if trace.answer.calls), *(each.candidate for each in refused)]
    if not candidates:
        raise DataError(
            f"directory {directory} has no trace with a call",
            required="traces with calls, or rejects that failed the check grounding",
            fix="name the directory of another import or generation",
        )
    config = manifest.config
    verification: Mapping[str, Any] = config.get("verification", config)
    ids = {each.id for each in refused}
    return Source(
        candidates=candidates,
        silent=[trace for trace in traces if not trace.answer.calls],
        rejects=[each for each in rejects if each.id not in ids],
        refused=frozenset(ids),
        policy=verification.get("policy", "strict"),
        trust=verification.get("trust", "production"),
        precision=verification.get("precision", 0.97),
        values=Path(config["values"]) if config.get("values") else None,
        decontaminate=tuple(map(Path, config.get("decontaminate", ()))),
        near_duplicate_jaccard=config.get("near_duplicate_jaccard", NEAR_DUPLICATE_JACCARD),
        contamination_jaccard=config.get("contamination_jaccard", CONTAMINATION_JACCARD),
    )


def read_domains(source: Source, *, seed: int) -> dict[str, Domain]:
    """What knows the tools of each candidate, by the candidate's id.

    Raises:
        CatalogError: tools are unusable.
        DataError: the values file is, or names tools that no candidate shows.
    """
    keys = {
        trace.id: sha256_json([tool.model_dump(mode="json") for tool in trace.tools]) for trace in source.candidates
    }
    shown = {tool.function.name: tool for trace in source.candidates for tool in trace.tools}
    book = ValueBook()
    if source.values is not None:
        book = read_value_book(source.values, catalog_from_tools(list(shown.values())))
    made: dict[str, Domain] = {}
    for trace in source.candidates:
        key = keys[trace.id]
        if key not in made:
            catalog = catalog_from_tools(trace.tools)
            validator = CallValidator(catalog.specs)
            answers = [other.answer.calls for other in source.candidates if keys[other.id] == key]
            planter = Planter(catalog, validator, answers, seed=seed)
            made[key] = Domain(Verifier(catalog, validator, book, source.policy), planter)
    return {trace.id: made[keys[trace.id]] for trace in source.candidates}


def plant_errors(source: Source, domains: Mapping[str, Domain]) -> list[Variant]:
    """Every candidate, each followed by an error of every kind that its answer can have."""
    variants = []
    for trace in source.candidates:
        domain = domains[trace.id]
        variants.append(Variant(trace, trace.id, None, trace_words(domain.verifier, trace)))
        for error in domain.planter.plant(trace.id, trace.answer.calls):
            wrong = with_calls(trace, error.calls, f"{trace.id}/{error.kind}")
            variants.append(Variant(wrong, trace.id, error.kind, trace_words(domain.verifier, trace, error.calls)))
    return variants


def with_calls(trace: Trace, calls: Sequence[ToolCall], identity: str) -> Trace:
    """The trace with other calls as its answer, under another id."""
    return trace.model_copy(update={"id": identity, "messages": (*trace.messages[:-1], Message.calling(list(calls)))})
