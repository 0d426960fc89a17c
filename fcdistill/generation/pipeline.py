"""`fcdistill generate`: from plan to verified traces, resumable at any instant.

The plan is cut into fixed chunks. A chunk's outcomes go to `journal.jsonl` in one durable append; a run that takes up
the work again asks only for chunks that are not there yet, with the same seeds, so that it ends with the same set.
`traces.jsonl`, `rejects.jsonl` and `stats.json` are computed from the journal when all chunks are done. With several
rounds, what a round has kept also goes to `traces-round-N.jsonl`, from which the teacher of the next one learns. A
shard has a journal and counts alone: which of its traces are kept shows when all shards are taken up.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from fcdistill.backends.base import Backend
from fcdistill.config import GenerateConfig
from fcdistill.errors import ConfigError
from fcdistill.generation.assembly import Assembly
from fcdistill.generation.context import GenerationContext, read_context
from fcdistill.generation.dataset.reuse import RECORDED, REUSED
from fcdistill.generation.execution.executor import execution_checks
from fcdistill.generation.generator import Generator
from fcdistill.generation.journal.outcomes import Outcomes
from fcdistill.generation.journal.plan_shards import JOURNAL, Shard, finished_journals, merge_journals
from fcdistill.generation.journal.rounds import Round, read_rounds, write_rounds
from fcdistill.records import GenerationStats, Outcome, Trace
from fcdistill.storage import RunDirectory, iter_jsonl, read_json, sha256_json, write_jsonl
from fcdistill.tools.catalog import Catalog

__all__ = ["run_generation"]

_ROUND_TRACES = "traces-round-{}.jsonl"


def run_generation(
    config: GenerateConfig,
    backend: Callable[[], Backend] | None,
    catalog: Catalog,
    *,
    judge: Callable[[], Backend] | None = None,
    adapted: Callable[[int, Path], Backend] | None = None,
    retry_rejects: bool = False,
    on_progress: Callable[[int, int, int], None] | None = None,
) -> GenerationStats:
    """Generate, verify and write traces; a finished directory returns its stats at once.

    Args:
        config: what to make, or one shard of it.
        backend: opens the teacher; called only when there is work for it. None where nobody is to be asked: then
            recorded answers and earlier traces are all there is.
        catalog: the tools.
        judge: opens the judge of disputed answers, where the config names one; called before the teacher is opened.
        adapted: opens the teacher of a round when it has learned the traces of a file, where the config has several
            rounds; it is called again when a killed run goes on.
        retry_rejects: give every rejected item of a finished run one more attempt.
        on_progress: called with (items done, items in all, traces kept) after every chunk.

    Raises:
        FcdistillError: inputs are unusable, the directory holds another run, or the teacher stopped answering.
    """
    context = read_context(config, catalog)
    shard = Shard.parse(config.shard) if config.shard else None
    rounds = read_rounds(_directory(config, shard), config.attempts)
    opened = partial(_opened, context, len(rounds))
    if shard is not None:
        context = replace(context, plan=shard.of(context.plan))
        if retry_rejects:
            raise ConfigError(
                f"rejects are to be tried again in shard {shard} alone",
                required="a whole generation: what is a reject shows when all its shards are taken up",
                fix="remove --retry-rejects; after the last shard, give it to the generation without --shard",
            )
    if retry_rejects and backend is None:
        raise ConfigError(
            "rejects are to be tried again, and there is no teacher who could",
            required="a teacher",
            fix="name one in the generate section, or remove --retry-rejects",
        )
    with opened(shard) as run, Outcomes(run.path / JOURNAL) as outcomes, contextlib.ExitStack() as held:
        if run.complete and not retry_rejects and len(rounds) >= config.rounds:
            return GenerationStats.model_validate(read_json(run.path / "stats.json", "stats file"))
        if run.complete and retry_rejects:
            rounds[-1] = _with_another_attempt(rounds[-1], outcomes)
            write_rounds(run.path, rounds)
        journals = [] if shard or run.complete else finished_journals(config.out, opened)
        if run.complete:
            run.reopen()
        if context.executor is not None:
            held.callback(context.executor.close)
        if shard is None:
            outcomes.append_missing(_recorded(context, outcomes))
        made_before = outcomes.append_missing(merge_journals(journals) if journals else _placed(context))
        assembly = Assembly(context, outcomes)
        if backend is not None:
            generator = Generator(
                context, outcomes, assembly, made_before, backend=backend, judge=judge, on_progress=on_progress
            )
            _work(config, generator, assembly, rounds, adapted)
        stats = assembly.finish_shard(run.path, rounds) if shard else assembly.finish(rounds)
        run.mark_complete()
        return stats


def _opened(context: GenerationContext, num_rounds: int, shard: Shard | None) -> RunDirectory:
    """The directory of a generation, or of one of its shards."""
    config = context.config
    # How a teacher is adapted matters as soon as one was.
    is_adapted = shard is None and num_rounds > 1
    return RunDirectory(
        _directory(config, shard),
        stage="generate",
        config={
            **config.model_dump(mode="json"),
            "catalog_sha256": context.catalog.sha256,
            "returns_sha256": sha256_json(context.results.returns),
            "shard": str(shard) if shard else None,
        },
        inputs=context.files,
        seed=config.seed,
        # Which tools are left out, the catalogue's hash says.
        volatile=frozenset(
            {"out", "ray", "ray_gpus", "rounds", "skip_invalid"} | (set() if is_adapted else {"adaptation"})
        ),
    )


def _recorded(context: GenerationContext, outcomes: Outcomes) -> Iterator[Outcome]:
    """Recorded answers, their calls carried out where the configuration asks for it and no earlier run has done it."""
    known = {entry.id for entry in outcomes.entries if entry.attempt == RECORDED}
    for trace in context.recorded.candidates:
        if trace.id in known:
            continue
        if context.executor is not None and all(check.ok for check in trace.meta.checks):
            context.executor.start()
            checks = (*trace.meta.checks, *execution_checks(context.executor, trace.answer.calls))
            trace = trace.model_copy(update={"meta": trace.meta.model_copy(update={"checks": checks})})
        yield Outcome(id=trace.id, attempt=RECORDED, candidate=trace)


def _placed(context: GenerationContext) -> Iterator[Outcome]:
    """Earlier traces in the plan's places, settled before the first attempt like items that an earlier one settled."""
    placed = context.reused.placed
    return (
        Outcome(id=item.id, attempt=REUSED, candidate=placed[item.id]) for item in context.plan if item.id in placed
    )


