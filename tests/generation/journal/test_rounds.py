"""Tests of `fcdistill.generation.journal.rounds`, and of generations that have several."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fcdistill.backends.base import Completion, Request
from fcdistill.config import AdaptationConfig, DecodeSettings, GenerateConfig, LocalBackendConfig
from fcdistill.errors import BackendError, DataError
from fcdistill.generation import assembly, generator, pipeline
from fcdistill.generation.journal import rounds
from fcdistill.generation.journal.rounds import OnDemand, Round, read_rounds, write_rounds
from fcdistill.generation.pipeline import run_generation
from fcdistill.records import GenerationStats, ModelRef, Outcome, Reject, RoundYield, SeedRequest, ToolCall, Trace
from fcdistill.storage import iter_jsonl, read_jsonl, write_jsonl
from fcdistill.toolcalls.parsing import render_calls
from tests.generation.home import EXAMPLES, TOOLS, VALUES, catalog, write_faithfully

OUTPUTS = ("traces.jsonl", "rejects.jsonl", "stats.json", "traces-round-1.jsonl")
SYSTEM = "It is Sunday, 2 May 2027, 09:15."
SEEDS = {
    "a": ("kitchen light on", "kitchen"),
    "b": ("please switch the office light on", "office"),
    "c": ("bedroom light on right now", "bedroom"),
}
NUM_WRITTEN = 4
WRITES = (
    (pipeline, "write_jsonl"),
    (assembly, "write_jsonl"),
    (assembly, "write_json"),
    (rounds, "write_json"),
)
"""Every function that writes a file of a generation, by the module that calls it."""


class Teacher:
    """Writes requests faithfully and answers the seeds whose ids are among `known` rightly."""

    def __init__(self, name: str, known: str) -> None:
        self.ref = ModelRef(model=name)
        self.prompt_format = None
        self.known = [SEEDS[seed][0] for seed in known]
        self.asked: list[tuple[Request, DecodeSettings]] = []
        self.closed = 0

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        for request in requests:
            self.asked.append((request, settings))
            text = request.messages[-1].content
            room = next((room for said, room in SEEDS.values() if text.endswith(said)), None)
            if room is None:
                answer = write_faithfully(request)
            elif any(text.endswith(said) for said in self.known):
                answer = render_calls([ToolCall(name="set_light", arguments={"room": room, "state": "on"})])
            else:
                answer = "I would love to."
            yield Completion(request.id, answer, "stop", prompt_tokens=10, completion_tokens=2)

    def close(self) -> None:
        self.closed += 1


class World:
    """A generation with teachers that know more in every round."""

    def __init__(self, directory: Path) -> None:
        self.out = directory / "out"
        self.seeds = directory / "seeds.jsonl"
        seeds = [SeedRequest(id=name, text=text, category="simple") for name, (text, _) in SEEDS.items()]
        write_jsonl(self.seeds, [*seeds[:-1], seeds[-1].model_copy(update={"system": SYSTEM})])
        self.raw = Teacher("raw", "a")
        self.adapted = {2: Teacher("adapted-2", "ab"), 3: Teacher("adapted-3", "abc")}
        self.learned: list[tuple[int, list[str]]] = []

    def config(self, num_rounds: int, **fields: Any) -> GenerateConfig:
        return GenerateConfig(
            **{
                "tools": TOOLS,
                "out": self.out,
                "teacher": LocalBackendConfig(model="unused"),
                "values": VALUES,
                "examples": EXAMPLES,
                "seeds": self.seeds,
                "num_call_first": NUM_WRITTEN,
                "no_call_fraction": 0.0,
                "attempts": 1,
                "rounds": num_rounds,
                **fields,
            }
        )

    def adapt(self, number: int, traces: Path) -> Teacher:
        self.learned.append((number, [trace.id for trace in read_jsonl(traces, Trace)]))
        return self.adapted[number]

    def run(self, num_rounds: int, *, retry_rejects: bool = False, **fields: Any) -> GenerationStats:
        made = self.config(num_rounds, **fields)
        return run_generation(made, lambda: self.raw, catalog(), adapted=self.adapt, retry_rejects=retry_rejects)

    def traces(self) -> dict[str, Trace]:
        return {trace.id: trace for trace in read_jsonl(self.out / "traces.jsonl", Trace)}

    def contents(self) -> list[bytes]:
        return [(self.out / name).read_bytes() for name in OUTPUTS]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def answered(teacher: Teacher) -> list[str]:
    return [request.id for request, _ in teacher.asked if request.id.startswith("request-first")]


def test_each_round_s_teacher_answers_what_is_left(world: World) -> None:
    stats = world.run(3)
    examples = [trace.id for trace in world.traces().values() if trace.meta.source == "import"]
    assert stats.kept == len(examples) + NUM_WRITTEN + len(SEEDS)
    assert [answered(teacher) for teacher in (world.raw, *world.adapted.values())] == [
        ["request-first-a", "request-first-b", "request-first-c"],
        ["request-first-b", "request-first-c"],
        ["request-first-c"],
    ]
    makers = {trace.id: trace.meta.teacher.model for trace in world.traces().values()}
    assert [makers[f"request-first-{name}"] for name in "abc"] == ["raw", "adapted-2", "adapted-3"]
    assert stats.rounds == (
        RoundYield(round=1, teacher="raw", asked=NUM_WRITTEN + 3, kept=NUM_WRITTEN + 1),
        RoundYield(round=2, teacher="adapted-2", asked=2, kept=1),
        RoundYield(round=3, teacher="adapted-3", asked=1, kept=1),
    )


def test_the_teacher_learns_all_that_was_kept_before(world: World) -> None:
    world.run(3)
    (second, before), (third, later) = world.learned
    assert (second, third) == (2, 3)
    assert set(later) - set(before) == {"request-first-b"}
    assert {"request-first-a", "call-first-00001"} < set(before)
    assert read_jsonl(world.out / "traces-round-2.jsonl", Trace) != read_jsonl(world.out / "traces.jsonl", Trace)


def test_an_adapted_teacher_is_asked_as_the_traces_are_written_greedily_at_first(world: World) -> None:
    world.run(2, attempts=2)
    raw = next(request for request, _ in world.raw.asked if request.id == "request-first-c")
    assert len(raw.messages) > 2 and raw.messages[-1].content.startswith(f"({SYSTEM})")
    first, second = [(request, how) for request, how in world.adapted[2].asked if request.id == "request-first-c"]
    assert [message.role for message in first[0].messages] == ["system", "user"]
    assert first[0].messages[-1].content == SEEDS["c"][0]
    assert (first[1].sampling_temperature, second[1].sampling_temperature) == (0.0, 0.8)
    seeds = [how.seed for request, how in (*world.raw.asked, *world.adapted[2].asked) if request.id == first[0].id]
    assert seeds == [0, 1, 2, 3]


def test_requests_are_written_by_the_teacher_as_it_is(world: World) -> None:
    spoilt = world.raw.complete

    def complete(requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        for completion in spoilt(requests, settings):
            late = completion.id == "call-first-00001" and settings.seed == 0
            yield Completion(completion.id, "Sure, I will!" if late else completion.text, "stop", 10, 2)

    world.raw.complete = complete  # type: ignore[method-assign]
    stats = world.run(2)
    assert world.traces()["call-first-00001"].meta.teacher.model == "raw"
    assert stats.rounds[1:] == (
        RoundYield(round=2, teacher="raw", asked=1, kept=1),
        RoundYield(round=2, teacher="adapted-2", asked=2, kept=1),
    )
    assert world.raw.closed == 2 and world.adapted[2].closed == 1


def test_a_round_can_be_added_to_a_finished_run(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert world.run(1).kept < world.run(2).kept
    at_once = World(tmp_path_factory.mktemp("at_once"))
    at_once.run(2)
    drop = {"seconds", "completion_tokens_per_s"}
    found, wanted = (read.run(2).model_dump(exclude=drop) for read in (world, at_once))
    assert found == wanted
    assert world.traces() == at_once.traces()
    # Fewer rounds than there are change nothing.
    assert world.run(1).model_dump(exclude=drop) == wanted


def test_there_is_no_round_without_an_open_question(world: World) -> None:
    world.raw.known = [text for text, _ in SEEDS.values()]
    assert world.run(3).rounds == (RoundYield(round=1, teacher="raw", asked=NUM_WRITTEN + 3, kept=NUM_WRITTEN + 3),)
    assert world.learned == []
    assert world.run(3).kept == len(world.traces())


def test_there_is_no_round_without_traces_to_learn_from(world: World) -> None:
    world.raw.known = []
    assert world.run(2, num_call_first=0, examples=None).kept == 0
    assert world.learned == []


def test_rejects_are_tried_again_by_the_last_teacher(world: World) -> None:
    world.run(2)
    world.adapted[2].known = [text for text, _ in SEEDS.values()]
    stats = world.run(2, retry_rejects=True)
    assert stats.rounds[-1] == RoundYield(round=2, teacher="adapted-2", asked=2, kept=2)
    assert [number for number, _ in world.learned] == [2, 2]
    assert [each.num_attempts for each in read_rounds(world.out, 1)] == [1, 2]


def test_how_a_teacher_learns_may_change_until_one_has_learned(world: World) -> None:
    world.run(1)
    world.run(2, adaptation=AdaptationConfig(epochs=1.0))
    with pytest.raises(DataError, match=r"adaptation\.epochs: was 1\.0, is 2\.0"):
        world.run(3, adaptation=AdaptationConfig(epochs=2.0))


def test_shards_are_the_first_round(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = World(tmp_path_factory.mktemp("whole"))
    wanted = whole.run(3)
    made = [world.run(1, shard=f"{number}/2") for number in (1, 2)]
    assert [stats.rounds[0].asked for stats in made] == [4, 3] and world.learned == []
    asked = len(world.raw.asked)
    stats = world.run(3, adaptation=AdaptationConfig(epochs=1.0))
    assert len(world.raw.asked) == asked
    drop = {"seconds", "completion_tokens_per_s"}
    assert stats.model_dump(exclude=drop) == wanted.model_dump(exclude=drop)
    assert world.traces() == whole.traces() and world.learned == whole.learned
    assert sorted(journal_keys(world.out)) == sorted(journal_keys(whole.out))


def test_shards_are_taken_up_again_in_a_later_round(world: World) -> None:
    for number in (1, 2):
        world.run(1, shard=f"{number}/2")
    adapted, learned = world.adapted.pop(2), AdaptationConfig(epochs=1.0)
    with pytest.raises(KeyError):
        world.run(2, adaptation=learned)
    world.adapted[2] = adapted
    assert world.run(2, adaptation=learned).rounds[-1] == RoundYield(round=2, teacher="adapted-2", asked=2, kept=1)
    assert [number for number, _ in world.learned] == [2, 2]


# --- stopped and taken up again


def journal_keys(out: Path) -> list[tuple[str, int]]:
    keys = [(outcome.id, outcome.attempt) for outcome in iter_jsonl(out / "journal.jsonl", Outcome)]
    assert len(keys) == len(set(keys))
    return keys


def test_a_run_that_stops_at_any_write_ends_with_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = World(tmp_path_factory.mktemp("whole"))
    monkeypatch.setattr(generator.time, "monotonic", lambda: 0.0)  # else the seconds in stats.json differ
    whole.run(2)
    num_writes = 0
    while True:
        world, left = World(tmp_path_factory.mktemp("stopped")), [num_writes]

        def stopping(write: Callable[..., None], left: list[int] = left) -> Callable[..., None]:
            def written(*arguments: Any) -> None:
                write(*arguments)
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt

            return written

        with monkeypatch.context() as patch:
            for module, name in WRITES:
                patch.setattr(module, name, stopping(getattr(module, name)))
            try:
                world.run(2)
            except KeyboardInterrupt:
                num_writes += 1
            else:
                break
        world.run(2)
        assert world.contents() == whole.contents(), f"stopped after write {num_writes}"
        assert journal_keys(world.out) == journal_keys(whole.out)
    assert num_writes > 6


def test_an_adaptation_that_fails_keeps_what_was_made(world: World) -> None:
    failing = {2: 1}

    def adapt(number: int, traces: Path) -> Teacher:
        if failing.pop(number, 0):
            raise BackendError("out of memory")
        return world.adapt(number, traces)

    for _ in range(2):
        try:
            run_generation(world.config(2), lambda: world.raw, catalog(), adapted=adapt)
        except BackendError:
            assert "request-first-a" in world.traces() and read_jsonl(world.out / "rejects.jsonl", Reject)
    assert "request-first-b" in world.traces()
    assert answered(world.raw) == ["request-first-a", "request-first-b", "request-first-c"]


# --- the parts


def test_rounds_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_rounds(tmp_path, 2) == [Round(1, 0, 2)]
    written = [Round(1, 0, 2), Round(2, 2, 3), Round(3, 5, 1)]
    write_rounds(tmp_path, written)
    assert read_rounds(tmp_path, 9) == written
    assert [list(each.attempts) for each in written] == [[0, 1], [2, 3, 4], [5]]


def test_a_backend_on_demand_is_opened_once_and_closed_if_it_was() -> None:
    teacher, opened = Teacher("raw", "a"), []
    on_demand = OnDemand(lambda: opened.append(1) or teacher)  # type: ignore[func-returns-value]
    on_demand.close()
    assert not opened and not teacher.closed
    assert on_demand.ref == teacher.ref and on_demand.prompt_format is None
    assert list(on_demand.complete([], DecodeSettings())) == []
    on_demand.close()
    assert len(opened) == 1 and teacher.closed == 1
