"""Speed of scoring: saved predictions through `fcdistill eval`, and single verdicts beside BFCL's own AST checker.

    python evals/speed/score.py
    python evals/speed/score.py --rounds 3 --num-cases 5000 --json

Every measurement runs in a process of its own, so that nothing is remembered from the one before; figures are medians
over the rounds, beside the smallest and the largest. README.md beside this file says what is compared.
"""

import argparse
import gc
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module, metadata
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from fcdistill.errors import FcdistillError, MissingDependencyError
from fcdistill.evaluation.bfcl import BfclSuite, read_bfcl
from fcdistill.evaluation.bfcl_official import load_ast_checker, official_verdict
from fcdistill.evaluation.comparators import expected_alternatives, parse_rule
from fcdistill.evaluation.predictions import predictions_of_suite, read_predictions
from fcdistill.evaluation.scoring import Scorer
from fcdistill.evaluation.stats import summarise
from fcdistill.evaluation.suites import read_suite
from fcdistill.records import EvalCase, Prediction, SavedPrediction, ToolCall
from fcdistill.storage import read_jsonl, write_jsonl
from fcdistill.toolcalls.parsing import render_calls

__all__ = ["figures", "main", "predictions_of", "tiled"]

_ROOT = Path(__file__).parents[2]
_CASES, _TOOLS = _ROOT / "evals" / "smart_home" / "cases.jsonl", _ROOT / "schemas" / "smart_home.json"
_CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple")
_FREE_TEXTS = {("play_music", "query"), ("create_reminder", "text"), ("set_timer", "label"), ("get_weather", "city")}
_WRONG_SHARE = 0.5


def main(arguments: Sequence[str]) -> int:
    """Measure and print the figures, with --json the report as the last line. Raises `FcdistillError`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num-cases", type=int, default=20_000, help="of the file that the command scores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="which answers are wrong, and how")
    parser.add_argument("--categories", nargs="*", default=_CATEGORIES, help="of BFCL; none leaves its checker out")
    parser.add_argument("--json", action="store_true", help="print the report as one line of JSON, the last one")
    given = parser.parse_args(arguments)
    if given.num_cases < 1 or given.rounds < 1:
        parser.error("--num-cases and --rounds must be at least 1")
    report: dict[str, Any] = {
        "num_cases": given.num_cases,
        "rounds": given.rounds,
        "seed": given.seed,
        "num_cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }
    with tempfile.TemporaryDirectory(prefix="fcdistill-score-") as name:
        work = Path(name)
        cases = tiled(read_jsonl(_CASES, EvalCase, "cases"), given.num_cases)
        write_jsonl(work / "cases.jsonl", cases)
        saved = predictions_of(cases, random.Random(given.seed))
        write_jsonl(work / "predictions.jsonl", [SavedPrediction(id=each.id, text=each.text) for each in saved])
        report["command"] = figures(_rounds(given.rounds, _command, work), given.num_cases)
        report["scoring"] = figures(_rounds(given.rounds, _scoring, work), given.num_cases)
    report["bfcl"] = _beside_bfcl(given.categories, given.rounds, given.seed)
    _print(report, sys.stderr if given.json else sys.stdout)
    if given.json:
        print(json.dumps(report))
    return 0


def tiled(cases: Sequence[EvalCase], num_cases: int) -> list[EvalCase]:
    """So many cases: those given, again and again, each time with other words where a tool takes free text."""
    found = []
    for number in range(num_cases):
        case = cases[number % len(cases)]
        expected = tuple(tuple(_reworded(call, number) for call in answer) for answer in case.expected)
        found.append(case.model_copy(update={"id": f"{case.id}-{number}", "expected": expected}))
    return found


def predictions_of(cases: Sequence[EvalCase], rng: random.Random) -> list[Prediction]:
    """An answer to each case, half of those with arguments spoilt: a wrong value, one too few or one too many."""
    found = []
    for number, case in enumerate(cases):
        calls = [_plain(case, call) for call in case.expected[0]]
        spoilt = [index for index, call in enumerate(calls) if call.arguments]
        if spoilt and rng.random() < _WRONG_SHARE:
            index = rng.choice(spoilt)
            arguments = dict(calls[index].arguments)
            name, kind = rng.choice(list(arguments)), rng.choice(("value", "missing", "extra"))
            if kind == "missing":
                del arguments[name]
            else:
                arguments[name if kind == "value" else "unheard_of"] = f"not asked for {number}"
            calls[index] = ToolCall(name=calls[index].name, arguments=arguments)
        text = render_calls(calls) if calls else "Which one do you mean?"
        found.append(Prediction(id=case.id, text=text, calls=tuple(calls), finish_reason="stop"))
    return found


def figures(rounds: Sequence[dict[str, float]], num_cases: int) -> dict[str, Any]:
    """Cases per second: by the clock, and by the processor's time, which other processes disturb less."""
    found: dict[str, Any] = {}
    for name in rounds[0]:
        rates = [num_cases / each[name] for each in rounds]
        found[f"cases_per_{name}"] = round(median(rates))
        found[f"cases_per_{name}_range"] = [round(min(rates)), round(max(rates))]
    return found


def _rounds(count: int, measure: Any, *arguments: Any) -> list[Any]:
    """What a function returns in processes of its own."""
    results = []
    for number in range(count):
        with get_context("spawn").Pool(1) as pool:
            results.append(pool.apply(measure, (*arguments, number)))
    return results


def _command(work: Path, number: int) -> dict[str, float]:
    """The whole command on the files: Python started, suite checked, answers scored, all reports written."""
    options = {"cases": work / "cases.jsonl", "tools": _TOOLS, "predictions": work / "predictions.jsonl"}
    arguments = [text for name, path in options.items() for text in (f"--{name}", str(path))]
    command = [sys.executable, "-m", "fcdistill.cli", "eval", *arguments, "--out", str(work / f"out-{number}")]
    started = _clock()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return _passed(started)


