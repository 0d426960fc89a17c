from pathlib import Path

import pytest
from transformers import AutoTokenizer

from fcdistill.config import TemplateChoice, TemplateValues
from fcdistill.errors import ConfigError
from fcdistill.prompts.chat_template import has_variable, template_values, with_values
from fcdistill.prompts.rendering import prepare_tokenizer, render_prompt, template_sha256
from fcdistill.records import Message
from tests.prompts.families import family_tokenizer
from tests.tiny import tiny_tokenizer

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
