import errno
import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fcdistill.config import TrainConfig, parse_config
from fcdistill.distillation import preparation
from fcdistill.distillation.examples.collation import Collator, lay_out_side
from fcdistill.distillation.preparation import load_teacher, prepare
from fcdistill.distillation.signals import cache_files
from fcdistill.distillation.signals.sources import CachedRows
from fcdistill.distillation.teacher import cache_sources, write_cache
from fcdistill.distillation.teacher.write_cache import CacheResult, cached_teacher, run_caching
from fcdistill.errors import ConfigError, DataError, FcdistillError, ModelError, StorageError
from fcdistill.models.loading import load_tokenizer
from fcdistill.storage import read_json, write_jsonl
from tests.distillation.tiny_data import PACKED, tiny_traces
from tests.killed import exit_code_of, kill_me

HIDDEN = {"kd_weight": 0.5, "hidden_weight": 0.5, "num_layer_pairs": 2}
Make = Callable[..., TrainConfig]


@pytest.fixture
def make(tmp_path: Path, tiny_models: Path) -> Make:
    """Makes configurations of ten traces and a cache of three shards, all in the test's directory."""
    write_jsonl(tmp_path / "traces.jsonl", tiny_traces(10))

    def config(**fields: Any) -> TrainConfig:
        values = {
            "traces": tmp_path / "traces.jsonl",
            "out": tmp_path / "run",
            "student": {"model": str(tiny_models / "student")},
            "teacher": str(tiny_models / "teacher"),
            "objective": {"kd_weight": 0.5, "kd_temperature": 2.0},
            "tools_in_prompt": "compact",
            "examples_per_step": 4,
            "examples_per_pack": 4,
            "dtype": "float32",
            "device": "cpu",
            "cache": {"dir": tmp_path / "cache", "top_k": 8, "shard_traces": 4},
            **fields,
        }
        parsed: TrainConfig = parse_config(values, "train", "test")
        return parsed

    return config


def _quiet(_: str) -> None:
    pass


def _refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("no weights are needed")


def _files(directory: Path) -> dict[str, bytes]:
    """The content of the cache; the manifest holds times."""
    return {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if path.name not in ("manifest.json", ".lock")
    }


def _online(config: TrainConfig, trace_ids: list[str]) -> tuple[Tensor, dict[int, Tensor]]:
    """What the teacher says when it runs beside the student."""
    prepared = prepare(config, signal="online")
    assert prepared.teacher is not None
    layers = [layer for _, layer in prepared.teacher.pairs]
    teacher = load_teacher(config, prepared.teacher, torch.device("cpu"), layers, needs_logits=True)
    examples = {example.trace_id: example for example in prepared.train}
    side, _ = lay_out_side(
        "teacher", PACKED, [examples[trace_id] for trace_id in trace_ids], config.objective.hidden_positions
    )
    rows = teacher.rows(side)
    return rows.logits_NV, rows.hidden_MH


def _cached(config: TrainConfig, trace_ids: list[str]) -> CachedRows:
    teacher = cached_teacher(config, prepare(config, signal="cached"), _quiet)
    return teacher.rows(teacher.read(trace_ids))


@pytest.mark.parametrize("positions", ["completion", "request+completion"])
def test_cached_rows_are_those_of_the_teacher_that_runs_beside_the_student(make: Make, positions: str) -> None:
    config = make(objective={**HIDDEN, "kd_temperature": 2.0, "hidden_positions": positions})
    shuffled = [f"trace-{number}" for number in (7, 0, 9, 3, 3, 1)]
    logits_NV, hidden_MH = _online(config, shuffled)
    found = _cached(config, shuffled)
    assert found.vocabulary_size == logits_NV.shape[1] == len(load_tokenizer(str(config.teacher)))
    exact_NV = (logits_NV.double() / 2.0).log_softmax(-1)
    assert torch.equal(found.labels.ids_NK, exact_NV.topk(8).indices)
    assert torch.allclose(
        found.labels.logprobs_NK.double(), exact_NV.gather(1, found.labels.ids_NK), atol=8 * 2**-11 / 2, rtol=0
    )
    tail_N = exact_NV.exp().scatter(1, found.labels.ids_NK, 0.0).sum(-1)
    assert torch.allclose(1 - found.labels.logprobs_NK.double().exp().sum(-1), tail_N, atol=1e-5, rtol=4e-3)
    assert found.hidden_MH.keys() == hidden_MH.keys() == {2, 3}
    for layer, rows_MH in hidden_MH.items():
        assert len(rows_MH) > len(logits_NV) if "request" in positions else len(rows_MH) == len(logits_NV)
        # Other neighbours in the pack round differently in float32, which may tip the rounding to bfloat16.
        assert torch.allclose(found.hidden_MH[layer].float(), rows_MH, rtol=2**-8, atol=1e-5)
        assert (found.hidden_MH[layer] == rows_MH.bfloat16()).float().mean() > 0.999


