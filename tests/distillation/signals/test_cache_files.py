import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fcdistill.distillation.losses.divergences import TopK, forward_kl, hinge, jsd, logistic_ranking, skew_kl, tvd
from fcdistill.distillation.signals import cache_files
from fcdistill.distillation.signals.cache_files import (
    IndexLine,
    TeacherCache,
    TraceSignals,
    read_index,
    remove_temporary_files,
    top_k_signals,
    whole_shards,
    write_index,
    write_shard,
)
from fcdistill.errors import DataError, StorageError

TEMPERATURES = (1.0, 0.5, 2.0, 7.0)


def _logits(rows: int, columns: int, seed: int, scale: float = 4.0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * scale


def _signals(rows: int, seed: int, *, top_k: int = 5, before: int = 0, layers: Sequence[int] = ()) -> TraceSignals:
    kept = top_k_signals(_logits(rows, 40, seed), top_k, TEMPERATURES)
    hidden = {layer: _logits(rows + before, 6, seed + layer).bfloat16() for layer in layers}
    return TraceSignals(*kept, _logits(1, rows, seed)[0], hidden)


def _assert_equal(found: TraceSignals, expected: TraceSignals) -> None:
    for name in ("ids_NK", "logprobs_NK", "log_z_NT", "target_logprobs_N"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype and torch.equal(one, other), name
    assert found.hidden_MH.keys() == expected.hidden_MH.keys()
    for layer, rows in expected.hidden_MH.items():
        assert found.hidden_MH[layer].dtype == torch.bfloat16 and torch.equal(found.hidden_MH[layer], rows)


def test_with_no_likely_tokens_the_targets_own_are_kept_and_all_others_are_the_tail() -> None:
    logits_NV, targets_N = _logits(30, 40, 3), torch.arange(30)
    logits_NV[0, 0] = 60.0
    ids_NK, logprobs_NK, log_z_NT = top_k_signals(logits_NV, 0, TEMPERATURES, targets_N)
    assert torch.equal(ids_NK, targets_N[:, None])
    signals = TraceSignals(ids_NK, logprobs_NK, log_z_NT, torch.zeros(30), {})
    for column, value in enumerate(TEMPERATURES):
        exact_N = (logits_NV.double() / value).log_softmax(-1)[torch.arange(30), targets_N]
        found_N1 = signals.tempered(column, value)
        assert torch.allclose(found_N1[:, 0].double(), exact_N, rtol=2**-10, atol=1e-4), value


def test_aligned_positions_may_be_fewer_than_tokens(tmp_path: Path) -> None:
    whole = _signals(6, 0, layers=(1, 3))
    few = TraceSignals(
        whole.ids_NK,
        whole.logprobs_NK,
        whole.log_z_NT,
        whole.target_logprobs_N,
        {layer: rows[:2] for layer, rows in whole.hidden_MH.items()},
    )
    _write(tmp_path, [{"few": few, "whole": whole}])
    cache = TeacherCache(tmp_path, TEMPERATURES, (1, 3))
    _assert_equal(cache.read("few"), few)
    _assert_equal(cache.read("whole"), whole)


def _write(directory: Path, shards: Sequence[dict[str, TraceSignals]]) -> None:
    lines = [
        IndexLine(id=trace_id, shard=shard, input_sha256="0")
        for shard, traces in enumerate(shards)
        for trace_id in traces
    ]
    write_index(directory, lines)
    for shard, traces in enumerate(shards):
        write_shard(directory, shard, traces, TEMPERATURES)


def test_the_likeliest_tokens_are_kept_with_their_rounded_logprobs() -> None:
    logits_NV = _logits(6, 40, 0)
    ids_NK, logprobs_NK, log_z_NT = top_k_signals(logits_NV, 5, TEMPERATURES)
    exact_NV = logits_NV.double().log_softmax(-1)
    assert torch.equal(ids_NK, exact_NV.topk(5).indices)
    assert torch.equal(logprobs_NK, exact_NV.gather(1, ids_NK).half())
    assert log_z_NT.shape == (6, 4)
    rounded_NV = exact_NV.scatter(1, ids_NK, logprobs_NK.double())
    for column, temperature in enumerate(TEMPERATURES):
        expected_N = (rounded_NV / temperature).logsumexp(-1)
        assert torch.allclose(log_z_NT[:, column].double(), expected_N, atol=2e-6)


@given(seed=st.integers(0, 10**6), top_k=st.integers(1, 40), scale=st.floats(0.1, 20))
def test_tempered_rows_and_their_tail_are_those_of_the_whole_distribution_up_to_float16(
    seed: int, top_k: int, scale: float
) -> None:
    logits_NV = _logits(3, 40, seed, scale)
    signals = TraceSignals(*top_k_signals(logits_NV, top_k, TEMPERATURES), torch.zeros(len(logits_NV)), {})
    # Half the distance of neighbouring float16 numbers at the least likely token that is kept.
    rounding = logits_NV.double().log_softmax(-1).gather(1, signals.ids_NK).abs().max().item() * 2**-11 + 1e-7
    for column, temperature in enumerate(TEMPERATURES):
        exact_NV = (logits_NV.double() / temperature).log_softmax(-1)
        found_NK = signals.tempered(column, temperature)
        assert found_NK.dtype == torch.float32
        error_NK = (found_NK.double() - exact_NV.gather(1, signals.ids_NK)).abs()
        assert error_NK.max() <= 2 * rounding / temperature + 1e-5
        exact_tail_N = exact_NV.exp().scatter(1, signals.ids_NK, 0.0).sum(-1)
        found_tail_N = 1 - found_NK.double().exp().sum(-1)
        assert torch.allclose(found_tail_N, exact_tail_N, rtol=math.expm1(2 * rounding / temperature), atol=2e-6)


def test_the_rounding_of_a_likely_token_does_not_pass_for_tail_mass() -> None:
    """Two tokens share all but a millionth; rounded to float16, with the exact logZ, their sum would be off by 1e-4."""
    logits_NV = torch.full((1, 40), -18.0)
    logits_NV[0, :2] = torch.tensor([0.0, 0.31])
    ids_NK, logprobs_NK, log_z_NT = top_k_signals(logits_NV, 4, (1.0,))
    exact_tail = logits_NV.double().softmax(-1)[0].scatter(0, ids_NK[0], 0.0).sum().item()
    assert abs(1 - logprobs_NK.double().exp().sum().item()) > 20 * exact_tail
    tail = (
        1
        - TraceSignals(ids_NK, logprobs_NK, log_z_NT, torch.zeros(len(ids_NK)), {})
        .tempered(0, 1.0)
        .double()
        .exp()
        .sum()
        .item()
    )
    assert tail == pytest.approx(exact_tail, abs=1e-7)


@pytest.mark.parametrize("loss", [forward_kl, jsd, skew_kl, tvd, logistic_ranking, hinge])
@pytest.mark.parametrize("kd_temperature", TEMPERATURES)
def test_float16_changes_a_loss_by_less_than_two_thousandths(
    loss: Callable[..., Tensor], kd_temperature: float
) -> None:
    teacher_NV, student_NV = _logits(200, 400, 0), _logits(200, 400, 1)
    signals = TraceSignals(*top_k_signals(teacher_NV, 32, TEMPERATURES), torch.zeros(len(teacher_NV)), {})
    exact_NK = (teacher_NV.double() / kd_temperature).log_softmax(-1).gather(1, signals.ids_NK)
    found, expected = (
        loss(student_NV.double(), TopK(signals.ids_NK, rows), kd_temperature=kd_temperature).item()
        for rows in (signals.tempered(TEMPERATURES.index(kd_temperature), kd_temperature), exact_NK)
    )
    # Rounding makes a thousandth of the ranked pairs equal, and so no pairs.
    assert found == pytest.approx(expected, rel=2e-3 if loss in (logistic_ranking, hinge) else 1e-3)


def test_logits_that_stand_for_minus_infinity_stay_numbers() -> None:
    logits_NV = torch.tensor([[1.0, 2.0, torch.finfo(torch.float32).min]])
    ids_NK, logprobs_NK, log_z_NT = top_k_signals(logits_NV, 3, TEMPERATURES)
    assert logprobs_NK.isfinite().all() and log_z_NT.isfinite().all()
    assert TraceSignals(ids_NK, logprobs_NK, log_z_NT, torch.zeros(len(ids_NK)), {}).tempered(
        0, 1.0
    ).exp().sum().item() == pytest.approx(1)


def test_what_was_written_is_read_by_trace_id(tmp_path: Path) -> None:
    shards = [
        {"b": _signals(4, 0, before=3, layers=(2, 5)), "a é/1": _signals(1, 1, layers=(2, 5))},
        {"c": _signals(7, 2, before=1, layers=(2, 5))},
    ]
    _write(tmp_path, shards)
    assert [line.id for line in read_index(tmp_path)] == ["b", "a é/1", "c"]
    cache = TeacherCache(tmp_path, TEMPERATURES, (2, 5))
    for trace_id in ("c", "a é/1", "b", "c"):
        _assert_equal(cache.read(trace_id), shards[trace_id == "c"][trace_id])
    only_one = TeacherCache(tmp_path, TEMPERATURES, (5,)).read("b")
    assert only_one.hidden_MH.keys() == {5}
    assert TeacherCache(tmp_path, TEMPERATURES, ()).read("b").hidden_MH == {}


def test_a_shard_is_plain_parquet_that_says_its_positions_and_temperatures(tmp_path: Path) -> None:
    _write(tmp_path, [{"a": _signals(2, 0, before=3, layers=(4,)), "b": _signals(3, 1, layers=(4,))}])
    table = pq.read_table(tmp_path / "shard-00000.parquet")
    assert table.schema.names == ["trace_id", "pos", "ids", "logp", "logZ", "target_logp", "hidden_4"]
    assert table.schema.metadata[b"temperatures"] == b"[1.0, 0.5, 2.0, 7.0]"
    assert table.column("trace_id").to_pylist() == ["a"] * 5 + ["b"] * 3
    assert table.column("pos").to_pylist() == [-3, -2, -1, 0, 1, 0, 1, 2]
    assert [len(ids) for ids in table.column("ids").to_pylist()] == [0, 0, 0, 5, 5, 5, 5, 5]
    assert [len(each) for each in table.column("logZ").to_pylist()] == [0, 0, 0, 4, 4, 4, 4, 4]
    assert {str(table.schema.field(name).type) for name in ("ids", "logp", "logZ", "hidden_4")} == {
        "list<element: uint32>",
        "list<element: halffloat>",
        "list<element: float>",
        "fixed_size_binary[12]",
    }


def test_the_same_signals_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_shard(tmp_path / name, 3, {"a": _signals(2, 0, before=1, layers=(1,))}, TEMPERATURES)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and one.keys() == {"shard-00003.parquet", "shard-00003.json"}


def test_a_shard_costs_about_200_bytes_a_token(tmp_path: Path) -> None:
    kept = top_k_signals(_logits(800, 1000, 0), 32, (1.0, 2.0, 4.0))
    traces = {
        f"trace-{start}": TraceSignals(*(each[start : start + 40] for each in (*kept, _logits(1, 800, 0)[0])), {})
        for start in range(0, 800, 40)
    }
    seal = write_shard(tmp_path, 0, traces, (1.0, 2.0, 4.0))
    assert seal.num_tokens == 800
    assert seal.num_bytes == (tmp_path / "shard-00000.parquet").stat().st_size
    assert 100 < seal.num_bytes / seal.num_tokens < 220


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "no seal", "broken seal", "seal of another"])
def test_a_damaged_shard_is_not_whole(tmp_path: Path, damage: str) -> None:
    _write(tmp_path, [{"a": _signals(4, 0)}, {"b": _signals(4, 1)}])
    assert whole_shards(tmp_path, (0, 1)).keys() == {0, 1}
    path, seal = tmp_path / "shard-00001.parquet", tmp_path / "shard-00001.json"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    {
        "truncated": lambda: path.write_bytes(path.read_bytes()[:-5]),
        "flipped": lambda: path.write_bytes(data),
        "missing": path.unlink,
        "no seal": seal.unlink,
        "broken seal": lambda: seal.write_text('{"sha256": "'),
        "seal of another": lambda: seal.write_bytes((tmp_path / "shard-00000.json").read_bytes()),
    }[damage]()
    assert whole_shards(tmp_path, (0, 1, 2)).keys() == {0}


