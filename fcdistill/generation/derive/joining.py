"""Requests for several calls, joined from verified requests for one.

A small teacher rarely writes a request that says three calls in full. Two or three short requests in one sentence, as
people speak them, need no teacher; the joined request passes the same checks as any other.
"""

import random
from collections.abc import Iterator, Sequence

from fcdistill.generation.dataset.dedupe import request_key, request_text
from fcdistill.generation.dataset.turns import has_one_request
from fcdistill.generation.journal.spool import Traces
from fcdistill.generation.plan.plan import calls_group, time_of_context
from fcdistill.generation.verification.ladder import derived_trace
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Category, Check, Message, ModelRef, Trace, TraceMeta

__all__ = ["join_traces", "within_sentence"]

_LONGEST_PART = 14
_LINKS = (" and ", ", and ", ", then ", " and then ", ", also ", ". Also, ", ", ", " and also ", ". And ", " plus ")
_SENTENCE_LINKS = frozenset({". Also, ", ". And "})
_TRIES = 20


def join_traces(traces: Traces, verifier: Verifier, *, count: int, seed: int) -> Iterator[Trace]:
    """Up to `count` traces whose requests are joined from those of single-call traces.

    Args:
        traces: verified traces; those with one call and a short request are used.
        verifier: checks what is joined; what fails is left out.
        count: most traces to make.
        seed: the same traces and seed give the same result.
    """
    if count == 0:
        return
    generator = random.Random(seed)
    singles: list[int] = []
    by_tool: dict[str, list[int]] = {}
    known = set()
    for index, trace in enumerate(traces):
        known.add(request_key(request_text(trace)))
        if _is_part(trace):
            singles.append(index)
            by_tool.setdefault(trace.answer.calls[0].name, []).append(index)
    made, tries = 0, 0
    while made < count and tries < _TRIES * count and len(singles) > 1:
        tries += 1
        first = traces[generator.choice(singles)]
        pool = by_tool[first.answer.calls[0].name] if generator.random() < 0.4 else singles
        others = generator.sample(pool, min(len(pool), generator.choice((1, 1, 1, 2))))
        parts = [first, *(traces[index] for index in others)]
        joined = _joined(parts, verifier, generator, f"joined-{made + 1:05d}")
        if joined is not None and (key := request_key(request_text(joined))) not in known:
            known.add(key)
            made += 1
            yield joined


def _is_part(trace: Trace) -> bool:
    text = request_text(trace)
    is_short = len(text.split()) <= _LONGEST_PART and "?" not in text[:-1]
    return is_short and len(trace.answer.calls) == 1 and has_one_request(trace)


def _joined(parts: Sequence[Trace], verifier: Verifier, generator: random.Random, identity: str) -> Trace | None:
    contexts = {message.content for trace in parts for message in trace.messages if message.role == "system"}
    if len(contexts) > 1:
        return None
    text = request_text(parts[0]).rstrip(" .!?,")
    for part in parts[1:]:
        link = generator.choice(_LINKS)
        said = request_text(part)
        text += link + (said if link in _SENTENCE_LINKS else within_sentence(said)).rstrip(" .!,")
    calls = [call for trace in parts for call in trace.answer.calls]
    context = next(iter(contexts), "")
    checks = derived_trace(verifier, text, calls, time_of_context(context))
    if not checks[-1].ok:
        return None
    category: Category = "parallel" if len({call.name for call in calls}) == 1 else "parallel_multiple"
    system = [Message(role="system", content=context)] if context else []
    return Trace(
        id=identity,
        messages=(*system, Message(role="user", content=text), Message.calling(calls)),
        tools=parts[0].tools,
        split_group=calls_group(calls),
        meta=TraceMeta(
            source="joined",
            category=category,
            plan_cell=f"joined/{category}",
            teacher=ModelRef(model="joined", params={"from": [trace.id for trace in parts]}),
            checks=(*checks, Check(name="joined", ok=True, detail=" + ".join(trace.id for trace in parts))),
        ),
    )


def within_sentence(text: str) -> str:
    """A request as it goes on inside a sentence: without a capital, unless that may be a name."""
    first, _, rest = text.partition(" ")
    return text[0].lower() + text[1:] if first[1:].islower() and rest else text
