import re
from pathlib import Path

import pytest

from fcdistill.errors import DataError, MissingDependencyError
from fcdistill.records import MetricsLine
from fcdistill.reporting import plots
from fcdistill.reporting.plots import can_draw, draw_runs, read_runs
from fcdistill.storage import write_jsonl

needs_matplotlib = pytest.mark.skipif(not can_draw(), reason="needs the extra [report]")


def _lines(steps: int, **fields: float) -> list[MetricsLine]:
    """Lines of `steps` steps with falling losses, and one evaluation in the middle."""
    trained = [
        MetricsLine(step=step, epoch=step / 4, loss=2 / step, ce=1 / step, learning_rate=0.1)
        for step in range(1, steps + 1)
    ]
    middle = steps // 2
    return [*trained[:middle], MetricsLine(step=middle, epoch=middle / 4, held_out_ce=0.7, **fields), *trained[middle:]]


def _names(files: list[Path]) -> list[str]:
    return [file.name for file in files]


@needs_matplotlib
def test_figures_hold_what_was_logged_and_leave_out_the_rest(tmp_path: Path) -> None:
    files = draw_runs({"run": _lines(4)}, tmp_path)
    assert _names(files) == [
        f"{name}.{kind}" for name in ("losses", "learning_rate", "held_out") for kind in ("png", "svg")
    ]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files if file.suffix == ".png")
    losses, held_out = ((tmp_path / f"{name}.svg").read_text() for name in ("losses", "held_out"))
    assert "cross-entropy" in losses and "divergence" not in losses and "hidden" not in losses
    assert "held-out cross-entropy" in held_out and "accuracy" not in held_out
    assert _names(draw_runs({"run": [line for line in _lines(4) if line.loss is not None]}, tmp_path / "less")) == [
        "losses.png",
        "losses.svg",
        "learning_rate.png",
        "learning_rate.svg",
    ]


@needs_matplotlib
def test_curves_have_the_logged_values_at_their_steps(tmp_path: Path) -> None:
    lines = _lines(4, held_out_call_accuracy=0.5)
    figure = plots._figure({"run": lines}, {"ce": "cross-entropy", "held_out_call_accuracy": "call accuracy"})
    losses, accuracy = figure.axes
    assert losses.lines[0].get_xydata().tolist() == [[1, 1.0], [2, 0.5], [3, pytest.approx(1 / 3)], [4, 0.25]]
    assert accuracy.lines[0].get_xydata().tolist() == [[2, 0.5]]
    assert accuracy.get_ylim() == (-0.02, 1.02) and not figure.legends


@needs_matplotlib
def test_several_runs_share_their_figures_and_keep_their_colours(tmp_path: Path) -> None:
    runs = {"sft": _lines(4), "kd": [*_lines(6), MetricsLine(step=6, epoch=2, kd=0.3)]}
    figure = plots._figure(runs, {"ce": "cross-entropy", "kd": "divergence"})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sft", "kd"]
    colours = [[line.get_color() for line in panel.lines] for panel in figure.axes]
    assert colours[0] == colours[1] and len(set(colours[0])) == 2
    assert [len(line.get_xdata()) for line in figure.axes[1].lines] == [0, 1]
    draw_runs(runs, tmp_path)
    assert re.findall(">(sft|kd)<", (tmp_path / "losses.svg").read_text()) == ["sft", "kd"]


@needs_matplotlib
def test_the_same_runs_give_the_same_files(tmp_path: Path) -> None:
    first, second = (draw_runs({"run": _lines(5)}, tmp_path / name) for name in ("first", "second"))
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_runs_are_named_by_their_directory(tmp_path: Path) -> None:
    directories = [tmp_path / "a" / "sft", tmp_path / "b" / "sft", tmp_path / "b" / "kd"]
    for index, directory in enumerate(directories, 2):
        write_jsonl(directory / "metrics.jsonl", _lines(index))
    runs = read_runs(directories)
    assert list(runs) == [str(directories[0]), str(directories[1]), "kd"]
    assert [len(lines) for lines in runs.values()] == [3, 4, 5]


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="metrics.jsonl does not exist"):
        read_runs([tmp_path])
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(DataError, match="hold no line"):
        read_runs([tmp_path])


def test_drawing_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "can_draw", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"fcdistill\[report\]"):
        draw_runs({"run": _lines(4)}, tmp_path / "plots")
    assert not (tmp_path / "plots").exists()
