"""How people go on after a call, in words that fit any domain: corrections, the same again, values that were missing.

English only. `{said}` is a value with its article and unit ("the attic", "40 percent"), `{placed}` the same behind its
preposition ("in the attic"), `{topic}` what an earlier call was about ("light"). No phrase holds a number, or a word
that speaks as the assistant, thanks or greets: each would ask for more than it is to ask for.
"""

from collections.abc import Mapping

from fcdistill.generation.verification.english.words import words_of
from fcdistill.records import ConversationKind

__all__ = ["FOLLOW_UPS", "OTHER_OF_TWO", "QUESTIONS", "names_other_of_two", "opens_talk", "closes_talk"]

FOLLOW_UPS: Mapping[ConversationKind, Mapping[str, tuple[str, ...]]] = {
    "completed": {
        "casual": ("{said}", "oh, {said}", "{said} then", "make that {said}", "let's say {said}", "{said} I guess"),
        "terse": ("{said}", "just {said}", "{said} obviously", "that is, {said}"),
        "polite": ("{said}, please", "Please make it {said}", "That would be {said}, please", "I would like {said}"),
        "question": ("can it be {said}?", "could you make it {said}?", "{said}, if that works?", "maybe {said}?"),
        "rambling": (
            "oh right, I forgot to say, {said}",
            "ah, I should have mentioned that, {said}",
            "hm, let me think, {said} would be best",
            "sorry, I left that out, {said}",
        ),
    },
    "corrected": {
        "casual": (
            "no, make it {said}",
            "no wait, {said}",
            "oops, {said}",
            "wait, I meant {said}",
            "scratch that, {said}",
        ),
        "terse": ("no, {said}", "{said} instead", "wrong, {said}", "I meant {said}", "nope, {said}"),
        "polite": (
            "Sorry, I meant {said}",
            "Sorry, please make it {said}",
            "Pardon me, {said} please",
            "Please change that to {said}",
        ),
        "question": (
            "could you make it {said} instead?",
            "can you change that to {said}?",
            "wait, can it be {said}?",
            "sorry, could that be {said}?",
        ),
        "rambling": (
            "hmm, I got that mixed up, I meant {said}",
            "ah no, my mistake, I wanted {said}",
            "actually I have changed my mind, {said} would be better",
            "no no, I was thinking of something else, make it {said}",
        ),
    },
    "carried_over": {
        "casual": (
            "and {placed} too",
            "now the same {placed}",
            "do that {placed} as well",
            "and {said} at the same go",
        ),
        "terse": ("{said} too", "and {said}", "same {placed}", "again, {placed}", "{said} as well"),
        "polite": (
            "Please do the same {placed}",
            "And {placed} as well, please",
            "The same again {placed}, please",
            "Please repeat that {placed}",
        ),
        "question": (
            "can you do that {placed} too?",
            "and {said}?",
            "could you repeat that {placed}?",
            "what about {said}?",
            "can I have the same {placed}?",
        ),
        "rambling": (
            "oh, and while you are at it, the same {placed}",
            "great, I need that {placed} as well",
            "good, and then do it {placed} too",
            "that worked nicely, so let's have it {placed} too",
        ),
    },
    "switched": {
        "casual": ("ok, and ", "different thing, ", "oh, and ", "by the way, ", "anyway, ", "right, "),
        "terse": ("next: ", "also, ", "and ", "then "),
        "polite": (
            "If you don't mind, ",
            "Something else, please: ",
            "I have another request: ",
            "Also, if possible, ",
        ),
        "question": ("can I ask something else? ", "and another thing, ", "something else: "),
        "rambling": (
            "while I think of it, ",
            "that reminds me, ",
            "before I forget, ",
            "now that this is done, ",
            "I almost forgot, ",
        ),
    },
    "resumed": {
        "casual": (
            "back to the {topic}, make it {said}",
            "ok, the {topic} again, {said} this time",
            "and the {topic}, change that to {said}",
        ),
        "terse": ("{topic} again, {said}", "{topic}: {said}", "{topic}, {said} instead", "for the {topic}, {said}"),
        "polite": (
            "Going back to the {topic}, please make it {said}",
            "About the {topic} from before, {said} please",
            "For the {topic}, please change that to {said}",
            "Returning to the {topic}, I would like {said}",
        ),
        "question": (
            "can we go back to the {topic} and make it {said}?",
            "about the {topic}, could it be {said}?",
            "for the {topic}, can you change it to {said}?",
        ),
        "rambling": (
            "good, now the {topic} from earlier, I thought about it and want {said}",
            "oh, and the {topic} I asked for before, {said} would be better",
            "hmm, thinking about the {topic} again, I want {said}",
        ),
    },
}
"""By kind and register. Of `switched` what stands before the other request."""

OTHER_OF_TWO = (
    "and the other one too",
    "the other one as well",
    "same for the other one",
    "and the same for the other one, please",
    "please do the other one too",
    "now the other one",
    "can you do the other one too?",
    "what about the other one?",
    "oh, and the other one",
    "the other one too, please",
    "and then the other one",
    "do that for the other one as well",
    "could you do the same with the other one?",
    "while you're at it, the other one too",
    "good, and the other one as well",
)
"""Asks for the same again with the other of two values."""

QUESTIONS = (
    "Which {name}?",
    "Which {name} do you mean?",
    "Which {name} should I use?",
    "Which {name} would you like?",
    "What {name} would you like?",
    "What should the {name} be?",
    "What is the {name}?",
    "What {name} should it be?",
    "Could you tell me which {name}?",
    "For which {name}?",
    "Happy to help. Which {name}?",
    "And the {name}, which should it be?",
    "Can you tell me what the {name} should be?",
    "Got it. What {name}?",
    "Which {name} do you have in mind?",
)
"""How an assistant asks for a value that a request lacks; `{name}` is the parameter's."""

_OPENERS = frozenset("greet greeting hello hi welcome".split())
_CLOSERS = frozenset("bye farewell goodbye thank".split())
_OTHER = ("the", "other")


def opens_talk(tool: str) -> bool:
    """Whether a tool's name says that it answers the first words of a conversation."""
    return any(word.text in _OPENERS for word in words_of(tool))


def closes_talk(tool: str) -> bool:
    """Whether a tool's name says that it answers the last words of a conversation."""
    return any(word.text in _CLOSERS for word in words_of(tool))


def names_other_of_two(text: str) -> bool:
    """Whether a text speaks of the other of two things."""
    words = [word.text for word in words_of(text)]
    return _OTHER in zip(words, words[1:], strict=False)
