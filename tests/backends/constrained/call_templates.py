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
