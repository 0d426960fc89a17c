"""What the teacher thinks of the verified answers, before a student follows it: `<out>/teacher.json`.

A teacher that deems the verified tokens unlikely teaches something else. On a sample of the training examples its
log-likelihood of every token, and whether it would have chosen the token itself, are measured per class of token and
per tool: unlikely structure is a matter of dialect, unlikely names and values of skill. Tokens are the teacher's own,
where it has another tokenizer too. What is trained, and how, is not known here.

Axes: U completion tokens of the teacher, K tokens that a cache keeps of a distribution.
"""

import dataclasses
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fcdistill.config import CLASS_NAMES, TrainConfig
from fcdistill.distillation.batches import side_to
from fcdistill.distillation.examples.collation import Layout, lay_out_side
from fcdistill.distillation.examples.examples import Example
from fcdistill.distillation.losses.chunks import row_chunks
from fcdistill.distillation.losses.gating import row_gate
from fcdistill.distillation.losses.soft_labels import LogitLabels, TopKLabels
from fcdistill.distillation.preparation import Prepared
from fcdistill.distillation.signals.cache_files import TeacherCache
from fcdistill.distillation.signals.sources import CachedTeacher, OnlineTeacher
from fcdistill.prompts.rendering import label_answer
from fcdistill.records import ModelRef, TeacherReport, TokenFigures
from fcdistill.storage import write_json

__all__ = ["TeacherLikelihoods", "cached_likelihoods", "online_likelihoods", "report_teacher", "summarise_teacher"]

log = logging.getLogger(__name__)

_NO_CALL = "(no call)"
"""Row of answers without a call; no tool can have this name."""

_UNLIKELY_STRUCTURE_NLL = 0.1
"""Nats per structure token above which the teacher is said to speak another dialect.

A call has some 20 structure tokens, which say nothing about the request: at this figure a teacher writes the frame of
one call in seven as the student has to (exp(-20 * 0.1)). One that knows the dialect is unsure only whether another
argument follows.
"""

_Token = tuple[float, bool | None]
"""Of a token what `TeacherLikelihoods` has of all."""


@dataclass(frozen=True)
class TeacherLikelihoods:
    """What the teacher said about one example."""

    example: Example
    nll_U: Tensor
    """Of each verified token, at temperature 1."""
    agrees_U: Tensor | None
    """Whether no other token is likelier, bool; None where that is not known."""


def report_teacher(
    config: TrainConfig,
    prepared: Prepared,
    teacher: OnlineTeacher | CachedTeacher,
    layout: Layout | None,
    device: torch.device,
    report: Callable[[str], None],
) -> None:
    """Measure the teacher, write teacher.json, show a table, and warn where it speaks another dialect.

    Nothing is done where the file is there already, as in a run that is taken up again.

    Args:
        config: names the output directory, and how many examples are drawn.
        prepared: the examples and the teacher's tokenizer.
        teacher: who is heard in training.
        layout: of its rows; needed where it runs.
        device: where it runs.
        report: takes the table.

    Raises:
        StorageError: the disk refused.
    """
    path = config.out / "teacher.json"
    if not config.teacher_report_examples or path.exists():
        return
    assert prepared.teacher is not None
    examples = _sample(prepared.train, config.teacher_report_examples, config.seed)
    if isinstance(teacher, CachedTeacher):
        keeps_likeliest = config.cache is not None and config.cache.top_k > 0
        heard = cached_likelihoods(teacher.cache, examples, keeps_likeliest=keeps_likeliest)
    else:
        assert layout is not None
        heard = online_likelihoods(teacher, layout, examples, config.examples_per_pack, device)
    found = summarise_teacher(heard, prepared.teacher.tokenizer, prepared.teacher.ref, config.signal)
    write_json(path, found.model_dump(mode="json"))
    report(_table(found, len(prepared.train)))
    structure = found.by_class.get("structure")
    if structure is not None and structure.nll > _UNLIKELY_STRUCTURE_NLL:
        log.warning(
            "the teacher gives the structure of calls (tags, braces, quotes, the call's own keys) %.2f nats per token, "
            "and %.2f is much: it speaks another dialect than the student, and its soft labels teach that. Show it "
            "the student's calls (teacher_examples), train it on the traces (`fcdistill adapt`), leave out what it "
            "contradicts (objective.kd_gate), or let structure count less (objective.class_weights)",
            structure.nll,
            _UNLIKELY_STRUCTURE_NLL,
        )


