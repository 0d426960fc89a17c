"""Students that see their tools in full, as signatures, or not at all: accuracy, prompt tokens and latency per call.

All are trained on the same traces with the same steps; only `tools_in_prompt` differs. Needs the traces of
`fcdistill generate evals/smart_home/weak_teacher.yaml`:

    python evals/studies/prompt_styles.py --traces runs/weak_teacher/traces/traces.jsonl --epochs 2
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from teacher_quality import WITHOUT_TEACHER

from fcdistill.errors import FcdistillError
from fcdistill.records import Report
from fcdistill.reporting.tables import comparison_markdown
from fcdistill.storage import read_json, write_json, write_text

CONFIG = "evals/smart_home/weak_teacher.yaml"
STYLES = ("full", "compact", "none")


def main() -> int:
    """Train and evaluate one student per style; the exit code of the first stage that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=Path, default=Path("runs/weak_teacher/traces/traces.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("runs/studies/prompt_styles"))
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=list(STYLES))
    arguments = parser.parse_args()
    out: Path = arguments.out
    for style in arguments.styles:
        train = [f"traces={arguments.traces}", f"out={out}/{style}", f"tools_in_prompt={style}"]
        train += [f"epochs={arguments.epochs}", *WITHOUT_TEACHER]
        evaluate = [f"out={out}/eval-{style}", f"model.model={out}/{style}"]
        for stage, overrides in (("train", train), ("eval", evaluate)):
            flags = [part for override in overrides for part in ("--set", override)]
            command = [sys.executable, "-m", "fcdistill.cli", stage, CONFIG, *flags]
            print(f"\n== {style}: {stage}", flush=True)
            code = subprocess.run(command, check=False).returncode
            if code:
                return code
    rows = [(style, read_report(out / f"eval-{style}")) for style in arguments.styles]
    write_text(out / "summary.md", comparison_markdown(rows))
    write_json(out / "summary.json", {style: figures(out, style, report) for style, report in rows})
    print((out / "summary.md").read_text(encoding="utf-8"))
    return 0


def read_report(directory: Path) -> Report:
    """The report of one evaluation."""
    return Report.model_validate(read_json(directory / "report.json"))


def figures(out: Path, style: str, report: Report) -> dict[str, Any]:
    """What the summary says of one style."""
    return {
        "num_cases": report.num_cases,
        "call_accuracy": report.call_accuracy.model_dump(),
        "prompt_tokens_mean": report.prompt_tokens.mean,
        "latency_s": report.latency_s.model_dump(),
        "train_seconds": read_json(out / style / "manifest.json")["wall_time_s"],
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"prompt_styles: {error}")
    except KeyboardInterrupt:
        sys.exit("prompt_styles: interrupted; run it again to go on")
