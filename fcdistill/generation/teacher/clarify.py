"""How requests that lack a value get the question that they deserve.

The teacher writes the question, and is asked again where it did not ask for what is missing. How it is asked is the
caller's affair.
"""

from collections.abc import Callable, Iterator, Sequence

from fcdistill.backends.base import Completion, Request
from fcdistill.generation.teacher.drafts import Draft
from fcdistill.generation.teacher.prompter import Prompter
from fcdistill.generation.verification.clarifying import Lacking
from fcdistill.generation.verification.ladder import clarify_question
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Message

__all__ = ["AskAgain", "ask_back"]

AskAgain = Callable[[Sequence[Draft], Sequence[Request], int], Iterator[tuple[Draft, Completion]]]
"""Gives every draft its completion in the try with this number, from 0 on; one whose request failed is left out."""

_TRIES = 4


def ask_back(drafts: Sequence[Draft], ask: AskAgain, prompter: Prompter, verifier: Verifier) -> None:
    """Every draft gets a question as its answer, and the verdict on it (check `question`).

    Args:
        drafts: with requests that lack a value; that of an item without `missing` is told from its words.
        ask: asks the teacher.
        prompter: says how.
        verifier: checks the questions.
    """
    lacking = {draft.item.id: _lacking(draft, verifier) for draft in drafts}
    left = list(drafts)
    for number in range(_TRIES):
        requests = [
            prompter.ask_back(
                f"{draft.item.id}/{number}" if number else draft.item.id, draft.request, lacking[draft.item.id]
            )
            for draft in left
        ]
        checks = {}
        for draft, completion in ask(left, requests, number):
            question = completion.said.strip()
            draft.answer = Message(role="assistant", content=question)
            checks[draft.item.id] = clarify_question(verifier, draft.request, question, lacking[draft.item.id])
        refused = [draft for draft in left if draft.item.id in checks and not checks[draft.item.id][-1].ok]
        is_last = number == _TRIES - 1
        for draft in left:
            if draft.item.id in checks and (is_last or draft not in refused):
                draft.checks += checks[draft.item.id]
        left = refused
        if not left:
            break


def _lacking(draft: Draft, verifier: Verifier) -> list[Lacking]:
    item = draft.item
    return [Lacking(item.calls[0].name, item.missing)] if item.missing else verifier.lacking(draft.request, item.now)
