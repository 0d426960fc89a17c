"""Does a weak teacher become a good one by learning what it got right? Yield per round, and its zero-shot accuracy.

The first round is made once. Its rejects are then tried again in two ways: by the same teacher, as `--retry-rejects`
does it, and by the teacher that has learned what was kept, as `--rounds` does it. The raw and the adapted teachers
answer the domain's cases without examples.

    python evals/studies/teacher_rounds.py
    python evals/studies/teacher_rounds.py --quick
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from teacher_quality import RAW, percent, read_report, run

from fcdistill.errors import FcdistillError
from fcdistill.records import GenerationStats
from fcdistill.reporting.tables import comparison_markdown
from fcdistill.storage import read_json, write_json, write_text

ARMS = {"retried": "the raw teacher", "adapted": "the teacher that has learned"}
"""Ways to go on after the first round: who tries its rejects again."""
QUICK = ("num_call_first=8", "num_request_first=12", "num_varied=0", "num_joined=0", "adaptation.max_steps=2")
QUICK_CASES = 8


def main() -> int:
    """Generate, adapt, evaluate; the exit code of the first command that fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/studies/teacher_rounds"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=int, help="evaluate on the first so many cases only")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: few traces, steps and cases")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: the first is made by the raw teacher")
    limit = QUICK_CASES if arguments.quick and arguments.limit is None else arguments.limit
    out: Path = arguments.out
    fields = QUICK if arguments.quick else ()
    code = generate(out, fields, arguments.rounds)
    teachers = {"raw": RAW}
    for number in range(2, arguments.rounds + 1):
        if (directory := out / "adapted" / f"teacher-round-{number}").is_dir():
            teachers[f"round {number}"] = str(directory)
    for name, model in teachers.items():
        evaluate = [f"out={evaluation(out, name)}", f"model.model={model}"]
        code = code or run("eval", [*evaluate, *([f"limit={limit}"] if limit else [])])
    if not code:
        summarise(out, list(teachers))
    return code


def generate(out: Path, fields: Sequence[str], num_rounds: int) -> int:
    """The first round, and both ways of going on from it."""
    first = out / "adapted"
    code = run("generate", [f"out={first}", *fields], "--rounds", "1")
    retried = out / "retried"
    if not code and not retried.exists():
        shutil.rmtree(out / "copied", ignore_errors=True)
        shutil.copytree(first, out / "copied")
        (out / "copied").rename(retried)
    # A retry that was interrupted goes on, and one that is done stays.
    retry = [] if (retried / "rounds.json").exists() else ["--retry-rejects"]
    code = code or run("generate", [f"out={retried}", *fields], "--rounds", "1", *retry)
    return code or run("generate", [f"out={first}", *fields], "--rounds", str(num_rounds))


def evaluation(out: Path, teacher: str) -> Path:
    """Where a teacher's evaluation lies."""
    return out / f"eval-{teacher.replace(' ', '-')}"


def summarise(out: Path, teachers: Sequence[str]) -> None:
    """Print the tables, write summary.json and summary.md."""
    stats = {arm: GenerationStats.model_validate(read_json(out / arm / "stats.json")) for arm in ARMS}
    reports = [(name, read_report(evaluation(out, name))) for name in teachers]
    lines = [
        "| rejects tried again by | round | teacher | asked | kept | yield |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for arm, found in stats.items():
        for each in found.rounds:
            share = percent(each.kept / each.asked)
            lines.append(f"| {ARMS[arm]} | {each.round} | {each.teacher} | {each.asked} | {each.kept} | {share} |")
    lines += ["", "| rejects tried again by | requests of users answered | all traces |", "| --- | ---: | ---: |"]
    for arm, found in stats.items():
        answered = found.by_source["request_first"]
        lines.append(f"| {ARMS[arm]} | {answered.kept} of {answered.planned} | {found.kept} |")
    lines += ["", "Zero-shot accuracy of the teachers:", "", comparison_markdown(reports)]
    write_text(out / "summary.md", "\n".join(lines))
    summary: dict[str, Any] = {
        "arms": {arm: figures(found) for arm, found in stats.items()},
        "teachers": {
            name: {"num_cases": report.num_cases, "call_accuracy": report.call_accuracy.model_dump()}
            for name, report in reports
        },
    }
    write_json(out / "summary.json", summary)
    print((out / "summary.md").read_text(encoding="utf-8"))


def figures(stats: GenerationStats) -> dict[str, Any]:
    """What the summary says of one way of going on."""
    return {
        "kept": stats.kept,
        "request_first": stats.by_source["request_first"].model_dump(),
        "rounds": [each.model_dump() for each in stats.rounds],
        "seconds": stats.seconds,
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"teacher_rounds: {error}")
    except KeyboardInterrupt:
        sys.exit("teacher_rounds: interrupted; run it again to go on")
