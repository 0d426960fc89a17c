import functools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from fcdistill.config import KitDialect, TemplateChoice, TemplateValues
from fcdistill.errors import ConfigError
from fcdistill.prompts.chat_template import has_variable, template_values, with_values
from fcdistill.prompts.rendering import call_format, calls_text, prepare_tokenizer, render_prompt, template_sha256
from fcdistill.records import Message, ToolCall, ToolSpec
from fcdistill.toolcalls.parsing import render_calls
from tests.prompts.families import family_tokenizer
from tests.tiny import TokenizerKind, tiny_tokenizer

REQUEST = Message(role="user", content="Hello")
SWITCHES = "{{ level }}/{{ word }}/{{ 'on' if on else 'off' }}"


def test_values_are_defaults_that_a_caller_overrides() -> None:
    tokenizer = family_tokenizer("qwen2")
    values = {"level": 0.5, "word": 'a "b"\\n{{ c }}\né', "on": False}
    tokenizer.chat_template = with_values(SWITCHES, values)
    assert (
        tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False) == f"0.5/{values['word']}/off"
    )
    assert (
        tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False, on=True, level=1)
        == f"1/{values['word']}/on"
    )
    assert with_values(tokenizer.chat_template, values) == tokenizer.chat_template
    assert with_values(SWITCHES, {}) == SWITCHES
    named = with_values({"default": SWITCHES, "other": "{{ on }}"}, {"on": True})
    assert isinstance(named, dict) and all("set on = " in text for text in named.values())


def test_values_are_saved_with_the_template_and_change_its_hash(tmp_path: Path) -> None:
    hashes = set()
    for value in (True, False):
        tokenizer = family_tokenizer("qwen3")
        prepare_tokenizer(tokenizer, TemplateChoice(chat_template_kwargs={"enable_thinking": value}))
        hashes.add(template_sha256(tokenizer))
        tokenizer.save_pretrained(tmp_path / str(value))
        loaded = AutoTokenizer.from_pretrained(tmp_path / str(value))
        prepare_tokenizer(loaded)
        prompt = loaded.decode(render_prompt(loaded, [REQUEST], [], "none"))
        assert prompt.endswith("</think>\n\n") is not value
    assert len(hashes) == 2


def test_a_value_that_the_template_does_not_know_is_refused_and_the_default_is_left_out() -> None:
    tokenizer = family_tokenizer("qwen2")
    assert template_values(tokenizer, TemplateChoice(), thinks=False) == {}
    assert not has_variable(tokenizer, "enable_thinking")
    choice = TemplateChoice(chat_template_kwargs={"enable_thinkin": False})
    with pytest.raises(ConfigError, match="enable_thinkin"):
        prepare_tokenizer(tokenizer, choice)


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-99, 9999), st.floats(-1e6, 1e6), st.text(max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True) | st.sampled_from(
    ["a-b", "x.y", "7th", "room name"]
)
CALLS = st.lists(
    st.builds(
        lambda name, arguments: ToolCall(name=name, arguments=arguments),
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,5}", fullmatch=True),
        st.dictionaries(NAMES, VALUES, max_size=3),
    ),
    min_size=1,
    max_size=3,
)


@functools.cache
def with_kit_template(kind: TokenizerKind, dialect: KitDialect) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(kind)
    prepare_tokenizer(tokenizer, TemplateChoice(template="kit", dialect=dialect))
    return tokenizer


@pytest.mark.parametrize("kind", ["chatml", "plain"])
@pytest.mark.parametrize("dialect", ["hermes", "pythonic"])
@given(calls=CALLS)
@settings(max_examples=40, deadline=None)
def test_the_kit_writes_calls_as_its_dialect_does(
    kind: TokenizerKind, dialect: KitDialect, calls: list[ToolCall]
) -> None:
    text = calls_text(with_kit_template(kind, dialect), calls)
    assert text == render_calls(calls, dialect).strip()


@pytest.mark.parametrize("kind", ["chatml", "plain"])
def test_the_kit_says_in_a_prompt_how_calls_are_written(kind: TokenizerKind) -> None:
    tokenizer = with_kit_template(kind, "pythonic")
    assert call_format(tokenizer).dialect == "pythonic"
    spec = ToolSpec(name="ring", description="Ring the bell.")
    prompt = tokenizer.decode(render_prompt(tokenizer, [Message(role="user", content="Ring.")], [spec], "full"))
    assert '[FUNCTION(ARGUMENT="VALUE")]' in prompt and "<tool_call>" not in prompt
    assert "<tool_call>" in tokenizer.decode(
        render_prompt(with_kit_template(kind, "hermes"), [Message(role="user", content="Ring.")], [spec], "full")
    )


def test_a_dialect_that_the_models_own_template_does_not_write_is_refused() -> None:
    tokenizer = tiny_tokenizer("qwen")
    prepare_tokenizer(tokenizer, TemplateChoice(dialect="hermes"))
    with pytest.raises(ConfigError, match="dialect pythonic is asked for.*writes hermes") as error:
        prepare_tokenizer(tiny_tokenizer("qwen"), TemplateChoice(dialect="pythonic"))
    assert "template: kit" in str(error.value)
    prepare_tokenizer(tiny_tokenizer("qwen"), TemplateChoice(template="kit", dialect="pythonic"))


@pytest.mark.parametrize(
    ("thinks", "given", "values"),
    [
        (None, None, {}),
        (False, None, {"enable_thinking": False}),
        (True, None, {"enable_thinking": True}),
        (True, {"effort": "low"}, {"enable_thinking": True, "effort": "low"}),
        (False, {"effort": "low"}, {"effort": "low"}),
        (True, {"enable_thinking": False}, {"enable_thinking": False}),
    ],
)
def test_thinking_is_switched_where_the_configuration_does_not_say(
    thinks: bool | None, given: TemplateValues | None, values: TemplateValues
) -> None:
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.chat_template = "{{ enable_thinking }} {{ effort }}"
    assert template_values(tokenizer, TemplateChoice(chat_template_kwargs=given), thinks=thinks) == values
