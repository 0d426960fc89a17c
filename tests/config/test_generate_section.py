from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from fcdistill.config import GenerateConfig, ScriptedBackendConfig
from fcdistill.records import FollowUpKind, ResultKind


def section(**fields: Any) -> GenerateConfig:
    teacher = ScriptedBackendConfig(backend="scripted", answers=Path("a"))
    return GenerateConfig(tools=Path("t"), out=Path("o"), teacher=teacher, **fields)


def test_results_decide_which_kinds_of_conversations_there_are() -> None:
    assert section().conversation_shares == dict.fromkeys(get_args(ResultKind), 1)
    assert section(multi_turn_results=False).conversation_shares == dict.fromkeys(get_args(FollowUpKind), 1)


def test_kinds_that_shares_do_not_name_are_not_made() -> None:
    shares = {"corrected": 2, "completed": 0.5, "social": 0}
    assert section(multi_turn_results=False, multi_turn_shares=shares).conversation_shares == {
        "completed": 0.5,
        "corrected": 2,
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_continued": 3}, "set multi_turn_results to false, or num_continued to 0"),
        ({"multi_turn_shares": {"corrected": 1}}, "names corrected, but with multi_turn_results true"),
        ({"multi_turn_shares": {"chained": 0}}, "are all 0"),
        ({"multi_turn_shares": {"chained": -1}}, "greater than or equal to 0"),
        ({"multi_turn_shares": {"guessed": 1}}, "multi_turn_shares.guessed"),
        ({"multi_turn_results": "no"}, "valid boolean"),
    ],
)
def test_shares_and_counts_that_do_not_go_together_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        section(**fields)
