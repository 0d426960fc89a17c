"""The only renderer: conversations and tools to token ids, the same for training, evaluation and serving.

Prompt and completion are tokenised separately, so the prompt that a model is trained on is, id by id, the prompt that
it is later asked with. Every completion token has a class (`parsing.class_spans`), and the last one is the stop
token. How a chat is laid out belongs to the tokenizer's chat template; a tokenizer whose template loses tools, calls
or results gets one of the kit's. Models, padding, packing and losses are not known here.
"""

import itertools
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fcdistill.config import TemplateChoice, TokenClass, ToolsInPrompt
from fcdistill.errors import ConfigError, ModelError
from fcdistill.prompts.call_format import CallFormat, prove_format
from fcdistill.prompts.chat_template import KIT_REMEDY, kit_template, template_values, with_values
from fcdistill.prompts.continuing import continued
from fcdistill.prompts.control_tokens import Quoting, encode, quoting_of
from fcdistill.prompts.response_template import prove_response_template
from fcdistill.prompts.signatures import compact_signature
from fcdistill.prompts.template_clock import clock_arguments, clocked, written_date
from fcdistill.records import FunctionTool, Message, ToolCall, ToolSpec
from fcdistill.storage import loads_strict, sha256_json
from fcdistill.toolcalls.parsing import call_spans, class_spans, parse_output
from fcdistill.toolcalls.results import tie_results
from fcdistill.toolcalls.structured import THOUGHT_FIELDS
from fcdistill.toolcalls.thinking import set_thought_apart

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "LabelledAnswer",
    "RenderedExample",
    "answer_classes",
    "answer_text",
    "call_markers",
    "call_format",
    "calls_text",
    "compact_signature",
    "label_answer",
    "prepare_tokenizer",
    "render_example",
    "render_prompt",
    "stop_token_ids",
    "template_sha256",
    "tokenizer_sha256",
]

_OWN_TEMPLATE = TemplateChoice()

_CLASS_PRIORITY: tuple[TokenClass, ...] = ("arg_value", "arg_key", "name", "text", "thought", "structure")
"""Which class a token takes that covers equally many characters of several."""

_PROBE_TOOL = ToolSpec(
    name="probe_tool",
    description="probe-description",
    parameters={"type": "object", "properties": {"probe_key": {"type": "string"}}},
)
_PROBE_CALL = ToolCall(name="probe_tool", arguments={"probe_key": "probe-value"})
_PROBE_THOUGHT = "probe-thought"
_PROBE_REQUEST = Message(role="user", content="probe-request")
_PROBE_RESULT = Message(role="tool", content="probe-result")
_EXAMPLE_CALL = ToolCall(name="TOOL", arguments={"ARGUMENT": "VALUE"})


