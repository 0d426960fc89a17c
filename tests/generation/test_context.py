import json
from pathlib import Path
from typing import Any

import pytest

from fcdistill.config import GenerateConfig, ScriptedBackendConfig
from fcdistill.errors import DataError, FcdistillError
from fcdistill.generation.context import read_context
from tests.generation.home import EXAMPLES, VALUES, catalog

TEACHER = ScriptedBackendConfig(backend="scripted", answers=Path("unused"))


def config(out: Path, **fields: Any) -> GenerateConfig:
    return GenerateConfig(tools=Path("tools.json"), out=out, teacher=TEACHER, values=VALUES, num_call_first=6, **fields)


def test_it_is_read_without_a_directory_and_names_its_files(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text(json.dumps({"id": "s1", "text": "light on in the hall", "category": "simple"}) + "\n")
    context = read_context(config(tmp_path / "out", seeds=seeds, examples=EXAMPLES), catalog())
    assert context.files == [VALUES, EXAMPLES, seeds]
    assert [item.source for item in context.plan] == ["call_first"] * 6 + ["request_first"]
    assert context.examples and context.executor is None and context.verifier.catalog is context.catalog
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"num_call_first": 0}, DataError, "there is nothing to generate"),
        ({"num_call_first": 0, "num_continued": 5}, DataError, "there is nothing to generate"),
        ({"num_call_first": 0, "examples": EXAMPLES}, DataError, "there is nothing to generate"),
        ({"seeds": Path("none.jsonl")}, DataError, "seeds file none.jsonl does not exist"),
        ({"examples": Path("none.jsonl")}, DataError, "examples file none.jsonl does not exist"),
        ({"decontaminate": (Path("none.jsonl"),)}, DataError, "eval cases none.jsonl does not exist"),
        ({"reuse": (Path("none.jsonl"),)}, DataError, "traces file none.jsonl does not exist"),
    ],
)
def test_what_is_unusable_is_refused(
    tmp_path: Path, fields: dict[str, Any], error: type[FcdistillError], message: str
) -> None:
    made = config(tmp_path / "out").model_copy(update=fields)
    with pytest.raises(error, match=message):
        read_context(made, catalog())
    assert not (tmp_path / "out").exists()


def test_conversations_need_no_plan_where_the_team_s_examples_are_continued(tmp_path: Path) -> None:
    made = config(tmp_path / "out", examples=EXAMPLES, num_continued=5, multi_turn_results=False)
    assert read_context(made.model_copy(update={"num_call_first": 0}), catalog()).plan == []
