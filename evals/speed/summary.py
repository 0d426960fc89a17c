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
    "fcdistill-sft-unpacked": Contender("fcdistill", "sft"),
    "fcdistill-kd-online": Contender("fcdistill", "kd"),
    "fcdistill-kd-cached": Contender("fcdistill", "kd"),
    "fcdistill-kd-aligned": Contender("fcdistill", "kd"),
    "trl-sft": Contender("trl", "sft"),
    "trl-sft-checkpointing": Contender("trl", "sft"),
    "trl-sft-packed": Contender("trl", "sft"),
    "trl-gkd": Contender("trl", "kd"),
    "trl-distillation": Contender("trl", "kd"),
    "distillkit-kd": Contender("distillkit", "kd"),
}

_OURS = {"sft": "fcdistill-sft-packed", "kd": "fcdistill-kd-online"}
"""Kind to the contender that is compared with TRL's."""


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
    """By kind: fcdistill's packed contender against TRL's fastest, in speed and memory, and TRL's leanest in memory.

    Kinds of which one side was not measured are left out.
    """
    found = {}
    for kind, ours in _OURS.items():
        peers = {
            name: measured[name].results
            for name, contender in CONTENDERS.items()
            if contender.side == "trl" and contender.kind == kind and _is_measured(measured, name)
        }
        if not peers or not _is_measured(measured, ours):
            continue
        fastest = min(peers, key=lambda name: median(sum(result["step_s"]) for result in peers[name]))
        leanest = min(peers, key=lambda name: _middle(peers[name], "peak_bytes"))
        results = measured[ours].results
        ratios = [
            sum(theirs["step_s"]) / sum(result["step_s"])
            for result, theirs in zip(results, peers[fastest], strict=True)
        ]
        peak = _middle(results, "peak_bytes")
        found[kind] = {
            "ours": ours,
            "fastest": fastest,
            "examples_per_s": round(median(ratios), 3),
            "examples_per_s_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "peak_bytes": round(peak / _middle(peers[fastest], "peak_bytes"), 3),
            "leanest": leanest,
            "peak_bytes_of_leanest": round(peak / _middle(peers[leanest], "peak_bytes"), 3),
        }
    return found


def cost_vs_sft(measured: Mapping[str, Measured]) -> dict[str, float]:
    """How many times as long as packed SFT fcdistill's contenders with a teacher take."""
    if not _is_measured(measured, _OURS["sft"]):
        return {}
    sft = measured[_OURS["sft"]].results
    return {
        name: round(
            median(
                sum(result["step_s"]) / sum(plain["step_s"])
                for result, plain in zip(measured[name].results, sft, strict=True)
            ),
            3,
        )
        for name, contender in CONTENDERS.items()
        if contender.side == "fcdistill" and contender.kind == "kd" and _is_measured(measured, name)
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
            low, high = ratio["examples_per_s_range"]
            lines.append(
                f"\n{tuning}: {ratio['ours']} trains {ratio['examples_per_s']:.3g} ({low:.3g}..{high:.3g}) times as "
                f"many examples/s as {ratio['fastest']}, in {ratio['peak_bytes']:.0%} of its memory "
                f"({ratio['peak_bytes_of_leanest']:.0%} of that of {ratio['leanest']})."
            )
    for tuning, costs in report["cost_vs_sft"].items():
        lines += [f"\n{tuning}: {name} takes {cost:.3g} times as long as packed SFT." for name, cost in costs.items()]
    return "\n".join(lines)


def _is_measured(measured: Mapping[str, Measured], name: str) -> bool:
    return name in measured and measured[name].status == "measured"


def _examples_per_s(result: Result, examples_per_step: int) -> float:
    return float(len(result["step_s"]) * examples_per_step / sum(result["step_s"]))


def _middle(results: Sequence[Result], name: str) -> int:
    return int(median(result[name] for result in results))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.2f} GiB"
