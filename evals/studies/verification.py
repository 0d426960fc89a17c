"""What do the witnesses of recorded answers keep of right ones, and what of planted errors do they let through?

Answers of a strong teacher are imported, and errors of eight kinds are planted in them, all valid by the schemas.
Without `--model` only words and policies are measured, in seconds.

    python evals/studies/verification.py recorded.jsonl --tools schemas/smart_home.json \
        --values data/values/smart_home.json --out runs/studies/verification --limit 1000 --model smollm2-135m-instruct
    python evals/studies/verification.py recorded.jsonl --tools schemas/smart_home.json --quick

A row is a worked example ({request, calls, system?}), an eval case ({messages, expected}) or a conversation in OpenAI's
form ({messages}).
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcdistill.errors import DataError, FcdistillError
from fcdistill.evaluation.stats import wilson_interval
from fcdistill.evidence.candidates import plant_errors, read_domains, read_source
from fcdistill.evidence.judge_run import Judging, judge_traces
from fcdistill.evidence.witness_rates import policy_rates, word_rates
from fcdistill.generation.imports.import_traces import import_traces
from fcdistill.records import Counted, JudgeStats, WitnessRates
from fcdistill.storage import write_json, write_text
from fcdistill.tools.catalog import load_catalog
from fcdistill.traces.source_formats import read_rows

QUICK_ROWS = 40


def main() -> int:
    """Import, plant, judge, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path, help="right answers: worked examples, eval cases or conversations")
    parser.add_argument("--tools", required=True)
    parser.add_argument("--values", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/studies/verification"))
    parser.add_argument("--limit", type=int, help="draw so many rows")
    parser.add_argument("--seed", type=int, default=0, help="of the draw and of the planted errors")
    parser.add_argument("--model", help="also judge by students of this model, trained on the other half")
    parser.add_argument("--epochs", type=float, default=3.0, help="of each student")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: few rows, and a hundredth of the training")
    arguments = parser.parse_args()
    out: Path = arguments.out
    limit = QUICK_ROWS if arguments.quick and arguments.limit is None else arguments.limit
    take_up(arguments.rows, out, arguments.tools, arguments.values, limit, arguments.seed)
    if arguments.model is None:
        source = read_source(out / "imported")
        variants = plant_errors(source, read_domains(source, seed=arguments.seed))
        summarise(out, [word_rates(variants), *policy_rates(variants)])
        return 0
    judging = Judging(
        arguments.model,
        epochs=arguments.epochs / 100 if arguments.quick else arguments.epochs,
        device=arguments.device,
        seed=arguments.seed,
    )
    stats = judge_traces(out / "imported", out / "judged", judging, report=told, on_progress=lambda done, total: None)
    summarise(out, stats.witnesses, stats)
    return 0


def told(line: str) -> None:
    """What the training says, away from the table."""
    print(line, file=sys.stderr)


def take_up(rows: Path, out: Path, tools: str, values: Path | None, limit: int | None, seed: int) -> None:
    """Draw rows, and import them as conversations; what the words refuse stays a candidate."""
    conversations = [conversation_of(row) for row in map(loaded, read_rows(rows)) if is_answered(row)]
    if not conversations:
        raise DataError(f"{rows} has no row with a call", required="rows with calls", fix="name another file")
    if limit is not None and limit < len(conversations):
        conversations = random.Random(seed).sample(conversations, limit)
    drawn = out / "rows.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"messages": messages}, ensure_ascii=False) + "\n" for messages in conversations)
    if not drawn.exists() or drawn.read_text(encoding="utf-8") != text:
        write_text(drawn, text)
    import_traces(drawn, "openai-messages", out / "imported", catalog=load_catalog(tools), values=values)


def loaded(row: Any) -> dict[str, Any]:
    """A row as a JSON object; `read_rows` gives the lines of JSONL as bytes."""
    found: dict[str, Any] = json.loads(row) if isinstance(row, bytes) else row
    return found


def is_answered(row: dict[str, Any]) -> bool:
    """Whether a row has an answer with calls."""
    if "request" in row:
        return bool(row.get("calls"))
    return bool(row["expected"][0]) if "expected" in row else True


def conversation_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a row, its answer among them."""
    if "request" in row:
        system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
        return [*system, {"role": "user", "content": row["request"]}, calling(row["calls"])]
    messages: list[dict[str, Any]] = row["messages"]
    return [*messages, calling(row["expected"][0])] if "expected" in row else messages


def calling(calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An answer that makes these calls, in OpenAI's form."""
    made = [{"type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}} for call in calls]
    return {"role": "assistant", "content": "", "tool_calls": made}


def summarise(out: Path, witnesses: Sequence[WitnessRates], stats: JudgeStats | None = None) -> None:
    """Print the table, write summary.json and summary.md."""
    text = table(witnesses)
    if stats is not None:
        reached = "unknown" if stats.estimated_precision is None else f"{stats.estimated_precision:.1%}"
        text += (
            f"\nDecided: {stats.kept} kept, {stats.readmitted} of them readmitted, {stats.relabelled} relabelled, "
            f"{stats.withdrawn} withdrawn; estimated precision {reached}, where {stats.prior_error_rate:.0%} are wrong "
            "to begin with."
        )
    write_text(out / "summary.md", text + "\n")
    write_json(out / "summary.json", {"witnesses": [rates.model_dump(mode="json") for rates in witnesses]})
    print(text)


def table(witnesses: Sequence[WitnessRates]) -> str:
    """Kept right answers against planted errors that were let through, in all and by kind, with Wilson's intervals."""
    kinds = list(dict.fromkeys(kind for rates in witnesses for kind in rates.let_through))
    lines = [
        f"| witness | speaks of | right kept | planted let through | {' | '.join(map(shown, kinds))} |",
        f"|---|---:|---:|---:|{'---:|' * len(kinds)}",
    ]
    for rates in witnesses:
        cells = [percent(rates.speaks), with_interval(rates.kept), with_interval(rates.planted)]
        cells += [percent(rates.let_through[kind]) if kind in rates.let_through else "" for kind in kinds]
        lines.append(f"| {rates.name} | {' | '.join(cells)} |")
    counts = [f"{shown(kind)} {witnesses[0].let_through[kind].of}" for kind in kinds]
    lines += ["", f"{witnesses[0].kept.of} right answers; {witnesses[0].planted.of} planted: {', '.join(counts)}."]
    return "\n".join(lines)


def shown(kind: str) -> str:
    """A kind of error as people read it."""
    return kind.replace("_", " ")


def percent(counted: Counted) -> str:
    """A share."""
    return f"{counted.num / counted.of:.1%}" if counted.of else ""


def with_interval(counted: Counted) -> str:
    """A share with its 95% interval."""
    low, high = wilson_interval(counted.num, counted.of)
    return f"{percent(counted)} ({low:.1%}–{high:.1%})"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"verification: {error}")
    except KeyboardInterrupt:
        sys.exit("verification: interrupted; run it again to go on")
