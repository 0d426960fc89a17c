"""The measurement of a generation's memory: its figures, its command line, and a small run with its server."""

import json
from typing import Any

import generate_memory
import pytest

from fcdistill.errors import ConfigError


def run(num_requests: int, peak_bytes: int) -> dict[str, Any]:
    num_outcomes = num_requests + 10
    return {
        "num_requests": num_requests,
        "peak_bytes": peak_bytes,
        "journal_bytes": 500 * num_outcomes,
        "num_outcomes": num_outcomes,
    }


def test_growth_is_that_of_the_peak_between_the_smallest_and_the_largest_run() -> None:
    report = generate_memory.figures([run(100, 50_000), run(200, 51_000), run(600, 60_000)])
    assert report["bytes_per_request"] == 20 and report["outcome_bytes_on_disk"] == 500


@pytest.mark.parametrize("sizes", [["5"], ["5", "5"], ["0", "5"]])
def test_fewer_than_two_sizes_are_refused(sizes: list[str]) -> None:
    with pytest.raises(ConfigError, match="--num-requests is"):
        generate_memory.main(["--num-requests", *sizes])


@pytest.mark.slow
def test_a_small_measurement_ends_with_its_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert generate_memory.main(["--num-requests", "20", "10", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(each["num_requests"], each["num_outcomes"], each["rejected"]) for each in report["runs"]] == [
        (10, 11, 1),
        (20, 22, 2),
    ]
    # Two requests joined of others are kept beside those that were answered.
    assert report["runs"][1]["kept"] == 20 and report["runs"][1]["peak_bytes"] > 2**20
