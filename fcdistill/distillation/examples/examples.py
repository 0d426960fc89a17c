"""From traces to examples: both sides' token ids, how they belong together, what is left out, what is held out.

Student and teacher may read different prompts; the completion is the student's text on both sides, and its very ids
where they have one tokenizer. Where they have not, `spans` says which tokens belong together. Tensors (`collation`),
models and losses are not known here.
"""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from fcdistill.config import CLASS_NAMES, ToolsInPrompt
from fcdistill.distillation.examples.teacher_prompt import student_answers, teacher_messages
from fcdistill.distillation.tokenizers.spans import Alignment, align_example
from fcdistill.distillation.tokenizers.token_strings import StringPairs
from fcdistill.errors import DataError, ModelError
from fcdistill.prompts.chat_template import KIT_REMEDY
from fcdistill.prompts.control_tokens import encode
from fcdistill.prompts.rendering import RenderedExample, render_example, render_prompt
from fcdistill.records import FunctionTool, Trace, WorkedExample
from fcdistill.storage import sha256_json
from fcdistill.tools.validation import CallValidator

__all__ = [
    "Example",
    "HiddenPositions",
    "Side",
    "alignment_statistics",
    "call_validators",
    "class_counts",
    "drop_long",
    "drop_unseen_removals",
    "length_statistics",
    "render_traces",
    "stretched",
    "tools_of",
]

HiddenPositions = Literal["completion", "request+completion"]
Side = Literal["student", "teacher"]


@dataclass(frozen=True)
class Example:
    """A trace as token ids, for the student and, where one runs, for the teacher."""

    trace_id: str
    student_prompt: tuple[int, ...]
    teacher_prompt: tuple[int, ...]
    """Empty where no teacher runs."""
    completion: tuple[int, ...]
    classes: tuple[int, ...]
    """Index in `CLASS_NAMES` of each completion token."""
    num_request_tokens: int
    """Prompt tokens right before the completion that belong to the request; of one tokenizer, only those that are the
    same on both sides."""
    alignment: Alignment | None = None
    """Only where the teacher has another tokenizer."""
    text: str = ""
    """What the completion says, without the stop token."""
    quoted: tuple[int, ...] = ()
    """Places of `text` at which the text of a control token, of either tokenizer, is text."""
    has_thought: bool = False
    """Whether the completion tells a thought; an empty one is none."""

    @property
    def teacher_completion(self) -> tuple[int, ...]:
        """The completion in the teacher's ids."""
        return self.completion if self.alignment is None else self.alignment.teacher_completion

    @property
    def student_ids(self) -> tuple[int, ...]:
        """What the student reads: the last completion token predicts nothing and is omitted."""
        return self.student_prompt + self.completion[:-1]

    @property
    def teacher_ids(self) -> tuple[int, ...]:
        """What the teacher reads."""
        return self.teacher_prompt + self.teacher_completion[:-1]

    @property
    def num_prompt_tokens(self) -> int:
        """Length of the longer prompt."""
        return max(len(self.student_prompt), len(self.teacher_prompt))

    @property
    def num_tokens(self) -> int:
        """Length of the longer side, completion included."""
        return 1 + max(len(self.student_ids), len(self.teacher_ids))

    def hidden_rows(self, side: Side, positions: HiddenPositions) -> list[int]:
        """Places in one side's ids whose hidden states are aligned: those on the other side have read as much.

        They are those that predict the completion, and more; between two tokenizers those at which spans end.
        """
        first = len(self.student_prompt if side == "student" else self.teacher_prompt)
        with_request = positions == "request+completion"
        if self.alignment is None:
            aligned = max(self.num_request_tokens, 1) if with_request else 1
            return list(range(first - aligned, first + len(self.completion) - 1))
        index = 0 if side == "student" else 1
        request_ends = self.alignment.request_ends if with_request else self.alignment.request_ends[-1:]
        return [first + ends[index] for ends in (*request_ends, *self.alignment.read_ends)]


