"""From the results of all rounds to the figures that are reported: medians, ranges, ratios, a table.

Every figure is the median over the rounds, beside the smallest and the largest. Ratios are taken within a round, where
both sides met the same machine. How results came about is not known here.

A result is what a contender prints, see `measuring.StepClock.result`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

__all__ = ["CONTENDERS", "Contender", "Measured", "cost_vs_sft", "figures", "markdown_table", "ratio_vs_trl"]

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Contender:
    """A way to train."""

    side: str
    """Whose it is: `fcdistill`, or the package that has to be installed for it."""
    kind: str
    """`sft`, or `kd` where a teacher is followed."""


CONTENDERS = {
    "fcdistill-sft-packed": Contender("fcdistill", "sft"),
    "fcdistill-sft-checkpointing": Contender("fcdistill", "sft"),
    "fcdistill-sft-unpacked": Contender("fcdistill", "sft"),
    "fcdistill-kd-online": Contender("fcdistill", "kd"),
    "fcdistill-kd-checkpointing": Contender("fcdistill", "kd"),
    "fcdistill-kd-cached": Contender("fcdistill", "kd"),
    "fcdistill-kd-aligned": Contender("fcdistill", "kd"),
    "trl-sft": Contender("trl", "sft"),
    "trl-sft-checkpointing": Contender("trl", "sft"),
    "trl-sft-packed": Contender("trl", "sft"),
    "trl-gkd": Contender("trl", "kd"),
    "trl-distillation": Contender("trl", "kd"),
    "distillkit-kd": Contender("distillkit", "kd"),
}

_SFT = "fcdistill-sft-packed"
"""What teachers make more costly."""


@dataclass
class Measured:
    """What became of one contender."""

    results: list[Result] = field(default_factory=list)
    """One per round."""
    status: str = "measured"
    """Or `not installed`, or `failed`."""
    reason: str = ""
    """Why it was not measured."""


def figures(measured: Measured, *, examples_per_step: int, matmul_flops_per_s: Sequence[float]) -> dict[str, Any]:
    """What is reported of a contender.

    Args:
        measured: its results.
        examples_per_step: examples of an optimizer step.
        matmul_flops_per_s: the machine's rate in each round.
    """
    if measured.status != "measured":
        return {"status": measured.status, "reason": measured.reason}
    results = measured.results
    speeds = [_examples_per_s(result, examples_per_step) for result in results]
    used = [
        result["model_flops"] / sum(result["step_s"]) / rate
        for result, rate in zip(results, matmul_flops_per_s, strict=True)
    ]
    return {
        "status": "measured",
        "examples_per_s": round(median(speeds), 4),
        "examples_per_s_range": [round(min(speeds), 4), round(max(speeds), 4)],
        "peak_bytes": _middle(results, "peak_bytes"),
        "peak_bytes_range": [min(r["peak_bytes"] for r in results), max(r["peak_bytes"] for r in results)],
        "peak_above_model_bytes": int(median(r["peak_bytes"] - r["loaded_bytes"] for r in results)),
        "model_flops_utilisation": round(median(used), 4),
        "computed_tokens_per_step": round(results[0]["computed_tokens"] / len(results[0]["step_s"])),
    }


def ratio_vs_trl(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """By kind: each of fcdistill's contenders against TRL's fastest, and in memory also against TRL's leanest.

    Kinds of which one side was not measured are left out.
    """
    found: dict[str, Any] = {}
    for kind in ("sft", "kd"):
        ours, theirs = (_of(measured, side, kind) for side in ("fcdistill", "trl"))
        if not ours or not theirs:
            continue
        fastest = min(theirs, key=lambda name: median(_seconds(theirs[name])))
        leanest = min(theirs, key=lambda name: _middle(theirs[name], "peak_bytes"))
        found[kind] = {"fastest": fastest, "leanest": leanest, "contenders": {}}
        for name, results in ours.items():
            ratios = [there / here for here, there in zip(_seconds(results), _seconds(theirs[fastest]), strict=True)]
            peak = _middle(results, "peak_bytes")
            found[kind]["contenders"][name] = {
                "examples_per_s": round(median(ratios), 3),
                "examples_per_s_range": [round(min(ratios), 3), round(max(ratios), 3)],
                "peak_bytes": round(peak / _middle(theirs[fastest], "peak_bytes"), 3),
                "peak_bytes_of_leanest": round(peak / _middle(theirs[leanest], "peak_bytes"), 3),
            }
    return found


def cost_vs_sft(measured: Mapping[str, Measured]) -> dict[str, float]:
    """How many times as long as packed SFT fcdistill's contenders with a teacher take."""
    plain = _of(measured, "fcdistill", "sft").get(_SFT)
    if plain is None:
        return {}
    return {
        name: round(median(one / sft for one, sft in zip(_seconds(results), _seconds(plain), strict=True)), 3)
        for name, results in _of(measured, "fcdistill", "kd").items()
    }


def markdown_table(report: Mapping[str, Any]) -> str:
    """The report's contenders as a Markdown table, one row each."""
    lines = [
        "| tuning | contender | examples/s (min..max) | peak memory | above the loaded model | tokens a step | MFU |",
        "|---|---|---|---|---|---|---|",
    ]
    for tuning, contenders in report["contenders"].items():
        for name, row in contenders.items():
            if row["status"] != "measured":
                lines.append(f"| {tuning} | {name} | {row['status']}: {row['reason']} | | | | |")
                continue
            low, high = row["examples_per_s_range"]
            lines.append(
                f"| {tuning} | {name} | {row['examples_per_s']:.3g} ({low:.3g}..{high:.3g}) "
                f"| {_gib(row['peak_bytes'])} | {_gib(row['peak_above_model_bytes'])} "
                f"| {row['computed_tokens_per_step']} | {row['model_flops_utilisation']:.0%} |"
            )
    for tuning, kinds in report["ratio_vs_trl"].items():
        for ratio in kinds.values():
            for name, row in ratio["contenders"].items():
                low, high = row["examples_per_s_range"]
                lines.append(
                    f"\n{tuning}: {name} trains {row['examples_per_s']:.3g} ({low:.3g}..{high:.3g}) times as many "
                    f"examples/s as {ratio['fastest']}, in {row['peak_bytes']:.0%} of its memory "
                    f"({row['peak_bytes_of_leanest']:.0%} of that of {ratio['leanest']})."
                )
    for tuning, costs in report["cost_vs_sft"].items():
        lines += [f"\n{tuning}: {name} takes {cost:.3g} times as long as packed SFT." for name, cost in costs.items()]
    return "\n".join(lines)


def _of(measured: Mapping[str, Measured], side: str, kind: str) -> dict[str, Sequence[Result]]:
    """The results of a side's contenders of one kind, of those that were measured."""
    return {
        name: one.results
        for name, one in measured.items()
        if CONTENDERS[name] == Contender(side, kind) and one.status == "measured"
    }


def _seconds(results: Sequence[Result]) -> list[float]:
    """Time of the timed steps, round by round."""
    return [float(sum(result["step_s"])) for result in results]


def _examples_per_s(result: Result, examples_per_step: int) -> float:
    return float(len(result["step_s"]) * examples_per_step / sum(result["step_s"]))


def _middle(results: Sequence[Result], name: str) -> int:
    return int(median(result[name] for result in results))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.2f} GiB"
