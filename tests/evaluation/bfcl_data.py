"""Small hand-written categories in the layout of bfcl-eval's data directory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["DIM", "ROUTE", "write_category"]

DIM = {
    "name": "lamp.dim",
    "description": "Dims a lamp.",
    "parameters": {
        "type": "dict",
        "properties": {
            "room": {"type": "string", "description": "Which lamp."},
            "level": {"type": "float", "description": "0 to 1."},
            "mode": {"type": "string", "description": "How.", "enum": ["fade", "jump"], "default": "jump"},
        },
        "required": ["room", "level"],
    },
}

ROUTE = {
    "name": "plan_route",
    "description": "Plans a route.",
    "parameters": {
        "type": "dict",
        "properties": {
            "between": {"type": "tuple", "items": {"type": "float"}, "description": "Two places."},
            "options": {
                "type": "dict",
                "properties": {"toll": {"type": "boolean"}, "via": {"type": "string"}},
                "description": "Wishes.",
            },
            "note": {"type": "any", "description": "Anything."},
        },
        "required": ["between"],
    },
}


def write_category(
    data: Path,
    category: str,
    rows: Sequence[tuple[str, Sequence[dict[str, Any]]]],
    answers: Sequence[list[dict[str, Any]]] | None = None,
) -> None:
    """Write a category.

    Args:
        data: the data directory.
        category: the category's name.
        rows: per case what the user says and the offered functions; ids count from 0.
        answers: per case the possible answer; None for a category that has none.
    """
    (data / "possible_answer").mkdir(parents=True, exist_ok=True)
    name = f"BFCL_v4_{category}.json"
    lines = [
        {"id": f"{category}_{index}", "question": [[{"role": "user", "content": text}]], "function": functions}
        for index, (text, functions) in enumerate(rows)
    ]
    (data / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if answers is not None:
        truths = [{"id": f"{category}_{index}", "ground_truth": answer} for index, answer in enumerate(answers)]
        (data / "possible_answer" / name).write_text(
            "".join(json.dumps(each) + "\n" for each in truths), encoding="utf-8"
        )