def render_traces(
    traces: Sequence[Trace],
    student: PreTrainedTokenizerBase,
    style: ToolsInPrompt,
    teacher: PreTrainedTokenizerBase | None = None,
    pairs: StringPairs | None = None,
    teacher_examples: Sequence[WorkedExample] = (),
    teacher_style: ToolsInPrompt = "full",
    keep_thinking: bool = False,
) -> list[Example]:
    """Render traces with the renderer that evaluation uses.

    Args:
        traces: conversations whose last message is the supervised answer.
        student: the student's tokenizer.
        style: how the student's prompt shows the tools.
        teacher: the teacher's tokenizer; its template may differ.
        pairs: the two tokenizers, where the teacher's is another one.
        teacher_examples: worked examples that the teacher alone reads.
        teacher_style: how the teacher's prompt shows the tools.
        keep_thinking: whether answers begin with what was thought before them.

    Raises:
        DataError: an answer's text is not the same for both tokenizers.
        ModelError: a template refuses a conversation.
    """
    class_index = {name: index for index, name in enumerate(CLASS_NAMES)}
    shown_answers = student_answers(teacher_examples, student)
    written_answers = frozenset(message.content for message in shown_answers.values())
    readers = [teacher] if teacher is not None and pairs is not None else []
    examples = []
    for trace in traces:
        with _named(trace):
            rendered = render_example(
                student, trace.messages, trace.specs, style, readers=readers, keep_thinking=keep_thinking
            )
            teacher_prompt: tuple[int, ...] = ()
            alignment = None
            num_request_tokens = len(rendered.prompt_ids) - rendered.request_start
            if teacher is not None:
                messages = teacher_messages(trace, teacher_examples, shown_answers)
                teacher_prompt = tuple(
                    render_prompt(teacher, messages, trace.specs, teacher_style, written=written_answers)
                )
                if pairs is None:
                    num_request_tokens = _common_suffix(rendered.prompt_ids, teacher_prompt, num_request_tokens)
                else:
                    alignment = _aligned(rendered, teacher, teacher_prompt, pairs, f"trace {trace.id!r}")
        examples.append(
            Example(
                trace_id=trace.id,
                student_prompt=tuple(rendered.prompt_ids),
                teacher_prompt=teacher_prompt,
                completion=tuple(rendered.completion_ids),
                classes=tuple(class_index[name] for name in rendered.completion_classes),
                num_request_tokens=num_request_tokens,
                alignment=alignment,
                text=rendered.completion_text.removesuffix(student.convert_ids_to_tokens(rendered.completion_ids[-1])),
                quoted=rendered.quoted,
                has_thought=keep_thinking and bool(trace.answer.reasoning.strip()),
            )
        )
    return examples


