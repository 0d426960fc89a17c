"""Conversations made from single requests: right by construction, of every kind, the same for the same seed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcdistill.generation.dataset.turns import conversation_key, earlier_steps, user_texts
from fcdistill.generation.derive.continued_traces import continue_traces
from fcdistill.generation.pipeline import run_generation
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.verification.english.follow_up_phrases import names_other_of_two
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.generation.verification.verifier import Verifier, without_arguments
from fcdistill.records import ConversationKind, EvalCase, FollowUpKind, Message, ModelRef, ToolCall, Trace, TraceMeta
from fcdistill.storage import write_jsonl
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.validation import CallValidator
from tests.generation.home import EXAMPLES, NOW, catalog, catalog_of, tool, verifier
from tests.generation.runs import config, contents, reasons, refuse
from tests.generation.runs import traces as written

KINDS: tuple[ConversationKind, ...] = get_args(FollowUpKind)
_CONTEXT = "Current time: 2027-05-02T09:15:00Z (Sunday)."


def single(own: Catalog, identity: str, text: str, call: ToolCall, system: str = "") -> Trace:
    context = [Message(role="system", content=system)] if system else []
    return Trace(
        id=identity,
        messages=(*context, Message(role="user", content=text), Message.calling([call])),
        tools=own.tools,
        split_group=f"group-{identity}",
        meta=TraceMeta(source="call_first", category="simple", plan_cell="", teacher=ModelRef(model="m")),
    )


def singles(own: Catalog, requests: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[Trace]:
    return [
        single(own, f"s{number}", text, ToolCall(name=name, arguments=dict(arguments)))
        for number, (text, name, arguments) in enumerate(requests)
    ]


HOME = [
    *singles(
        catalog(),
        [
            ("Kitchen light off.", "set_light", {"room": "kitchen", "state": "off"}),
            ("light in the office to 40 percent", "set_light", {"room": "office", "state": "on", "brightness": 40}),
            ("lock the back door!", "lock_door", {"door": "back", "action": "lock"}),
            ("Start a 12 minute timer", "set_timer", {"duration": {"minutes": 12}}),
            ("what's the weather in Turin tomorrow?", "get_weather", {"city": "Turin", "day": "tomorrow"}),
            ("make it 21 degrees in the bedroom", "set_thermostat", {"room": "bedroom", "temperature": 21}),
            ("vacuum the hallway on turbo", "start_vacuum", {"rooms": ["hallway"], "mode": "turbo"}),
            ("play some jazz in the living room", "play_music", {"query": "jazz", "room": "living_room"}),
        ],
    ),
    single(
        catalog(),
        "context",
        "remind me to call mum tomorrow at 6 pm",
        ToolCall(name="create_reminder", arguments={"text": "call mum", "at": "2027-05-03T18:00:00Z"}),
        _CONTEXT,
    ),
]  # fmt: skip

_CARD = {"enum": ["credit", "debit"]}
_ACCOUNT = {"enum": ["checking", "savings"]}
BANK = catalog_of(
    tool("check_balance", {"account_type": _ACCOUNT}),
    tool("cancel_card", {"card_type": _CARD, "reason": {"enum": ["lost", "stolen"]}}),
    tool("transfer_money", {"amount": {"enum": [50, 80]}, "from_account": _ACCOUNT, "to_account": _ACCOUNT}),
    tool("greeting", {}),
    tool("thank_you", {}),
)
BANK_VERIFIER = Verifier(BANK, CallValidator(BANK.specs), ValueBook())
ACCOUNTS = singles(
    BANK,
    [
        ("what is on my savings account", "check_balance", {"account_type": "savings"}),
        ("cancel my credit card, it was lost", "cancel_card", {"card_type": "credit", "reason": "lost"}),
        ("move 50 from savings to checking", "transfer_money",
         {"amount": 50, "from_account": "savings", "to_account": "checking"}),
        ("hello there", "greeting", {}),
        ("thanks a lot", "thank_you", {}),
    ],
)  # fmt: skip


def continued(
    traces: Sequence[Trace],
    own: Verifier,
    *,
    count: int = 30,
    seed: int = 1,
    kinds: Sequence[ConversationKind] = KINDS,
) -> list[Trace]:
    sampler = ArgumentSampler(own.validator, own.book, seed=seed, now=NOW)
    return list(continue_traces(traces, own, sampler, count=count, shares=dict.fromkeys(kinds, 1.0), seed=seed))


def kind_of(trace: Trace) -> str:
    return trace.meta.plan_cell.split("/")[1]


def answers(trace: Trace) -> Iterator[ToolCall]:
    for message in trace.messages:
        yield from message.calls


def is_said(own: Verifier, text: str, call: ToolCall) -> bool:
    now = NOW if any("reminder" in spec.name for spec in own.catalog.specs) else None
    return own.check_said(text, [call], now).ok


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), is_bank=st.booleans())
def test_the_last_answer_is_right_by_construction(seed: int, is_bank: bool) -> None:
    traces, own = (ACCOUNTS, BANK_VERIFIER) if is_bank else (HOME, verifier())
    for trace in continued(traces, own, count=12, seed=seed):
        (last,), said = trace.answer.calls, user_texts(trace)
        assert own.check_schema([last]).ok and all(check.ok for check in trace.meta.checks)
        if kind_of(trace) in ("switched", "social"):
            assert is_said(own, said[-1], last), "an unrelated request says all of its values itself"
            continue
        known = next((call for call in answers(trace) if call.name == last.name), last)
        partial = {name: value for name, value in known.arguments.items() if last.arguments.get(name) == value}
        changed = last.arguments.keys() - partial.keys()
        if kind_of(trace) == "completed" and known == last:  # the assistant asked
            changed = {name for name in last.arguments if is_said(own, said[-1], _only(last, name))}
        assert len(changed) == 1
        (name,) = changed
        carried = without_arguments(last, {name})
        # Whole: a brightness says that the light is on, also where another one takes its place.
        earlier = carried if known == last else known
        assert is_said(own, said[0], earlier), "what is carried over was said before"
        assert carried.arguments.items() <= earlier.arguments.items()
        if names_other_of_two(said[-1]):
            assert own.check_other_of_two(said[-1], known, last, name).ok
        else:
            assert is_said(own, said[-1], _only(last, name)), "the other value is said in the last turn"
            assert not carried.arguments or not is_said(own, said[-1], carried)


def _only(call: ToolCall, name: str) -> ToolCall:
    return ToolCall(name=call.name, arguments={name: call.arguments[name]})


def test_the_kinds_have_their_shares_and_no_turn_hears_a_result() -> None:
    made = continued(ACCOUNTS, BANK_VERIFIER, count=18)
    assert Counter(map(kind_of, made)) == dict.fromkeys(KINDS, 3)
    for trace in made:
        assert {message.role for message in trace.messages} == {"user", "assistant"}
        assert trace.meta.source == "continued" and trace.id.startswith("continued-")
        assert len(trace.messages) == (6 if kind_of(trace) == "resumed" else 4)


def test_a_required_value_is_asked_for_and_an_optional_one_is_left_out_of_the_call() -> None:
    made = continued(HOME, verifier(), kinds=["completed"], count=12)
    asked = [trace for trace in made if not trace.messages[-3].calls]
    called = [trace for trace in made if trace.messages[-3].calls]
    assert asked and called
    assert all(trace.messages[-3].content.endswith("?") for trace in asked)
    for trace in called:
        assert verifier().check_schema(trace.messages[-3].calls).ok


def test_a_conversation_names_its_sources_and_stays_with_the_first() -> None:
    by_id = {trace.id: trace for trace in HOME}
    for trace in continued(HOME, verifier()):
        sources = trace.meta.teacher.params["from"]
        assert trace.split_group == by_id[sources[0]].split_group
        assert len(sources) == (2 if kind_of(trace) in ("switched", "resumed", "social") else 1)


def test_the_other_of_two_is_asked_for_where_one_thing_of_two_was_said() -> None:
    made = continued(ACCOUNTS, BANK_VERIFIER, kinds=["carried_over"], count=20)
    others = [trace for trace in made if names_other_of_two(user_texts(trace)[-1])]
    assert {trace.answer.calls[0].name for trace in others} == {"check_balance", "cancel_card"}


def test_a_value_that_may_be_of_two_arguments_is_never_said_alone() -> None:
    """ "No, savings" after "from savings to checking" may be either account."""
    only = [trace for trace in ACCOUNTS if trace.answer.calls[0].name == "transfer_money"]
    made = continued(only, BANK_VERIFIER, kinds=["corrected", "carried_over"], count=10)
    assert made
    for trace in made:
        first, last = answers(trace)
        is_named = "from" in user_texts(trace)[-1].split() and first.arguments["from_account"] == "savings"
        assert first.arguments["amount"] != last.arguments["amount"] or is_named


def test_a_greeting_comes_first_and_thanks_come_last() -> None:
    for trace in continued(ACCOUNTS, BANK_VERIFIER, kinds=["social"], count=6):
        names = [call.name for call in answers(trace)]
        assert names[0] == "greeting" or names[-1] == "thank_you"


def test_the_same_seed_gives_the_same_conversations() -> None:
    first = continued(HOME, verifier(), count=8)
    assert first == continued(HOME, verifier(), count=8)
    assert first != continued(HOME, verifier(), count=8, seed=2)


@pytest.mark.parametrize(
    ("traces", "kinds"),
    [([], KINDS), (HOME[:1], ("switched", "resumed", "social")), (ACCOUNTS[3:], KINDS)],
)
def test_kinds_that_nothing_can_be_made_of_are_passed_over(
    traces: Sequence[Trace], kinds: Sequence[ConversationKind]
) -> None:
    own = BANK_VERIFIER if traces == ACCOUNTS[3:] else verifier()
    assert continued(traces, own, kinds=kinds) == []


def test_contexts_are_not_mixed() -> None:
    for trace in continued(HOME, verifier(), kinds=["switched", "resumed"], count=40):
        has_reminder = "create_reminder" in [call.name for call in answers(trace)]
        assert (trace.messages[0].role == "system") == has_reminder


# --- in a whole run, of which no teacher is asked

CONTINUED: dict[str, Any] = {"examples": EXAMPLES, "num_continued": 30, "multi_turn_results": False}


def test_a_run_of_the_team_s_examples_alone_needs_no_teacher_and_ends_the_same_again(tmp_path: Path) -> None:
    stats = run_generation(config(tmp_path / "out", **CONTINUED), refuse, catalog())
    assert stats.by_source["continued"].kept > 20 and stats.by_source["step"].kept > 5
    run_generation(config(tmp_path / "again", **CONTINUED), refuse, catalog())
    assert contents(tmp_path / "out") == contents(tmp_path / "again")
    found = {trace.id: trace for trace in written(tmp_path / "out")}
    pasts = {conversation_key(trace) for trace in found.values()}
    for trace in found.values():
        if trace.meta.source == "continued":
            for step in earlier_steps(trace):
                assert conversation_key(step) in pasts, "each answered turn is a trace, here or by itself"
                assert step.id not in found or found[step.id].split_group == trace.split_group


def test_conversations_are_made_anew_where_a_run_is_reused(tmp_path: Path) -> None:
    run_generation(config(tmp_path / "out", **CONTINUED), refuse, catalog())
    again = config(tmp_path / "again", **CONTINUED, reuse=(tmp_path / "out" / "traces.jsonl",))
    stats = run_generation(again, refuse, catalog())
    assert stats.by_source["continued"].kept > 20
    assert not any(trace.id.startswith("reused") for trace in written(tmp_path / "again"))


def test_a_conversation_that_says_what_an_eval_case_says_is_left_out(tmp_path: Path) -> None:
    run_generation(config(tmp_path / "out", **CONTINUED), refuse, catalog())
    long = [trace for trace in written(tmp_path / "out") if trace.meta.source == "continued"]
    taken = next(trace for trace in long if len(user_texts(trace)[-1].split()) >= 8)
    case = EvalCase(
        id="taken",
        messages=taken.messages[:-1],
        behaviour="call",
        expected=(taken.answer.calls,),
        category="simple",
    )
    write_jsonl(tmp_path / "cases.jsonl", [case])
    apart = config(tmp_path / "apart", **CONTINUED, decontaminate=(tmp_path / "cases.jsonl",))
    run_generation(apart, refuse, catalog())
    assert "contaminated" in reasons(tmp_path / "apart").values()
    assert taken.messages not in [trace.messages for trace in written(tmp_path / "apart")]
