"""What stands round the names and arguments of calls in the dialect that a model's chat template writes.

Which dialect that is, is proved by `prompts`. Here the template's own marks are found; the arguments themselves belong
to `argument_rules`, and what may stand round calls, to `call_grammar`.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fcdistill.backends.constrained.grammar_rules import ID_MARK, NUMBER_MARK
from fcdistill.errors import ModelError
from fcdistill.prompts.rendering import call_format, calls_text
from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import ArgumentSyntax, Dialect
from fcdistill.toolcalls.dialects.table import DIALECTS
from fcdistill.toolcalls.thinking import OPENINGS, THOUGHT_MARKS, thought_mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CallLayout", "read_layout"]

_FIRST, _SECOND = (ToolCall(name=f"{which}_tool", arguments={"probe": which}) for which in ("first", "second"))
_UNSORTED = ToolCall(name="first_tool", arguments={"omega": "value", "alpha": "value"})
_ARGUMENTS: dict[ArgumentSyntax, str] = {
    "json": r"\{{\s*\"probe\"\s*:\s*\"{0}\"\s*\}}",
    "python": r"\(\s*probe\s*=\s*[\"']{0}[\"']\s*\)",
    "bare": r"\{{\s*probe\s*:\s*{1}{0}{1}\s*\}}",
}
_ID = re.compile(r"\bcall\d{5}\b")
"""The ids that `toolcalls.results` gives to calls that have none."""
_COUNTED = re.compile(r"(?<!\w)[012](?!\w)")
_LEADS = {"pythonic": "\n", "harmony": "<|start|>assistant"}
"""What calls of a dialect need before them, where they do not begin the answer and have no mark of their own."""


@dataclass(frozen=True)
class CallLayout:
    """What a chat template writes round the names and arguments of calls.

    Attributes:
        dialect: the name of the dialect.
        opening: before a name.
        middle: between a name and its arguments.
        closing: after the last arguments.
        between: from one call's arguments to the next one's name, where that is no closing and opening.
        lead: what must stand before an opening that does not begin the answer.
        thoughts: the marks of thoughts of which the template or the vocabulary knows either end.
        sorts_names: the names of arguments, and of all objects in them, stand in the order of the alphabet.
    """

    dialect: str
    opening: str
    middle: str
    closing: str
    between: str | None = None
    lead: str = ""
    thoughts: tuple[str, ...] = ()
    sorts_names: bool = False


def read_layout(tokenizer: "PreTrainedTokenizerBase") -> CallLayout:
    """The layout that a tokenizer's template has.

    Raises:
        ModelError: it writes calls that nothing reads, that begin without a mark, or with their arguments.
    """
    dialect = DIALECTS[call_format(tokenizer).dialect]
    known = f"{tokenizer.chat_template}" + "".join(
        token.content for token in tokenizer.added_tokens_decoder.values() if token.content in THOUGHT_MARKS
    )
    pairs = [pair for pair in OPENINGS.items() if any(mark in known for mark in pair)]
    thoughts = tuple(mark for mark in THOUGHT_MARKS if any(mark in pair for pair in pairs))
    written = calls_text(tokenizer, [_UNSORTED])
    sorts_names = 0 <= written.find("alpha") < written.find("omega")
    if dialect.tags is not None:
        tags = dialect.tags
        before, after = tags.write_call.split("{name}")
        return CallLayout(
            dialect=dialect.name,
            opening=f"{tags.opening}\n{before}".strip(),
            middle=after,
            closing=f"{tags.call_end}\n{tags.closing}".strip(),
            between=f"{tags.call_end}\n{before}" if tags.one_block else None,
            thoughts=thoughts,
            sorts_names=sorts_names,
        )
    opening, middle, closing, between = _found(tokenizer, dialect)
    has_mark = any(opening.startswith(mark) for mark in dialect.openings)
    lead = "" if has_mark else _LEADS.get(dialect.name, "")
    return CallLayout(dialect.name, opening, middle, closing, between, lead, thoughts, sorts_names)


def _found(tokenizer: "PreTrainedTokenizerBase", dialect: Dialect) -> tuple[str, str, str, str | None]:
    """Opening, middle, closing and what stands between calls, as the template writes them."""
    name, quote = "{0}_tool", re.escape(dialect.quote)
    arguments = {which: _ARGUMENTS[dialect.syntax].format(which, quote) for which in ("first", "second")}
    one = calls_text(tokenizer, [_FIRST])
    found = re.fullmatch(f"(.*?){name.format('first')}(.*?){arguments['first']}(.*)", one, re.DOTALL)
    if found is None or not found[1]:
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path!r} writes a call as {one!r}",
            required="for constrained decoding, a template that writes a mark, a name and then its arguments",
            fix="decode without constrained, or use the model with another chat template",
        )
    opening, middle, closing = (_ID.sub(ID_MARK, part) for part in found.groups())
    # What ends the thought before a call may stand before any call, and needs not.
    opening = re.sub(f"^(?:{thought_mark()}|\\s)+", "", opening) or opening
    try:
        two = _ID.sub(ID_MARK, calls_text(tokenizer, [_FIRST, _SECOND]))
    except ModelError:  # templates of models that make one call at a time
        two = ""
    joined = re.search(f"{arguments['first']}(.*?){name.format('second')}(.*?){arguments['second']}", two, re.DOTALL)
    if joined is None or not call_format(tokenizer).writes_parallel:
        return opening, middle, closing, None
    if joined[2] != middle:  # some number their calls
        middle = _COUNTED.sub(NUMBER_MARK, middle)
    is_apart = joined[1].startswith(closing) if closing else joined[1].strip() == opening
    between = None if is_apart else _COUNTED.sub(NUMBER_MARK, joined[1])
    return opening, middle, closing, between
