"""A teacher's signals on disk: Parquet shards of completion positions, found by trace id.

    <dir>/index.jsonl            the traces, in which shard each is, and a hash of what the teacher read (`IndexLine`)
    <dir>/shard-00000.parquet    one row group per trace, one row per position
    <dir>/shard-00000.json       its SHA-256, written after it (`Seal`)

Columns of a shard: `trace_id`; `pos`, the completion token that the row predicts (negative: a position of the request,
which has hidden states only); `ids` and `logp`, the K likeliest tokens of the vocabulary (that of both models, or the
teacher's own where the student has another tokenizer), or the completion's own token, and their log-probabilities at
temperature 1, float16 (K may differ between traces: what is unknown is in the tail); `logZ`,
float32, one value per temperature T of the metadata, so that logp / T - logZ is the log-probability at T and what these
leave of 1 is the mass of all other tokens; `target_logp`, float32, the completion token's own log-probability at
temperature 1; `hidden_<layer>`, bfloat16 bytes of the aligned positions, in a trace's last rows (of one tokenizer they
are those of the row; of two there may be fewer, since spans are aligned, and null before them).

logZ is that of the stored, rounded values: log(sum of exp(logp / T) over the K + sum of the other tokens' exact
exp(log-probability / T)). With the exact logZ, the rounding of one likely token would pass for tail mass.

Who the teacher is, and what the numbers are for, is not known here.

Axes: N completion positions, M positions with hidden states, K tokens, T temperatures,
V vocabulary, H width.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from fcdistill.errors import DataError
from fcdistill.records import Record
from fcdistill.storage import (
    iter_jsonl,
    read_json,
    sha256_bytes,
    sha256_file,
    storage_errors,
    write_bytes,
    write_json,
    write_jsonl,
)

__all__ = [
    "IndexLine",
    "Seal",
    "TeacherCache",
    "TraceSignals",
    "read_index",
    "remove_temporary_files",
    "top_k_signals",
    "whole_shards",
    "write_index",
    "write_shard",
]

_INDEX = "index.jsonl"

_OPEN_SHARDS = 64
"""Shards whose footers are kept in memory while training reads traces in random order."""


class IndexLine(Record):
    """A line of index.jsonl; the lines of one shard are in the order of its row groups."""

    id: str
    shard: int
    input_sha256: str
    """Of the token ids that the teacher read, and of the positions that were kept."""


class Seal(Record):
    """What belongs to a shard that was written whole."""

    sha256: str
    num_tokens: int
    """Completion positions."""
    num_bytes: int


@dataclass(frozen=True)
class TraceSignals:
    """What a teacher says about one trace."""

    ids_NK: Tensor
    """Likeliest first, or the completion's own tokens alone; int64."""
    logprobs_NK: Tensor
    """At temperature 1, float16."""
    log_z_NT: Tensor
    """Float32, one column per temperature of the cache."""
    target_logprobs_N: Tensor
    """Of the completion's tokens, at temperature 1, float32."""
    hidden_MH: dict[int, Tensor]
    """HF hidden_states index to rows, bfloat16."""

    def tempered(self, column: int, kd_temperature: float) -> Tensor:
        """Log-probabilities at the temperature of a column of `log_z_NT`, float32, not renormalised."""
        log_z_N1 = self.log_z_NT[:, column, None].double()
        return (self.logprobs_NK.double() / kd_temperature - log_z_N1).float()


