"""Calls whose arguments stand in a tag each, as XML has them: `<parameter=room>kitchen</parameter>`.

One reader for the formats of this kind, told apart by their `Tags`. No format of them escapes anything: a value ends at
the closing tag that another argument, or the end of the call, follows.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fcdistill.records import ToolCall
from fcdistill.storage import StrictJsonError, loads_strict
from fcdistill.toolcalls.dialect import Attempt, ErrorKind, Found, Part, Source, Tags, attempt_error, one_region
from fcdistill.toolcalls.typed_text import text_of, value_of

__all__ = ["read_tagged", "write_tagged"]

_SPACE = re.compile(r"\s*")


def read_tagged(source: Source, start: int, tags: Tags) -> Found | None:
    """The block of calls at `start`; None where no call of this format begins it."""
    text = source.text
    position = start + len(tags.opening) if text.startswith(tags.opening, start) else start
    attempts: list[Attempt] = []
    while True:
        position = _skip(text, position)
        opened = tags.call.match(text, position)
        if opened is None:
            break
        attempt, position, problem = _read_call(source, opened, tags)
        if attempt is None:
            end = _end_of_broken(source, position, tags)
            return one_region(tags.dialect, start, end, attempts, problem)
        attempts.append(attempt)
    if not attempts:
        return None
    if tags.closing and text.startswith(tags.closing, position):
        return one_region(tags.dialect, start, position + len(tags.closing), attempts)
    if not tags.closing or not text.startswith(tags.opening, start) or position == len(text) and not source.truncated:
        end = attempts[-1].span[1]  # the closing tag ended the answer, or none was opened
        return one_region(tags.dialect, start, max(end, len(text) if position == len(text) else end), attempts)
    end = _end_of_broken(source, position, tags)
    return one_region(tags.dialect, start, end, attempts, "unclosed" if end == len(text) else "invalid_syntax")


def write_tagged(calls: Sequence[ToolCall], tags: Tags) -> str:
    """Calls in a format; `read_tagged` reads them back where no text in them holds the end of a value.

    Raises:
        ValueError: an argument is NaN or infinite.
    """
    texts = [_call_text(call, tags) for call in calls]
    if not texts:
        return ""
    space = tags.call_space
    if tags.one_block:
        return f"{tags.opening}{space}{tags.between.join(texts)}{space}{tags.closing}"
    inner = space if tags.call_end else ""
    return tags.between.join(f"{tags.opening}{inner}{text}{inner}{tags.closing}" for text in texts)


def _call_text(call: ToolCall, tags: Tags) -> str:
    pad = "\n" if tags.pads_values else ""
    arguments = "".join(
        tags.write_argument.format(key=key, string="true" if isinstance(value, str) else "false")
        + f"{pad}{text_of(value)}{pad}{tags.value_end}{tags.call_space}"
        for key, value in call.arguments.items()
    )
    return f"{tags.write_call.format(name=call.name)}{tags.call_space}{arguments}{tags.call_end}"


def _read_call(source: Source, opened: re.Match[str], tags: Tags) -> tuple[Attempt | None, int, ErrorKind | None]:
    """A call, and where reading goes on; without one, what is wrong there."""
    text, name = source.text, opened["name"].strip()
    parts: list[Part] = [(*opened.span("name"), "name")]
    arguments: dict[str, Any] = {}
    problem: tuple[ErrorKind, str] | None = None
    position = _skip(text, opened.end())
    call_end = tags.call_end or tags.closing
    while not text.startswith(call_end, position):
        argument = tags.argument.match(text, position)
        if argument is None:
            at_end = position >= len(text)
            if at_end and not tags.call_end and arguments and not source.truncated:
                break  # the closing tag ended the answer
            return None, position, "unclosed" if at_end else "invalid_syntax"
        end = _value_end(source, argument.end(), call_end, tags)
        if end is None:
            return None, len(text), "unclosed"
        key, span = argument["key"].strip(), (argument.end(), end)
        if tags.pads_values:
            span = (span[0] + text.startswith("\n", span[0]), span[1])
            span = (span[0], span[1] - (span[1] > span[0] and text[span[1] - 1] == "\n"))
        parts += [(*argument.span("key"), "arg_key"), (*span, "arg_value")]
        if key in arguments:
            problem = problem or ("duplicate_key", f"argument {key!r} is given more than once")
        try:
            arguments[key] = _value(text[slice(*span)], key, argument, source.tools.get(name))
        except StrictJsonError as error:
            problem = problem or (error.kind, f"argument {key!r}: {error}")  # type: ignore[assignment]
        position = _skip(text, end + len(tags.value_end))
    end = position + (len(tags.call_end) if text.startswith(call_end, position) else 0)
    span = (opened.start(), end)
    if not name:
        problem = problem or ("not_a_call", "the call has no name")
    verdict = attempt_error(problem[0], span, problem[1]) if problem else ToolCall(name=name, arguments=arguments)
    return Attempt(span, verdict, lambda: parts), end, None


def _value(text: str, key: str, argument: re.Match[str], parameters: Mapping[str, Any] | None) -> Any:
    said = argument.groupdict().get("string")
    if said is None:
        return value_of(text, key, parameters)
    return text if said == "true" else loads_strict(text)


def _value_end(source: Source, start: int, call_end: str, tags: Tags) -> int | None:
    """Where the value that begins at `start` is closed; None where nowhere.

    A closing tag that neither another argument nor the end of the call follows is part of a text, unless none other is.
    """
    text, first = source.text, None
    end = source.find(tags.value_end, start)
    while end < len(text):
        first = end if first is None else first
        after = _skip(text, end + len(tags.value_end))
        if after == len(text) or text.startswith(call_end, after) or tags.argument.match(text, after):
            return end
        if tags.call.match(text, after):
            break
        end = source.find(tags.value_end, after)
    return first


def _end_of_broken(source: Source, position: int, tags: Tags) -> int:
    """Where a block ends that is broken at a place: at its closing tag, or where another mark begins."""
    close = source.find(tags.closing, position) if tags.closing else len(source.text)
    end = source.next_marker(position)
    return close + len(tags.closing) if close < end else max(end, position)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
