"""One text, cut by two tokenizers: which tokens of the one cover the same bytes as which tokens of the other.

A span is the smallest stretch of text at whose ends both sides have a token boundary. The stop tokens of both sides
are the end of the last one. Models and losses are not known here.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from fcdistill.distillation.tokenizers.token_strings import StringPairs, TokenStrings
from fcdistill.errors import DataError

__all__ = ["Alignment", "Span", "align_example", "common_ends", "cut_text", "shared_spans"]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens of both sides that cover the same bytes, and that no shorter ones of both sides tile."""

    student: range
    """Indices of the student's completion tokens."""
    teacher: range
    """Indices of the teacher's completion tokens."""
    start_byte: int
    end_byte: int
    """Place in the completion's text; the stop tokens stand behind it and have no bytes."""

    @property
    def one_to_one(self) -> bool:
        """Whether it is a single token on both sides."""
        return len(self.student) == len(self.teacher) == 1


@dataclass(frozen=True)
class Alignment:
    """How an example's tokens on the two sides belong together."""

    teacher_completion: tuple[int, ...]
    """The student's completion text in the teacher's ids, then the teacher's stop token."""
    spans: tuple[Span, ...]
    """They tile the completions of both sides; the stop tokens are in the last one."""
    paired: tuple[bool, ...]
    """For each span: a single token a side, and the two are a pair, so that whole distributions can be compared."""
    request_ends: tuple[tuple[int, int], ...]
    """Tokens of the request (student, teacher) at which both sides have read equally far, counted from the end of the
    prompts: the last pair is (-1, -1)."""

    @property
    def read_ends(self) -> tuple[tuple[int, int], ...]:
        """Completion tokens (student, teacher) that end a span. Nothing is read after the stop tokens: left out."""
        return tuple((span.student[-1], span.teacher[-1]) for span in self.spans[:-1])


def cut_text(text: str, ids: Sequence[int], side: TokenStrings, origin: str) -> list[bytes]:
    """The piece of a text that each token covers.

    Args:
        text: what the tokens encode.
        ids: its tokens.
        side: what they write.
        origin: how the error calls the text.

    Returns:
        What the tokens write, without the space that SentencePiece puts at the beginning and after added tokens.

    Raises:
        DataError: the tokens write something else, because the tokenizer normalises its text.
    """
    raw = text.encode()
    pieces: list[bytes] = []
    place = 0
    for segment in _segments(ids, side.added):
        strings = [side.strings[index] for index in segment]
        written = b"".join(strings)
        if written.startswith(b" ") and not raw.startswith(written, place):
            strings[0], written = strings[0][1:], written[1:]
        if not raw.startswith(written, place):
            raise _changed(raw[place:], written, side, origin)
        pieces += strings
        place += len(written)
    if place < len(raw):
        raise _changed(raw[place:], b"", side, origin)
    return pieces


def _segments(ids: Sequence[int], added: frozenset[int]) -> Iterator[Sequence[int]]:
    """The ids between added tokens, and each added token by itself."""
    start = 0
    for place, index in enumerate(ids):
        if index in added:
            if place > start:
                yield ids[start:place]
            yield ids[place : place + 1]
            start = place + 1
    if start < len(ids):
        yield ids[start:]


def _changed(expected: bytes, written: bytes, side: TokenStrings, origin: str) -> DataError:
    same = len(os.path.commonprefix([expected, written]))
    before = max(same - 10, 0)
    shown = [raw[before : same + 20].decode(errors="replace") for raw in (expected, written)]
    return DataError(
        f"{origin}: tokenizer {side.name!r} changes the answer, which has {shown[0]!r} where its tokens write "
        f"{shown[1]!r}",
        required="an answer that both tokenizers keep byte by byte, where teacher and student have different ones",
        fix="write the answer as the tokenizer does (most of them compose characters: Unicode NFC), or remove it",
    )


