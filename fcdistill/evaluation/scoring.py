"""The verdict on one answer: which errors it holds, all of them and one primary.

An answer is right when it holds no error. Calls are matched to the expected ones without regard to order; of several
acceptable answers the closest is reported. Where a value breaks its schema, that is the error, and not also
`wrong_value`; but the very value that a case expects is right, since the answers of some public suites break their
schemas. A malformed call is an attempt to call, never an abstention. A clarify case wants no call and a question
(a question mark in the text); an answer without one is a `wrong_value` ("no question was asked"). Whatever a model
wrote, scoring ends with a verdict and never raises.

Nothing here knows where answers come from (`predictions`), or adds verdicts up (`stats`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fcdistill.evaluation.comparators import (
    EXACT,
    Difference,
    Rule,
    assign,
    compare,
    describe_value,
    escape_pointer,
    expected_alternatives,
    parse_rule,
)
from fcdistill.evaluation.defaults import MISSING, Defaults
from fcdistill.records import CALL_ERRORS, CallError, EvalCase, Prediction, Score, ScoreError, ToolCall, ToolSpec
from fcdistill.records.equality import same_value
from fcdistill.tools.validation import CallValidator, Violation

__all__ = ["SCORER_VERSION", "Scorer", "score_case"]

SCORER_VERSION = 2
"""Counts up when the same prediction may get another verdict: scores of different versions are not comparable."""

_RANK = {code: rank for rank, code in enumerate(CALL_ERRORS)}
_QUESTION_MARKS = frozenset("?？؟")

_Rules = Mapping[str, Mapping[str, Rule]]


@dataclass(frozen=True)
class _CallPair:
    """A predicted call against an expected one of the same tool."""

    differences: tuple[Difference, ...]
    num_matched: int
    num_expected: int
    num_predicted: int


@dataclass(frozen=True)
class _Verdict:
    """A prediction against one acceptable answer."""

    errors: tuple[ScoreError, ...]
    num_structural: int
    """Calls that are missing, too many, or of another tool: they weigh more than any argument."""
    num_matched: int
    num_expected: int
    num_predicted: int

    @property
    def distance(self) -> tuple[int, int]:
        return self.num_structural, len(self.errors)


class Scorer:
    """Scores answers over one catalogue, whose validators it compiles once.

    Args:
        specs: the tools that the model was given.
        default_equals_omitted: an optional argument that equals its schema's default counts as left out, at any depth.
    """

    def __init__(self, specs: Sequence[ToolSpec], *, default_equals_omitted: bool = False) -> None:
        self._validator = CallValidator(specs)
        self._defaults: dict[str, Defaults] = {}
        if default_equals_omitted:
            self._defaults = {spec.name: Defaults.of_document(spec.parameters) for spec in specs}

    def score(self, case: EvalCase, prediction: Prediction) -> Score:
        """The verdict on one answer.

        Raises:
            ValueError: the prediction belongs to another case or holds no answer (`error` is set).
        """
        if prediction.id != case.id or prediction.error is not None:
            raise ValueError(f"no answer to case {case.id!r}: prediction {prediction.id!r}, error {prediction.error!r}")
        violations = [self._validator.check_call(call) for call in prediction.calls]
        verdict = self._verdict(case, prediction, violations)
        errors = sorted([*_output_errors(prediction), *verdict.errors], key=lambda error: _RANK[error.code])
        parsed = not prediction.parse_errors and not _is_silent(prediction)
        names = sorted(call.name for call in prediction.calls)
        return Score(
            id=case.id,
            repetition=prediction.repetition,
            category=case.category,
            behaviour=case.behaviour,
            tools=tuple(dict.fromkeys(call.name for call in case.expected[0])),
            correct=not errors,
            primary_error=errors[0].code if errors else None,
            errors=tuple(errors),
            parsed=parsed,
            schema_valid=parsed and not any(violations),
            names_correct=parsed and any(names == sorted(call.name for call in answer) for answer in case.expected),
            arguments_matched=verdict.num_matched,
            arguments_predicted=verdict.num_predicted,
            arguments_expected=verdict.num_expected,
            called=_num_attempts(prediction) > 0,
        )

    def _verdict(self, case: EvalCase, prediction: Prediction, violations: Sequence[Sequence[Violation]]) -> _Verdict:
        if case.behaviour != "call":
            return _abstention_verdict(case, prediction, violations)
        rules = _rules(case)
        best: _Verdict | None = None
        for answer in case.expected:
            verdict = self._answer_verdict(answer, prediction, violations, rules)
            if best is None or verdict.distance < best.distance:
                best = verdict
            if not best.errors:
                break
        assert best is not None
        return best

    def _answer_verdict(
        self,
        answer: Sequence[ToolCall],
        prediction: Prediction,
        violations: Sequence[Sequence[Violation]],
        rules: _Rules,
    ) -> _Verdict:
        calls = prediction.calls
        pairs = self._match(answer, calls, rules)
        rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
        missing = [call for row, call in enumerate(answer) if row not in rows]
        surplus = [column for column in range(len(calls)) if column not in columns]
        errors = _count_errors(answer, prediction)
        for call, column in zip(missing, surplus, strict=False):
            if not any(violation.code == "unknown_function" for violation in violations[column]):
                detail = f"expected {call.name}, got {calls[column].name}"
                errors.append(ScoreError(code="wrong_function", path=calls[column].name, detail=detail))
        for column in surplus:
            errors += _call_errors(calls[column], violations[column])
        for (row, column), pair in pairs.items():
            broken = _not_expected(violations[column], answer[row], calls[column], rules)
            errors += _call_errors(calls[column], broken, pair.differences)
        num_missing = sum(_num_arguments(call, rules) for call in missing)
        num_surplus = sum(_num_arguments(calls[column], rules) for column in surplus)
        return _Verdict(
            errors=tuple(errors),
            num_structural=max(len(missing), len(surplus)),
            num_matched=sum(pair.num_matched for pair in pairs.values()),
            num_expected=num_missing + sum(pair.num_expected for pair in pairs.values()),
            num_predicted=num_surplus + sum(pair.num_predicted for pair in pairs.values()),
        )

    def _match(
        self, answer: Sequence[ToolCall], calls: Sequence[ToolCall], rules: _Rules
    ) -> dict[tuple[int, int], _CallPair]:
        """Pairs (expected, predicted) of one tool: as many right ones as possible, then the fewest differences."""
        rows_of, columns_of = _by_name(answer), _by_name(calls)
        matched: dict[tuple[int, int], _CallPair] = {}
        for name in rows_of.keys() & columns_of.keys():
            rows, columns = rows_of[name], columns_of[name]
            own_rules = rules.get(name, {})
            pairs = [[self._pair(answer[row], calls[column], own_rules) for column in columns] for row in rows]
            costs = [[len(pair.differences) for pair in line] for line in pairs]
            for i, j in assign(costs):
                matched[rows[i], columns[j]] = pairs[i][j]
        return dict(sorted(matched.items(), key=lambda item: item[0][1]))

    def _pair(self, expected: ToolCall, got: ToolCall, rules: Mapping[str, Rule]) -> _CallPair:
        defaults = self._defaults.get(expected.name)
        differences: list[Difference] = []
        num_matched = num_expected = num_predicted = 0
        for name in [*expected.arguments, *(name for name in got.arguments if name not in expected.arguments)]:
            rule = rules.get(name, EXACT)
            if rule.kind == "ignore":
                continue
            if rule.kind == "optional":
                if name not in got.arguments:
                    continue
                assert rule.inner is not None
                rule = rule.inner
            omitted = MISSING if defaults is None else defaults.of(name)
            one, other = expected.arguments.get(name, MISSING), got.arguments.get(name, MISSING)
            both_given = one is not MISSING and other is not MISSING
            if one is MISSING and omitted is not MISSING:
                one = [omitted] if rule.kind == "any_of" else omitted
            found = compare(
                one,
                omitted if other is MISSING else other,
                rule,
                defaults=None if defaults is None else defaults.below(name),
            )
            pointer = f"/{escape_pointer(name)}"
            differences += [Difference(pointer + item.pointer, item.detail) for item in found]
            if both_given or found:
                num_matched += not found
                num_expected += name in expected.arguments
                num_predicted += name in got.arguments
        return _CallPair(tuple(differences), num_matched, num_expected, num_predicted)


def score_case(
    case: EvalCase, specs: Sequence[ToolSpec], prediction: Prediction, *, default_equals_omitted: bool = False
) -> Score:
    """The verdict on a single answer; for many answers over one catalogue, keep a `Scorer`. Raises like it."""
    return Scorer(specs, default_equals_omitted=default_equals_omitted).score(case, prediction)


def _rules(case: EvalCase) -> _Rules:
    rules: dict[str, dict[str, Rule]] = {}
    for key, text in case.comparators.items():
        tool, _, parameter = key.partition(".")
        rules.setdefault(tool, {})[parameter] = parse_rule(text)
    return rules


def _by_name(calls: Iterable[ToolCall]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, call in enumerate(calls):
        found.setdefault(call.name, []).append(index)
    return found


def _num_arguments(call: ToolCall, rules: _Rules) -> int:
    own = rules.get(call.name, {})
    return sum(own.get(name, EXACT).kind != "ignore" for name in call.arguments)


def _num_attempts(prediction: Prediction) -> int:
    return len(prediction.calls) + len(prediction.parse_errors)


def _words(prediction: Prediction) -> str:
    """What an answer says outside of its thought."""
    return prediction.text if prediction.prose is None else prediction.prose


def _is_silent(prediction: Prediction) -> bool:
    return _num_attempts(prediction) == 0 and not _words(prediction).strip()


def _output_errors(prediction: Prediction) -> list[ScoreError]:
    errors = [
        ScoreError(code="parse_error", path="", detail=f"{error.kind}: {error.detail}")
        for error in prediction.parse_errors
    ]
    if _is_silent(prediction):
        errors.append(ScoreError(code="no_output", path="", detail="the answer is empty"))
    if prediction.finish_reason == "length":
        detail = "the answer reached max_new_tokens before its end"
        errors.append(ScoreError(code="truncated", path="", detail=detail))
    return errors


def _abstention_verdict(case: EvalCase, prediction: Prediction, violations: Sequence[Sequence[Violation]]) -> _Verdict:
    errors: list[ScoreError] = []
    for call, found in zip(prediction.calls, violations, strict=True):
        detail = f"no call was expected, got {describe_value(call.arguments)}"
        errors += [ScoreError(code="unexpected_call", path=call.name, detail=detail), *_call_errors(call, found)]
    asks = not _QUESTION_MARKS.isdisjoint(_words(prediction))
    if case.behaviour == "clarify" and not asks and _num_attempts(prediction) == 0 and not _is_silent(prediction):
        errors.append(ScoreError(code="wrong_value", path="", detail="no question was asked"))
    num_predicted = sum(len(call.arguments) for call in prediction.calls)
    return _Verdict(tuple(errors), len(prediction.calls), 0, 0, num_predicted)


def _count_errors(answer: Sequence[ToolCall], prediction: Prediction) -> list[ScoreError]:
    num_attempts = _num_attempts(prediction)
    if num_attempts == len(answer) or _is_silent(prediction):
        return []
    wanted, made = _names(answer), _names(prediction.calls)
    if num_attempts == 0:
        return [ScoreError(code="missing_call", path="", detail=f"expected {wanted}, got only text")]
    malformed = f" and {len(prediction.parse_errors)} malformed" if prediction.parse_errors else ""
    detail = f"expected {len(answer)} calls ({wanted}), got {len(prediction.calls)} ({made}){malformed}"
    return [ScoreError(code="wrong_count", path="", detail=detail)]


def _names(calls: Iterable[ToolCall]) -> str:
    return ", ".join(call.name for call in calls) or "none"


def _not_expected(violations: Sequence[Violation], expected: ToolCall, got: ToolCall, rules: _Rules) -> list[Violation]:
    """The violations without those of arguments that are the very values which the case expects."""
    own = rules.get(expected.name, {})
    pardoned = [
        f"/{escape_pointer(name)}"
        for name, value in got.arguments.items()
        if name in expected.arguments
        and any(
            same_value(each, value) for each in expected_alternatives(own.get(name, EXACT), expected.arguments[name])
        )
    ]
    return [
        violation
        for violation in violations
        if not any(violation.pointer == one or violation.pointer.startswith(f"{one}/") for one in pardoned)
    ]


def _call_errors(
    call: ToolCall, violations: Sequence[Violation], differences: Sequence[Difference] = ()
) -> list[ScoreError]:
    """Violations of the schema, and differences where the schema has nothing to say already."""
    errors = [_error(violation.code, call, violation.pointer, violation.detail) for violation in violations]
    judged = [violation.pointer for violation in violations if violation.pointer]
    for difference in differences:
        pointer = difference.pointer
        if not any(pointer == other or pointer.startswith(f"{other}/") for other in judged):
            errors.append(_error("wrong_value", call, pointer, difference.detail))
    return errors


def _error(code: CallError, call: ToolCall, pointer: str, detail: str) -> ScoreError:
    return ScoreError(code=code, path=f"{call.name}.{pointer[1:]}" if pointer else call.name, detail=detail)
