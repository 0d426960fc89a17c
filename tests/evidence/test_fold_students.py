"""Tests of `fcdistill.evidence.fold_students`; training is tested with `judge_run`."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fcdistill.errors import DataError
from fcdistill.evidence.candidates import read_source
from fcdistill.evidence.fold_students import assign_folds, fold_training
from fcdistill.records import FunctionTool, ToolSpec
from tests.evidence.imported import ROWS, imported


def test_groups_stay_together_and_folds_are_of_one_size(tmp_path: Path) -> None:
    source = read_source(imported(tmp_path, policy="strict"))
    groups, folds = assign_folds(source, 2, seed=0)
    # The same call in two requests, one of them a reject.
    assert groups["log-1"] == groups["log-2"] and folds["log-1"] == folds["log-2"]
    assert len(set(groups.values())) == len(ROWS) - 1
    assert sorted(Counter(folds.values()).values()) == [3, 3]
    assert assign_folds(source, 2, seed=0) == (groups, folds)
    assert any(assign_folds(source, 2, seed=seed)[1] != folds for seed in range(1, 5))
    with pytest.raises(DataError, match="in 5 split groups, and 6 folds"):
        assign_folds(source, 6, seed=0)


def test_the_prompt_shows_tools_where_they_differ(tmp_path: Path) -> None:
    source = read_source(imported(tmp_path))

    def shown(candidates: object) -> str:
        config = fold_training("m", replace(source, candidates=candidates), tmp_path, epochs=1, device="cpu", seed=0)  # type: ignore[arg-type]
        return config.tools_in_prompt

    assert shown(source.candidates) == "none"
    other = FunctionTool(function=ToolSpec(name="f", description="f", parameters={"type": "object"}))
    first = source.candidates[0]
    assert shown([*source.candidates, first.model_copy(update={"tools": (*first.tools, other)})]) == "compact"
