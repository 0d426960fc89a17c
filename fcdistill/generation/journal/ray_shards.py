"""A generation whose shards are worked at by Ray, on this machine or on a cluster.

Ray starts a task for each shard where there is room, and starts it again where its worker was killed: the shard's
journal is what makes that cheap. All machines must see the output directory and the inputs under the same paths, as on
a shared file system. What the work on a shard is, and how shards come together, is not known here.
"""

import importlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fcdistill.config import GenerateConfig
from fcdistill.errors import ConfigError, FcdistillError, InfrastructureError, MissingDependencyError
from fcdistill.generation.journal.plan_shards import Shard, is_complete, require_cut

__all__ = ["require_listener", "run_shards"]

_MAX_RETRIES = 3
_LISTENER_TIMEOUT_S = 3.0


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
        ConfigError: RAY_ADDRESS names no place.
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


def require_listener(address: str) -> None:
    """Raise within seconds where nobody listens at the host and port that an address of Ray names.

    Ray itself keeps trying for minutes. An address without a place is Ray's own to read, which it does at once.

    Args:
        address: as in RAY_ADDRESS: `host:port` of a cluster's head, `ray://host:port` of its server for clients,
            `auto`, `local`, nothing, or another scheme.

    Raises:
        ConfigError: it is of a form with host and port, and one of them is missing or impossible.
        InfrastructureError: nobody accepts a connection there.
    """
    scheme, _, place = address.rpartition("://")
    if address in ("", "auto", "local") or scheme not in ("", "ray"):
        return
    required = "host:port of a running cluster's head, or ray://host:port of its server for clients"
    try:
        named = urlsplit(f"//{place}")
        host, port = named.hostname, named.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ConfigError(
            f"RAY_ADDRESS is {address!r}, which names no host and port",
            required=required,
            fix="correct RAY_ADDRESS, or unset it to work on this machine",
        )
    try:
        socket.create_connection((host, port), _LISTENER_TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:  # the second where a name can't be one of DNS
        raise InfrastructureError(
            f"no Ray cluster answers at RAY_ADDRESS {address}: {error}",
            required=required,
            fix="start the cluster, correct RAY_ADDRESS, or unset it to work on this machine, then run the same "
            "command again; finished work is kept",
        ) from None


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
    require_listener(os.environ.get("RAY_ADDRESS", ""))
    try:
        # A cluster is named by RAY_ADDRESS; without it, Ray starts its processes here.
        ray.init(include_dashboard=False, configure_logging=False, log_to_driver=False)
    except Exception as error:  # Ray raises errors of all kinds, a bare Exception among them
        raise InfrastructureError(
            f"Ray can't be reached or started: {error}",
            required="a cluster at RAY_ADDRESS, or, where that is not set, room for Ray's processes on this machine",
            fix="correct or unset RAY_ADDRESS, or set RAY_AUTH_MODE=token where the cluster asks for one, then run the "
            "same command again; finished work is kept",
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
