"""Answers as records: from a model's text, or from a file of saved answers.

A call that a strict JSON reader may not accept (lone surrogates, absurd nesting) is a parse error like any other. What
an answer is worth is not known here (`scoring`).
"""

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError

from fcdistill.errors import DataError
from fcdistill.machine.forked_work import map_parts
from fcdistill.records import FinishReason, ParseError, Prediction, SavedPrediction, ToolCall, ToolSpec
from fcdistill.storage import iter_jsonl
from fcdistill.toolcalls.dialects.table import DIALECTS
from fcdistill.toolcalls.parsing import ParsedOutput, parse_output
from fcdistill.toolcalls.structured import structured_output

__all__ = ["prediction_from_text", "predictions_of_suite", "read_predictions"]

_MAX_NESTING = 64
_FINISH_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "call_complete": "call_complete",
    "length": "length",
    "error": "error",
}
"""Our words and the OpenAI API's; anything else is `unknown`."""


def prediction_from_text(
    id: str,
    text: str,
    finish_reason: FinishReason = "unknown",
    *,
    parsed: ParsedOutput | None = None,
    repetition: int = 0,
    latency_s: float | None = None,
    prompt_tokens: int | None = None,
    completion_tokens: int | None = None,
    thought_tokens: int | None = None,
    error: str | None = None,
) -> Prediction:
    """The record of one output text, its calls read in whatever dialect they stand.

    Args:
        id: the case's id.
        text: the raw output without its stop token; lone surrogates become U+FFFD.
        finish_reason: why the output ended.
        parsed: what the output says, where that is known already; None: it is read from the text.
        repetition: which of several answers to the case it is.
        latency_s: seconds for this answer.
        prompt_tokens: tokens of the prompt.
        completion_tokens: tokens of the output.
        thought_tokens: those of them with which the model thought.
        error: why there is no answer, where the backend failed.
    """
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    parsed = parsed or parse_output(text, truncated=finish_reason == "length")
    calls, parse_errors = _storable(parsed.calls)
    has_thought = bool(parsed.thought) or parsed.is_unfinished
    return Prediction(
        id=id,
        repetition=repetition,
        text=text,
        prose=parsed.text if has_thought else None,
        calls=calls,
        parse_errors=(*parsed.errors, *parse_errors),
        dialects=parsed.dialects,
        finish_reason=finish_reason,
        latency_s=latency_s,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        thought_tokens=thought_tokens,
        error=error,
    )


def read_predictions(path: Path, *, repeat: int = 1) -> dict[tuple[str, int], Prediction]:
    """Saved answers by case id and repetition, of whatever suite they are.

    Args:
        path: JSONL of `{id, text}`, `{id, tool_calls}`, or an earlier eval's predictions.jsonl.
        repeat: answers to each case: an id may stand in as many lines.

    Raises:
        DataError: a line is malformed, or an id stands in more lines than that.
    """
    saved = list(iter_jsonl(path, SavedPrediction, "predictions"))
    numbered = _numbered(saved)
    for case_id, repetition in numbered:
        if repetition >= repeat:
            raise DataError(
                f"predictions {path}: case {case_id!r} has an answer number {repetition + 1}, and repeat is {repeat}",
                required="as many answers to each case as repeat says",
                fix=f"remove that answer, or give --repeat {1 + max(number for _, number in numbered)}",
            )
    if len(numbered) < len(saved):
        twice, _ = Counter((line.id, line.repetition) for line in saved).most_common(1)[0]
        raise DataError(
            f"predictions {path}: repetition {twice[1]} of case {twice[0]!r} stands there twice",
            required="one answer per repetition of a case",
            fix="remove one of them",
        )

    def read(lines: Sequence[tuple[tuple[str, int], SavedPrediction]]) -> list[Prediction]:
        return [_prediction(line, repetition) for (_, repetition), line in lines]

    return dict(zip(numbered, map_parts(read, list(numbered.items())), strict=True))


