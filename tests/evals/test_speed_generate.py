"""The generation benchmark: its command line, its figures, and every job of fcdistill's side on a tiny model."""

import json
from pathlib import Path
from typing import Any

import generate
import generation_side
import pytest
from generation_workload import Difference, Settings, read_prompts, write_differences, write_settings

from fcdistill.errors import ConfigError, DataError
from fcdistill.records import FunctionTool, SeedRequest, ToolSpec
from fcdistill.storage import write_jsonl
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's directory, with a tiny model, its requests and tools, and the prompts that were rendered."""
    found = tmp_path_factory.mktemp("run")
    tokenizer = tiny_tokenizer("qwen")
    tiny_model("llama", len(tokenizer), num_layers=2).save_pretrained(found / "model")
    tokenizer.save_pretrained(found / "model")
    asks = ["Turn the kitchen light on", "Set a timer", "Please play some jazz!", "hi", "one more"]
    write_jsonl(found / "requests.jsonl", [SeedRequest(id=f"s{n}", text=ask) for n, ask in enumerate(asks)])
    tools = [
        FunctionTool(function=ToolSpec(name=name, description=f"Does {name}.", parameters={"type": "object"}))
        for name in ("set_light", "set_timer", "play")
    ]
    (found / "tools.json").write_text(json.dumps([tool.model_dump(mode="json") for tool in tools]))
    write_settings(found, settings(found))
    generation_side.main("prepare", found)
    return found


def settings(directory: Path, **fields: Any) -> Settings:
    return Settings(
        **{
            "model": str(directory / "model"),
            "dtype": "float32",
            "requests": str(directory / "requests.jsonl"),
            "tools": str(directory / "tools.json"),
            "num_requests": 4,
            "num_tools": 2,
            "batch_size": 3,
            "max_new_tokens": 6,
            "device": "cpu",
            "num_threads": 1,
            **fields,
        }
    )


def test_prompts_are_the_first_requests_behind_the_first_tools(directory: Path) -> None:
    prompts = read_prompts(directory)
    assert [prompt.id for prompt in prompts] == ["s0", "s1", "s2", "s3"]
    text = tiny_tokenizer("qwen").decode(prompts[0].ids)
    assert "set_timer" in text and '"play"' not in text and "kitchen" in text


def test_contenders_write_the_same_tokens_and_their_passes_are_told_apart(directory: Path) -> None:
    ours, plain = (generation_side.main(name, directory) for name in ("fcdistill", "generate"))
    assert generate.compare(ours["written"], plain["written"]) == (4, [])
    whole = sum(len(prompt.ids) for prompt in read_prompts(directory))
    assert ours["prefill_tokens"] < whole <= plain["prefill_tokens"]
    for found in (ours, plain):
        assert 0 < found["prefill_s"] + found["decode_s"] <= found["seconds"]
        assert found["decode_passes"] >= 5 and found["written_tokens"] == sum(map(len, found["written"].values()))


def test_a_difference_is_explained_by_the_logits_of_a_plain_pass(directory: Path) -> None:
    ours = generation_side.main("fcdistill", directory)["written"]["s1"]
    write_differences(directory, [Difference("s1", tuple(ours[:2]), ours[2], (ours[2] + 1) % 50)])
    (found,) = generation_side.main("explain", directory)["differences"]
    assert (found["id"], found["position"]) == ("s1", 2)
    assert found["logit_gap"] > 0 and found["rounding_steps"] > 1000  # no tie, in float32


def test_too_few_requests_are_refused(directory: Path, tmp_path: Path) -> None:
    write_settings(tmp_path, settings(directory, num_requests=6))
    with pytest.raises(DataError, match="--requests names a file with 5"):
        generation_side.main("prepare", tmp_path)


def test_outputs_are_compared_up_to_the_end_of_ours() -> None:
    ours = {"same": [1, 2], "longer": [1, 2], "other": [1, 2, 3], "shorter": [1, 2, 3]}
    theirs = {"same": [1, 2], "longer": [1, 2, 9], "other": [1, 7, 3], "shorter": [1, 2]}
    num_equal, differences = generate.compare(ours, theirs)
    assert num_equal == 2
    assert differences == [Difference("other", (1,), 2, 7), Difference("shorter", (1, 2), 3, 3)]


def result(seconds: float) -> dict[str, Any]:
    passes = {"prefill_s": seconds / 4, "prefill_tokens": 120, "decode_s": seconds / 2, "decode_passes": 9}
    return {"seconds": seconds, "cpu_s": seconds, "written_tokens": 30, "peak_bytes": 1 << 30, **passes}


def test_figures_are_medians_over_the_rounds() -> None:
    found = generate.figures([result(6.0), result(2.0), result(4.0)], 8, {"prompt_tokens": 1000})
    assert (found["seconds"], found["seconds_range"], found["traces_per_minute"]) == (4.0, [2.0, 6.0], 120.0)
    assert (found["prefill_share"], found["decode_share"]) == (0.25, 0.5)
    assert (found["prompt_tokens_per_s"], found["written_tokens_per_s"]) == (1000.0, 15.0)


def test_the_table_says_what_was_not_measured_and_how_outputs_differ() -> None:
    report = {
        "contenders": {
            "fcdistill": generate.figures([result(2.0)], 8, {"prompt_tokens": 1000}),
            "llama-cpp": {"status": "not installed", "reason": "see --gguf"},
        },
        "ratio_vs_generate": 5.5,
        "ratio_vs_generate_range": [5.0, 6.0],
        "equal_outputs": 7,
        "num_requests": 8,
        "dtype": "bfloat16",
        "differences": [
            {"id": "s1", "position": 3, "tokens": ["a", "b"], "logit_gap": 0.125, "rounding_steps": 1.0},
        ],
    }
    table = generate.markdown_table(report)
    assert "| fcdistill | 240 | 2.0 (2.0..2.0) | 25%, 2,000, 120 | 50%, 30, 9 | 1.00 GiB |" in table
    assert "| llama-cpp | not installed: see --gguf |" in table
    assert "5.5 (5..6) times as fast" in table and "7 of 8 outputs are token-identical" in table
    assert "s1, token 3: 'a' against 'b', whose logits are 0.125 apart, 1 rounding steps of bfloat16" in table


def test_quick_is_a_default_that_flags_override() -> None:
    quick = generate.parse(["--quick", "--device", "cpu", "--num-requests", "5"])
    assert (quick.rounds, quick.settings.num_requests, quick.settings.max_new_tokens) == (1, 5, 48)
    whole = generate.parse(["--device", "cpu"])
    assert (whole.rounds, whole.settings.num_requests, whole.settings.num_tools) == (3, 64, 10)
    with pytest.raises(ConfigError, match="--batch-size is 0"):
        generate.parse(["--device", "cpu", "--batch-size", "0"])
