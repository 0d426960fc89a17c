"""Cross-fitting: students that have learned the other folds say what they think of the answers of this one.

    <out>/fold-K/traces.jsonl    what the student of fold K learns: the candidates of all other folds
    <out>/fold-K/student/        its run directory, as of `fcdistill adapt`
    <out>/fold-K/gaps.jsonl      what it thinks of the answers of fold K, planted errors among them

Answers that share a split group are in one fold, so that no student has seen a sibling of what it judges. Each fold can
be killed and taken up again. What a gap means for an answer is not known here.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from fcdistill.config import AdaptConfig, LoraTuning
from fcdistill.errors import DataError
from fcdistill.evidence.candidates import Source, Variant
from fcdistill.generation.dataset.dedupe import request_key
from fcdistill.generation.dataset.turns import merge_groups, user_texts
from fcdistill.records import AnswerGaps, Trace
from fcdistill.storage import write_jsonl

__all__ = ["assign_folds", "fold_training", "gaps_of_fold", "train_fold"]


def assign_folds(source: Source, num_folds: int, *, seed: int) -> tuple[dict[str, str], dict[str, int]]:
    """The split group of each candidate and its fold, from 0 on, by its id.

    Raises:
        DataError: there are fewer split groups than folds.
    """
    # As an import groups its traces: rejects have not been grouped yet.
    grouped = list(merge_groups(source.candidates, lambda trace: [f"begins-{request_key(user_texts(trace)[0])}"]))
    sizes = Counter(trace.split_group for trace in grouped)
    if len(sizes) < num_folds:
        raise DataError(
            f"{len(grouped)} candidates are in {len(sizes)} split groups, and {num_folds} folds were asked for",
            required="at least as many groups as folds: traces of one group stay together",
            fix=f"set --folds to at most {len(sizes)}" if len(sizes) > 1 else "give more traces",
        )
    folds: dict[str, int] = {}
    loads = [0] * num_folds

    def draw(group: str) -> bytes:
        return hashlib.sha256(f"{seed}/{group}".encode()).digest()

    for group in sorted(sizes, key=lambda group: (-sizes[group], draw(group))):
        folds[group] = loads.index(min(loads))
        loads[folds[group]] += sizes[group]
    groups = {trace.id: trace.split_group for trace in grouped}
    return groups, {identity: folds[group] for identity, group in groups.items()}


def fold_training(model: str, source: Source, directory: Path, *, epochs: float, device: str, seed: int) -> AdaptConfig:
    """How the student of a fold learns: cross-entropy and LoRA; the prompt shows no tools where all are the same.

    Args:
        model: reference of the student.
        source: the candidates.
        directory: of the fold.
        epochs: passes over the other folds.
        device: as `train` takes it.
        seed: of the training.
    """
    catalogues = {tuple(tool.model_dump_json() for tool in trace.tools) for trace in source.candidates}
    return AdaptConfig(
        teacher=model,
        traces=directory / "traces.jsonl",
        out=directory / "student",
        tools_in_prompt="none" if len(catalogues) == 1 else "compact",
        tuning=LoraTuning(lora_rank=16, lora_alpha=32),
        epochs=epochs,
        examples_per_step=8,
        examples_per_pack=8,
        learning_rate=1e-3,
        merge=False,
        device=device,
        seed=seed,
    )


def train_fold(
    config: AdaptConfig, source: Source, folds: Mapping[str, int], fold: int, report: Callable[[str], None]
) -> None:
    """Train the student of a fold on the candidates of all others, or go on where it stopped.

    Raises:
        FcdistillError: as `run_training` raises it.
    """
    from fcdistill.distillation.run import run_training

    learned = [trace for trace in source.candidates if folds[trace.id] != fold]
    if not config.traces.exists():
        write_jsonl(config.traces, learned)
    run_training(config, report)


def gaps_of_fold(
    config: AdaptConfig, variants: Iterable[Variant], on_progress: Callable[[int, int], None]
) -> dict[str, AnswerGaps]:
    """What the student of a fold thinks of answers, by trace id.

    Raises:
        FcdistillError: as `measure_gaps` raises it.
    """
    from fcdistill.distillation.answer_gaps import measure_gaps

    training = config.training().model_copy(update={"examples_per_pack": 32})
    traces: Sequence[Trace] = [variant.trace for variant in variants]
    return measure_gaps(training, traces, config.out.parent / "gaps.jsonl", on_progress)
