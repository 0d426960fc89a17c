"""`fcdistill traces import`: conversations recorded elsewhere become traces, or rejects with a reason.

Every answer that a source records is a candidate, and passes the checks that a teacher's answer to a user's request
passes in a generation. Prose beside calls is dropped there and here. How rows are read is known to `recorded_reader`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcdistill.config import PolicyName, Trust
from fcdistill.errors import ConfigError
from fcdistill.generation.dataset.collection import Collection
from fcdistill.generation.dataset.dedupe import Contamination, NearDuplicates, request_key
from fcdistill.generation.dataset.turns import merge_groups, user_texts
from fcdistill.generation.imports.recorded_reader import Candidate, RecordedReader
from fcdistill.generation.verification.value_book import ValueBook, read_value_book
from fcdistill.records import EvalCase, Message, Reject, Trace
from fcdistill.storage import (
    RunDirectory,
    read_jsonl,
    sha256_json,
    write_jsonl,
)
from fcdistill.tools.catalog import Catalog
from fcdistill.traces.source_formats import SourceFormat, read_rows

__all__ = ["ImportCounts", "import_traces"]


@dataclass(frozen=True)
class ImportCounts:
    """What an import read and made.

    Attributes:
        rows: rows of the source.
        reports: texts after tool results; they report, and decide nothing, so they are no candidates.
        kept: traces.
        rejected: rejects by the check that failed.
        left_out: tools of rows that can't be used, each with the reason and once.
    """

    rows: int
    reports: int
    kept: int
    rejected: Mapping[str, int]
    left_out: tuple[str, ...] = ()


def import_traces(
    path: Path,
    source_format: SourceFormat,
    out: Path,
    *,
    catalog: Catalog | None = None,
    values: Path | None = None,
    decontaminate: Sequence[Path] = (),
    trust_no_call: bool = False,
    skip_invalid: bool = False,
    policy: PolicyName = "balanced",
    trust: Trust = "production",
) -> ImportCounts:
    """Read a source and write `traces.jsonl` and `rejects.jsonl`; running it again gives the same files.

    Args:
        path: JSONL, or one JSON array.
        source_format: how its rows are laid out.
        out: the directory to write.
        catalog: the tools of rows that hold none.
        values: the team's values file, for the catalogue.
        decontaminate: eval cases whose wording a trace's user may share in no turn.
        trust_no_call: keep answers without a call, which no check can prove right.
        skip_invalid: leave out tools of rows that can't be used; a row is a reject where none is left.
        policy: what is asked for where witnesses of an answer are combined.
        trust: whose answers these are; `traces judge` reads it.

    Raises:
        FcdistillError: a file can't be read as a whole, or the directory belongs to something else. Rows that can't be
            read are rejects.
    """
    if values is not None and catalog is None:
        raise ConfigError(
            "a values file is given without tools", required="the catalogue that it is for", fix="give --tools too"
        )
    book = read_value_book(values, catalog) if catalog is not None else ValueBook()
    cases = [case for each in decontaminate for case in read_jsonl(each, EvalCase, "eval cases")]
    rows = read_rows(path)
    config = {
        "file": str(path),
        "format": source_format,
        "catalog_sha256": catalog.sha256 if catalog is not None else None,
        "values": str(values) if values is not None else None,
        "decontaminate": [str(each) for each in decontaminate],
        "trust_no_call": trust_no_call,
        "skip_invalid": skip_invalid,
        "policy": policy,
        "trust": trust,
    }
    inputs = [each for each in (path, values, *decontaminate) if each is not None]
    with RunDirectory(out, stage="import", config=config, inputs=inputs) as run:
        collection = Collection((), Contamination(cases), NearDuplicates())
        reader = RecordedReader(
            "import",
            catalog,
            book,
            source_format,
            trust_no_call=trust_no_call,
            skip_invalid=skip_invalid,
            policy=policy,
        )
        importer = _Importer(collection)
        for number, row in enumerate(rows, 1):
            for candidate in reader.read(f"{path.stem}-{number}", row):
                importer.judge(candidate)
        write_jsonl(out / "traces.jsonl", importer.grouped())
        write_jsonl(out / "rejects.jsonl", importer.rejects)
        run.mark_complete()
    rejected = Counter(reject.check for reject in importer.rejects)
    return ImportCounts(
        len(rows), reader.reports, len(importer.kept), dict(rejected.most_common()), tuple(reader.left_out)
    )


@dataclass
class _Importer:
    """What one import has found so far."""

    collection: Collection
    kept: list[Trace] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def judge(self, candidate: Candidate) -> None:
        """Keep the candidate or reject it; of answers to one prompt, the first that passes stays."""
        trace = candidate.trace
        checks = trace.meta.checks
        if all(check.ok for check in checks):
            checks = (*checks, *self.collection.check(trace, _past(trace, candidate.catalog)))
        trace = trace.model_copy(update={"meta": trace.meta.model_copy(update={"checks": checks})})
        failed = next((check for check in checks if not check.ok), None)
        if failed is None:
            self.kept.append(trace)
        else:
            self.rejects.append(Reject(id=trace.id, check=failed.name, detail=failed.detail, candidate=trace))

    def grouped(self) -> Iterator[Trace]:
        """The traces; those that make the same calls or begin with the same request are in one split group."""
        yield from merge_groups(self.kept, lambda trace: [f"begins-{request_key(user_texts(trace)[0])}"])


def _past(trace: Trace, catalog: Catalog | None) -> str:
    """What two traces share whose answers have the same past: the words of the conversation, and the tools."""
    prompt = [_comparable(message) for message in trace.messages[:-1]]
    return sha256_json([prompt, catalog.sha256 if catalog is not None else None])


def _comparable(message: Message) -> list[Any]:
    """What two messages share that say the same: of a user's, the words."""
    content = request_key(message.content) if message.role == "user" else message.content
    return [message.role, content, [call.model_dump(mode="json") for call in message.calls]]
