"""The simulation behind the gate's figures, in small."""

import numpy
from gate_power import simulate


def test_simulated_runs_fail_as_often_as_computed() -> None:
    row = simulate(numpy.random.default_rng(0), 300, num_cases=60, drop=0.15, churn=0.02, max_drop=0.02)
    assert 0.5 < row["computed"] < 0.95
    assert row["surely_above"] <= row["computed"] <= row["surely_below"]
    assert row["low"] < row["failed"] < row["high"]


def test_without_any_change_no_run_fails() -> None:
    row = simulate(numpy.random.default_rng(0), 20, num_cases=30, drop=0.0, churn=0.0, max_drop=0.0)
    assert row["failed"] == row["computed"] == 0
