"""Does a cache teach what the teacher beside the student teaches? The loss curves of both, on real models.

The same steps are trained with the teacher online and from caches that keep its k likeliest tokens; the mass of the
others is exact in the cache, and their shares among themselves are what it leaves out. Needs traces:

    python evals/studies/cached_signal.py --traces runs/weak_teacher/traces/traces.jsonl
"""

import argparse
import itertools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcdistill.errors import DataError, FcdistillError
from fcdistill.records import Trace
from fcdistill.storage import iter_jsonl, loads_strict, write_json, write_jsonl, write_text

CONFIG = "evals/smart_home/weak_teacher.yaml"
FIELDS = ("epochs=1", "log_steps=1", "objective.kd_gate=off", "objective.kd_weight=1", "objective.hidden_weight=0")
ONLINE = "online"
EXAMPLES_PER_STEP = 8


def main() -> int:
    """Train once per signal, print the table; the exit code of the first training that fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--traces", type=Path, default=Path("runs/weak_teacher/traces/traces.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("runs/studies/cached_signal"))
    parser.add_argument("--teacher", default="smollm2-135m-instruct", help="one that shares the student's vocabulary")
    parser.add_argument("--top-k", nargs="+", type=int, default=[8, 32, 128])
    parser.add_argument(
        "--kd-temperature", type=float, default=2.0, help="a higher one leaves more beyond the k likeliest"
    )
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    out: Path = arguments.out
    count = arguments.steps * EXAMPLES_PER_STEP
    traces = list(itertools.islice(iter_jsonl(arguments.traces, Trace, "traces file"), count))
    if len(traces) < count:
        raise DataError(
            f"the file has {len(traces)} traces", required=f"{count}, for {arguments.steps} steps", fix="lower --steps"
        )
    write_jsonl(out / "traces.jsonl", traces)
    arms = {ONLINE: ["signal=online"]}
    for top_k in arguments.top_k:
        arms[f"k = {top_k}"] = ["signal=cached", f"cache.dir={out}/cache-{top_k}", f"cache.top_k={top_k}"]
    shared = [f"traces={out}/traces.jsonl", f"teacher={arguments.teacher}", f"examples_per_step={EXAMPLES_PER_STEP}"]
    shared.append(f"objective.kd_temperature={arguments.kd_temperature}")
    curves = {}
    for name, fields in arms.items():
        run = out / name.replace(" = ", "-")
        code = train([*FIELDS, *shared, *fields, f"out={run}"])
        if code:
            return code
        curves[name] = read_curve(run)
    write_json(out / "summary.json", curves)
    write_text(out / "summary.md", table(curves))
    print((out / "summary.md").read_text(encoding="utf-8"))
    return 0


def train(overrides: Sequence[str]) -> int:
    """One training through the command line; its exit code."""
    print(f"\n== train: {' '.join(overrides)}", flush=True)
    flags = [part for override in overrides for part in ("--set", override)]
    return subprocess.run([sys.executable, "-m", "fcdistill.cli", "train", CONFIG, *flags], check=False).returncode


def read_curve(run: Path) -> dict[str, list[float]]:
    """Cross-entropy and divergence of each step."""
    lines: list[dict[str, Any]] = [
        loads_strict(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return {name: [line[name] for line in lines if line["loss"] is not None] for name in ("ce", "kd")}


def table(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """First, middle and last step of each curve, and how far it lies from the online one at most."""
    online = curves[ONLINE]
    last = len(online["kd"]) - 1
    shown = (0, last // 2, last)
    heads = [f"KD, step {step + 1}" for step in shown]
    lines = [
        f"| signal | {' | '.join(heads)} | KD, furthest | CE, last step | CE, furthest |",
        f"| --- | {'---: | ' * (len(shown) + 3)}".rstrip(),
    ]
    for name, curve in curves.items():
        cells = [f"{curve['kd'][step]:.4f}" for step in shown]
        cells += [apart(curve["kd"], online["kd"]), f"{curve['ce'][last]:.4f}", apart(curve["ce"], online["ce"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def apart(curve: Sequence[float], online: Sequence[float]) -> str:
    """The largest relative distance of two curves."""
    return f"{max(abs(one - other) / other for one, other in zip(curve, online, strict=True)):.2%}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"cached_signal: {error}")
    except KeyboardInterrupt:
        sys.exit("cached_signal: interrupted; run it again to go on")
