"""The demo: base student, teacher and trained student on the same gold cases, on real models, through the CLI.

Runs `fcdistill generate`, `train` and `eval` with `demo.yaml`, prints the final table and writes
`summary.json`. Every stage resumes, so an interrupted demo is continued by running it again.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from fcdistill.errors import FcdistillError
from fcdistill.records import GenerationStats, Report
from fcdistill.reporting.tables import comparison_markdown, render_comparison
from fcdistill.storage import read_json, write_json, write_text

CONFIG = "evals/smart_home/demo.yaml"
STUDENT, TEACHER = "smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"


def main() -> int:
    """Run all stages; the exit code of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where everything goes")
    out: Path = parser.parse_args().out
    evaluations = {
        "teacher": (f"{TEACHER} (teacher, zero-shot)", [f"model={{model: {TEACHER}, batch_size: 32}}"]),
        "base": (
            f"{STUDENT} (student before)",
            [f"model={{model: {STUDENT}, batch_size: 32, tools_in_prompt: compact}}"],
        ),
        "student": (f"{STUDENT} (student after)", [f"model.model={out}/student"]),
    }
    stages = {
        f"models pull {TEACHER}": ["models", "pull", TEACHER],
        f"models pull {STUDENT}": ["models", "pull", STUDENT],
        "generate": ["generate", CONFIG, *assignments(out=f"{out}/traces")],
        "train": ["train", CONFIG, *assignments(traces=f"{out}/traces/traces.jsonl", out=f"{out}/student")],
    }
    for name, (_, overrides) in evaluations.items():
        flags = [part for override in [f"out={out}/eval-{name}", *overrides] for part in ("--set", override)]
        stages[f"eval {name}"] = ["eval", CONFIG, *flags]
    seconds: dict[str, float] = {}
    for name, arguments in stages.items():
        print(f"\n== {name}: fcdistill {' '.join(arguments)}", flush=True)
        started = time.monotonic()
        code = subprocess.run([sys.executable, "-m", "fcdistill.cli", *arguments], check=False).returncode
        if code:
            print(f"\nThe demo stopped in stage '{name}' (exit code {code}); run it again to go on.", file=sys.stderr)
            return code
        seconds[name] = round(time.monotonic() - started, 1)
    summarise(out, {name: label for name, (label, _) in evaluations.items()}, seconds)
    return 0


def assignments(**fields: str) -> list[str]:
    """Flags that set fields of the section."""
    return [part for name, value in fields.items() for part in ("--set", f"{name}={value}")]


def summarise(out: Path, labels: dict[str, str], seconds: dict[str, float]) -> None:
    """Print the table, write summary.json and summary.md."""
    reports = {name: Report.model_validate(read_json(out / f"eval-{name}" / "report.json")) for name in labels}
    stats = GenerationStats.model_validate(read_json(out / "traces" / "stats.json"))
    rows = [(labels[name], reports[name]) for name in ("base", "teacher", "student")]
    summary: dict[str, Any] = {
        "num_cases": reports["student"].num_cases,
        **{name: figures(report) for name, report in reports.items()},
        "traces": {"kept": stats.kept, "planned": stats.planned},
        "seconds_this_run": seconds,
    }
    write_json(out / "summary.json", summary)
    write_text(out / "summary.md", comparison_markdown(rows))
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(render_comparison(rows))
    print(f"{stats.kept} verified traces of {stats.planned} planned; {sum(seconds.values()):.0f} s in this run.")
    print(f"Traces: {out}/traces/traces.jsonl\nStudent: {out}/student\nReports: {out}/eval-*/report.md")
    print(
        f"Figures: {out}/summary.json\nTry it: .venv/bin/fcdistill call 'dim the bedroom to 30%' --model {out}/student"
    )


def figures(report: Report) -> dict[str, Any]:
    """What summary.json says of one model."""
    return {
        "call_accuracy": report.call_accuracy.value,
        "call_accuracy_95": [report.call_accuracy.low, report.call_accuracy.high],
        "parse_rate": report.parse_rate.value,
        "schema_valid_rate": report.schema_valid_rate.value,
        "name_accuracy": report.name_accuracy.value,
        "by_category": {name: rate.value for name, rate in report.by_category.items()},
        "errors": report.errors,
        "prompt_tokens_mean": report.prompt_tokens.mean,
        "latency_s_p50": report.latency_s.p50,
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted; run it again to go on")
