"""What scripted teachers and judges read in the prompts that reach them."""

import json
import re
from typing import Any

from fcdistill.backends.base import Request
from tests.generation.home import write_faithfully


def held(request: Request) -> dict[str, Any] | None:
    """What a result must hold, where one is asked for."""
    asked = request.messages[-1].content
    if not asked.startswith("Function: "):
        return None
    pairs = asked.partition("Must hold: ")[2].split(" = ")
    return {pairs[0]: json.loads(pairs[1])} if len(pairs) == 2 else {}


def answer(request: Request) -> str:
    needed = held(request)
    return write_faithfully(request) if needed is None else json.dumps({**needed, "unit": "plain"})


def letter_of(request: Request, shown: str) -> str:
    found = re.search(rf"^([A-Z]): .*{re.escape(shown)}", request.messages[-1].content, re.MULTILINE)
    assert found
    return found[1]
