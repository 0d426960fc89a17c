"""What the steps of one generation share: what is to be made, and from what.

It is read and checked before a directory is touched. What of it has been made already, and who is asked for the rest,
is not known here (`journal`, `generator`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdistill.backends.constrained.call_grammar import require_enforceable
from fcdistill.config import GenerateConfig
from fcdistill.errors import DataError
from fcdistill.generation.dataset.collection import Collection
from fcdistill.generation.dataset.dedupe import Contamination, NearDuplicates
from fcdistill.generation.dataset.reuse import Reused, place_traces, read_reusable
from fcdistill.generation.execution.executor import Executor
from fcdistill.generation.imports.recorded_source import Recorded, place_recorded, read_recorded
from fcdistill.generation.plan.plan import PlanItem, make_plan
from fcdistill.generation.plan.tool_results import ToolResults, read_results
from fcdistill.generation.verification.value_book import ValueBook, read_value_book
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.prompts.worked_examples import read_examples
from fcdistill.records import EvalCase, SeedRequest, WorkedExample
from fcdistill.storage import read_jsonl
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.validation import CallValidator

__all__ = ["GenerationContext", "read_context"]


@dataclass(frozen=True)
class GenerationContext:
    """One generation, or one shard of it.

    Attributes:
        config: what is made.
        catalog: the tools.
        book: realistic values of their arguments.
        results: what the tools give back.
        examples: the team's own, which are traces too.
        plan: the items that are worked at.
        recorded: recorded answers, and the plan's places that they take.
        reused: earlier traces, in the plan's other places and beside it.
        verifier: checks what is made.
        contamination: finds wording of eval cases.
        executor: carries out calls, where the config names one; it is started when it is needed.
    """

    config: GenerateConfig
    catalog: Catalog
    book: ValueBook
    results: ToolResults
    examples: Sequence[WorkedExample]
    plan: Sequence[PlanItem]
    recorded: Recorded
    reused: Reused
    verifier: Verifier
    contamination: Contamination
    executor: Executor | None

    @property
    def files(self) -> list[Path]:
        """All files that were read, but the catalogue."""
        config = self.config
        several = (*config.recorded, *config.decontaminate, *config.reuse)
        optional = (config.values, config.results, config.examples, config.seeds, *several)
        return [path for path in optional if path]


def read_context(config: GenerateConfig, catalog: Catalog) -> GenerationContext:
    """Read what a generation is made from, and plan all of it.

    Args:
        config: what to make.
        catalog: the tools.

    Raises:
        FcdistillError: inputs are unusable, or nothing is to be made of them.
    """
    if config.constrained:
        require_enforceable([catalog.specs])
    book = read_value_book(config.values, catalog)
    validator = CallValidator(catalog.specs)
    examples = read_examples(config.examples, validator) if config.examples else []
    seeds = read_jsonl(config.seeds, SeedRequest, "seeds file") if config.seeds else []
    cases = [case for path in config.decontaminate for case in read_jsonl(path, EvalCase, "eval cases")]
    results = read_results(config.results, catalog)
    plan = make_plan(config, catalog, validator, book, seeds, results)
    verifier = Verifier(catalog, validator, book, config.verification.policy)
    contamination = Contamination(cases, config.contamination_jaccard)
    candidates = read_recorded(config.recorded, verifier)
    earlier = read_reusable(config.reuse, catalog, validator)
    if not plan and not candidates and not (config.num_continued and (examples or earlier)):
        raise DataError(
            "there is nothing to generate: no call-first traces are planned and there are no seeds",
            required="num_call_first above 0, or a seeds file, or recorded answers; or examples or reused traces, and "
            "num_continued",
            fix="set one of them in the generate section",
        )
    recorded = place_recorded(
        plan,
        candidates,
        verifier,
        Collection((), contamination, NearDuplicates(config.near_duplicate_jaccard)),
    )
    left = [item for item in plan if item.id not in recorded.places]
    return GenerationContext(
        config=config,
        catalog=catalog,
        book=book,
        results=results,
        examples=examples,
        plan=plan,
        recorded=recorded,
        reused=place_traces(left, earlier, catalog),
        verifier=verifier,
        contamination=contamination,
        executor=Executor(config.executor, catalog.original_names) if config.executor else None,
    )
