"""Tests of `fcdistill.generation.verification.policy`."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.config import PolicyName, Trust
from fcdistill.generation.verification.policy import PRIOR_ERROR_RATE, decide
from fcdistill.generation.verification.witnesses import ArgumentEvidence, Stance, WordEvidence

ROOM = ArgumentEvidence("set_light.room", "kitchen", "nothing", is_open=False, is_number=False)
NUMBER = ArgumentEvidence("set_light.brightness", 40, "against", is_open=True, is_number=True)
TEXT = ArgumentEvidence("create_reminder.text", "call Bo", "against", is_open=True, is_number=False)

stance = st.sampled_from(get_args(Stance))
texts = st.lists(st.text(min_size=1, max_size=3), max_size=2).map(tuple)
arguments = st.builds(
    ArgumentEvidence, st.just("a.b"), st.integers(), stance, is_open=st.booleans(), is_number=st.booleans()
)


@st.composite
def evidence(draw: st.DrawFn) -> WordEvidence:
    """Whatever words may say: what they do not bear out is refused by a strict reading."""
    found = tuple(draw(st.lists(arguments, max_size=3)))
    missing, doubts = draw(texts), draw(texts)
    refused = any(each.stance != "for" for each in found) or missing or doubts
    return WordEvidence(found, missing, doubts, ("refused",) if refused else ())


def words(*arguments: ArgumentEvidence, missing: str = "", doubt: str = "") -> WordEvidence:
    return WordEvidence(arguments, (missing,) if missing else (), (doubt,) if doubt else (), ("strictly refused",))


@pytest.mark.parametrize(
    ("found", "model", "kept"),
    [
        (words(ROOM), "nothing", True),
        (words(ROOM), "against", False),
        (words(NUMBER), "nothing", False),
        (words(NUMBER), "for", True),
        (words(TEXT), "nothing", False),
        (words(doubt="in no argument: 7"), "nothing", True),
        (words(missing="in no argument: 'purple' (set_light.color)"), "nothing", False),
        (words(missing="in no argument: 'purple' (set_light.color)"), "for", True),
    ],
)
def test_balanced(found: WordEvidence, model: Stance, kept: bool) -> None:
    decision = decide("balanced", found, independent=True, model=model)
    assert decision.keep is kept and decision.detail
    assert not decide("balanced", found, independent=False).keep


def test_trusting_refuses_numbers_alone() -> None:
    assert decide("trusting", words(ROOM, TEXT, doubt="7"), independent=False).keep
    refused = decide("trusting", words(NUMBER), independent=False)
    assert not refused.keep and refused.detail == "not in the request: set_light.brightness = 40"


@given(evidence(), st.booleans(), stance)
def test_what_a_stricter_policy_keeps_a_laxer_one_keeps_and_a_reject_has_a_reason(
    found: WordEvidence, independent: bool, model: Stance
) -> None:
    kept = {}
    for policy in get_args(PolicyName):
        decision = decide(policy, found, independent=independent, model="nothing")
        kept[policy] = decision.keep
        assert decision.keep or decision.detail
    assert kept["strict"] <= kept["balanced"] <= kept["trusting"]
    by_model = [decide("balanced", found, independent=True, model=each).keep for each in ("against", "nothing", "for")]
    assert by_model == sorted(by_model) and not by_model[0] and by_model[2]


def test_every_source_has_a_prior_below_one_half() -> None:
    assert set(PRIOR_ERROR_RATE) == set(get_args(Trust))
    assert all(0 < rate < 0.5 for rate in PRIOR_ERROR_RATE.values())
