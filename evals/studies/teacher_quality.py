"""What a teacher is worth: students of the raw teacher, of one that is gated, of one that learned the traces, of none.

All are trained on the same traces with the same steps and seeds; what the teacher says, and what of it counts, differs.
Teachers are heard through caches, one per teacher and input, so that an arm costs little more than one without. Needs
the traces of `fcdistill generate evals/smart_home/weak_teacher.yaml`:

    python evals/studies/teacher_quality.py --traces runs/weak_teacher/traces/traces.jsonl --epochs 2 --seeds 0 1

What its teacher gives that configuration's own student, which is the second of these arms:

    python evals/studies/teacher_quality.py --arms sft kd_hidden_adapted_agree --epochs 2 --seeds 0 1 \
      --adapted-teacher runs/weak_teacher/traces/teacher-round-2

And to one that has a quarter of the traces, learns them more often, and by softer labels that count for more:

    python evals/studies/teacher_quality.py --arms sft kd_adapted --one-trace-in 4 --epochs 8 --seeds 0 1 2 \
      --adapted-teacher runs/weak_teacher/traces/teacher-round-2 --out runs/studies/softer_labels --with-teacher \
      objective.kd_temperature=2 objective.kd_weight=0.9 objective.ce_weight=0.1 cache.top_k=128 \
      objective.aligned_top_k=128
"""

import argparse
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fcdistill.errors import FcdistillError
from fcdistill.evaluation.stats import wilson_interval
from fcdistill.records import Report, Score, TeacherReport, Trace
from fcdistill.reporting.tables import comparison_markdown
from fcdistill.storage import loads_strict, read_json, read_jsonl, write_json, write_jsonl, write_text

CONFIG = "evals/smart_home/weak_teacher.yaml"
WITHOUT_TEACHER = (
    "teacher=null",
    "signal=online",
    "objective.kd_weight=0",
    "objective.kd_gate=off",
    "objective.hidden_weight=0",
)
"""What leaves cross-entropy alone of the configuration's training."""
RAW = "qwen2.5-coder-0.5b-instruct"
ADAPTED = "adapted"
TEACHERS: dict[str, tuple[str, list[str]]] = {
    "kd": ("raw", []),
    "kd_shown": ("shown", ["teacher_examples=data/examples/smart_home.jsonl"]),
    "kd_agree": ("raw", ["objective.kd_gate=agree"]),
    "kd_prob": ("raw", ["objective.kd_gate=prob"]),
    "kd_adapted": (ADAPTED, []),
    "kd_adapted_agree": (ADAPTED, ["objective.kd_gate=agree"]),
    "kd_hidden_adapted_agree": (ADAPTED, ["objective.kd_gate=agree", "objective.hidden_weight=1.0"]),
}
"""Arms with a teacher: which, and what else its students are trained with."""
ARMS = ("sft", *TEACHERS)

Stage = tuple[str, list[str]]
"""A command of the kit, and the fields that are set."""


