"""Several answers, blind proof, judge and executor in whole generations, with scripted models."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fcdistill.backends import ScriptedBackend
from fcdistill.backends.base import Request
from fcdistill.config import ScriptedBackendConfig
from fcdistill.errors import ConfigError
from fcdistill.generation.pipeline import run_generation
from fcdistill.records import GenerationStats, Outcome, ToolCall, Trace
from fcdistill.storage import read_jsonl
from tests.generation.home import catalog, letters, write_faithfully
from tests.generation.runs import Teacher, config, hermes, reasons, refuse, rejects, seeds_file, traces
from tests.generation.teacher.prompt_reading import letter_of
from tests.paths import ROOT

SCRIPT = ScriptedBackendConfig(backend="scripted", answers=Path("unused"))

ON, OFF = (ToolCall(name="set_light", arguments={"room": "kitchen", "state": state}) for state in ("on", "off"))
DIM = ToolCall(name="set_light", arguments={"room": "kitchen", "state": "on", "brightness": 30})
WARM = ToolCall(name="set_thermostat", arguments={"room": "kitchen", "temperature": 21})
NONSENSE = ToolCall(name="set_lamp", arguments={})
BOTH = "kitchen light on or off"
"""Grounds either call."""


def check_of(trace: Trace, name: str) -> tuple[bool, str]:
    check = next(check for check in trace.meta.checks if check.name == name)
    return check.ok, check.detail


# --- votes


VOTES: list[tuple[str, Sequence[Any], str | None, str]] = [
    ("agree", [ON, ON, ON], None, "3 of 3 answers make these calls"),
    ("majority", [OFF, ON, ON], None, "2 of 3 answers make these calls, 1 make others"),
    ("repaired", [DIM, ON, OFF], None, "2 of 3 answers make these calls, 1 make others"),
    ("invalid", [NONSENSE, ON, ON], None, "2 of 3 answers make these calls, 1 failed tool"),
    ("alone", [NONSENSE, ON, WARM], "vote", "1 of 3 answers make these calls, 1 failed grounding, 1 failed tool"),
    ("tie", [NONSENSE, ON, OFF], "vote", "1 of 3 answers make these calls, 1 make others, 1 failed tool"),
    ("none", [NONSENSE, WARM, NONSENSE], "tool", ""),
]


def voted(out: Path, cases: Sequence[tuple[str, Sequence[Any], Any, str]], **fields: Any) -> GenerationStats:
    answers = {name: given for name, given, *_ in cases}
    seeds = [(name, f"{BOTH} {letters(str(number))}", "simple") for number, (name, *_) in enumerate(cases)]

    def answer(request: Request) -> str:
        _, name, number = request.id.replace("request-first-", "/").split("/")
        return hermes(answers[name][int(number) - 1])

    judge = fields.pop("asked", None)
    made = config(out, seeds=seeds_file(out.parent / "s.jsonl", *seeds), attempts=1, num_votes=3, **fields)
    return run_generation(made, lambda: ScriptedBackend(answer), catalog(), judge=judge)


@pytest.fixture(scope="module")
def elected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GenerationStats]:
    out = tmp_path_factory.mktemp("votes") / "out"
    return out, voted(out, VOTES)


@pytest.mark.parametrize("case", VOTES, ids=[name for name, *_ in VOTES])
def test_more_than_half_of_the_answers_must_make_the_same_calls(
    elected: tuple[Path, GenerationStats], case: tuple[str, Sequence[Any], str | None, str]
) -> None:
    name, _, failed, detail = case
    kept = {trace.id: trace for trace in traces(elected[0])}
    identity = f"request-first-{name}"
    assert reasons(elected[0]).get(identity) == failed and (identity in kept) == (failed is None)
    if failed is None:
        assert kept[identity].answer.calls == (ON,) and check_of(kept[identity], "vote") == (True, detail)
    elif failed == "vote":
        assert next(reject.detail for reject in rejects(elected[0]) if reject.id == identity) == detail


def test_votes_are_counted(elected: tuple[Path, GenerationStats]) -> None:
    out, stats = elected
    assert (stats.stages["vote"].checked, stats.stages["vote"].passed) == (6, 4)
    assert stats.votes == {"0": 1, "1": 2, "2": 3, "3": 1}
    assert [outcome.votes for outcome in read_jsonl(out / "journal.jsonl", Outcome)] == [3, 2, 2, 2, 1, 1, 0]


def test_a_single_answer_is_asked_for_as_ever(tmp_path: Path) -> None:
    teacher = Teacher(lambda request, attempt: hermes(ON))
    made = config(tmp_path / "out", seeds=seeds_file(tmp_path / "s.jsonl", ("a", "kitchen light on", "simple")))
    stats = run_generation(made, teacher.opened, catalog())
    assert teacher.asked == ["request-first-a"] and stats.votes == {} and "vote" not in stats.stages


def test_what_the_teacher_thought_is_kept_beside_its_calls(tmp_path: Path) -> None:
    teacher = Teacher(lambda request, attempt: f"<think>\nThe kitchen, then.\n</think>\n\n{hermes(ON)}")
    made = config(tmp_path / "out", seeds=seeds_file(tmp_path / "s.jsonl", ("a", "kitchen light on", "simple")))
    run_generation(made, teacher.opened, catalog())
    assert [(trace.answer.calls, trace.answer.reasoning) for trace in traces(tmp_path / "out")] == [
        ((ON,), "The kitchen, then.")
    ]


def test_all_tokens_of_several_answers_count(tmp_path: Path) -> None:
    teacher = Teacher(lambda request, attempt: hermes(ON))
    seeds = seeds_file(tmp_path / "s.jsonl", ("a", "kitchen light on", "simple"))
    stats = run_generation(config(tmp_path / "out", seeds=seeds, num_votes=4), teacher.opened, catalog())
    assert len(set(teacher.asked)) == 4 and (stats.prompt_tokens, stats.completion_tokens) == (40, 8)


# --- blind proof


def proven(out: Path, blind: Callable[[Request], str], **fields: Any) -> tuple[GenerationStats, list[Request]]:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        if not request.specs:
            return write_faithfully(request)
        asked.append(request)
        return blind(request)

    fields = {"num_call_first": 12, "no_call_fraction": 0.5, "attempts": 1, "blind_answers": True, **fields}
    return run_generation(config(out, **fields), lambda: ScriptedBackend(answer), catalog()), asked


def planned(tmp_path: Path) -> dict[str, str]:
    """What the plan's requests ask for, as the teacher would write it."""
    out = tmp_path / "planned"
    proven(out, lambda request: "", blind_answers=False)
    return {trace.id: hermes(*trace.answer.calls) if trace.answer.calls else "None." for trace in traces(out)}


