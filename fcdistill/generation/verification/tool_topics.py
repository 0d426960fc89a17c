"""What a tool is about, by its name alone: the words in which people come back to an earlier call."""

import re

from fcdistill.generation.verification.english.words import words_of

__all__ = ["names_topic", "topic_of"]

_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_LINKS = frozenset("a an at by for from in of on the to with".split())


def topic_of(tool: str) -> str:
    """The name without the verb that it begins with: "shopping items" of add_shopping_items; empty for a lone word."""
    parts = [part.lower() for part in _PART.findall(tool)][1:]
    while parts and parts[0] in _LINKS:
        parts = parts[1:]
    return " ".join(parts)


def names_topic(text: str, tool: str, others: tuple[str, ...]) -> bool:
    """Whether a text says a word of what a tool is about, and that none of the other tools is about."""
    elsewhere = {word.text for other in others for word in words_of(topic_of(other))}
    own = {word.text for word in words_of(topic_of(tool))} - elsewhere - _LINKS
    return any(word.text in own for word in words_of(text))
