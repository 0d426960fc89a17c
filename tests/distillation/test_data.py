import random

import pytest
import torch
from tokenizers import normalizers

from fcdistill.config import CLASS_NAMES
from fcdistill.distillation.data import (
    Collator,
    Example,
    alignment_statistics,
    drop_long,
    hold_out,
    length_statistics,
    render_traces,
    tools_of,
)
from fcdistill.distillation.spans import Alignment, Span
from fcdistill.distillation.token_strings import pair_strings, token_strings
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


def _foreign_examples(count: int) -> list[Example]:
    student, teacher = tiny_tokenizer("chatml"), tiny_tokenizer("qwen")
    for tokenizer in (student, teacher):
        prepare_tokenizer(tokenizer)
    pairs = pair_strings(token_strings(student), token_strings(teacher))
    return render_traces(tiny_traces(count), student, "compact", teacher, pairs)


def test_a_teacher_of_another_tokenizer_reads_the_same_text_in_its_own_tokens() -> None:
    student, teacher = tiny_tokenizer("chatml"), tiny_tokenizer("qwen")
    call = teacher.convert_tokens_to_ids("<tool_call>")
    for example in _foreign_examples(5):
        assert student.decode(example.completion) == teacher.decode(example.teacher_completion)
        assert example.teacher_ids == example.teacher_prompt + example.teacher_completion[:-1]
        longer = max(len(example.student_prompt + example.completion), len(example.teacher_ids) + 1)
        assert example.num_tokens == longer
        assert (call in example.teacher_completion) == ("<tool_call>" in student.decode(example.completion))


@pytest.mark.parametrize("layout", [PACKED, UNPACKED], ids=["packed", "unpacked"])
@pytest.mark.parametrize("positions", ["completion", "request+completion"])
def test_rows_of_two_tokenizers_are_paired_by_the_text_that_they_predict_and_have_read(layout, positions) -> None:
    examples = _foreign_examples(6)
    tokenizers = {"student": tiny_tokenizer("chatml"), "teacher": tiny_tokenizer("qwen")}
    batch = Collator(layout, layout, {"name": 2.5, "arg_value": 0.5}, positions)(examples)
    spans = batch["spans"]
    targets = {"student": batch["targets_N"], "teacher": spans["teacher_targets_U"]}
    assert targets["teacher"].tolist() == [token for example in examples for token in example.teacher_completion]
    for side in ("student", "teacher"):
        assert len(batch[f"{side}_logit_rows_N"]) == len(targets[side])
    assert tokenizers["student"].batch_decode(batch["targets_N"][spans["paired_student_P"]][:, None]) == tokenizers[
        "teacher"
    ].batch_decode(spans["teacher_targets_U"][spans["paired_teacher_P"]][:, None])
    texts = []
    for side, tokens in (("student", "span_tokens_student_I"), ("teacher", "span_tokens_teacher_J")):
        of_span = spans[{"student": "span_student_I", "teacher": "span_teacher_J"}[side]]
        texts.append(
            [
                tokenizers[side].decode(targets[side][spans[tokens][of_span == span]])
                for span in range(len(spans["span_weights_Q"]))
            ]
        )
    assert texts[0] == texts[1] and "<tool_call>" in texts[0]
    covered = torch.cat([spans["paired_student_P"], spans["span_tokens_student_I"]])
    assert sorted(covered.tolist()) == list(range(len(batch["targets_N"])))
    lengths_Q = torch.bincount(spans["span_student_I"])
    total = batch["weights_N"][spans["paired_student_P"]].sum() + (lengths_Q * spans["span_weights_Q"]).sum()
    assert total.item() == pytest.approx(batch["weights_N"].sum().item())
    # What was read since the end of the prompt, at each row whose hidden states are aligned; the request's text before.
    read = {}
    for side in ("student", "teacher"):
        read[side] = []
        for example in examples:
            ids = getattr(example, f"{side}_ids")
            start = len(getattr(example, f"{side}_prompt"))
            for row in example.hidden_positions(side, with_request="request" in positions):
                after = ids[row + 1 : start] if row < start - 1 else ids[start : row + 1]
                read[side].append((row < start - 1, tokenizers[side].decode(after)))
        rows = batch[f"{side}_hidden_rows_M"]
        assert len(rows) == len(read[side]) == len(rows.unique() if layout is UNPACKED else rows)
    assert read["student"] == read["teacher"]
    assert any(before for before, _ in read["student"]) == ("request" in positions)


def test_alignment_statistics() -> None:
    spans = (
        Span(range(0, 1), range(0, 1), 0, 1),
        Span(range(1, 4), range(1, 2), 1, 9),
        Span(range(4, 5), range(2, 3), 9, 9),
    )
    alignment = Alignment((7, 8, 9), spans, (True, False, True), ((-1, -1),))
    example = Example("a", "a", (1,), (1,), (1, 2, 3, 4, 5), (0,) * 5, 1, alignment)
    assert alignment_statistics([example, example]) == {"paired_fraction": 0.4, "tokens_per_span": 5 / 3}


def test_an_answer_that_a_tokenizer_changes_names_its_trace() -> None:
    student, teacher = tiny_tokenizer("chatml"), tiny_tokenizer("qwen")
    teacher.backend_tokenizer.normalizer = normalizers.Lowercase()
    for tokenizer in (student, teacher):
        prepare_tokenizer(tokenizer)
    pairs = pair_strings(token_strings(student), token_strings(teacher))
    with pytest.raises(DataError, match="trace 'trace-4': tokenizer .* changes the answer"):
        render_traces(tiny_traces(5), student, "none", teacher, pairs)


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