def predictions_of_suite(
    path: Path,
    saved: Mapping[tuple[str, int], Prediction],
    known_ids: Collection[str],
    safe_names: Mapping[str, str],
    specs: Mapping[str, Sequence[ToolSpec]],
) -> dict[tuple[str, int], Prediction]:
    """Saved answers as answers to a suite, with its names for the tools.

    Args:
        path: where they were read.
        saved: the answers by case id and repetition.
        known_ids: ids of all cases of the suite.
        safe_names: a tool's original name to its name in the catalogue, where the two differ.
        specs: the tools of each evaluated case, by case id: formats that do not say of what type a value is are read
            with them.

    Raises:
        DataError: an id belongs to no case.
    """
    unknown = [case_id for case_id, _ in saved if case_id not in known_ids]
    if unknown:
        raise DataError(
            f"predictions {path}: {len(unknown)} of {len(saved)} ids belong to no case, the first is {unknown[0]!r}",
            required="ids of the suite's cases",
            fix="give the predictions of this suite, or remove the others",
        )
    typed = {key: _with_types(prediction, specs.get(key[0], ())) for key, prediction in saved.items()}
    return {key: _with_safe_names(prediction, safe_names) for key, prediction in typed.items()}


def _numbered(saved: Sequence[SavedPrediction]) -> dict[tuple[str, int], SavedPrediction]:
    """The lines by case id and repetition; one that does not say which it is takes the first free number."""
    found = {(line.id, line.repetition): line for line in saved if line.repetition is not None}
    for line in saved:
        if line.repetition is None:
            number = next(number for number in itertools.count() if (line.id, number) not in found)
            found[line.id, number] = line
    return found


def _prediction(line: SavedPrediction, repetition: int) -> Prediction:
    finish_reason = _FINISH_REASONS.get(line.finish_reason, "unknown")
    text = line.text or ""
    parsed = None
    if line.tool_calls or line.calls is not None:
        parsed = replace(structured_output(text, line.tool_calls or ()), dialects=line.dialects)
    if parsed is not None and not line.tool_calls:
        parsed = replace(parsed, calls=line.calls or (), errors=line.parse_errors)
    prediction = prediction_from_text(
        line.id,
        text,
        finish_reason,
        parsed=parsed,
        repetition=repetition,
        latency_s=line.latency_s,
        prompt_tokens=line.prompt_tokens,
        completion_tokens=line.completion_tokens,
        thought_tokens=line.thought_tokens,
        error=line.error,
    )
    return prediction if line.prose is None else prediction.model_copy(update={"prose": line.prose})


def _with_types(prediction: Prediction, specs: Sequence[ToolSpec]) -> Prediction:
    """The answer read again where its format leaves the types of values to the tools' schemas."""
    if all(name not in DIALECTS or DIALECTS[name].syntax == "json" for name in prediction.dialects):
        return prediction
    return prediction_from_text(
        **prediction.model_dump(
            include={
                *("id", "text", "finish_reason", "repetition", "latency_s"),
                *("prompt_tokens", "completion_tokens", "thought_tokens", "error"),
            }
        ),
        parsed=parse_output(prediction.text, specs, truncated=prediction.finish_reason == "length"),
    )


def _with_safe_names(prediction: Prediction, safe_names: Mapping[str, str]) -> Prediction:
    if not safe_names:
        return prediction
    renamed = [call.model_copy(update={"name": safe_names.get(call.name, call.name)}) for call in prediction.calls]
    return prediction.model_copy(update={"calls": tuple(renamed)})


def _storable(calls: tuple[ToolCall, ...]) -> tuple[tuple[ToolCall, ...], tuple[ParseError, ...]]:
    defects = {index: defect for index, call in enumerate(calls) if (defect := _defect(call))}
    return (
        tuple(call for index, call in enumerate(calls) if index not in defects),
        tuple(ParseError(kind="invalid_json", detail=defect, start=0, end=0) for defect in defects.values()),
    )


def _defect(call: ToolCall) -> str:
    level: list[Any] = [call.arguments]
    for _ in range(_MAX_NESTING):
        inner = [item for value in level for item in (value.values() if isinstance(value, dict) else value)]
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            break
    else:
        return f"arguments nest deeper than {_MAX_NESTING} levels"
    try:
        call.model_dump_json()
    except PydanticSerializationError:
        return "a string holds a lone surrogate, which is no Unicode text"
    return ""
