"""Tests of `fcdistill.generation.pipeline`, with scripted teachers."""

import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fcdistill.backends import ScriptedBackend
from fcdistill.backends.base import Completion, Request
from fcdistill.config import DecodeSettings, GenerateConfig, LocalBackendConfig
from fcdistill.errors import BackendError, DataError
from fcdistill.generation import generator
from fcdistill.generation.dataset.reuse import RECORDED
from fcdistill.generation.journal import outcomes
from fcdistill.generation.pipeline import run_generation
from fcdistill.records import EvalCase, GenerationStats, Message, Outcome, WorkedExample
from fcdistill.storage import read_json, read_jsonl, write_jsonl
from tests.generation import crashing
from tests.generation.home import EXAMPLES, catalog, write_faithfully
from tests.generation.runs import (
    LIGHT,
    OUTPUTS,
    Teacher,
    call,
    config,
    contents,
    hermes,
    journal_keys,
    reasons,
    refuse,
    rejects,
    run,
    seeds_file,
    traces,
)
from tests.paths import ROOT
from tests.tiny import tiny_tokenizer

# --- a whole run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GenerationStats]:
    out = tmp_path_factory.mktemp("run") / "out"
    return out, run(out, num_call_first=80, examples=EXAMPLES)


def test_a_faithful_teacher_s_traces_are_all_kept(finished: tuple[Path, GenerationStats]) -> None:
    out, stats = finished
    assert rejects(out) == []
    assert stats.kept == stats.planned == len(traces(out)) == 80 + len(read_jsonl(EXAMPLES, WorkedExample))
    assert {path.name for path in out.iterdir()} >= {*OUTPUTS, "stats.json", "manifest.json", "journal.jsonl"}


def test_stats_add_up(finished: tuple[Path, GenerationStats]) -> None:
    out, stats = finished
    assert GenerationStats.model_validate(read_json(out / "stats.json")) == stats
    kept = traces(out)
    for counts in (stats.by_source, stats.by_category):
        assert sum(count.kept for count in counts.values()) == stats.kept
        assert sum(count.planned for count in counts.values()) == stats.planned
    assert stats.calls_by_tool == {
        name: sum(made.name == name for trace in kept for made in trace.answer.calls) for name in catalog().by_name
    }
    assert min(stats.calls_by_tool.values()) > 0
    assert all(stage.passed == stage.checked for stage in stats.stages.values())
    assert stats.attempts == 80


def test_traces_hold_tools_in_openai_s_wrapping_and_calls_in_the_schema_s_order(
    finished: tuple[Path, GenerationStats],
) -> None:
    out, _ = finished
    for line in (out / "traces.jsonl").read_text().splitlines():
        raw = json.loads(line)
        assert {tool["type"] for tool in raw["tools"]} <= {"function"}
        if raw["meta"]["category"] != "irrelevance":
            assert [tool["function"]["name"] for tool in raw["tools"]] == list(catalog().by_name)
        for made in raw["messages"][-1].get("tool_calls", []):
            spec = catalog().by_name[made["function"]["name"]]
            order = [name for name in spec.parameters["properties"] if name in made["function"]["arguments"]]
            assert list(made["function"]["arguments"]) == order


def test_no_call_traces_hold_a_question_or_the_configured_answer(finished: tuple[Path, GenerationStats]) -> None:
    answers = [
        (trace.meta.category, trace.answer.content)
        for trace in traces(finished[0])
        if trace.meta.source == "call_first" and not trace.answer.calls
    ]
    assert {category for category, _ in answers} == {"clarify", "irrelevance"}
    for category, text in answers:
        fixed = GenerateConfig.model_fields["no_call_answer"].default
        assert text == fixed if category == "irrelevance" else text.startswith("Which ")


