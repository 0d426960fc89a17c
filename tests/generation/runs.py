"""Runs of the pipeline with scripted teachers, and what they wrote."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fcdistill.backends import ScriptedBackend
from fcdistill.backends.base import Completion, Request
from fcdistill.config import DecodeSettings, GenerateConfig, ScriptedBackendConfig
from fcdistill.generation.pipeline import run_generation
from fcdistill.records import GenerationStats, Reject, SeedRequest, ToolCall, Trace
from fcdistill.storage import read_jsonl, write_jsonl
from fcdistill.toolcalls.parsing import render_calls
from tests.generation.home import TOOLS, VALUES, catalog, write_faithfully

OUTPUTS = ("traces.jsonl", "rejects.jsonl")


def config(out: Path, **fields: Any) -> GenerateConfig:
    teacher = ScriptedBackendConfig(backend="scripted", answers=Path("unused"))
    return GenerateConfig(
        **{"tools": TOOLS, "out": out, "teacher": teacher, "values": VALUES, "num_call_first": 0, **fields}
    )


def run(
    out: Path, answers: Callable[[Request], str] = write_faithfully, *, retry_rejects: bool = False, **fields: Any
) -> GenerationStats:
    made = config(out, **fields)
    return run_generation(made, lambda: ScriptedBackend(answers), catalog(), retry_rejects=retry_rejects)


def refuse() -> ScriptedBackend:
    raise AssertionError("the teacher was opened")


def traces(out: Path) -> list[Trace]:
    return read_jsonl(out / "traces.jsonl", Trace)


def rejects(out: Path) -> list[Reject]:
    return read_jsonl(out / "rejects.jsonl", Reject)


def reasons(out: Path) -> dict[str, str]:
    return {reject.id: reject.check for reject in rejects(out)}


def seeds_file(path: Path, *seeds: tuple[str, str, str | None]) -> Path:
    write_jsonl(path, [SeedRequest(id=name, text=text, category=category) for name, text, category in seeds])  # type: ignore[arg-type]
    return path


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


LIGHT = call("set_light", room="kitchen", state="on")


def hermes(*calls: ToolCall) -> str:
    return render_calls(calls)


class Teacher:
    """Answers by request and attempt, and remembers what it was asked."""

    ref = ScriptedBackend({}).ref

    def __init__(self, answers: Callable[[Request, int], str]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.closed = False

    def opened(self) -> "Teacher":
        return self

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request.id)
            yield Completion(request.id, self.answers(request, settings.seed), "stop", 10, 2)

    def close(self) -> None:
        self.closed = True


def contents(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in OUTPUTS]


def journal_keys(out: Path) -> list[tuple[str, int]]:
    lines = (out / "journal.jsonl").read_text().splitlines()
    keys = [(record["id"], record["attempt"]) for record in map(json.loads, lines)]
    assert len(keys) == len(set(keys))
    return keys