@contextlib.contextmanager
def _named(trace: Trace) -> Iterator[None]:
    """Name the trace that can't be rendered."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"trace {trace.id!r}: {error.found}", required=error.required, fix=error.fix) from error


def _aligned(
    rendered: RenderedExample,
    teacher: PreTrainedTokenizerBase,
    teacher_prompt: Sequence[int],
    pairs: StringPairs,
    origin: str,
) -> Alignment:
    text = rendered.completion_text.removesuffix(pairs.student.strings[pairs.student.stop_id].decode())
    request_start = min(rendered.request_start, len(rendered.prompt_ids) - 1)
    return align_example(
        text,
        pairs,
        student_completion=rendered.completion_ids,
        teacher_completion=[*encode(teacher, text, rendered.quoted)[0], pairs.teacher.stop_id],
        student_request=rendered.prompt_ids[request_start:],
        teacher_prompt=teacher_prompt,
        origin=origin,
    )


def _common_suffix(first: Sequence[int], second: Sequence[int], limit: int) -> int:
    same = 0
    while same < min(limit, len(second)) and first[-1 - same] == second[-1 - same]:
        same += 1
    return same


def stretched(example: Example, num_tokens: int) -> Example:
    """An example of exactly so many tokens on each side, its prompts cut or repeated."""

    def to_length(ids: tuple[int, ...], length: int) -> tuple[int, ...]:
        return (ids * (length // len(ids) + 1))[:length] if ids else ids

    return dataclasses.replace(
        example,
        student_prompt=to_length(example.student_prompt, num_tokens - len(example.completion)),
        teacher_prompt=to_length(example.teacher_prompt, num_tokens - len(example.teacher_completion)),
    )


def drop_long(examples: Sequence[Example], max_example_tokens: int) -> tuple[list[Example], list[str]]:
    """The examples of at most so many tokens, and the trace ids of the others.

    Raises:
        DataError: none is left.
    """
    kept = [example for example in examples if example.num_tokens <= max_example_tokens]
    if not kept:
        shortest = min((example.num_tokens for example in examples), default=0)
        raise DataError(
            f"none of {len(examples)} traces has at most max_example_tokens {max_example_tokens} tokens"
            if examples
            else "the traces file holds no trace",
            required=f"at least one trace (the shortest has {shortest} tokens)" if examples else "at least one trace",
            fix="raise max_example_tokens, or set tools_in_prompt to compact or none" if examples else "generate some",
        )
    return kept, [example.trace_id for example in examples if example.num_tokens > max_example_tokens]


def drop_unseen_removals(traces: Sequence[Trace]) -> tuple[list[Trace], list[str]]:
    """The traces that a prompt without tools can tell apart, and the ids of the others.

    A refusal because the prompt lacks a tool contradicts the call that the same request gets beside the tool, where no
    prompt shows any tools.
    """
    names = {tool.function.name for tool in tools_of(traces)}
    kept = [trace for trace in traces if trace.answer.calls or {spec.name for spec in trace.specs} == names]
    ids = {trace.id for trace in kept}
    return kept, [trace.id for trace in traces if trace.id not in ids]


def drop_parallel(traces: Sequence[Trace]) -> tuple[list[Trace], list[str]]:
    """The traces in which no message makes several calls, and the ids of the others: some templates can't write them.

    Raises:
        DataError: none is left.
    """
    kept = [trace for trace in traces if all(len(message.tool_calls) < 2 for message in trace.messages)]
    if traces and not kept:
        raise DataError(
            f"all {len(traces)} traces make several calls at once, which a chat template of this training can't write",
            required="a template that writes several calls, or traces with one call at a time",
            fix=KIT_REMEDY,
        )
    ids = {trace.id for trace in kept}
    return kept, [trace.id for trace in traces if trace.id not in ids]


def length_statistics(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Minimum, median, 95th percentile, maximum and total of the student's prompt and completion tokens."""
    sides = {
        "prompt_tokens": [len(example.student_prompt) for example in examples],
        "completion_tokens": [len(example.completion) for example in examples],
    }
    return {name: _quantiles(sorted(lengths)) for name, lengths in sides.items()}


def class_counts(examples: Sequence[Example]) -> dict[str, int]:
    """The student's completion tokens by their class; classes that none has are absent."""
    counts = Counter(index for example in examples for index in example.classes)
    return {name: counts[index] for index, name in enumerate(CLASS_NAMES) if counts[index]}


def _quantiles(lengths: list[int]) -> dict[str, int]:
    last = len(lengths) - 1
    ranks = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: lengths[round(rank * last)] for name, rank in ranks.items()} | {"total": sum(lengths)}


def alignment_statistics(examples: Sequence[Example]) -> dict[str, float]:
    """Share of the student's completion tokens that are compared by distribution, and its tokens per span."""
    alignments = [example.alignment for example in examples if example.alignment is not None]
    num_tokens = sum(len(example.completion) for example in examples)
    return {
        "paired_fraction": sum(sum(alignment.paired) for alignment in alignments) / num_tokens,
        "tokens_per_span": num_tokens / sum(len(alignment.spans) for alignment in alignments),
    }


def tools_of(traces: Sequence[Trace]) -> tuple[FunctionTool, ...]:
    """All tools of the traces, one per name, in the order of their first appearance."""
    found: dict[str, FunctionTool] = {}
    for trace in traces:
        for tool in trace.tools:
            found.setdefault(tool.function.name, tool)
    return tuple(found.values())


def call_validators(traces: Sequence[Trace]) -> dict[str, CallValidator]:
    """Per trace id, what judges calls of its tools; traces with the same tools share it.

    Raises:
        CatalogError: a tool's schema can't be used.
    """
    shared: dict[str, CallValidator] = {}
    found = {}
    for trace in traces:
        key = sha256_json([spec.model_dump(mode="json") for spec in trace.specs])
        if key not in shared:
            shared[key] = CallValidator(trace.specs)
        found[trace.id] = shared[key]
    return found
