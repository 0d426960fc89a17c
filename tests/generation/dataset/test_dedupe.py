"""Tests of `fcdistill.generation.dataset.dedupe`."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fcdistill.generation.dataset.dedupe import Contamination, NearDuplicates, WordingIndex, request_key, request_text
from fcdistill.records import EvalCase, Message, ModelRef, ToolCall, Trace, TraceMeta
from tests.generation.dataset.light_requests import LONG, calling, case, trace

CASES = Contamination(
    [
        case("a", "Turn the kitchen light on and set it to thirty percent"),
        case("b", "jazz please"),
        case("c", "first thing first, dim it", "which one?", "the bedroom lamp of course"),
    ]
)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Lights ON!", "light on"), ("thirty  percent", "30 percent"), ("the living_room", "the living room")],
)
def test_a_key_ignores_case_punctuation_plurals_and_spelled_numbers(one: str, other: str) -> None:
    assert request_key(one) == request_key(other)


def test_a_key_tells_values_and_order_apart() -> None:
    assert len({request_key(text) for text in ("light to 30", "light to 40", "30 to light")}) == 3


def test_the_request_is_the_last_user_message() -> None:
    messages = (
        Message(role="system", content="s"),
        Message(role="user", content="one"),
        Message(role="assistant", content="two"),
        Message(role="user", content="three"),
        Message(role="assistant", content="four"),
    )
    meta = TraceMeta(source="import", category="irrelevance", plan_cell="c", teacher=ModelRef(model="m"))
    assert request_text(Trace(id="t", messages=messages, tools=(), split_group="g", meta=meta)) == "three"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("turn the kitchen light on, and set it to 30 percent!", "a"),
        ("please turn the kitchen light on and set it to thirty percent", "a"),
        ("turn the kitchen light on", None),
        ("Jazz, please.", None),
        ("first thing first: dim it", "c"),
        ("the bedroom lamp, of course", None),
        ("which one?", None),
        ("", None),
        ("something else entirely, nothing shared with any case", None),
    ],
)
def test_shared_wording_is_found(text: str, found: str | None) -> None:
    like = CASES.find(trace("t", text))
    assert (like and like.id) == found


NO_CALL = Message(role="assistant", content="You are welcome.")


@pytest.mark.parametrize(
    ("texts", "answer", "found"),
    [
        (("Jazz, please.",), NO_CALL, "b"),
        (("please jazz",), NO_CALL, "b"),
        (("please play jazz",), NO_CALL, None),
        (("please jazz",), calling(room="kitchen"), None),
        (("Is it cold outside?", "It is.", "jazz please"), NO_CALL, None),
        (("the bedroom lamp, of course",), NO_CALL, None),
        (("Is it cold outside?", "It is.", "the bedroom lamp, of course"), calling(room="kitchen"), None),
        (("First thing first: dim it", "Which?", "the bedroom lamp of course"), NO_CALL, "c"),
    ],
)
def test_a_short_turn_tells_only_with_what_stands_round_it(
    texts: tuple[str, ...], answer: Message, found: str | None
) -> None:
    like = CASES.find(trace("t", *texts, answer=answer))
    assert (like and like.id) == found


@pytest.mark.parametrize("place", [0, 2, 4])
def test_every_turn_of_a_user_is_held_against_the_cases(place: int) -> None:
    texts = ["good morning", "hello", "is it cold outside", "it is", "thanks", "welcome"]
    texts[place] = "turn the kitchen light on and set it to 30 percent"
    assert (like := CASES.find(trace("t", *texts[:-1]))) and like.id == "a"


def test_the_calls_after_a_turn_are_its_answer() -> None:
    lights = EvalCase(
        id="lights",
        messages=(Message(role="user", content="Lights!"),),
        behaviour="call",
        expected=((ToolCall(name="set_light"),),),
        category="simple",
    )
    cases = Contamination([lights])
    assert cases.find(trace("t", "lights")) and not cases.find(trace("t", "lights", answer=NO_CALL))


def test_no_cases_share_nothing() -> None:
    assert Contamination([]).find(trace("t", "anything at all")) is None


def test_files_may_use_the_same_ids() -> None:
    both = Contamination(
        [case("1", "open the garage door for the car"), case("1", "how tall is the mountain over there")]
    )
    for text in ("now open the garage door for the car", "how tall is the mountain there"):
        assert (like := both.find(trace("t", text))) and like.id == "1"


GREETING, THANKS, BYE = "hello there good evening to you", "okay thank you so much for that", "goodbye then"
TRANSFER, BALANCE = (
    "send two hundred dollars from checking to my savings account",
    "and how much is left in checking now",
)
REPORT = "somebody used my old credit card in a shop that I have never been to in my life"


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ((TRANSFER,), True),
        ((GREETING, "Hi!", TRANSFER), False),
        (("Hello", "Hi!", TRANSFER), True),
        (("Hello", "Hi!", TRANSFER, "Done.", "Thanks!"), True),
        ((TRANSFER, "Done.", "now what did I spend on food in the last month"), False),
        ((TRANSFER, "Done.", "now what did I spend on food last month", "90.", BALANCE), False),
        (("now what did I spend on food in the last month", "90.", REPORT), True),
        (("now what did I spend on food last month", "90.", TRANSFER, "Done.", BALANCE), True),
        ((GREETING, "Hi!", "pay the gas bill", "Paid.", THANKS, "Bye.", BYE), False),
    ],
)
def test_the_whole_side_of_a_user_is_shared_or_much_of_it(texts: tuple[str, ...], found: bool) -> None:
    cases = Contamination([case("c", TRANSFER, "Done.", BALANCE), case("d", GREETING, "Hi!", THANKS, "Bye.", BYE)])
    others = Contamination([case("r", "what is my balance please and thank you", "7.", REPORT)])
    assert bool(cases.find(trace("t", *texts)) or others.find(trace("t", *texts))) == found


WORD = st.text("abcdefgh", min_size=2, max_size=6)
TURN = st.lists(WORD, min_size=1, max_size=12).map(" ".join)
TURNS = st.lists(TURN, min_size=1, max_size=5)


@given(TURNS)
def test_a_copy_of_a_case_is_always_found(turns: list[str]) -> None:
    texts = conversing(turns)
    like = Contamination([case("other", "something else"), case("copied", *texts)]).find(
        trace("t", *texts, answer=NO_CALL)
    )
    assert like is not None and like.id == "copied"


@given(st.lists(TURN, min_size=2, max_size=5), st.data())
def test_a_copy_of_several_turns_with_one_other_word_is_found(turns: list[str], data: st.DataObject) -> None:
    assume(sum(len(turn.split()) for turn in turns) >= 5)
    place = data.draw(st.integers(0, len(turns) - 1))
    words = turns[place].split()
    words[data.draw(st.integers(0, len(words) - 1))] = "xylophone"
    edited = [*turns[:place], " ".join(words), *turns[place + 1 :]]
    copied = Contamination([case("copied", *conversing(turns))])
    assert copied.find(trace("t", *conversing(edited), answer=NO_CALL))


SHORT_TURN = st.lists(WORD, min_size=1, max_size=7).map(" ".join)


@given(st.lists(SHORT_TURN, min_size=1, max_size=4), TURNS, TURNS, st.data())
def test_who_shares_short_turns_only_is_never_found(
    shared: list[str], first: list[str], second: list[str], data: st.DataObject
) -> None:
    """Both sides say the same greetings and thanks, and at least three words of their own that the other one lacks."""

    def mixed(own: list[str], letter: str) -> list[str]:
        turns = [*shared, " ".join(f"{letter}own{word}" for turn in own for word in (*turn.split(), "ij", "ik"))]
        return conversing(data.draw(st.permutations(turns)))

    cases = Contamination([case("c", *mixed(first, "x"))])
    assert cases.find(trace("t", *mixed(second, "y"))) is None
    assert cases.find(trace("t", *mixed(second, "y"), answer=NO_CALL)) is None


def conversing(turns: list[str]) -> list[str]:
    """A user's turns with answers between them."""
    return [text for turn in turns for text in (turn, "I see.")][:-1]


