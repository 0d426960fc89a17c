"""Medians, ranges and ratios of made-up results."""

from typing import Any

import pytest
from summary import Measured, cost_vs_sft, figures, markdown_table, ratio_vs_trl


def measured(*step_s: float, peak: int = 100, loaded: int = 40) -> Measured:
    """One round per value, of one timed step each."""
    return Measured(
        [
            {
                "step_s": [seconds],
                "computed_tokens": 50,
                "model_flops": 1000,
                "peak_bytes": peak,
                "loaded_bytes": loaded,
            }
            for seconds in step_s
        ]
    )


def test_figures_are_medians_with_their_ranges() -> None:
    found = figures(measured(1.0, 4.0, 2.0), examples_per_step=16, matmul_flops_per_s=[2000.0, 1000.0, 1000.0])
    assert found["examples_per_s"] == 8.0
    assert found["examples_per_s_range"] == [4.0, 16.0]
    assert found["peak_above_model_bytes"] == 60
    assert found["model_flops_utilisation"] == 0.5  # of 0.5, 0.25 and 0.5
    assert found["computed_tokens_per_step"] == 50


def test_ratio_is_taken_against_the_fastest_peer_within_each_round_and_against_the_leanest_in_memory() -> None:
    found = ratio_vs_trl(
        {
            "fcdistill-sft-packed": measured(1.0, 2.0, peak=30),
            "fcdistill-sft-checkpointing": measured(2.0, 4.0, peak=15),
            "trl-sft": measured(10.0, 16.0, peak=100),
            "trl-sft-checkpointing": measured(20.0, 20.0, peak=60),
            "trl-gkd": measured(1.0, 1.0),
        }
    )
    assert found.keys() == {"sft"}, "no kind of which one side is missing"
    assert (found["sft"]["fastest"], found["sft"]["leanest"]) == ("trl-sft", "trl-sft-checkpointing")
    packed, checkpointing = found["sft"]["contenders"].values()
    assert (packed["examples_per_s"], packed["examples_per_s_range"]) == (9.0, [8.0, 10.0])
    assert (packed["peak_bytes"], packed["peak_bytes_of_leanest"]) == (0.3, 0.5)
    assert (checkpointing["examples_per_s"], checkpointing["peak_bytes_of_leanest"]) == (4.5, 0.25)


def test_a_failed_contender_is_neither_compared_nor_left_out_of_the_table() -> None:
    failed = Measured(status="failed", reason="out of memory")
    contenders = {"fcdistill-sft-packed": measured(1.0), "trl-sft": failed, "fcdistill-kd-cached": measured(1.25)}
    assert ratio_vs_trl(contenders) == {}
    assert cost_vs_sft(contenders) == {"fcdistill-kd-cached": 1.25}
    report: dict[str, Any] = {
        "contenders": {
            "lora": {
                name: figures(one, examples_per_step=1, matmul_flops_per_s=[1.0]) for name, one in contenders.items()
            }
        },
        "ratio_vs_trl": {"lora": {}},
        "cost_vs_sft": {"lora": cost_vs_sft(contenders)},
    }
    assert "failed: out of memory" in markdown_table(report)
    assert "1.25 times as long" in markdown_table(report)
    report["ratio_vs_trl"]["lora"] = ratio_vs_trl({**contenders, "trl-sft": measured(8.0, peak=400)})
    assert "fcdistill-sft-packed trains 8 (8..8) times" in markdown_table(report)


def test_cost_needs_the_plain_contender() -> None:
    assert cost_vs_sft({"fcdistill-kd-cached": measured(1.0)}) == {}


@pytest.mark.parametrize("name", ["fcdistill-kd-online", "fcdistill-kd-cached"])
def test_cost_is_a_ratio_of_times_within_each_round(name: str) -> None:
    found = cost_vs_sft({"fcdistill-sft-packed": measured(1.0, 2.0, 4.0), name: measured(1.5, 2.0, 8.0)})
    assert found == {name: 1.5}
