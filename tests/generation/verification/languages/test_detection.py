"""Tests of `fcdistill.generation.verification.languages.detection`."""

import pytest

from fcdistill.generation.verification.languages.detection import is_english


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("kitchen light on", True),
        ("", True),
        ("20", True),
        ("Arvo Pärt very quietly, five percent, nursery", True),
        ("List: Old El Paso tortillas, eight ripe avocados, sour cream, coriander", True),
        ("play something by Die Ärzte in the kitchen", True),
        ("mach das Licht in der Küche aus", False),
        ("Stell einen Timer auf 10 Minuten", False),
        ("Licht im Bad an", False),
        ("allume la lumière du salon à 20 %", False),
        ("enciende la luz del salón", False),
        ("включи свет на кухне", False),
        ("キッチンの電気をつけて", False),
    ],
)
def test_the_language_is_told_by_script_and_function_words(text: str, english: bool) -> None:
    assert is_english(text) is english
