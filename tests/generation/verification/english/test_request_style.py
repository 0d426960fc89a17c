"""Tests of `fcdistill.generation.verification.english.request_style`."""

import pytest

from fcdistill.generation.verification.english.request_style import request_problem

STATES = "asks for nothing"
ASSISTANT = "as the assistant"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The living room is at 21 degrees.", STATES),
        ("The garage will be set to 21 degrees, and the hallway will be set to 16 degrees.", STATES),
        ("Raisins are my favourite snack!", STATES),
        ("The song is playing, and the volume is 30.", STATES),
        ("It's always sunny here, I'll have plenty of it!", STATES),
        ("White noise is so popular, what would you like to listen to?", ASSISTANT),
        ("Let me know why you want to lock the door", ASSISTANT),
        ("Do you want me to lock the door?", ASSISTANT),
        ("I can help with that! How did the moon rise?", ASSISTANT),
        ("I can count down 35 minutes.", ASSISTANT),
        ("Yes, I can unlock the front door for you. Is there anything else?", ASSISTANT),
        ("You've already put 15 tuna on your shopping list, and cooking oil too", ASSISTANT),
        ("pause the music in the hall, I can't do that", ASSISTANT),
        ("Lock the door. Is there anything else I can help you with?", ASSISTANT),
        ("Yes, I can unlock it for you. Is there anything else I can help you with?", ASSISTANT),
        ("No need to change the light, it's already set to 8.", "not to be done"),
        ("Do not go to the nursery, vacuum the rooms", "not to be done"),
        ("Please ring every every Wednesday", "twice in a row"),
        ("start film music, shuffle the shuffle", "twice in a row"),
    ],
)
def test_what_nobody_asks_with_is_refused(text: str, said: str) -> None:
    assert said in request_problem(text, asks=True)


@pytest.mark.parametrize(
    "text",
    [
        "weather in Denver",
        "bluegrass at volume 10",
        "My oven is hot, timer 5 minutes",
        "The plumber is here, let him in",
        "We're out of parmesan, add it to the list",
        "I have to water the plants, don't let me forget",
        "I'm looking for the forecast for today in San Juan.",
        "Stop whatever is blaring in the kitchen",
        "make the bedroom's light 30%",
        "Is the garage warm?",
        "I can barely hear the song, turn it up",
        "I can never remember the plumber's number, set a reminder",
        "Read me the headlines from this morning's paper.",
        "Order 255917 can be refunded completely",
        "Knock knock!",
        "Don't let me forget to call the bank at 9 am",
    ],
)
def test_what_people_ask_with_passes(text: str) -> None:
    assert request_problem(text, asks=True) == ""


def test_small_talk_may_state_things() -> None:
    assert request_problem("Customers can be such drama queens, this one is the worst", asks=False) == ""
    assert ASSISTANT in request_problem("I can't do that.", asks=False)
