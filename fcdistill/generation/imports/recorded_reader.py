"""Rows of recorded sources as trace candidates, each answer with the verdict of the ladder for recorded answers.

`traces import` and the recorded source of a generation read their files here. How sources are laid out is known to
`source_formats`; what becomes of a candidate is not known here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fcdistill.config import PolicyName
from fcdistill.errors import CatalogError
from fcdistill.generation.imports.recorded_answer import RecordedAnswer, recorded_answers
from fcdistill.generation.plan.plan import calls_group
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Category, Check, Message, ModelRef, Trace, TraceMeta
from fcdistill.storage import StrictJsonError, loads_strict, sha256_json
from fcdistill.tools.catalog import Catalog, catalog_from_document
from fcdistill.tools.validation import CallValidator
from fcdistill.traces.recorded_steps import category_of
from fcdistill.traces.source_formats import SourceError, SourceFormat, format_of, read_conversations

__all__ = ["Candidate", "RecordedReader"]


@dataclass(frozen=True)
class Candidate:
    """A recorded answer, or a row that can't be read, as a trace with its checks.

    Attributes:
        trace: the last of its checks is the only one that may have failed.
        catalog: the tools that it shows; None where they can't be read.
    """

    trace: Trace
    catalog: Catalog | None


@dataclass
class RecordedReader:
    """Reads rows, and remembers what it left out.

    Attributes:
        source: what the traces name as theirs.
        catalog: the tools of rows that hold none.
        book: the values of the catalogue's arguments.
        source_format: how rows are laid out; None where each row tells by its keys.
        reads_tools: whether a row's own tools take the place of the catalogue.
        trust_no_call: keep answers without a call, which no check can prove right.
        skip_invalid: leave out tools of rows that can't be used.
        policy: how witnesses are combined.
        reports: texts after tool results that were read so far; they decide nothing, so they are no candidates.
        left_out: tools of rows that were left out so far, each with the reason and once.
    """

    source: Literal["import", "recorded"]
    catalog: Catalog | None
    book: ValueBook
    source_format: SourceFormat | None = None
    reads_tools: bool = True
    trust_no_call: bool = False
    skip_invalid: bool = False
    policy: PolicyName = "balanced"
    reports: int = 0
    left_out: dict[str, None] = field(default_factory=dict)
    _verifiers: dict[str, Verifier] = field(default_factory=dict)

    def read(self, identity: str, row: Any) -> list[Candidate]:
        """The candidates of a row, a JSON value or the bytes of one; their ids begin with `identity`."""
        check, source_format = "format", self.source_format
        try:
            value = loads_strict(row) if isinstance(row, bytes) else row
            source_format = source_format or format_of(value)
            conversations = read_conversations(value, source_format)
            check = "tools"
            answers = [
                answer
                for conversation in conversations
                for answer in recorded_answers(conversation, self._verifier(conversation.tools))
            ]
        except (StrictJsonError, SourceError) as error:
            return [self._unread(identity, row, check, str(error))]
        except CatalogError as error:
            return [self._unread(identity, row, check, error.found)]
        if not answers:
            return [self._unread(identity, row, "format", "the row records no answer of an assistant")]
        found = []
        for index, answer in enumerate(answers, 1):
            if answer.is_report:
                self.reports += 1
            else:
                name = identity if len(answers) == 1 else f"{identity}-{index}"
                found.append(self._candidate(answer, name, source_format))
        return found

    def _unread(self, identity: str, row: Any, check: str, detail: str) -> Candidate:
        """A row that can't be read as a conversation: its text stands in the place of an answer."""
        text = row.decode("utf-8", "replace") if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False)
        messages = [Message(role="user"), Message(role="assistant", content=text)]
        failed = Check(name=check, ok=False, detail=detail)
        return self._made(identity, messages, "", self.source_format, None, None, (failed,))

    def _verifier(self, tools: Any) -> Verifier:
        tools = tools if self.reads_tools else None
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

    def _candidate(self, answer: RecordedAnswer, identity: str, source_format: SourceFormat) -> Candidate:
        verdict = answer.judged(trust_no_call=self.trust_no_call)
        output = answer.step.output
        message = Message(role="assistant", content=answer.step.turn.text)
        if verdict.calls and not output.errors:
            message = Message.calling(verdict.calls, reasoning=output.thought)
        elif output.thought and output.text and not (output.calls or output.errors):
            message = Message(role="assistant", content=output.text, reasoning=output.thought)
        context = answer.context or [Message(role="user")]  # a trace has no fewer than two messages
        catalog, model = answer.verifier.catalog, answer.model
        return self._made(identity, [*context, message], model, source_format, answer.category, catalog, verdict.checks)

    def _made(
        self,
        identity: str,
        messages: Sequence[Message],
        model: str,
        source_format: SourceFormat | None,
        category: Category | None,
        catalog: Catalog | None,
        checks: tuple[Check, ...],
    ) -> Candidate:
        answer, known_as = messages[-1], source_format or "unknown"
        trace = Trace(
            id=identity,
            messages=tuple(messages),
            tools=catalog.tools if catalog is not None else (),
            split_group=calls_group(answer.calls) if answer.calls else f"{self.source}-{identity}",
            meta=TraceMeta(
                source=self.source,
                category=category or _category(answer),
                plan_cell=f"{self.source}/{known_as}",
                teacher=ModelRef(model=model or known_as),
                checks=checks,
            ),
        )
        return Candidate(trace, catalog)


def _category(answer: Message) -> Category:
    asks = not answer.tool_calls and answer.content.rstrip().endswith("?")
    return "clarify" if asks else category_of(answer.calls)
