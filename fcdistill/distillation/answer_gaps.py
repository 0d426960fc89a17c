"""How far a trained model's own favourites are ahead of the tokens of given answers.

An answer that the model would give itself has no gaps; one wrong value shows as a gap at that value, a forgotten or an
invented argument as one at the structure token where the call should have gone on or ended. Answers to one prompt are
computed together, as the branches of a tree. What follows from a gap is not known here.

Axes: N completion tokens of a pack, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fcdistill.config import CLASS_NAMES, TokenClass, TrainConfig
from fcdistill.distillation.batches import side_to
from fcdistill.distillation.examples.collation import lay_out_side
from fcdistill.distillation.examples.examples import Example, render_traces
from fcdistill.distillation.losses.chunks import row_chunks
from fcdistill.distillation.losses.soft_labels import LogitLabels
from fcdistill.distillation.preparation import layout_of
from fcdistill.distillation.signals.sources import OnlineTeacher
from fcdistill.models.loading import load_model, load_tokenizer
from fcdistill.records import AnswerGaps, ArgumentGap, ToolCall, Trace
from fcdistill.storage import Journal

__all__ = ["gaps_by_place", "measure_gaps"]


def measure_gaps(
    config: TrainConfig, traces: Sequence[Trace], path: Path, on_progress: Callable[[int, int], None]
) -> dict[str, AnswerGaps]:
    """The gaps of the answers of traces, by trace id; those that lie in the file are not computed again.

    Args:
        config: the training, whose student lies in its output directory.
        traces: whose answers are given; ids are distinct.
        path: a journal of `AnswerGaps`, written pack by pack.
        on_progress: called with (answers done, answers in all) after every pack.

    Raises:
        ModelError: the student can't be loaded, or its template refuses a conversation.
        StorageError: the disk refused.
    """
    with Journal(path, AnswerGaps) as journal:
        done = {line.id: line for line in journal}
        left = [trace for trace in traces if trace.id not in done]
        if left:
            for lines in _measured(config, left):
                journal.append(lines)
                done |= {line.id: line for line in lines}
                on_progress(len(done), len(traces))
    return {trace.id: done[trace.id] for trace in traces}


def _measured(config: TrainConfig, traces: Sequence[Trace]) -> Iterator[list[AnswerGaps]]:
    """The gaps, pack by pack."""
    tokenizer = load_tokenizer(config.student.model, config.student, thinks=False, template_date=config.template_date)
    examples = render_traces(traces, tokenizer, config.tools_in_prompt)
    calls = {trace.id: trace.answer.calls for trace in traces}
    examples.sort(key=lambda example: example.student_ids)  # those that share a prompt are in one pack
    model = load_model(str(config.out), thinks=False, dtype=config.dtype, device=config.device).model
    model.requires_grad_(False)
    head = model.get_output_embeddings()
    heard = OnlineTeacher(model, head, vocabulary_size=len(tokenizer), layers=(), needs_logits=True)
    layout = layout_of(config, model, head, [example.student_ids for example in examples], name="student")
    device = next(model.parameters()).device
    for start in range(0, len(examples), config.examples_per_pack):
        chosen = examples[start : start + config.examples_per_pack]
        side, _ = lay_out_side("student", layout, chosen, "completion")
        logits_NV = heard.rows(side_to(side, device)).logits_NV
        targets_N = torch.tensor([token for example in chosen for token in example.completion], device=device)
        gaps: list[float] = []
        nlls: list[float] = []
        for labels, targets in row_chunks(LogitLabels(logits_NV), targets_N):
            logprobs_NV = labels.logits_NV.float().log_softmax(-1)
            own_N = logprobs_NV.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
            gaps += (logprobs_NV.amax(-1) - own_N).tolist()
            nlls += (-own_N).tolist()
        yield list(_lines(chosen, calls, gaps, nlls))


def _lines(
    examples: Sequence[Example],
    calls: Mapping[str, Sequence[ToolCall]],
    gaps: Sequence[float],
    nlls: Sequence[float],
) -> Iterator[AnswerGaps]:
    start = 0
    for example in examples:
        own = slice(start, start + len(example.completion))
        start = own.stop
        classes = [CLASS_NAMES[kind] for kind in example.classes]
        name, arguments, end = gaps_by_place(classes, gaps[own], calls[example.trace_id])
        yield AnswerGaps(
            id=example.trace_id,
            name=round(name, 4),
            arguments=tuple(
                ArgumentGap(call=call, name=argument, key=round(key, 4), value=round(value, 4))
                for (call, argument), (key, value) in arguments.items()
            ),
            end=round(end, 4),
            total=round(sum(gaps[own]), 4),
            nll=round(sum(nlls[own]), 4),
        )


def gaps_by_place(
    classes: Sequence[TokenClass], gaps: Sequence[float], calls: Sequence[ToolCall]
) -> tuple[float, dict[tuple[int, str], tuple[float, float]], float]:
    """The largest gap at names, at key and value of each argument of each call, and where something ended.

    The keys of an answer stand in the order of its arguments, at all depths. Structure before a key begins an argument;
    other structure ends one, or a call. Where a format writes no key of its own for each, all arguments share what
    is found at keys and values.
    """
    owners = [
        (number, name) for number, call in enumerate(calls) for name, value in call.arguments.items()
        for _ in range(1 + _num_keys(value))
    ]  # fmt: skip
    starts = [at for at, kind in enumerate(classes) if kind == "arg_key" and classes[at - 1 : at] != ["arg_key"]]
    is_known = len(starts) == len(owners)
    keys, values = dict.fromkeys(owners, 0.0), dict.fromkeys(owners, 0.0)
    largest_name = end = shared = 0.0
    key = -1
    pending = 0.0
    for at, (kind, gap) in enumerate(zip(classes, gaps, strict=True)):
        if kind == "structure":
            pending = max(pending, gap)
            continue
        if kind in ("arg_key", "arg_value"):
            key += kind == "arg_key" and (not at or classes[at - 1] != "arg_key")
            shared = max(shared, pending, gap)
            if is_known and key >= 0:
                found = keys if kind == "arg_key" else values
                found[owners[key]] = max(found[owners[key]], pending, gap)
        elif kind == "name":
            largest_name, end = max(largest_name, gap), max(end, pending)
        else:
            end = max(end, pending, gap)
        pending = 0.0
    places = {owner: (keys[owner], values[owner]) if is_known else (shared, shared) for owner in keys}
    return largest_name, places, max(end, pending)


def _num_keys(value: Any) -> int:
    """Names of properties in a value, at all depths."""
    if isinstance(value, dict):
        return len(value) + sum(map(_num_keys, value.values()))
    return sum(map(_num_keys, value)) if isinstance(value, list) else 0
