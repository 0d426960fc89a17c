"""`fcdistill traces import`: conversations recorded elsewhere become traces, or rejects with a reason.

Every answer that a source records is a candidate, and passes the checks that a teacher's answer to a user's request
passes in a generation. Prose beside calls is dropped there and here. How sources are laid out is known to
`source_formats`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcdistill.config import PolicyName, Trust
from fcdistill.errors import CatalogError, ConfigError
from fcdistill.generation.dataset.collection import Collection
from fcdistill.generation.dataset.dedupe import Contamination, NearDuplicates, request_key
from fcdistill.generation.dataset.turns import merge_groups, user_texts
from fcdistill.generation.imports.recorded_answer import RecordedAnswer, recorded_answers
from fcdistill.generation.plan.plan import calls_group
from fcdistill.generation.verification.value_book import ValueBook, read_value_book
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Category, Check, EvalCase, Message, ModelRef, Reject, Trace, TraceMeta
from fcdistill.storage import (
    RunDirectory,
    StrictJsonError,
    loads_strict,
    read_jsonl,
    sha256_json,
    write_jsonl,
)
from fcdistill.tools.catalog import Catalog, catalog_from_document
from fcdistill.tools.validation import CallValidator
from fcdistill.traces.recorded_steps import category_of
from fcdistill.traces.source_formats import SourceError, SourceFormat, read_conversations, read_rows

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
        importer = _Importer(path.stem, source_format, catalog, book, collection, trust_no_call, skip_invalid, policy)
        for number, row in enumerate(rows, 1):
            importer.add(number, row)
        write_jsonl(out / "traces.jsonl", importer.grouped())
        write_jsonl(out / "rejects.jsonl", importer.rejects)
        run.mark_complete()
    rejected = Counter(reject.check for reject in importer.rejects)
    return ImportCounts(
        len(rows), importer.reports, len(importer.kept), dict(rejected.most_common()), tuple(importer.left_out)
    )


@dataclass
class _Importer:
    """What one import has found so far."""

    stem: str
    source_format: SourceFormat
    catalog: Catalog | None
    book: ValueBook
    collection: Collection
    trust_no_call: bool
    skip_invalid: bool
    policy: PolicyName
    kept: list[Trace] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    reports: int = 0
    left_out: dict[str, None] = field(default_factory=dict)
    _verifiers: dict[str, Verifier] = field(default_factory=dict)

    def add(self, number: int, row: Any) -> None:
        """Take a row's candidates."""
        identity = f"{self.stem}-{number}"
        check = "format"
        try:
            conversations = read_conversations(loads_strict(row) if isinstance(row, bytes) else row, self.source_format)
            check = "tools"
            answers = [
                answer
                for conversation in conversations
                for answer in recorded_answers(conversation, self._verifier(conversation.tools))
            ]
        except (StrictJsonError, SourceError) as error:
            return self._reject_row(identity, row, check, str(error))
        except CatalogError as error:
            return self._reject_row(identity, row, check, error.found)
        if not answers:
            return self._reject_row(identity, row, "format", "the row records no answer of an assistant")
        for index, answer in enumerate(answers, 1):
            if answer.is_report:
                self.reports += 1
            else:
                self._take(answer, identity if len(answers) == 1 else f"{identity}-{index}")

    def _reject_row(self, identity: str, row: Any, check: str, detail: str) -> None:
        """A row that can't be read as a conversation: its text stands in the place of an answer."""
        text = row.decode("utf-8", "replace") if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False)
        verdict = Check(name=check, ok=False, detail=detail)
        self._judge(identity, [Message(role="user"), Message(role="assistant", content=text)], "", None, (verdict,))

    def _verifier(self, tools: Any) -> Verifier:
        if tools is None and self.catalog is None:
            raise SourceError("the row holds no tools, and no --tools are given")
        key = sha256_json(tools)
        if key not in self._verifiers:
            catalog = (
                self.catalog
                if tools is None
                else catalog_from_document(tools, "a row's tools", skip_invalid=self.skip_invalid)
            )
            assert catalog is not None
            self.left_out |= dict.fromkeys(catalog.left_out if tools is not None else ())
            self._verifiers[key] = Verifier(catalog, CallValidator(catalog.specs), self.book, self.policy)
        return self._verifiers[key]

    def _take(self, answer: RecordedAnswer, identity: str) -> None:
        verdict = answer.judged(trust_no_call=self.trust_no_call)
        message = Message(role="assistant", content=answer.step.turn.text)
        if verdict.calls and not answer.step.output.errors:
            message = Message.calling(verdict.calls)
        context = answer.context or [Message(role="user")]  # a trace has no fewer than two messages
        self._judge(identity, [*context, message], answer.model, answer.verifier.catalog, verdict.checks)

    def _judge(
        self, identity: str, messages: Sequence[Message], model: str, catalog: Catalog | None, checks: tuple[Check, ...]
    ) -> None:
        """Keep the candidate or reject it; of answers to one prompt, the first that passes stays."""
        answer = messages[-1]
        trace = Trace(
            id=identity,
            messages=tuple(messages),
            tools=catalog.tools if catalog is not None else (),
            split_group=calls_group(answer.calls) if answer.calls else f"import-{identity}",
            meta=TraceMeta(
                source="import",
                category=_category(answer),
                plan_cell=f"import/{self.source_format}",
                teacher=ModelRef(model=model or self.source_format),
            ),
        )
        if all(check.ok for check in checks):
            checks = (*checks, *self.collection.check(trace, _past(trace, catalog)))
        trace = trace.model_copy(update={"meta": trace.meta.model_copy(update={"checks": checks})})
        failed = next((check for check in checks if not check.ok), None)
        if failed is None:
            self.kept.append(trace)
        else:
            self.rejects.append(Reject(id=identity, check=failed.name, detail=failed.detail, candidate=trace))

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


def _category(answer: Message) -> Category:
    asks = not answer.tool_calls and answer.content.rstrip().endswith("?")
    return "clarify" if asks else category_of(answer.calls)
