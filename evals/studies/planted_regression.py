"""Does the gate catch a regression that was planted, and let an unchanged model pass? Through the command line.

Answers are made from the suite's own gold calls, some of them broken on purpose, so that it is known beforehand which
cases are right. No model runs:

    python evals/studies/planted_regression.py
"""

import argparse
import random
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcdistill.errors import FcdistillError
from fcdistill.evaluation.comparators import expected_alternatives, parse_rule
from fcdistill.evaluation.suites import Suite, read_suite
from fcdistill.records import EvalCase, Report, SavedPrediction, ToolCall
from fcdistill.storage import read_json, write_json, write_jsonl, write_text
from fcdistill.toolcalls.parsing import render_calls

_RULES = ("--min-accuracy", "0.8", "--max-drop", "0.02")


@dataclass(frozen=True)
class Plan:
    """A run against the baseline.

    Attributes:
        name: what was planted.
        num_wrong: cases that the baseline has right and this run wrong.
        num_right: cases that the baseline has wrong and this run right.
        exit_code: what the gate must say.
        critical: whether those that turn wrong are marked `critical`; else none is.
    """

    name: str
    num_wrong: int
    num_right: int
    exit_code: int
    critical: bool = False


def main() -> int:
    """Run every plan with every seed, write summary.json and summary.md; exit code 1 where the gate erred."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=Path, default=Path("evals/smart_home/cases.jsonl"))
    parser.add_argument("--tools", type=Path, default=Path("schemas/smart_home.json"))
    parser.add_argument("--out", type=Path, default=Path("runs/studies/planted_regression"))
    parser.add_argument("--accuracy", type=float, default=0.9, help="of the baseline")
    parser.add_argument("--drop", type=float, default=0.05, help="the planted regression")
    parser.add_argument("--churn", type=float, default=0.02, help="cases that turn right, and as many that turn wrong")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    suite = read_suite(arguments.cases, arguments.tools)
    dropped, churned = (round(share * len(suite.cases)) for share in (arguments.drop, arguments.churn))
    worse, both_ways = f"{100 * arguments.drop:g} points worse", f"{churned} cases turned either way"
    plans = [
        Plan("unchanged", 0, 0, 0),
        Plan(f"as good, {both_ways}", churned, churned, 0),
        Plan(worse, dropped, 0, 1),
        Plan(f"{worse}, {both_ways}", dropped + churned, churned, 1),
        Plan("one critical case wrong", 1, 0, 1, critical=True),
    ]
    rows = []
    for seed in range(arguments.seeds):
        rows += run_plans(suite, plans, arguments.accuracy, seed, arguments)
    lines = [
        "| seed | planted | call accuracy | turned wrong | turned right | p | exit code | rules broken |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        shown = [f"{row['accuracy']:.1%}", row["num_wrong"], row["num_right"], f"{row['p']:.2g}", row["exit_code"]]
        broken = ", ".join(row["broken"]) or "none"
        lines.append(f"| {row['seed']} | {row['planted']} | {' | '.join(map(str, shown))} | {broken} |")
    write_json(arguments.out / "summary.json", rows)
    write_text(arguments.out / "summary.md", "\n".join(lines) + "\n")
    erred = sum(row["exit_code"] != row["wanted"] for row in rows)
    print("\n".join(lines))
    print(f"\n{len(rows)} verdicts on {len(suite.cases)} cases, {erred} of them not as planted.")
    return 1 if erred else 0


def run_plans(
    suite: Suite, plans: Sequence[Plan], accuracy: float, seed: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Write a baseline and judge a run per plan against it.

    Raises:
        FcdistillError: the baseline could not be written.
    """
    rng = random.Random(seed)
    out: Path = arguments.out / f"seed{seed}"
    shuffled = rng.sample(suite.cases, len(suite.cases))
    num_right = round(accuracy * len(shuffled))
    right, wrong = shuffled[:num_right], shuffled[num_right:]
    baseline = out / "baseline.json"
    files = ["--cases", str(arguments.cases), "--tools", str(arguments.tools)]

    def judged(name: str, right_ids: Collection[str], *options: str) -> int:
        # Broken answers differ from run to run, as those of two models do.
        lines = [SavedPrediction(id=case.id, text=answer(case, case.id in right_ids, rng)) for case in suite.cases]
        write_jsonl(out / f"{name}.jsonl", lines)
        return run_cli(
            ["eval", *files, "--predictions", str(out / f"{name}.jsonl"), "--out", str(out / name), *options]
        )

    right_ids = {case.id for case in right}
    if judged("baseline", right_ids, "--write-baseline", str(baseline)):
        raise FcdistillError(
            f"no baseline was written to {baseline}",
            required="a suite whose gold answers can be evaluated",
            fix="run `fcdistill eval` on the predictions beside it, and read what it says",
        )
    rows = []
    for number, plan in enumerate(plans):
        eligible = [case.id for case in right if case.critical == plan.critical]
        turned_wrong = rng.sample(eligible, plan.num_wrong)
        turned_right = [case.id for case in rng.sample(wrong, plan.num_right)]
        name = f"run{number}"
        now_right = right_ids - set(turned_wrong) | set(turned_right)
        code = judged(name, now_right, "--baseline", str(baseline), *_RULES)
        report = Report.model_validate(read_json(out / name / "report.json"))
        assert report.gate is not None and report.gate.comparison is not None
        assert set(report.gate.regressed_ids) == set(turned_wrong) and set(report.gate.fixed_ids) == set(turned_right)
        rows.append(
            {
                "seed": seed,
                "planted": plan.name,
                "wanted": plan.exit_code,
                "exit_code": code,
                "accuracy": report.call_accuracy.value,
                "num_wrong": plan.num_wrong,
                "num_right": plan.num_right,
                "p": report.gate.comparison.p_worse,
                "broken": [check.rule for check in report.gate.checks if not check.passed],
            }
        )
    return rows


def run_cli(arguments: Sequence[str]) -> int:
    """The exit code of a command, whose output is not shown."""
    command = [sys.executable, "-m", "fcdistill.cli", *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode


def answer(gold: EvalCase, is_right: bool, rng: random.Random) -> str:
    """An output text that scores right, or one that does not."""
    calls = [plain_call(gold, call) for call in gold.expected[0]]
    if is_right:
        return render_calls(calls) if calls else "Which one do you mean?"
    if not calls:
        return render_calls([ToolCall(name="made_up")])
    text = render_calls(calls)
    spoilt = rng.randrange(len(calls))
    call = calls[spoilt]
    match rng.choice(("no call", "cut short", "twice", "other tool", "other value")):
        case "no call":
            return "Done."
        case "cut short":
            return text[: text.rindex("}")]
        case "twice":
            calls.append(call)
        case "other tool":
            calls[spoilt] = ToolCall(name="made_up", arguments=call.arguments)
        case _:
            name = rng.choice([*call.arguments] or ["made_up"])
            arguments = {**call.arguments, name: f"not {call.arguments.get(name)}"}
            calls[spoilt] = ToolCall(name=call.name, arguments=arguments)
    return render_calls(calls)


def plain_call(case: EvalCase, call: ToolCall) -> ToolCall:
    """A gold call as a model would write it: where several values are right, the first."""
    rules = {name: case.comparators.get(f"{call.name}.{name}", "exact") for name in call.arguments}
    arguments = {
        name: expected_alternatives(parse_rule(rules[name]), value)[0] for name, value in call.arguments.items()
    }
    return ToolCall(name=call.name, arguments=arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"planted_regression: {error}")
