"""Gold cases from rows of OpenAI messages, as teams hold them for fine-tuning or have logged them.

A row's last assistant message is its gold answer, and what stands before it is asked. Whether a case wants a call is
what that message does; a text is not compared with any answer. How rows are laid out is known to
`conversations.source_formats`, and whether a case makes sense to `suites`.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fcdistill.errors import CatalogError, DataError
from fcdistill.records import EvalCase
from fcdistill.storage import StrictJsonError, describe_validation_error, loads_strict, sha256_json
from fcdistill.tools.catalog import Catalog, catalog_from_document
from fcdistill.traces.recorded_steps import Step, category_of, read_steps
from fcdistill.traces.source_formats import SourceError, read_conversations, read_rows

__all__ = ["MessageCases", "read_message_cases"]

_ID_DIGITS = 12


@dataclass(frozen=True)
class MessageCases:
    """The cases of a file.

    Attributes:
        cases: in the file's order.
        safe_names: original to safe name of tools that rows hold, where the two differ.
        left_out: tools of rows that can't be used, each with the reason and once.
    """

    cases: list[EvalCase]
    safe_names: dict[str, str]
    left_out: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What was inferred, in one sentence."""
        wanted = sum(case.behaviour == "call" for case in self.cases)
        return f"{wanted} of {len(self.cases)} cases want a call, {len(self.cases) - wanted} want none"


def read_message_cases(path: Path, catalog: Catalog | None, *, skip_invalid: bool = False) -> MessageCases:
    """The cases that a file's rows make.

    Args:
        path: JSONL or one JSON array of `{"messages": [...], "tools": [...]}`; an `id` is kept, and where there is none
            it is derived from what is asked, so that it outlives other rows and another gold answer.
        catalog: the tools of rows that hold none.
        skip_invalid: leave out tools of rows that can't be used.

    Raises:
        DataError: the file is missing or empty, or a row makes no case; it names the row.
    """
    cases: dict[str, EvalCase] = {}
    safe_names: dict[str, str] = {}
    left_out: dict[str, None] = {}
    times_asked: Counter[str] = Counter()
    for number, row in enumerate(read_rows(path, "cases"), 1):
        try:
            value = loads_strict(row) if isinstance(row, bytes) else row
            (conversation,) = read_conversations(value, "openai-messages")
            own = None
            if conversation.tools is not None:
                own = catalog_from_document(conversation.tools, "its tools", skip_invalid=skip_invalid)
            case = _case(read_steps(conversation, _tools(own, catalog)), own, _given_id(value))
            if case.id in cases and _given_id(value) is not None:
                raise SourceError(f"an earlier row has the id {case.id!r} too")
        except (StrictJsonError, SourceError) as error:
            raise _defect(path, number, str(error)) from None
        except CatalogError as error:
            raise _defect(path, number, error.found) from None
        except ValidationError as error:
            raise _defect(path, number, describe_validation_error(error)) from None
        times_asked[case.id] += 1
        if times_asked[case.id] > 1:
            case = case.model_copy(update={"id": f"{case.id}-{times_asked[case.id]}"})
        cases[case.id] = case
        if own is not None:
            safe_names |= own.safe_names
            left_out |= dict.fromkeys(own.left_out)
    return MessageCases(list(cases.values()), safe_names, tuple(left_out))


def _tools(own: Catalog | None, shared: Catalog | None) -> Catalog:
    found = own or shared
    if found is None:
        raise SourceError("it holds no tools and no catalogue was given")
    return found


def _case(steps: list[Step], own: Catalog | None, given_id: str | None) -> EvalCase:
    """The case that a row makes; `own` are the tools that it holds itself."""
    context, answer = _split(steps)
    messages = tuple(step.message for step in context)
    tools = None if own is None else own.tools
    asked = [[message.model_dump() for message in messages], [] if own is None else own.sha256]
    calls = answer.output.calls
    return EvalCase(
        id=given_id or f"row-{sha256_json(asked)[:_ID_DIGITS]}",
        messages=messages,
        tools=tools,
        behaviour="call" if calls else "no_call",
        expected=(calls,),
        category=category_of(calls),
    )


def _split(steps: list[Step]) -> tuple[list[Step], Step]:
    """What is asked, and the gold answer; results of the answer's own calls may follow it."""
    place = next((place for place in reversed(range(len(steps))) if steps[place].turn.role == "assistant"), None)
    if place is None:
        raise SourceError("it holds no assistant message, which would be the gold answer")
    after = {step.turn.role for step in steps[place + 1 :]} - {"tool"}
    if after:
        raise SourceError(f"its last message has role {after.pop()!r}: the gold answer to it is missing")
    for step in steps[: place + 1]:
        if step.output.errors:
            raise SourceError(f"message {step.number} holds a call that can't be read: {step.output.errors[0].detail}")
    answer = steps[place]
    if not answer.output.calls and not answer.output.text.strip():
        raise SourceError("its last assistant message is empty")
    return steps[:place], answer


def _given_id(row: Any) -> str | None:
    given = row.get("id")
    if given is None or (isinstance(given, str) and given):
        return given
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    raise SourceError(f"its id is {given!r}, neither a text nor a whole number")


def _defect(path: Path, number: int, found: str) -> DataError:
    return DataError(
        f"cases {path}, row {number}: {found}",
        required='{"messages": [..., the gold answer of the assistant], "tools": [...]}, or --tools for rows without',
        fix="correct that row, or leave it out",
    )
