"""A small chat template for each family of models, written after the public description of its format.

They are no model's own template: roles and marks are a family's, all else is as short as can be.
"""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tests.tiny import tiny_tokenizer

__all__ = ["FAMILIES", "Family", "family_tokenizer"]


@dataclass(frozen=True)
class Family:
    """How a family of models chats.

    Attributes:
        dialect: how it writes calls.
        calls: Jinja that writes `message.tool_calls`.
        turn: what begins the turn of a role; `ROLE` stands for it.
        end: what ends a turn.
        end_of_calls: what ends a turn of calls.
        generation: what follows the assistant's head where an answer is asked for.
        thought: what a finished answer has in that place.
        reasoning: Jinja that writes what the assistant thought there instead; empty where the template can't.
        marks: further special tokens.
        writes_parallel: it writes several calls in one answer.
    """

    dialect: str
    calls: str
    turn: str = "<|im_start|>ROLE\n"
    end: str = "<|im_end|>"
    end_of_calls: str = "<|im_end|>"
    generation: str = ""
    thought: str = ""
    reasoning: str = ""
    marks: tuple[str, ...] = ()
    writes_parallel: bool = True

    @property
    def template(self) -> str:
        """As Jinja."""
        first, last = self.turn.split("ROLE")
        return (
            f"{{%- if tools -%}}{{{{- {f'{first}system{last}'!r} + (tools | tojson) + {self.end!r} -}}}}{{%- endif -%}}"
            f"{{%- for message in messages -%}}{{{{- {first!r} + message.role + {last!r} -}}}}"
            f"{{%- if message.role == 'assistant' -%}}{self.reasoning}{{{{- {self.thought!r} -}}}}{{%- endif -%}}"
            "{{- message.content -}}"
            f"{{%- if message.tool_calls -%}}{self.calls}{{{{- {self.end_of_calls!r} -}}}}"
            f"{{%- else -%}}{{{{- {self.end!r} -}}}}{{%- endif -%}}{{%- endfor -%}}"
            f"{{%- if add_generation_prompt -%}}{{{{- {f'{first}assistant{last}'!r} -}}}}"
            f"{self.generation}{{%- endif -%}}"
        )