def test_the_collator_attaches_the_rows_of_the_cache_instead_of_a_teacher_side(make: Make) -> None:
    config = make(objective={**HIDDEN, "kd_temperature": 2.0})
    prepared = prepare(config, signal="online")
    cached = cached_teacher(config, prepared, _quiet)
    examples = prepared.train[3:6]
    batch = Collator(PACKED, None, {}, "completion", cached)(examples)
    assert "teacher" not in batch
    num_tokens = sum(len(example.completion) for example in examples)
    found = batch["cached"]
    assert found["ids_NK"].shape == found["logprobs_NK"].shape == (num_tokens, 8)
    assert found["ids_NK"].dtype == torch.int64 and found["logprobs_NK"].dtype == torch.float32
    assert {layer: rows.shape for layer, rows in found["hidden_MH"].items()} == {
        2: (num_tokens, 48),
        3: (num_tokens, 48),
    }
    assert len(batch["targets_N"]) == num_tokens


def test_top_k_rows_are_left_out_where_only_hidden_states_are_wanted(make: Make) -> None:
    config = make(objective={"hidden_weight": 1.0, "kd_temperature": 3.0})  # not a temperature of the cache
    found = _cached(config, ["trace-0"])
    assert len(found.labels.ids_NK) == len(found.labels.logprobs_NK) == 0 and found.hidden_MH


def test_the_result_counts_what_the_shards_hold(make: Make) -> None:
    config = make()
    lines: list[str] = []
    result = run_caching(config, lines.append)
    directory = config.cache.dir  # type: ignore[union-attr]
    shards = sorted(directory.glob("*.parquet"))
    assert [path.name for path in shards] == [f"shard-0000{number}.parquet" for number in range(3)]
    num_tokens = sum(len(example.completion) for example in prepare(config, signal="online").train)
    num_bytes = sum(path.stat().st_size for path in shards)
    assert result == CacheResult(directory, 10, num_tokens, num_bytes, result.seconds) and result.seconds > 0
    assert [line.split(",")[0] for line in lines] == [f"teacher cache: shard {n}/3" for n in (1, 2, 3)]
    manifest = read_json(directory / "manifest.json")
    assert (manifest["stage"], manifest["status"]) == ("cache", "complete")
    assert manifest["model"]["revision"].startswith("sampled-sha256:") and manifest["tokenizer_sha256"]
    assert manifest["config"] == {
        "dtype": "float32",
        "format": 2,
        "hidden_positions": "completion",
        "hidden_layers": [],
        "shard_traces": 4,
        "temperatures": [1.0, 2.0, 4.0],
        "top_k": 8,
        "traces": str(config.traces),
    }


def test_held_out_traces_are_cached_too(make: Make) -> None:
    assert run_caching(make(held_out_fraction=0.4), _quiet).traces == 10


