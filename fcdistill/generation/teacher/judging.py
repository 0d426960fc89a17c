"""A second model as the judge of a disputed answer: what it is asked, and how its verdict is read.

It sees the request, the tools and the candidates, and neither who made them nor how many: a candidate that it picks by
itself has two witnesses. It answers with one of a closed list; whatever else it says is no verdict.
"""

import json
import random
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from fcdistill.backends.base import Backend, Completion, Request, complete_all
from fcdistill.config import DecodeSettings
from fcdistill.records import Check, Message, ToolCall, ToolSpec

__all__ = ["Dispute", "settle"]

_INSTRUCTIONS = (
    "An assistant can call functions. You get a request of its user and candidate answers, each with a letter. An "
    "answer is right where it makes exactly the calls that the request asks for: every value as the request says it, "
    "no value that the request does not say, and no call where no function serves. Reply with one line: the letter of "
    "the right candidate, or none, then a colon and the reason in a few words."
)
_NONE = "none"
_VERDICT = re.compile(rf"([A-Z]|{_NONE}) ?: *(\S.*)")
_MOST_CANDIDATES = 6
_MOST_TOKENS = 96
_LONGEST_QUOTE = 200

Calls = tuple[ToolCall, ...]


@dataclass(frozen=True)
class Dispute:
    """An answer that is in doubt.

    Attributes:
        id: names it, and orders its candidates.
        context: what the request comes with, such as the current time.
        request: the user's text.
        calls: the answer; none is an answer too.
        others: what other answers call, the most frequent first.
        doubt: the check that the answer failed.
    """

    id: str
    context: str
    request: str
    calls: Calls
    others: tuple[Calls, ...]
    doubt: Check

    @property
    def candidates(self) -> list[Calls]:
        """The answer among the others, at a place that tells nothing."""
        listed = [self.calls, *self.others[: _MOST_CANDIDATES - 1]]
        random.Random(self.id).shuffle(listed)
        return listed


def settle(judge: Backend, disputes: Sequence[Dispute], specs: Sequence[ToolSpec], *, seed: int) -> dict[str, Check]:
    """The check `judge` for each dispute, by its id: passed where the judge picks the answer that is in doubt.

    Raises:
        BackendError: the judge stopped answering.
    """
    settings = DecodeSettings(max_new_tokens=_MOST_TOKENS, seed=seed)
    completions = complete_all(judge, [_question(dispute, specs) for dispute in disputes], settings)
    return {
        dispute.id: _verdict(dispute, completion, judge.ref.model)
        for dispute, completion in zip(disputes, completions, strict=True)
    }


def _question(dispute: Dispute, specs: Sequence[ToolSpec]) -> Request:
    # The tools as text: as tools of the request they would be there to be called.
    tools = "\n".join(json.dumps(spec.model_dump(mode="json"), ensure_ascii=False) for spec in specs)
    lines = [f"Context: {dispute.context}"] if dispute.context else []
    lines.append(f"Request: {dispute.request}")
    candidates = dispute.candidates
    lines += [f"{letter}: {_told(calls)}" for letter, calls in zip(string.ascii_uppercase, candidates, strict=False)]
    lines.append(
        f"Reply with {', '.join(string.ascii_uppercase[: len(candidates)])} or {_NONE}, a colon and the reason."
    )
    return Request(
        id=dispute.id,
        messages=(
            Message(role="system", content=f"{_INSTRUCTIONS}\n\nFunctions:\n{tools}"),
            Message(role="user", content="\n".join(lines)),
        ),
    )


def _verdict(dispute: Dispute, completion: Completion, judge: str) -> Check:
    ok = False
    if completion.error is not None:
        said = f"{judge} gave no verdict: {completion.error}"
    else:
        found = _VERDICT.fullmatch(completion.said.strip())
        picked = _picked(found[1], dispute.candidates) if found else None
        if found is None or picked is None and found[1] != _NONE:
            said = f"{judge} gave no readable verdict: {completion.said.strip()[:_LONGEST_QUOTE]!r}"
        else:
            ok = picked == dispute.calls
            choice = "these calls" if ok else _NONE if picked is None else _told(picked)
            said = f"{judge} picks {choice}: {found[2][:_LONGEST_QUOTE]}"
    return Check(name="judge", ok=ok, detail=f"{dispute.doubt.name}: {dispute.doubt.detail}; {said}")


def _picked(letter: str, candidates: Sequence[Calls]) -> Calls | None:
    index = string.ascii_uppercase.find(letter)
    return candidates[index] if 0 <= index < len(candidates) else None


def _told(calls: Calls) -> str:
    return json.dumps([call.model_dump(mode="json") for call in calls], ensure_ascii=False) if calls else "no call"