def test_a_request_whose_tool_is_not_shown_gets_no_call(finished: tuple[Path, GenerationStats]) -> None:
    refused = [trace for trace in traces(finished[0]) if trace.meta.plan_cell.startswith("irrelevance:")]
    shown = {trace.meta.plan_cell.split("/")[0]: trace for trace in refused}
    assert shown.keys() == {"irrelevance:others", "irrelevance:none"}
    for trace in refused:
        assert not trace.answer.calls and trace.answer.content
        assert next(check for check in trace.meta.checks if check.name == "grounding").ok, "it does ask for the tool"
        asked = trace.meta.plan_cell.split("/")[1].split("[")[0]
        names = {spec.name for spec in trace.specs}
        assert names == (catalog().by_name.keys() - {asked} if "others" in trace.meta.plan_cell else set())
    cells = [cell for cell in finished[1].cells if cell.offered != "all"]
    assert sum(cell.kept for cell in cells) == len(refused) and all(cell.tool for cell in cells)


def test_equal_calls_share_a_split_group_with_the_examples(tmp_path: Path) -> None:
    out, examples = tmp_path / "out", tmp_path / "examples.jsonl"
    write_jsonl(
        examples,
        [WorkedExample(id=str(n), request=f"kitchen light on {n}", category="simple", calls=(LIGHT,)) for n in "ab"],
    )
    run(out, examples=examples, seeds=seeds_file(tmp_path / "s.jsonl", ("s", "good morning", "irrelevance")))
    groups = {trace.id: trace.split_group for trace in traces(out)}
    assert groups["a"] == groups["b"] != groups["request-first-s"]


def test_traces_load_as_a_dataset_and_render_through_a_chat_template(
    finished: tuple[Path, GenerationStats], tmp_path: Path
) -> None:
    from datasets import load_dataset

    out, stats = finished
    loaded = load_dataset("json", data_files=str(out / "traces.jsonl"), split="train", cache_dir=str(tmp_path))
    assert len(loaded) == stats.kept and {"messages", "tools"} <= set(loaded.column_names)
    tokenizer = tiny_tokenizer("qwen")
    for row, trace in zip(loaded.select(range(8)), traces(out)[:8], strict=True):
        messages = [message.model_dump(mode="json") for message in trace.messages]
        assert [message["content"] for message in row["messages"]] == [message["content"] for message in messages]
        text = tokenizer.apply_chat_template(
            messages, tools=[tool.model_dump(mode="json") for tool in trace.tools], tokenize=False
        )
        shown = tokenizer.apply_chat_template(row["messages"], tools=row["tools"], tokenize=False)
        for part in (trace.messages[-2].content, *(made.name for made in trace.answer.calls)):
            assert part in text and part in shown


def test_a_finished_directory_asks_nobody(finished: tuple[Path, GenerationStats]) -> None:
    out, stats = finished
    before = {name: (out / name).read_bytes() for name in OUTPUTS}
    made = config(out, num_call_first=80, examples=EXAMPLES)
    assert run_generation(made, refuse, catalog()) == stats
    assert run_generation(made, refuse, catalog(), retry_rejects=True).kept == stats.kept
    assert {name: (out / name).read_bytes() for name in OUTPUTS} == before


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_CHUNK", 5)
    told: list[tuple[int, int, int]] = []
    made = config(tmp_path / "out", num_call_first=12)
    run_generation(
        made, lambda: ScriptedBackend(write_faithfully), catalog(), on_progress=lambda *counts: told.append(counts)
    )
    assert told == [(5, 12, 5), (10, 12, 10), (12, 12, 12)]


# --- rejects and their reasons


