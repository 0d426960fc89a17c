import functools
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from fcdistill.distillation.tokenizers.spans import Span, align_example, common_ends, cut_text, shared_spans
from fcdistill.distillation.tokenizers.token_strings import StringPairs, TokenStrings, pair_strings, token_strings
from fcdistill.errors import DataError
from fcdistill.prompts.rendering import prepare_tokenizer
from tests.tiny import TokenizerKind, tiny_tokenizer

KINDS: tuple[TokenizerKind, ...] = ("chatml", "metaspace", "plain", "qwen", "unigram")
CALL = '<tool_call>\n{"name": "set_light", "arguments": {"room": "kitchen"}}\n</tool_call>'

# Words of the tiny corpus make long tokens; the rest is cut into characters and bytes.
texts = st.lists(
    st.one_of(
        st.sampled_from(
            [" ", "  ", "\n", "<tool_call>", "</tool_call>", '{"name": "set_light"', "kitchen", "é", "🙂", "日"]
        ),
        st.text(st.characters(exclude_characters="\u2581", exclude_categories=["Cs"]), max_size=4),
    ),
    max_size=8,
).map("".join)


@functools.cache
def _tokenizer(kind: TokenizerKind) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(kind)
    prepare_tokenizer(tokenizer)
    return tokenizer


@functools.cache
def _strings(kind: TokenizerKind) -> TokenStrings:
    return token_strings(_tokenizer(kind))


def _pieces(kind: TokenizerKind, text: str) -> list[bytes]:
    ids = _tokenizer(kind).encode(text, add_special_tokens=False)
    pieces = cut_text(text, ids, _strings(kind), "text")
    assert len(pieces) == len(ids) and b"".join(pieces) == text.encode()
    return pieces


@pytest.mark.parametrize("student", KINDS)
@pytest.mark.parametrize("teacher", KINDS)
@given(text=texts)
@example(text="")
@example(text=CALL + " 🙂é")
def test_spans_tile_the_text_and_the_tokens_of_both_sides(
    student: TokenizerKind, teacher: TokenizerKind, text: str
) -> None:
    students, teachers = _pieces(student, text), _pieces(teacher, text)
    spans = shared_spans(students, teachers)
    assert [index for span in spans for index in span.student] == list(range(len(students) + 1))
    assert [index for span in spans for index in span.teacher] == list(range(len(teachers) + 1))
    bounds = [0, *(span.end_byte for span in spans)]
    assert [span.start_byte for span in spans] == bounds[:-1] and bounds[-1] == len(text.encode())
    for span in spans[:-1]:
        expected = text.encode()[span.start_byte : span.end_byte]
        assert expected and b"".join(students[index] for index in span.student) == expected
        assert b"".join(teachers[index] for index in span.teacher) == expected
        # The smallest: no boundary within is one of both sides.
        inner = [
            {end for end in itertools.accumulate(len(side[index]) for index in tokens)} - {0, len(expected)}
            for side, tokens in ((students, span.student), (teachers, span.teacher))
        ]
        assert not inner[0] & inner[1]


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
def test_one_tokenizer_gives_one_to_one_spans(kind: TokenizerKind, text: str) -> None:
    pieces = _pieces(kind, text)
    spans = shared_spans(pieces, pieces)
    assert all(span.student == span.teacher for span in spans)
    if all(pieces):
        assert all(span.one_to_one for span in spans)


def test_spans_of_a_call() -> None:
    """<tool_call> is one token of the teacher and several of the student; the stop tokens are one pair."""
    spans = shared_spans([b"<", b"tool", b"_call>", b'{"', b"a"], [b"<tool_call>", b'{"a'])
    assert spans == (
        Span(range(0, 3), range(0, 1), 0, 11),
        Span(range(3, 5), range(1, 2), 11, 14),
        Span(range(5, 6), range(2, 3), 14, 14),
    )
    assert [span.one_to_one for span in spans] == [False, False, True]


def test_an_empty_answer_is_its_stop_token() -> None:
    assert shared_spans([], []) == (Span(range(0, 1), range(0, 1), 0, 0),)
    assert shared_spans([b""], []) == (Span(range(0, 2), range(0, 1), 0, 0),)


def test_pieces_of_different_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="no cuts of one text"):
        shared_spans([b"a"], [b"b"])


