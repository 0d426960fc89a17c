"""Tests of `fcdistill.generation.journal.plan_shards`, and of generations that are cut into shards."""

import fcntl
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fcdistill.backends.base import Completion, Request
from fcdistill.config import DecodeSettings, GenerateConfig
from fcdistill.errors import ConfigError, DataError, StorageError
from fcdistill.generation import generator
from fcdistill.generation.journal import outcomes
from fcdistill.generation.journal.plan_shards import Shard
from fcdistill.generation.pipeline import run_generation
from fcdistill.records import GenerationStats, ModelRef, Reject
from fcdistill.storage import read_json, read_jsonl, write_json
from tests.generation import crashing
from tests.generation.crashing import FitfulTeacher, config_for
from tests.generation.home import EXAMPLES, TOOLS, VALUES, catalog
from tests.generation.runs import contents, journal_keys, refuse
from tests.generation.teacher.prompt_reading import answer

COUNT = 3


class RepetitiveTeacher:
    """Says one thing to several requests at its first try, and nothing usable to others; counts what it was asked."""

    ref = ModelRef(model="repetitive")

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, int]] = Counter()

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        for request in requests:
            self.asked[request.id, settings.seed] += 1
            text = answer(request)
            if settings.seed == 0 and "Topic: " in request.messages[-1].content:
                text = "tell me a story"
            elif settings.seed == 0 and sum(map(ord, request.id)) % 5 == 0:
                text = "Sure, I will!"
            yield Completion(request.id, text, "stop", prompt_tokens=9, completion_tokens=3)

    def close(self) -> None:
        pass


def config(out: Path, **fields: Any) -> GenerateConfig:
    return GenerateConfig(
        **{
            "tools": TOOLS,
            "out": out,
            "teacher": {"backend": "scripted", "answers": "unused"},
            "values": VALUES,
            "examples": EXAMPLES,
            "num_call_first": 40,
            "num_varied": 5,
            "num_joined": 5,
            "num_multi_turn": 6,
            "num_clarified": 3,
            "no_call_fraction": 0.4,
            "attempts": 2,
            **fields,
        }
    )


def run(out: Path, teacher: RepetitiveTeacher, **fields: Any) -> GenerationStats:
    return run_generation(config(out, **fields), lambda: teacher, catalog())


def run_shards(out: Path, teacher: RepetitiveTeacher, *numbers: int, **fields: Any) -> list[GenerationStats]:
    return [run(out, teacher, shard=f"{number}/{COUNT}", **fields) for number in numbers]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GenerationStats, RepetitiveTeacher]:
    """A generation that was never cut."""
    out, teacher = tmp_path_factory.mktemp("whole") / "out", RepetitiveTeacher()
    return out, run(out, teacher), teacher


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[GenerationStats], RepetitiveTeacher]:
    """All shards of it, not taken up."""
    out, teacher = tmp_path_factory.mktemp("sharded") / "out", RepetitiveTeacher()
    return out, run_shards(out, teacher, 2, 3, 1), teacher


@pytest.fixture
def shards(sharded: tuple[Path, list[GenerationStats], RepetitiveTeacher], tmp_path: Path) -> Path:
    return Path(shutil.copytree(sharded[0], tmp_path / "out"))


def test_shards_make_what_a_whole_generation_makes_and_ask_nothing_twice(
    whole: tuple[Path, GenerationStats, RepetitiveTeacher],
    sharded: tuple[Path, list[GenerationStats], RepetitiveTeacher],
    shards: Path,
) -> None:
    teacher = RepetitiveTeacher()
    stats = run(shards, teacher)
    assert contents(shards) == contents(whole[0])
    timing: dict[str, Any] = {"seconds": 0.0, "completion_tokens_per_s": None}
    assert stats.model_copy(update=timing) == whole[1].model_copy(update=timing)
    assert sorted(journal_keys(shards)) == sorted(journal_keys(whole[0]))
    assert teacher.asked + sharded[2].asked == whole[2].asked
    assert teacher.asked  # repetitions across shards are written again
    assert {attempt for _, attempt in teacher.asked} == {1}


def test_taking_shards_up_again_changes_nothing(
    whole: tuple[Path, GenerationStats, RepetitiveTeacher], shards: Path
) -> None:
    run(shards, RepetitiveTeacher())
    before = contents(shards), journal_keys(shards)
    assert run_generation(config(shards), refuse, catalog()).kept == whole[1].kept
    for number in range(1, COUNT + 1):
        run_generation(config(shards, shard=f"{number}/{COUNT}"), refuse, catalog())
        shutil.rmtree(Shard(COUNT, number).directory(shards))
    run_generation(config(shards), refuse, catalog())
    assert (contents(shards), journal_keys(shards)) == before


