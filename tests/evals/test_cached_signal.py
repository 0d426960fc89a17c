"""The study of cached signals on tiny models, in this process."""

import sys
from pathlib import Path

import cached_signal
import pytest

from fcdistill.errors import DataError
from fcdistill.storage import read_json, write_jsonl
from tests.cli.projects import invoke, write_project
from tests.distillation.tiny_data import tiny_traces


@pytest.mark.slow
def test_curves_are_compared_with_the_online_one(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, tiny_models)
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("many.jsonl"), tiny_traces(24))

    def train(overrides: list[str]) -> int:
        return invoke("train", "config.yaml", *(part for each in overrides for part in ("--set", each)))

    monkeypatch.setattr(cached_signal, "train", train)
    arguments = ["--traces", "many.jsonl", "--out", "study", "--teacher", f"{tiny_models}/teacher"]
    monkeypatch.setattr(sys, "argv", ["cached_signal", *arguments, "--steps", "2", "--top-k", "4", "64"])
    assert cached_signal.main() == 0
    curves = read_json(tmp_path / "study" / "summary.json")
    assert curves.keys() == {"online", "k = 4", "k = 64"}
    assert all(len(curve["kd"]) == 2 for curve in curves.values())
    assert curves["k = 4"]["kd"][0] < curves["k = 64"]["kd"][0] < curves["online"]["kd"][0]
    assert "| online | " in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["cached_signal", *arguments, "--steps", "4"])
    with pytest.raises(DataError, match="the file has 24 traces"):
        cached_signal.main()


def test_the_furthest_point_of_a_curve_is_said() -> None:
    curves = {
        "online": {"ce": [2.0, 1.0], "kd": [4.0, 2.0]},
        "k = 8": {"ce": [2.0, 1.1], "kd": [3.0, 1.9]},
    }
    assert cached_signal.table(curves).splitlines()[-1] == (
        "| k = 8 | 3.0000 | 3.0000 | 1.9000 | 25.00% | 1.1000 | 10.00% |"
    )
