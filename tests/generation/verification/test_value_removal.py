import pytest

from fcdistill.generation.verification.grounding import Grounder
from fcdistill.generation.verification.value_removal import without_value
from fcdistill.records import ToolCall
from tests.generation.home import NOW, book, catalog

GROUNDER = Grounder(catalog(), book())
LIGHT = {"room": "kitchen", "state": "off"}
DOOR = {"door": "back", "action": "lock"}
MOW = {"text": "mow the lawn", "at": "2027-05-03T09:00:00Z", "priority": "high"}
HEAT = {"room": "office", "temperature": 21}


@pytest.mark.parametrize(
    ("request_text", "tool", "arguments", "name", "cut"),
    [
        ("Turn off the light in the kitchen", "set_light", LIGHT, "room", "Turn off the light"),
        ("Turn off the kitchen light", "set_light", LIGHT, "room", "Turn off the light"),
        ("In the kitchen, lights off", "set_light", LIGHT, "room", "lights off"),
        ("Set the office to 21 degrees please", "set_thermostat", HEAT, "temperature", "Set the office please"),
        (
            "Set the office thermostat to 21 degrees.",
            "set_thermostat",
            HEAT,
            "temperature",
            "Set the office thermostat.",
        ),
        ("Wake me at 7:15 am", "set_alarm", {"time": "07:15"}, "time", "Wake me"),
        ("Start a 12 minute timer", "set_timer", {"duration": {"minutes": 12}}, "duration", "Start a timer"),
        ("vacuum the kitchen", "start_vacuum", {"rooms": ["kitchen"]}, "rooms", None),
        (
            "please vacuum the kitchen and hallway",
            "start_vacuum",
            {"rooms": ["kitchen", "hallway"]},
            "rooms",
            "please vacuum",
        ),
        ("turn the light off", "set_light", LIGHT, "room", None),
        ("could you lock the back door", "lock_door", DOOR, "action", None),
        ("Lock the back door", "lock_door", DOOR, "action", None),
        ("Is it damp, is the kitchen okay?", "get_sensor", {"sensor": "humidity", "room": "kitchen"}, "sensor", None),
        ("vacuum the kitchen quietly", "start_vacuum", {"rooms": ["kitchen"], "mode": "quiet"}, "rooms", None),
        ("what's our power usage now", "get_sensor", {"sensor": "power_usage"}, "sensor", None),
        ("urgent: mow the lawn, 3 May 2027 at 9 am", "create_reminder", MOW, "at", "urgent: mow the lawn"),
        ("have the kitchen vacuumed please", "start_vacuum", {"rooms": ["kitchen"]}, "rooms", None),
        (
            "tell me the temperature of the kitchen itself",
            "get_sensor",
            {"sensor": "temperature", "room": "kitchen"},
            "room",
            None,
        ),
        (
            "start a 12 minute timer labelled eggs.",
            "set_timer",
            {"duration": {"minutes": 12}, "label": "eggs"},
            "label",
            None,
        ),
        ("I need milk from the shop", "add_shopping_items", {"items": [{"name": "milk"}]}, "items", None),
    ],
)
def test_the_words_of_one_value_are_cut(
    request_text: str, tool: str, arguments: dict[str, object], name: str, cut: str | None
) -> None:
    assert without_value(GROUNDER, request_text, ToolCall(name=tool, arguments=arguments), name, NOW) == cut
