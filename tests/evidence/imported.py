"""An imported log of the smart_home domain, as the tests of `fcdistill.evidence` share it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcdistill.generation.imports.import_traces import import_traces
from fcdistill.records import WorkedExample
from fcdistill.storage import read_jsonl
from tests.generation.home import EXAMPLES, VALUES, catalog

ROWS: list[tuple[str, dict[str, Any]]] = [
    ("kitchen light on", {"name": "set_light", "arguments": {"room": "kitchen", "state": "on"}}),
    ("let there be light where we cook", {"name": "set_light", "arguments": {"room": "kitchen", "state": "on"}}),
    ("ten minutes on the timer please", {"name": "set_timer", "arguments": {"duration": {"minutes": 12}}}),
    ("how is the weather in Oslo", {"name": "get_weather", "arguments": {"city": "Oslo"}}),
    ("lock the front door", {"name": "lock_door", "arguments": {"door": "front", "action": "lock"}}),
    ("pause the music", {"name": "control_playback", "arguments": {"action": "pause"}}),
]
"""Requests with their recorded answer: the second one says nothing of it, the third is wrong."""


def examples() -> list[tuple[str, dict[str, Any]]]:
    """Some of the team's worked examples with one call."""
    found = read_jsonl(EXAMPLES, WorkedExample, "examples")
    single = [each for each in found if len(each.calls) == 1 and not each.system]
    return [(each.request, each.calls[0].model_dump()) for each in single[:10]]


def imported(directory: Path, rows: Sequence[tuple[str, dict[str, Any]]] = ROWS, **options: Any) -> Path:
    """The directory of an import of these rows."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": request},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
                    ],
                },
            ]
        }
        for request, call in rows
    ]
    source = directory / "log.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_traces(source, "openai-messages", directory / "imported", catalog=catalog(), values=VALUES, **options)
    return directory / "imported"
