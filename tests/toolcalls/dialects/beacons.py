"""Two tools, and calls of them, in which all that a dialect must write occurs."""

from typing import Any

from hypothesis import strategies as st

from fcdistill.records import ToolCall, ToolSpec

__all__ = ["TOOLS", "TWO", "calls"]

BEACON = ToolSpec(
    name="set_beacon",
    description="",
    parameters={
        "type": "object",
        "properties": {
            "label": {"type": "string"},
            "slots": {"type": "integer"},
            "gain": {"type": "number"},
            "armed": {"type": "boolean"},
            "backup": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "site": {"type": "object", "properties": {"row": {"type": "string"}, "open": {"type": "boolean"}}},
        },
    },
)
PING = ToolSpec(name="ping-beacon_2", description="", parameters={"type": "object", "properties": {}})
TOOLS = (BEACON, PING)
TWO = [
    ToolCall(name="set_beacon", arguments={"label": "Quai", "slots": 12, "tags": ["a", "b"], "site": {"row": "C"}}),
    ToolCall(name="ping-beacon_2"),
]

# What no format without escapes can say: the marks that end one of its values. A text that holds control characters of
# another kind is left to the formats of JSON.
texts = st.one_of(
    st.sampled_from(["", "0042", "true", "null", "None", "5", "1.5", "[1]", '{"a": 1}', "L'Été №4", "first\nsecond"]),
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12).filter(
        lambda text: "<" not in text and "|" not in text and "`" not in text
    ),
)
values: dict[str, st.SearchStrategy[Any]] = {
    "label": texts,
    "slots": st.integers(-(10**12), 10**12),
    "gain": st.floats(allow_nan=False, allow_infinity=False),
    "armed": st.booleans(),
    "backup": st.one_of(st.none(), st.integers(0, 9)),
    "tags": st.lists(texts, max_size=3),
    "site": st.fixed_dictionaries({}, optional={"row": texts, "open": st.booleans()}),
}
beacons = st.fixed_dictionaries({}, optional=values).map(lambda given: ToolCall(name="set_beacon", arguments=given))
calls = st.one_of(beacons, st.just(ToolCall(name="ping-beacon_2", arguments={})))
