import functools

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from fcdistill.distillation.tokenizers.token_strings import TokenStrings, pair_strings, token_strings
from fcdistill.errors import ModelError
from fcdistill.prompts.rendering import prepare_tokenizer
from tests.tiny import TokenizerKind, tiny_tokenizer

KINDS: tuple[TokenizerKind, ...] = ("chatml", "metaspace", "plain", "qwen", "unigram")


@functools.cache
def _tokenizer(kind: TokenizerKind) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(kind)
    prepare_tokenizer(tokenizer)
    return tokenizer


@functools.cache
def _strings(kind: TokenizerKind) -> TokenStrings:
    return token_strings(_tokenizer(kind))


def test_tokenizers_whose_bytes_are_unknown_are_refused() -> None:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "[SEP]": 2}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[SEP]", name_or_path="words")
    with pytest.raises(ModelError, match=r"tokenizer 'words' does not show .* \(its decoder is WordPiece\)"):
        token_strings(tokenizer)


def test_strings_of_a_tokenizer() -> None:
    qwen, metaspace = _strings("qwen"), _strings("metaspace")
    tokenizer = _tokenizer("qwen")
    call = tokenizer.convert_tokens_to_ids("<tool_call>")
    assert qwen.strings[call] == b"<tool_call>" and call in qwen.added and call not in qwen.special
    assert qwen.strings[tokenizer.convert_tokens_to_ids("Ġthe")] == b" the"
    assert qwen.strings[qwen.stop_id] == b"<|im_end|>" and qwen.stop_id in qwen.special and not qwen.fallback
    assert metaspace.strings[3:259] == tuple(bytes([byte]) for byte in range(256))
    assert metaspace.fallback == set(range(3, 259)) and metaspace.strings[metaspace.stop_id] == b"</s>"


def _table(strings: list[bytes], **fields: object) -> TokenStrings:
    values = {"added": frozenset(), "special": frozenset(), "fallback": frozenset(), "stop_id": 0, **fields}
    return TokenStrings("table", tuple(strings), **values)  # type: ignore[arg-type]


def test_tokens_are_paired_by_their_bytes_and_stop_tokens_by_their_role() -> None:
    student = _table([b"<end>", b"a", b" a", b"b", b"<s>", b"", b"c"], special=frozenset({0, 4}))
    teacher = _table([b" a", b"</s>", b"a", b"<s>", b"d", b"", b"b"], special=frozenset({1, 3}), stop_id=1)
    pairs = pair_strings(student, teacher)
    assert pairs.teacher_id_of == {1: 2, 2: 0, 3: 6, 0: 1}
    assert pairs.shared_fraction == 3 / 4


def test_strings_that_several_tokens_write_are_not_paired_but_byte_tokens_give_way() -> None:
    once = _table([b"</s>", b"a", b"b", b"\xc3"])
    assert pair_strings(_table([b"</s>", b"a", b"a", b"b"]), once).teacher_id_of == {3: 2, 0: 0}
    assert pair_strings(once, _table([b"</s>", b"a", b"a", b"b"])).teacher_id_of == {2: 3, 0: 0}
    fallback = _table([b"</s>", b"a", b"\xc3", b"a"], fallback=frozenset({1, 2}))
    assert pair_strings(once, fallback).teacher_id_of == {1: 3, 3: 2, 0: 0}


@pytest.mark.parametrize("student", KINDS)
@pytest.mark.parametrize("teacher", KINDS)
def test_pairs_are_one_to_one_and_write_the_same(student: TokenizerKind, teacher: TokenizerKind) -> None:
    pairs = pair_strings(_strings(student), _strings(teacher))
    assert len(set(pairs.teacher_id_of.values())) == len(pairs.teacher_id_of) > 50
    for student_id, teacher_id in pairs.teacher_id_of.items():
        if student_id != pairs.student.stop_id:
            assert pairs.student.strings[student_id] == pairs.teacher.strings[teacher_id]
    if student == teacher:
        assert pairs.shared_fraction == 1 and all(a == b for a, b in pairs.teacher_id_of.items())
