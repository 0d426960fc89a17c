"""Calls that an API gives as data beside the text: OpenAI's `tool_calls`, its older `function_call`, lists of calls.

Where calls are given so, the text beside them is prose: a call that is named, repeated or drafted there is none. What a
server gives as reasoning is thought.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from fcdistill.records import ParseError, ToolCall
from fcdistill.storage import StrictJsonError, loads_strict
from fcdistill.toolcalls.dialect import ErrorKind, attempt_error
from fcdistill.toolcalls.json_text import json_text
from fcdistill.toolcalls.parsing import ParsedOutput
from fcdistill.toolcalls.thinking import set_thought_apart

__all__ = ["THOUGHT_FIELDS", "content_text", "read_call", "read_message", "reasoning_text", "structured_output"]

THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message in which servers give a thought, and chat templates take one."""
_NO_ARGUMENTS = ("", "null")
"""How servers write the arguments of a call that has none, as text."""


def read_message(message: Mapping[str, Any]) -> ParsedOutput | None:
    """What an assistant's message of a chat API says; None where it gives no calls as data, so that its text is read.

    Args:
        message: with `content`, and `tool_calls` or `function_call`.
    """
    calls = message.get("tool_calls")
    if not calls and message.get("function_call"):
        calls = [{"function": message["function_call"]}]
    if not isinstance(calls, list) or not calls:
        return None
    return structured_output(content_text(message.get("content")), calls, thought=reasoning_text(message))


def structured_output(text: str, calls: Sequence[Any], *, thought: str = "") -> ParsedOutput:
    """An answer whose calls are given as data.

    Args:
        text: what is said beside them; a thought in it is set apart, nothing else is read from it.
        calls: `{name, arguments}`, also in OpenAI's wrapping and with arguments as a JSON string.
        thought: what the model thought, where that is given apart.
    """
    read = [read_call(call) for call in calls]
    apart = set_thought_apart(text)
    return ParsedOutput(
        calls=tuple(each for each in read if isinstance(each, ToolCall)),
        errors=tuple(each for each in read if isinstance(each, ParseError)),
        text=apart.answer,
        thought="\n".join(part for part in (thought, apart.thought) if part),
    )


def read_call(item: Any) -> ToolCall | ParseError:
    """A call that is given as data; what is malformed is an error at the text's beginning."""
    call = item.get("function", item) if isinstance(item, Mapping) else item
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str) or not call["name"]:
        return attempt_error("not_a_call", (0, 0), "a tool call without a name")
    arguments = call.get("arguments")
    if arguments is None or isinstance(arguments, str) and arguments.strip() in _NO_ARGUMENTS:
        arguments = {}
    if isinstance(arguments, str):
        try:
            arguments = loads_strict(arguments)
        except StrictJsonError as error:
            detail = f"{call['name']}: arguments are no JSON: {error}"
            return attempt_error(cast(ErrorKind, error.kind), (0, 0), detail)
    if not isinstance(arguments, dict):
        return attempt_error("not_a_call", (0, 0), f"{call['name']}: arguments are no object")
    try:
        json_text(arguments)
    except ValueError:
        return attempt_error("not_finite", (0, 0), f"{call['name']}: a number in the arguments is not finite")
    except RecursionError:
        return attempt_error("invalid_json", (0, 0), f"{call['name']}: arguments nest too deep")
    return ToolCall(name=call["name"], arguments=arguments)


def content_text(content: Any) -> str:
    """The text of a message's content, which some servers send in parts; parts that are thought are left out."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") not in THOUGHT_FIELDS]
    return "".join(text for text in texts if isinstance(text, str))


def reasoning_text(message: Mapping[str, Any]) -> str:
    """What a message gives as the model's thought, apart from its content; empty where it does not."""
    return next((found for key in THOUGHT_FIELDS if isinstance(found := message.get(key), str) and found), "")
