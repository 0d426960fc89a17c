from collections.abc import Sequence

from fcdistill.generation.dataset.dedupe import request_text
from fcdistill.generation.derive.joining import join_traces
from fcdistill.generation.plan.plan import time_of_context
from fcdistill.records import Message, ModelRef, ToolCall, Trace, TraceMeta
from tests.generation.home import catalog, verifier


def single(identity: str, text: str, name: str, /, *, system: str = "", **arguments: object) -> Trace:
    context = [Message(role="system", content=system)] if system else []
    call = ToolCall(name=name, arguments=arguments)
    return Trace(
        id=identity,
        messages=(*context, Message(role="user", content=text), Message.calling([call])),
        tools=catalog().tools,
        split_group=identity,
        meta=TraceMeta(source="call_first", category="simple", plan_cell="", teacher=ModelRef(model="m")),
    )


SINGLES = [
    single("a", "Kitchen light off.", "set_light", room="kitchen", state="off"),
    single("b", "Turn on the office light", "set_light", room="office", state="on"),
    single("c", "lock the back door!", "lock_door", door="back", action="lock"),
    single("d", "Start a 12 minute timer", "set_timer", duration={"minutes": 12}),
    single("e", "what's the weather in Turin?", "get_weather", city="Turin"),
]


def join(traces: Sequence[Trace], count: int = 20, seed: int = 1) -> list[Trace]:
    return list(join_traces(traces, verifier(), count=count, seed=seed))


def test_joined_requests_hold_all_their_calls_and_pass_the_checks() -> None:
    joined = join(SINGLES)
    assert len(joined) == 20 == len({request_text(trace) for trace in joined})
    for trace in joined:
        calls = trace.answer.calls
        assert len(calls) in (2, 3) and trace.meta.source == "joined"
        assert trace.meta.category == ("parallel" if len({call.name for call in calls}) == 1 else "parallel_multiple")
        assert verifier().check_grounding(request_text(trace), calls, None).ok
    assert {trace.meta.category for trace in joined} == {"parallel", "parallel_multiple"}


def test_the_same_seed_gives_the_same_traces() -> None:
    assert join(SINGLES) == join(SINGLES)
    assert join(SINGLES) != join(SINGLES, seed=2)


def test_a_call_is_never_made_twice_and_contexts_are_never_mixed() -> None:
    assert join(SINGLES[:1]) == [] == join([])
    times = [
        single(
            name, f"Remind me to {name} tomorrow at 6 pm", "create_reminder", text=name,
            system=f"Current time: 2027-05-0{day}T09:15:00Z (Sunday).", at=f"2027-05-0{day + 1}T18:00:00Z",
        )
        for name, day in (("call mum", 2), ("feed the cat", 3))
    ]  # fmt: skip
    assert join(times) == []
    together = join([times[0], SINGLES[2]])
    assert together
    for trace in together:
        assert trace.messages[0].role == "system" and time_of_context(trace.messages[0].content) is not None


def test_a_sentence_goes_on_without_a_capital_but_names_keep_theirs() -> None:
    names = [single("n", "Adele in the kitchen", "play_music", query="Adele", room="kitchen"), SINGLES[1]]
    texts = {request_text(trace) for trace in join(names)}
    assert any("turn on the office light" in text[1:] for text in texts)
    assert all("kitchen" in text and "office" in text for text in texts)
