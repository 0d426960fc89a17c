"""Control tokens belong to the template: their text in a message, a result, an argument or a tool stays text.

A text such as `<|im_end|>` that a user writes would else end the turn, or teach a student to stop within an argument.
Tokenizers call some of these tokens special, and others not: `<tool_call>` or `<think>` are plain added tokens in many
vocabularies, and mark a call or a thought all the same. Both kinds are control tokens; other added tokens, such as
words, are text like any other.

Before a template runs, the first character of every such text in what it is given is replaced by a mark; in what it
writes, the marks tell which texts are quoted. They are then encoded with a copy of the tokenizer whose control tokens
bear other names, so that everything round them is cut as it always is. How chats are laid out is not known here.
"""

import json
import re
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel

from fcdistill.errors import ModelError
from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialects.table import DIALECTS
from fcdistill.toolcalls.thinking import OPENINGS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

__all__ = ["Quoting", "control_places", "control_tokens", "encode", "quoting_of"]

T = TypeVar("T")

_FIRST_BLOCK, _NUM_BLOCKS, _BLOCK_SIZE = 0xF0000, 255, 0x100
"""Marks are private characters (Unicode, plane 15), of a block that the texts do not use."""

_MARK = re.compile(r"\s*[<\[{|｜◁].*\w.*", re.DOTALL)
"""What a mark looks like, and no word, number, space or punctuation does."""
_ALWAYS_A_MARK = re.compile(r"\s*<[|｜].*[|｜]>\s*", re.DOTALL)
"""What is nothing else, whoever writes it."""
_PROBES = (
    ToolCall(name="probe", arguments={"text": "probe", "number": 1, "list": ["probe"], "object": {"key": "probe"}}),
    ToolCall(name="probe", arguments={}),
)

_CONTROL: "weakref.WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, Any, tuple[str, ...]]]"
_CONTROL = weakref.WeakKeyDictionary()
_RENAMED: "weakref.WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[str, ...], tuple[tuple[str, ...], Tokenizer]]]"
_RENAMED = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Quoting:
    """The marks with which the texts of control tokens are quoted while a template runs.

    Attributes:
        tokens: those of the texts that occur.
        marks: by the first character of such a text, what takes its place; empty where nothing is to be quoted.
    """

    tokens: tuple[str, ...] = ()
    marks: tuple[tuple[str, str], ...] = ()

    def quoted(self, value: T) -> T:
        """A record or JSON value whose texts are marked."""
        if not self.marks:
            return value
        marks, begins = dict(self.marks), _begins(self.tokens)
        return cast(T, _mapped(value, lambda text: begins.sub(lambda match: marks[match[1]], text)))

    def unquoted(self, value: T) -> T:
        """A record or JSON value without marks."""
        return cast(T, _mapped(value, self.plain))

    def plain(self, text: str) -> str:
        """A text without its marks; each of its characters keeps its place."""
        return text.translate({ord(mark): first for first, mark in self.marks})

    def places(self, text: str) -> tuple[int, ...]:
        """Where marks stand."""
        marks = {mark for _, mark in self.marks}
        return tuple(place for place, character in enumerate(text) if character in marks) if marks else ()


def quoting_of(tokenizers: Sequence["PreTrainedTokenizerBase"], values: Iterable[Any]) -> Quoting:
    """What quotes the control tokens of these tokenizers in records or JSON values."""
    tokens = _tokens_of(tokenizers)
    texts = list(_texts(values))
    begins = _begins(tokens)
    if not tokens or not any(begins.search(text) for text in texts):
        return Quoting()
    tokens = tuple(token for token in tokens if any(token in text for text in texts))
    return Quoting(tokens, tuple(_unused_marks(tokens, "".join(texts)).items()))


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, ...]:
    """The texts that a tokenizer reads as tokens that steer a chat, the longest first.

    They are its special tokens, and of its other added tokens those that look like marks and belong to how chats are
    laid out: they stand in the tokenizer's template, in how any dialect writes calls, or round thoughts.
    """
    size, template = len(tokenizer), tokenizer.chat_template
    known = _CONTROL.get(tokenizer)
    if known is None or known[:2] != (size, template):
        layouts = [*(template.values() if isinstance(template, dict) else [template or ""]), *_written_marks()]
        added = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special or _is_mark(token.content, layouts)
        ]
        texts = sorted({*added, *tokenizer.all_special_tokens} - {""}, key=lambda text: (-len(text), text))
        known = _CONTROL[tokenizer] = (size, template, tuple(texts))
    return known[2]


def control_places(tokenizers: Sequence["PreTrainedTokenizerBase"], text: str) -> list[tuple[int, int]]:
    """Where the text of a control token of these tokenizers stands, as spans; such texts may overlap."""
    tokens = _tokens_of(tokenizers)
    return [
        (found.start(), found.start() + len(token))
        for found in _begins(tokens).finditer(text)
        for token in tokens
        if text.startswith(token, found.start())
    ]


