"""Text as comparable words: case, punctuation, plurals and number words made equal, with the place of each word kept.

The grounding checks compare word sequences, so that "Twenty-one degrees" holds 21 and "the lights" holds "light".
English only; it knows nothing of schemas or values.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Word", "find", "format_number", "words_of"]

_ONES = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SPECIAL = {"dozen": 12}
_MIN_TYPO_LENGTH = 6
_PIECE = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class Word:
    """One word: its comparable form, and whether it states a number in digits or in words."""

    text: str
    is_number: bool = False
    spelled_out: bool = False


def format_number(value: float) -> str:
    """The comparable form of a number: no trailing zeros, a point for decimals."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def words_of(text: str) -> list[Word]:
    """The words of a text in comparable form. Times and dates fall into their parts: "7:30" is 7 and 30."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("_", " ")
    words: list[Word] = []
    for piece in _PIECE.findall(plain):
        if piece[0].isdigit():
            words.extend(_digits(piece))
        else:
            words.append(_spelled(piece))
    return _joined_tens(words)


def _digits(piece: str) -> Iterable[Word]:
    thousands = re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", piece)
    if thousands:
        piece = piece.replace(",", "")
    if re.fullmatch(r"\d+\.\d+", piece):
        return [Word(format_number(float(piece)), is_number=True)]
    return [Word(format_number(int(part)), is_number=True) for part in re.split(r"[.,:]", piece)]


def _spelled(piece: str) -> Word:
    value = _ONES.get(piece, _TENS.get(piece, _SPECIAL.get(piece)))
    if value is not None:
        return Word(str(value), is_number=True, spelled_out=True)
    return Word(_singular(piece))


def _singular(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("'")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses", "toes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _joined_tens(words: Sequence[Word]) -> list[Word]:
    joined: list[Word] = []
    for word in words:
        before = joined[-1] if joined else None
        if (
            before is not None
            and before.spelled_out
            and word.spelled_out
            and before.text in {str(value) for value in _TENS.values()}
            and 1 <= int(word.text) <= 9
        ):
            joined[-1] = Word(str(int(before.text) + int(word.text)), is_number=True, spelled_out=True)
        else:
            joined.append(word)
    return joined


def find(phrase: Sequence[Word], words: Sequence[Word]) -> list[range]:
    """Every place where the phrase stands in the words, as index ranges; an empty phrase stands nowhere.

    Longer words may differ by one slip of the finger, since requests have typos.
    """
    size = len(phrase)
    if size == 0:
        return []
    return [
        range(start, start + size)
        for start in range(len(words) - size + 1)
        if all(_alike(wanted.text, found.text) for wanted, found in zip(phrase, words[start:], strict=False))
    ]


def _alike(wanted: str, found: str) -> bool:
    if wanted == found:
        return True
    if len(wanted) < _MIN_TYPO_LENGTH or abs(len(wanted) - len(found)) > 1 or wanted[0] != found[0] or wanted.isdigit():
        return False
    start = next(
        (i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found))
    )
    rest, other = wanted[start:], found[start:]
    swapped = len(rest) > 1 and rest[1::-1] + rest[2:] == other
    return swapped or rest[1:] == other[1:] or rest[1:] == other or rest == other[1:]
