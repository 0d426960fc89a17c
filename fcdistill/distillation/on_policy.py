"""On-policy distillation: on some optimizer steps the student learns from its own answers, scored by the teacher.

The traces show the student only the beginnings of right answers; at inference it goes on from what it wrote itself. On
an on-policy step each of the step's traces keeps its prompts, and its answer gives way to one that the student, as it
is at that step, samples. No gradient flows through the sampling. Source: generalised knowledge distillation, Agarwal et
al. 2024 (arXiv:2306.13649), algorithm 1.

Whole optimizer steps are on-policy or not, so that a step's loss is one thing whatever its micro batches and processes.
What a term of the objective does on such a step:

    CE      nothing. Nobody has verified the sampled tokens; to imitate them would only sharpen the student.
    D       compares the two distributions after each sampled token, as it does after a trace's. The rows are those of
            the sample, the stop token's included where the student wrote one; a sample that was cut off has none.
    H       aligns the same positions as on traces: both models have read the same text there.

Each is divided by the totals of the step's samples. Class weights apply: a sample's tokens have the classes of its
text, by the classifier that classifies the traces'; it divides any text, and takes a call that is never closed as
`structure`.

Which steps are on-policy, and what is sampled, follows from the seed, the step and the trace's id alone; torch's and
Python's global generators are not touched. A resumed run therefore repeats what the interrupted one would have done.

A teacher with another tokenizer reads the sample's text in its own tokens, aligned as a trace's is. Of a sample that is
cut off, the last span is left out, since it ends where the cut is and not where the text may be divided. Of one whose
text a tokenizer can't keep (half a character, an uncomposed one), only the position after the prompt is compared. The
text of a control token that the student spells in prose or in an argument is text to the teacher too.
"""

import contextlib
import dataclasses
import itertools
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fcdistill.backends.local.continuation import Row, continued
from fcdistill.backends.local.decoding import Decoder
from fcdistill.config import CLASS_NAMES, DecodeSettings, TrainConfig
from fcdistill.distillation.batches import MicroBatch
from fcdistill.distillation.eval_mode import answering
from fcdistill.distillation.examples.examples import Example
from fcdistill.distillation.preparation import Prepared
from fcdistill.distillation.tokenizers.spans import Alignment, align_example
from fcdistill.distillation.tokenizers.token_strings import StringPairs
from fcdistill.errors import DataError, ModelError
from fcdistill.prompts.control_tokens import control_places, control_tokens, encode
from fcdistill.prompts.rendering import answer_classes, answer_text, call_format, stop_token_ids
from fcdistill.toolcalls.parsing import markup_spans, parse_output
from fcdistill.tools.validation import CallValidator

__all__ = ["OnPolicy", "Sample", "is_on_policy", "is_valid_answer"]

log = logging.getLogger(__name__)

_BATCH_ROWS = 32
"""Samples that are decoded together."""


@dataclass(frozen=True)
class Sample:
    """What the student answered to one trace's request."""

    example: Example
    """The trace's example with the student's answer in the place of the verified one."""
    is_valid: bool
    """See `is_valid_answer`."""


def is_on_policy(step: int, *, fraction: float, seed: int) -> bool:
    """Whether an optimizer step, counted from 0, is on-policy; true with the probability `fraction`."""
    return random.Random(f"{seed}/{step}").random() < fraction


def is_valid_answer(text: str, validator: CallValidator, *, is_cut: bool) -> bool:
    """Whether an answer can be read and its calls fit their tools; words without a call are valid, silence is not.

    Args:
        text: the answer without a stop token.
        validator: of the tools that it may call.
        is_cut: it ended at a length limit.
    """
    output = parse_output(text, truncated=is_cut)
    if output.errors or not (output.calls or output.text):
        return False
    return not any(validator.check_call(call) for call in output.calls)


