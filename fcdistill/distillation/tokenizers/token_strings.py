"""What the tokens of a tokenizer write, as bytes, and which tokens of two tokenizers write the same.

Everything is compared as bytes, because only bytes are common to all tokenizers: a token of a byte-level vocabulary can
be half a character, and a SentencePiece token may begin with a space that stands in no text. The tokens that end an
answer write nothing: they belong together by their role, whatever they are called. Texts are not known here.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from fcdistill.errors import ModelError
from fcdistill.prompts.rendering import stop_token_ids

__all__ = ["StringPairs", "TokenStrings", "pair_strings", "token_strings"]

_METASPACE = "\u2581"


@dataclass(frozen=True)
class TokenStrings:
    """What the tokens of one tokenizer write."""

    name: str
    """How errors call the tokenizer."""
    strings: tuple[bytes, ...]
    """By id, a leading space included; empty where an id has no token. Added tokens write their literal text."""
    added: frozenset[int]
    """Ids of tokens that were added to the trained vocabulary, special ones included."""
    special: frozenset[int]
    """Ids of special tokens: they write no text of an answer."""
    fallback: frozenset[int]
    """Ids that write a single byte which no other token covers: `<0x00>` to `<0xFF>` of SentencePiece."""
    stop_id: int
    """The token that ends an answer."""


@dataclass(frozen=True)
class StringPairs:
    """Two tokenizers, and which of their tokens are the same string."""

    student: TokenStrings
    teacher: TokenStrings
    teacher_id_of: dict[int, int]
    """Student id to teacher id; one to one."""
    shared_fraction: float
    """Share of the student's strings that the teacher has too, stop tokens left out."""


def token_strings(tokenizer: PreTrainedTokenizerBase) -> TokenStrings:
    """What the tokens of a byte-level or SentencePiece tokenizer write.

    Raises:
        ModelError: the tokenizer is of another kind.
    """
    decoders = list(_decoders(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]))
    kinds = [decoder["type"] for decoder in decoders]
    is_byte_level = "ByteLevel" in kinds
    if not is_byte_level and not any(_turns_metaspace(decoder) for decoder in decoders):
        raise ModelError(
            f"tokenizer {tokenizer.name_or_path!r} does not show which bytes its tokens write (its decoder is "
            f"{' and '.join(kinds) or 'missing'})",
            required="a byte-level or SentencePiece tokenizer where teacher and student have different ones",
            fix="choose a teacher and a student of one family, or set kd_weight and hidden_weight to 0",
        )
    byte_of_character = {character: byte for byte, character in bytes_to_unicode().items()}
    added = tokenizer.added_tokens_decoder
    vocabulary = tokenizer.get_vocab()
    strings = [b""] * (max(vocabulary.values()) + 1)
    fallback = set()
    for token, index in vocabulary.items():
        if index in added:
            strings[index] = added[index].content.encode()
        elif is_byte_level:
            known = all(character in byte_of_character for character in token)
            strings[index] = bytes(byte_of_character[character] for character in token) if known else token.encode()
        elif "ByteFallback" in kinds and len(token) == 6 and token.startswith("<0x"):
            strings[index] = bytes.fromhex(token[3:5])
            fallback.add(index)
        else:
            strings[index] = token.replace(_METASPACE, " ").encode()
    return TokenStrings(
        name=str(tokenizer.name_or_path),
        strings=tuple(strings),
        added=frozenset(added),
        special=frozenset(index for index, token in added.items() if token.special),
        fallback=frozenset(fallback),
        stop_id=stop_token_ids(tokenizer)[0],
    )


def _decoders(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if decoder is not None:
        yield decoder
        for part in decoder.get("decoders", ()):
            yield from _decoders(part)


def _turns_metaspace(decoder: dict[str, Any]) -> bool:
    """Whether a decoder writes the metaspace as a space, the mark of SentencePiece."""
    if decoder["type"] == "Replace":
        return bool(decoder["pattern"] == {"String": _METASPACE} and decoder["content"] == " ")
    return bool(decoder["type"] == "Metaspace")


def pair_strings(student: TokenStrings, teacher: TokenStrings) -> StringPairs:
    """Pair the tokens that write the same bytes, and the two stop tokens.

    A string counts where exactly one token of each side writes it. Other special tokens have no counterpart, since
    their meaning lies in their role.
    """
    students, teachers = _owners(student), _owners(teacher)
    common = {index: teachers[string] for string, index in students.items() if string in teachers}
    return StringPairs(
        student=student,
        teacher=teacher,
        teacher_id_of=common | {student.stop_id: teacher.stop_id},
        shared_fraction=len(common) / len(students),
    )


def _owners(side: TokenStrings) -> dict[bytes, int]:
    """The only token that writes each string."""
    owners: dict[bytes, int] = {}
    repeated = set()
    ordinary = set(range(len(side.strings))) - side.special - {side.stop_id}
    for index in sorted(ordinary - side.fallback):
        string = side.strings[index]
        if string in owners:
            repeated.add(string)
        owners[string] = index
    for index in sorted(ordinary & side.fallback):
        # The byte token of a character that has a token of its own is never used.
        owners.setdefault(side.strings[index], index)
    return {string: index for string, index in owners.items() if string and string not in repeated}
