"""Tools that look different each time: another order, foreign tools among them, names without a meaning.

A student that always sees the same tools in the same place under the same names learns them by heart; one that should
call tools which it has never seen has to read them. What is drawn changes a trace's tools, and with them its calls; the
changed trace is then rendered like any other, for the student and for a teacher that runs beside it.

One draw is shared by the examples of a pack (`examples_per_pack`), and each pack of each epoch has its own. In a pack,
traces with the same tools then still share the tool prompt, which is computed once (`packing`): with a draw per example
each would have its own, 15 times as many tokens for 16 examples of the smart_home catalogue. Nothing is lost for the
single example, which meets another draw in each epoch either way; an optimizer step sees
examples_per_step / examples_per_pack draws. With examples_per_pack 1 each example has its own.

A draw depends on the seed, the epoch and the first trace of its pack, and on nothing that happened before: a run that
was killed goes on with the examples of an uninterrupted one.

Foreign tools are mixed in where the answer is a call, never under a name that the trace's tools or calls have. Where
the answer is a text, because no tool serves the request or a value is missing, one of them might serve it, and the
answer would be wrong: such traces get none. So foreign tools in a prompt tell that the answer is a call; their number
is drawn from 0 on, so that a prompt without them, as an evaluation has it, tells nothing.

Examples that are held out are shown as they are, as an evaluation would show them.
"""

import functools
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fcdistill.config import AugmentationConfig, TrainConfig
from fcdistill.distillation.examples.examples import Example, stretched
from fcdistill.distillation.examples.renaming import draw_renaming
from fcdistill.errors import ConfigError
from fcdistill.records import FunctionTool, Trace
from fcdistill.tools.catalog import read_catalog

__all__ = ["AugmentedExamples", "EpochOfDraws", "augment_trace", "augmented_examples"]

log = logging.getLogger(__name__)

_NUM_SAMPLES = 64
"""Of the longest examples, drawn once in advance: what can't be rendered is refused before weights are loaded."""
_SAMPLE_MARGIN = 1.25
"""How much longer than these an example may get."""


def augment_trace(
    trace: Trace, key: str, *, config: AugmentationConfig, distractors: Sequence[FunctionTool], with_properties: bool
) -> Trace:
    """A trace with other tools, and calls that fit them.

    Args:
        trace: the trace; its messages change only where they name a renamed tool or property.
        key: of the draw; traces with the same key and the same tools are shown the same ones.
        config: what is drawn.
        distractors: from what foreign tools are drawn.
        with_properties: whether arguments are renamed too: where the prompt shows their descriptions.
    """
    generator = random.Random(f"{key} counts")
    num_distractors = generator.randint(0, config.num_distractors)
    is_renamed = generator.random() < config.rename_probability
    own_names = {spec.name for spec in trace.specs} | {
        call.name for message in trace.messages for call in message.calls
    }
    foreign: list[FunctionTool] = []
    if trace.answer.calls:
        drawn = generator.sample(distractors, len(distractors))
        foreign = [tool for tool in drawn if tool.function.name not in own_names][:num_distractors]
    # A tool's place depends on its name alone, so that traces whose tools differ a little share much of their prompts.
    places = {tool.function.name: _drawn_place(tool, key) for tool in (*trace.tools, *foreign)}
    if not config.shuffle_tools:
        places |= {tool.function.name: (index + 0.5) / len(trace.tools) for index, tool in enumerate(trace.tools)}
    tools = tuple(sorted((*trace.tools, *foreign), key=lambda tool: places[tool.function.name]))
    augmented = trace.model_copy(update={"tools": tools})
    if not is_renamed:
        return augmented
    return draw_renaming(augmented, key, with_properties=with_properties).trace(augmented)


def _drawn_place(tool: FunctionTool, key: str) -> float:
    return random.Random(f"{key} place {tool.function.name}").random()


