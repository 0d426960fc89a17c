"""An answer as the continuation of its prompt, also where the prompt opens or closes a thought.

Some templates end the prompt of a reasoning model with the mark that opens a thought, or with an empty thought, and
render a finished answer without it. The answer then closes the thought that its prompt has opened, or begins behind
it; what its author thought is written before that mark. White space round the answer's head may differ too; then the
prompt's holds, since it is what the model is asked with.
"""

import os

from fcdistill.toolcalls.thinking import OPENINGS

__all__ = ["closes_thought", "continued"]


def continued(prompt: str, full: str, thought: str = "") -> str | None:
    """What a conversation says behind its prompt; None where it does not go on from there.

    Args:
        prompt: rendered up to the answer, with the generation prompt.
        full: rendered with the answer.
        thought: what the answer's author thought; it is written before the mark that closes a thought which the prompt
            has opened, where the template does not write it.
    """
    answer = _behind(prompt, full)
    if answer is not None:
        return answer
    head = prompt.rstrip()
    gap = prompt[len(head) :]
    for opening, closing in OPENINGS.items():
        if head.endswith(closing):
            trunk = head.removesuffix(closing).rstrip().removesuffix(opening)
            answer = _behind(trunk, full)
            if answer is not None:
                return _without_empty_thought(answer, opening, closing)
        elif head.endswith(opening):
            answer = _behind(head.removesuffix(opening), full)
            if answer is not None:
                return f"{thought}{gap}{closing}{gap * 2}{_without_empty_thought(answer, opening, closing)}"
    return None


def closes_thought(prompt: str) -> bool:
    """Whether a prompt ends with the mark that closes a thought, so that the answer is to come without one."""
    return prompt.rstrip().endswith(tuple(OPENINGS.values()))


def _behind(prompt: str, full: str) -> str | None:
    """What follows the prompt in the text, which may have other white space in the prompt's last part."""
    if full.startswith(prompt):
        return full[len(prompt) :]
    position = len(os.path.commonprefix([prompt, full]))
    for character in "".join(prompt[position:].split()):
        while position < len(full) and full[position].isspace():
            position += 1
        if not full.startswith(character, position):
            return None
        position += 1
    return full[position:].lstrip()


def _without_empty_thought(answer: str, opening: str, closing: str) -> str:
    bare = answer.lstrip()
    inner = bare.removeprefix(opening).lstrip()
    return inner.removeprefix(closing).lstrip() if inner.startswith(closing) else bare