def encode(
    tokenizer: "PreTrainedTokenizerBase", text: str, quoted: Collection[int] = ()
) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids of a text, and the characters that each covers.

    Args:
        tokenizer: a fast one.
        text: any.
        quoted: the places of the text at which what reads like a control token is text.

    Raises:
        ModelError: the tokenizer can't tell the text of a control token from the token.
    """
    if not quoted:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
        return encoded["input_ids"], encoded["offset_mapping"]
    tokens = control_tokens(tokenizer)
    marks = _unused_marks(tokens, text)
    masked, named = list(text), list(text)
    for place in quoted:
        masked[place] = chr(_FIRST_BLOCK)
    meant = [match for match in _any_of(tokens).finditer("".join(masked))] if tokens else []
    for match in meant:
        named[match.start()] = marks[text[match.start()]]
    encoding = _renamed(tokenizer, marks).encode("".join(named), add_special_tokens=False)
    unknown = tokenizer.unk_token
    controls = set(tokenizer.convert_tokens_to_ids([token for token in tokens if token != unknown]))
    num_read, num_meant = sum(index in controls for index in encoding.ids), sum(match[0] != unknown for match in meant)
    if num_read != num_meant:
        reason = "a text still becomes one" if num_read > num_meant else "it does not read one wherever it is written"
        raise _unable(tokenizer, reason)
    return list(encoding.ids), list(encoding.offsets)


def _is_mark(token: str, layouts: Iterable[str]) -> bool:
    if _ALWAYS_A_MARK.fullmatch(token):
        return True
    return _MARK.fullmatch(token) is not None and any(token.strip() in text for text in layouts)


@cache
def _written_marks() -> tuple[str, ...]:
    """What stands round calls and thoughts, in all dialects."""
    calls = (dialect.write(_PROBES) for dialect in DIALECTS.values())
    openings = (opening for dialect in DIALECTS.values() for opening in dialect.openings)
    return (*calls, *openings, *OPENINGS, *OPENINGS.values())


def _tokens_of(tokenizers: Sequence["PreTrainedTokenizerBase"]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(token for tokenizer in tokenizers for token in control_tokens(tokenizer)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        yield from _texts([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, Mapping):
        yield from _texts(list(value))
        yield from _texts(list(value.values()))
    elif isinstance(value, Iterable):
        for each in value:
            yield from _texts(each)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={name: _mapped(getattr(value, name), change) for name in type(value).model_fields}
        )
    if isinstance(value, Mapping):
        return {_mapped(key, change): _mapped(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(each, change) for each in value)
    return value


@lru_cache(maxsize=16)
def _begins(tokens: tuple[str, ...]) -> re.Pattern[str]:
    """Finds each character at which one of the texts begins, also within another one."""
    firsts = "".join(sorted({re.escape(token[0]) for token in tokens}))
    return re.compile(f"(?={_any_of(tokens).pattern})([{firsts}])" if tokens else r"(?!)", re.DOTALL)


@lru_cache(maxsize=16)
def _any_of(tokens: tuple[str, ...]) -> re.Pattern[str]:
    """Finds the texts as a tokenizer does: the leftmost, and of those the longest."""
    return re.compile("(?:" + "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) + ")")


def _unused_marks(tokens: Sequence[str], text: str) -> dict[str, str]:
    """A mark for each first character of the tokens, from a block of characters that the text does not hold."""
    used = {ord(character) // _BLOCK_SIZE for character in text if ord(character) >= _FIRST_BLOCK}
    first = _FIRST_BLOCK // _BLOCK_SIZE + 1
    block = next(number for number in range(first, first + _NUM_BLOCKS) if number not in used) * _BLOCK_SIZE
    return {character: chr(block + index) for index, character in enumerate(sorted({token[0] for token in tokens}))}


def _renamed(tokenizer: "PreTrainedTokenizerBase", marks: Mapping[str, str]) -> "Tokenizer":
    """A copy of a tokenizer whose control tokens are written with a mark in the place of their first character."""
    from tokenizers import Tokenizer

    tokens = control_tokens(tokenizer)
    key = tuple(marks.values())
    found = _RENAMED.setdefault(tokenizer, {}).get(key)
    if found is not None and found[0] == tokens:
        return found[1]
    names = {token: marks[token[0]] + token[1:] for token in tokens}
    document = json.loads(tokenizer.backend_tokenizer.to_str())
    for added in document["added_tokens"]:
        added["content"] = names.get(added["content"], added["content"])
    model = document["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): index for token, index in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    document |= {"post_processor": None, "truncation": None, "padding": None}
    try:
        copy = Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # the library raises nothing more special
        raise _unable(tokenizer, str(error)) from error
    for token, name in names.items():
        if copy.token_to_id(name) != tokenizer.convert_tokens_to_ids(token):
            raise _unable(tokenizer, f"{token!r} gets another id under another name")
    _RENAMED[tokenizer][key] = (tokens, copy)
    return copy


def _unable(tokenizer: "PreTrainedTokenizerBase", reason: str) -> ModelError:
    shown = ", ".join(map(repr, control_tokens(tokenizer)[:5]))
    return ModelError(
        f"tokenizer {tokenizer.name_or_path!r} can't tell the text of a control token ({shown}, ...) from the token: "
        f"{reason}",
        required="conversations and tools without such texts, for this tokenizer",
        fix="remove or reword the text",
    )
