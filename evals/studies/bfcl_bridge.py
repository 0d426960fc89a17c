"""Do both verdicts on BFCL agree where the answer is known? Gold answers through our scorer and the official checker.

Every first gold answer is an answer that both must call right. No model runs; needs `pip install --no-deps bfcl-eval`:

    python evals/studies/bfcl_bridge.py
"""

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from fcdistill.config.eval_section import EvalSuite
from fcdistill.errors import FcdistillError
from fcdistill.evaluation.bfcl import BfclSuite, read_bfcl
from fcdistill.evaluation.bfcl_official import official_verdict
from fcdistill.evaluation.comparators import expected_alternatives, parse_rule
from fcdistill.evaluation.scoring import Scorer
from fcdistill.records import EvalCase, Prediction, ToolCall
from fcdistill.storage import write_json, write_text

CATEGORIES = tuple(name.partition(":")[2] for name in get_args(EvalSuite) if not name.endswith("live_relevance"))
"""Those whose right answers are known: of live_relevance it is only known that some call is right."""


def main() -> int:
    """Check each category; 1 where a gold answer is not right to both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--categories", nargs="+", choices=CATEGORIES, default=list(CATEGORIES))
    parser.add_argument("--out", type=Path, default=Path("runs/studies/bfcl_bridge"))
    arguments = parser.parse_args()
    found = {}
    for category in arguments.categories:
        found[category] = checked(read_bfcl(category))
        print(f"{category}: {found[category]['both_right']} of {found[category]['cases']}", flush=True)
    lines = [
        "| category | cases | our scorer | official checker | both | set aside |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for category, figures in found.items():
        cells = [category, *(str(figures[name]) for name in ("cases", "ours_right", "official_right", "both_right"))]
        lines.append(f"| {' | '.join([*cells, str(len(figures['set_aside']))])} |")
    reasons = [f"- {identity}: {why}" for figures in found.values() for identity, why in figures["set_aside"].items()]
    if reasons:
        lines += ["", "Set aside, since no answer satisfies both the schema and the gold values:", "", *reasons]
    write_text(arguments.out / "summary.md", "\n".join([*lines, ""]))
    write_json(arguments.out / "summary.json", found)
    print((arguments.out / "summary.md").read_text(encoding="utf-8"))
    return int(any(figures["both_right"] < figures["cases"] for figures in found.values()))


def checked(bfcl: BfclSuite) -> dict[str, Any]:
    """How many gold answers of a category each checker calls right, and what stands aside or differs."""
    ours, official, differing = 0, 0, {}
    both = 0
    for case in bfcl.suite.cases:
        calls = gold_answer(case)
        text = "" if calls else "None of my tools does that."
        prediction = Prediction(id=case.id, text=text, calls=calls, finish_reason="stop")
        is_ours = Scorer(bfcl.suite.specs[case.id]).score(case, prediction).correct
        verdict = official_verdict(bfcl.category, bfcl.entries[case.id], prediction)
        ours += is_ours
        official += verdict.correct
        both += is_ours and verdict.correct
        if not (is_ours and verdict.correct):
            differing[case.id] = {"ours": is_ours, "official": verdict.correct, "official_error": verdict.error}
    return {
        "cases": len(bfcl.suite.cases),
        "ours_right": ours,
        "official_right": official,
        "both_right": both,
        "differing": differing,
        "set_aside": dict(bfcl.unsatisfiable),
    }


def gold_answer(case: EvalCase) -> tuple[ToolCall, ...]:
    """The first right answer of a case, with the first of the values that each argument may have."""
    if not case.expected:
        return ()
    return tuple(
        ToolCall(
            name=call.name,
            arguments={
                name: expected_alternatives(parse_rule(case.comparators[f"{call.name}.{name}"]), value)[0]
                if f"{call.name}.{name}" in case.comparators
                else value
                for name, value in call.arguments.items()
            },
        )
        for call in case.expected[0]
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"bfcl_bridge: {error}")