class AugmentedExamples(Dataset[Example]):
    """Training examples that are drawn and rendered when their pack is fetched.

    Drawing one takes 0.5 ms, and rendering it for student and teacher 6 ms where each prompt has 3,000 tokens.

    Args:
        traces: what is trained on.
        examples: the same, rendered without a draw, in the same order.
        draw: a trace and a key to an augmented trace.
        render: traces to examples.
        seed: of all draws.
        max_example_tokens: an example that a draw makes longer than this is shown without it.

    Attributes:
        epoch: which pass over the examples is fetched, see `EpochOfDraws`.
        longest: as long as any example that is fetched, for checks of what a model can read.

    Raises:
        DataError: an augmented answer's text is not the same for both tokenizers.
        ModelError: a template refuses an augmented conversation.
    """

    def __init__(
        self,
        traces: Sequence[Trace],
        examples: Sequence[Example],
        *,
        draw: Callable[[Trace, str], Trace],
        render: Callable[[Sequence[Trace]], list[Example]],
        seed: int,
        max_example_tokens: int,
    ) -> None:
        self.epoch = 0
        self._traces = traces
        self._examples = examples
        self._draw = draw
        self._render = render
        self._seed = seed
        by_length = sorted(range(len(examples)), key=lambda index: examples[index].num_tokens)
        samples = [self._drawn([index])[0] for index in by_length[-_NUM_SAMPLES:]]
        longest = max(samples, key=lambda example: example.num_tokens)
        self._max_tokens = max(
            examples[by_length[-1]].num_tokens,
            min(max_example_tokens, int(_SAMPLE_MARGIN * longest.num_tokens)),
        )
        self.longest = stretched(longest, self._max_tokens)
        self._warned = False

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        """An example as the only one of its pack."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """The examples of a pack; none where a process has run out of them (`batch_shards`)."""
        if not indices:
            return []
        found = self._drawn(indices)
        for place, example in enumerate(found):
            if example.num_tokens > self._max_tokens:
                found[place] = self._examples[indices[place]]
                if not self._warned:
                    self._warned = True
                    log.warning(
                        "trace %r has %d tokens with the tools that were drawn for it, but only %d are allowed: it is "
                        "trained on as it is, and so are others like it",
                        example.trace_id,
                        example.num_tokens,
                        self._max_tokens,
                    )
        return found

    def _drawn(self, indices: Sequence[int]) -> list[Example]:
        key = f"{self._seed} {self.epoch} {self._traces[indices[0]].id}"
        return self._render([self._draw(self._traces[index], key) for index in indices])


class EpochOfDraws(TrainerCallback):  # type: ignore[misc]
    """Tells the examples which epoch begins, in a resumed run too: it is part of the Trainer's saved state."""

    def __init__(self, examples: AugmentedExamples) -> None:
        self._examples = examples

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Before the first pack of the epoch is fetched; the state counts finished epochs."""
        self._examples.epoch = int(state.epoch or 0)


def augmented_examples(
    config: TrainConfig,
    traces: Sequence[Trace],
    examples: Sequence[Example],
    render: Callable[[Sequence[Trace]], list[Example]],
) -> AugmentedExamples:
    """Training examples with what a configuration draws.

    Args:
        config: what is drawn, and with which seed.
        traces: all traces.
        examples: those of them that are trained on, rendered without a draw.
        render: traces to examples.

    Raises:
        CatalogError: the distractor catalogue is unusable.
        ConfigError: it has too few tools.
        DataError: an augmented answer's text is not the same for both tokenizers.
        ModelError: a template refuses an augmented conversation.
    """
    trace_of = {trace.id: trace for trace in traces}
    trained = [trace_of[example.trace_id] for example in examples]
    return AugmentedExamples(
        trained,
        examples,
        draw=functools.partial(
            augment_trace,
            config=config.augmentation,
            distractors=_read_distractors(config.augmentation, trained),
            with_properties=config.tools_in_prompt == "full",
        ),
        render=render,
        seed=config.seed,
        max_example_tokens=config.max_example_tokens,
    )


def _read_distractors(config: AugmentationConfig, traces: Sequence[Trace]) -> tuple[FunctionTool, ...]:
    if config.distractor_catalogue is None:
        return ()
    catalog = read_catalog(config.distractor_catalogue, skip_invalid=config.skip_invalid)
    for note in catalog.notes:
        log.warning(note)
    tools = catalog.tools
    in_all_traces = set.intersection(*({spec.name for spec in trace.specs} for trace in traces))
    foreign = [tool for tool in tools if tool.function.name not in in_all_traces]
    if len(foreign) < config.num_distractors:
        raise ConfigError(
            f"augmentation.num_distractors is {config.num_distractors}, but of {len(tools)} tools in "
            f"{config.distractor_catalogue} the traces lack {len(foreign)}",
            required="a catalogue with at least so many tools that are foreign to the traces",
            fix="lower augmentation.num_distractors, or name another distractor_catalogue",
        )
    return tools