def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A tiny tokenizer with the template of a family, and its marks as tokens."""
    family = FAMILIES[name]
    tokenizer = tiny_tokenizer("qwen")
    marks = [mark for mark in (*family.marks, family.end, family.end_of_calls) if mark != "<|im_end|>"]
    if marks:
        tokenizer.add_special_tokens({"additional_special_tokens": list(dict.fromkeys(marks))})
    tokenizer.chat_template = family.template
    return tokenizer


def _each(body: str, between: str = "") -> str:
    """Jinja that writes each call."""
    separator = f"{{{{- '' if loop.first else {between!r} -}}}}" if between else ""
    return f"{{%- for call in message.tool_calls -%}}{separator}{body}{{%- endfor -%}}"


def _pair(key: str) -> str:
    """Jinja that writes a call as JSON, its arguments under a key."""
    return (
        "{{- '{\"name\": ' + (call.function.name | tojson) + ', \"" + key + "\": ' "
        "+ (call.function.arguments | tojson) + '}' -}}"
    )


def _parameters(before: str, between: str, after: str) -> str:
    """Jinja that writes each argument: texts as they are, other values as JSON."""
    return (
        f"{{%- for key, value in call.function.arguments.items() -%}}{{{{- {before!r} + key + {between!r} -}}}}"
        "{{- value if value is string else (value | tojson) -}}"
        f"{{{{- {after!r} -}}}}{{%- endfor -%}}"
    )


def _named(before: str, after: str) -> str:
    return f"{{{{- {before!r} + call.function.name + {after!r} -}}}}"


_ARGUMENTS = "{{- call.function.arguments | tojson -}}"
_PYTHON = (
    "{{- call.function.name + '(' -}}{%- for key, value in call.function.arguments.items() -%}"
    "{{- ('' if loop.first else ', ') + key + '=' -}}{{- value | tojson -}}{%- endfor -%}{{- ')' -}}"
)


def _gemma(quote: str) -> str:
    """Jinja for keys without quotes and texts between marks."""
    return (
        "{%- macro write(value) -%}{%- if value is string -%}{{- QUOTE + value + QUOTE -}}"
        "{%- elif value is mapping -%}{{- '{' -}}{%- for key, inner in value.items() -%}"
        "{{- ('' if loop.first else ',') + key + ':' -}}{{- write(inner) -}}{%- endfor -%}{{- '}' -}}"
        "{%- elif value is sequence -%}{{- '[' -}}{%- for inner in value -%}"
        "{{- '' if loop.first else ',' -}}{{- write(inner) -}}{%- endfor -%}{{- ']' -}}"
        "{%- else -%}{{- value | tojson -}}{%- endif -%}{%- endmacro -%}"
    ).replace("QUOTE", repr(quote))


_DEEPSEEK_MARKS = tuple(f"<｜tool▁{part}｜>" for part in ("calls▁begin", "call▁begin", "sep", "call▁end", "calls▁end"))
_NO_THINKING = "{%- if enable_thinking is defined and not enable_thinking -%}{{- 'EMPTY' -}}{%- endif -%}"

FAMILIES: dict[str, Family] = {
    "qwen2": Family("hermes", _each("{{- '<tool_call>\n' -}}" + _pair("arguments") + "{{- '\n</tool_call>' -}}", "\n")),
    "qwen3": Family(
        "hermes",
        _each("{{- '<tool_call>\n' -}}" + _pair("arguments") + "{{- '\n</tool_call>' -}}", "\n"),
        generation=_NO_THINKING.replace("EMPTY", "<think>\\n\\n</think>\\n\\n"),
    ),
    "qwen3_thinking": Family(
        "hermes",
        _each("{{- '<tool_call>\n' -}}" + _pair("arguments") + "{{- '\n</tool_call>' -}}", "\n"),
        generation=_NO_THINKING.replace("EMPTY", "<think>\\n\\n</think>\\n\\n"),
        # As Qwen3's: the last answer alone has a thought, which may be empty.
        reasoning="{%- if loop.last -%}"
        "{{- '<think>\n' + (message.reasoning_content | default('')) + '\n</think>\n\n' -}}{%- endif -%}",
    ),
    "qwq": Family(
        "hermes",
        _each("{{- '<tool_call>\n' -}}" + _pair("arguments") + "{{- '\n</tool_call>' -}}", "\n"),
        generation="{{- '<think>\\n' -}}",
    ),
    "qwen3_coder": Family(
        "qwen_xml",
        _each(
            _named("<tool_call>\n<function=", ">\n")
            + _parameters("<parameter=", ">\n", "\n</parameter>\n")
            + "{{- '</function>\n</tool_call>' -}}",
            "\n",
        ),
    ),
    "llama3": Family(
        "llama3",
        "{%- if message.tool_calls | length > 1 -%}{{- raise_exception('one call at a time') -}}{%- endif -%}"
        + _each(_pair("parameters")),
        turn="<|start_header_id|>ROLE<|end_header_id|>\n\n",
        end="<|eot_id|>",
        end_of_calls="<|eot_id|>",
        marks=("<|start_header_id|>", "<|end_header_id|>"),
        writes_parallel=False,
    ),
    "mistral": Family(
        "mistral", "{{- '[TOOL_CALLS][' -}}" + _each(_pair("arguments"), ", ") + "{{- ']' -}}", marks=("[TOOL_CALLS]",)
    ),
    "magistral": Family(
        "mistral_v11", _each(_named("[TOOL_CALLS]", "[ARGS]") + _ARGUMENTS), marks=("[TOOL_CALLS]", "[ARGS]")
    ),
    "lfm2": Family(
        "lfm2",
        "{{- '<|tool_call_start|>[' -}}" + _each(_PYTHON, ", ") + "{{- ']<|tool_call_end|>' -}}",
        marks=("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    "gemma3": Family(
        "pythonic",
        "{{- '[' -}}" + _each(_PYTHON, ", ") + "{{- ']' -}}",
        end="<end_of_turn>",
        end_of_calls="<end_of_turn>",
    ),
    "functiongemma": Family(
        "function_gemma",
        _gemma("<escape>")
        + _each(
            _named("<start_function_call>call:", "")
            + "{{- write(call.function.arguments) -}}{{- '<end_function_call>' -}}"
        ),
        marks=("<start_function_call>", "<end_function_call>", "<escape>"),
        end="<end_of_turn>",
        end_of_calls="<start_function_response>",
    ),
    "gemma4": Family(
        "gemma4",
        _gemma('<|"|>')
        + _each(_named("<|tool_call>call:", "") + "{{- write(call.function.arguments) -}}{{- '<tool_call|>' -}}"),
        turn="<|turn>ROLE\n",
        end="<turn|>",
        end_of_calls="<|tool_response>",
        generation="{{- '' if enable_thinking | default(false) else '<|channel>thought\n<channel|>' -}}",
        marks=("<|turn>", "<|tool_call>", "<tool_call|>", '<|"|>', "<|channel>", "<channel|>"),
    ),
    "gpt_oss": Family(
        "harmony",
        "{%- set call = message.tool_calls[0] -%}"
        + _named("<|channel|>commentary to=functions.", "<|constrain|>json<|message|>")
        + _ARGUMENTS,
        turn="<|start|>ROLE",
        end="<|return|>",
        end_of_calls="<|call|>",
        marks=("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"),
        writes_parallel=False,
    ),
    "deepseek_v3": Family(
        "deepseek_v3",
        "{{- '<｜tool▁calls▁begin｜>' -}}"
        + _each(
            _named("<｜tool▁call▁begin｜>function<｜tool▁sep｜>", "\n```json\n")
            + _ARGUMENTS
            + "{{- '\n```<｜tool▁call▁end｜>' -}}",
            "\n",
        )
        + "{{- '<｜tool▁calls▁end｜>' -}}",
        marks=_DEEPSEEK_MARKS,
    ),
    "deepseek_v31": Family(
        "deepseek_v31",
        "{{- '<｜tool▁calls▁begin｜>' -}}"
        + _each(_named("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>") + _ARGUMENTS + "{{- '<｜tool▁call▁end｜>' -}}")
        + "{{- '<｜tool▁calls▁end｜>' -}}",
        turn="<｜ROLE｜>",
        end="<｜end▁of▁sentence｜>",
        end_of_calls="<｜end▁of▁sentence｜>",
        generation="{{- '<think>' if thinking | default(false) else '</think>' -}}",
        thought="</think>",
    ),
    "kimi_k2": Family(
        "kimi_k2",
        "{{- '<|tool_calls_section_begin|>' -}}"
        + _each(
            "{{- '<|tool_call_begin|>functions.' + call.function.name + ':' + loop.index0 | string -}}"
            + "{{- '<|tool_call_argument_begin|>' -}}"
            + _ARGUMENTS
            + "{{- '<|tool_call_end|>' -}}"
        )
        + "{{- '<|tool_calls_section_end|>' -}}",
    ),
    "glm4": Family(
        "glm",
        _each(
            _named("\n<tool_call>", "\n")
            + _parameters("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n")
            + "{{- '</tool_call>' -}}"
        ),
        turn="<|ROLE|>\n",
        end="<|endoftext|>",
        end_of_calls="<|endoftext|>",
        generation=_NO_THINKING.replace("EMPTY", "<think></think>"),
        thought="<think></think>",
    ),
    "minimax_m2": Family(
        "minimax_m2",
        "{{- '<minimax:tool_call>\n' -}}"
        + _each(
            _named('<invoke name="', '">\n')
            + _parameters('<parameter name="', '">', "</parameter>\n")
            + "{{- '</invoke>\n' -}}"
        )
        + "{{- '</minimax:tool_call>' -}}",
        generation="{{- '<think>\\n' -}}",
    ),
    "granite3": Family(
        "granite3",
        "{{- '<|tool_call|>[' -}}" + _each(_pair("arguments"), ", ") + "{{- ']' -}}",
        turn="<|start_of_role|>ROLE<|end_of_role|>",
        end="<|end_of_text|>",
        end_of_calls="<|end_of_text|>",
        marks=("<|tool_call|>", "<|start_of_role|>", "<|end_of_role|>"),
    ),
    "phi4_mini": Family("phi4", "{{- 'functools[' -}}" + _each(_pair("arguments"), ", ") + "{{- ']' -}}"),
    "nemotron_nano": Family(
        "nemotron2",
        "{{- '<TOOLCALL>[' -}}" + _each(_pair("arguments"), ", ") + "{{- ']</TOOLCALL>' -}}",
        generation="{{- '<think></think>' if enable_thinking is defined and not enable_thinking else '<think>\n' -}}",
    ),
    "command_a": Family(
        "cohere",
        "{{- '<|START_ACTION|>[' -}}"
        + _each(
            '{{- \'{"tool_call_id": "\' + loop.index0 | string + \'", "tool_name": \' -}}'
            "{{- call.function.name | tojson -}}"
            "{{- ', \"parameters\": ' + (call.function.arguments | tojson) + '}' -}}",
            ", ",
        )
        + "{{- ']<|END_ACTION|>' -}}",
        generation="{{- '<|START_THINKING|><|END_THINKING|>' -}}",
        marks=("<|START_ACTION|>", "<|END_ACTION|>", "<|START_THINKING|>", "<|END_THINKING|>"),
    ),
    "apertus": Family(
        "apertus",
        "{{- '<|tools_prefix|>[' -}}"
        + _each("{{- '{' + (call.function.name | tojson) + ': ' + (call.function.arguments | tojson) + '}' -}}", ", ")
        + "{{- ']<|tools_suffix|>' -}}",
    ),
    "seed_oss": Family(
        "seed_xml",
        _each(
            _named("<seed:tool_call>\n<function=", ">\n")
            + _parameters("<parameter=", ">", "</parameter>\n")
            + "{{- '</function>\n</seed:tool_call>' -}}",
            "\n",
        ),
    ),
    "olmo3": Family("olmo3", "{{- '<function_calls>' -}}" + _each(_PYTHON, "\n") + "{{- '</function_calls>' -}}"),
}
"""By family: its format of calls, and how its template marks turns and thoughts."""
