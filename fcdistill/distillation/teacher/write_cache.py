"""`fcdistill cache`: what the teacher says of each trace is written to a directory, once.

    <dir>/manifest.json                 what the signals depend on: teacher, precision, top_k, temperatures, layers
    <dir>/index.jsonl, shard-*          see `cache_files`

A cache serves every training whose manifest would be the same and whose traces it has, each with the same teacher
input, in any order and from any file. Whatever else differs is refused and named. A shard that is missing or damaged
is computed again. Traces are ordered by what the teacher reads: so neighbours share long prefixes, and a shard holds
the same traces whatever order they come in.
"""

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from fcdistill.config import CacheConfig, TrainConfig, require_cacheable
from fcdistill.distillation.callbacks.progress import to_stderr
from fcdistill.distillation.examples.examples import Example, HiddenPositions
from fcdistill.distillation.launch.processes import require_one_writer
from fcdistill.distillation.preparation import Prepared, PreparedTeacher, prepare
from fcdistill.distillation.signals.cache_files import (
    IndexLine,
    Seal,
    TeacherCache,
    TraceSignals,
    read_index,
    remove_temporary_files,
    whole_shards,
    write_index,
    write_shard,
)
from fcdistill.distillation.signals.sources import CachedTeacher
from fcdistill.distillation.teacher.cache_sources import SignalsOf, loaded_teacher, served_teacher
from fcdistill.errors import ConfigError, DataError
from fcdistill.prompts.rendering import template_sha256, tokenizer_sha256
from fcdistill.prompts.template_clock import written_date
from fcdistill.storage import RunDirectory, find_run, sha256_bytes

__all__ = ["CacheResult", "cached_teacher", "run_caching"]

_FORMAT = 2
"""Of the shards; the manifest names it, so that a cache of another format is refused."""


@dataclass(frozen=True)
class CacheResult:
    """What a cache holds for a configuration."""

    directory: Path
    traces: int
    tokens: int
    """Completion positions in the shards that hold these traces."""
    num_bytes: int
    """Of these shards."""
    seconds: float
    """Time of this call, loading included."""


@dataclass(frozen=True)
class _Plan:
    """What a cache must be to serve a configuration."""

    cache: CacheConfig
    layers: tuple[int, ...]
    positions: HiddenPositions
    examples: dict[str, Example]
    """By trace id."""
    inputs: dict[str, str]
    """Trace id to the hash of an `IndexLine`."""
    identity: dict[str, Any]
    """Arguments of `RunDirectory` and `find_run`."""


def run_caching(config: TrainConfig, report: Callable[[str], None] = to_stderr) -> CacheResult:
    """Write the teacher's signals for all traces, or what of them is missing.

    Args:
        config: the training that the cache is for.
        report: takes lines about the progress, for people.

    Raises:
        BackendError: the server of the teacher does not answer, or not what was asked.
        ConfigError: no cache or no teacher is named, augmentation is on, several processes were launched, or fields
            don't fit the models or the machine.
        DataError: the traces are unusable, or the directory holds something else.
        ModelError: the teacher can't be loaded, or its logits are unusable.
        StorageError: the disk refused.
    """
    started = time.monotonic()
    require_one_writer()
    require_cacheable(config)
    plan, seals = _ensure(config, prepare(config, signal="cached"), report)
    return CacheResult(
        directory=plan.cache.dir,
        traces=len(plan.examples),
        tokens=sum(seal.num_tokens for seal in seals.values()),
        num_bytes=sum(seal.num_bytes for seal in seals.values()),
        seconds=round(time.monotonic() - started, 3),
    )


def cached_teacher(config: TrainConfig, prepared: Prepared, report: Callable[[str], None]) -> CachedTeacher:
    """The cache of a configuration; what of it is missing is computed, else the teacher's weights are not loaded.

    Raises like `run_caching`.
    """
    plan, _ = _ensure(config, prepared, report)
    assert prepared.teacher is not None
    aligned = sorted({teacher_layer for _, teacher_layer in prepared.teacher.pairs})
    return CachedTeacher(
        cache=TeacherCache(plan.cache.dir, config.cache_temperatures, aligned),
        vocabulary_size=prepared.teacher.vocabulary_size,
        kd_temperature=config.objective.kd_temperature,
        needs_logits=config.objective.kd_weight > 0,
    )


