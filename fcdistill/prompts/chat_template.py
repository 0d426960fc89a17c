"""The chat template that a tokenizer gets: its own or the kit's, with the values that a configuration gives.

Values are written into the template, as defaults that whoever renders it may still override. So they are saved with a
student, hold at every server that serves it, and are part of the template's hash. What a template renders is not known
here (`rendering`).
"""

import json
import re
from importlib import resources
from typing import TYPE_CHECKING

from fcdistill.config import KitDialect, TemplateChoice, TemplateValues
from fcdistill.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["KIT_REMEDY", "has_variable", "kit_template", "template_values", "with_values"]

KIT_REMEDY = (
    "give it the kit's template: set `template: kit` where the configuration names the model (`teacher_template: kit` "
    "for a teacher of section train), or --template kit"
)
"""What helps where a model's own template can't be used."""


_INSTRUCTIONS: dict[KitDialect, str] = {
    "hermes": "To call functions, answer with one such block per call and nothing else:\\n<tool_call>\\n"
    '{"name": "FUNCTION", "arguments": {"ARGUMENT": "VALUE"}}\\n</tool_call>\\n',
    "pythonic": "To call functions, answer with one list of all calls and nothing else:\\n"
    '[FUNCTION(ARGUMENT="VALUE")]\\n',
}
"""What a prompt that shows tools says of calls, as it stands in a text of the template."""


def kit_template(tokenizer: "PreTrainedTokenizerBase", dialect: KitDialect = "hermes") -> str:
    """The kit's own chat template.

    ChatML where the tokenizer has its tokens, else plain headings; begins with BOS where the tokenizer adds it.

    Args:
        tokenizer: that gets it.
        dialect: how it writes calls.
    """
    markers = [tokenizer(marker, add_special_tokens=False)["input_ids"] for marker in ("<|im_start|>", "<|im_end|>")]
    knows_chatml = all(len(ids) == 1 and ids[0] != tokenizer.unk_token_id for ids in markers)
    template = _part("chatml" if knows_chatml else "headings")
    for place, text in (
        ("STYLE", dialect.title()),
        ("MACROS", _part("pythonic_macros") if dialect == "pythonic" else ""),
        ("INSTRUCTION", _INSTRUCTIONS[dialect]),
        ("CALLS", _part(f"{dialect}_calls")),
    ):
        template = template.replace(f"<<{place}>>", text)
    begins_with_bos = tokenizer.bos_token is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return ("{{- bos_token -}}\n" if begins_with_bos else "") + template


def _part(name: str) -> str:
    return (resources.files("fcdistill.prompts") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def template_values(
    tokenizer: "PreTrainedTokenizerBase", choice: TemplateChoice, *, thinks: bool | None
) -> TemplateValues:
    """The values that a tokenizer's template is given.

    Args:
        tokenizer: with its template.
        choice: what the configuration says.
        thinks: whether the model thinks where the configuration does not say; None: as the template has it. With True,
            other values that it gives leave thinking on.

    Raises:
        ConfigError: the template knows no such value.
    """
    given = choice.chat_template_kwargs
    is_switched = thinks is not None and has_variable(tokenizer, "enable_thinking")
    switch: TemplateValues = {"enable_thinking": bool(thinks)} if is_switched else {}
    if given is None:
        return switch
    for name in given:
        if not has_variable(tokenizer, name):
            raise ConfigError(
                f"chat_template_kwargs names {name!r}, of which the chat template of {tokenizer.name_or_path!r} "
                "knows nothing",
                required="names that stand in the template",
                fix="correct the name, or remove it",
            )
    return switch | given if thinks else given


def has_variable(tokenizer: "PreTrainedTokenizerBase", name: str) -> bool:
    """Whether a tokenizer's template asks for a value of this name."""
    return any(re.search(rf"\b{re.escape(name)}\b", text) for text in _texts(tokenizer.chat_template))


def with_values(template: str | dict[str, str], values: TemplateValues) -> str | dict[str, str]:
    """The template with these values as defaults; given it already has them, it stays as it is."""
    head = "".join(
        f"{{%- set {name} = {name} if {name} is defined else {json.dumps(value, ensure_ascii=False)} -%}}"
        for name, value in sorted(values.items())
    )
    if isinstance(template, dict):
        return {key: _headed(text, head) for key, text in template.items()}
    return _headed(template, head)


def _headed(template: str, head: str) -> str:
    return template if not head or template.startswith(head) else f"{head}\n{template}"


def _texts(template: str | dict[str, str] | None) -> list[str]:
    return list(template.values()) if isinstance(template, dict) else [template or ""]
