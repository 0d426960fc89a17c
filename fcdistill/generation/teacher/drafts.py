"""What is known of a planned trace while it is being made."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fcdistill.backends.base import Completion, Request
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.generation.teacher.voting import VoteCount
from fcdistill.records import Check, Message

__all__ = ["Ask", "Draft"]


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
