"""A small generation that kills its own process at a given instant: `main` takes OUT INSTANT [--retry-rejects | I/N].

INSTANT is one of the names in `_arm` with the number of the occurrence, as in `torn:2`.
"""

import os
import signal
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

CHUNK = 7


def carry_out(name: str, arguments: dict[str, Any]) -> str:
    """The executor's function."""
    if arguments.get("state") == "off":
        raise RuntimeError("nothing can be switched off")
    return name


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
        num_votes=3,
        judge=ScriptedBackendConfig(backend="scripted", answers=Path("unused")),
        executor=ExecutorConfig(function=f"{__name__}:carry_out"),
        shard=shard,
    )


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


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
            _die()
        places = append(journal, listed)
        if dies:
            _die()
        return places

    def dying_write(write: Any) -> Any:
        def written(path: Path, value: Any) -> None:
            write(path, value)
            if now_it_is():
                _die()

        return written

    if name in ("torn", "before_append", "after_append"):
        Journal.append = dying_append  # type: ignore[method-assign]
    elif name == "records_written":
        pipeline.write_jsonl = assembly.write_jsonl = dying_write(write_jsonl)  # type: ignore[attr-defined]
    elif name == "json_written":
        assembly.write_json = rounds.write_json = dying_write(write_json)  # type: ignore[attr-defined]
    else:
        assert name == "before_complete"
        RunDirectory.mark_complete = lambda run: _die()  # type: ignore[method-assign]


def main() -> None:
    out, instant, *flags = sys.argv[1:]
    _arm(instant)
    generator._CHUNK = outcomes._BATCH = CHUNK
    retry_rejects = "--retry-rejects" in flags
    config = config_for(Path(out), shard=next((flag for flag in flags if flag != "--retry-rejects"), None))
    pipeline.run_generation(config, FitfulTeacher, catalog(), judge=open_judge, retry_rejects=retry_rejects)