REQUEST_FIRST: list[tuple[str, str | None, str, str | None]] = [
    ("kitchen light on", "simple", hermes(LIGHT), None),
    ("switch the kitchen on", None, hermes(LIGHT), None),
    ("kitchen on please", "simple", hermes(call("set_light", state="on", room="kitchen", brightness=50)), None),
    ("put the kitchen on", "simple", "<tool_call>{oops</tool_call>", "parse"),
    ("kitchen on now", "simple", "", "parse"),
    ("kitchen on at once", "simple", hermes(call("set_lamp")), "tool"),
    ("kitchen to 300", "simple", hermes(call("set_light", room="kitchen", state="on", brightness=300)), "schema"),
    ("do the kitchen on", "simple", hermes(LIGHT, call("get_sensor", sensor="humidity")), "count"),
    ("hm, kitchen on", "simple", "I would love to.", "count"),
    ("oh, kitchen on", None, "I would love to.", "count"),
    ("office on to 30", "simple", hermes(call("set_light", room="office", state="on")), "grounding"),
    ("Kitchen LIGHTS on!", "simple", hermes(LIGHT), "duplicate"),
    (
        "open the garage door before the lorry comes back",
        "simple",
        hermes(call("lock_door", door="garage", action="unlock")),
        "grounding",
    ),
    (
        "unlock the garage door before the lorry comes home",
        "simple",
        hermes(call("lock_door", door="garage", action="unlock")),
        "contaminated",
    ),
    ("the light", "clarify", "Which room?", None),
    ("that light", "clarify", "Please name a room.", "question"),
    ("those lamps", "clarify", "Which?\nThis one?", "question"),
    ("sing for me", "irrelevance", "never asked", None),
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GenerationStats]:
    folder = tmp_path_factory.mktemp("judged")
    answers = {f"s{number:02d}": answer for number, (_, _, answer, _) in enumerate(REQUEST_FIRST)}
    numbered = ((f"s{number:02d}", text, category) for number, (text, category, _, _) in enumerate(REQUEST_FIRST))
    seeds = seeds_file(folder / "seeds.jsonl", *numbered)
    text = "unlock the garage door before the lorry comes home tonight"
    case = EvalCase(
        id="case",
        messages=(Message(role="user", content=text),),
        behaviour="no_call",
        expected=((),),
        category="irrelevance",
    )
    write_jsonl(folder / "cases.jsonl", [case])
    stats = run(
        folder / "out",
        lambda request: answers[request.id.removeprefix("request-first-").partition("/")[0]],
        seeds=seeds,
        decontaminate=(folder / "cases.jsonl",),
        attempts=1,
    )
    return folder / "out", stats


@pytest.mark.parametrize("number", range(len(REQUEST_FIRST)))
def test_every_answer_is_kept_or_rejected_for_its_reason(judged: tuple[Path, GenerationStats], number: int) -> None:
    expected = REQUEST_FIRST[number][3]
    identity = f"request-first-s{number:02d}"
    found = [reject.check for reject in rejects(judged[0]) if reject.id == identity]
    kept = [trace.id for trace in traces(judged[0])].count(identity)
    assert (kept, found) == ((1, []) if expected is None else (0, [expected]))


def test_every_reject_tells_why(judged: tuple[Path, GenerationStats]) -> None:
    assert all(reject.detail for reject in rejects(judged[0]))
    unparsed = next(reject for reject in rejects(judged[0]) if "oops" in reject.candidate.answer.content)
    assert unparsed.check == "parse"


def test_a_repair_is_recorded_and_changes_the_answer(judged: tuple[Path, GenerationStats]) -> None:
    repaired = next(trace for trace in traces(judged[0]) if trace.id == "request-first-s02")
    assert repaired.answer.calls == (LIGHT,) and list(repaired.answer.calls[0].arguments) == ["room", "state"]
    check = next(check for check in repaired.meta.checks if check.name == "repair")
    assert check.ok and "set_light.brightness = 50" in check.detail
    assert judged[1].stages["repair"].passed == 1


def test_counts_of_the_stages_add_up(judged: tuple[Path, GenerationStats]) -> None:
    out, stats = judged
    assert stats.kept + stats.rejected == stats.planned == len(REQUEST_FIRST)
    assert Counter(reasons(out).values()) == {
        name: stage.checked - stage.passed for name, stage in stats.stages.items() if stage.checked > stage.passed
    }


def test_the_category_follows_the_answer_where_no_hint_is_given(judged: tuple[Path, GenerationStats]) -> None:
    assert next(trace for trace in traces(judged[0]) if trace.id == "request-first-s01").meta.category == "simple"


