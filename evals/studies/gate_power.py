"""How often the gate fails a model that is as good as the baseline, and how often one that is worse: by simulation.

Simulated runs go through the gate itself, as scores of so many cases, and are set beside what `gate_power` computes:

    python evals/studies/gate_power.py --runs 10000
"""

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy

from fcdistill.config import GateConfig
from fcdistill.errors import FcdistillError
from fcdistill.evaluation.gate import baseline_of, gate_power, judge
from fcdistill.evaluation.stats import summarise, wilson_interval
from fcdistill.records import Prediction, Report, Score
from fcdistill.storage import write_json, write_text

ALPHA = 0.05


def main() -> int:
    """Simulate every setting, write summary.json and summary.md; exit code 1 where a figure contradicts the gate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/studies/gate_power"))
    parser.add_argument("--runs", type=int, default=10_000, help="simulated runs per setting")
    parser.add_argument("--cases", nargs="+", type=int, default=[100, 200, 272])
    parser.add_argument("--drops", nargs="+", type=float, default=[0.0, 0.05, 0.08])
    parser.add_argument("--churns", nargs="+", type=float, default=[0.02, 0.06])
    parser.add_argument("--max-drops", nargs="+", type=float, default=[0.0, 0.02])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = numpy.random.default_rng(arguments.seed)
    rows = [
        simulate(rng, arguments.runs, num_cases, drop, churn, max_drop)
        for max_drop in arguments.max_drops
        for churn in arguments.churns
        for drop in arguments.drops
        for num_cases in arguments.cases
    ]
    lines = [
        "| cases | true drop | turn right, and as many wrong | tolerated drop | failed | 95% interval | computed |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        shown = [f"{row[name]:.1%}" for name in ("drop", "churn", "max_drop", "failed")]
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        lines.append(f"| {row['num_cases']:.0f} | {' | '.join(shown)} | {interval} | {row['computed']:.1%} |")
    write_text(arguments.out / "summary.md", "\n".join(lines) + "\n")
    write_json(arguments.out / "summary.json", rows)
    print("\n".join(lines))
    # 99.99% intervals: with some dozens of settings, one in a hundred tables would hold a false alarm.
    alarms = [row for row in rows if row["drop"] == 0 and row["surely_above"] > ALPHA]
    off = [row for row in rows if not row["surely_above"] <= row["computed"] <= row["surely_below"]]
    print(
        f"\nFalse alarms above {ALPHA:.0%}: {len(alarms)} settings; computed power contradicted: {len(off)} settings."
    )
    return 1 if alarms or off else 0


def simulate(
    rng: numpy.random.Generator, runs: int, num_cases: int, drop: float, churn: float, max_drop: float
) -> dict[str, float]:
    """The share of simulated runs that fail, beside the computed one."""

    @cache  # runs with the same counts get the same verdict
    def fails(num_wrong: int, num_right: int) -> bool:
        before = scores_of([number < num_wrong for number in range(num_cases)])
        now = scores_of([num_wrong <= number < num_wrong + num_right for number in range(num_cases)])
        config = GateConfig(baseline=Path("simulated"), max_drop=max_drop, alpha=ALPHA)
        return not judge(config, report_of(now), now, (), baseline_of(report_of(before), before)).passed

    counts = rng.multinomial(num_cases, [drop + churn, churn, 1 - drop - 2 * churn], size=runs).tolist()
    failed = sum(fails(num_wrong, num_right) for num_wrong, num_right, _ in counts)
    low, high = wilson_interval(failed, runs)
    surely_above, surely_below = wilson_interval(failed, runs, 0.9999)
    return {
        "num_cases": num_cases,
        "drop": drop,
        "churn": churn,
        "max_drop": max_drop,
        "failed": failed / runs,
        "low": low,
        "high": high,
        "surely_above": surely_above,
        "surely_below": surely_below,
        "computed": gate_power(num_cases, drop, max_drop=max_drop, alpha=ALPHA, churn=churn),
    }


def scores_of(outcomes: Sequence[bool]) -> list[Score]:
    """A verdict per outcome."""
    return [
        Score(
            id=f"c{number}",
            category="simple",
            behaviour="call",
            tools=(),
            correct=correct,
            primary_error=None if correct else "wrong_value",
            parsed=True,
            schema_valid=True,
            names_correct=True,
        )
        for number, correct in enumerate(outcomes)
    ]


def report_of(scores: Sequence[Score]) -> Report:
    """The figures of such a run."""
    return summarise(scores, [Prediction(id=score.id) for score in scores], cases_sha256="simulated")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"gate_power: {error}")