def _ensure(config: TrainConfig, prepared: Prepared, report: Callable[[str], None]) -> tuple[_Plan, dict[int, Seal]]:
    """The plan, and the seals of all shards that it needs."""
    assert prepared.teacher is not None
    plan = _plan(config, prepared, prepared.teacher)
    directory = plan.cache.dir
    # Looked at without its lock first: any number of trainings may read a finished cache at the same time.
    if find_run(directory, **plan.identity) is not None and (index := read_index(directory)):
        needed = _needed_shards(plan, index)
        seals = whole_shards(directory, needed)
        if seals.keys() == needed:
            report(f"teacher cache {directory}: {len(plan.examples)} traces, complete")
            return plan, seals
    with RunDirectory(directory, **plan.identity) as run:
        remove_temporary_files(directory)
        index = read_index(directory) or _new_index(plan)
        needed = _needed_shards(plan, index)
        seals = whole_shards(directory, needed)
        missing: dict[int, list[str]] = {shard: [] for shard in sorted(needed - seals.keys())}
        for line in index:
            if line.shard in missing:
                missing[line.shard].append(line.id)
        _require_examples(plan, missing)
        if missing:
            if run.complete:
                run.reopen()
            seals |= _write_shards(config, prepared.teacher, plan, index, missing, report)
            if config.served_teacher is None:
                gc.collect()  # before the student is loaded: modules refer to one another in circles
                torch.cuda.empty_cache()
        if seals.keys() == {line.shard for line in index}:
            run.mark_complete()
    return plan, seals


def _plan(config: TrainConfig, prepared: Prepared, teacher: PreparedTeacher) -> _Plan:
    assert config.cache is not None
    layers = _cached_layers(config.cache, teacher)
    if config.cache.top_k > teacher.vocabulary_size:
        raise ConfigError(
            f"cache.top_k is {config.cache.top_k}, but the vocabulary has {teacher.vocabulary_size} tokens",
            required=f"at most {teacher.vocabulary_size}",
            fix="lower cache.top_k",
        )
    positions = config.objective.hidden_positions if layers else "completion"
    examples = {example.trace_id: example for example in (*prepared.train, *prepared.held_out)}
    return _Plan(
        cache=config.cache,
        layers=layers,
        positions=positions,
        examples=examples,
        inputs={
            trace_id: _input_sha256(example, example.hidden_rows("teacher", positions) if layers else ())
            for trace_id, example in examples.items()
        },
        identity={
            "stage": "cache",
            "config": {
                "format": _FORMAT,
                "hidden_layers": list(layers),
                "hidden_positions": positions,
                "shard_traces": config.cache.shard_traces,
                "temperatures": list(config.cache_temperatures),
                "top_k": config.cache.top_k,
                "traces": str(config.traces),
                # Of a server's weights nothing is known but the model's name.
                **({"dtype": config.dtype} if config.served_teacher is None else {}),
                # Left away where there is none: caches that were made before it could be set stay valid.
                **({"quantization": config.teacher_quantization} if config.teacher_quantization != "none" else {}),
                **({"template_date": day} if (day := written_date(teacher.tokenizer)) is not None else {}),
            },
            "model": teacher.ref,
            "tokenizer_sha256": tokenizer_sha256(teacher.tokenizer),
            "template_sha256": template_sha256(teacher.tokenizer),
            # The index says which traces lie in which shard, and what each of them is.
            "volatile": frozenset({"shard_traces", "traces"}),
        },
    )


def _cached_layers(cache: CacheConfig, teacher: PreparedTeacher) -> tuple[int, ...]:
    aligned = {teacher_layer for _, teacher_layer in teacher.pairs}
    if cache.hidden_layers is None or teacher.shape is None:  # a server gives none
        return tuple(sorted(aligned))
    declared, num_layers = set(cache.hidden_layers), teacher.shape.num_layers
    problems = [f"layer {layer} is aligned" for layer in sorted(aligned - declared)]
    problems += [f"the teacher has no layer {layer}" for layer in sorted(declared) if layer > num_layers]
    if problems:
        raise ConfigError(
            f"cache.hidden_layers are {', '.join(map(str, sorted(declared)))}, but {problems[0]}",
            required=f"teacher layers in 1..{num_layers}, those that the objective aligns among them",
            fix="correct cache.hidden_layers (the cache is made anew), or leave it away",
        )
    return tuple(sorted(declared))


