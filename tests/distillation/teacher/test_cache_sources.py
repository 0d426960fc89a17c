"""Tests of teachers behind a server: their caches, and what is learned from them, are those of loaded teachers."""

import gc
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("openai")

from fcdistill.backends.openai.logprobs_wire import TokenLogprobs
from fcdistill.config import TrainConfig
from fcdistill.distillation.preparation import prepare
from fcdistill.distillation.run import run_training
from fcdistill.distillation.signals import cache_files
from fcdistill.distillation.signals.cache_files import TeacherCache, TraceSignals
from fcdistill.distillation.sizing.memory_check import run_check
from fcdistill.distillation.teacher import cache_sources
from fcdistill.distillation.teacher.cache_sources import served_signals
from fcdistill.distillation.teacher.write_cache import cached_teacher, run_caching
from fcdistill.errors import BackendError, ConfigError, DataError, ModelError
from fcdistill.records import TeacherReport
from fcdistill.storage import read_json
from tests.backends.openai.faulty_server import FaultyServer, Reply, failure
from tests.backends.openai.scoring_server import served, without
from tests.distillation.world import metrics_lines, train_config
from tests.tiny import tiny_tokenizer

ECHO = {"logprobs": "echo"}
KEY = "sk-very-secret-key-0123456789"
Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def scores(world: Path) -> dict[str, Callable[[dict[str, Any], int], Reply]]:
    """What servers of the two teachers answer."""
    return {name: served(world / name) for name in ("unpadded", "teacher")}


