"""Chat templates that write calls in other layouts than Hermes'."""

from tests.tiny import CHATML_TEMPLATE


def template(calls: str) -> str:
    """A ChatML template that writes calls so; `call.function` is at hand, and `loop`."""
    written = f"{{%- for call in message.tool_calls or [] -%}}{calls}{{%- endfor -%}}"
    return CHATML_TEMPLATE.replace(
        "+ message.content + '<|im_end|>\\n' }}", "+ message.content }}" + written + "{{ '<|im_end|>\\n' }}"
    )


LLAMA = """{{ '{"name": "' + call.function.name + '", "parameters": ' + call.function.arguments | tojson + '}' }}"""
MISTRAL = """\
{{ '[TOOL_CALLS] [' if loop.first else ', ' -}}
{{ '{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}' -}}
{{ ']' if loop.last }}"""
MISTRAL_NEW = "{{ '[TOOL_CALLS]' + call.function.name + '[ARGS]' + call.function.arguments | tojson }}"
ONE_ONLY = "{{ raise_exception('one call at a time') if not loop.last }}" + LLAMA

_ARGUMENTS = "call.function.arguments.items()"
_TEXT_OR_JSON = "{{ value if value is string else value | tojson }}"


def _pythonic(opening: str, closing: str) -> str:
    keywords = f"{{%- for key, value in {_ARGUMENTS} -%}}{{{{ ', ' if not loop.first }}}}{{{{ key }}}}="
    keywords += "{{ literal(value) }}{%- endfor -%}"
    calls = f"{{{{ {opening!r} if loop.first else ', ' }}}}{{{{ call.function.name }}}}({keywords})"
    return f"{_PYTHON_LITERAL}{calls}{{{{ {closing!r} if loop.last }}}}"


_PYTHON_LITERAL = """\
{%- macro literal(value) -%}
{%- if value is none -%}None{%- elif value is true -%}True{%- elif value is false -%}False
{%- elif value is mapping -%}{ {%- for key, part in value.items() -%}
{{ ', ' if not loop.first }}{{ key | tojson }}: {{ literal(part) }}{%- endfor -%} }
{%- elif value is iterable and value is not string -%}[{%- for part in value -%}
{{ ', ' if not loop.first }}{{ literal(part) }}{%- endfor -%}]
{%- else -%}{{ value | tojson }}{%- endif -%}
{%- endmacro -%}"""


def _tagged(opening: str, call: str, argument: str, value_end: str, closing: str) -> str:
    arguments = f"{{%- for key, value in {_ARGUMENTS} -%}}{argument}{_TEXT_OR_JSON}{value_end}{{%- endfor -%}}"
    return opening + call + arguments + closing


_IN_BLOCK = "{{{{ {!r} if loop.first }}}}{}{{{{ {!r} if loop.last }}}}"
_DSML = "<｜DSML｜"


def _bare(opening: str, quote: str, closing: str) -> str:
    literal = f"""\
{{%- macro literal(value) -%}}
{{%- if value is string -%}}{{{{ {quote!r} + value + {quote!r} }}}}
{{%- elif value is mapping -%}}{{ {{%- for key, part in value.items() -%}}
{{{{ ',' if not loop.first }}}}{{{{ key }}}}:{{{{ literal(part) }}}}{{%- endfor -%}} }}
{{%- elif value is iterable -%}}[{{%- for part in value -%}}
{{{{ ',' if not loop.first }}}}{{{{ literal(part) }}}}{{%- endfor -%}}]
{{%- else -%}}{{{{ value | tojson }}}}{{%- endif -%}}
{{%- endmacro -%}}"""
    return f"{literal}{opening}call:{{{{ call.function.name }}}}{{{{ literal(call.function.arguments) }}}}{closing}"


def _dsml(block: str) -> str:
    return _IN_BLOCK.format(
        f"{_DSML}{block}>\n",
        _tagged(
            f'{_DSML}invoke name="{{{{ call.function.name }}}}">\n',
            "",
            f"{_DSML}parameter name=\"{{{{ key }}}}\" string=\"{{{{ 'true' if value is string else 'false' }}}}\">",
            "</｜DSML｜parameter>{{ '\n' }}",
            "</｜DSML｜invoke>\n",
        ),
        f"</｜DSML｜{block}>",
    )


