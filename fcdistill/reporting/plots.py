"""Training runs as figures: what their metrics.jsonl holds, over optimizer steps, one run or several.

Draws what was logged and computes nothing of its own. matplotlib is imported only where something is drawn.
"""

import importlib.util
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fcdistill.errors import DataError, MissingDependencyError
from fcdistill.records import MetricsLine
from fcdistill.storage import iter_jsonl, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["can_draw", "draw_runs", "read_runs"]

_FIGURES = {
    "losses": {
        "loss": "loss",
        "ce": "cross-entropy",
        "kd": "divergence from the teacher",
        "hidden": "distance of hidden states",
        "on_policy_kd": "divergence on the student's samples",
        "on_policy_hidden": "distance of hidden states on the student's samples",
    },
    "shares": {
        "kd_gate_pass": "token weight that the gate leaves to the teacher",
        "on_policy_valid": "valid samples",
    },
    "learning_rate": {"learning_rate": "learning rate"},
    "held_out": {
        "held_out_ce": "held-out cross-entropy",
        "held_out_token_accuracy": "held-out token accuracy",
        "held_out_call_accuracy": "held-out call accuracy",
    },
}
"""Fields of `MetricsLine`, with their titles, per figure."""

_FORMATS = ("png", "svg")
_PANEL_INCHES = (4.2, 3.2)
_MOST_MARKED = 40
"""Curves of more points have no marks."""


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def read_runs(directories: Sequence[Path]) -> dict[str, list[MetricsLine]]:
    """The logged lines of training runs, by the name of the run's directory, or its path where names are the same.

    Raises:
        DataError: a directory holds no training run, or one that has logged nothing.
    """
    names = Counter(directory.name for directory in directories)
    runs = {}
    for directory in directories:
        lines = list(iter_jsonl(directory / "metrics.jsonl", MetricsLine, "metrics"))
        if not lines:
            raise DataError(
                f"metrics {directory / 'metrics.jsonl'} hold no line",
                required="a run of `fcdistill train` that has logged something",
                fix="wait for its first lines, or leave it away",
            )
        runs[directory.name if names[directory.name] == 1 else str(directory)] = lines
    return runs


def draw_runs(runs: Mapping[str, Sequence[MetricsLine]], directory: Path) -> list[Path]:
    """Draw the runs into one set of figures, each as PNG and SVG: losses, learning rate, held-out figures.

    What none of the runs has logged is left out. The same runs give the same files, byte by byte.

    Args:
        runs: lines by the name of the run.
        directory: where the files go.

    Returns:
        The files.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        StorageError: the disk refused.
    """
    if not can_draw():
        raise MissingDependencyError(
            "drawing needs the package matplotlib, which is not installed",
            required="the extra [report]",
            fix="pip install 'fcdistill[report]'",
        )
    files = []
    for name, titles in _FIGURES.items():
        curves = {field: [_curve(lines, field) for lines in runs.values()] for field in titles}
        logged = {field: title for field, title in titles.items() if any(curves[field])}
        if not logged:
            continue
        figure = _figure(runs, logged)
        for kind in _FORMATS:
            files.append(directory / f"{name}.{kind}")
            write_bytes(files[-1], _file(figure, kind))
    return files


def _curve(lines: Sequence[MetricsLine], field: str) -> list[tuple[int, float]]:
    """The steps at which a field was logged, with its values."""
    return [(line.step, value) for line in lines if (value := getattr(line, field)) is not None]


def _figure(runs: Mapping[str, Sequence[MetricsLine]], titles: Mapping[str, str]) -> "Figure":
    # Without pyplot, which would look for a display.
    from matplotlib.figure import Figure

    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * len(titles), height), layout="constrained")
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for panel, (field, title) in zip(panels, titles.items(), strict=True):
        _draw(panel, {name: _curve(lines, field) for name, lines in runs.items()}, title)
        if field.endswith("_accuracy"):
            panel.set_ylim(-0.02, 1.02)
    if len(runs) > 1:
        # Every panel draws every run, also one that did not log its field, so that colours mean the same everywhere.
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(runs), 4))
    return figure


def _draw(panel: "Axes", curves: Mapping[str, Sequence[tuple[int, float]]], title: str) -> None:
    for name, points in curves.items():
        mark = "." if len(points) <= _MOST_MARKED else ""
        panel.plot([step for step, _ in points], [value for _, value in points], label=name, marker=mark, linewidth=1.2)
    panel.set_title(title)
    panel.set_xlabel("optimizer step")
    panel.grid(alpha=0.3)


def _file(figure: "Figure", kind: str) -> bytes:
    from matplotlib import rc_context

    content = io.BytesIO()
    # No dates and random ids; text stays text, which can be searched and is shown in the reader's font.
    with rc_context({"svg.hashsalt": "fcdistill", "svg.fonttype": "none"}):
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return content.getvalue()