def test_a_trace_that_is_not_where_the_index_says_is_refused(tmp_path: Path) -> None:
    """Rows are never taken by their place alone."""
    _write(tmp_path, [{"a": _signals(4, 0), "b": _signals(4, 1)}])
    swapped = [IndexLine(id=trace_id, shard=0, input_sha256="0") for trace_id in ("b", "a")]
    write_index(tmp_path, swapped)
    cache = TeacherCache(tmp_path, TEMPERATURES, ())
    for trace_id in ("a", "b", "c"):
        with pytest.raises(DataError, match=f"does not hold trace '{trace_id}' where its index says") as caught:
            cache.read(trace_id)
        assert caught.value.required and caught.value.fix


def test_a_shard_that_vanished_is_a_storage_error(tmp_path: Path) -> None:
    _write(tmp_path, [{"a": _signals(4, 0)}])
    cache = TeacherCache(tmp_path, TEMPERATURES, ())
    (tmp_path / "shard-00000.parquet").unlink()
    with pytest.raises(StorageError, match="could not read .*shard-00000.parquet"):
        cache.read("a")


def test_half_written_shards_are_removed_and_nothing_else(tmp_path: Path) -> None:
    _write(tmp_path, [{"a": _signals(4, 0)}])
    before = {path.name for path in tmp_path.iterdir()}
    (tmp_path / ".shard-00001.parquet.x7").write_bytes(b"half")
    (tmp_path / ".lock").touch()
    remove_temporary_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before | {".lock"}


def test_nothing_declared_is_an_empty_index(tmp_path: Path) -> None:
    assert read_index(tmp_path) == []


def test_reading_at_random_keeps_few_shards_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_files, "_OPEN_SHARDS", 2)
    shards = [{f"{shard}-{number}": _signals(3, 4 * shard + number) for number in range(4)} for shard in range(8)]
    _write(tmp_path, shards)
    cache = TeacherCache(tmp_path, TEMPERATURES, ())
    for number in range(4):
        for shard in range(8):
            _assert_equal(cache.read(f"{shard}-{number}"), shards[shard][f"{shard}-{number}"])
    assert cache._file.cache_info().currsize == 2
