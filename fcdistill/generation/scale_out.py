"""A generation whose shards are worked at by Ray, on this machine or on a cluster.

Ray starts a task for each shard where there is room, and starts it again where its worker was killed: the shard's
journal is what makes that cheap. All machines must see the output directory and the inputs under the same paths, as on
a shared file system. What the work on a shard is, and how shards come together, is not known here.
"""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fcdistill.config import GenerateConfig
from fcdistill.errors import FcdistillError, InfrastructureError, MissingDependencyError
from fcdistill.generation.sharding import Shard, is_complete, require_cut

__all__ = ["run_shards"]

_MAX_RETRIES = 3


def run_shards(
    config: GenerateConfig,
    work: Callable[[GenerateConfig], object],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Have all shards of a generation worked at, as many as `config.ray` says.

    Shards that are finished stay as they are, and a generation that is complete needs none.

    Args:
        config: the whole generation.
        work: generates one shard, whose config it is given; a function that workers can import.
        on_progress: called with (shards done, shards in all) after every shard.

    Raises:
        MissingDependencyError: the package ray is not installed.
        FcdistillError: what a shard ended with.
        DataError: the output directory holds shards of another cut.
        InfrastructureError: Ray can't be reached, or the worker of a shard was killed again and again.
    """
    assert config.ray is not None
    ray = _require_ray()
    require_cut(config.out, config.ray)
    if is_complete(config.out):
        return
    shards = [Shard(config.ray, number) for number in range(1, config.ray + 1)]
    _connect(ray)
    try:
        task = ray.remote(num_gpus=config.ray_gpus, max_retries=_MAX_RETRIES, scheduling_strategy="SPREAD")(_work_in)
        waiting = {
            task.remote(
                str(Path.cwd()), work, config.model_copy(update={"shard": str(shard), "ray": None, "rounds": 1})
            ): shard
            for shard in shards
        }
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            _finish(ray, done, waiting.pop(done))
            on_progress(len(shards) - len(waiting), len(shards))
    finally:
        ray.shutdown()


def _require_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone who was not asked for
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingDependencyError(
            f"ray was asked for, and the package ray can't be imported ({error})",
            required="the package ray",
            fix="pip install 'fcdistill[ray]', or run the shards yourself with --shard i/n",
        ) from None


def _connect(ray: Any) -> None:
    try:
        # A cluster is named by RAY_ADDRESS; without it, Ray starts its processes here.
        ray.init(include_dashboard=False, configure_logging=False, log_to_driver=False)
    except Exception as error:  # Ray raises errors of all kinds, a bare Exception among them
        raise InfrastructureError(
            f"Ray can't be reached or started: {error}",
            required="a cluster at RAY_ADDRESS, or, where that is not set, room for Ray's processes on this machine",
            fix="correct or unset RAY_ADDRESS, then run the same command again; finished work is kept",
        ) from error


def _work_in(directory: str, work: Callable[[GenerateConfig], object], config: GenerateConfig) -> None:
    """Work at a shard, where relative paths start at the directory of whoever asked for it."""
    os.chdir(directory)
    work(config)


def _finish(ray: Any, done: Any, shard: Shard) -> None:
    """Raise what a shard ended with, unless it was done."""
    try:
        ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FcdistillError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise InfrastructureError(
            f"the worker of shard {shard} was lost {_MAX_RETRIES + 1} times: {error}",
            required="workers with enough memory that nobody ends",
            fix="run the same command again: finished work is kept; or give Ray fewer shards at once",
        ) from error
