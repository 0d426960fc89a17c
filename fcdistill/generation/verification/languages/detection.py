"""Whether a request is in English, by its script and its most common words.

Where most letters are not Latin, it is not. Else its function words decide: those of English against those of other
languages, with which words with accents count, once there is one. English wins a tie, and a text of which less than
every eighth word speaks for another language: names ("Arvo Pärt", "Old El Paso") decide nothing.
"""

import re
import unicodedata

__all__ = ["is_english"]

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ENGLISH = frozenset(
    "a about and are at be can could do for from get give have how i i'd i'm is it it's make me my need of off on our "
    "please put set should show that the then there this to turn up want what when which with would you your".split()
)
_OTHERS = frozenset(
    # German, Dutch
    "auf aus bei bitte dem den der des ein eine einen einem für ich im ist kannst mach mal mein meine mir mit nach "
    "das es ins zu nicht oder schalte stell und uns vom von vor wie wir wird zum zur het een van naar voor graag niet "
    "zet doe mij "
    # French
    "avec dans du elle est et je le les moi mon ne nous par pas plaît pour que qui s'il sur une vous "
    # Spanish, Portuguese, Italian
    "con del el los las mi pon por se una uno como os um uma na meu minha favor di il lo gli per che sono alle della "
    "nel metti puoi "
    # Swedish, Danish, Norwegian, Polish, Turkish
    "och det på att jag är og jeg til ikke nie jest proszę ve bir bu için lütfen".split()
)
_WORDS_PER_HINT = 8


def is_english(text: str) -> bool:
    """Whether a text is read as English."""
    letters = [sign for sign in text if sign.isalpha()]
    if sum(not unicodedata.name(sign, "").startswith("LATIN") for sign in letters) * 2 > len(letters):
        return False
    words = _WORD.findall(text.casefold().replace("’", "'"))
    speaking_for = sum(word in _ENGLISH for word in words)
    common = sum(word in _OTHERS for word in words)
    against = common + sum(not word.isascii() for word in words if word not in _OTHERS)
    return not common or speaking_for >= against or against * _WORDS_PER_HINT < len(words)
