"""Tests of `fcdistill.generation.dataset.diversity`."""

from hypothesis import given
from hypothesis import strategies as st

from fcdistill.generation.dataset.diversity import measure_diversity
from fcdistill.records import Message
from tests.generation.dataset.light_requests import calling, trace
from tests.generation.home import catalog

KITCHEN, OFFICE = calling(room="kitchen"), calling(room="office")


def test_figures_by_hand() -> None:
    made = [
        trace("a", "kitchen on now", answer=KITCHEN),
        trace("b", "Kitchen on, now!", answer=KITCHEN),
        trace("c", "kitchen on please", answer=KITCHEN),
        trace("d", "bright office", answer=OFFICE),
    ]
    (found,) = measure_diversity(made, catalog()).values()
    assert found.requests == 4
    assert found.wordings_per_value == 1.5, "two for the kitchen, one for the office"
    assert found.type_token_ratio == round(6 / 11, 4)
    assert found.self_similarity == round((1 + 1 + 2 / 4 + 0) / 4, 4)


def test_sources_are_measured_apart_and_need_no_calls() -> None:
    other = trace("b", "tell me a story", answer=Message(role="assistant", content="no"))
    other = other.model_copy(update={"meta": other.meta.model_copy(update={"source": "recorded"})})
    found = measure_diversity([trace("a", "kitchen on", answer=KITCHEN), other], catalog())
    assert list(found) == ["call_first", "recorded"]
    assert found["recorded"].wordings_per_value is None and found["recorded"].self_similarity is None
    assert measure_diversity([], catalog()) == {}


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5).map(" ".join), min_size=2, max_size=8))
def test_figures_stay_in_their_ranges_and_know_no_order(texts: list[str]) -> None:
    made = [trace(str(number), text, answer=KITCHEN) for number, text in enumerate(texts)]
    one, other = (measure_diversity(each, catalog())["call_first"] for each in (made, made[::-1]))
    assert one == other
    assert one.self_similarity is not None and 0 <= one.self_similarity <= 1
    assert one.type_token_ratio is not None and 0 < one.type_token_ratio <= 1
    assert one.wordings_per_value == len({" ".join(text.split()) for text in texts})


def test_repeating_a_request_makes_a_source_less_varied() -> None:
    texts = ["kitchen on", "bright office please", "music in there"]
    made = [trace(str(number), text, answer=KITCHEN) for number, text in enumerate(texts)]
    again = [*made, *(trace(f"{number}x", text, answer=KITCHEN) for number, text in enumerate(texts))]
    one, other = (measure_diversity(each, catalog())["call_first"] for each in (made, again))
    assert other.self_similarity == 1 > (one.self_similarity or 0)
    assert (one.type_token_ratio or 0) > (other.type_token_ratio or 1)