class OnPolicy:
    """Makes the micro batches of a training of which some steps are on-policy.

    Args:
        model: the student as it is trained.
        config: the fraction, how answers are sampled, the seed, the longest example.
        prepared: the tokenizers, and the validators of the traces' calls.
        autocast: precision of the student's matrix products where it differs from that of its weights.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        config: TrainConfig,
        prepared: Prepared,
        *,
        autocast: torch.dtype | None = None,
    ) -> None:
        assert prepared.teacher is not None, "the config names who scores the samples"
        self._model = model
        self._config = config
        self._tokenizer = prepared.tokenizer
        self._teacher_tokenizer = prepared.teacher.tokenizer
        self._pairs = prepared.teacher.string_pairs
        self._vocabulary_size = (
            prepared.teacher.vocabulary_size if self._pairs is None else len(self._pairs.student.strings)
        )
        self._validators = prepared.validators
        self._autocast = autocast
        self._stop_ids = frozenset(stop_token_ids(prepared.tokenizer))
        self._decoder: Decoder | None = None

    def is_on_policy(self, step: int) -> bool:
        """Whether an optimizer step, counted from 0, is on-policy."""
        return is_on_policy(step, fraction=self._config.on_policy_fraction, seed=self._config.seed)

    def batches(
        self, groups: Sequence[Sequence[Example]], step: int, collate: Callable[[Sequence[Example]], MicroBatch]
    ) -> list[MicroBatch]:
        """The micro batches of one optimizer step, one a group.

        Args:
            groups: the step's examples on this process.
            step: the optimizer step, counted from 0.
            collate: makes a batch of examples.

        Returns:
            What `collate` makes of the groups; on an on-policy step, of the student's answers, and each batch has
            `num_valid`, how many of them are valid.
        """
        if not self.is_on_policy(step):
            return [collate(group) for group in groups]
        samples = iter(self.samples([example for group in groups for example in group], step))
        sampled = [[next(samples) for _ in group] for group in groups]
        return [
            collate([sample.example for sample in group])
            | {"num_valid": torch.tensor(sum(sample.is_valid for sample in group))}
            for group in sampled
        ]

    def samples(self, examples: Sequence[Example], step: int) -> list[Sample]:
        """What the student answers to each example's prompt.

        All are decoded together, so that how they are split into micro batches changes nothing, not even a rounding.

        Raises:
            ModelError: the student's numbers are not finite.
        """
        longest = self._config.on_policy.max_new_tokens
        rows = [
            Row(
                str(index),
                list(example.student_prompt),
                min(longest, self._config.max_example_tokens - example.num_prompt_tokens),
                random.Random(f"{self._config.seed}/{step}/{example.trace_id}"),
            )
            for index, example in enumerate(examples)
        ]
        settings = DecodeSettings(
            sampling_temperature=self._config.on_policy.sampling_temperature, top_p=self._config.on_policy.top_p
        )
        is_cut: dict[str, bool] = {}
        with answering(self._model, self._autocast):
            if self._decoder is None:
                model = self._model.get_base_model() if isinstance(self._model, PeftModel) else self._model
                self._decoder = Decoder(model)
            try:
                for row, was_cut in continued(
                    self._decoder,
                    rows,
                    settings,
                    self._end,
                    batch_size=_BATCH_ROWS,
                    vocabulary_size=self._vocabulary_size,
                ):
                    is_cut[row.id] = was_cut
            except FloatingPointError as error:
                raise ModelError(
                    f"after {step} optimizer steps the student computes numbers that are not finite",
                    required="a training that does not diverge",
                    fix=f"set learning_rate below {self._config.learning_rate}, or dtype to float32",
                ) from error
            finally:
                self._decoder.close()  # what it remembers is that of this step's weights
        answered = zip(examples, rows, strict=True)
        return [self._sample(example, row.generated, is_cut=is_cut[row.id]) for example, row in answered]

    def _end(self, row: Row) -> bool | None:
        """Whether a row that has ended was cut; None where it goes on."""
        if row.generated[-1] in self._stop_ids:
            return False
        return True if len(row.generated) >= row.num_allowed else None

    def _sample(self, example: Example, ids: Sequence[int], *, is_cut: bool) -> Sample:
        body = ids if is_cut else ids[:-1]
        text = answer_text(self._tokenizer, body)
        classes = answer_classes(self._tokenizer, body)
        if not is_cut:
            classes.append("stop")
        answered = dataclasses.replace(
            example, completion=tuple(ids), classes=tuple(CLASS_NAMES.index(name) for name in classes)
        )
        if self._pairs is not None:
            sampled = _read_back(self._tokenizer, self._teacher_tokenizer, body)
            answered = _aligned(answered, sampled, is_cut, self._pairs, self._teacher_tokenizer)
        return Sample(answered, is_valid_answer(text, self._validators[example.trace_id], is_cut=is_cut))


@dataclass(frozen=True)
class _SampledText:
    """What a student's tokens say to a reader with another tokenizer."""

    text: str = ""
    quoted: tuple[int, ...] = ()
    """Places at which the text of a control token, of either tokenizer, is text."""