@dataclass(frozen=True)
class RenderedExample:
    """A conversation as a model is trained on it.

    Attributes:
        prompt_ids: up to and including the generation prompt.
        completion_ids: the answer; the last id is the stop token.
        completion_classes: one per completion token.
        completion_text: the answer's text, with the stop token.
        request_start: index in `prompt_ids` where the last user message begins; their number where there is none.
        quoted: places of `completion_text` at which the text of a control token is text, not the token.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    completion_classes: list[TokenClass]
    completion_text: str
    request_start: int
    quoted: tuple[int, ...]


@dataclass(frozen=True)
class LabelledAnswer:
    """The tokens of an answer, the stop token last, and what each of them is.

    Attributes:
        ids: the tokens.
        classes: the class of each.
        tools: for names, keys and values the tool that is called, else "".
    """

    ids: list[int]
    classes: list[TokenClass]
    tools: list[str]


def prepare_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", choice: TemplateChoice = _OWN_TEMPLATE, *, thinks: bool | None = None
) -> None:
    """Give the tokenizer what the kit relies on: a pad token and a template that shows tools, calls and results.

    A template of its own that does so is kept, if its calls can be read back (`call_format`). How transformers parses
    the answers is set too, where it can be told to (`response_template`). Doing it twice changes nothing.

    Args:
        tokenizer: is changed.
        choice: which template it gets, and with which values.
        thinks: whether its model thinks where the choice does not say; None: as its template has it.

    Raises:
        ConfigError: the template knows nothing of a value of the choice.
        ModelError: the tokenizer has no end-of-sequence token or can't say which characters a token covers, or its
            template writes calls that nothing reads.
    """
    if tokenizer.eos_token is None:
        raise ModelError(
            f"tokenizer {tokenizer.name_or_path!r} has no end-of-sequence token",
            required="a token that ends an answer",
            fix="set eos_token in its tokenizer_config.json",
        )
    if not tokenizer.is_fast:
        raise ModelError(
            f"tokenizer {tokenizer.name_or_path!r} does not report the characters that a token covers",
            required="a tokenizer with a tokenizer.json (a fast tokenizer)",
            fix="convert it with transformers' AutoTokenizer and save it",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if choice.template == "kit" or not _shows_tools(tokenizer):
        tokenizer.chat_template = kit_template(tokenizer, choice.dialect or "hermes")
    values = template_values(tokenizer, choice, thinks=thinks)
    tokenizer.chat_template = with_values(tokenizer.chat_template, values)
    written = call_format(tokenizer).dialect
    if choice.dialect not in (None, written):
        raise ConfigError(
            f"dialect {choice.dialect} is asked for, but the chat template of {tokenizer.name_or_path!r} writes "
            f"{written}",
            required="a dialect that the template writes; only the kit's template has a choice",
            fix="set template: kit too, or remove dialect",
        )
    if (stop := _stop_token(tokenizer)) in calls_text(tokenizer, [_PROBE_CALL]):
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path!r} writes {stop!r}, which ends an answer, before a call",
            required="a template that writes calls without the token at which decoding stops",
            fix=KIT_REMEDY,
        )
    stops = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    tokenizer.response_template = prove_response_template(
        tokenizer, partial(_render, tokenizer), call_format(tokenizer), stops
    )


def call_format(tokenizer: "PreTrainedTokenizerBase") -> CallFormat:
    """How the tokenizer's template writes calls. Raises `ModelError` where no dialect reads them."""
    return prove_format(tokenizer, partial(_render, tokenizer))


def render_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    specs: Sequence[ToolSpec],
    style: ToolsInPrompt,
    *,
    written: Collection[str] = (),
) -> list[int]:
    """The ids that a model is asked with, up to and including the generation prompt.

    The text of a control token in messages and tools is text; only the template's own tokens are tokens. What the
    assistant thought before is not shown: templates differ in what they show of it, and those who ask have not kept it.

    Args:
        tokenizer: of the model.
        messages: what was said.
        specs: the tools.
        style: how the prompt shows them.
        written: contents that a template wrote, whose control tokens are meant.

    Raises:
        ModelError: the tokenizer's template refuses the conversation, or the tokenizer can't take the text of a control
            token for text.
    """
    quoting = quoting_of([tokenizer], [messages, specs])
    bare = map(_without_thought, messages)
    said = [message if message.content in written else quoting.quoted(message) for message in bare]
    shown, tools = _styled(tokenizer, said, quoting.quoted(list(specs)), style)
    text = _render_quoted(tokenizer, shown, tools, quoting, add_generation_prompt=True)
    return encode(tokenizer, quoting.plain(text), quoting.places(text))[0]