# --- near duplicates


def test_short_turns_that_differ_tell_long_conversations_apart() -> None:
    known = NearDuplicates()
    known.add(trace("a", REPORT, "Which one?", "the blue one", "Blocked.", "Thanks so much"))
    assert not known.find(trace("b", REPORT, "Which one?", "the blue one", "Blocked.", "cheers, that was all"))
    assert known.find(trace("c", REPORT, "Which one?", "the blue card", "Blocked.", "Thanks so much"))


def test_other_calls_on_the_way_tell_conversations_apart() -> None:
    known = NearDuplicates()
    user, thanks = Message(role="user", content=REPORT), Message(role="user", content="Thanks so much")
    one, other = (
        trace("t", REPORT).model_copy(update={"messages": (user, calling(room=room), thanks, NO_CALL)})
        for room in ("kitchen", "office")
    )
    known.add(one)
    assert known.find(one) and not known.find(other)


@pytest.mark.parametrize(
    ("other", "near"),
    [
        (trace("b", f"{LONG} thanks"), True),
        (trace("b", f"{LONG.upper()}!"), True),
        (trace("b", f"{LONG} thanks", answer=calling(room="office")), False),
        (
            trace("b", f"{LONG} thanks", answer=Message(role="assistant", content="Which one?"), category="clarify"),
            False,
        ),
        (trace("b", "would you turn the light in the kitchen on"), False),
        (trace("b", "good morning", "hello", f"{LONG} thanks"), False),
    ],
)
def test_almost_the_same_words_with_the_same_calls_are_near_duplicates(other: Trace, near: bool) -> None:
    known = NearDuplicates()
    known.add(trace("a", LONG))
    like = known.find(other)
    assert (like is not None) == near
    assert like is None or (like.id == "a" and 0.7 <= like.jaccard <= 1)


