"""An answer within the conversation that records it: what came before it, and the verdict that needs to know that.

An answer may be one step of several for a request: its values may stem from results before it, and what the request
says may reach a call before or after it. Nothing here knows how sources are laid out, or what becomes of the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fcdistill.generation.plan.plan import time_of_context
from fcdistill.generation.verification.ladder import Verdict, imported_answer
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Category, Message, ToolCall
from fcdistill.traces.recorded_steps import Step, read_steps
from fcdistill.traces.source_formats import Conversation

__all__ = ["RecordedAnswer", "recorded_answers"]


@dataclass(frozen=True)
class RecordedAnswer:
    """The answer that stands at `index` of a conversation's steps, with what its author says of the request."""

    steps: Sequence[Step]
    index: int
    verifier: Verifier
    model: str
    category: Category | None = None

    @property
    def step(self) -> Step:
        """The answer's own step."""
        return self.steps[self.index]

    @property
    def context(self) -> list[Message]:
        """The messages before the answer."""
        return [step.message for step in self.steps[: self.index]]

    @property
    def is_report(self) -> bool:
        """Whether the answer only tells in words what calls before it gave."""
        output = self.step.output
        is_text = bool(output.text) and not output.calls and not output.errors
        return is_text and self.index > 0 and self.steps[self.index - 1].turn.role == "tool"

    def judged(self, *, trust_no_call: bool) -> Verdict:
        """What the ladder of imported answers says of this one.

        The request is the user's last turn before it. System turns are not searched for values, since long instructions
        would say nearly any; a current time in the form that generation writes is known from them.

        Args:
            trust_no_call: let it pass without a call, which no check can prove right.
        """
        before, place = self.steps[: self.index], self._request
        systems = [step.turn.text for step in before if step.turn.role == "system"]
        return imported_answer(
            self.verifier,
            self.step.output,
            context_problem=self._context_problem(),
            said="\n".join(_prose(step) for step in before if step.turn.role != "system"),
            request=self.steps[place].turn.text if place is not None else "",
            others=self._calls_of_other_steps(place) if place is not None else [],
            now=time_of_context(systems[0]) if systems else None,
            category=self.category,
            trust_no_call=trust_no_call,
        )

    def _context_problem(self) -> str:
        """Why what came before can't stand in a trace; empty where it can."""
        if self._request is None:
            return "no user speaks before the answer"
        for step in self.steps[: self.index]:
            if step.output.errors:
                return f"turn {step.number}, before the answer, can't be read: {step.output.errors[0].detail}"
        return ""

    @cached_property
    def _request(self) -> int | None:
        """The place of the user's last turn before the answer."""
        return next((place for place in range(self.index - 1, -1, -1) if self.steps[place].turn.role == "user"), None)

    def _calls_of_other_steps(self, request: int) -> list[ToolCall]:
        found: list[ToolCall] = []
        for place in range(request + 1, len(self.steps)):
            if self.steps[place].turn.role == "user":
                break
            if place != self.index:
                found += self.steps[place].output.calls
        return found


def recorded_answers(conversation: Conversation, verifier: Verifier) -> list[RecordedAnswer]:
    """The answers that a conversation records, in their order."""
    steps = read_steps(conversation, verifier.catalog)
    return [
        RecordedAnswer(steps, index, verifier, conversation.model, conversation.category)
        for index, step in enumerate(steps)
        if step.turn.role == "assistant" and step.turn.recorded
    ]


def _prose(step: Step) -> str:
    return step.output.text if step.turn.role == "assistant" else step.turn.text