def _input_sha256(example: Example, hidden_rows: Sequence[int]) -> str:
    """A hash of what the teacher reads of an example, of its completion, and of the positions whose rows are kept."""
    ids = (*example.teacher_ids, example.teacher_completion[-1])
    numbers = [len(example.teacher_completion), len(ids), *ids, *hidden_rows]
    return sha256_bytes(np.array(numbers, "<u4").tobytes())


def _new_index(plan: _Plan) -> list[IndexLine]:
    ordered = sorted(plan.examples.values(), key=lambda example: (example.teacher_ids, example.trace_id))
    return [
        IndexLine(
            id=example.trace_id,
            shard=number // plan.cache.shard_traces,
            input_sha256=plan.inputs[example.trace_id],
        )
        for number, example in enumerate(ordered)
    ]


def _needed_shards(plan: _Plan, index: Sequence[IndexLine]) -> set[int]:
    """The shards that hold the plan's traces. Raises `DataError` where the cache lacks some, or has others instead."""
    found = {line.id: line for line in index}
    lacking = [trace_id for trace_id in plan.inputs if trace_id not in found]
    changed = [
        trace_id
        for trace_id, sha256 in plan.inputs.items()
        if trace_id in found and found[trace_id].input_sha256 != sha256
    ]
    if lacking or changed:
        lines = []
        if lacking:
            lines.append(f"{len(lacking)} of {len(plan.inputs)} traces are not in it, the first is {lacking[0]!r}")
        if changed:
            first = changed[0]
            lines.append(
                f"{len(changed)} of {len(plan.inputs)} traces have another teacher input, the first is {first!r}: "
                f"was {found[first].input_sha256[:12]}, is {plan.inputs[first][:12]}"
            )
        raise DataError(
            f"teacher cache {plan.cache.dir} was made for other traces:\n  " + "\n  ".join(lines),
            required="traces that are in the cache, rendered by the same templates, in any order",
            fix="choose another cache.dir, or delete this one",
        )
    return {found[trace_id].shard for trace_id in plan.inputs}


def _require_examples(plan: _Plan, missing: Mapping[int, Sequence[str]]) -> None:
    unknown = [trace_id for trace_ids in missing.values() for trace_id in trace_ids if trace_id not in plan.examples]
    if unknown:
        raise DataError(
            f"shards of teacher cache {plan.cache.dir} are missing or damaged, and {len(unknown)} of their traces are "
            f"not among those given, the first is {unknown[0]!r}",
            required="all traces that the cache was made for, to compute its shards again",
            fix="run `fcdistill cache` with them, choose another cache.dir, or delete this one",
        )


def _source(
    config: TrainConfig, prepared: PreparedTeacher, plan: _Plan, report: Callable[[str], None]
) -> AbstractContextManager[SignalsOf]:
    if config.served_teacher is not None:
        return served_teacher(config, prepared, report)
    examples = list(plan.examples.values())
    return contextlib.nullcontext(loaded_teacher(config, prepared, plan.layers, plan.positions, examples))


def _write_shards(
    config: TrainConfig,
    prepared: PreparedTeacher,
    plan: _Plan,
    index: Sequence[IndexLine],
    missing: Mapping[int, Sequence[str]],
    report: Callable[[str], None],
) -> dict[int, Seal]:
    seals: dict[int, Seal] = {}
    num_traces = sum(map(len, missing.values()))
    with (
        _source(config, prepared, plan, report) as signals_of,
        tqdm(total=num_traces, unit="trace", disable=not sys.stderr.isatty()) as bar,
    ):
        for shard, trace_ids in missing.items():
            started = time.monotonic()
            found: dict[str, TraceSignals] = {}
            for trace_id, signals in signals_of([plan.examples[trace_id] for trace_id in trace_ids]):
                found[trace_id] = signals
                bar.update()
            ordered = {trace_id: found[trace_id] for trace_id in trace_ids}
            if not seals:
                write_index(plan.cache.dir, index)  # the first file: what is refused before leaves the directory free
            seals[shard] = seal = write_shard(plan.cache.dir, shard, ordered, config.cache_temperatures)
            report(
                f"teacher cache: shard {len(seals)}/{len(missing)}, {len(trace_ids)} traces, {seal.num_tokens} tokens, "
                f"{seal.num_bytes / seal.num_tokens:.0f} bytes/token, "
                f"{seal.num_tokens / (time.monotonic() - started):.0f} tokens/s"
            )
    return seals
