"""Tests of `fcdistill.generation.journal.ray_shards`: shards as tasks of Ray, with workers on this machine."""

import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fcdistill.config import GenerateConfig
from fcdistill.errors import BackendError, ConfigError, DataError, InfrastructureError, MissingDependencyError
from fcdistill.generation import generator
from fcdistill.generation.journal import outcomes
from fcdistill.generation.journal.ray_shards import require_listener, run_shards
from fcdistill.generation.pipeline import run_generation
from tests.generation import crashing, ray_work
from tests.generation.crashing import FitfulTeacher, config_for
from tests.generation.home import catalog
from tests.generation.runs import contents, journal_keys

NUM = 2


def merge(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_CHUNK", crashing.CHUNK)
    monkeypatch.setattr(outcomes, "_BATCH", crashing.CHUNK)
    run_generation(config_for(out), FitfulTeacher, catalog(), judge=crashing.open_judge)


def scaled(out: Path, num: int = NUM) -> GenerateConfig:
    return config_for(out).model_copy(update={"ray": num})


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match="the package ray can't be imported") as missing:
        run_shards(scaled(tmp_path / "out"), ray_work.refuse)
    assert "pip install 'fcdistill[ray]'" in missing.value.fix and not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_is_gone_is_named_at_once(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = form.format(server.getsockname()[1])
        require_listener(address)
    with pytest.raises(
        InfrastructureError, match=f"no Ray cluster answers at RAY_ADDRESS {address}: .*refused"
    ) as gone:
        require_listener(address)
    assert "ray://host:port" in gone.value.required and "unset it" in gone.value.fix


@pytest.mark.parametrize(
    "address", ["head", "head:", ":6379", "head:six", "head:70000", "ray://head", "[::1:6379", "head:0"]
)
def test_an_address_without_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="which names no host and port"):
        require_listener(address)


@pytest.mark.parametrize("address", ["", "auto", "local", "http://127.0.0.1:8265", "anyscale://cluster"])
def test_addresses_that_name_no_place_are_left_to_ray(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", None)
    require_listener(address)


def test_an_unreachable_cluster_ends_the_command_before_ray_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))  # whoever uses it fails with another message
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:1")
    with pytest.raises(InfrastructureError, match="no Ray cluster answers at RAY_ADDRESS ray://127.0.0.1:1"):
        run_shards(scaled(tmp_path / "out"), ray_work.refuse)


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
