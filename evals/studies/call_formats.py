"""How a student without a call format of its own should write calls: accuracy, tokens, training time and latency.

The kit's template writes Hermes blocks of JSON or Python's calls (`dialect`). Students of both learn the same traces in
the same order, once per seed, and answer the same held-out ones, which are cut off by split group before any training:

    python evals/studies/call_formats.py --traces runs/demo/traces/traces.jsonl --epochs 2 --seeds 0 1 2
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from teacher_quality import WITHOUT_TEACHER, students_traces

from fcdistill.config import TemplateChoice
from fcdistill.errors import FcdistillError
from fcdistill.evaluation.stats import wilson_interval
from fcdistill.models.loading import load_tokenizer
from fcdistill.prompts.rendering import render_example
from fcdistill.records import EvalCase, Report, Trace
from fcdistill.storage import read_json, read_jsonl, write_json, write_jsonl, write_text
from fcdistill.traces.splits import split_traces

CONFIG = "evals/smart_home/weak_teacher.yaml"
FORMATS = ("hermes", "pythonic")


def main() -> int:
    """Train and evaluate one student per format and seed; the exit code of the first stage that fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--traces", type=Path, default=Path("runs/demo/traces/traces.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("runs/studies/call_formats"))
    parser.add_argument("--student", default="smollm2-135m-instruct")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--held-out", type=float, default=0.1, help="share of the traces that are answered, not learned"
    )
    parser.add_argument("--one-trace-in", type=int, default=1, help="take every so many-th trace only")
    parser.add_argument("--max-steps", type=int, help="of every training, for a rehearsal")
    arguments = parser.parse_args()
    out: Path = arguments.out
    learned, cases = split(students_traces(arguments.traces, out, arguments.one_trace_in), out, arguments.held_out)
    limits = [f"max_steps={arguments.max_steps}"] if arguments.max_steps else []
    for seed in arguments.seeds:
        for name in FORMATS:
            train = [f"traces={learned}", f"out={out}/{name}-{seed}", f"seed={seed}", f"epochs={arguments.epochs}"]
            student = [f"student.model={arguments.student}", "student.template=kit", f"student.dialect={name}"]
            evaluate = [f"out={out}/eval-{name}-{seed}", f"model.model={out}/{name}-{seed}", f"cases={cases}"]
            stages = (("train", [*train, *student, *WITHOUT_TEACHER, *limits]), ("eval", evaluate))
            for stage, overrides in stages:
                if code := run(stage, overrides):
                    return code
    summarise(out, arguments.seeds, arguments.student, read_jsonl(learned, Trace, "traces"))
    return 0


def split(traces: Path, out: Path, share: float) -> tuple[Path, Path]:
    """Files of the traces that are learned, and of cases made of the others."""
    parts = split_traces(list(read_jsonl(traces, Trace, "traces")), held_out_fraction=share, seed=0)
    learned, cases = out / "traces.jsonl", out / "cases.jsonl"
    write_jsonl(learned, parts.train)
    write_jsonl(cases, [case_of(trace) for trace in parts.held_out])
    return learned, cases


def case_of(trace: Trace) -> EvalCase:
    """A trace as a case whose one right answer is the trace's."""
    calls, category = trace.answer.calls, trace.meta.category
    return EvalCase(
        id=trace.id,
        messages=trace.messages[:-1],
        behaviour="call" if calls else "clarify" if category == "clarify" else "no_call",
        expected=(calls,),
        category=category,
    )


def run(stage: str, overrides: Sequence[str]) -> int:
    """Run one stage of the kit; its exit code."""
    flags = [part for override in overrides for part in ("--set", override)]
    print(f"\n== {stage}: {overrides[0] if stage == 'eval' else overrides[1]}", flush=True)
    return subprocess.run([sys.executable, "-m", "fcdistill.cli", stage, CONFIG, *flags], check=False).returncode


def summarise(out: Path, seeds: Sequence[int], student: str, traces: Sequence[Trace]) -> None:
    """Write and print the figures of both formats side by side."""
    found = {name: figures(out, name, seeds, student, traces) for name in FORMATS}
    write_json(out / "summary.json", found)
    lines = [
        "| format | call accuracy by seed | all seeds (95% interval) | schema valid | tokens per answer | training |"
        " latency p50 |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for name, figure in found.items():
        low, high = figure["interval"]
        seeds_text = ", ".join(f"{value:.1%}" for value in figure["by_seed"])
        lines.append(
            f"| `{name}` | {seeds_text} | {figure['call_accuracy']:.1%} ({low:.1%}–{high:.1%}) "
            f"| {figure['schema_valid']:.1%} | {figure['answer_tokens']:.1f} | {figure['train_s']:.0f} s "
            f"| {figure['latency_p50_s']:.3f} s |"
        )
    lines += ["", f"{found['hermes']['num_cases']} held-out cases a seed, {len(traces)} traces learned."]
    write_text(out / "summary.md", "\n".join(lines) + "\n")
    print((out / "summary.md").read_text(encoding="utf-8"))


def figures(out: Path, name: str, seeds: Sequence[int], student: str, traces: Sequence[Trace]) -> dict[str, Any]:
    """What the summary says of one format, over all seeds."""
    reports = [Report.model_validate(read_json(out / f"eval-{name}-{seed}" / "report.json")) for seed in seeds]
    values = [_scored(report.call_accuracy.value) for report in reports]
    num_right = sum(value * report.num_cases for value, report in zip(values, reports, strict=True))
    interval = wilson_interval(round(num_right), sum(report.num_cases for report in reports))
    tokenizer = load_tokenizer(student, TemplateChoice(template="kit", dialect=name), thinks=False)
    answers = [render_example(tokenizer, trace.messages, trace.specs, "none").completion_ids for trace in traces]
    return {
        "by_seed": values,
        "call_accuracy": statistics.fmean(values),
        "interval": list(interval),
        "num_cases": reports[0].num_cases,
        "schema_valid": statistics.fmean(_scored(report.schema_valid_rate.value) for report in reports),
        "answer_tokens": statistics.fmean(map(len, answers)),
        "train_s": statistics.fmean(
            read_json(out / f"{name}-{seed}" / "manifest.json")["wall_time_s"] for seed in seeds
        ),
        "latency_p50_s": statistics.fmean(_scored(report.latency_s.p50) for report in reports),
    }


def _scored(value: float | None) -> float:
    assert value is not None  # an evaluation that scored nothing has failed
    return value


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"call_formats: {error}")
    except KeyboardInterrupt:
        sys.exit("call_formats: interrupted; run it again to go on")