def main() -> int:
    """Adapt the teacher, train and evaluate one student per arm and seed; the exit code of the first that fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--traces", type=Path, default=Path("runs/weak_teacher/traces/traces.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("runs/studies/teacher_quality"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=float, default=2, help="of the students")
    parser.add_argument("--teacher-epochs", type=float, default=1, help="of the adapted teacher")
    parser.add_argument("--adapted-teacher", metavar="REF", help="an adapted teacher that there is; default: adapt one")
    parser.add_argument(
        "--with-teacher", nargs="+", metavar="FIELD=VALUE", default=[], help="fields of the students with a teacher"
    )
    parser.add_argument("--one-trace-in", type=int, default=1, help="the students learn every so many-th trace only")
    parser.add_argument("--max-steps", type=int, help="of every training, for a rehearsal")
    parser.add_argument("--limit", type=int, help="evaluate on the first so many cases only")
    arguments = parser.parse_args()
    if arguments.one_trace_in < 1:
        parser.error("--one-trace-in must be at least 1")
    out: Path = arguments.out
    for stage, overrides in stages(arguments):
        if code := run(stage, overrides):
            return code
    summarise(out, arguments.arms, arguments.seeds)
    return 0


def stages(arguments: argparse.Namespace) -> Iterator[Stage]:
    """The commands of the study, in their order."""
    out: Path = arguments.out
    limits = [f"max_steps={arguments.max_steps}"] if arguments.max_steps else []
    adapted = arguments.adapted_teacher or f"{out}/teacher"
    if not arguments.adapted_teacher and any(TEACHERS[arm][0] == ADAPTED for arm in arguments.arms if arm in TEACHERS):
        learned = [f"traces={arguments.traces}", *limits, f"epochs={arguments.teacher_epochs}", "tools_in_prompt=none"]
        yield "adapt", [f"out={adapted}", *learned]
    shared = [f"traces={students_traces(arguments.traces, out, arguments.one_trace_in)}", *limits]
    for arm, seed in ((arm, seed) for seed in arguments.seeds for arm in arguments.arms):
        train = [*WITHOUT_TEACHER, *shared, f"out={out}/{arm}-{seed}", f"seed={seed}", f"epochs={arguments.epochs}"]
        if arm in TEACHERS:
            teacher, fields = TEACHERS[arm]
            hidden = "-hidden" if any("hidden_weight" in field for field in fields) else ""
            train += [f"teacher={adapted if teacher == ADAPTED else RAW}", *fields]
            train += ["signal=cached", f"cache.dir={out}/cache-{teacher}{hidden}"]
            train += ["objective.kd_weight=1", *arguments.with_teacher]
        yield "train", train
        limit = [f"limit={arguments.limit}"] if arguments.limit else []
        yield "eval", [f"out={out}/eval-{arm}-{seed}", f"model.model={out}/{arm}-{seed}", *limit]


def students_traces(traces: Path, out: Path, one_in: int) -> Path:
    """The file of every `one_in`-th trace."""
    if one_in == 1:
        return traces
    chosen = out / f"traces-1-in-{one_in}.jsonl"
    write_jsonl(chosen, list(read_jsonl(traces, Trace))[::one_in])
    return chosen


def run(stage: str, overrides: Sequence[str], *flags: str) -> int:
    """One command of the kit on the configuration of the weak teacher; its exit code."""
    sets = [part for override in overrides for part in ("--set", override)]
    print(f"\n== {stage}: {' '.join([*overrides, *flags])}", flush=True)
    return subprocess.run([sys.executable, "-m", "fcdistill.cli", stage, CONFIG, *sets, *flags], check=False).returncode


def summarise(out: Path, arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Print the tables, write summary.json and summary.md."""
    runs = [(f"{arm}, seed {seed}", read_report(out / f"eval-{arm}-{seed}")) for arm in arms for seed in seeds]
    summary = {arm: figures(out, arm, arms[0], seeds) for arm in arms}
    lines = [
        f"| arm | call accuracy | 95% interval | less {arms[0]} | 95% interval | teacher nats/token | gate passes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for arm, found in summary.items():
        cells = [percent(found["call_accuracy"]["value"]), interval(found["call_accuracy"])]
        cells += [percent(found["difference"]["value"]), interval(found["difference"])]
        cells += ["" if found[name] is None else f"{found[name]:.3f}" for name in ("teacher_nll", "kd_gate_pass")]
        lines.append(f"| {' | '.join([arm, *cells])} |")
    note = (
        f"Seeds: {', '.join(map(str, seeds))}; figures are means over them. The intervals are over cases, paired in "
        "the differences: they say what other cases of this kind would show, not what other seeds would."
    )
    write_text(out / "summary.md", "\n".join([*lines, "", note, "", comparison_markdown(runs)]))
    write_json(out / "summary.json", summary)
    print((out / "summary.md").read_text(encoding="utf-8"))


def figures(out: Path, arm: str, reference: str, seeds: Sequence[int]) -> dict[str, Any]:
    """What the summary says of one arm."""
    right, reference_right = (right_by_case(out, name, seeds) for name in (arm, reference))
    first = out / f"{arm}-{seeds[0]}"
    teacher = TeacherReport.model_validate(read_json(first / "teacher.json")) if arm in TEACHERS else None
    metrics = [loads_strict(line) for line in (first / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    passes = [line["kd_gate_pass"] for line in metrics if line["kd_gate_pass"] is not None]
    return {
        "num_cases": len(right),
        "call_accuracy": accuracy(list(right.values())),
        "difference": difference([right[case] - reference_right[case] for case in right]),
        "by_seed": [read_report(out / f"eval-{arm}-{seed}").call_accuracy.model_dump() for seed in seeds],
        "teacher_nll": teacher.overall.nll if teacher else None,
        "teacher_agreement_rate": teacher.overall.agreement_rate if teacher else None,
        "kd_gate_pass": statistics.mean(passes) if passes else None,
        "train_seconds": [read_json(out / f"{arm}-{seed}" / "manifest.json")["wall_time_s"] for seed in seeds],
    }


def read_report(directory: Path) -> Report:
    """The report of one evaluation."""
    return Report.model_validate(read_json(directory / "report.json"))


def right_by_case(out: Path, arm: str, seeds: Sequence[int]) -> dict[str, float]:
    """How often each case was answered right, over the seeds."""
    files = [read_jsonl(out / f"eval-{arm}-{seed}" / "scores.jsonl", Score) for seed in seeds]
    by_seed = [{score.id: float(score.correct) for score in scores} for scores in files]
    return {case: statistics.mean(found[case] for found in by_seed) for case in by_seed[0]}


def accuracy(values: Sequence[float]) -> dict[str, float]:
    """The mean over cases with its Wilson 95% interval, as of so many cases however many seeds there are."""
    low, high = wilson_interval(round(sum(values)), len(values))
    return {"value": statistics.mean(values), "low": low, "high": high}


def difference(values: Sequence[float]) -> dict[str, float]:
    """The mean over paired cases with its normal 95% interval."""
    mean = statistics.mean(values)
    half = 1.96 * statistics.stdev(values) / math.sqrt(len(values))
    return {"value": mean, "low": mean - half, "high": mean + half}


def percent(value: float) -> str:
    """A share as people read it."""
    return f"{value:.1%}"


def interval(found: dict[str, float]) -> str:
    """Both ends of an interval."""
    return f"{percent(found['low'])} to {percent(found['high'])}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"teacher_quality: {error}")
    except KeyboardInterrupt:
        sys.exit("teacher_quality: interrupted; run it again to go on")