def top_k_signals(
    logits_NV: Tensor, top_k: int, temperatures: Sequence[float], targets_N: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What is kept of whole distributions.

    Args:
        logits_NV: over the vocabulary, without padding columns.
        top_k: how many tokens are kept, at most V; 0: the target of each row.
        temperatures: those for which the rows can be read later.
        targets_N: the completion's tokens; needed where top_k is 0.

    Returns:
        ids_NK (int64), logprobs_NK (float16) and log_z_NT (float32), as `TraceSignals` holds them.
    """
    logprobs_NV = F.log_softmax(logits_NV.float(), dim=-1)
    if top_k:
        exact_NK, ids_NK = logprobs_NV.topk(top_k, dim=-1)
    else:
        assert targets_N is not None, "what is kept of a row is its target"
        ids_NK = targets_N[:, None]
        exact_NK = logprobs_NV.gather(1, ids_NK)
    # A logit that stands for minus infinity stays a number: its exp is 0, and 0 * -inf would not be.
    rounded_NK = exact_NK.clamp_min(torch.finfo(torch.float16).min).half()
    others_NV = logprobs_NV.scatter(1, ids_NK, -torch.inf)
    log_z_NT = torch.stack(
        [
            torch.logaddexp((rounded_NK.float() / value).logsumexp(-1), (others_NV / value).logsumexp(-1))
            for value in temperatures
        ],
        dim=-1,
    )
    return ids_NK, rounded_NK, log_z_NT


def write_index(directory: Path, lines: Iterable[IndexLine]) -> None:
    """Declare which traces the cache has. Raises `StorageError` where the disk refuses."""
    write_jsonl(directory / _INDEX, lines)


def read_index(directory: Path) -> list[IndexLine]:
    """The traces that the cache has; none where nothing was declared.

    Raises:
        DataError: the index is damaged.
    """
    path = directory / _INDEX
    return list(iter_jsonl(path, IndexLine, "index of the teacher cache")) if path.exists() else []


def whole_shards(directory: Path, shards: Iterable[int]) -> dict[int, Seal]:
    """The seals of those shards whose files are what their seals say."""
    found = {}
    for shard in shards:
        path, seal = _path(directory, shard), _read_seal(_path(directory, shard).with_suffix(".json"))
        if seal is not None and path.is_file() and sha256_file(path) == seal.sha256:
            found[shard] = seal
    return found


def _read_seal(path: Path) -> Seal | None:
    try:
        return Seal.model_validate(read_json(path, "seal"))
    except (DataError, ValidationError):
        return None


def write_shard(
    directory: Path, shard: int, signals: Mapping[str, TraceSignals], temperatures: Sequence[float]
) -> Seal:
    """Write the traces of a shard in their order, and seal it. The same signals give the same bytes.

    Raises:
        StorageError: the disk refused.
    """
    data = _encoded(signals, temperatures)
    num_tokens = sum(len(each.ids_NK) for each in signals.values())
    seal = Seal(sha256=sha256_bytes(data), num_tokens=num_tokens, num_bytes=len(data))
    write_bytes(_path(directory, shard), data)
    write_json(_path(directory, shard).with_suffix(".json"), seal.model_dump(mode="json"))
    return seal


def remove_temporary_files(directory: Path) -> None:
    """Remove the half-written shards of killed runs; only who holds the directory's lock may do so."""
    with storage_errors(directory, "clean"):
        for path in directory.glob(".shard-*"):
            path.unlink()


class TeacherCache:
    """Reads traces of a finished cache by id, each from its own row group: memory does not grow with the cache.

    Args:
        directory: the cache; `whole_shards` has found all shards that are read.
        temperatures: those of the columns of logZ.
        layers: HF hidden_states indices that are read.
    """

    def __init__(self, directory: Path, temperatures: Sequence[float], layers: Sequence[int]) -> None:
        self.directory = directory
        self.temperatures = tuple(temperatures)
        self.layers = tuple(layers)
        self._columns = [
            "trace_id",
            "pos",
            "ids",
            "logp",
            "logZ",
            "target_logp",
            *(f"hidden_{layer}" for layer in layers),
        ]
        self._places: dict[str, tuple[int, int]] = {}
        sizes: dict[int, int] = {}
        for line in read_index(directory):
            self._places[line.id] = (line.shard, sizes.get(line.shard, 0))
            sizes[line.shard] = sizes.get(line.shard, 0) + 1
        self._file = functools.lru_cache(maxsize=_OPEN_SHARDS)(self._open)

    def _open(self, shard: int) -> pq.ParquetFile:
        return pq.ParquetFile(_path(self.directory, shard), memory_map=True)

    def read(self, trace_id: str) -> TraceSignals:
        """The signals of a trace.

        Raises:
            DataError: the cache does not have it, or has another one in its place.
            StorageError: the disk refused.
        """
        shard, row_group = self._places.get(trace_id, (-1, -1))
        found = None
        if shard >= 0:
            path = _path(self.directory, shard)
            with storage_errors(path, "read"):
                found = self._file(shard).read_row_group(row_group, columns=self._columns)
        if found is None or found.column("trace_id").unique().to_pylist() != [trace_id]:
            raise DataError(
                f"teacher cache {self.directory} does not hold trace {trace_id!r} where its index says",
                required="a cache of these traces",
                fix="run `fcdistill cache` again, or delete the directory first",
            )
        return _decoded(found, self.layers)


def _path(directory: Path, shard: int) -> Path:
    return directory / f"shard-{shard:05d}.parquet"


def _encoded(signals: Mapping[str, TraceSignals], temperatures: Sequence[float]) -> bytes:
    first = next(iter(signals.values()))
    fields = [
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field("pos", pa.int32(), nullable=False),
        pa.field("ids", pa.list_(pa.uint32())),
        pa.field("logp", pa.list_(pa.float16())),
        pa.field("logZ", pa.list_(pa.float32())),
        pa.field("target_logp", pa.float32()),
    ]
    fields += [pa.field(f"hidden_{layer}", pa.binary(2 * rows.shape[1])) for layer, rows in first.hidden_MH.items()]
    schema = pa.schema(fields, metadata={"temperatures": json.dumps(list(temperatures))})
    sink = pa.BufferOutputStream()
    options = {"compression": "zstd", "use_dictionary": ["trace_id"], "write_statistics": False}
    with pq.ParquetWriter(sink, schema, **options) as writer:
        for trace_id, each in signals.items():
            writer.write_table(_table(trace_id, each, schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _table(trace_id: str, signals: TraceSignals, schema: pa.Schema) -> pa.Table:
    num_tokens = len(signals.ids_NK)
    num_rows = max([num_tokens, *(len(rows) for rows in signals.hidden_MH.values())])
    num_before = num_rows - num_tokens

    def lists(values: Tensor, dtype: type[np.generic]) -> pa.Array:
        width = values.shape[1]
        offsets = [0] * num_before + list(range(0, num_tokens * width + 1, width))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values.numpy().astype(dtype).ravel()))

    columns = [
        pa.array([trace_id] * num_rows),
        pa.array(range(-num_before, num_tokens), pa.int32()),
        lists(signals.ids_NK, np.uint32),
        lists(signals.logprobs_NK, np.float16),
        lists(signals.log_z_NT, np.float32),
        pa.array([None] * num_before + signals.target_logprobs_N.tolist(), pa.float32()),
    ]
    for rows in signals.hidden_MH.values():
        data = pa.py_buffer(rows.contiguous().view(torch.int16).numpy().tobytes())
        kind = pa.binary(2 * rows.shape[1])
        aligned = pa.FixedSizeBinaryArray.from_buffers(kind, len(rows), [None, data])
        columns.append(pa.concat_arrays([pa.nulls(num_rows - len(rows), kind), aligned]))
    return pa.Table.from_arrays(columns, schema=schema)


def _decoded(table: pa.Table, layers: Sequence[int]) -> TraceSignals:
    num_tokens = int(np.sum(table.column("pos").to_numpy() >= 0))

    def rows(name: str, dtype: type[np.generic]) -> Tensor:
        values = table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return torch.from_numpy(values.astype(dtype).reshape(num_tokens, -1))

    hidden_MH = {}
    for layer in layers:
        aligned = table.column(f"hidden_{layer}").drop_null()
        values = torch.frombuffer(bytearray(b"".join(aligned.to_pylist())), dtype=torch.int16).view(torch.bfloat16)
        hidden_MH[layer] = values.reshape(len(aligned), -1)
    targets_N = table.column("target_logp").drop_null().to_numpy().astype(np.float32)
    return TraceSignals(
        rows("ids", np.int64),
        rows("logp", np.float16),
        rows("logZ", np.float32),
        torch.from_numpy(targets_N),
        hidden_MH,
    )
