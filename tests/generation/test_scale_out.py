"""Tests of `fcdistill.generation.scale_out`: shards as tasks of Ray, with workers on this machine."""

import sys
from pathlib import Path

import pytest

from fcdistill.config import GenerateConfig
from fcdistill.errors import BackendError, DataError, InfrastructureError, MissingDependencyError
from fcdistill.generation import pipeline
from fcdistill.generation.pipeline import run_generation
from fcdistill.generation.scale_out import run_shards

from . import crashing, ray_work
from .crashing import FitfulTeacher, config_for
from .home import catalog
from .test_pipeline import contents, journal_keys

NUM = 2


def merge(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_CHUNK", crashing.CHUNK)
    run_generation(config_for(out), FitfulTeacher, catalog(), judge=crashing.open_judge)


def scaled(out: Path, num: int = NUM) -> GenerateConfig:
    return config_for(out).model_copy(update={"ray": num})


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match="the package ray can't be imported") as missing:
        run_shards(scaled(tmp_path / "out"), ray_work.refuse)
    assert "pip install 'fcdistill[ray]'" in missing.value.fix and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_nothing_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    out, whole, told = tmp_path / "out", tmp_path / "whole", []
    run_shards(scaled(out), ray_work.work, lambda done, total: told.append((done, total)))
    assert (tmp_path / "killed").exists() and told == [(1, 2), (2, 2)]
    merge(out, monkeypatch)
    merge(whole, monkeypatch)
    assert contents(out) == contents(whole)
    assert sorted(journal_keys(out)) == sorted(journal_keys(whole))
    before = contents(out), journal_keys(out)
    run_shards(scaled(out), ray_work.refuse)
    merge(out, monkeypatch)
    assert (contents(out), journal_keys(out)) == before


@pytest.mark.slow
def test_what_ends_a_shard_ends_the_command(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(BackendError, match="no teacher for shard [12]/2") as ended:
        run_shards(scaled(tmp_path / "out"), ray_work.fail)
    assert ended.value.fix == "start one"
    with pytest.raises(InfrastructureError, match="the worker of shard 1/1 was lost 4 times"):
        run_shards(scaled(tmp_path / "other", 1), ray_work.die)


def test_shards_of_another_cut_are_refused_before_any_work(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "out"
    run_generation(config_for(out, "1/3"), FitfulTeacher, catalog(), judge=crashing.open_judge)
    with pytest.raises(DataError, match="several cuts: into 2 and into 3"):
        run_shards(scaled(out), ray_work.refuse)
