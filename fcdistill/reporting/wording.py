"""How figures and foreign text are worded wherever a report is shown: shares, intervals, quantities, literal text."""

import re

from fcdistill.records import Rate, RepeatedRate, Report, ScoreError

__all__ = ["NOTHING", "decoding", "describe_error", "interval", "percent", "quantity", "repeated_rates", "visible"]

NOTHING = "n/a"
"""Stands where there is no figure."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def percent(value: float | None) -> str:
    """A share with one decimal."""
    return NOTHING if value is None else f"{100 * value:.1f}%"


def interval(rate: Rate | RepeatedRate) -> str:
    """The 95% interval of a rate."""
    if rate.low is None or rate.high is None:
        return NOTHING
    return f"{100 * rate.low:.1f}–{100 * rate.high:.1f}%"


def quantity(value: float | None, unit: str) -> str:
    """A measured quantity with its unit; counts, which have none, as whole numbers."""
    if value is None:
        return NOTHING
    return f"{value:.3g}\N{NO-BREAK SPACE}{unit}" if unit else f"{value:.0f}"


def repeated_rates(report: Report) -> list[tuple[str, RepeatedRate]]:
    """What only repeated cases tell: pass^k, from k = 2 on, since pass^1 is the call accuracy, and consistency."""
    if report.repeats is None:
        return []
    powers = enumerate(report.repeats.pass_hat, 1)
    return [
        *((f"pass^{power}", rate) for power, rate in powers if power > 1),
        ("consistency", report.repeats.consistency),
    ]


def decoding(report: Report) -> str:
    """How the answers were drawn, where a model was asked; limits that say nothing of the drawing are left out."""
    decode = report.decode
    if decode is None:
        return NOTHING
    drawn = "greedy"
    if decode["sampling_temperature"]:
        nucleus = f", top_p {decode['top_p']:g}" if decode["top_p"] < 1 else ""
        drawn = f"sampled at temperature {decode['sampling_temperature']:g}{nucleus}, seed {decode['seed']}"
    return f"{drawn}, constrained to text and valid calls" if decode["constrained"] else drawn


def describe_error(error: ScoreError) -> str:
    """One way in which an answer is wrong, in a line; an error of the whole answer names no place."""
    where = f"{error.code} {error.path}" if error.path else error.code
    return f"{where}: {error.detail}"


def visible(text: str) -> str:
    """The text with control and bidirectional characters replaced: they could hide or move what stands there."""
    if text.isprintable():  # nearly all texts, and much faster than to search
        return text
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