def test_blind_answers_prove_written_requests(tmp_path: Path) -> None:
    right = planned(tmp_path)
    wrong = {"call-first-00002", "call-first-00008"}
    stats, asked = proven(tmp_path / "out", lambda request: hermes(WARM) if request.id in wrong else right[request.id])
    assert {request.id for request in asked} == right.keys()
    assert reasons(tmp_path / "out") == dict.fromkeys(wrong, "blind") and stats.kept == 10
    assert (stats.stages["blind"].checked, stats.stages["blind"].passed) == (12, 10)
    details = {reject.detail for reject in rejects(tmp_path / "out")}
    assert details == {"0 of 1 answers make these calls, 1 make others"}
    written = {trace.id: trace.messages[-2].content for trace in traces(tmp_path / "out")}
    for request in asked:
        assert request.id in wrong or request.messages[-1].content.endswith(written[request.id])


def test_of_several_blind_answers_most_must_agree(tmp_path: Path) -> None:
    right = planned(tmp_path)

    def blind(request: Request) -> str:
        identity, _, number = request.id.partition("/")
        return (
            right[identity] if int(number) <= (1 if identity.endswith("3") else 2) else "<tool_call>{oops</tool_call>"
        )

    stats, _ = proven(tmp_path / "out", blind, num_votes=3)
    assert reasons(tmp_path / "out") == {"call-first-00003": "blind"} and stats.votes == {"1": 1, "2": 11}


# --- judge


def test_the_judge_settles_disagreements_and_nothing_else(tmp_path: Path) -> None:
    asked: list[Request] = []

    def judge(request: Request) -> str:
        asked.append(request)
        picked = "on" if "alone" in request.id or "upheld" in request.id else "off"
        return f"{letter_of(request, json.dumps(picked))}: the request says {picked}"

    cases = [*VOTES, ("upheld", [ON, NONSENSE, NONSENSE], None, "")]
    out = tmp_path / "out"
    stats = voted(out, cases, judge=SCRIPT, asked=lambda: ScriptedBackend(judge, name="wise"))
    # A tie has no plurality that could be upheld.
    assert [request.id for request in asked] == ["request-first-alone", "request-first-upheld"]
    kept = {trace.id: trace for trace in traces(out)}
    ok, detail = check_of(kept["request-first-alone"], "judge")
    assert ok and detail.startswith("vote: 1 of 3") and detail.endswith("wise picks these calls: the request says on")
    assert "vote" not in [check.name for check in kept["request-first-alone"].meta.checks]
    assert (stats.stages["judge"].checked, stats.stages["judge"].passed) == (2, 2)
    assert (stats.stages["vote"].checked, stats.stages["vote"].passed) == (5, 4)


