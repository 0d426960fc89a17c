"""What the words of a whole trace say of its answer, or of another one in its place."""

from collections.abc import Sequence

from fcdistill.generation.plan.plan import time_of_context
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.generation.verification.witnesses import WordEvidence
from fcdistill.records import ToolCall, Trace

__all__ = ["trace_words"]


def trace_words(verifier: Verifier, trace: Trace, calls: Sequence[ToolCall] | None = None) -> WordEvidence:
    """The evidence of a trace's words, as an import of the same conversation reads them.

    A value may stem from any earlier text but the system's; what the user's last text says may reach a call that was
    made for it before.

    Args:
        verifier: of the trace's tools.
        trace: ends with calls.
        calls: that are judged in their place.
    """
    before = trace.messages[:-1]
    place = max((index for index, message in enumerate(before) if message.role == "user"), default=0)
    systems = [message.content for message in before if message.role == "system"]
    known = verifier.catalog.by_name
    earlier = [call for message in before[place:] for call in message.calls if call.name in known]
    return verifier.word_evidence(
        before[place].content,
        trace.answer.calls if calls is None else calls,
        time_of_context(systems[0]) if systems else None,
        said="\n".join(message.content for message in before if message.role != "system"),
        others=[call for call in earlier if not verifier.validator.check_call(call)],
    )
