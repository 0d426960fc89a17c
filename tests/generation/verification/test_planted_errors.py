"""Tests of `fcdistill.generation.verification.planted_errors`."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fcdistill.generation.verification.planted_errors import KINDS, Planter
from fcdistill.records import ToolCall
from fcdistill.records.equality import same_calls
from tests.generation.home import catalog, validator


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


ANSWERS = [
    [call("set_light", room="kitchen", state="on", brightness=40)],
    [call("set_light", room="office", state="off"), call("set_light", room="hallway", state="off")],
    [call("set_timer", duration={"minutes": 10}), call("get_weather", city="Oslo")],
    [call("get_weather", city="Lima"), call("lock_door", door="front", action="lock")],
    [call("add_shopping_items", items=[{"name": "limes", "quantity": 4}, {"name": "bread"}])],
    [call("set_alarm", time="07:00", days=["mon", "tue"])],
    [call("create_reminder", text="call Bo", at="2027-05-03T18:00:00Z", priority="high")],
    [call("play_music", query="jazz", room="kitchen", volume=30, shuffle=True)],
]
PLANTER = Planter(catalog(), validator(), ANSWERS)


@given(st.sampled_from(ANSWERS), st.text(max_size=5))
def test_planted_errors_are_valid_and_wrong(calls: list[ToolCall], identity: str) -> None:
    planted = PLANTER.plant(identity, calls)
    assert [error.kind for error in planted] == [kind for kind in KINDS if kind in {each.kind for each in planted}]
    for error in planted:
        assert error.calls and not same_calls(error.calls, calls)
        assert not any(validator().check_call(made) for made in error.calls)
        size = {"dropped_call": -1, "added_call": 1}.get(error.kind, 0)
        assert len(error.calls) == len(calls) + size
        if not size:
            ((right, wrong),) = [(one, other) for one, other in zip(calls, error.calls, strict=True) if one != other]
            assert (right.name != wrong.name) == (error.kind == "other_tool")
            change = {"dropped_argument": -1, "added_argument": 1}.get(error.kind)
            if change is not None:
                assert len(wrong.arguments) == len(right.arguments) + change


def test_every_kind_is_planted_and_a_seed_decides() -> None:
    found = {error.kind for number, calls in enumerate(ANSWERS) for error in PLANTER.plant(str(number), calls)}
    assert found == set(KINDS)
    again = Planter(catalog(), validator(), reversed(ANSWERS))
    assert PLANTER.plant("x", ANSWERS[0]) == again.plant("x", ANSWERS[0])
    assert PLANTER.plant("x", ANSWERS[0]) != Planter(catalog(), validator(), ANSWERS, seed=1).plant("x", ANSWERS[0])


def test_a_call_without_arguments_and_a_lone_one_have_fewer_kinds() -> None:
    kinds = {error.kind for error in PLANTER.plant("x", [call("get_weather", city="Oslo")])}
    assert "dropped_call" not in kinds and "dropped_argument" not in kinds and {"free_text", "added_call"} <= kinds