def _aligned(
    example: Example, sampled: _SampledText, is_cut: bool, pairs: StringPairs, teacher: PreTrainedTokenizerBase
) -> Example:
    """The example of a sample with what its teacher, who has another tokenizer, reads of it."""
    body = example.completion if is_cut else example.completion[:-1]
    try:
        alignment = _alignment(example, sampled, body, pairs, teacher)
        kept = alignment.spans[:-2] if is_cut else alignment.spans
    except (DataError, ModelError) as error:
        log.debug("a sample is not aligned: %s", error)
        kept = ()
    if not kept:
        # Every sample has the position after the prompt; a pair that stands there compares its distributions.
        return dataclasses.replace(
            example,
            completion=(pairs.student.stop_id,),
            classes=(CLASS_NAMES.index("stop"),),
            alignment=_alignment(example, _SampledText(), (), pairs, teacher),
        )
    num_student, num_teacher = kept[-1].student.stop, kept[-1].teacher.stop
    return dataclasses.replace(
        example,
        # Whichever token ended it, the end is compared as an end.
        completion=(*body, pairs.student.stop_id)[:num_student],
        classes=example.classes[:num_student],
        alignment=dataclasses.replace(
            alignment,
            teacher_completion=alignment.teacher_completion[:num_teacher],
            spans=kept,
            paired=alignment.paired[: len(kept)],
        ),
    )


def _read_back(
    tokenizer: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, ids: Sequence[int]
) -> _SampledText:
    """The text that these ids encode, and which texts of control tokens in it are text.

    As in a trace, what frames calls and thoughts is meant as the tokens that it is to whoever reads it, even where the
    student spells it; any other text of a control token is text, unless the student wrote the token itself.
    """
    pieces = _pieces(tokenizer, ids)
    added = set(tokenizer.added_tokens_decoder)
    # Decoding keeps the spaces that SentencePiece puts after added tokens.
    stripped = [
        piece.removeprefix(" ") if place and ids[place - 1] in added else piece for place, piece in enumerate(pieces)
    ]
    controls = set(tokenizer.convert_tokens_to_ids(list(control_tokens(tokenizer))))
    found = []
    for candidate in (pieces, stripped):
        text, ends = "".join(candidate), [0, *itertools.accumulate(map(len, candidate))]
        written = [(ends[place], ends[place + 1]) for place, index in enumerate(ids) if index in controls]
        spelled = [span for span in control_places([tokenizer, teacher], text) if not _is_within(span, written)]
        framing = markup_spans(text, expected=call_format(tokenizer).dialect)
        quoted = tuple(dict.fromkeys(start for start, end in spelled if not _is_within((start, end), framing)))
        sampled = _SampledText(text, quoted)
        found.append(sampled)
        with contextlib.suppress(ModelError):  # a tokenizer that can't tell the text of a control token from the token
            if encode(tokenizer, text, [start for start, _ in spelled])[0] == list(ids):
                return sampled
    return found[0]


def _pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text: nothing where it begins a character that a later one ends."""
    text = answer_text(tokenizer, ids)
    ends = [len(answer_text(tokenizer, ids[:count])) for count in range(len(ids) + 1)]
    return [text[start:end] for start, end in itertools.pairwise(ends)]


def _is_within(span: tuple[int, int], others: Iterable[tuple[int, int]]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in others)


def _alignment(
    example: Example,
    sampled: _SampledText,
    body: Sequence[int],
    pairs: StringPairs,
    teacher: PreTrainedTokenizerBase,
) -> Alignment:
    return align_example(
        sampled.text,
        pairs,
        student_completion=[*body, pairs.student.stop_id],
        teacher_completion=[*encode(teacher, sampled.text, sampled.quoted)[0], pairs.teacher.stop_id],
        student_request=example.student_prompt[-max(example.num_request_tokens, 1) :],
        teacher_prompt=example.teacher_prompt,
        origin=f"a sample for trace {example.trace_id!r}",
    )
