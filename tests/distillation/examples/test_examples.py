import pytest
from tokenizers import normalizers

from fcdistill.config import CLASS_NAMES
from fcdistill.distillation.examples.examples import (
    Example,
    alignment_statistics,
    call_validators,
    drop_long,
    drop_unseen_removals,
    length_statistics,
    render_traces,
    tools_of,
)
from fcdistill.distillation.packed.packing import pack_tree
from fcdistill.distillation.tokenizers.spans import Alignment, Span
from fcdistill.distillation.tokenizers.token_strings import pair_strings, token_strings
from fcdistill.errors import CatalogError, DataError
from fcdistill.prompts.rendering import prepare_tokenizer, render_example, render_prompt
from fcdistill.records import FunctionTool, Message, ToolCall, ToolSpec
from tests.distillation.tiny_data import foreign_examples, random_examples, tiny_traces
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


def test_a_teacher_of_another_tokenizer_reads_the_same_text_in_its_own_tokens() -> None:
    student, teacher = tiny_tokenizer("chatml"), tiny_tokenizer("qwen")
    call = teacher.convert_tokens_to_ids("<tool_call>")
    for example in foreign_examples(5):
        assert student.decode(example.completion) == teacher.decode(example.teacher_completion)
        assert example.teacher_ids == example.teacher_prompt + example.teacher_completion[:-1]
        longer = max(len(example.student_prompt + example.completion), len(example.teacher_ids) + 1)
        assert example.num_tokens == longer
        assert (call in example.teacher_completion) == ("<tool_call>" in student.decode(example.completion))


def test_alignment_statistics() -> None:
    spans = (
        Span(range(0, 1), range(0, 1), 0, 1),
        Span(range(1, 4), range(1, 2), 1, 9),
        Span(range(4, 5), range(2, 3), 9, 9),
    )
    alignment = Alignment((7, 8, 9), spans, (True, False, True), ((-1, -1),))
    example = Example("a", (1,), (1,), (1, 2, 3, 4, 5), (0,) * 5, 1, alignment)
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


def test_length_statistics() -> None:
    examples = [Example(f"{n}", (1,) * n, (), (2, 3), (0, 0), 1) for n in (1, 2, 3, 4, 90)]
    assert length_statistics(examples) == {
        "prompt_tokens": {"min": 1, "median": 3, "p95": 90, "max": 90, "total": 100},
        "completion_tokens": {"min": 2, "median": 2, "p95": 2, "max": 2, "total": 10},
    }


def test_tools_of_traces_are_listed_once() -> None:
    assert [tool.function.name for tool in tools_of(tiny_traces(5))] == ["set_light", "set_timer"]


def test_without_tools_in_the_prompt_a_refusal_for_want_of_a_tool_is_left_out() -> None:
    traces = tiny_traces(6)
    lacking, bare = (traces[4].model_copy(update={"id": name, "tools": traces[4].tools[:size]})
                     for name, size in (("lacking", 1), ("bare", 0)))  # fmt: skip
    calling = traces[0].model_copy(update={"id": "calling", "tools": traces[0].tools[:1]})
    assert drop_unseen_removals(traces) == (traces, [])
    assert drop_unseen_removals([*traces, lacking, calling, bare]) == ([*traces, calling], ["lacking", "bare"])


def test_a_conversation_shares_its_past_with_its_steps_in_a_pack() -> None:
    room = ToolCall(name="set_light", arguments={"room": "hall"})
    (trace,) = tiny_traces(1)
    told = (Message(role="tool", content='{"status": "ok"}'), Message(role="assistant", content="Done."))
    later = (*told, Message(role="user", content="And the hall."), Message.calling([room]))
    talk = trace.model_copy(update={"messages": (*trace.messages, *later)})
    for kind in ("chatml", "qwen"):
        tokenizer = tiny_tokenizer(kind)
        prepare_tokenizer(tokenizer)
        first, whole = (example.student_ids for example in render_traces([trace, talk], tokenizer, "full"))
        assert whole[: len(first)] == first, "the first step is part of the second one's prompt"
        assert pack_tree([first, whole], max_tokens=4096).num_tokens == len(whole)


def test_calls_are_judged_by_the_tools_of_their_own_trace() -> None:
    first, second, third = tiny_traces(3)
    third = third.model_copy(update={"tools": third.tools[1:]})
    validators = call_validators([first, second, third])
    call = ToolCall(name="set_light", arguments={"room": "hall"})
    assert validators[first.id].check_call(call) == []
    assert [violation.code for violation in validators[third.id].check_call(call)] == ["unknown_function"]
    assert validators[first.id] is validators[second.id]


def test_a_tool_whose_schema_can_not_be_used_is_refused() -> None:
    broken = FunctionTool(function=ToolSpec(name="broken", description="", parameters={"type": "nothing"}))
    with pytest.raises(CatalogError, match="tool 'broken'"):
        call_validators([tiny_traces(1)[0].model_copy(update={"tools": (broken,)})])
