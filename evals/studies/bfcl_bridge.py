"""Do both verdicts on BFCL agree where the answer is known? Gold answers through our scorer and the official checker.

Every first gold answer is an answer that both must call right. Beside it stand answers that differ from it in one
argument: each other value that the case accepts, the argument left out, a null in its place; where the two judge these
apart, they are counted by kind. No model runs; needs `pip install --no-deps bfcl-eval`:

    python evals/studies/bfcl_bridge.py
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
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
    lines += ["", "| category | answers beside the first | judged apart | of which |", "| --- | ---: | ---: | --- |"]
    for category, figures in found.items():
        kinds = ", ".join(f"{kind}: {count}" for kind, count in figures["apart"].items())
        lines.append(f"| {category} | {figures['probes']} | {sum(figures['apart'].values())} | {kinds} |")
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
    both = probes = 0
    apart: Counter[str] = Counter()
    for case in bfcl.suite.cases:
        calls = gold_answer(case)
        text = "" if calls else "None of my tools does that."
        prediction = Prediction(id=case.id, text=text, calls=calls, finish_reason="stop")
        scorer = Scorer(bfcl.suite.specs[case.id])
        is_ours = scorer.score(case, prediction).correct
        verdict = official_verdict(bfcl.category, bfcl.entries[case.id], prediction)
        ours += is_ours
        official += verdict.correct
        both += is_ours and verdict.correct
        if not (is_ours and verdict.correct):
            differing[case.id] = {"ours": is_ours, "official": verdict.correct, "official_error": verdict.error}
        for kind, probe in neighbours(case, calls):
            prediction = Prediction(id=case.id, text="", calls=probe, finish_reason="stop")
            mine, theirs = (
                scorer.score(case, prediction),
                official_verdict(bfcl.category, bfcl.entries[case.id], prediction),
            )
            probes += 1
            if mine.correct != theirs.correct:
                reason = theirs.error.partition(": ")[0] if mine.correct else mine.primary_error
                apart[f"{kind}, {'official' if mine.correct else 'ours'} says {reason}"] += 1
    return {
        "cases": len(bfcl.suite.cases),
        "ours_right": ours,
        "official_right": official,
        "both_right": both,
        "differing": differing,
        "probes": probes,
        "apart": dict(apart.most_common()),
        "set_aside": dict(bfcl.unsatisfiable),
    }


def neighbours(case: EvalCase, calls: tuple[ToolCall, ...]) -> Iterator[tuple[str, tuple[ToolCall, ...]]]:
    """Answers that differ from the first gold answer in one argument, and in what."""
    for place, (call, expected) in enumerate(zip(calls, case.expected[0], strict=False)):
        for name, value in expected.arguments.items():
            rule = parse_rule(case.comparators.get(f"{call.name}.{name}", "exact"))
            changed = [("other value", other) for other in expected_alternatives(rule, value)[1:]]
            rest = {key: each for key, each in call.arguments.items() if key != name}
            arguments = [(kind, {**rest, name: other}) for kind, other in [*changed, ("null", None)]]
            for kind, given in [*arguments, ("left out", rest)]:
                probe = ToolCall(name=call.name, arguments=given)
                yield kind, (*calls[:place], probe, *calls[place + 1 :])


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