def test_written_requests_are_judged_too(tmp_path: Path) -> None:
    def unfaithful(request: Request) -> str:
        return {0: "Sure, I will do it.", 1: "in the attic at 77"}.get(sum(map(ord, request.id)) % 3, "") or (
            write_faithfully(request)
        )

    out = tmp_path / "out"
    stats = run(out, unfaithful, num_call_first=60, no_call_fraction=0.0, attempts=1)
    assert set(reasons(out).values()) == {"request", "grounding"}
    assert stats.kept + stats.rejected == 60
    assert {trace.id for trace in traces(out)}.isdisjoint(reasons(out))


def test_a_request_that_fails_alone_is_a_reject_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    seeds = seeds_file(tmp_path / "s.jsonl", ("a", "kitchen light on", "simple"), ("b", "office light on", "simple"))
    made = config(out, seeds=seeds)
    run_generation(made, lambda: ScriptedBackend({"kitchen light on": hermes(LIGHT)}), catalog())
    assert [trace.id for trace in traces(out)] == ["request-first-a"]
    assert reasons(out) == {"request-first-b": "backend"}


def test_numbers_in_a_foreign_request_are_no_fault(tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        text = write_faithfully(request)
        return f"{text} 200" if "Topic: " in request.messages[-1].content else text

    assert run(tmp_path / "out", answer, num_call_first=20, no_call_fraction=0.5).kept == 20


def test_typos_spare_what_the_answer_repeats(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, num_call_first=120, no_call_fraction=0.0)
    typed = [trace for trace in traces(out) if trace.meta.plan_cell.endswith("/typos")]
    assert typed
    for trace in typed:
        for made in trace.answer.calls:
            for name in ("query", "text", "label", "city"):
                if name in made.arguments:
                    assert made.arguments[name] in trace.messages[-2].content


# --- attempts


def from_attempt(number: int, *identities: str) -> Callable[[Request, int], str]:
    """Faithful, but for these ids only from an attempt on."""

    def answer(request: Request, attempt: int) -> str:
        return "" if request.id in identities and attempt < number else write_faithfully(request)

    return answer


def test_only_rejects_are_tried_again(tmp_path: Path) -> None:
    teacher = Teacher(from_attempt(1, "call-first-00002"))
    made = config(tmp_path / "out", num_call_first=6, no_call_fraction=0.0, attempts=3)
    stats = run_generation(made, lambda: teacher, catalog())
    assert Counter(teacher.asked) == {f"call-first-{n:05d}": 2 if n == 2 else 1 for n in range(1, 7)}
    assert (stats.kept, stats.attempts) == (6, 7) and teacher.closed
    assert (stats.prompt_tokens, stats.completion_tokens) == (70, 14)
    assert stats.stages["request"].checked == 7 and stats.stages["request"].passed == 6
    assert next(trace for trace in traces(tmp_path / "out") if trace.id == "call-first-00002").meta.attempt == 1


def test_retry_rejects_gives_each_reject_one_more_attempt_and_keeps_the_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = config(out, num_call_first=6, no_call_fraction=0.0, attempts=1)
    late = from_attempt(2, "call-first-00002", "call-first-00005")
    run_generation(made, lambda: Teacher(late), catalog())
    kept = {trace.id: trace for trace in traces(out)}
    assert set(reasons(out)) == {"call-first-00002", "call-first-00005"}
    for kept_now in (4, 6):
        teacher = Teacher(late)
        stats = run_generation(made, teacher.opened, catalog(), retry_rejects=True)
        assert sorted(teacher.asked) == ["call-first-00002", "call-first-00005"]
        assert stats.kept == kept_now
        assert {trace.id: trace for trace in traces(out) if trace.id in kept} == kept
    assert run_generation(made, refuse, catalog(), retry_rejects=True).kept == 6


def test_a_written_duplicate_is_written_again(tmp_path: Path) -> None:
    """An example already says what the teacher writes first."""
    one = {"num_call_first": 1, "no_call_fraction": 0.0}
    run(tmp_path / "first", **one)
    (only,) = traces(tmp_path / "first")
    examples = tmp_path / "examples.jsonl"
    example = WorkedExample(id="e", request=only.messages[-2].content, category="irrelevance", text="no")
    write_jsonl(examples, [example])
    teacher = Teacher(lambda request, attempt: write_faithfully(request) + (" dear" if attempt else ""))
    made = config(tmp_path / "out", examples=examples, attempts=2, **one)
    stats = run_generation(made, teacher.opened, catalog())
    assert teacher.asked == ["call-first-00001"] * 2
    assert [trace.id for trace in traces(tmp_path / "out")] == ["e", "call-first-00001"]
    assert stats.rejected == 0


def test_of_duplicates_the_earlier_attempt_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    irrelevant = {"num_call_first": 8, "no_call_fraction": 0.5, "removed_tools_fraction": 0.0, "attempts": 1}

    def answer(request: Request, attempt: int) -> str:
        if "Topic: " not in request.messages[-1].content:
            return write_faithfully(request)
        last = request.id == "call-first-00008"
        return "tell me a story" if last or attempt else ""

    made = config(out, **irrelevant)
    run_generation(made, lambda: Teacher(answer), catalog())
    assert "call-first-00008" in {trace.id for trace in traces(out)}
    run_generation(made, lambda: Teacher(answer), catalog(), retry_rejects=True)
    assert "call-first-00008" in {trace.id for trace in traces(out)}
    assert "duplicate" in reasons(out).values()


def test_duplicate_seeds_are_not_asked_again(tmp_path: Path) -> None:
    seeds = seeds_file(tmp_path / "s.jsonl", ("a", "kitchen light on", "simple"), ("b", "Kitchen light on.", "simple"))
    teacher = Teacher(lambda request, attempt: hermes(LIGHT))
    run_generation(config(tmp_path / "out", seeds=seeds, attempts=3), lambda: teacher, catalog())
    assert sorted(teacher.asked) == ["request-first-a", "request-first-b"]
    assert reasons(tmp_path / "out") == {"request-first-b": "duplicate"}


# --- failures


def test_a_teacher_that_stops_keeps_the_finished_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_CHUNK", 5)
    out, whole = tmp_path / "out", tmp_path / "whole"
    answered: list[str] = []

    def failing(request: Request) -> str:
        if len(answered) == 12:
            raise BackendError("the server went away")
        answered.append(request.id)
        return write_faithfully(request)

    with pytest.raises(BackendError, match="went away"):
        run(out, failing, num_call_first=20, no_call_fraction=0.0)
    assert len(read_jsonl(out / "journal.jsonl", Outcome)) == 10 and not (out / "traces.jsonl").exists()
    asked: list[str] = []
    run(
        out,
        lambda request: asked.append(request.id) or write_faithfully(request),
        num_call_first=20,
        no_call_fraction=0.0,
    )  # type: ignore[func-returns-value]
    assert len(asked) == 10 and not set(asked) & set(answered[:10])
    run(whole, num_call_first=20, no_call_fraction=0.0)
    assert (out / "traces.jsonl").read_bytes() == (whole / "traces.jsonl").read_bytes()


def test_a_backend_that_skips_a_request_is_an_error(tmp_path: Path) -> None:
    class Forgetful(ScriptedBackend):
        def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
            yield from super().complete(requests[1:], settings)

    made = config(tmp_path / "out", num_call_first=4)
    with pytest.raises(BackendError, match="gave no answer to call-first-"):
        run_generation(made, lambda: Forgetful(write_faithfully), catalog())


def test_only_answers_to_seeds_are_constrained(tmp_path: Path) -> None:
    constrained: dict[str, bool] = {}

    class Noting(ScriptedBackend):
        def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
            constrained.update({request.id: settings.constrained for request in requests})
            yield from super().complete(requests, settings)

    teacher = LocalBackendConfig(model="unused")
    seeds = seeds_file(tmp_path / "s.jsonl", ("asked", "turn on the kitchen light", "simple"))
    for wanted in (False, True):
        constrained.clear()
        made = config(
            tmp_path / str(wanted), teacher=teacher, seeds=seeds, num_call_first=3, attempts=1, constrained=wanted
        )
        run_generation(made, lambda: Noting(lambda request: "please say it"), catalog())
        assert len(constrained) == 4
        assert [name for name, is_on in constrained.items() if is_on] == (["request-first-asked"] if wanted else [])


def test_nothing_to_generate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to generate"):
        run(tmp_path / "out")


def test_an_example_that_breaks_its_schema_is_named(tmp_path: Path) -> None:
    wrong = WorkedExample(
        id="bad-one", request="x", category="simple", calls=(call("set_light", room="attic", state="on"),)
    )
    write_jsonl(tmp_path / "e.jsonl", [wrong])
    with pytest.raises(DataError, match="bad-one: set_light/room"):
        run(tmp_path / "out", num_call_first=4, examples=tmp_path / "e.jsonl")


def test_a_directory_of_another_run_is_refused(tmp_path: Path) -> None:
    out, seeds = tmp_path / "out", seeds_file(tmp_path / "s.jsonl", ("a", "hello", "irrelevance"))
    run(out, num_call_first=4, seeds=seeds)
    for changed in ({"num_call_first": 5}, {"seed": 1}, {"sampling_temperature": 0.5}):
        with pytest.raises(DataError, match="another configuration"):
            run(out, **{"num_call_first": 4, "seeds": seeds, **changed})
    seeds_file(seeds, ("a", "good evening", "irrelevance"))
    with pytest.raises(DataError, match="its content changed"):
        run(out, num_call_first=4, seeds=seeds)


# --- killed and taken up again


def take_up(out: Path, monkeypatch: pytest.MonkeyPatch, *, retry_rejects: bool = False) -> None:
    monkeypatch.setattr(generator, "_CHUNK", crashing.CHUNK)
    monkeypatch.setattr(outcomes, "_BATCH", crashing.CHUNK)
    made = crashing.config_for(out)
    run_generation(made, crashing.FitfulTeacher, catalog(), judge=crashing.open_judge, retry_rejects=retry_rejects)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where the executor's process finds its function
        take_up(out, patch)
        shutil.copytree(out, out.parent / "retried")
        take_up(out.parent / "retried", patch, retry_rejects=True)
    return out


@pytest.mark.parametrize(
    "instant", ["before_append:1", "torn:2", "after_append:3", "torn:6", "records_written:1", "before_complete"]
)
def test_a_killed_run_ends_with_the_same_files(
    uninterrupted: Path, tmp_path: Path, instant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert crashing.generate_until(instant, out) == -signal.SIGKILL
    take_up(out, monkeypatch)
    assert contents(out) == contents(uninterrupted)
    assert journal_keys(out) == journal_keys(uninterrupted)


def test_a_run_can_be_killed_again_and_again(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for instant in ("torn:1", "after_append:1"):
        assert crashing.generate_until(instant, out) == -signal.SIGKILL
    take_up(out, monkeypatch)
    assert contents(out) == contents(uninterrupted)
    assert journal_keys(out) == journal_keys(uninterrupted)


@pytest.mark.parametrize("instant", ["json_written:1", "torn:1", "json_written:2"])
def test_a_killed_retry_ends_with_the_same_files(
    uninterrupted: Path, tmp_path: Path, instant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(uninterrupted, out)
    assert crashing.generate_until(instant, out, retry_rejects=True) == -signal.SIGKILL
    take_up(out, monkeypatch, retry_rejects=True)
    whole = uninterrupted.parent / "retried"
    assert contents(out) == contents(whole) != contents(uninterrupted)
    assert journal_keys(out) == journal_keys(whole)


def test_the_uninterrupted_run_has_something_to_lose(uninterrupted: Path) -> None:
    assert len(traces(uninterrupted)) > 20 and rejects(uninterrupted)
    assert {attempt for _, attempt in journal_keys(uninterrupted)} == {RECORDED, 0, 1}
    stats = GenerationStats.model_validate(read_json(uninterrupted / "stats.json"))
    stages = stats.stages
    assert all(stages[name].passed and stages[name].checked > stages[name].passed for name in ("judge", "execution"))
    assert stages["vote"].passed
    (recorded,) = [made for name, made in stats.by_source.items() if name == "recorded"]
    assert recorded.kept and recorded.cells_filled and recorded.rejected.keys() > {"grounding", "duplicate"}
