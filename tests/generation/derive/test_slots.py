"""Values are found where a request says them, and others are said in their places."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fcdistill.generation.derive.slots import Slot, find_slots, new_phrase, put_at
from fcdistill.records import ToolCall
from tests.generation.home import NOW, book, verifier


def slots(text: str, name: str, **arguments: Any) -> list[Slot]:
    return find_slots(text, [ToolCall(name=name, arguments=arguments)], verifier(), NOW)


def test_each_value_has_the_one_place_that_says_it() -> None:
    text = "vacuum the kitchen and the hallway on turbo"
    found = slots(text, "start_vacuum", rooms=["kitchen", "hallway"], mode="turbo")
    said = {text[slot.start : slot.end]: slot.steps for slot in found}
    assert said == {"kitchen": ("rooms", 0), "hallway": ("rooms", 1), "turbo": ("mode",)}


def test_what_is_said_twice_or_implied_or_true_has_no_place() -> None:
    assert slots("kitchen, I said kitchen, light on", "set_light", room="kitchen") == []
    blue = slots("light on in the office, blue", "set_light", room="office", state="on", color="blue")
    assert {slot.steps for slot in blue} == {("room",), ("color",)}
    jazz = slots("shuffle jazz", "play_music", query="jazz", shuffle=True)
    assert [slot.steps for slot in jazz] == [("query",)]


@given(seed=st.integers(0, 1000), room=st.sampled_from(["living_room", "kitchen", "garage"]))
def test_a_new_phrase_is_heard_as_its_value(seed: int, room: str) -> None:
    (slot,) = slots("Kitchen light please", "set_light", room="kitchen")
    phrase = new_phrase(room, slot, "Kitchen", book(), NOW, random.Random(seed))
    assert phrase is not None and phrase[0].isupper(), "it begins the sentence"
    assert verifier().check_said(phrase, [ToolCall(name="set_light", arguments={"room": room})], NOW).ok


def test_a_value_is_put_where_its_steps_lead() -> None:
    arguments: dict[str, Any] = {"items": [{"name": "milk"}]}
    put_at(arguments, ("items", 0, "name"), "rice")
    put_at(arguments, ("list",), "home")
    assert arguments == {"items": [{"name": "rice"}], "list": "home"}
