"""Text as comparable words: case, punctuation, plurals and number words made equal, with the place of each word kept.

The grounding checks compare word sequences, so that "Twenty-one degrees" holds 21 and "the lights" holds "light".
English only; it knows nothing of schemas or values.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from fcdistill.generation.verification.languages.word_places import Word, format_number

__all__ = ["spell_number", "words_of"]

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
_SPECIAL = {"dozen": 12, "couple": 2, "hundred": 100}
_SHORT = {
    "tmrw": "tomorrow", "tmr": "tomorrow", "tmrrw": "tomorrow", "tonite": "tonight",
    "tues": "tuesday", "thur": "thursday", "thurs": "thursday", "pls": "please", "plz": "please",
}  # fmt: skip
# A minus belongs to a number only where nothing stands before it: "9-5" and "rooms 2-4" hold no negative number.
_PIECE = re.compile(r"(?<![^\s(])[-−](?=\d)|\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*")
_CURRENCY_SYMBOLS = str.maketrans({"$": " dollar ", "£": " pound ", "¥": " yen ", "€": " euro ", "₹": " rupee "})
_HALF_OF_DAY = re.compile(r"\b([ap])\.\s?m\b\.?")


def spell_number(number: int) -> str:
    """A whole number from 0 to 999 in words: "two hundred and five"."""
    names = {value: word for word, value in (_ONES | _TENS).items()}
    hundreds, rest = divmod(number, 100)
    said = [f"{names[hundreds]} hundred"] if hundreds else []
    if rest or not hundreds:
        tens = rest - rest % 10
        said.append(names.get(rest) or f"{names[tens]}-{names[rest % 10]}")
    return " and ".join(said)


def words_of(text: str) -> list[Word]:
    """The words of a text in comparable form.

    Times and dates fall into their parts: "7:30" is 7 and 30. A point is a decimal point: "7.30" is 7.3, and only who
    looks for a time of day can know better. Number words count as numbers, up to hundreds ("a dozen", "a couple"),
    "minus" before a number as its sign, and the symbols of currencies as their names.
    """
    plain = re.sub(r"(?<=\d)\s?½", ".5", text).replace("½", " half ")
    plain = unicodedata.normalize("NFKC", plain).casefold().replace("’", "'").replace("_", " ")
    plain = _HALF_OF_DAY.sub(r"\1m", plain.translate(_CURRENCY_SYMBOLS))
    words: list[Word] = []
    for piece in _PIECE.findall(plain):
        if piece[0].isdigit():
            words.extend(_digits(piece))
        else:
            words.append(_spelled("minus" if piece in "-−" else piece))
    return _joined(words)


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
    return Word(_singular(_SHORT.get(piece, piece)))


def _singular(word: str) -> str:
    word = word.removesuffix("'s")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith("ie"):  # "cookie", since "cookies" can't be told from "berries"
        return word[:-2] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses", "toes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _joined(words: Sequence[Word]) -> list[Word]:
    """The words with number words put together: "twenty-one" is 21, "two hundred and fifty" 250, "minus five" -5."""
    joined: list[Word] = []
    for word in words:
        joined.append(word)
        while (merged := _merged(joined)) is not None:
            size, value = merged
            spelled_out = joined[-1].spelled_out
            joined[-size:] = [Word(value, is_number=True, spelled_out=spelled_out)]
    return joined


def _merged(words: Sequence[Word]) -> tuple[int, str] | None:
    """How many words at the end state one number together, and that number; None where the last stands alone."""
    last, before = words[-1], words[-2] if len(words) > 1 else None
    if before is None or not last.is_number:
        return None
    if before.text == "minus" and not last.text.startswith("-"):
        return 2, f"-{last.text}"
    if not last.spelled_out:
        return None
    value = int(last.text)
    if before.spelled_out:
        head = int(before.text)
        if value == 100 and 1 <= head <= 9:
            return 2, str(100 * head)
        if head % 100 in _TENS.values() and 1 <= value <= 9 or _is_hundreds(head) and 1 <= value <= 99:
            return 2, str(head + value)
    if before.text in ("a", "an") and value == 100:
        return 2, "100"
    third = words[-3] if len(words) > 2 else None
    if before.text == "and" and third is not None and third.spelled_out and _is_hundreds(int(third.text)):
        return (3, str(int(third.text) + value)) if 1 <= value <= 99 else None
    return None


def _is_hundreds(value: int) -> bool:
    return value > 0 and value % 100 == 0