def render_example(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    specs: Sequence[ToolSpec],
    style: ToolsInPrompt,
    *,
    readers: Sequence["PreTrainedTokenizerBase"] = (),
    keep_thinking: bool = False,
) -> RenderedExample:
    """A conversation whose last message is the supervised answer.

    Args:
        tokenizer: of the model.
        messages: what was said, and the answer.
        specs: the tools.
        style: how the prompt shows them.
        readers: other tokenizers that the answer's text is encoded with, whose control tokens are quoted too.
        keep_thinking: whether the answer begins with what its author thought, where the trace tells it.

    Raises:
        ModelError: the tokenizer's template refuses the conversation, or renders the answer as something else than
            the prompt's continuation; or the tokenizer can't take the text of a control token for text, or the thought
            can't be told from the answer.
    """
    quoting = quoting_of([tokenizer, *readers], [messages, specs])
    thought = messages[-1].reasoning.strip() if keep_thinking else ""
    kept = [*map(_without_thought, messages[:-1]), messages[-1].model_copy(update={"reasoning": thought})]
    shown, tools = _styled(tokenizer, quoting.quoted(kept), quoting.quoted(list(specs)), style)
    prompt = _render_quoted(tokenizer, shown[:-1], tools, quoting, add_generation_prompt=True)
    full = _render_quoted(tokenizer, shown, tools, quoting)
    answer = continued(prompt, full, shown[-1].reasoning)
    if answer is None:
        common = len(os.path.commonprefix([prompt, full]))
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path!r} does not render an answer as the continuation of its "
            f"prompt: the prompt goes on with {prompt[common : common + 60]!r}, the conversation with "
            f"{full[common : common + 60]!r}",
            required="a template whose text with the answer starts with the text without it",
            fix=KIT_REMEDY,
        )
    marked, stop = _split_at_stop(tokenizer, answer)
    body, quoted = quoting.plain(marked), quoting.places(marked)
    if thought:
        _require_thought(tokenizer, body, thought)
    prompt_ids, prompt_offsets = encode(tokenizer, quoting.plain(prompt), quoting.places(prompt))
    completion_ids, offsets = encode(tokenizer, body, quoted)
    request = _request_position(tokenizer, shown[:-1], tools, prompt)
    return RenderedExample(
        prompt_ids=prompt_ids,
        completion_ids=[*completion_ids, tokenizer.convert_tokens_to_ids(stop)],
        completion_classes=[*_token_classes(body, offsets, call_format(tokenizer).dialect), "stop"],
        completion_text=body + stop,
        request_start=sum(end <= request for _, end in prompt_offsets),
        quoted=quoted,
    )


def label_answer(tokenizer: "PreTrainedTokenizerBase", text: str, quoted: Collection[int] = ()) -> LabelledAnswer:
    """An answer's text, without a stop token, as any tokenizer cuts it: whatever dialect its calls are in.

    Args:
        tokenizer: any.
        text: the answer.
        quoted: as `RenderedExample` has it, for this tokenizer.
    """
    ids, offsets = encode(tokenizer, text, quoted)
    dialect = call_format(tokenizer).dialect
    classes = _token_classes(text, offsets, dialect)
    spans = call_spans(text, expected=dialect)
    tools = [
        next((tool for first, last, tool in spans if start < last and end > first), "")
        if kind in ("name", "arg_key", "arg_value")
        else ""
        for (start, end), kind in zip(offsets, classes, strict=True)
    ]
    return LabelledAnswer([*ids, stop_token_ids(tokenizer)[0]], [*classes, "stop"], [*tools, ""])


