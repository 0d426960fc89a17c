import pytest

from fcdistill.distillation.examples.examples import render_traces
from fcdistill.distillation.examples.teacher_prompt import student_answers, teacher_messages
from fcdistill.distillation.tokenizers.token_strings import pair_strings, token_strings
from fcdistill.prompts.rendering import prepare_tokenizer, render_example
from fcdistill.records import Message, ToolCall, WorkedExample
from tests.distillation.tiny_data import tiny_traces
from tests.tiny import tiny_tokenizer

EXAMPLES = (
    WorkedExample(
        id="light",
        request="light up the attic",
        category="simple",
        system="It is noon.",
        calls=(ToolCall(name="set_light", arguments={"room": "attic"}),),
    ),
    WorkedExample(
        id="timer",
        request="ten minutes",
        category="simple",
        calls=(ToolCall(name="set_timer", arguments={"minutes": 10}),),
    ),
    WorkedExample(id="no", request="sing", category="irrelevance", text="I can't do that."),
)

LLAMA_TEMPLATE = """\
{%- for tool in tools or [] -%}{{ tool | tojson }}{%- endfor -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] -%}
{{ '{"name": "' + call.function.name + '", "parameters": ' + (call.function.arguments | tojson) + '}' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""A teacher whose own calls are bare objects with `parameters`."""


def _tokenizer(kind, template=None):
    tokenizer = tiny_tokenizer(kind)
    if template is not None:
        tokenizer.chat_template = template
    prepare_tokenizer(tokenizer)
    return tokenizer


def _teacher_text(examples, teacher, student, trace):
    (example,) = render_traces([trace], student, "none", teacher, teacher_examples=examples)
    return teacher.decode(example.teacher_prompt), example


def test_the_teacher_reads_the_examples_in_the_students_dialect_and_the_student_does_not() -> None:
    student, teacher = _tokenizer("qwen"), _tokenizer("qwen", LLAMA_TEMPLATE)
    trace = tiny_traces(1)[0]
    shown, example = _teacher_text(EXAMPLES, teacher, student, trace)
    call = '<tool_call>\n{"name": "set_light", "arguments": {"room": "attic"}}\n</tool_call>'
    turn = f"<|im_start|>user\n(It is noon.)\nlight up the attic<|im_end|>\n<|im_start|>assistant\n{call}<|im_end|>\n"
    assert turn in shown and '"minutes": 10' in shown and "I can't do that." in shown
    assert '{"name": "set_light", "parameters": {"room"' not in shown
    assert shown.index("sing") < shown.index("attic") < shown.index(trace.messages[0].content)
    plain, without = _teacher_text((), teacher, student, trace)
    assert "attic" not in plain and example.student_prompt == without.student_prompt
    assert "attic" not in student.decode(example.student_prompt)
    assert example.completion == without.completion and example.text == without.text


def test_an_example_is_exactly_what_the_student_is_trained_to_write() -> None:
    student = _tokenizer("chatml")
    answers = student_answers(EXAMPLES, student)
    trace = tiny_traces(1)[0]
    messages = [
        Message(role="user", content="x"),
        Message.calling([ToolCall(name="set_light", arguments={"room": "attic"})]),
    ]
    rendered = render_example(student, messages, trace.specs, "compact")
    assert answers["light"].content + "<|im_end|>" == rendered.completion_text
    assert answers["no"] == Message(role="assistant", content="I can't do that.")


def test_a_teacher_of_another_tokenizer_reads_them_too() -> None:
    student, teacher = _tokenizer("chatml"), _tokenizer("qwen")
    pairs = pair_strings(token_strings(student), token_strings(teacher))
    (example,) = render_traces(tiny_traces(1), student, "compact", teacher, pairs, EXAMPLES)
    assert '"room": "attic"' in teacher.decode(example.teacher_prompt) and example.alignment is not None


def test_examples_stand_after_the_system_message_and_none_gives_the_answer_away() -> None:
    trace = tiny_traces(1)[0]
    system = Message(role="system", content="It is Monday.")
    request = Message(role="user", content="ten minutes")
    trace = trace.model_copy(update={"messages": (system, request, trace.answer)})
    shown = teacher_messages(trace, EXAMPLES, student_answers(EXAMPLES, _tokenizer("qwen")))
    assert [message.content for message in shown if message.role != "assistant"] == [
        "It is Monday.",
        "sing",
        "(It is noon.)\nlight up the attic",
        "ten minutes",
    ]
    assert teacher_messages(trace, (), {}) == trace.messages[:-1]


@pytest.mark.parametrize("kept", [0, 1])
def test_examples_call_the_traces_own_tools_only(kept: int) -> None:
    trace = tiny_traces(1)[0]
    trace = trace.model_copy(update={"tools": trace.tools[kept : kept + 1]})
    shown = teacher_messages(trace, EXAMPLES, student_answers(EXAMPLES, _tokenizer("qwen")))
    requests = " ".join(message.content for message in shown if message.role == "user")
    assert ("attic" in requests, "ten minutes" in requests) == (kept == 0, kept == 1)
