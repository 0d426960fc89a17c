import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import TrainerControl, TrainerState

from fcdistill.config import AugmentationConfig, ObjectiveConfig, ToolsInPrompt
from fcdistill.distillation.examples.augmentation import AugmentedExamples, EpochOfDraws, augment_trace
from fcdistill.distillation.examples.collation import Collator
from fcdistill.distillation.examples.examples import Example, render_traces
from fcdistill.distillation.launch.batch_shards import sharded_loader
from fcdistill.distillation.packed.packing import pack_tree
from fcdistill.distillation.tokenizers.spans import cut_text
from fcdistill.distillation.tokenizers.token_strings import pair_strings, token_strings
from fcdistill.prompts.rendering import prepare_tokenizer
from fcdistill.records import Message, ModelRef, Trace, TraceMeta
from fcdistill.tools.catalog import Catalog, read_catalog
from fcdistill.tools.validation import CallValidator
from tests.distillation.examples.nested_tools import BOOK, HOME, HOME_CALLS, OLD, SAID, TESTS_NAMES
from tests.distillation.tiny_data import PACKED, make_trainer, tiny_traces
from tests.paths import ROOT
from tests.tiny import TokenizerKind, tiny_model, tiny_tokenizer

HOME_CATALOG = read_catalog(ROOT / "schemas" / "smart_home.json")
FOREIGN = Catalog((BOOK, OLD, SAID, TESTS_NAMES, HOME_CATALOG.specs[0])).tools
"""Tools of another domain, and one that the traces have already."""
ALL = AugmentationConfig(
    shuffle_tools=True, distractor_catalogue=Path("foreign.json"), num_distractors=4, rename_probability=0.5
)
KEYS = [f"key {number}" for number in range(40)]


def home_traces(without: str = "") -> list[Trace]:
    """Requests for the smart home, the last of them one that gets no call; one tool may be missing."""
    answers = [Message.calling([call]) for call in HOME_CALLS if call.name != without]
    return [
        Trace(
            id=f"home-{number}",
            messages=(Message(role="user", content=f"request {number}"), answer),
            tools=tuple(tool for tool in HOME_CATALOG.tools if tool.function.name != without),
            split_group=f"group-{number}",
            meta=TraceMeta(source="import", category="simple", plan_cell="c", teacher=ModelRef(model="by hand")),
        )
        for number, answer in enumerate([*answers, Message(role="assistant", content="Which room?")])
    ]


def augment(trace: Trace, key: str, config: AugmentationConfig = ALL) -> Trace:
    return augment_trace(trace, key, config=config, distractors=FOREIGN, with_properties=True)


def names(trace: Trace) -> list[str]:
    return [spec.name for spec in trace.specs]


def test_the_order_of_tools_is_drawn_and_nothing_else_changes() -> None:
    config = AugmentationConfig(shuffle_tools=True)
    trace = home_traces()[0]
    drawn = [augment(trace, key, config) for key in KEYS]
    assert len({tuple(names(each)) for each in drawn}) == len(KEYS)
    assert {names(each)[0] for each in drawn} >= {spec.name for spec in HOME[:4]}
    for each in drawn:
        assert sorted(names(each)) == sorted(names(trace))
        assert each.model_copy(update={"tools": trace.tools}) == trace
    assert augment(trace, KEYS[0], config) == drawn[0]


def test_traces_of_one_draw_have_their_common_tools_in_the_same_order() -> None:
    """So does a trace from which a tool was taken, and one to which no foreign tool is shown."""
    config = ALL.model_copy(update={"rename_probability": 1.0})
    whole, less = home_traces(), home_traces(without="get_weather")
    for key in KEYS:
        specs = [spec.model_dump() for spec in augment(whole[0], key, config).specs]
        for trace in (whole[1], whole[-1], less[0], less[-1]):
            found = [spec.model_dump() for spec in augment(trace, key, config).specs]
            assert found == [spec for spec in specs if spec in found]


def test_foreign_tools_stand_among_those_of_a_call_and_of_no_other_answer() -> None:
    config = ALL.model_copy(update={"shuffle_tools": False, "rename_probability": 0.0})
    traces = home_traces()
    places, counts = set(), set()
    for key in KEYS:
        found = names(augment(traces[0], key, config))
        own = [name for name in found if name in names(traces[0])]
        assert own == names(traces[0]), "foreign tools leave the others in their order, and take no name of theirs"
        assert len(set(found)) == len(found)
        counts.add(len(found) - len(own))
        places |= {found.index(name) for name in found if name not in own}
        assert augment(traces[-1], key, config) == traces[-1]
    assert counts == {0, 1, 2, 3, 4}
    assert {0, len(HOME)} <= places


