"""What is known of a planned trace while it is being made."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fcdistill.backends.base import Completion, Request
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.generation.teacher.voting import VoteCount
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Check, Message, ToolCall

__all__ = ["Ask", "Draft", "ground"]


@dataclass
class Draft:
    """An item, and what its request, its answer and its checks are so far.

    Attributes:
        turns: of a conversation, what stands before the answer.
        tally: of several answers to the request, how many make the calls of `answer`.
    """

    item: PlanItem
    request: str = ""
    turns: list[Message] = field(default_factory=list)
    answer: Message = field(default_factory=lambda: Message(role="assistant"))
    checks: list[Check] = field(default_factory=list)
    tally: VoteCount | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def failed(self) -> Check | None:
        """The first check that failed, after which no other is made."""
        return next((check for check in self.checks if not check.ok), None)

    def count(self, completion: Completion) -> None:
        """Add the tokens of a completion."""
        self.prompt_tokens += completion.prompt_tokens or 0
        self.completion_tokens += completion.completion_tokens or 0


Ask = Callable[[Sequence[Draft], Sequence[Request]], Iterator[tuple[Draft, Completion]]]
"""Gives every draft its completion; one whose request failed gets a failed check and is left out."""


def ground(draft: Draft, calls: Sequence[ToolCall], verifier: Verifier) -> None:
    """Check the calls against the request; where they differ, try the calls that the request does ask for."""
    now = draft.item.now
    check = verifier.check_grounding(draft.request, calls, now)
    if not check.ok:
        repaired = verifier.repaired(draft.request, calls, now)
        if repaired is not None:
            draft.checks.append(Check(name="repair", ok=True, detail=check.detail))
            check, calls = Check(name="grounding", ok=True), repaired
    draft.checks.append(check)
    draft.answer = Message.calling([verifier.tidied(call) for call in calls])
