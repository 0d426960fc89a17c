"""Which checks a text, its calls or a whole trace must pass, and in which order: a ladder for each kind.

A ladder makes its checks one after the other and ends with the first that fails, whose detail is the reason. Whatever
becomes a trace, written, answered, derived, reused or imported, is judged by ladders and by no single check. Some mend:
where a text asks for other calls than were planned or answered, those that it does ask for take their place (check
`repair`). Nothing here asks a model, or knows what becomes of a verdict.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from fcdistill.generation.verification.clarifying import Lacking
from fcdistill.generation.verification.verifier import Verifier, with_arguments, without_arguments
from fcdistill.records import Category, Check, ToolCall, Trace
from fcdistill.toolcalls.parsing import ParsedOutput

__all__ = [
    "Similar",
    "Verdict",
    "blind_answer",
    "chained_request",
    "clarify_question",
    "collected_trace",
    "conversation_step",
    "cut_request",
    "derived_trace",
    "follow_up_step",
    "imported_answer",
    "lacking_request",
    "mistyped_request",
    "opening_request",
    "other_of_two_step",
    "proving_answer",
    "repeated_step",
    "resumed_step",
    "written_request",
]


@dataclass(frozen=True)
class Verdict:
    """What a ladder that may mend calls says.

    Attributes:
        checks: in their order; the last one is the only one that may have failed.
        calls: those that stay; each ladder says in which form.
    """

    checks: tuple[Check, ...]
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True)
class Similar:
    """A known text that shares its wording with another.

    Attributes:
        id: under which it is known.
        text: what it says.
        jaccard: the similarity of the wordings, above 0 and at most 1.
    """

    id: str
    text: str
    jaccard: float


# --- single requests and answers


def written_request(
    verifier: Verifier, request: str, calls: Sequence[ToolCall], now: datetime | None, *, proven: bool = False
) -> Verdict:
    """A request that was written to ask for calls: `request`, `schema`, `grounding`.

    Args:
        verifier: of the domain.
        request: the text.
        calls: what it is to ask for; without any it need not ask, and its numbers and names reach no call.
        now: the current time that the context gives, if it does.
        proven: whether an answer of somebody who sees the request alone will have to agree.

    Returns:
        The calls that it asks for, as students are to write them; none where the text is no request, or needs none.
    """
    checks = _up_to_failure(_writing(verifier, request, calls))
    if checks[-1].name == "request":
        return Verdict(tuple(checks), ())
    if checks[-1].ok:
        grounding, calls = _grounded(verifier, request, calls, now, independent=proven)
        checks += grounding
    return Verdict(tuple(checks), tuple(map(verifier.tidied, calls)))


def cut_request(
    verifier: Verifier, request: str, call: ToolCall, name: str, now: datetime | None
) -> tuple[str, list[Check]]:
    """A request that lacks a value since its words are cut out: `cut`.

    Args:
        verifier: of the domain.
        request: asks for the whole call.
        call: has the argument.
        name: of the argument whose value is to be missing.
        now: the current time that the context gives, if it does.

    Returns:
        The request without the value, or as it was where the words can't be cut, and the checks.
    """
    cut = verifier.without_value(request, call, name, now)
    if cut is None:
        return request, [_check("cut", f"the words of {name!r} can't be cut from {request!r}")]
    made = derived_trace(verifier, cut, [without_arguments(call, {name})], now, is_whole=False)
    return cut, [_check("cut", made[-1].detail)]


def mistyped_request(verifier: Verifier, request: str, calls: Sequence[ToolCall], now: datetime | None) -> list[Check]:
    """A sound request into which typos were put: `grounding`. Its style is judged before them."""
    return [verifier.check_grounding(request, calls, now)]


def clarify_question(verifier: Verifier, request: str, question: str, lacking: Sequence[Lacking]) -> list[Check]:
    """The answer to a request that lacks one of these values: `question`."""
    return [verifier.check_question(request, question, lacking)]


def blind_answer(
    verifier: Verifier,
    output: ParsedOutput,
    request: str,
    category: Category | None,
    now: datetime | None,
    *,
    independent: bool = False,
) -> Verdict:
    """A teacher's answer to a user's request: `parse`, `tool`, `schema`, `count`, `grounding`.

    Args:
        verifier: of the domain.
        output: the answer.
        request: the user's text.
        category: what a hint tells of the request; without one no answer without a call can be proved right.
        now: the current time that the context gives, if it does.
        independent: whether other answers will have to agree; one teacher's only answer is nobody's proof.

    Returns:
        The calls of the answer, or those that the request asks for; as students are to write them where all checks
        before `grounding` passed, and else as they were made.
    """
    checks, calls = _up_to_failure(_form(verifier, output, category)), output.calls
    if checks[-1].name == "schema" and not checks[-1].ok:
        repaired = verifier.repaired(request, calls, now)
        if repaired is not None:
            calls = repaired
            checks[-1:] = [_repair(checks[-1]), _check("schema")]
            if category is not None:
                checks.append(verifier.check_count(calls, category))
    if not checks[-1].ok:
        return Verdict(tuple(checks), calls)
    if not calls:
        return Verdict((*checks, _check("count", "the teacher made no call, and no hint says that none is right")), ())
    grounding, calls = _grounded(verifier, request, calls, now, independent=independent)
    return Verdict((*checks, *grounding), tuple(map(verifier.tidied, calls)))


def proving_answer(verifier: Verifier, output: ParsedOutput) -> list[Check]:
    """An answer that is only to be compared with calls that are known: `parse`, `tool`, `schema`."""
    return _up_to_failure(_form(verifier, output, None))


def imported_answer(
    verifier: Verifier,
    output: ParsedOutput,
    *,
    context_problem: str,
    said: str,
    request: str,
    others: Sequence[ToolCall],
    now: datetime | None,
    category: Category | None,
    trust_no_call: bool,
) -> Verdict:
    """An answer that a source records: `context`, `parse`, `tool`, `schema`, `count`, `grounding`.

    Args:
        verifier: of the tools that the source shows.
        output: the answer.
        context_problem: why what came before can't stand in a trace; empty where it can.
        said: all texts before the answer, the request and the results of earlier calls among them.
        request: the user's last text before the answer.
        others: the calls of the other steps that answer the same request; those that fit no schema take nothing over.
        now: the current time that the context gives, if it does.
        category: what the source tells of the request, if it does: the answer makes as many calls.
        trust_no_call: let an answer without a call pass, which no check can prove right.

    Returns:
        The calls of the answer; as students are to write them where all checks before `grounding` passed, and else as
        they were made.
    """
    checks = [_check("context", context_problem)]
    if not context_problem:
        checks += _up_to_failure(_form(verifier, output, category))
    if not checks[-1].ok:
        return Verdict(tuple(checks), output.calls)
    if not output.calls and category is not None:
        return Verdict(tuple(checks), ())
    if not output.calls:
        problem = "" if trust_no_call else "the answer makes no call, and only trust says that none is right"
        return Verdict((*checks, _check("count", problem)), ())
    fitting = [call for call in others if verifier.check_schema([call]).ok]
    grounding = verifier.check_evidence(request, output.calls, now, independent=True, said=said, others=fitting)
    return Verdict((*checks, grounding), tuple(map(verifier.tidied, output.calls)))


# --- conversations, which give no current time


def opening_request(verifier: Verifier, request: str, first: ToolCall, last: ToolCall, changed: str = "") -> Verdict:
    """The first request of a conversation, for the first of its two calls: `request`, `schema`, `grounding`.

    Args:
        verifier: of the domain.
        request: the text.
        first: the call that it is to ask for.
        last: the call that the user asks for later.
        changed: where the last call is the first one with one other value, the argument that has it.

    Returns:
        Both calls; where the request asks for another first call, the last one is made of that.
    """
    checks = _up_to_failure(_writing(verifier, request, [first, last]))
    if not checks[-1].ok:
        return Verdict(tuple(checks), (first, last))
    # Of what was not said no other value can be asked for.
    grounding, (first,) = _grounded(verifier, request, [first], None, kept=changed)
    if changed and grounding[0].name == "repair":
        last = with_arguments(first, {changed: last.arguments[changed]})
    return Verdict((*checks, *grounding), (first, last))


def chained_request(
    verifier: Verifier, request: str, first: ToolCall, last: ToolCall, taken: Mapping[str, Any]
) -> Verdict:
    """One request for two calls, of which the last takes a value from the first one's result.

    Checks `request`, `schema`, `grounding`, `reference`.

    Args:
        verifier: of the domain.
        request: the text.
        first: the first call.
        last: the last call, whole.
        taken: its arguments that the request does not say.

    Returns:
        Both calls, as the request asks for them.
    """
    checks = _up_to_failure(_writing(verifier, request, [first, last]))
    if not checks[-1].ok:
        return Verdict(tuple(checks), (first, last))
    said = without_arguments(last, taken)
    grounding, (first, said) = _grounded(verifier, request, [first, said], None, supplied=taken)
    if grounding[0].name == "repair":
        last = with_arguments(said, taken)
    both = [name for name in verifier.parameters(first.name) if name in verifier.parameters(last.name)]
    lone = [name for name in both if (name in first.arguments) != (name in last.arguments)]
    if grounding[-1].ok and lone:
        grounding[-1] = _check("grounding", f"said for one of two calls, which may be either: {lone[0]}")
    if grounding[-1].ok:
        grounding.append(verifier.check_reference(request))
    return Verdict((*checks, *grounding), (first, last))


def conversation_step(
    verifier: Verifier, before: str, request: str, first: ToolCall, last: ToolCall, taken: Mapping[str, Any]
) -> Verdict:
    """A later request, for a call that takes a value from an earlier one's result: `request`, `grounding`, `reference`.

    Args:
        verifier: of the domain.
        before: what the user said earlier.
        request: the text.
        first: the earlier call.
        last: the call that is asked for now, whole.
        taken: its arguments that the request does not say.

    Returns:
        Both calls, the last one as it is asked for.
    """
    checks = [verifier.check_request(request)]
    if not checks[-1].ok:
        return Verdict(tuple(checks), (first, last))
    said = without_arguments(last, taken)
    check = verifier.check_step_grounding(f"{before}\n{request}", request, [said], [first], None)
    repaired = None if check.ok else verifier.repaired(request, [said], None, taken)
    if repaired is not None:
        checks.append(_repair(check))
        last = with_arguments(repaired[0], taken)
        said = without_arguments(last, taken)
        check = verifier.check_step_grounding(f"{before}\n{request}", request, [said], [first], None)
    checks.append(check)
    if check.ok:
        checks.append(verifier.check_reference(request))
    return Verdict(tuple(checks), (first, last))


def repeated_step(verifier: Verifier, before: str, request: str, last: ToolCall, changed: str) -> list[Check]:
    """A later request for the same again with one other value: `request`, `grounding`.

    Args:
        verifier: of the domain.
        before: what the user said earlier.
        request: the text.
        last: the call that is asked for now.
        changed: its argument that has the other value, which this request must say.
    """
    return _up_to_failure(_saying_one_value(verifier, before, request, last, changed, None, asks=True))


# --- conversations in which no result is heard


def lacking_request(
    verifier: Verifier, request: str, call: ToolCall, name: str, now: datetime | None, *, is_called: bool
) -> list[Check]:
    """A request that lacks one value of a call, which a later turn says: `request`, `schema`, `grounding`, `cut`.

    Args:
        verifier: of the domain.
        request: the text.
        call: the whole call.
        name: of the argument that the request lacks.
        now: the current time that the context gives, if it does.
        is_called: whether the call is made without the value; else it is asked for, and no schema need be fitted.
    """
    checks = derived_trace(verifier, request, [without_arguments(call, {name})], now, is_whole=is_called)
    if checks[-1].ok:
        checks.append(verifier.check_unsaid(request, call, name, now))
    return checks


def follow_up_step(
    verifier: Verifier,
    before: str,
    request: str,
    last: ToolCall,
    changed: str,
    now: datetime | None,
    *,
    is_reply: bool = False,
) -> list[Check]:
    """A later turn that says one value and takes the rest from an earlier one.

    Checks `schema`, `request`, `grounding`, `reference`.

    Args:
        verifier: of the domain.
        before: the earlier turn of the user.
        request: the later one.
        last: the call that is asked for now.
        changed: its argument whose value the later turn must say.
        now: the current time that the context gives, if it does.
        is_reply: whether the assistant asked for the value; who replies need not ask for anything.
    """

    def made() -> Iterator[Check]:
        yield verifier.check_schema([last])
        yield from _saying_one_value(verifier, before, request, last, changed, now, asks=not is_reply)
        yield verifier.check_carried(request, last, changed, now)

    return _up_to_failure(made())


def resumed_step(
    verifier: Verifier,
    before: str,
    request: str,
    last: ToolCall,
    changed: str,
    between: ToolCall,
    now: datetime | None,
) -> list[Check]:
    """A later turn that goes back to an earlier call after another one: `follow_up_step`, and `reference` once more.

    Args:
        verifier: of the domain.
        before: the turn that asked for the earlier call.
        request: the later one.
        last: the call that is asked for now: the earlier one with another value.
        changed: its argument with that value.
        between: the call that was asked for last.
        now: the current time that the context gives, if it does.
    """
    checks = follow_up_step(verifier, before, request, last, changed, now)
    if checks[-1].ok:
        checks[-1] = verifier.check_topic(request, last, changed, between, now)
    return checks


def other_of_two_step(
    verifier: Verifier, before: str, request: str, first: ToolCall, last: ToolCall, changed: str, now: datetime | None
) -> list[Check]:
    """A later turn that asks for the same again with the other of two values, which it does not say.

    Checks `schema`, `request`, `grounding`, `reference`.

    Args:
        verifier: of the domain.
        before: the earlier turn of the user.
        request: the later one.
        first: the call that the earlier turn asked for.
        last: the call that is asked for now.
        changed: its argument with the other value.
        now: the current time that the context gives, if it does.
    """
    said = [without_arguments(last, {changed})]

    def made() -> Iterator[Check]:
        yield verifier.check_schema([last])
        yield verifier.check_request(request)
        yield verifier.check_step_grounding(f"{before}\n{request}", request, said, [], now)
        yield verifier.check_other_of_two(request, first, last, changed)

    return _up_to_failure(made())


# --- whole traces


def derived_trace(
    verifier: Verifier,
    request: str,
    calls: Sequence[ToolCall],
    now: datetime | None,
    *,
    before: str = "",
    is_whole: bool = True,
) -> list[Check]:
    """A request that is made of verified ones, without a teacher: `request`, `schema`, `grounding`.

    Args:
        verifier: of the domain.
        request: the user's last text.
        calls: what it asks for.
        now: the current time that the context gives, if it does.
        before: what the user said earlier, from which values may stem too.
        is_whole: whether the calls are the answer; those of a request that lacks a value fit no schema.
    """

    def made() -> Iterator[Check]:
        yield verifier.check_request(request, asks=not verifier.is_small_talk(calls))
        if is_whole:
            yield verifier.check_schema(calls)
        if before:
            yield verifier.check_step_grounding(f"{before}\n{request}", request, calls, [], now)
        else:
            yield verifier.check_grounding(request, calls, now)

    return _up_to_failure(made())


def collected_trace(
    trace: Trace,
    *,
    repeated: Similar | None,
    near_duplicate: Callable[[Trace], Similar | None],
    eval_case: Callable[[Trace], Similar | None],
    doubt: Callable[[Trace], str] | None,
) -> tuple[list[Check], Similar | None]:
    """A trace beside all others and the eval cases: `duplicate`, `near_duplicate`, `contaminated`, `agreement`.

    Args:
        trace: passed the ladder of its own kind.
        repeated: the trace before it whose answer has the same past, if there is one.
        near_duplicate: finds the trace before one that says almost the same.
        eval_case: finds the case that it is taken from.
        doubt: tells why the called tools can't be what the request asks for, or ""; None where they are in no doubt.

    Returns:
        The checks, and what the trace is like where one of the first three failed.
    """
    finders: tuple[tuple[str, Callable[[], Similar | None], Callable[[Similar], str]], ...] = (
        ("duplicate", lambda: repeated, lambda like: f"repeats {like.id}"),
        ("near_duplicate", lambda: near_duplicate(trace), _near_duplicate_detail),
        ("contaminated", lambda: eval_case(trace), _contaminated_detail),
    )
    checks: list[Check] = []
    for name, find, detail in finders:
        like = find()
        checks.append(_check(name, detail(like) if like is not None else ""))
        if like is not None:
            return checks, like
    if doubt is not None:
        checks.append(_check("agreement", doubt(trace)))
    return checks, None


def _near_duplicate_detail(like: Similar) -> str:
    return f"says almost what {like.id} says ({like.jaccard:.2f}), with the same answer: {like.text!r}"


def _contaminated_detail(case: Similar) -> str:
    return f"shares its wording with eval case {case.id} ({case.jaccard:.2f}): {case.text!r}"


# --- rungs that ladders share


def _up_to_failure(checks: Iterable[Check]) -> list[Check]:
    """The checks up to the first that fails; those after it are not made."""
    made = []
    for check in checks:
        made.append(check)
        if not check.ok:
            break
    return made


def _writing(verifier: Verifier, request: str, calls: Sequence[ToolCall]) -> Iterator[Check]:
    yield verifier.check_request(request, asks=not verifier.is_small_talk(calls))
    if calls:
        yield verifier.check_schema(calls)


def _saying_one_value(
    verifier: Verifier, before: str, request: str, last: ToolCall, changed: str, now: datetime | None, *, asks: bool
) -> Iterator[Check]:
    """`request` and `grounding` of a later turn that must say the value of one argument, and may leave out others."""
    yield verifier.check_request(request, asks=asks)
    value = ToolCall(name=last.name, arguments={changed: last.arguments[changed]})
    said = verifier.check_said(request, [value], now)
    yield verifier.check_step_grounding(f"{before}\n{request}", request, [last], [], now) if said.ok else said


def _form(verifier: Verifier, output: ParsedOutput, category: Category | None) -> Iterator[Check]:
    yield verifier.check_parse(output)
    yield verifier.check_tools(output.calls)
    yield verifier.check_schema(output.calls)
    if category is not None:
        yield verifier.check_count(output.calls, category)


def _grounded(
    verifier: Verifier,
    request: str,
    calls: Sequence[ToolCall],
    now: datetime | None,
    *,
    supplied: Mapping[str, Any] = MappingProxyType({}),
    kept: str = "",
    independent: bool = False,
) -> tuple[list[Check], tuple[ToolCall, ...]]:
    """The verdict on calls for a request, or on those that it does ask for, and the calls that stay.

    Args:
        verifier: of the domain.
        request: the text.
        calls: what it is to ask for.
        now: the current time that the context gives, if it does.
        supplied: arguments of the last call that the request does not say; they are not in `calls`.
        kept: an argument that the first call must have in any case.
        independent: whether somebody who saw the request alone made these calls, or will have to.
    """
    check = verifier.check_grounding(request, calls, now)
    repaired = None if check.ok else verifier.repaired(request, calls, now, supplied)
    if repaired is None or kept and kept not in repaired[0].arguments:
        return [verifier.check_evidence(request, calls, now, independent=independent)], tuple(calls)
    return [_repair(check), _check("grounding")], repaired


def _repair(failed: Check) -> Check:
    """Says that other calls took the place of those that failed a check."""
    return Check(name="repair", ok=True, detail=failed.detail)


def _check(name: str, problem: str = "") -> Check:
    return Check(name=name, ok=not problem, detail=problem)
