"""From what witnesses say to keep or reject, by one of three named policies, with a reason that a person can act on.

`strict` refuses whatever the words of the request do not bear out, in both directions. `balanced` asks for words where
a value has to be stated, and takes an independent answer for the rest: one that was not made from the same calls as
the request was, such as a recorded one, or one that agrees. Without one it is `strict`. `trusting` refuses only numbers
that nobody said. Hard checks (a call can be read, and fits its schema) are no policy's affair.

`PRIOR_ERROR_RATE` says how many answers of a source are wrong before any witness is heard.
"""

from dataclasses import dataclass

from fcdistill.config import PolicyName, Trust
from fcdistill.generation.verification.witnesses import Stance, WordEvidence

__all__ = ["PRIOR_ERROR_RATE", "Decision", "decide"]

PRIOR_ERROR_RATE: dict[Trust, float] = {"hand_written": 0.02, "production": 0.05, "teacher": 0.15}
"""Share of wrong answers among those that pass the hard checks, before any witness is heard.

Assumptions, on the careful side: answers that people wrote and read again; what a system in use did, as logged; what a
large teacher answered, which nobody read.
"""


@dataclass(frozen=True)
class Decision:
    """What a policy decides of a candidate.

    Attributes:
        keep: whether it stays.
        detail: why it does not, or on whose word it stays in spite of the words of the request; empty where all words
            bear it out.
    """

    keep: bool
    detail: str = ""


def decide(policy: PolicyName, words: WordEvidence, *, independent: bool, model: Stance = "nothing") -> Decision:
    """Combine what witnesses say of an answer that has passed the hard checks.

    Args:
        policy: how much is asked for.
        words: what the words of the conversation say.
        independent: whether the answer was made, or found again, by somebody who saw the request and not these calls.
        model: what a model says that learned other answers, a judge, or a second teacher.
    """
    if policy == "strict" or policy == "balanced" and not independent:
        return Decision(not words.refusals, "; ".join(words.refusals))
    if policy == "trusting":
        numbers = [each.told for each in words.said("against") if each.is_number and each.is_open]
        return Decision(not numbers, "; ".join(f"not in the request: {told}" for told in numbers))
    if model == "against":
        return Decision(False, "; ".join(("a model that learned the other answers expects another", *words.refusals)))
    lacking = [] if model == "for" else _not_borne_out(words)
    if lacking:
        return Decision(False, "; ".join(lacking))
    unsaid = [f"not said: {each.told}" for each in words.arguments if each.stance != "for"]
    overlooked = [*unsaid, *(words.missing if model == "for" else ()), *words.doubts]
    witness = "a model that learned the other answers" if model == "for" else "an independent answer"
    return Decision(True, f"kept on the word of {witness}: {'; '.join(overlooked)}" if overlooked else "")


def _not_borne_out(words: WordEvidence) -> list[str]:
    """Values that need words and have none, or that words contradict, and those that are said and not given."""
    found = []
    for each in words.arguments:
        if each.stance == "against":
            reason = "not in the request" if each.is_open else "not in the request, which says another choice"
            found.append(f"{reason}: {each.told}")
        elif each.stance == "nothing" and each.is_open:
            found.append(f"not in the request as digits or as a copy, and its language is not known: {each.told}")
    return [*found, *words.missing]
