"""What a teacher reads before an answer: the trace's conversation, after worked examples where there are some.

A teacher's soft labels are those of the student's text. Its own template shows it the calls of another dialect, or
none at all, so that what it deems likely is not what stands there. The examples' answers are therefore plain text,
written as the student's template writes them, in the teacher's turns. The student never reads them.
"""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from fcdistill.prompts.rendering import render_example
from fcdistill.prompts.worked_examples import choose_examples, example_answer, example_turns
from fcdistill.records import Message, Trace, WorkedExample

__all__ = ["student_answers", "teacher_messages"]


def student_answers(examples: Sequence[WorkedExample], student: PreTrainedTokenizerBase) -> dict[str, Message]:
    """By id, the answer of each example as the student's template writes it, without the stop token.

    Raises:
        ModelError: the student's template refuses an example.
    """
    answers = {}
    for example in examples:
        request = Message(role="user", content=example.request)
        rendered = render_example(student, [request, example_answer(example)], (), "none")
        stop = student.convert_ids_to_tokens(rendered.completion_ids[-1])
        answers[example.id] = Message(role="assistant", content=rendered.completion_text.removesuffix(stop))
    return answers


def teacher_messages(
    trace: Trace, examples: Sequence[WorkedExample], answers: Mapping[str, Message]
) -> tuple[Message, ...]:
    """The conversation that the teacher continues with the trace's answer.

    Examples of the trace's own tools stand before it, after its system message. One that makes the trace's own request
    would tell the teacher the answer: it is left out.

    Args:
        trace: the conversation.
        examples: all worked examples; none: the conversation as it is.
        answers: of `student_answers`.
    """
    asked = [message.content for message in trace.messages if message.role == "user"]
    foreign = [example for example in examples if example.request not in asked]
    shown = choose_examples(foreign, trace.specs, with_refusals=True)
    turns = example_turns(shown, lambda example: answers[example.id])
    start = int(trace.messages[0].role == "system")
    return (*trace.messages[:start], *turns, *trace.messages[start:-1])
