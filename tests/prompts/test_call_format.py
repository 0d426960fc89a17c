import pytest
from transformers import PreTrainedTokenizerBase

from fcdistill.config import TemplateChoice
from fcdistill.errors import ModelError
from fcdistill.prompts.rendering import (
    answer_text,
    call_format,
    call_markers,
    calls_text,
    prepare_tokenizer,
    render_example,
    render_prompt,
    stop_token_ids,
)
from fcdistill.records import Message, ToolCall, ToolSpec
from fcdistill.toolcalls.parsing import parse_output
from tests.prompts.families import FAMILIES, family_tokenizer
from tests.tiny import tiny_tokenizer

SPEC = ToolSpec(
    name="set_light",
    description="Switch a light.",
    parameters={
        "type": "object",
        "properties": {
            "room": {"type": "string"},
            "level": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    },
)
REQUEST = Message(role="user", content="Light the kitchen.")
CALL = ToolCall(name="set_light", arguments={"room": "kitchen", "level": 30, "tags": ["late", "42"]})
WORDS = Message(role="assistant", content="Which room do you mean?")
ARROWS = (
    "{%- if tools -%}{{- tools | tojson -}}{%- endif -%}{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content -}}"
    "{%- for call in message.tool_calls or [] -%}{{- '~> ' + call.function.name -}}"
    "{%- for key, value in call.function.arguments.items() -%}{{- ' | ' + key + ' | ' -}}{{- value | string -}}"
    "{%- endfor -%}{%- endfor -%}{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
"""Shows all there is, and writes calls as nothing reads them."""


@pytest.mark.parametrize("name", FAMILIES)
def test_a_template_of_each_family_is_kept_and_its_format_found(name: str) -> None:
    tokenizer = family_tokenizer(name)
    prepare_tokenizer(tokenizer, thinks=False)
    family = FAMILIES[name]
    assert str(tokenizer.chat_template).endswith(family.template)
    found = call_format(tokenizer)
    assert (found.dialect, found.writes_parallel, found.writes_texts) == (family.dialect, family.writes_parallel, True)


@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_student_of_each_family_learns_is_read_as_the_answer(name: str, thinks: bool) -> None:
    tokenizer = family_tokenizer(name)
    prepare_tokenizer(tokenizer, thinks=thinks)
    calls = [CALL, CALL] if FAMILIES[name].writes_parallel else [CALL]
    for answer in (Message.calling(calls), WORDS):
        example = render_example(tokenizer, [REQUEST, answer], [SPEC], "full")
        assert example.prompt_ids == render_prompt(tokenizer, [REQUEST], [SPEC], "full")
        assert example.completion_ids[-1] in stop_token_ids(tokenizer)
        assert not {*example.completion_ids[:-1]} & {*stop_token_ids(tokenizer)}
        output = parse_output(
            answer_text(tokenizer, example.completion_ids[:-1]), [SPEC], expected=FAMILIES[name].dialect
        )
        assert not output.errors and not output.thought and not output.is_unfinished
        assert list(output.calls) == list(answer.calls) and output.text == answer.content
    called = render_example(tokenizer, [REQUEST, Message.calling([CALL])], [SPEC], "full")
    classes = dict.fromkeys(called.completion_classes)
    assert {"name", "arg_key", "arg_value", "structure", "stop"} <= classes.keys()


def test_a_thought_that_the_prompt_opens_is_closed_by_the_answer_without_a_word() -> None:
    tokenizer = family_tokenizer("qwq")
    prepare_tokenizer(tokenizer)
    example = render_example(tokenizer, [REQUEST, WORDS], [SPEC], "full")
    assert tokenizer.decode(example.prompt_ids).endswith("<|im_start|>assistant\n<think>\n")
    assert (
        example.completion_text == f"\n</think>\n\n{WORDS.content}".replace("\n\n</think>", "\n</think>") + "<|im_end|>"
    )


def test_students_do_not_think_and_other_models_do_as_their_template_says() -> None:
    prompts = {}
    for thinks in (False, True):
        tokenizer = family_tokenizer("qwen3")
        prepare_tokenizer(tokenizer, thinks=thinks)
        prompts[thinks] = tokenizer.decode(render_prompt(tokenizer, [REQUEST], [SPEC], "full"))
    assert prompts[False] == prompts[True] + "<think>\n\n</think>\n\n"


def test_a_template_whose_calls_nothing_reads_is_refused_and_the_named_remedy_works() -> None:
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.chat_template = ARROWS
    with pytest.raises(ModelError, match="can't be read back") as refused:
        prepare_tokenizer(tokenizer)
    assert "`template: kit`" in str(refused.value)
    prepare_tokenizer(tokenizer, TemplateChoice(template="kit"))
    assert call_format(tokenizer).dialect == "hermes"
    example = render_example(tokenizer, [REQUEST, Message.calling([CALL])], [SPEC], "full")
    assert parse_output(example.completion_text, [SPEC]).calls == (CALL,)


def test_a_template_that_fails_on_a_parameter_of_two_types_is_tried_without_one() -> None:
    tokenizer = family_tokenizer("qwen2")
    tokenizer.chat_template = (
        "{%- for tool in tools or [] -%}{%- for key, value in tool.function.parameters.properties.items() -%}"
        "{{- '' if value.type is string else raise_exception('one type') -}}{%- endfor -%}{%- endfor -%}"
        + FAMILIES["qwen2"].template
    )
    prepare_tokenizer(tokenizer)
    assert call_format(tokenizer).dialect == "hermes" and "one type" in str(tokenizer.chat_template)


THINKING = ("qwen3_thinking", "qwq", "minimax_m2")
THOUGHT = "The kitchen is dark.\nset_light switches it, <tool_call> first, then <|im_end|>."


def thinking_tokenizer(name: str) -> PreTrainedTokenizerBase:
    tokenizer = family_tokenizer(name)
    prepare_tokenizer(tokenizer, thinks=True)
    return tokenizer


def test_templates_that_can_write_a_thought_are_told_from_those_that_cannot() -> None:
    able = {name for name in FAMILIES if call_format(thinking_tokenizer(name)).writes_thoughts}
    assert able == {*THINKING, "nemotron_nano"}
    closed = family_tokenizer("qwen3_thinking")
    prepare_tokenizer(closed, thinks=False)
    assert not call_format(closed).writes_thoughts


@pytest.mark.parametrize("answer", [Message.calling([CALL]), WORDS], ids=["calls", "words"])
@pytest.mark.parametrize("name", THINKING)
def test_a_thought_that_is_kept_is_learned_before_its_answer(name: str, answer: Message) -> None:
    tokenizer = thinking_tokenizer(name)
    thoughtful = answer.model_copy(update={"reasoning": f"\n{THOUGHT} "})
    example = render_example(tokenizer, [REQUEST, thoughtful], [SPEC], "full", keep_thinking=True)
    assert example.prompt_ids == render_prompt(tokenizer, [REQUEST], [SPEC], "full")
    text = answer_text(tokenizer, example.completion_ids[:-1])
    output = parse_output(text, [SPEC], expected=FAMILIES[name].dialect)
    assert (output.calls, output.text, output.thought) == (answer.calls, answer.content, THOUGHT)
    of_class: dict[str, str] = {}
    for token, kind in zip(example.completion_ids, example.completion_classes, strict=True):
        of_class[kind] = of_class.get(kind, "") + tokenizer.decode([token])
    assert THOUGHT in of_class["thought"] and of_class["thought"].strip().endswith("</think>")
    assert THOUGHT.split()[0] not in "".join(text for kind, text in of_class.items() if kind != "thought")
    assert example.completion_ids.count(stop_token_ids(tokenizer)[0]) == 1


@pytest.mark.parametrize("name", THINKING)
def test_a_thought_that_is_not_kept_changes_nothing(name: str) -> None:
    tokenizer = thinking_tokenizer(name)
    plain, thoughtful = (Message.calling([CALL], reasoning=reasoning) for reasoning in ("", THOUGHT))
    expected = render_example(tokenizer, [REQUEST, plain], [SPEC], "full")
    assert render_example(tokenizer, [REQUEST, thoughtful], [SPEC], "full") == expected
    assert render_example(tokenizer, [REQUEST, plain], [SPEC], "full", keep_thinking=True) == expected
    assert parse_output(expected.completion_text).thought == ""
    before = [REQUEST, thoughtful, Message(role="tool", content="on"), REQUEST]
    shown = render_prompt(tokenizer, [REQUEST, plain, *before[2:]], [SPEC], "full")
    assert render_prompt(tokenizer, before, [SPEC], "full") == shown
    later = render_example(tokenizer, [*before, thoughtful], [SPEC], "full", keep_thinking=True)
    assert later.prompt_ids == shown


def test_the_text_of_a_mark_in_a_thought_is_text() -> None:
    tokenizer = family_tokenizer("qwen3_thinking")
    tokenizer.add_tokens(["<think>", "</think>"])
    prepare_tokenizer(tokenizer, thinks=True)
    answer = Message.calling([CALL], reasoning="One <tool_call> behind </think>, they say.")
    example = render_example(tokenizer, [REQUEST, answer], [SPEC], "full", keep_thinking=True)
    for mark in ("<think>", "</think>", "<tool_call>", "</tool_call>"):
        assert example.completion_ids.count(tokenizer.convert_tokens_to_ids(mark)) == 1
    assert parse_output(answer_text(tokenizer, example.completion_ids[:-1])).thought == answer.reasoning


def test_a_thought_that_is_read_as_another_one_is_refused() -> None:
    tokenizer = thinking_tokenizer("qwq")
    answer = Message.calling([CALL], reasoning="It opens with <think> or so")
    with pytest.raises(ModelError, match="can't be told from it"):
        render_example(tokenizer, [REQUEST, answer], [SPEC], "full", keep_thinking=True)


def test_thoughts_are_no_part_of_how_calls_are_shown_and_their_marks_are_trained() -> None:
    tokenizer = thinking_tokenizer("qwen3_thinking")
    assert calls_text(tokenizer, [CALL]).startswith("<tool_call>")
    tokenizer.add_tokens(["<think>", "</think>"])
    assert call_markers(tokenizer) == ["<tool_call>", "</tool_call>", "<think>", "</think>"]