def test_a_whole_cache_is_read_without_weights_and_without_its_lock(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make()
    first = run_caching(config, _quiet)
    before = _files(first.directory)
    monkeypatch.setattr(preparation, "load_model", _refuse)
    monkeypatch.setattr(write_cache, "RunDirectory", _refuse)
    assert run_caching(config, _quiet).num_bytes == first.num_bytes
    assert len(_cached(config, ["trace-5"]).labels.ids_NK)
    assert _files(first.directory) == before


def test_the_order_and_number_of_the_traces_play_no_role(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make()
    run_caching(config, _quiet)
    before, found = _files(config.cache.dir), _cached(config, ["trace-8"])  # type: ignore[union-attr]
    traces = random.Random(0).sample(tiny_traces(10), 10)
    write_jsonl(config.traces, traces)
    other_cache = make(cache={**config.cache.model_dump(), "dir": config.out.parent / "other"})  # type: ignore[union-attr]
    run_caching(other_cache, _quiet)
    assert _files(other_cache.cache.dir) == before  # type: ignore[union-attr]

    monkeypatch.setattr(preparation, "load_model", _refuse)
    write_jsonl(config.traces, [trace for trace in traces if trace.id in ("trace-8", "trace-1")])
    moved = make(cache={**config.cache.model_dump(), "shard_traces": 7}, examples_per_pack=1)  # type: ignore[union-attr]
    assert torch.equal(_cached(moved, ["trace-8"]).labels.logprobs_NK, found.labels.logprobs_NK)


def _rename_first_trace(config: TrainConfig) -> None:
    text = config.traces.read_text()
    config.traces.write_text(text.replace('"trace-0"', '"trace-00"'))


def _change_a_request(config: TrainConfig) -> None:
    text = config.traces.read_text()
    config.traces.write_text(text.replace("joke 4", "tale 4"))


def _copy_teacher(tmp_path: Path, tiny_models: Path) -> str:
    shutil.copytree(tiny_models / "teacher", tmp_path / "teacher", dirs_exist_ok=True)
    return str(tmp_path / "teacher")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "bfloat16"}, "dtype: was 'float32', is 'bfloat16'"),
        ({"top_k": 9}, "top_k: was 8, is 9"),
        ({"temperatures": (1.0, 2.0)}, r"temperatures: was \[1.0, 2.0, 4.0\], is \[1.0, 2.0\]"),
        ({"hidden_layers": (3,)}, r"hidden_layers: was \[\], is \[3\]"),
        ({"objective": {"hidden_weight": 1.0, "num_layer_pairs": 1}}, r"hidden_layers: was \[\], is \[3\]"),
        (_rename_first_trace, "1 of 10 traces are not in it, the first is 'trace-00'"),
        (_change_a_request, "1 of 10 traces have another teacher input, the first is 'trace-4': was [0-9a-f]{12}, is "),
    ],
)
def test_a_cache_of_something_else_is_refused_and_the_difference_named(
    make: Make, change: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make()
    run_caching(config, _quiet)
    before = _files(config.cache.dir)  # type: ignore[union-attr]
    monkeypatch.setattr(preparation, "load_model", _refuse)
    if callable(change):
        change(config)
    else:
        cache = config.cache.model_dump()  # type: ignore[union-attr]
        config = make(
            cache={**cache, **{name: value for name, value in change.items() if name in cache}},
            **{name: value for name, value in change.items() if name not in cache},
        )
    with pytest.raises(DataError, match=message) as caught:
        run_caching(config, _quiet)
    assert caught.value.required and caught.value.fix
    assert _files(config.cache.dir) == before  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("model.safetensors", None, None, "model.revision: was 'sampled-sha256:"),
        ("chat_template.jinja", "# Tools", "# TOOLS", "template_sha256: was "),
        ("tokenizer.json", '"byte_fallback": false', '"byte_fallback": true', "tokenizer_sha256: was "),
    ],
)
def test_another_teacher_in_the_same_place_is_refused(
    make: Make, tmp_path: Path, tiny_models: Path, file: str, old: str | None, new: str, message: str
) -> None:
    config = make(teacher=_copy_teacher(tmp_path, tiny_models))
    run_caching(config, _quiet)
    path = tmp_path / "teacher" / file
    if old is None:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        run_caching(config, _quiet)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "no seal"])
def test_a_damaged_shard_is_computed_again(make: Make, damage: str) -> None:
    config = make()
    directory = run_caching(config, _quiet).directory
    before = _files(directory)
    path = directory / "shard-00001.parquet"
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[:-9])
    elif damage == "flipped":
        data[100] ^= 4
        path.write_bytes(data)
    else:
        (path if damage == "missing" else path.with_suffix(".json")).unlink()
    lines: list[str] = []
    result = run_caching(config, lines.append)
    assert result.traces == 10 and [line.split(",")[0] for line in lines] == ["teacher cache: shard 1/1"]
    assert _files(directory) == before
    assert read_json(directory / "manifest.json")["status"] == "complete"


def test_a_damaged_shard_can_not_be_computed_from_other_traces(make: Make) -> None:
    config = make()
    directory = run_caching(config, _quiet).directory
    for path in directory.glob("*.json"):
        if path.name != "manifest.json":
            path.unlink()
    write_jsonl(config.traces, tiny_traces(3))
    with pytest.raises(DataError, match=r"cache are missing or damaged, and \d of their traces are not among those"):
        run_caching(config, _quiet)