def answer_text(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """The text of an answer that a model wrote; special tokens stay, since for some models the marks of a call are."""
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def answer_classes(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> list[TokenClass]:
    """The class of each token of an answer that a model wrote, which need not be a call nor cut as `encode` cuts it.

    Args:
        tokenizer: of the model.
        ids: the answer without a stop token.
    """
    # The text up to each token, since a text that is encoded again may be cut elsewhere.
    ends = [len(answer_text(tokenizer, ids[:count])) for count in range(len(ids) + 1)]
    return _token_classes(answer_text(tokenizer, ids), list(itertools.pairwise(ends)), call_format(tokenizer).dialect)


def calls_text(tokenizer: "PreTrainedTokenizerBase", calls: Sequence[ToolCall]) -> str:
    """How the template writes these calls, without a thought before them, the stop token and what follows it.

    Raises:
        ModelError: the tokenizer's template refuses them.
    """
    return set_thought_apart(
        _split_at_stop(tokenizer, _after_prompt(tokenizer, Message.calling(list(calls))))[0]
    ).answer


def call_markers(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The added tokens of a vocabulary that the template writes around a call and the thought before it; may be none.

    Raises:
        ModelError: the tokenizer's template refuses calls.
    """
    thought = _PROBE_THOUGHT if call_format(tokenizer).writes_thoughts else ""
    answer = _after_prompt(tokenizer, Message.calling([_PROBE_CALL], reasoning=thought))
    ids = tokenizer(_split_at_stop(tokenizer, answer)[0].strip(), add_special_tokens=False)["input_ids"]
    added = tokenizer.added_tokens_decoder
    return [str(added[index]) for index in sorted(set(ids) & added.keys())]


def stop_token_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Ids that end an answer: those that the template writes after words and after calls, then end-of-sequence."""
    after_calls = _split_at_stop(tokenizer, _after_prompt(tokenizer, Message.calling([_PROBE_CALL])))[1]
    ids = tokenizer.convert_tokens_to_ids([_stop_token(tokenizer), after_calls])
    return list(dict.fromkeys([*ids, tokenizer.eos_token_id]))


def template_sha256(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Hex SHA-256 of the chat template, and of the date that it writes, if it does."""
    template, day = tokenizer.chat_template, written_date(tokenizer)
    return sha256_json(template if day is None else {"template": template, "date": day})


def tokenizer_sha256(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Hex SHA-256 of what turns text into ids; padding and truncation, which every call may change, are left out."""
    backend = loads_strict(tokenizer.backend_tokenizer.to_str())
    kept = {key: value for key, value in backend.items() if key not in ("padding", "truncation")}
    return sha256_json({"tokenizer": kept, "special_tokens": tokenizer.special_tokens_map})


def _styled(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], specs: Sequence[ToolSpec], style: ToolsInPrompt
) -> tuple[list[Message], list[ToolSpec]]:
    """The messages and template tools of a prompt style.

    The tools come before the user's own system text, so that prompts share their beginning where that text varies.
    """
    shown = list(messages)
    if style == "full":
        return shown, list(specs)
    if style == "compact" and specs:
        example = calls_text(tokenizer, [_EXAMPLE_CALL])
        signatures = "\n".join(compact_signature(spec) for spec in specs)
        text = (
            f"You can call these tools; an argument with ? is optional, give it only when the request does:\n"
            f"{signatures}\n\n"
            f"To call tools, answer with one call per tool and nothing else, each written like this:\n{example}\n"
            f"When no tool fits or a required value is missing, answer in words."
        )
        if shown and shown[0].role == "system":
            own = shown.pop(0).content
            text = f"{text}\n\n{own}" if own else text
        shown.insert(0, Message(role="system", content=text))
    return shown, []


def _template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as templates expect them: arguments as objects, no nulls, calls and results tied by id and order.

    What the assistant thought has each of the names by which templates ask for it.
    """
    return [
        message.model_dump(mode="json")
        | (dict.fromkeys(THOUGHT_FIELDS, message.reasoning) if message.reasoning else {})
        for message in tie_results(messages)
    ]


def _render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    specs: Sequence[ToolSpec],
    add_generation_prompt: bool = False,
) -> str:
    tools = [FunctionTool(function=spec).model_dump(mode="json") for spec in specs]
    try:
        template = tokenizer.get_chat_template(tools=tools or None)
        text = tokenizer.apply_chat_template(
            _template_messages(messages),
            tools=tools or None,
            chat_template=clocked(template),
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            **clock_arguments(tokenizer, template),
        )
    except Exception as error:  # a template is a foreign program and may raise anything
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path!r} refuses a conversation with roles "
            f"{[message.role for message in messages]}: {error}",
            required="a template that renders these roles",
            fix=f"change the conversation, or {KIT_REMEDY}",
        ) from error
    return str(text)


def _render_quoted(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    specs: Sequence[ToolSpec],
    quoting: Quoting,
    add_generation_prompt: bool = False,
) -> str:
    """What the template makes of marked messages and tools; but for the marks, it is what it makes of them without."""
    text = _render(tokenizer, messages, specs, add_generation_prompt)
    if quoting.marks:
        unmarked = quoting.unquoted(list(messages)), quoting.unquoted(list(specs))
        if quoting.plain(text) != _render(tokenizer, *unmarked, add_generation_prompt):
            raise ModelError(
                f"the chat template of {tokenizer.name_or_path!r} changes the text of control tokens, such as "
                f"{quoting.tokens[0]!r}, in a conversation or its tools",
                required="conversations and tools without such texts, for this template",
                fix="remove or reword the text, or use the model with another chat template",
            )
    return text


def _without_thought(message: Message) -> Message:
    return message.model_copy(update={"reasoning": ""}) if message.reasoning else message


def _require_thought(tokenizer: "PreTrainedTokenizerBase", answer: str, thought: str) -> None:
    """Refuse an answer of which another thought is read than it was written with."""
    read = parse_output(answer, expected=call_format(tokenizer).dialect).thought
    if read != thought:
        raise ModelError(
            f"the thought before an answer can't be told from it: {thought[:60]!r} is read as {read[:60]!r}",
            required="a chat template that writes thoughts as they are, and thoughts without marks of thoughts",
            fix="remove such marks from the thought, or the thought from the trace, or set keep_thinking to false",
        )


def _token_classes(text: str, offsets: Sequence[tuple[int, int]], dialect: str) -> list[TokenClass]:
    by_character = [kind for start, end, kind in class_spans(text, expected=dialect) for _ in range(start, end)]
    classes: list[TokenClass] = []
    for start, end in offsets:
        counts = Counter(by_character[start:end] or by_character[start : start + 1] or by_character[-1:])
        most = max(counts.values(), default=0)
        classes.append(next((kind for kind in _CLASS_PRIORITY if counts[kind] == most), "structure"))
    return classes


def _request_position(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], specs: Sequence[ToolSpec], prompt: str
) -> int:
    """Character of the prompt where the last user message's content begins: where another content changes the text."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    if not users:
        return len(prompt)
    content = messages[users[-1]].content.lstrip()
    changed = list(messages)
    changed[users[-1]] = Message(role="user", content="B" if content.startswith("A") else "A")
    other = _render(tokenizer, changed, specs, add_generation_prompt=True)
    return len(os.path.commonprefix([prompt, other]))


def _after_prompt(tokenizer: "PreTrainedTokenizerBase", answer: Message) -> str:
    tools: list[ToolSpec] = []
    try:
        prompt = _render(tokenizer, [_PROBE_REQUEST], tools, add_generation_prompt=True)
    except ModelError:  # some templates render nothing without a tool
        tools = [_PROBE_TOOL]
        prompt = _render(tokenizer, [_PROBE_REQUEST], tools, add_generation_prompt=True)
    full = _render(tokenizer, [_PROBE_REQUEST, answer], tools)
    found = continued(prompt, full, answer.reasoning)
    return full[len(os.path.commonprefix([prompt, full])) :] if found is None else found


def _split_at_stop(tokenizer: "PreTrainedTokenizerBase", answer: str) -> tuple[str, str]:
    """An answer as it is rendered: what a model writes of it, and the token that ends it.

    Some templates end calls with another token than words (gpt-oss, Gemma 4): that one then stands last.
    """
    stop = _stop_token(tokenizer)
    if stop in answer:
        return answer[: answer.rindex(stop)], stop
    bare = answer.rstrip()
    for token in _special_tokens(tokenizer):
        body = bare.removesuffix(token)
        if bare.endswith(token) and _says_the_same(body, bare):
            return body, token
    return answer, stop


def _says_the_same(one: str, other: str) -> bool:
    first, second = parse_output(one), parse_output(other)
    return (first.calls, first.errors) == (second.calls, second.errors) and bool(first.calls)


def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


def _stop_token(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The first special token that the template writes after an answer, else the end-of-sequence token."""
    after = _after_prompt(tokenizer, Message(role="assistant", content="probe-answer")).partition("probe-answer")[2]
    found = [(after.index(token), token) for token in _special_tokens(tokenizer) if token in after]
    return min(found)[1] if found else str(tokenizer.eos_token)


def _shows_tools(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the template shows tools, calls with arguments as an object, and results."""
    conversation = [_PROBE_REQUEST, Message.calling([_PROBE_CALL]), _PROBE_RESULT]
    try:
        text = _render(tokenizer, conversation, [_PROBE_TOOL], add_generation_prompt=True)
    except ModelError:
        return False
    shown = ("probe-description", "probe-request", "probe-value", "probe-result")
    is_double_encoded = '\\"probe_key' in text
    return all(sentinel in text for sentinel in shown) and not is_double_encoded
