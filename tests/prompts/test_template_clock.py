"""A template that writes today's date writes a fixed one."""

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from fcdistill.models.loading import load_tokenizer
from fcdistill.prompts.rendering import prepare_tokenizer, render_example, render_prompt, template_sha256
from fcdistill.prompts.template_clock import (
    DEFAULT_TEMPLATE_DATE,
    clock_arguments,
    clocked,
    set_template_date,
    template_date,
    written_date,
)
from fcdistill.records import Message
from tests.tiny import CHATML_TEMPLATE, tiny_tokenizer

REQUEST = Message(role="user", content="hi")
DAY = datetime.date(2025, 1, 3)
CALLS = (
    "{%- for call in message.tool_calls or [] -%}{{ '<tool_call>\\n{\"name\": ' + (call.function.name | tojson)"
    " + ', \"arguments\": ' + (call.function.arguments | tojson) + '}\\n</tool_call>' }}{%- endfor -%}"
)


def template(expression: str) -> str:
    """ChatML with tools and calls, and a date before all of it."""
    tools = "{%- for tool in tools or [] -%}{{ tool | tojson }}{%- endfor -%}"
    turn = "{{ '<|im_start|>' + message.role + '\\n' + message.content }}" + CALLS + "{{ '<|im_end|>\\n' }}"
    end = "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
    return f"{{{{ {expression} }}}}{tools}{{%- for message in messages -%}}{turn}{{%- endfor -%}}{end}"


def dated(expression: str = "'Today: ' + strftime_now('%d %b %Y')") -> PreTrainedTokenizerBase:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(expression)
    prepare_tokenizer(tokenizer)
    assert tokenizer.chat_template == template(expression)
    return tokenizer


def prompt(tokenizer: PreTrainedTokenizerBase) -> str:
    text: str = tokenizer.decode(render_prompt(tokenizer, [REQUEST], [], "none"))
    return text


def test_the_date_is_a_fixed_one() -> None:
    tokenizer = dated()
    assert DEFAULT_TEMPLATE_DATE.year == 2024 and prompt(tokenizer).startswith("Today: 26 Jul 2024<|im_start|>")
    set_template_date(tokenizer, DAY)
    assert prompt(tokenizer).startswith("Today: 03 Jan 2025<|im_start|>")
    example = render_example(tokenizer, [REQUEST, Message(role="assistant", content="a")], [], "none")
    assert tokenizer.decode(example.prompt_ids) == prompt(tokenizer)


@pytest.mark.parametrize(
    "expression",
    [
        "strftime_now('%-d/%-m, %H:%M %p 100%%')",
        "strftime_now('x')",
        "strftime_now('%A %j %U') if strftime_now is defined",
    ],
)
def test_every_directive_is_as_strftime_has_it(expression: str) -> None:
    tokenizer = dated(expression)
    set_template_date(tokenizer, DAY)
    written = datetime.datetime(2025, 1, 3).strftime(expression.split("'")[1])
    assert prompt(tokenizer).startswith(f"{written}<|im_start|>")


@given(st.lists(st.sampled_from(["%Y", "%b", "%-d", "%%", " ", "a", "%e", "%", "é"]), max_size=6), st.dates())
def test_formats_of_any_kind(parts: list[str], day: datetime.date) -> None:
    form = "".join(part for part in parts if part != "%") or "-"
    tokenizer = dated(f"strftime_now({form!r})")
    set_template_date(tokenizer, day)
    written = datetime.datetime(day.year, day.month, day.day).strftime(form)
    assert render_prompt(tokenizer, [REQUEST], [], "none") == render_prompt(dated(repr(written)), [REQUEST], [], "none")


def test_a_template_without_a_date_is_as_it_was() -> None:
    tokenizer = tiny_tokenizer("chatml")
    prepare_tokenizer(tokenizer)
    before = template_sha256(tokenizer)
    set_template_date(tokenizer, DAY)
    assert template_sha256(tokenizer) == before and written_date(tokenizer) is None
    assert "template_date" not in tokenizer.init_kwargs
    assert clocked(CHATML_TEMPLATE) == CHATML_TEMPLATE and clock_arguments(tokenizer, CHATML_TEMPLATE) == {}


def test_the_date_belongs_to_the_hash_of_the_template() -> None:
    tokenizer, other = dated(), dated()
    set_template_date(tokenizer, None)
    assert template_sha256(tokenizer) == template_sha256(other) and written_date(tokenizer) == "2024-07-26"
    set_template_date(tokenizer, DAY)
    assert template_sha256(tokenizer) != template_sha256(other) and written_date(tokenizer) == "2025-01-03"


def test_the_date_is_saved_with_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = dated()
    set_template_date(tokenizer, DAY)
    tokenizer.save_pretrained(tmp_path)
    assert template_date(AutoTokenizer.from_pretrained(str(tmp_path))) == DAY
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert template_date(load_tokenizer(str(tmp_path))) == DAY
    other = datetime.date(2026, 2, 4)
    assert template_date(load_tokenizer(str(tmp_path), template_date=other)) == other