def _write_until(where: str, config: TrainConfig) -> int:
    """Write a cache in a process that dies at its second shard; the process's exit code."""
    real_bytes, real_json = cache_files.write_bytes, cache_files.write_json

    def write_bytes(path: Path, data: bytes) -> None:
        if path.name == "shard-00001.parquet":
            if where == "before":
                (path.parent / f".{path.name}.half").write_bytes(data[:50])
                kill_me()
            if where == "torn":
                path.write_bytes(data[: len(data) // 2])
                kill_me()
        real_bytes(path, data)

    def write_json(path: Path, value: Any) -> None:
        if path.name == "shard-00001.json" and where == "unsealed":
            kill_me()
        real_json(path, value)

    def work() -> None:
        cache_files.write_bytes, cache_files.write_json = write_bytes, write_json
        run_caching(config)

    return exit_code_of(work)


@pytest.mark.parametrize("where", ["before", "torn", "unsealed"])
def test_a_killed_run_goes_on_and_ends_with_the_bytes_of_an_uninterrupted_one(
    make: Make, tmp_path: Path, where: str
) -> None:
    config = make(objective=HIDDEN)
    assert _write_until(where, config) == -signal.SIGKILL
    directory = config.cache.dir  # type: ignore[union-attr]
    kept = (directory / "shard-00000.parquet").stat()
    assert read_json(directory / "manifest.json")["status"] == "running"
    lines: list[str] = []
    run_caching(config, lines.append)
    assert len(lines) == 2  # the first shard was kept
    assert (directory / "shard-00000.parquet").stat().st_mtime_ns == kept.st_mtime_ns
    whole = make(objective=HIDDEN, cache={**config.cache.model_dump(), "dir": tmp_path / "whole"})  # type: ignore[union-attr]
    run_caching(whole, _quiet)
    assert _files(directory) == _files(tmp_path / "whole")
    assert len(_files(directory)) == 7


def test_a_full_disk_keeps_finished_shards(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make()
    synced: list[int] = []
    real = os.fsync

    def fill_up(file: int) -> None:
        synced.append(file)
        if len(synced) == 5:  # manifest, index, first shard and its seal
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        with pytest.raises(StorageError, match=r"could not write .*shard-00001.parquet: No space left on device"):
            run_caching(config, _quiet)
    directory = config.cache.dir  # type: ignore[union-attr]
    assert _files(directory).keys() == {"index.jsonl", "shard-00000.json", "shard-00000.parquet"}
    lines: list[str] = []
    assert run_caching(config, lines.append).traces == 10
    assert len(lines) == 2


def test_an_explicit_set_of_layers_serves_every_objective_within_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {**make().cache.model_dump(), "hidden_layers": (1, 2, 3)}  # type: ignore[union-attr]
    run_caching(make(cache=cache), _quiet)
    monkeypatch.setattr(preparation, "load_model", _refuse)
    for objective, layers in (({"kd_weight": 1.0}, set()), (HIDDEN, {2, 3}), ({**HIDDEN, "num_layer_pairs": 1}, {3})):
        found = _cached(make(cache=cache, objective=objective), ["trace-2"])
        assert found.hidden_MH.keys() == layers


def _not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    real = cache_sources.top_k_signals

    def overflow(*arguments: Any) -> Any:
        ids_NK, logprobs_NK, log_z_NT = real(*arguments)
        return ids_NK, logprobs_NK, log_z_NT * torch.nan

    monkeypatch.setattr(cache_sources, "top_k_signals", overflow)


def test_logits_that_are_not_finite_are_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    _not_finite(monkeypatch)
    with pytest.raises(ModelError, match="the teacher's logits for trace 'trace-[0-9]' are not finite"):
        run_caching(make(), _quiet)


def test_a_teacher_that_can_not_be_loaded_leaves_the_directory_free(make: Make, tiny_models: Path) -> None:
    with pytest.raises(ModelError, match="cut_short can't be loaded"):
        run_caching(make(teacher=str(tiny_models / "cut_short")), _quiet)
    assert not make().cache.dir.exists()  # type: ignore[union-attr]
    assert run_caching(make(), _quiet).traces == 10


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"cache": None}, ConfigError, "cache is not given"),
        ({"teacher": None, "objective": {}}, ConfigError, "teacher is not given"),
        ({"cache": {"top_k": 10_000}}, ConfigError, r"cache.top_k is 10000, but the vocabulary has \d+ tokens"),
        ({"cache": {"hidden_layers": [2, 4]}}, ConfigError, "hidden_layers are 2, 4, but the teacher has no layer 4"),
        (
            {"cache": {"hidden_layers": [1]}, "objective": {"hidden_weight": 1.0, "num_layer_pairs": 1}},
            ConfigError,
            "hidden_layers are 1, but layer 3 is aligned",
        ),
    ],
)
def test_misuse_is_explained_before_weights_are_loaded(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: Any, error: type[FcdistillError], message: str
) -> None:
    monkeypatch.setattr(preparation, "load_model", _refuse)
    if fields.get("cache"):
        fields = {**fields, "cache": {"dir": tmp_path / "cache", **fields["cache"]}}
    with pytest.raises(error, match=message) as caught:
        run_caching(make(**fields), _quiet)
    assert caught.value.required and caught.value.fix
    assert not (tmp_path / "cache").exists()


def test_several_processes_write_no_cache(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="`fcdistill cache` was launched as 2 processes"):
        run_caching(make(), _quiet)
    assert not make().cache.dir.exists()  # type: ignore[union-attr]


def test_a_damaged_index_is_named(make: Make) -> None:
    config = make()
    directory = run_caching(config, _quiet).directory
    (directory / "index.jsonl").write_text(json.dumps({"id": "trace-0"}) + "\n")
    with pytest.raises(DataError, match="index of the teacher cache .*index.jsonl, line 1: shard: required"):
        run_caching(config, _quiet)