@pytest.fixture
def server(scores: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A server of the teacher without padding in its head."""
    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FaultyServer(scores["unpadded"]).running() as running:
        yield running


@pytest.fixture
def make(world: Path, server: FaultyServer, tmp_path: Path) -> Make:
    """Makes configurations of a cache of three shards; `served` are fields of the served teacher, None: it is local."""

    def config(served: dict[str, Any] | None, name: str = "cache", top_k: int = 8, **fields: Any) -> TrainConfig:
        where = {
            "base_url": server.base_url,
            "model": "org/teacher",
            "tokenizer": str(world / "names"),
            "api_key_env": "TEACHER_KEY",
            "max_concurrency": 3,
            **(served or {}),
        }
        values = {
            "signal": "cached",
            "teacher": str(world / "unpadded") if served is None else None,
            **({} if served is None else {"served_teacher": where}),
            "objective": {"kd_weight": 0.5},
            "cache": {"dir": tmp_path / name, "top_k": top_k, "shard_traces": 4},
            "max_steps": 3,
            "examples_per_pack": 4,
            **fields,
        }
        return train_config(world, tmp_path / f"run-{name}", **values)

    return config


def _quiet(_: str) -> None:
    pass


def _shards(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.glob("shard-*"))}


def _signals(config: TrainConfig) -> dict[str, TraceSignals]:
    """All that the cache of a configuration holds, made where it is not there."""
    directory = run_caching(config, _quiet).directory
    cache = TeacherCache(directory, config.cache_temperatures, ())
    return {f"trace-{number}": cache.read(f"trace-{number}") for number in range(10)}


def _curve(out: Path, name: str) -> list[float]:
    return [value for line in metrics_lines(out) if (value := getattr(line, name))]


@pytest.mark.parametrize(
    ("student", "top_k", "served"),
    [("student", 8, {}), ("student", 0, ECHO), ("chatml", 8, {}), ("chatml", 0, {}), ("chatml", 0, ECHO)],
)
def test_a_servers_cache_is_that_of_the_loaded_model(
    world: Path, make: Make, student: str, top_k: int, served: dict[str, Any]
) -> None:
    fields = {"student": {"model": str(world / student)}, "top_k": top_k}
    local = _signals(make(None, "local", **fields))
    found = _signals(make(served, **fields))
    for trace_id, expected in local.items():
        signals = found[trace_id]
        assert torch.equal(signals.ids_NK, expected.ids_NK) and signals.log_z_NT.shape[1] == 1
        assert torch.allclose(signals.logprobs_NK.float(), expected.logprobs_NK.float(), rtol=2**-10, atol=1e-6)
        assert torch.allclose(signals.log_z_NT, expected.log_z_NT[:, :1], atol=2**-9)
        assert torch.allclose(signals.target_logprobs_N, expected.target_logprobs_N, rtol=1e-4, atol=1e-6)
        tail_N, expected_N = (1 - each.tempered(0, 1.0).double().exp().sum(1) for each in (signals, expected))
        # A log-probability between two float16 numbers may become either of them, and moves the tail by as much.
        moved_N = (signals.logprobs_NK.double().exp() - expected.logprobs_NK.double().exp()).abs().sum(1)
        assert ((tail_N - expected_N).abs() <= 1e-5 + moved_N).all()


@pytest.mark.parametrize(("student", "top_k", "served"), [("student", 8, {}), ("chatml", 8, {}), ("chatml", 0, ECHO)])
def test_training_from_a_server_follows_the_curve_of_the_loaded_teacher(
    world: Path, make: Make, monkeypatch: pytest.MonkeyPatch, student: str, top_k: int, served: dict[str, Any]
) -> None:
    fields = {"student": {"model": str(world / student)}, "top_k": top_k}
    local, distant = make(None, "local", **fields), make(served, **fields)
    run_training(local, _quiet)
    monkeypatch.setattr(cache_sources, "load_teacher", lambda *_, **__: pytest.fail("its weights are nowhere here"))
    run_training(distant, _quiet)
    for name in ("ce", "kd"):
        curve = _curve(distant.out, name)
        assert len(curve) == 3 and curve == pytest.approx(_curve(local.out, name), rel=2e-3), name
    first, second = (
        TeacherReport.model_validate(read_json(config.out / "teacher.json")) for config in (local, distant)
    )
    assert second.overall.nll == pytest.approx(first.overall.nll, rel=1e-4)
    assert second.overall.agreement_rate == first.overall.agreement_rate
    assert (second.overall.agreement_rate is None) == (top_k == 0)
    assert second.teacher.model == "org/teacher"


def test_the_manifest_names_the_model_and_not_its_server(make: Make, server: FaultyServer, scores: Any) -> None:
    config = make({})
    lines: list[str] = []
    directory = run_caching(config, lines.append).directory
    manifest = read_json(directory / "manifest.json")
    assert manifest["model"] == {"model": "org/teacher", "revision": "", "params": {"served": True}}
    assert manifest["config"]["temperatures"] == [1.0] and "dtype" not in manifest["config"]
    assert "10 answers, 0 failed, 0 retries" in lines[-1] and server.base_url in lines[-1]
    assert server.keys == {f"Bearer {KEY}"} and server.paths == {"/v1/completions"} and server.most_at_once <= 3
    assert not any(KEY.encode() in path.read_bytes() for path in directory.iterdir())
    num_asked = len(server.bodies)
    before = _shards(directory)
    moved = make(
        {"base_url": "http://localhost:1/v1", "max_concurrency": 1, "api_key_env": "NO_SUCH"}, dtype="bfloat16"
    )
    run_caching(moved, _quiet)
    assert len(server.bodies) == num_asked and _shards(directory) == before
    with pytest.raises(DataError, match="model.model: was 'org/teacher', is 'org/other'"):
        run_caching(make({"model": "org/other"}), _quiet)
    with pytest.raises(DataError, match="model.model: was 'org/teacher', is "):
        run_caching(make(None), _quiet)


def test_what_passes_is_asked_again_and_leaves_no_trace(make: Make, server: FaultyServer, scores: Any) -> None:
    run_caching(make({}, "whole"), _quiet)
    faults = [failure(429, "busy", retry_after_ms="5"), Reply(drop=True), failure(503), Reply(body=b"{", cut=9)]
    seen: dict[str, int] = {}

    def faulty(body: dict[str, Any], earlier: int) -> Reply:
        number = seen.setdefault(str(body["prompt"]), len(seen))
        asked_before = earlier - 1  # the first cache asked everything once
        return faults[number % len(faults)] if asked_before == 0 else scores["unpadded"](body, earlier)

    server.behaviour = faulty
    config = make({"max_concurrency": 10}, "faulty")
    run_caching(config, _quiet)
    assert len(seen) == 10
    whole = make({}, "whole").cache
    assert whole is not None and config.cache is not None
    assert _shards(config.cache.dir) == _shards(whole.dir)


class _DiedError(BaseException):
    """Stands for a kill: nothing but the files on disk outlives it."""


def test_a_killed_run_asks_for_the_missing_shards_alone(
    make: Make, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cache_files.write_bytes

    def write_bytes(path: Path, data: bytes) -> None:
        if path.name == "shard-00001.parquet":
            raise _DiedError
        real(path, data)

    config = make({})
    monkeypatch.setattr(cache_files, "write_bytes", write_bytes)
    with pytest.raises(_DiedError):
        run_caching(config, _quiet)
    monkeypatch.undo()
    monkeypatch.setenv("TEACHER_KEY", KEY)
    assert len(server.bodies) == 8
    directory = run_caching(config, _quiet).directory
    assert len(server.bodies) == 8 + 6  # the second shard again, and the third with its two traces
    whole = make({}, "whole")
    run_caching(whole, _quiet)
    assert whole.cache is not None and _shards(directory) == _shards(whole.cache.dir)


def _one_less(choice: dict[str, Any]) -> None:
    choice["prompt_logprobs"].pop()


def _other_text(choice: dict[str, Any]) -> None:
    for named in choice["prompt_logprobs"][-1].values():
        named["decoded_token"] = "zebra"


@pytest.mark.parametrize(
    ("behaviour", "fields", "message"),
    [
        (lambda reply: without(reply, lambda choice: choice.pop("prompt_logprobs")), {}, "holds no prompt_logprobs"),
        (lambda reply: without(reply, _one_less), {}, r"prompt_logprobs of \d+ tokens, where \d+ were given"),
        (lambda reply: without(reply, _other_text), {}, "'zebra' for token .* the served model has another tokenizer"),
        (lambda _: failure(400, "Only no echo is supported"), ECHO, r"asked for echo .*HTTP 400\): .*Only no echo"),
        (lambda _: failure(422, "Unexpected fields: prompt_logprobs"), {}, r"HTTP 422\): .*Unexpected fields"),
        (lambda _: Reply(body=b'{"choices": [{"text": "x"}]}'), ECHO, "holds no logprobs"),
    ],
)
def test_a_server_that_does_not_answer_what_was_asked_is_named(
    make: Make, server: FaultyServer, scores: Any, behaviour: Any, fields: dict[str, Any], message: str
) -> None:
    server.behaviour = lambda body, earlier: behaviour(scores["unpadded"](body, earlier))
    config = make(fields, top_k=0 if fields else 8)
    with pytest.raises(BackendError, match=message) as caught:
        run_caching(config, _quiet)
    assert f"model 'org/teacher' at {server.base_url}" in caught.value.found and "trace-" in caught.value.found
    assert caught.value.required and "served_teacher" in caught.value.fix and KEY not in str(caught.value)
    assert config.cache is not None and not list(config.cache.dir.glob("*.json*"))
    server.behaviour = scores["unpadded"]
    assert run_caching(make({}, top_k=4), _quiet).traces == 10  # the directory was left free


def _beyond(choice: dict[str, Any]) -> None:
    """The likeliest tokens everywhere are some that no tokenizer here has."""
    for named in choice["prompt_logprobs"][1:]:
        for index, each in enumerate(named.values()):
            each["logprob"] = -9.0 - index
        named |= {str(9000 + index): {"logprob": -2.0, "decoded_token": "x"} for index in range(2)}


@pytest.mark.filterwarnings("error")
def test_a_server_of_another_vocabulary_is_refused_while_others_are_under_way(
    make: Make, server: FaultyServer, scores: Any
) -> None:
    server.behaviour = lambda body, earlier: without(scores["unpadded"](body, earlier), _beyond)
    with pytest.raises(ModelError, match="have ids beyond the tokenizer's"):
        run_caching(make({}, top_k=2), _quiet)
    gc.collect()


def test_more_likely_tokens_than_the_server_gives(make: Make) -> None:
    with pytest.raises(BackendError, match="prompt logprobs of 21, which is greater than max allowed: 20") as caught:
        run_caching(make({}, top_k=21), _quiet)
    assert "lower cache.top_k" in caught.value.fix


def test_a_key_is_needed_only_where_something_is_asked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(ConfigError, match="the environment variable TEACHER_KEY is not set"):
        run_caching(make({}), _quiet)


def test_tokens_of_a_padded_head_stay_in_the_tail(make: Make, server: FaultyServer, scores: Any) -> None:
    """The model gives some of its mass to ids that are no tokens; a loaded one is cut to its tokens, this one can't."""
    server.behaviour = scores["teacher"]
    config = make({})
    found = _signals(config)
    size = len(tiny_tokenizer("qwen"))
    widths = {signals.ids_NK.shape[1] for signals in found.values()}
    assert min(widths) < 8 and all(signals.ids_NK.max() < size for signals in found.values())
    teacher = cached_teacher(config, prepare(config, signal="cached"), _quiet)
    rows = teacher.read(list(found))
    assert rows["ids_NK"].shape[1] == rows["logprobs_NK"].shape[1] == min(widths)
    run_training(config, _quiet)
    assert min(_curve(config.out, "kd")) > 0


def test_signals_of_likely_tokens_keep_what_is_known_and_leave_the_rest_to_the_tail() -> None:
    sure = TokenLogprobs(-1e-7, ((3, -1e-7), (1, -17.0), (2, -18.0)))
    unsure = TokenLogprobs(-2.0, ((9, -0.5), (1, -1.5), (0, -2.0)))
    signals = served_signals([sure, unsure], [3, 0], top_k=3, vocabulary_size=5)
    assert signals.ids_NK.tolist() == [[3, 1], [1, 0]]
    assert signals.target_logprobs_N.tolist() == pytest.approx([-1e-7, -2.0])
    tempered_NK = signals.tempered(0, 1.0).double()
    assert (1 - tempered_NK.exp().sum(1)).tolist() == pytest.approx(
        [1 - math.exp(-1e-7) - math.exp(-17.0), 1 - math.exp(-1.5) - math.exp(-2.0)], abs=1e-6
    )
    (own,) = served_signals([unsure], [0], top_k=0, vocabulary_size=5).ids_NK.tolist()
    assert own == [0]
    with pytest.raises(ModelError, match="ids beyond the tokenizer's 1"):
        served_signals([sure], [3], top_k=3, vocabulary_size=1)


def test_what_a_training_takes_does_not_count_a_teacher_that_is_elsewhere(make: Make) -> None:
    report = run_check(make({}))
    assert report.teacher is None and [device.phase for device in report.devices] == ["training"]
