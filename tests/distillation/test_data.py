import random

import pytest
import torch

from fcdistill.config import CLASS_NAMES
from fcdistill.distillation.data import (
    Collator,
    Example,
    drop_long,
    hold_out,
    length_statistics,
    render_traces,
    tools_of,
)
from fcdistill.errors import DataError
from fcdistill.prompts import prepare_tokenizer, render_example, render_prompt
from tests.distillation.tiny_data import PACKED, UNPACKED, random_examples, tiny_traces
from tests.tiny import tiny_tokenizer


def test_student_and_teacher_read_their_own_prompts_and_the_same_completion() -> None:
    tokenizer = tiny_tokenizer("qwen")
    prepare_tokenizer(tokenizer)
    for trace, example in zip(tiny_traces(4), render_traces(tiny_traces(4), tokenizer, "none", tokenizer), strict=True):
        rendered = render_example(tokenizer, trace.messages, trace.specs, "none")
        assert example.student_ids == (*rendered.prompt_ids, *rendered.completion_ids[:-1])
        teacher_prompt = render_prompt(tokenizer, trace.messages[:-1], trace.specs, "full")
        assert example.teacher_ids == (*teacher_prompt, *rendered.completion_ids[:-1])
        assert len(teacher_prompt) > len(rendered.prompt_ids)
        assert [CLASS_NAMES[index] for index in example.classes] == rendered.completion_classes
        request = tokenizer.decode(example.student_prompt[-example.num_request_tokens :])
        assert trace.messages[-2].content in request
        assert (
            example.student_prompt[-example.num_request_tokens :]
            == example.teacher_prompt[-example.num_request_tokens :]
        )


def test_without_a_teacher_there_is_no_teacher_prompt() -> None:
    tokenizer = tiny_tokenizer("qwen")
    prepare_tokenizer(tokenizer)
    example = render_traces(tiny_traces(1), tokenizer, "compact")[0]
    assert example.teacher_prompt == ()


def test_the_stop_token_is_supervised_though_it_is_the_pad_token() -> None:
    tokenizer = tiny_tokenizer("chatml")
    prepare_tokenizer(tokenizer)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    examples = render_traces(tiny_traces(3), tokenizer, "none")
    for layout in (PACKED, UNPACKED):
        batch = Collator(layout, None, {}, "completion")(examples)
        stop_N = batch["classes_N"] == CLASS_NAMES.index("stop")
        assert stop_N.sum() == 3
        assert (batch["targets_N"][stop_N] == tokenizer.eos_token_id).all()
        assert (batch["weights_N"] == 1).all()


@pytest.mark.parametrize("layout", [PACKED, UNPACKED], ids=["packed", "unpacked"])
@pytest.mark.parametrize("positions", ["completion", "request+completion"])
def test_rows_predict_their_targets_and_pair_the_sides(layout, positions) -> None:
    examples = random_examples(6)
    batch = Collator(layout, layout, {"name": 2.5}, positions)(examples)
    assert batch["targets_N"].tolist() == [token for example in examples for token in example.completion]
    assert batch["example_N"].tolist() == [index for index, e in enumerate(examples) for _ in e.completion]
    names_N = batch["classes_N"] == CLASS_NAMES.index("name")
    assert torch.equal(batch["weights_N"], torch.where(names_N, 2.5, 1.0))
    for side in ("student", "teacher"):
        ids = batch[side]["input_ids"].flatten()
        before = [
            token
            for example in examples
            for token in (getattr(example, f"{side}_prompt")[-1], *example.completion[:-1])
        ]
        assert ids[batch[f"{side}_logit_rows_N"]].tolist() == before
        aligned = [
            token
            for example in examples
            for token in (
                *example.student_prompt[-(example.num_request_tokens if "request" in positions else 1) :],
                *example.completion[:-1],
            )
        ]
        assert ids[batch[f"{side}_hidden_rows_M"]].tolist() == aligned


def test_long_examples_are_left_out_and_named() -> None:
    examples = random_examples(6)
    limit = sorted(example.num_tokens for example in examples)[3]
    kept, left_out = drop_long(examples, limit)
    assert [example.trace_id for example in kept] == [e.trace_id for e in examples if e.num_tokens <= limit]
    assert sorted([*left_out, *(example.trace_id for example in kept)]) == sorted(e.trace_id for e in examples)
    assert left_out


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="none of 3 traces has at most max_example_tokens 5 tokens"):
        drop_long(random_examples(3), 5)
    with pytest.raises(DataError, match="holds no trace"):
        drop_long([], 5)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.99])
def test_groups_stay_on_one_side(fraction: float) -> None:
    examples = random_examples(20)
    train, held_out = hold_out(examples, fraction, seed=1)
    assert sorted([*train, *held_out], key=lambda e: e.trace_id) == sorted(examples, key=lambda e: e.trace_id)
    assert not {e.split_group for e in train} & {e.split_group for e in held_out}
    assert len({e.split_group for e in held_out}) == (min(9, max(1, round(fraction * 10))) if fraction else 0)
    shuffled = random.Random(0).sample(examples, len(examples))
    assert set(hold_out(shuffled, fraction, seed=1)[1]) == set(held_out)


def test_a_single_group_can_not_be_split() -> None:
    with pytest.raises(DataError, match="a single split group"):
        hold_out(random_examples(2), 0.5, seed=0)


def test_length_statistics() -> None:
    examples = [Example(f"{n}", "g", (1,) * n, (), (2, 3), (0, 0), 1) for n in (1, 2, 3, 4, 90)]
    assert length_statistics(examples) == {
        "prompt_tokens": {"min": 1, "median": 3, "p95": 90, "max": 90, "total": 100},
        "completion_tokens": {"min": 2, "median": 2, "p95": 2, "max": 2, "total": 10},
    }


def test_tools_of_traces_are_listed_once() -> None:
    assert [tool.function.name for tool in tools_of(tiny_traces(5))] == ["set_light", "set_timer"]