def _work(
    config: GenerateConfig,
    generator: Generator,
    assembly: Assembly,
    rounds: list[Round],
    adapted: Callable[[int, Path], Backend] | None,
) -> None:
    """Make the attempts of all rounds; those that are begun here are added to `rounds`."""
    generator.work(rounds[0])
    for number in range(2, max(config.rounds, len(rounds)) + 1):
        if len(rounds) < number:
            following = Round(number, rounds[-1].attempts.stop, config.attempts)
            if not generator.has_questions(following) or assembly.finish(rounds).kept == 0:
                break
            _save_round(config, rounds[-1])
            rounds.append(following)
            write_rounds(config.out, rounds)
        assert adapted is not None
        learned = config.out / _ROUND_TRACES.format(number - 1)
        generator.work(rounds[number - 1], partial(adapted, number, learned))


def _directory(config: GenerateConfig, shard: Shard | None) -> Path:
    """Where a run over the plan, or over one shard of it, keeps its files."""
    return shard.directory(config.out) if shard else config.out


def _with_another_attempt(last: Round, outcomes: Outcomes) -> Round:
    """The last round of a finished run with one more attempt.

    It is counted from the journal, so that a run which is killed before the attempt began adds no second one.
    """
    made = 1 + max((REUSED, *(entry.attempt for entry in outcomes.entries)))
    return replace(last, num_attempts=made + 1 - last.first)


def _save_round(config: GenerateConfig, done: Round) -> None:
    """Keep the traces as they are at the end of a round."""
    learned = iter_jsonl(config.out / "traces.jsonl", Trace, "traces file")
    write_jsonl(config.out / _ROUND_TRACES.format(done.number), learned)
