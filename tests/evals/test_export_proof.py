"""The study of exports: its rows, and what its checks of a fine-tuning file find; TRL's own steps are taken by hand."""

import json
from pathlib import Path
from typing import Any

import export_proof
import pytest

from fcdistill.errors import DataError
from fcdistill.prompts.worked_examples import read_examples
from fcdistill.tools.catalog import load_catalog
from fcdistill.tools.validation import CallValidator
from fcdistill.traces.export import export_rows, preference_rows, write_rows
from tests.paths import ROOT

pytest.importorskip("openai")

CATALOG = load_catalog(str(ROOT / "schemas" / "smart_home.json"))
EXAMPLES = read_examples(ROOT / "data" / "examples" / "smart_home.jsonl", CallValidator(CATALOG.specs))
TRACES = export_proof.traces_of(EXAMPLES, CATALOG)


def rows() -> list[dict[str, Any]]:
    return list(export_rows(TRACES, "openai-finetune"))


def finetune_file(path: Path, changed: list[dict[str, Any]]) -> Path:
    write_rows(path / "rows.jsonl", changed)
    return path / "rows.jsonl"


def test_every_call_has_a_reject_for_a_pair() -> None:
    rejects = export_proof.rejects_of(TRACES)
    assert len(list(preference_rows(TRACES, rejects))) == len(rejects) > 10


def test_an_exported_file_is_taken(tmp_path: Path) -> None:
    assert f"{len(TRACES)} rows" in export_proof.check_finetune_file(finetune_file(tmp_path, rows()))


def calling(name: str, arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "a", "type": "function", "function": {"name": name, "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"role": "robot"}, "line 1: "),
        (calling("set_light", {}), "arguments"),
        (calling("x", "{}"), "x is called and not offered"),
        (calling("set_light", "1"), "no JSON object"),
        ({"role": "user", "content": "hi"}, "last message is not the assistant's"),
    ],
)
def test_a_wrong_row_is_found(tmp_path: Path, change: dict[str, Any], finding: str) -> None:
    changed = rows()
    changed[0]["messages"][-1] |= change
    if change.get("role") == "user":
        del changed[0]["messages"][-1]["tool_calls"]
    with pytest.raises(DataError, match=finding):
        export_proof.check_finetune_file(finetune_file(tmp_path, changed))


def test_too_few_rows_are_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="9 rows"):
        export_proof.check_finetune_file(finetune_file(tmp_path, rows()[:9]))


def test_what_the_rows_hold_must_be_told() -> None:
    messages = [message.model_dump(mode="json") for message in TRACES[0].messages]
    told = json.dumps([spec.model_dump() for spec in CATALOG.specs]) + json.dumps(messages)
    export_proof._require_told(told, messages, CATALOG)
    for lost in ('"set_thermostat"', TRACES[0].messages[0].content, '"brightness": 85'):
        with pytest.raises(AssertionError):
            export_proof._require_told(told.replace(lost, ""), messages, CATALOG)
