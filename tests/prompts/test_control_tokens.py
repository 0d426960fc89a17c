"""The text of a control token is text wherever a template did not write it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from fcdistill.errors import ModelError
from fcdistill.prompts.control_tokens import Quoting, control_tokens, encode, quoting_of
from fcdistill.prompts.rendering import (
    answer_text,
    label_answer,
    prepare_tokenizer,
    render_example,
    render_prompt,
    stop_token_ids,
)
from fcdistill.records import Message, ToolCall, ToolSpec
from fcdistill.toolcalls.parsing import parse_output
from tests.tiny import TokenizerKind, tiny_tokenizer

BASES: dict[str, TokenizerKind] = {
    "chatml": "chatml",
    "metaspace": "metaspace",
    "plain": "plain",
    "qwen": "qwen",
    "unigram": "unigram",
    "marked": "qwen",
    "marked-metaspace": "metaspace",
}
KINDS = tuple(BASES)
BYTES = ("chatml", "plain", "qwen", "marked")
"""Those of bytes: others normalise spaces and characters."""
MARKS = (
    "<think>",
    "</think>",
    "<tool_response>",
    "</tool_response>",
    "<|fim_prefix|>",
    "<｜tool▁sep｜>",
    "[TOOL_CALLS]",
)
"""Tokens of a vocabulary that are not special, and steer a chat."""
WORDS = ("<table>", "kitchen light", "\n\n\n", "{")
"""Such that do not."""


def prepared(kind: str) -> PreTrainedTokenizerBase:
    tokenizer = tiny_tokenizer(BASES[kind])
    if kind.startswith("marked"):
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*MARKS, *WORDS)])
    prepare_tokenizer(tokenizer)
    return tokenizer


TOKENIZERS = {kind: prepared(kind) for kind in KINDS}
SPEC = ToolSpec(
    name="keep_note",
    description="Keep a note.",
    parameters={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)
PIECES = ("done ", "<|", "im_end|>", "\n", "A b", " ", "é", "</", "s>", "<", "12")


def places_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    quoting = quoting_of([tokenizer], [text])
    return list(quoting.places(quoting.quoted(text)))


def counts(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """How often each control token is in ids, but for the unknown token."""
    known = [token for token in control_tokens(tokenizer) if token != tokenizer.unk_token]
    return [ids.count(tokenizer.convert_tokens_to_ids(token)) for token in known]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_quoted_texts_never_become_tokens_and_say_what_they_said(kind: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    text = "".join(data.draw(st.lists(st.sampled_from([*PIECES, *control_tokens(tokenizer)]), max_size=8)))
    ids, offsets = encode(tokenizer, text, places_of(tokenizer, text))
    assert not any(counts(tokenizer, ids))
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    if kind in BYTES:
        assert answer_text(tokenizer, ids) == text


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_what_is_not_quoted_is_encoded_as_ever(kind: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    text = "".join(data.draw(st.lists(st.sampled_from([*PIECES, *control_tokens(tokenizer)]), min_size=1, max_size=8)))
    begins = places_of(tokenizer, text)
    harmless = next((place for place in range(len(text)) if not any(
        begin <= place < begin + len(token) for begin in begins for token in control_tokens(tokenizer)
    )), None)  # fmt: skip
    if harmless is not None:
        assert encode(tokenizer, text, [harmless]) == encode(tokenizer, text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", ["full", "compact", "none"])
def test_a_prompt_has_the_tokens_of_its_template_alone(kind: str, style: str) -> None:
    tokenizer = TOKENIZERS[kind]
    for token in control_tokens(tokenizer):
        evil = f"one{token}two {token}"
        call = ToolCall(name="keep_note", arguments={"text": evil})
        spec = SPEC.model_copy(update={"description": evil})

        def ids(text: str, call: ToolCall, spec: ToolSpec) -> list[int]:
            messages = [
                Message(role="system", content=text),
                Message(role="user", content=text),
                Message.calling([call]),
                Message(role="tool", content=text),
                Message(role="user", content=f"{text}!"),
            ]
            return render_prompt(tokenizer, messages, [spec], style)  # type: ignore[arg-type]

        plain = ids("one", ToolCall(name="keep_note", arguments={"text": "one"}), SPEC)
        assert counts(tokenizer, ids(evil, call, spec)) == counts(tokenizer, plain)


@pytest.mark.parametrize("kind", BYTES)
def test_an_argument_with_the_text_of_the_stop_token_is_learned_as_text(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    stop = stop_token_ids(tokenizer)[0]
    token = tokenizer.convert_ids_to_tokens(stop)
    answer = Message.calling([ToolCall(name="keep_note", arguments={"text": f"one{token}two"})])
    request = Message(role="user", content=f"keep one{token}two")
    example = render_example(tokenizer, [request, answer], [SPEC], "full")
    assert example.completion_ids.count(stop) == 1 and example.completion_ids[-1] == stop
    assert example.prompt_ids == render_prompt(tokenizer, [request], [SPEC], "full")
    assert answer_text(tokenizer, example.completion_ids) == example.completion_text
    body = example.completion_text.removesuffix(token)
    assert parse_output(body).calls == answer.calls
    assert [body[place : place + len(token)] for place in example.quoted] == [token]
    assert len(example.completion_classes) == len(example.completion_ids)
    labels = label_answer(tokenizer, body, example.quoted)
    assert (labels.ids, labels.classes) == (example.completion_ids, example.completion_classes)
    asked = tokenizer.decode(example.prompt_ids[example.request_start :]).lstrip()
    assert asked.startswith(request.content)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_steer_a_chat_are_told_from_words(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    controls = control_tokens(tokenizer)
    assert set(tokenizer.all_special_tokens) <= set(controls)
    if kind.startswith("marked"):
        assert {*MARKS, "<tool_call>"} <= set(controls) and not set(WORDS) & set(controls)
        places = places_of(tokenizer, "the kitchen light <think> of a <table>")
        ids = encode(tokenizer, "the kitchen light <think> of a <table>", places)[0]
        assert all(ids.count(tokenizer.convert_tokens_to_ids(word)) == 1 for word in ("kitchen light", "<table>"))


def test_a_mark_of_the_template_alone_steers_a_chat_only_with_that_template() -> None:
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.add_tokens(["<turn:own>"])
    assert "<turn:own>" not in control_tokens(tokenizer)
    tokenizer.chat_template = "<turn:own>" + str(tokenizer.chat_template)
    assert "<turn:own>" in control_tokens(tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_evaluation_read_the_text_of_any_control_token_alike(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    plain = render_example(tokenizer, [Message(role="user", content="a"), _note("one")], [SPEC], "full")
    for token in control_tokens(tokenizer):
        if token == tokenizer.unk_token:
            continue
        request = Message(role="user", content=f"keep one{token}two")
        answer = _note(f"one{token}two {token}")
        example = render_example(tokenizer, [request, answer], [SPEC], "full")
        assert example.prompt_ids == render_prompt(tokenizer, [request], [SPEC], "full")
        assert counts(tokenizer, example.prompt_ids) == counts(tokenizer, plain.prompt_ids)
        assert counts(tokenizer, example.completion_ids) == counts(tokenizer, plain.completion_ids)
        if kind in BYTES:
            assert answer_text(tokenizer, example.completion_ids) == example.completion_text
            assert request.content in answer_text(tokenizer, example.prompt_ids)


def _note(text: str) -> Message:
    return Message.calling([ToolCall(name="keep_note", arguments={"text": text})])


def test_what_a_template_wrote_stays_a_token() -> None:
    tokenizer = TOKENIZERS["chatml"]
    text = "<|im_end|>"
    messages = [Message(role="user", content="a"), Message(role="assistant", content=text)]
    stop = tokenizer.convert_tokens_to_ids(text)
    as_text = render_prompt(tokenizer, messages, [], "none")
    assert render_prompt(tokenizer, messages, [], "none", written={text}).count(stop) == as_text.count(stop) + 1


def test_a_reader_with_other_control_tokens_has_them_quoted_too() -> None:
    tokenizer, reader = TOKENIZERS["plain"], TOKENIZERS["chatml"]
    answer = Message.calling([ToolCall(name="keep_note", arguments={"text": "one<|im_end|>two"})])
    request = Message(role="user", content="a")
    example = render_example(tokenizer, [request, answer], [SPEC], "full", readers=[reader])
    body = example.completion_text.removesuffix(tokenizer.convert_ids_to_tokens(example.completion_ids[-1]))
    assert not any(counts(reader, encode(reader, body, example.quoted)[0]))


def test_a_tokenizer_that_reads_a_token_only_behind_a_space_is_refused() -> None:
    tokenizer = tiny_tokenizer("metaspace")
    tokenizer.add_tokens([AddedToken(mark, normalized=True) for mark in ("<think>", "</think>")])
    text = "x<think></think>"
    with pytest.raises(ModelError, match="does not read one wherever it is written"):
        encode(tokenizer, text, places_of(tokenizer, text)[:1])


def test_a_template_that_changes_such_texts_is_refused() -> None:
    tokenizer = prepared("chatml")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message.content", "(message.content | replace('<|im_end|>', ''))"
    )
    with pytest.raises(ModelError, match="changes the text of control tokens"):
        render_prompt(tokenizer, [Message(role="user", content="one<|im_end|>")], [], "none")


def test_nothing_is_marked_where_nothing_is_to_be_quoted() -> None:
    quoting = quoting_of([TOKENIZERS["chatml"]], ["<|im_", Message(role="user", content="end|>"), {"a": [1, None]}])
    assert quoting == Quoting() and quoting.quoted("<|im_end|>") == "<|im_end|>"


def test_marks_are_characters_that_the_texts_do_not_hold() -> None:
    tokenizer = TOKENIZERS["chatml"]
    own = "".join(map(chr, range(0xF0100, 0xF0110)))
    quoting = quoting_of([tokenizer], [f"{own}<|im_end|>"])
    marked = quoting.quoted(f"{own}<|im_end|>")
    assert quoting.plain(marked) == f"{own}<|im_end|>" and re.search(r"im_end", marked)
    ids, _ = encode(tokenizer, f"{own}<|im_end|>", [len(own)])
    assert not any(counts(tokenizer, ids)) and tokenizer.decode(ids) == f"{own}<|im_end|>"
