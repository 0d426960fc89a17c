"""How models mark what they think, apart from what they answer.

A call that is drafted in a thought is no call, and a question there is no question. Some chat templates open the
thought at the end of the prompt, so that an answer begins inside of it and holds the closing mark alone.

Source: the reasoning parsers of vLLM and SGLang, and the models' chat templates.
"""

import re
from dataclasses import dataclass

__all__ = [
    "Apart",
    "OPENINGS",
    "THOUGHT_MARKS",
    "closing_before",
    "set_thought_apart",
    "thought_mark",
    "thought_marks",
    "thought_text",
]

OPENINGS: dict[str, str] = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought\n": "<channel|>",
    "<|channel>thought": "<channel|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "◁think▷": "◁/think▷",
}
"""What opens a thought, and what closes it."""

_OPENINGS = tuple(sorted(OPENINGS, key=len, reverse=True))
_CLOSINGS = tuple(dict.fromkeys(OPENINGS.values()))
THOUGHT_MARKS = tuple(sorted({*OPENINGS, *_CLOSINGS}, key=len, reverse=True))
"""Whatever opens or closes a thought, the longest first."""
_CLOSING = re.compile("|".join(map(re.escape, _CLOSINGS)))


def thought_mark() -> str:
    """A regular expression for whatever opens or closes a thought."""
    return "|".join(map(re.escape, THOUGHT_MARKS))


def thought_text(text: str) -> str:
    """A thought without the marks round it."""
    for opening in _OPENINGS:
        if text.startswith(opening):
            text = text.removeprefix(opening)
            break
    for closing in _CLOSINGS:
        text = text.removesuffix(closing)
    return text.strip()


def thought_marks(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The marks round the thought that stands in a stretch of a text, as spans; it may lack either."""
    opening = next((each for each in _OPENINGS if text.startswith(each, start)), "")
    closing = next((each for each in _CLOSINGS if text.endswith(each, start + len(opening), end)), "")
    return [(first, last) for first, last in ((start, start + len(opening)), (end - len(closing), end)) if first < last]


def closing_before(text: str, start: int, end: int) -> int | None:
    """The end of the last closing mark of a stretch; None where it holds none."""
    last = None
    for match in _CLOSING.finditer(text, start, end):
        last = match.end()
    return last


@dataclass(frozen=True)
class Apart:
    """A text, and what is thought in it.

    Attributes:
        answer: what stands outside of thoughts, stripped.
        thought: the thoughts, without the marks round them.
        is_unfinished: the last thought is not finished.
    """

    answer: str
    thought: str
    is_unfinished: bool = False


def set_thought_apart(text: str) -> Apart:
    """A text that holds no calls, without its thoughts; a closing mark alone ends a thought that the prompt opened."""
    answers: list[str] = []
    thoughts: list[str] = []
    position = 0
    while match := _MARK.search(text, position):
        closing = OPENINGS.get(match.group())
        if closing is None:
            thoughts += [*answers, text[position : match.start()]]
            answers = []
            position = match.end()
            continue
        answers.append(text[position : match.start()])
        end = text.find(closing, match.end())
        if end < 0:
            thoughts.append(text[match.end() :])
            return Apart(_joined(answers), _joined(thoughts), is_unfinished=True)
        thoughts.append(text[match.end() : end])
        position = end + len(closing)
    answers.append(text[position:])
    return Apart(_joined(answers), _joined(thoughts))


def _joined(parts: list[str]) -> str:
    return "\n".join(part.strip() for part in parts if part.strip())


_MARK = re.compile(thought_mark())
