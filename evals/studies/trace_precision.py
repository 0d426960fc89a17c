"""What fraction of kept traces is right? Draws a sample for a person to read, and counts the verdicts.

    python evals/studies/trace_precision.py draw runs/weak_teacher/traces/traces.jsonl --out sample.jsonl
    python evals/studies/trace_precision.py count evals/smart_home/precision.jsonl

Every line of a sample shows a request with its answer, and takes a verdict: `right` becomes true or false, `why` says
in a few words what is wrong. Worked examples, which nobody generated, are not drawn.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fcdistill.errors import DataError, FcdistillError
from fcdistill.evaluation.stats import wilson_interval
from fcdistill.records import Message, Record, ToolCall, Trace
from fcdistill.storage import read_jsonl, write_jsonl

EXAMPLE_CELLS = "example/"


class Reading(Record):
    """One trace of a sample, and what a person says of it."""

    id: str
    source: str
    category: str
    conversation: tuple[str, ...]
    """What came before the answer, a line each."""
    answer: tuple[str, ...]
    """The calls, or the text."""
    right: bool | None = None
    why: str = ""


def main() -> None:
    """Draw or count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    draw_parser = commands.add_parser("draw", help="write a sample without verdicts")
    draw_parser.add_argument("traces", type=Path)
    draw_parser.add_argument("--out", type=Path, required=True)
    draw_parser.add_argument("--num", type=int, default=200)
    draw_parser.add_argument("--seed", type=int, default=0)
    count_parser = commands.add_parser("count", help="print the fraction that is right, by category and source")
    count_parser.add_argument("sample", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "count":
        print(table(read_jsonl(arguments.sample, Reading, "sample")))
        return
    if arguments.out.exists():
        raise DataError(
            f"{arguments.out} exists",
            required="a new file, so that verdicts are not lost",
            fix="move it away, or name another file",
        )
    sample = draw(read_jsonl(arguments.traces, Trace, "traces file"), arguments.num, arguments.seed)
    write_jsonl(arguments.out, sample)
    print(f"{len(sample)} traces to read: {arguments.out}")


def draw(traces: Sequence[Trace], count: int, seed: int) -> list[Reading]:
    """A random sample of the generated traces, all equally likely.

    Raises:
        DataError: there are fewer.
    """
    generated = [trace for trace in traces if not trace.meta.plan_cell.startswith(EXAMPLE_CELLS)]
    if len(generated) < count:
        raise DataError(
            f"the file has {len(generated)} generated traces", required=f"at least {count}", fix="lower --num"
        )
    return [reading_of(trace) for trace in random.Random(seed).sample(generated, count)]


def reading_of(trace: Trace) -> Reading:
    """A trace as a person reads it."""
    return Reading(
        id=trace.id,
        source=trace.meta.source,
        category=trace.meta.category,
        conversation=tuple(f"{message.role}: {shown(message)}" for message in trace.messages[:-1]),
        answer=tuple(map(call_line, trace.answer.calls)) or (shown(trace.answer),),
    )


def shown(message: Message) -> str:
    """What a message says, or what it calls."""
    return message.content or "; ".join(map(call_line, message.calls))


def call_line(call: ToolCall) -> str:
    """A call as code writes it."""
    return f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})"


def table(sample: Sequence[Reading]) -> str:
    """The fraction that is right, with Wilson's 95% interval: of all, by category and by source; then what is wrong.

    Raises:
        DataError: a trace has no verdict.
    """
    unread = [reading.id for reading in sample if reading.right is None]
    if unread or not sample:
        raise DataError(
            f"{len(unread)} of {len(sample)} traces have no verdict, for example {', '.join(unread[:3]) or 'none'}",
            required="right: true or false in every line",
            fix="read them",
        )
    groups = {"all": list(sample)}
    for name in ("category", "source"):
        for reading in sorted(sample, key=lambda reading: str(getattr(reading, name))):
            groups.setdefault(f"{name} {getattr(reading, name)}", []).append(reading)
    lines = ["| traces | right | share | 95% interval |", "|---|---:|---:|---:|"]
    for name, readings in groups.items():
        num_right = sum(bool(reading.right) for reading in readings)
        low, high = wilson_interval(num_right, len(readings))
        share = num_right / len(readings)
        lines.append(f"| {name} | {num_right} of {len(readings)} | {share:.1%} | {low:.1%}–{high:.1%} |")
    wrong = Counter(reading.why for reading in sample if not reading.right)
    return "\n".join([*lines, "", *(f"{count} x {why}" for why, count in wrong.most_common())])


if __name__ == "__main__":
    try:
        main()
    except FcdistillError as error:
        sys.exit(f"trace_precision: {error}")
