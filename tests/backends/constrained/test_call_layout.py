"""Tests of `call_layout`: what the templates of each family write round names and arguments."""

import pytest

from fcdistill.backends.constrained.call_layout import CallLayout, read_layout
from fcdistill.backends.constrained.grammar_rules import NUMBER_MARK
from fcdistill.errors import ModelError
from fcdistill.prompts.rendering import prepare_tokenizer
from tests.backends.constrained.call_templates import LLAMA, MISTRAL, MISTRAL_NEW, ONE_ONLY, TEMPLATES, template
from tests.tiny import TokenizerKind, tiny_tokenizer

HERMES = CallLayout("hermes", '<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>")


@pytest.mark.parametrize("kind", ["qwen", "chatml", "plain", "metaspace", "unigram"])
def test_hermes_templates(kind: TokenizerKind) -> None:
    tokenizer = tiny_tokenizer(kind)
    prepare_tokenizer(tokenizer)
    assert read_layout(tokenizer) == HERMES


@pytest.mark.parametrize(
    ("calls", "layout"),
    [
        (LLAMA, CallLayout("llama3", '{"name": "', '", "parameters": ', "}")),
        (ONE_ONLY, CallLayout("llama3", '{"name": "', '", "parameters": ', "}")),
        (MISTRAL_NEW, CallLayout("mistral_v11", "[TOOL_CALLS]", "[ARGS]", "")),
        (MISTRAL, CallLayout("mistral", '[TOOL_CALLS] [{"name": "', '", "arguments": ', "}]", '}, {"name": "')),
    ],
    ids=["llama", "one call at a time", "newer mistral", "mistral"],
)
def test_other_templates(calls: str, layout: CallLayout) -> None:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(calls)
    assert read_layout(tokenizer) == layout


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ("{{ '<call>' + call.function.name + '</call>' }}", "can't be read back"),
        (
            """{{ '<tool_call>{"arguments": ' + call.function.arguments | tojson + ', "name": "' }}"""
            """{{ call.function.name + '"}</tool_call>' }}""",
            "writes a call as .*first_tool",
        ),
        ("{{ call.function.name + '(' + call.function.arguments | tojson + ')' }}", "can't be read back"),
    ],
    ids=["no arguments", "arguments first", "no call that is read"],
)
def test_templates_that_can_not_be_followed_are_refused(calls: str, reason: str) -> None:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(calls)
    with pytest.raises(ModelError, match=reason):
        read_layout(tokenizer)


@pytest.mark.parametrize("dialect", TEMPLATES)
def test_the_dialect_is_that_of_the_template(dialect: str) -> None:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(TEMPLATES[dialect])
    assert read_layout(tokenizer).dialect == dialect


def test_marks_of_other_syntaxes() -> None:
    tokenizer = tiny_tokenizer("chatml")
    layouts = {}
    for dialect in ("lfm2", "qwen_xml", "gemma4", "minimax_m2", "pythonic"):
        tokenizer.chat_template = template(TEMPLATES[dialect])
        layouts[dialect] = read_layout(tokenizer)
    assert layouts["lfm2"] == CallLayout("lfm2", "<|tool_call_start|>[", "", "]<|tool_call_end|>", ", ")
    assert layouts["pythonic"] == CallLayout("pythonic", "[", "", "]", ", ", lead="\n")
    assert layouts["qwen_xml"] == CallLayout("qwen_xml", "<tool_call>\n<function=", ">", "</function>\n</tool_call>")
    assert layouts["gemma4"] == CallLayout("gemma4", "<|tool_call>call:", "", "<tool_call|>")
    assert layouts["minimax_m2"].between == '</invoke>\n<invoke name="'


def test_calls_that_are_counted() -> None:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(TEMPLATES["kimi_k2"])
    assert read_layout(tokenizer).middle == f":{NUMBER_MARK}<|tool_call_argument_begin|>"
    tokenizer.chat_template = template(TEMPLATES["cohere"])
    assert read_layout(tokenizer).between == f'}}, {{"tool_call_id": "{NUMBER_MARK}", "tool_name": "'


def test_the_marks_of_thoughts_are_those_that_the_template_knows() -> None:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(TEMPLATES["glm"]) + "{# <think> and </think> #}"
    assert set(read_layout(tokenizer).thoughts) == {"<think>", "</think>"}


def test_a_thought_that_the_prompt_opens_may_be_closed() -> None:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(TEMPLATES["glm"]) + "{{ '<think>' if add_generation_prompt }}"
    assert "</think>" in read_layout(tokenizer).thoughts
