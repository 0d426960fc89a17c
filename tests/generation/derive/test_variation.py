"""Tests of `fcdistill.generation.derive.variation`."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from fcdistill.generation.dataset.dedupe import request_text
from fcdistill.generation.derive import variation
from fcdistill.generation.derive.variation import vary_traces
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.verification.value_book import ValueBook, ValueEntry
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Message, ModelRef, ToolCall, Trace, TraceMeta
from fcdistill.tools.validation import CallValidator
from tests.generation.home import NOW, book, catalog, catalog_of, tool, validator, verifier


@pytest.fixture(autouse=True)
def without_slips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variation, "_MISTYPED", 0)


def trace(identity: str, text: str, *calls: tuple[str, dict[str, object]], system: str = "") -> Trace:
    context = [Message(role="system", content=system)] if system else []
    made = [ToolCall(name=name, arguments=arguments) for name, arguments in calls]
    answer = Message.calling(made) if made else Message(role="assistant", content="Which room?")
    return Trace(
        id=identity,
        messages=(*context, Message(role="user", content=text), answer),
        tools=catalog().tools,
        split_group=f"group-{identity}",
        meta=TraceMeta(
            source="call_first", category="simple" if made else "clarify", plan_cell="c", teacher=ModelRef(model="m")
        ),
    )


def vary(
    traces: Sequence[Trace], count: int = 40, seed: int = 0, cut: Mapping[str, ToolCall] | None = None
) -> list[Trace]:
    sampler = ArgumentSampler(validator(), book(), seed=seed + 1, now=NOW)
    return list(vary_traces(traces, verifier(), sampler, count=count, seed=seed, cut=cut or {}))


LIGHT = trace(
    "light", "Dim the office light to 30%, please", ("set_light", {"room": "office", "state": "on", "brightness": 30})
)
MUSIC = trace("music", "play Adele in the kitchen", ("play_music", {"query": "Adele", "room": "kitchen"}))
TWO = trace(
    "two",
    "Lock the back door and start a timer of 12 minutes",
    ("lock_door", {"door": "back", "action": "lock"}),
    ("set_timer", {"duration": {"minutes": 12}}),
)
SHOPPING = trace(
    "shopping",
    "put 3 lemons and milk on the list",
    ("add_shopping_items", {"items": [{"name": "lemons", "quantity": 3}, {"name": "milk"}]}),
)


def test_what_is_made_is_new_keeps_the_wording_and_passes_the_checks() -> None:
    made = vary([LIGHT, MUSIC, TWO, SHOPPING])
    texts = {request_text(varied) for varied in made}
    assert len(made) == 40 == len(texts)
    assert not texts & {request_text(one) for one in (LIGHT, MUSIC, TWO, SHOPPING)}
    for varied in made:
        text, calls = request_text(varied), varied.answer.calls
        assert verifier().check_schema(calls).ok and verifier().check_grounding(text, calls, None).ok
        origin = {"Dim": LIGHT, "play": MUSIC, "put": SHOPPING}.get(text.split()[0], TWO)
        assert [call.name for call in calls] == [call.name for call in origin.answer.calls]
        assert varied.split_group == origin.split_group and varied.meta.source == "varied"
        assert varied.meta.teacher.params == {"from": [origin.id]}


def test_values_are_said_in_their_places_and_in_the_calls_alike() -> None:
    for varied in vary([LIGHT], count=20):
        arguments = varied.answer.calls[0].arguments
        assert request_text(varied).startswith(f"Dim the {arguments['room'].replace('_', ' ')} light to ")
        assert arguments["state"] == "on", "a light with a brightness is on, whatever else changes"
    rooms = Counter(varied.answer.calls[0].arguments["room"] for varied in vary([LIGHT], count=30))
    assert len(rooms) > 4


def test_numbers_are_written_in_words_now_and_then() -> None:
    texts = [request_text(varied) for varied in vary([LIGHT], count=40)]
    spelled = [text for text in texts if not any(letter.isdigit() for letter in text)]
    assert 0 < len(spelled) < len(texts)


def test_phrases_that_the_team_gave_are_replaced_by_phrases_of_equal_length() -> None:
    pause = trace("pause", "pause the music in the office", ("control_playback", {"action": "pause", "room": "office"}))
    texts = [request_text(varied) for varied in vary([pause], count=30)]
    assert {text.split()[0] for text in texts} <= {"pause", "resume", "continue", "stop", "skip"}
    assert all(" the music in the " in text for text in texts)


def test_places_inside_an_object_and_a_list_are_found() -> None:
    made = vary([SHOPPING], count=30)
    assert all(len(varied.answer.calls[0].arguments["items"]) == 2 for varied in made)
    assert len({varied.answer.calls[0].arguments["items"][1]["name"] for varied in made}) > 5
    assert len({varied.answer.calls[0].arguments["items"][0]["quantity"] for varied in made}) > 3


ADDRESSES = [
    {"street": "8 Quarry Street", "city": "Leeds"},
    {"street": "Lindengasse 41", "city": "Vienna"},
    {"street": "Via Roma 5", "city": "Florence"},
    {"street": "14 Mill Lane", "city": "Bristol", "country": "GB"},
]


def shipped(text: str, to: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    properties = {name: {"type": "string"} for name in ("street", "city", "country")}
    spec = tool("ship", {"order": {"type": "integer"}, "to": {"type": "object", "properties": properties}})
    values = ValueBook({"ship.to": tuple(map(ValueEntry, ADDRESSES)), "ship.order": (ValueEntry(811), ValueEntry(812))})
    checks = CallValidator([spec])
    made = vary_traces(
        [trace("parcel", text, ("ship", {"order": 810, "to": to}))],
        Verifier(catalog_of(spec), checks, values),
        ArgumentSampler(checks, values, seed=1, now=NOW),
        count=12,
        seed=0,
    )
    return [(request_text(varied), varied.answer.calls[0].arguments["to"]) for varied in made]


def test_the_parts_of_an_object_that_is_listed_whole_change_together() -> None:
    made = shipped("ship order 810 to Am Deich 19 in Bremen", {"street": "Am Deich 19", "city": "Bremen"})
    assert len({to["city"] for _, to in made}) == 3
    assert all(to in ADDRESSES[:3] and f"{to['street']} in {to['city']}" in text for text, to in made)


def test_an_object_of_which_not_all_is_said_in_so_many_words_stays() -> None:
    to = {"street": "14 Mill Lane", "city": "Bristol"}
    made = shipped("ship order 810 to fourteen Mill Lane, Bristol", to)
    assert made and all(found == to for _, found in made)


def test_a_value_that_is_said_twice_stays() -> None:
    twice = trace("twice", "office: play Adele in the office", ("play_music", {"query": "Adele", "room": "office"}))
    made = vary([twice], count=10)
    assert len(made) == 10 and all(varied.answer.calls[0].arguments["room"] == "office" for varied in made)


def test_sums_of_money_keep_their_symbol_beside_digits() -> None:
    spec = tool(
        "pay", {"sum": {"properties": {"value": {"type": "integer", "maximum": 90}, "currency": {"enum": ["EUR"]}}}}
    )
    checks = CallValidator([spec])
    made = vary_traces(
        [trace("pay", "pay €20 at once", ("pay", {"sum": {"value": 20, "currency": "EUR"}}))],
        Verifier(catalog_of(spec), checks, ValueBook()),
        ArgumentSampler(checks, ValueBook(), seed=1, now=NOW),
        count=60,
        seed=0,
    )
    texts = [request_text(varied) for varied in made]
    assert any("€" in text for text in texts) and any(" euros" in text for text in texts)
    assert not any(text[text.index("€") + 1].isalpha() for text in texts if "€" in text)


def test_relative_dates_stay_ahead_of_the_context() -> None:
    spec = tool("call_back", {"on": {"type": "string", "format": "date"}})
    checks = CallValidator([spec])
    callback = trace(
        "callback",
        "call back tomorrow",
        ("call_back", {"on": "2027-05-21"}),
        system="Current time: 2027-05-20T09:15:00Z (Thursday).",
    )
    made = vary_traces(
        [callback],
        Verifier(catalog_of(spec), checks, ValueBook()),
        ArgumentSampler(checks, ValueBook(), seed=1, now=NOW),
        count=10,
        seed=0,
    )
    dates = [varied.answer.calls[0].arguments["on"] for varied in made]
    assert dates and min(dates) >= "2027-05-20"


def test_relative_times_stay_ahead_of_the_context() -> None:
    reminder = trace(
        "later",
        "remind me to feed the fish tomorrow at 6 pm",
        ("create_reminder", {"text": "feed the fish", "at": "2027-05-03T18:00:00Z"}),
        system="Current time: 2027-05-02T09:15:00Z (Sunday).",
    )
    made = vary([reminder], count=30)
    moments = {varied.answer.calls[0].arguments["at"] for varied in made}
    assert len(moments) > 3 and min(moments) > "2027-05-02T09:15:00Z"
    assert all(varied.messages[0] == reminder.messages[0] for varied in made)


def test_a_question_asks_for_the_same_value_of_the_new_request() -> None:
    clarify = trace("clarify", "dim the office light")
    question = Message(role="assistant", content="To what should I dim the office light?")
    clarify = clarify.model_copy(update={"messages": (clarify.messages[0], question)})
    made = vary([clarify], cut={"clarify": ToolCall(name="set_light", arguments={"room": "office"})}, count=5)
    assert len(made) == 5
    for varied in made:
        room = request_text(varied).removeprefix("dim the ").removesuffix(" light")
        assert varied.answer.content == f"To what should I dim the {room} light?" and not varied.answer.calls
        assert varied.meta.category == "clarify"


def test_slips_of_the_finger_leave_the_values_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variation, "_MISTYPED", 1)
    made = vary([TWO], count=20)
    mistyped = [varied for varied in made if "start a timer" not in request_text(varied)]
    assert len(mistyped) > 5
    assert all(verifier().check_grounding(request_text(varied), varied.answer.calls, None).ok for varied in made)


def test_nothing_comes_from_requests_without_calls_or_without_places() -> None:
    silent = trace("silent", "dim the light in there")
    fixed = trace("fixed", "make it dark in my study", ("set_light", {"room": "office", "state": "off"}))
    assert vary([silent, fixed]) == [] == vary([])


def test_rare_sets_of_arguments_are_varied_most() -> None:
    plain = [
        trace(f"plain-{room}", f"play Adele in the {room} now", ("play_music", {"query": "Adele", "room": room}))
        for room in ("kitchen", "bedroom", "office", "hallway", "garage", "nursery")
    ]
    full = trace(
        "full",
        "play Adele in the kitchen at volume 30",
        ("play_music", {"query": "Adele", "room": "kitchen", "volume": 30}),
    )
    made = Counter(varied.meta.teacher.params["from"][0] for varied in vary([*plain, full], count=20))
    of_plain = [made[one.id] for one in plain]
    assert made["full"] > max(of_plain) and made["full"] > 1.5 * sum(of_plain) / len(plain)


def test_it_ends_when_all_values_were_used() -> None:
    door = trace("door", "lock the back door", ("lock_door", {"door": "back", "action": "lock"}))
    assert 0 < len(vary([door], count=1000)) < 8


def test_the_same_seed_gives_the_same_traces() -> None:
    assert vary([LIGHT, TWO]) == vary([LIGHT, TWO])
    assert vary([LIGHT, TWO]) != vary([LIGHT, TWO], seed=5)
