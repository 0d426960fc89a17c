"""Tests of `fcdistill.evidence.witness_rates`."""

from pathlib import Path

import pytest

from fcdistill.evidence.candidates import plant_errors, read_domains, read_source
from fcdistill.evidence.witness_rates import kept_precision, policy_rates, witness_rates, word_rates
from fcdistill.records import Counted, WitnessRates
from tests.evidence.imported import imported


def test_rules_are_counted_by_kind(tmp_path: Path) -> None:
    source = read_source(imported(tmp_path))
    variants = plant_errors(source, read_domains(source, seed=0))
    everything = witness_rates("all", variants, lambda variant: True)
    assert everything.kept == Counted(num=6, of=6) == everything.speaks
    assert everything.planted.num == everything.planted.of == len(variants) - 6
    nothing = witness_rates("none", variants, lambda variant: False)
    assert nothing.kept.num == nothing.planted.num == 0 and nothing.planted.of == everything.planted.of
    words = word_rates(variants)
    assert words.kept == Counted(num=5, of=6)  # the wrong number
    assert words.speaks == Counted(num=5, of=6)  # of "let there be light" they say nothing
    strict, balanced, trusting = policy_rates(variants)
    assert (strict.kept.num, balanced.kept.num, trusting.kept.num) == (4, 5, 5)
    assert strict.planted.num <= balanced.planted.num <= trusting.planted.num


@pytest.mark.parametrize(
    ("kept", "let_through", "precision"),
    [((10, 10), (0, 10), 1.0), ((10, 10), (10, 10), 0.9), ((8, 10), (4, 10), 0.95), ((0, 10), (1, 10), None)],
)
def test_precision_follows_from_the_prior(
    kept: tuple[int, int], let_through: tuple[int, int], precision: float | None
) -> None:
    rates = WitnessRates(
        name="w",
        speaks=Counted(num=0, of=10),
        kept=Counted(num=kept[0], of=kept[1]),
        let_through={"number": Counted(num=let_through[0], of=let_through[1])},
    )
    assert kept_precision(rates, 0.1) == (None if precision is None else pytest.approx(precision))
