"""A small generation that kills its own process at a given instant.

An instant is one of the names in `_arm` with the number of the occurrence, as in `torn:2`.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fcdistill.backends import ScriptedBackend
from fcdistill.backends.base import Completion, Request
from fcdistill.config import DecodeSettings, ExecutorConfig, GenerateConfig, ScriptedBackendConfig
from fcdistill.generation import assembly, generator, pipeline
from fcdistill.generation.journal import outcomes, rounds
from fcdistill.records import ModelRef, ToolCall
from fcdistill.storage import Journal, RunDirectory
from fcdistill.toolcalls.parsing import render_calls
from tests.generation.home import EXAMPLES, TOOLS, VALUES, catalog, write_faithfully
from tests.killed import exit_code_of, kill_me
from tests.paths import ROOT

CHUNK = 7


class FitfulTeacher:
    """Writes faithfully, but for some requests only from a later attempt on; of its answers some agree."""

    ref = ModelRef(model="fitful")

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        for request in requests:
            weight = sum(map(ord, request.id))
            if request.specs:
                state = ("on", "on", "off", "up", "up")[(weight + settings.seed) % 5]
                text = render_calls([ToolCall(name="set_light", arguments={"room": "kitchen", "state": state})])
            else:
                text = write_faithfully(request) if settings.seed >= weight % 5 - 1 else "Sure, I will!"
            yield Completion(request.id, text, "stop", prompt_tokens=9, completion_tokens=3)

    def close(self) -> None:
        pass


def open_judge() -> ScriptedBackend:
    return ScriptedBackend(lambda request: f"{('A', 'none')[sum(map(ord, request.id)) % 2]}: the request says so")


def config_for(out: Path, shard: str | None = None) -> GenerateConfig:
    return GenerateConfig(
        tools=TOOLS,
        out=out,
        teacher=ScriptedBackendConfig(backend="scripted", answers=Path("unused")),
        values=VALUES,
        examples=EXAMPLES,
        num_call_first=30,
        num_varied=10,
        seeds=Path(__file__).with_name("crashing_seeds.jsonl"),
        recorded=(Path(__file__).with_name("crashing_recorded.jsonl"),),
        num_votes=3,
        judge=ScriptedBackendConfig(backend="scripted", answers=Path("unused")),
        executor=ExecutorConfig(function="tests.generation.carrying_out:carry_out"),
        shard=shard,
    )


def _arm(instant: str) -> None:
    """Replace the function that stands for an instant by one that dies there."""
    name, _, number = instant.partition(":")
    left = [int(number or 1)]

    def now_it_is() -> bool:
        left[0] -= 1
        return left[0] == 0

    append, write_jsonl, write_json = Journal.append, assembly.write_jsonl, assembly.write_json

    def dying_append(journal: Journal[Any], records: Iterable[Any]) -> list[int]:
        listed = list(records)
        dies = now_it_is()
        if dies and name == "torn":
            data = "".join(record.model_dump_json() + "\n" for record in listed).encode()
            journal._file.write(data[: len(data) // 2])
        if dies and name in ("torn", "before_append"):
            kill_me()
        places = append(journal, listed)
        if dies:
            kill_me()
        return places

    def dying_write(write: Any) -> Any:
        def written(path: Path, value: Any) -> None:
            write(path, value)
            if now_it_is():
                kill_me()

        return written

    if name in ("torn", "before_append", "after_append"):
        Journal.append = dying_append  # type: ignore[method-assign]
    elif name == "records_written":
        pipeline.write_jsonl = assembly.write_jsonl = dying_write(write_jsonl)  # type: ignore[attr-defined]
    elif name == "json_written":
        assembly.write_json = rounds.write_json = dying_write(write_json)  # type: ignore[attr-defined]
    else:
        assert name == "before_complete"
        RunDirectory.mark_complete = lambda run: kill_me()  # type: ignore[method-assign]


def generate_until(instant: str, out: Path, *, shard: str | None = None, retry_rejects: bool = False) -> int:
    """Generate until an instant, in a process that dies then; its exit code."""

    def work() -> None:
        os.chdir(ROOT)  # where the executor's process finds its function
        sys.modules.pop("torch", None)  # other tests loaded it; a generation that has none forks for some of its work
        _arm(instant)
        generator._CHUNK = outcomes._BATCH = CHUNK
        made = config_for(out, shard)
        pipeline.run_generation(made, FitfulTeacher, catalog(), judge=open_judge, retry_rejects=retry_rejects)

    return exit_code_of(work)
