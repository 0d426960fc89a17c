"""Tests of `fcdistill.distillation.answer_gaps`."""

from pathlib import Path

import pytest
import torch

from fcdistill.config import AdaptConfig, LoraTuning, TokenClass
from fcdistill.distillation.answer_gaps import gaps_by_place, measure_gaps
from fcdistill.distillation.examples.examples import render_traces
from fcdistill.distillation.run import run_training
from fcdistill.models.loading import load_model, load_tokenizer
from fcdistill.records import AnswerGaps, ToolCall
from fcdistill.storage import read_jsonl, write_jsonl
from tests.distillation.tiny_data import tiny_traces

TRACES = tiny_traces(7)


@pytest.fixture(scope="module")
def trained(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> AdaptConfig:
    directory = tmp_path_factory.mktemp("trained")
    write_jsonl(directory / "traces.jsonl", TRACES)
    config = AdaptConfig(
        teacher=str(tiny_models / "student"),
        traces=directory / "traces.jsonl",
        out=directory / "student",
        tuning=LoraTuning(lora_rank=2),
        max_steps=2,
        examples_per_step=4,
        examples_per_pack=2,
        merge=False,
        dtype="float32",
        device="cpu",
    )
    run_training(config, lambda line: None)
    return config


def test_gaps_are_those_of_each_answer_computed_alone(trained: AdaptConfig, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    found = measure_gaps(trained.training(), TRACES, tmp_path / "gaps.jsonl", lambda *told: done.append(told))
    assert done[-1] == (7, 7) and list(found) == [trace.id for trace in TRACES]
    tokenizer = load_tokenizer(str(trained.out), thinks=False)
    loaded = load_model(str(trained.out), dtype="float32", device="cpu")
    for example in render_traces(TRACES, tokenizer, "full"):
        ids = torch.tensor([example.student_prompt + example.completion])
        with torch.no_grad():
            logprobs_TV = loaded.model(ids).logits[0, :, : len(tokenizer)].log_softmax(-1)
        rows = logprobs_TV[len(example.student_prompt) - 1 : -1]
        own = rows.gather(-1, torch.tensor(example.completion).unsqueeze(-1)).squeeze(-1)
        gaps = rows.amax(-1) - own
        line = found[example.trace_id]
        assert line.total == pytest.approx(gaps.sum().item(), abs=1e-2)
        assert line.nll == pytest.approx(-own.sum().item(), abs=1e-2)
        largest = max(line.name, line.end, *(each.gap for each in line.arguments), 0.0)
        assert largest == pytest.approx(gaps.max().item(), abs=1e-3)
        calls = next(trace.answer.calls for trace in TRACES if trace.id == example.trace_id)
        assert [(each.call, each.name) for each in line.arguments] == [
            (number, name) for number, call in enumerate(calls) for name in call.arguments
        ]


def test_what_was_measured_is_not_measured_again(
    trained: AdaptConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gaps.jsonl"
    first = measure_gaps(trained.training(), TRACES[:3], path, lambda done, total: None)
    every = measure_gaps(trained.training(), TRACES, path, lambda done, total: None)
    assert {name: every[name] for name in first} == first
    assert len(read_jsonl(path, AnswerGaps)) == len(TRACES)
    monkeypatch.setattr("fcdistill.distillation.answer_gaps.load_model", None)
    assert measure_gaps(trained.training(), TRACES, path, lambda done, total: None) == every


# A letter per token: name, key, value, structure, stop.
KINDS: dict[str, TokenClass] = {
    "n": "name", "k": "arg_key", "v": "arg_value", "s": "structure", "x": "stop", "t": "text"
}  # fmt: skip
LIGHT = ToolCall(name="set_light", arguments={"room": "hall", "state": "on"})
TIMER = ToolCall(name="set_timer", arguments={"duration": {"hours": 1, "minutes": 2}, "label": "tea"})


@pytest.mark.parametrize(
    ("classes", "at", "calls", "found"),
    [
        ("ssnskksvskksvsx", 2, [LIGHT], "name"),
        ("ssnskksvskksvsx", 1, [LIGHT], "end"),  # before the call began
        ("ssnskksvskksvsx", 3, [LIGHT], "room"),  # begun at all
        ("ssnskksvskksvsx", 5, [LIGHT], "room"),
        ("ssnskksvskksvsx", 7, [LIGHT], "room"),
        ("ssnskksvskksvsx", 8, [LIGHT], "state"),
        ("ssnskksvskksvsx", 12, [LIGHT], "state"),
        ("ssnskksvskksvsx", 13, [LIGHT], "end"),
        ("ssnskksvskksvsx", 14, [LIGHT], "end"),
        ("snskskvsksvsksvsx", 6, [TIMER], "duration"),
        ("snskskvsksvsksvsx", 10, [TIMER], "duration"),
        ("snskskvsksvsksvsx", 14, [TIMER], "label"),
        ("snsksvsksvssnsksvsksvsx", 11, [LIGHT, LIGHT], "end"),
        ("snsvsvsx", 3, [LIGHT], "room state"),  # a format that writes no keys
        ("ttx", 1, [], "end"),
    ],
)
def test_a_gap_belongs_to_the_place_at_which_another_token_was_likelier(
    classes: str, at: int, calls: list[ToolCall], found: str
) -> None:
    gaps = [0.0] * len(classes)
    gaps[at] = 5.0
    name, arguments, end = gaps_by_place([KINDS[letter] for letter in classes], gaps, calls)
    places = {"name": name, "end": end} | {argument: max(both) for (_, argument), both in arguments.items()}
    assert {place for place, gap in places.items() if gap} == set(found.split())


def test_a_key_and_its_value_are_told_apart() -> None:
    kinds = [KINDS[letter] for letter in "snsksvsksvsx"]
    _, arguments, end = gaps_by_place(kinds, [0, 0, 0, 1, 0, 2, 3, 0, 4, 0, 5, 0], [LIGHT])
    assert arguments == {(0, "room"): (1, 2), (0, "state"): (3, 4)} and end == 5
