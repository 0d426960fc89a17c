"""Conversations made from verified clarify traces: the user gives the value that was asked for, and the call follows.

A clarify request was cut out of a whole one, so its call is known: the words of the value come back as the reply. No
teacher is needed, and the result passes the same checks as any other step of a conversation.
"""

import random
from collections.abc import Iterable, Iterator, Sequence

from fcdistill.generation.dataset.dedupe import request_text
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.generation.verification.ladder import derived_trace
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Check, Message, ModelRef, Trace, TraceMeta

__all__ = ["answer_questions"]

_REPLIES = ("{said}", "{said}", "{said} please", "oh, {said}", "{said}, thanks")


def answer_questions(
    traces: Iterable[Trace], plan: Sequence[PlanItem], verifier: Verifier, *, count: int, seed: int
) -> Iterator[Trace]:
    """Up to `count` conversations, at most one per clarify trace.

    Args:
        traces: verified traces.
        plan: the items that they were made from.
        verifier: checks what is made; what fails is left out.
        count: most traces to make.
        seed: the same traces and seed give the same result.
    """
    if count == 0:
        return
    items = {item.id: item for item in plan if item.missing}
    generator = random.Random(seed)
    made = 0
    for trace in traces:
        if made == count:
            return
        if trace.id in items:
            answered = _answered(trace, items[trace.id], verifier, generator, f"clarified-{made + 1:05d}")
            if answered is not None:
                made += 1
                yield answered


def _answered(
    trace: Trace, item: PlanItem, verifier: Verifier, generator: random.Random, identity: str
) -> Trace | None:
    (call,) = item.calls
    said = dict(item.facts[0]).get(item.missing.replace("_", " "))
    if not said:
        return None
    reply = generator.choice(_REPLIES).format(said=said)
    checks = derived_trace(verifier, reply, [call], item.now, before=request_text(trace))
    if not checks[-1].ok:
        return None
    answer = Message.calling([verifier.tidied(call)])
    return Trace(
        id=identity,
        messages=(*trace.messages, Message(role="user", content=reply), answer),
        tools=trace.tools,
        split_group=trace.split_group,
        meta=TraceMeta(
            source="clarified",
            category="simple",
            plan_cell=f"clarified/{call.name}.{item.missing}",
            teacher=ModelRef(model="clarified", params={"from": [trace.id]}),
            checks=(*checks, Check(name="clarified", ok=True, detail=f"{item.missing} of {trace.id}")),
        ),
    )