def test_without_calls_the_category_is_the_answer() -> None:
    known = NearDuplicates()
    known.add(trace("a", LONG, answer=Message(role="assistant", content="Which one?"), category="clarify"))
    asks = Message(role="assistant", content="Which light do you mean?")
    assert known.find(trace("b", f"{LONG} thanks", answer=asks, category="clarify"))
    assert not known.find(trace("b", f"{LONG} thanks", answer=asks, category="irrelevance"))


def test_a_stricter_threshold_finds_less() -> None:
    for jaccard, near in ((0.7, True), (0.9, False), (1.0, False)):
        known = NearDuplicates(jaccard)
        known.add(trace("a", LONG))
        assert bool(known.find(trace("b", f"{LONG} thanks"))) == near
        assert known.find(trace("b", LONG))


WORDS = st.lists(st.sampled_from("turn the light in kitchen office on off now please to of".split()), max_size=14)


@given(st.lists(WORDS, max_size=12), WORDS, st.sampled_from([0.3, 0.5, 0.7, 0.9]))
def test_the_index_finds_what_comparing_everything_finds(
    texts: list[list[str]], asked: list[str], least: float
) -> None:
    index = WordingIndex(least)
    for number, words in enumerate(texts):
        index.add(str(number), " ".join(words))
    found = {each.id: each.jaccard for each in index.find(" ".join(asked))}
    similarities = {str(number): compared(words, asked) for number, words in enumerate(texts)}
    assert found.items() <= {(number, jaccard) for number, jaccard in similarities.items() if jaccard >= least}
    # One in a thousand may be missed of those at the threshold, and none in practice of those well above it.
    assert found.keys() >= {number for number, jaccard in similarities.items() if jaccard >= min(least + 0.2, 1)}
    assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.parametrize(("least", "num_shared", "num_own"), [(0.5, 8, 3), (0.7, 16, 3), (0.9, 20, 1)])
def test_of_texts_at_the_threshold_hardly_one_in_a_thousand_is_missed(
    least: float, num_shared: int, num_own: int
) -> None:
    index = WordingIndex(least)
    pairs = []
    for number in range(1000):
        letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        shared, one, other = (
            " ".join(f"{name}{chr(ord('a') + place)}{letters}q" for place in range(num))
            for name, num in (("sh", num_shared), ("on", num_own), ("ot", num_own))
        )
        index.add(str(number), f"{shared} {one}")
        pairs.append(f"{shared} {other}")
    missed = [number for number, text in enumerate(pairs) if [each.id for each in index.find(text)] != [str(number)]]
    assert len(missed) <= 4 and compared(f"{shared} {one}".split(), pairs[-1].split()) == least


def compared(one: list[str], other: list[str]) -> float:
    if (sorted(set(one)) if len(one) < 5 else one) == (sorted(set(other)) if len(other) < 5 else other):
        return 1.0
    first, second = ({tuple(words[start : start + 3]) for start in range(len(words) - 2)} for words in (one, other))
    return len(first & second) / len(first | second) if first | second else 0.0


@pytest.mark.parametrize(
    ("first", "found"), [("Book the ferry to Lindholm for 3 people", True), ("Book the ferry to Lindholm", False)]
)
def test_a_conversation_that_goes_on_from_a_whole_case_is_found(first: str, found: bool) -> None:
    messages = (
        Message(role="user", content=first),
        calling(seats=3),
        Message(role="user", content="Now the ferry to Sandvig, with five of us on board"),
        calling(seats=5),
    )
    meta = TraceMeta(source="import", category="simple", plan_cell="c", teacher=ModelRef(model="m"))
    known = Contamination([case("a", "Book the ferry to Lindholm for 3 people")])
    like = known.find(Trace(id="t", messages=messages, tools=(), split_group="g", meta=meta))
    assert (like is not None) is found