def test_a_tool_that_was_called_and_is_gone_is_not_foreign() -> None:
    trace = home_traces()[0].model_copy(update={"messages": (*tiny_traces(1)[0].messages, home_traces()[0].answer)})
    config = ALL.model_copy(update={"rename_probability": 0.0})
    assert trace.messages[1].calls[0].name == "set_light"
    trace = trace.model_copy(update={"tools": trace.tools[1:]})
    assert not any("set_light" in names(augment(trace, key, config)) for key in KEYS)


def test_names_are_drawn_for_the_given_share_of_draws() -> None:
    config = AugmentationConfig(rename_probability=0.5)
    trace = home_traces()[0]
    renamed = [names(augment(trace, key, config)) != names(trace) for key in KEYS]
    assert 10 <= sum(renamed) <= 30
    assert not set(names(trace)) & set(names(augment(trace, KEYS[renamed.index(True)], config)))


def test_an_augmented_call_is_right_exactly_where_the_old_one_was() -> None:
    wrong = [call.model_copy(update={"arguments": {**call.arguments, "room": "attic"}}) for call in HOME_CALLS]
    verdicts = set()
    for number, call in enumerate([*HOME_CALLS, *wrong]):
        old = home_traces()[0].model_copy(update={"messages": (Message.calling([call]),) * 2})
        for key in KEYS[number % 4 :: 4]:
            new = augment(old, key)
            before = [each.code for each in CallValidator(old.specs).check_call(old.answer.calls[0])]
            after = [each.code for each in CallValidator(new.specs).check_call(new.answer.calls[0])]
            assert sorted(after) == sorted(before)
            verdicts.add((not after, new.answer != old.answer))
    assert verdicts == {(True, True), (True, False), (False, True), (False, False)}


@pytest.mark.parametrize("kinds", [("qwen", "qwen"), ("chatml", "qwen"), ("qwen", "metaspace")])
@pytest.mark.parametrize("style", ["full", "compact"])
def test_student_and_teacher_are_shown_the_same_tools_and_complete_with_the_same_text(
    kinds: tuple[TokenizerKind, TokenizerKind], style: ToolsInPrompt
) -> None:
    student, teacher = map(tiny_tokenizer, kinds)
    for tokenizer in (student, teacher):
        prepare_tokenizer(tokenizer)
    pairs = pair_strings(token_strings(student), token_strings(teacher)) if kinds[0] != kinds[1] else None
    for key, trace in zip(KEYS, home_traces(), strict=False):
        drawn = augment_trace(trace, key, config=ALL, distractors=FOREIGN, with_properties=style == "full")
        (example,) = render_traces([drawn], student, style, teacher, pairs)
        text = student.decode(example.completion[:-1], clean_up_tokenization_spaces=False)
        if pairs is None:
            assert example.teacher_completion == example.completion
        else:
            assert b"".join(cut_text(text, example.teacher_completion[:-1], pairs.teacher, key)).decode() == text
        for call in drawn.answer.calls:
            assert f'"{call.name}"' in text
            assert all(f'"{name}"' in text for name in call.arguments)
        shown = "{}(" if style == "compact" else '"{}"'
        for prompt, form in (
            (student.decode(example.student_prompt), shown),
            (teacher.decode(example.teacher_prompt), '"{}"'),
        ):
            places = [prompt.find(form.format(name)) for name in names(drawn)]
            assert -1 not in places and places == sorted(places)


# --- packs


def renderer(traces: Sequence[Trace]) -> list[Example]:
    tokenizer = tiny_tokenizer("qwen")
    prepare_tokenizer(tokenizer)
    return render_traces(traces, tokenizer, "full", tokenizer)


def examples_of(
    traces: Sequence[Trace], config: AugmentationConfig = ALL, limit: int = 1 << 20, seed: int = 0
) -> AugmentedExamples:
    return AugmentedExamples(
        traces,
        renderer(traces),
        draw=partial(augment_trace, config=config, distractors=FOREIGN, with_properties=True),
        render=renderer,
        seed=seed,
        max_example_tokens=limit,
    )


TRACES = home_traces()[:8]
TINY = tiny_traces(4)