TEMPLATES = {
    "pythonic": _pythonic("[", "]"),
    "lfm2": _pythonic("<|tool_call_start|>[", "]<|tool_call_end|>"),
    "llama4": _pythonic("<|python_start|>[", "]<|python_end|>"),
    "qwen_xml": _tagged(
        "<tool_call>\n",
        "<function={{ call.function.name }}>\n",
        "<parameter={{ key }}>{{ '\n' }}",
        "{{ '\n' }}</parameter>{{ '\n' }}",
        "</function>\n</tool_call>",
    ),
    "seed_xml": _tagged(
        "<seed:tool_call>\n",
        "<function={{ call.function.name }}>\n",
        "<parameter={{ key }}>",
        "</parameter>{{ '\n' }}",
        "</function>\n</seed:tool_call>",
    ),
    "glm": _tagged(
        "<tool_call>",
        "{{ call.function.name + '\n' }}",
        "<arg_key>{{ key }}</arg_key>{{ '\n' }}<arg_value>",
        "</arg_value>{{ '\n' }}",
        "</tool_call>",
    ),
    "minimax_m2": _IN_BLOCK.format(
        "<minimax:tool_call>\n",
        _tagged(
            '<invoke name="{{ call.function.name }}">\n',
            "",
            '<parameter name="{{ key }}">',
            "</parameter>{{ '\n' }}",
            "</invoke>\n",
        ),
        "</minimax:tool_call>",
    ),
    "deepseek_v32": _dsml("function_calls"),
    "deepseek_v4": _dsml("tool_calls"),
    "function_gemma": _bare("<start_function_call>", "<escape>", "<end_function_call>"),
    "gemma4": _bare("<|tool_call>", '<|"|>', "<tool_call|>"),
    "kimi_k2": _IN_BLOCK.format(
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>functions.{{ call.function.name }}:{{ loop.index0 }}<|tool_call_argument_begin|>"
        "{{ call.function.arguments | tojson }}<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ),
    "deepseek_v31": _IN_BLOCK.format(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>{{ call.function.name }}<｜tool▁sep｜>{{ call.function.arguments | tojson }}"
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ),
    "harmony": "{{ '<|start|>assistant' if not loop.first }}<|channel|>commentary to=functions."
    "{{ call.function.name }} <|constrain|>json<|message|>{{ call.function.arguments | tojson }}<|call|>",
    "cohere": _IN_BLOCK.format(
        "<|START_ACTION|>[",
        "{{ ', ' if not loop.first }}"
        """{"tool_call_id": "{{ loop.index0 }}", "tool_name": "{{ call.function.name }}", "parameters": """
        "{{ call.function.arguments | tojson }}}",
        "]<|END_ACTION|>",
    ),
    "granite3": "{{ '<|tool_call|>[' if loop.first else ', ' }}"
    """{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}"""
    "{{ ']' if loop.last }}",
    "functionary": "<function={{ call.function.name }}>{{ call.function.arguments | tojson }}</function>",
    "apertus": "{{ '<|tools_prefix|>[' if loop.first else ', ' }}"
    """{"{{ call.function.name }}": {{ call.function.arguments | tojson }}}{{ ']<|tools_suffix|>' if loop.last }}""",
    "llama3": LLAMA,
    "mistral": MISTRAL,
    "mistral_v11": MISTRAL_NEW,
    "olmo3": _PYTHON_LITERAL
    + "{{ '<function_calls>' if loop.first else '\n' }}{{ call.function.name }}"
    + f"({{%- for key, value in {_ARGUMENTS} -%}}{{{{ ', ' if not loop.first }}}}{{{{ key }}}}="
    + "{{ literal(value) }}{%- endfor -%}){{ '</function_calls>' if loop.last }}",
    "deepseek_v3": _IN_BLOCK.format(
        "<｜tool▁calls▁begin｜>",
        "{{ '\n' if not loop.first }}<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ call.function.name }}"
        "{{ '\n```json\n' }}{{ call.function.arguments | tojson }}{{ '\n```' }}<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ),
    "minimax_m1": _IN_BLOCK.format(
        "<tool_calls>\n",
        """{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}{{ '\n' }}""",
        "</tool_calls>",
    ),
    "granite_20b": """<function_call>{"name": "{{ call.function.name }}", "arguments": """
    "{{ call.function.arguments | tojson }}}",
    "gigachat": """<|function_call|>{"name": "{{ call.function.name }}", "arguments": """
    "{{ call.function.arguments | tojson }}}",
    "phi4": """{{ 'functools[' if loop.first else ', ' }}{"name": "{{ call.function.name }}", "arguments": """
    "{{ call.function.arguments | tojson }}}{{ ']' if loop.last }}",
    "nemotron2": """{{ '<TOOLCALL>[' if loop.first else ', ' }}{"name": "{{ call.function.name }}", "arguments": """
    "{{ call.function.arguments | tojson }}}{{ ']</TOOLCALL>' if loop.last }}",
    "internlm2": """{{ '<|action_start|><|plugin|>' if loop.first else '\n' }}{"name": "{{ call.function.name }}", """
    """"parameters": {{ call.function.arguments | tojson }}}{{ '<|action_end|>' if loop.last }}""",
    "json": """{{ '[' if loop.first else ', ' }}{"name": "{{ call.function.name }}", "arguments": """
    "{{ call.function.arguments | tojson }}}{{ ']' if loop.last }}",
    "fenced": """{{ '```json\n' if loop.first else '\n' }}{"name": "{{ call.function.name }}", "arguments": """
    "{{ call.function.arguments | tojson }}}{{ '\n```' if loop.last }}",
}
"""By dialect, after the formats that the models' own templates write."""