def _sample(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """So many examples, those that share a prompt next to one another."""
    places = random.Random(seed).sample(range(len(examples)), min(count, len(examples)))
    return sorted((examples[place] for place in places), key=lambda example: example.teacher_ids)


def online_likelihoods(
    teacher: OnlineTeacher, layout: Layout, examples: Sequence[Example], pack: int, device: torch.device
) -> Iterator[TeacherLikelihoods]:
    """What a teacher that runs says, `pack` examples at a time."""
    teacher = dataclasses.replace(teacher, layers=(), needs_logits=True)
    for start in range(0, len(examples), pack):
        chosen = examples[start : start + pack]
        side, _ = lay_out_side("teacher", layout, chosen, "completion")
        logits_UV = teacher.rows(side_to(side, device)).logits_NV
        targets_U = torch.tensor([token for example in chosen for token in example.teacher_completion], device=device)
        chunks = list(row_chunks(LogitLabels(logits_UV), targets_U))
        nll_U = torch.cat(
            [F.cross_entropy(labels.logits_NV.float(), targets, reduction="none") for labels, targets in chunks]
        )
        agrees_U = torch.cat([row_gate("agree", *chunk) for chunk in chunks]).bool()
        lengths = [len(example.teacher_completion) for example in chosen]
        parts = zip(chosen, torch.split(nll_U.cpu(), lengths), torch.split(agrees_U.cpu(), lengths), strict=True)
        for example, nll, agrees in parts:
            yield TeacherLikelihoods(example, nll, agrees)


def cached_likelihoods(
    cache: TeacherCache, examples: Iterable[Example], *, keeps_likeliest: bool = True
) -> Iterator[TeacherLikelihoods]:
    """What a cache holds of a teacher; `keeps_likeliest` where it holds more than the completions' own tokens."""
    for example in examples:
        signals = cache.read(example.trace_id)
        logprobs_U, agrees_U = signals.target_logprobs_N, None
        if keeps_likeliest:
            logprobs_UK = signals.logprobs_NK.float()
            labels = TopKLabels(signals.ids_NK, logprobs_UK, logprobs_UK, logprobs_U)  # at kd_temperature 1
            agrees_U = row_gate("agree", labels, torch.tensor(example.teacher_completion)).bool()
        yield TeacherLikelihoods(example, -logprobs_U, agrees_U)


def summarise_teacher(
    heard: Iterable[TeacherLikelihoods], tokenizer: PreTrainedTokenizerBase, teacher: ModelRef, signal: str
) -> TeacherReport:
    """The report on what was heard.

    Args:
        heard: one or more examples.
        tokenizer: the teacher's.
        teacher: who was heard.
        signal: how.
    """
    tokens: list[_Token] = []
    by_class: dict[str, list[_Token]] = {name: [] for name in CLASS_NAMES}
    by_tool: dict[str, list[_Token]] = {}
    num_examples = 0
    for each in heard:
        labels = label_answer(tokenizer, each.example.text, each.example.quoted)
        calls_nothing = not any(labels.tools)
        num_examples += 1
        agrees = [None] * len(each.nll_U) if each.agrees_U is None else each.agrees_U.tolist()
        found: list[_Token] = list(zip(each.nll_U.tolist(), agrees, strict=True))
        for token, kind, tool in zip(found, labels.classes, labels.tools, strict=True):
            tokens.append(token)
            by_class[kind].append(token)
            if tool or calls_nothing:
                by_tool.setdefault(tool or _NO_CALL, []).append(token)
    return TeacherReport(
        teacher=teacher,
        signal=signal,
        num_examples=num_examples,
        overall=_figures(tokens),
        by_class={name: _figures(found) for name, found in by_class.items() if found},
        by_tool={name: _figures(by_tool[name]) for name in sorted(by_tool, key=lambda name: (name == _NO_CALL, name))},
    )


def _figures(tokens: Sequence[_Token]) -> TokenFigures:
    agreements = [agrees for _, agrees in tokens if agrees is not None]
    return TokenFigures(
        num_tokens=len(tokens),
        nll=sum(nll for nll, _ in tokens) / len(tokens),
        agreement_rate=sum(agreements) / len(agreements) if agreements else None,
    )


def _table(found: TeacherReport, num_train: int) -> str:
    rows = [("all tokens", found.overall), *found.by_class.items(), *found.by_tool.items()]
    width = max(len(name) for name, _ in rows)
    lines = [
        f"teacher {found.teacher.model} on {found.num_examples} of {num_train} examples",
        f"  {'':{width}}  tokens  nats/token  its likeliest",
    ]
    lines += [
        f"  {name:{width}}  {figures.num_tokens:6}  {figures.nll:10.3f}  "
        + (f"{'unknown':>13}" if figures.agreement_rate is None else f"{figures.agreement_rate:13.1%}")
        for name, figures in rows
    ]
    return "\n".join(lines)