def test_a_pack_shares_one_draw_and_so_its_tool_prompt() -> None:
    examples = examples_of(TRACES, ALL.model_copy(update={"rename_probability": 1.0}))
    together = examples.__getitems__(range(8))
    apart = [examples[index] for index in range(8)]
    assert together[0] == apart[0] and together[1:] != apart[1:]
    assert [example.trace_id for example in together] == [trace.id for trace in TRACES]

    def num_tokens(found: list[Example]) -> int:
        return pack_tree([example.student_ids for example in found], max_tokens=1 << 20).num_tokens

    assert num_tokens(together) < num_tokens(apart) / 4


def test_a_draw_depends_on_seed_epoch_and_the_packs_first_trace_alone() -> None:
    examples = examples_of(TRACES)
    first = [examples.__getitems__(pack) for pack in ([0, 1], [2, 3])]
    examples.epoch = 1
    second = examples.__getitems__([0, 1])
    assert second != first[0] and [e.trace_id for e in second] == [e.trace_id for e in first[0]]
    again = examples_of(TRACES)
    assert [again.__getitems__(pack) for pack in ([2, 3], [0, 1])] == first[::-1]
    again.epoch = 1
    assert again.__getitems__([0, 1]) == second
    assert examples_of(TRACES, seed=1).__getitems__([0, 1]) != first[0]


def test_a_process_without_a_pack_gets_no_examples() -> None:
    examples = examples_of(TRACES[:3])
    collator = Collator(PACKED, None, {}, "completion", filler=renderer(TRACES[:1])[0])
    loader = sharded_loader(
        examples, collator, batch_size=2, num_processes=3, process_index=2, place=torch.device("cpu")
    )
    assert [int(batch["num_examples"]) for batch in loader] == [0]


def test_worker_processes_fetch_the_same_examples() -> None:
    examples = examples_of(TRACES)
    examples.epoch = 2

    def fetched(num_workers: int) -> list[list[Example]]:
        return list(DataLoader(examples, batch_size=3, collate_fn=list, num_workers=num_workers))

    assert fetched(0) == fetched(2) == [examples.__getitems__(range(start, min(start + 3, 8))) for start in (0, 3, 6)]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_trainer_whose_workers_render_sees_the_same_losses(tmp_path: Path, num_workers: int) -> None:
    losses = []
    for workers in (0, num_workers):
        examples = examples_of(TINY)
        trainer = make_trainer(
            tmp_path,
            objective=ObjectiveConfig(),
            examples=examples,
            student=tiny_model("llama", len(tiny_tokenizer("qwen")), num_layers=2),
            callbacks=[EpochOfDraws(examples)],
            per_device_train_batch_size=2,
            num_train_epochs=3,
            logging_steps=1,
            dataloader_num_workers=workers,
        )
        trainer.train()
        losses.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert len(losses[0]) == 6 and losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_what_a_draw_makes_too_long_is_shown_as_it_is_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    plain = renderer(TRACES)
    limit = max(example.num_tokens for example in plain)
    examples = examples_of(TRACES, limit=limit)
    found = []
    with caplog.at_level(logging.WARNING):
        for epoch in range(30):
            examples.epoch = epoch
            found += examples.__getitems__(range(3))
    assert max(example.num_tokens for example in found) <= limit == examples.longest.num_tokens
    assert any(example in plain for example in found) and any(example not in plain for example in found)
    (message,) = caplog.messages
    assert f"only {limit} are allowed: it is trained on as it is" in message


def test_the_longest_example_is_as_long_as_any_on_both_sides() -> None:
    examples = examples_of(TRACES)
    fetched = []
    for epoch in range(10):
        examples.epoch = epoch
        fetched += examples.__getitems__(range(8))
    longest = examples.longest
    assert len(longest.student_ids) == len(longest.teacher_ids) == longest.num_tokens - 1
    assert max(example.num_tokens for example in fetched) <= longest.num_tokens
    assert longest.num_tokens < 2 * max(example.num_tokens for example in fetched)


def test_the_epoch_is_that_of_the_trainers_state() -> None:
    examples = examples_of(TRACES[:1])
    callback = EpochOfDraws(examples)
    for state, epoch in ((None, 0), (1.0, 1), (1.75, 1), (3.0, 3)):
        arguments: Any = None
        callback.on_epoch_begin(arguments, TrainerState(epoch=state), TrainerControl())
        assert examples.epoch == epoch