def test_a_shard_says_what_it_made_and_writes_no_traces(
    sharded: tuple[Path, list[GenerationStats], RepetitiveTeacher],
) -> None:
    out, stats, _ = sharded
    assert sorted(path.name for path in out.iterdir()) == [f"shard-{number}-of-3" for number in (1, 2, 3)]
    assert sum(made.planned for made in stats) == 46 and {made.planned for made in stats} == {15, 16}
    for directory in out.iterdir():
        assert {path.name for path in directory.iterdir()} == {".lock", "journal.jsonl", "manifest.json", "stats.json"}


def test_missing_and_unfinished_shards_are_named_and_nothing_is_left_behind(shards: Path) -> None:
    shutil.rmtree(Shard(COUNT, 2).directory(shards))
    manifest = Shard(COUNT, 3).directory(shards) / "manifest.json"
    write_json(manifest, {**read_json(manifest), "status": "running"})
    with pytest.raises(DataError, match="2/3 is missing, 3/3 is unfinished") as refused:
        run_generation(config(shards), refuse, catalog())
    assert "--shard 2/3; fcdistill generate CONFIG --shard 3/3" in refused.value.fix
    assert sorted(path.name for path in shards.iterdir()) == ["shard-1-of-3", "shard-3-of-3"]
    run_shards(shards, RepetitiveTeacher(), 2, 3)
    assert run(shards, RepetitiveTeacher()).kept


def test_a_shard_at_work_is_not_taken_up(shards: Path) -> None:
    directory = Shard(COUNT, 2).directory(shards)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process is working in .*shard-2-of-3"):
            run_generation(config(shards), refuse, catalog())


def test_shards_of_several_cuts_or_another_generation_are_refused(shards: Path) -> None:
    with pytest.raises(DataError, match=r"shard-1-of-3 holds a run with another configuration(.|\n)*seed: was 0, is 1"):
        run_generation(config(shards, seed=1), refuse, catalog())
    run(shards, RepetitiveTeacher(), shard="1/2")
    with pytest.raises(DataError, match="several cuts: into 2 and into 3"):
        run_generation(config(shards), refuse, catalog())


def test_rejects_are_not_tried_again_in_a_shard(shards: Path) -> None:
    with pytest.raises(ConfigError, match="in shard 1/3 alone"):
        run_generation(config(shards, shard="1/3"), refuse, catalog(), retry_rejects=True)
    run(shards, RepetitiveTeacher())
    rejects = {reject.id for reject in read_jsonl(shards / "rejects.jsonl", Reject)}
    teacher = RepetitiveTeacher()
    run_generation(config(shards), lambda: teacher, catalog(), retry_rejects=True)
    assert {name for name, _ in teacher.asked} == rejects


def test_more_shards_than_items_leave_some_empty(tmp_path: Path) -> None:
    few: dict[str, Any] = {"num_call_first": 2, "num_varied": 0, "num_joined": 0, "num_multi_turn": 0}
    out = tmp_path / "out"
    assert [made.planned for made in run_shards(out, RepetitiveTeacher(), 1, 2, 3, **few)] == [1, 1, 0]
    run(out, RepetitiveTeacher(), **few)
    run(tmp_path / "whole", RepetitiveTeacher(), **few)
    assert contents(out) == contents(tmp_path / "whole")


def test_earlier_traces_are_reused_once(whole: tuple[Path, GenerationStats, RepetitiveTeacher], tmp_path: Path) -> None:
    out, larger = tmp_path / "out", {"num_call_first": 60, "reuse": (whole[0] / "traces.jsonl",)}
    apart, together = RepetitiveTeacher(), RepetitiveTeacher()
    run_shards(out, apart, 1, 2, 3, **larger)
    stats = run(out, apart, **larger)
    assert stats.reused == run(tmp_path / "whole", together, **larger).reused > 20
    assert contents(out) == contents(tmp_path / "whole") and apart.asked == together.asked


# --- killed and taken up again


def finish(out: Path, monkeypatch: pytest.MonkeyPatch, *shards: str | None) -> None:
    monkeypatch.setattr(generator, "_CHUNK", crashing.CHUNK)
    monkeypatch.setattr(outcomes, "_BATCH", crashing.CHUNK)
    for shard in shards:
        run_generation(config_for(out, shard), FitfulTeacher, catalog(), judge=crashing.open_judge)


@pytest.mark.parametrize(("instant", "shard"), [("torn:2", "2/2"), ("torn:1", None)])
def test_a_killed_shard_or_merge_goes_on_from_its_journal(
    tmp_path: Path, instant: str, shard: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    finish(out, monkeypatch, *(["1/2"] if shard else ["1/2", "2/2"]))
    assert crashing.generate_until(instant, out, shard=shard) == -signal.SIGKILL
    finish(out, monkeypatch, *([shard] if shard else []), None)
    finish(whole, monkeypatch, None)
    assert contents(out) == contents(whole)
    assert sorted(journal_keys(out)) == sorted(journal_keys(whole))