@pytest.mark.parametrize("kind", ["metaspace", "unigram"])
def test_sentencepiece_spaces_are_those_of_the_text(kind: TokenizerKind) -> None:
    for text in ("light", " light", "  light", "a<tool_call>light", "a <tool_call> light", "\n"):
        _pieces(kind, text)
    tokenizer = _tokenizer(kind)
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("light", add_special_tokens=False))[0].startswith("\u2581")


def test_half_characters_are_bytes_on_every_side() -> None:
    assert [len(piece) for piece in _pieces("metaspace", "é🙂")] == [0, 1, 1, 1, 1, 1, 1]
    spans = shared_spans(_pieces("unigram", "é🙂"), _pieces("qwen", "é🙂"))
    assert [(span.start_byte, span.end_byte) for span in spans[:-1]] == [(n, n + 1) for n in range(6)]


def test_a_text_that_a_tokenizer_changes_is_refused() -> None:
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    prepare_tokenizer(tokenizer)
    text = "a cafe\u0301 here"
    ids = tokenizer.encode(text, add_special_tokens=False)
    with pytest.raises(DataError) as error:
        cut_text(text, ids, token_strings(tokenizer), "trace 'x'")
    assert error.value.found.startswith("trace 'x': tokenizer ")
    assert f"has {'a cafe' + chr(0x301) + ' here'!r} where its tokens write {'a café here'!r}" in error.value.found
    assert "NFC" in error.value.fix
    with pytest.raises(DataError, match="where its tokens write ''"):
        cut_text("ab", _tokenizer("qwen").encode("a"), _strings("qwen"), "trace")


def _align(pairs: StringPairs, student: TokenizerKind, teacher: TokenizerKind, text: str):
    sides = [_tokenizer(kind).encode(text, add_special_tokens=False) for kind in (student, teacher)]
    prompts = [
        _tokenizer(kind).encode(prompt, add_special_tokens=False)
        for kind, prompt in ((student, "be brief. Turn on the light!"), (teacher, "with tools: Turn on the light!"))
    ]
    aligned = align_example(
        text,
        pairs,
        student_completion=[*sides[0], pairs.student.stop_id],
        teacher_completion=[*sides[1], pairs.teacher.stop_id],
        student_request=prompts[0][-12:],
        teacher_prompt=prompts[1],
        origin="text",
    )
    return aligned, sides, prompts


def test_an_aligned_example_pairs_equal_strings_only() -> None:
    pairs = pair_strings(_strings("metaspace"), _strings("qwen"))
    aligned, (student_ids, teacher_ids), _ = _align(pairs, "metaspace", "qwen", 'name{"')
    assert aligned.teacher_completion == (*teacher_ids, _strings("qwen").stop_id)
    # What covers "name" is the student's " name": at the beginning its tokenizer adds a space.
    assert _strings("metaspace").strings[student_ids[0]] == b" name"
    assert [(span.one_to_one, paired) for span, paired in zip(aligned.spans, aligned.paired, strict=True)] == [
        (True, False),
        (True, True),
        (True, True),
    ]
    assert aligned.read_ends == ((0, 0), (1, 1))


@pytest.mark.parametrize(("student", "teacher"), [("chatml", "qwen"), ("unigram", "qwen"), ("plain", "metaspace")])
def test_the_request_is_aligned_where_both_prompts_end_alike(student: TokenizerKind, teacher: TokenizerKind) -> None:
    pairs = pair_strings(_strings(student), _strings(teacher))
    aligned, _, prompts = _align(pairs, student, teacher, CALL)
    assert aligned.request_ends[-1] == (-1, -1) and len(aligned.request_ends) > 3
    for student_end, teacher_end in aligned.request_ends:
        read = [
            b"".join(side.strings[index] for index in ids[len(ids) + end + 1 :])
            for side, ids, end in zip((pairs.student, pairs.teacher), prompts, (student_end, teacher_end), strict=True)
        ]
        assert read[0] == read[1]
        assert len(prompts[0]) + student_end >= len(prompts[0]) - 12


def test_common_ends() -> None:
    assert common_ends([b"x", b"ab", b"c"], [b"y", b"a", b"b", b"c"]) == ((1, 2), (2, 3))
    assert common_ends([b"xab", b"c"], [b"ab", b"c"]) == ((1, 1),), "xab is not in the common ending"
    assert common_ends([b"a", b"b"], [b"a", b"c"]) == ((1, 1),), "the last tokens are a pair anyhow"
    assert common_ends([b"a", b"", b"b"], [b"", b"a", b"b"]) == ((0, 1), (2, 2))