def _scoring(work: Path, number: int) -> dict[str, float]:
    """From the file of predictions to the report's figures; the suite was read before."""
    suite = read_suite(work / "cases.jsonl", _TOOLS)
    specs = next(iter(suite.specs.values()))
    gc.disable()  # as the command does
    started = _clock()
    saved = read_predictions(work / "predictions.jsonl")
    answers = predictions_of_suite(work, saved, {case.id for case in suite.cases}, suite.safe_names, suite.specs)
    scorer = Scorer(specs)
    scores = [scorer.score(case, answers[case.id, 0]) for case in suite.cases]
    summarise(scores, answers.values(), cases_sha256="")
    return _passed(started)


def _beside_bfcl(categories: Sequence[str], rounds: int, seed: int) -> dict[str, Any]:
    if not categories:
        return {"status": "left out"}
    try:
        load_ast_checker()
    except MissingDependencyError as error:
        return {"status": "not installed", "reason": error.found, "fix": error.fix}
    results = _rounds(rounds, _both, tuple(categories), seed)
    num_cases = results[0]["num_cases"]
    ratios = [each["theirs"]["s"] / each["ours"]["s"] for each in results]
    return {
        "status": "measured",
        "version": metadata.version("bfcl-eval"),
        "categories": list(categories),
        "num_cases": num_cases,
        "fcdistill": figures([each["ours"] for each in results], num_cases),
        "ast_checker": figures([each["theirs"] for each in results], num_cases),
        "ratio": round(median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "right": [results[0]["ours_right"], results[0]["theirs_right"]],
        "same_verdict": results[0]["same_verdict"],
    }


def _both(categories: Sequence[str], seed: int, number: int) -> dict[str, Any]:
    """Both judges on the same calls, in opposite order in every second round; both know their catalogues beforehand."""
    suites = [read_bfcl(category) for category in categories]
    rng = random.Random(seed)
    work = [(suite, predictions_of(suite.suite.cases, rng)) for suite in suites]
    scorers = {id(specs): Scorer(specs) for suite in suites for specs in suite.suite.specs.values()}

    def ours() -> list[bool]:
        return [
            scorers[id(suite.suite.specs[case.id])].score(case, answer).correct
            for suite, answers in work
            for case, answer in zip(suite.suite.cases, answers, strict=True)
        ]

    def theirs() -> list[bool]:
        return [_official(suite, answer) for suite, answers in work for answer in answers]

    import_module("scipy.optimize")  # the scorer imports it when it is first needed, which is no part of a verdict
    measured: dict[str, Any] = {}
    verdicts = {}
    judges = {"ours": ours, "theirs": theirs}
    for name in reversed(judges) if number % 2 else judges:
        started = _clock()
        verdicts[name] = judges[name]()
        measured[name] = _passed(started)
    pairs = list(zip(verdicts["ours"], verdicts["theirs"], strict=True))
    return {
        **measured,
        "num_cases": len(pairs),
        "ours_right": sum(verdicts["ours"]),
        "theirs_right": sum(verdicts["theirs"]),
        "same_verdict": sum(one == other for one, other in pairs),
    }


def _official(suite: BfclSuite, answer: Prediction) -> bool:
    return official_verdict(suite.category, suite.entries[answer.id], answer).correct


def _reworded(call: ToolCall, number: int) -> ToolCall:
    arguments = {
        name: f"{value} {number}" if (call.name, name) in _FREE_TEXTS and isinstance(value, str) else value
        for name, value in call.arguments.items()
    }
    return call.model_copy(update={"arguments": arguments})


def _plain(case: EvalCase, call: ToolCall) -> ToolCall:
    """The call with one value for each argument, the first where several are acceptable."""
    rules = {name: parse_rule(case.comparators.get(f"{call.name}.{name}", "exact")) for name in call.arguments}
    arguments = {name: expected_alternatives(rules[name], value)[0] for name, value in call.arguments.items()}
    return ToolCall(name=call.name, arguments=arguments)


def _clock() -> tuple[float, float]:
    """Seconds by the clock and of the processor, those of ended child processes included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in used)


def _passed(started: tuple[float, float]) -> dict[str, float]:
    wall, processor = _clock()
    return {"s": wall - started[0], "cpu_s": processor - started[1]}


def _print(report: dict[str, Any], file: Any) -> None:
    rows = [("fcdistill eval, whole command", report["command"]), ("predictions to figures", report["scoring"])]
    bfcl = report["bfcl"]
    if bfcl["status"] == "measured":
        rows += [("BFCL cases, fcdistill's scorer", bfcl["fcdistill"]), ("the same, AST checker", bfcl["ast_checker"])]
    print("| what | cases/s (min..max) | cases per processor second |\n|---|---:|---:|", file=file)
    for name, row in rows:
        low, high = row["cases_per_s_range"]
        print(f"| {name} | {row['cases_per_s']} ({low}..{high}) | {row['cases_per_cpu_s']} |", file=file)
    if bfcl["status"] == "measured":
        low, high = bfcl["ratio_range"]
        print(
            f"\nOn {bfcl['num_cases']} BFCL cases fcdistill judges {bfcl['ratio']} ({low}..{high}) times as many a "
            f"second as the AST checker of bfcl-eval {bfcl['version']}; {bfcl['same_verdict']} verdicts agree.",
            file=file,
        )
    else:
        print(f"\nBFCL: {bfcl['status']}. {bfcl.get('fix', '')}".rstrip(), file=file)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FcdistillError as error:
        print(f"score: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