def test_a_judge_that_picks_other_calls_rejects(tmp_path: Path) -> None:
    right = planned(tmp_path)

    def teacher(request: Request) -> str:
        if not request.specs:
            return write_faithfully(request)
        return hermes(WARM) if request.id == "call-first-00001" else right[request.id]

    made = config(
        tmp_path / "out", num_call_first=12, no_call_fraction=0.5, attempts=1, blind_answers=True, judge=SCRIPT
    )

    def judge(request: Request) -> str:
        return f"{letter_of(request, 'set_thermostat')}: warmth is meant"

    run_generation(made, lambda: ScriptedBackend(teacher), catalog(), judge=lambda: ScriptedBackend(judge, name="wise"))
    (reject,) = rejects(tmp_path / "out")
    assert reject.check == "judge" and reject.detail.startswith(
        "blind: 0 of 1 answers make these calls, 1 make others;"
    )
    assert "wise picks [" in reject.detail and "warmth is meant" in reject.detail


def test_a_blind_answer_that_says_nothing_is_no_disagreement(tmp_path: Path) -> None:
    made = config(
        tmp_path / "out", num_call_first=1, no_call_fraction=0.0, attempts=1, blind_answers=True, judge=SCRIPT
    )

    def teacher(request: Request) -> str:
        return "" if request.specs else write_faithfully(request)

    run_generation(
        made,
        lambda: ScriptedBackend(teacher),
        catalog(),
        judge=lambda: ScriptedBackend(lambda request: "A: it is right"),
    )
    (reject,) = rejects(tmp_path / "out")
    assert (reject.check, reject.detail) == ("blind", "0 of 1 answers make these calls, 1 failed parse")


@pytest.mark.parametrize("asked", [True, False])
def test_the_judge_is_asked_about_grounding_only_where_that_is_wanted(tmp_path: Path, asked: bool) -> None:
    seeds = seeds_file(tmp_path / "s.jsonl", ("a", "make it brighter where I cook", "simple"))
    made = config(
        tmp_path / "out", seeds=seeds, attempts=1, judge=SCRIPT, judge_grounding=asked, blind_answers=not asked
    )
    run_generation(
        made,
        lambda: ScriptedBackend(lambda request: hermes(ON)),
        catalog(),
        judge=lambda: ScriptedBackend(lambda request: "A: people cook in kitchens"),
    )
    assert reasons(tmp_path / "out") == ({} if asked else {"request-first-a": "grounding"})


# --- executor


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home.py").write_text(
        "def run(name, arguments):\n"
        "    if arguments.get('room') == 'bedroom':\n"
        "        raise LookupError('the bedroom has no light')\n"
        "    return {'done': name}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_calls_of_candidates_are_carried_out_and_failures_rejected(house: Path) -> None:
    seeds = seeds_file(house / "s.jsonl", *((room, f"{room} light on", "simple") for room in ("kitchen", "bedroom")))
    executor = {"function": "home:run", "record_results": True}
    made = config(house / "out", seeds=seeds, attempts=1, executor=executor, num_varied=6)

    def answer(request: Request) -> str:
        room = request.messages[-1].content.split()[0]
        return hermes(ToolCall(name="set_light", arguments={"room": room, "state": "on"}))

    stats = run_generation(made, lambda: ScriptedBackend(answer), catalog())
    found = {trace.id: trace for trace in traces(house / "out")}
    assert check_of(found["request-first-kitchen"], "execution") == (True, 'set_light returned {"done": "set_light"}')
    assert reasons(house / "out")["request-first-bedroom"] == "execution"
    details = {reject.detail for reject in rejects(house / "out")}
    assert details == {"set_light: LookupError: the bedroom has no light"}
    made_of_others = [trace for trace in found.values() if trace.meta.source == "varied"]
    assert made_of_others and all(check_of(trace, "execution")[0] for trace in made_of_others)
    assert all(call.arguments["room"] != "bedroom" for trace in found.values() for call in trace.answer.calls)
    assert stats.stages["execution"].checked == 2 + sum("varied" in id for id in (*found, *reasons(house / "out")))
    assert stats.kept + stats.rejected == stats.planned


def test_a_function_that_can_t_be_had_ends_the_run_before_the_teacher_is_opened(house: Path) -> None:
    made = config(house / "out", num_call_first=4, executor="home:walk")
    with pytest.raises(ConfigError, match="module 'home' has no 'walk'"):
        run_generation(made, refuse, catalog())
    assert not (house / "out").exists()