def shared_spans(student: Sequence[bytes], teacher: Sequence[bytes]) -> tuple[Span, ...]:
    """Cut a text wherever both sides have a token boundary; the last span holds the stop tokens.

    Args:
        student: the piece of the text that each of the student's tokens covers, without the stop token.
        teacher: the same of the teacher's tokens.

    Returns:
        Spans that tile text and tokens; a token without bytes belongs to the token before it, else to the first span.

    Raises:
        ValueError: the pieces do not add up to one text.
    """
    if b"".join(student) != b"".join(teacher):
        raise ValueError("student and teacher pieces are no cuts of one text")
    num_bytes = sum(map(len, student))
    # The stop tokens count as one byte after the text, so that they end a span and nothing else does there.
    student_ends = [*accumulate(map(len, student)), num_bytes + 1]
    teacher_ends = [*accumulate(map(len, teacher)), num_bytes + 1]
    spans: list[Span] = []
    student_start = teacher_start = start_byte = 0
    for cut in sorted(({*student_ends} & {*teacher_ends}) - {0}):
        student_stop, teacher_stop = bisect_right(student_ends, cut), bisect_right(teacher_ends, cut)
        end_byte = min(cut, num_bytes)
        spans.append(Span(range(student_start, student_stop), range(teacher_start, teacher_stop), start_byte, end_byte))
        student_start, teacher_start, start_byte = student_stop, teacher_stop, end_byte
    return tuple(spans)


def common_ends(student: Sequence[bytes], teacher: Sequence[bytes]) -> tuple[tuple[int, int], ...]:
    """Token indices (student, teacher) at which two texts with a common ending have been read equally far.

    Args:
        student: what each of the student's tokens writes; not empty.
        teacher: what each of the teacher's tokens writes; not empty.

    Returns:
        Pairs of tokens that lie in the common ending and end at the same byte of it, ascending; the two last tokens
        are one even if they differ.
    """
    backwards = [b"".join(side)[::-1] for side in (student, teacher)]
    num_common = len(os.path.commonprefix(backwards))
    student_ends, teacher_ends = dict(_ends_within(student, num_common)), dict(_ends_within(teacher, num_common))
    pairs = {(student_ends[end], teacher_ends[end]) for end in student_ends.keys() & teacher_ends.keys()}
    return tuple(sorted(pairs | {(len(student) - 1, len(teacher) - 1)}))


def _ends_within(strings: Sequence[bytes], num_bytes: int) -> Iterator[tuple[int, int]]:
    """(bytes after it, its index) of each token that lies in the last so many bytes."""
    after = 0
    for index in reversed(range(len(strings))):
        start = after + len(strings[index])
        if start > num_bytes:
            return
        if strings[index]:
            yield after, index
        after = start


def align_example(
    text: str,
    pairs: StringPairs,
    *,
    student_completion: Sequence[int],
    teacher_completion: Sequence[int],
    student_request: Sequence[int],
    teacher_prompt: Sequence[int],
    origin: str,
) -> Alignment:
    """Align a completion, and the request before it.

    Args:
        text: the completion's text, without a stop token.
        pairs: the two tokenizers.
        student_completion: the text's ids and the stop token.
        teacher_completion: the same for the teacher.
        student_request: the last tokens of the student's prompt, as many as belong to the request; at least one.
        teacher_prompt: all that the teacher reads before the completion.
        origin: how the error calls the text.

    Raises:
        DataError: a tokenizer changes the text.
    """
    spans = shared_spans(
        cut_text(text, student_completion[:-1], pairs.student, origin),
        cut_text(text, teacher_completion[:-1], pairs.teacher, origin),
    )
    ends = common_ends(
        [pairs.student.strings[index] for index in student_request],
        [pairs.teacher.strings[index] for index in teacher_prompt],
    )
    return Alignment(
        teacher_completion=tuple(teacher_completion),
        spans=spans,
        paired=tuple(
            span.one_to_one
            and pairs.teacher_id_of.get(student_completion[span.student[0]]) == teacher_completion[span.teacher[0]]
            for span in spans
        ),
        request_ends=tuple(
            (student - len(student_request), teacher - len(teacher_prompt)) for student, teacher in ends
        ),
    )
