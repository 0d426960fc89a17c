import contextlib
import dataclasses
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fcdistill.config import CLASS_NAMES, ObjectiveConfig, TrainConfig, parse_config
from fcdistill.distillation.examples.collation import Collator
from fcdistill.distillation.examples.examples import Example, call_validators, render_traces
from fcdistill.distillation.on_policy import OnPolicy, Sample, is_on_policy, is_valid_answer
from fcdistill.distillation.packed.attention import training_attention
from fcdistill.distillation.packed.forward import forward_rows
from fcdistill.distillation.preparation import Prepared, PreparedTeacher
from fcdistill.distillation.student.lora import fuse_lora
from fcdistill.distillation.tokenizers.token_strings import pair_strings, token_strings
from fcdistill.distillation.trainer import DistillTrainer
from fcdistill.errors import ModelError
from fcdistill.prompts.control_tokens import control_tokens
from fcdistill.prompts.rendering import prepare_tokenizer, stop_token_ids
from fcdistill.records import Message, ModelRef, ToolCall, Trace
from fcdistill.tools.validation import CallValidator
from tests.distillation.tiny_data import PACKED, UNPACKED, make_trainer, noisy_lora, tiny_traces
from tests.tiny import TokenizerKind, tiny_model, tiny_tokenizer

VALIDATOR = CallValidator(tiny_traces(1)[0].specs)
REVERSE = {"ce_weight": 0.8, "kd_weight": 1.0, "kd_divergence": "reverse_kl"}
EVERYTHING = {"ce_weight": 0.7, "kd_weight": 0.9, "kd_divergence": "jsd", "hidden_weight": 0.5}


def _prepared(
    kind: TokenizerKind = "qwen",
    teacher_kind: TokenizerKind | None = None,
    count: int = 8,
    traces: Sequence[Trace] | None = None,
) -> Prepared:
    tokenizer, teacher = tiny_tokenizer(kind), tiny_tokenizer(teacher_kind or kind)
    for each in (tokenizer, teacher):
        prepare_tokenizer(each)
    pairs = pair_strings(token_strings(tokenizer), token_strings(teacher)) if teacher_kind else None
    traces = tiny_traces(count) if traces is None else traces
    return Prepared(
        tokenizer=tokenizer,
        teacher=PreparedTeacher(teacher, len(teacher), pairs, ModelRef(model="tiny"), None, (), "full"),
        train=render_traces(traces, tokenizer, "compact", teacher, pairs),
        held_out=[],
        held_out_traces=[],
        left_out=[],
        tools=(),
        validators=call_validators(traces),
    )


def _config(**fields: Any) -> TrainConfig:
    values = {
        "traces": "traces.jsonl",
        "out": "run",
        "student": {"model": "tiny"},
        "teacher": "big",
        "objective": REVERSE,
        "on_policy_fraction": 1.0,
        "on_policy": {"max_new_tokens": 12},
        "seed": 3,
        **fields,
    }
    config: TrainConfig = parse_config(values, "train", "test")
    return config


def _student(prepared: Prepared, **config: Any) -> Any:
    """A model with a padded head, as models of one family have them."""
    return tiny_model("llama", len(prepared.tokenizer) + 3, **config)


def test_steps_are_on_policy_as_often_as_the_fraction_says() -> None:
    assert not any(is_on_policy(step, fraction=0.0, seed=1) for step in range(200))
    assert all(is_on_policy(step, fraction=1.0, seed=1) for step in range(200))
    for fraction in (0.1, 0.5):
        drawn = [is_on_policy(step, fraction=fraction, seed=1) for step in range(4000)]
        # 5 standard deviations of a binomial
        assert abs(sum(drawn) / 4000 - fraction) <= 5 * (fraction * (1 - fraction) / 4000) ** 0.5
        assert drawn != [is_on_policy(step, fraction=fraction, seed=2) for step in range(4000)]


@pytest.mark.parametrize(
    ("text", "is_cut", "valid"),
    [
        ('<tool_call>\n{"name": "set_light", "arguments": {"room": "hall"}}\n</tool_call>', False, True),
        ("Which room do you mean?", False, True),
        ("Which room do", True, True),
        ("", False, False),
        (" \n", True, False),
        ('<tool_call>\n{"name": "set_light", "arguments": {"room": 3}}\n</tool_call>', False, False),
        ('<tool_call>\n{"name": "set_light", "arguments": {}}\n</tool_call>', False, False),
        ('<tool_call>\n{"name": "set_lights", "arguments": {"room": "hall"}}\n</tool_call>', False, False),
        ('<tool_call>\n{"name": "set_light", "arguments": {"room": "hall"}', False, False),
        ('{"name": "set_light", "arguments": {"room": "ha', True, False),
    ],
)
def test_what_a_valid_answer_is(text: str, is_cut: bool, valid: bool) -> None:
    assert is_valid_answer(text, VALIDATOR, is_cut=is_cut) == valid


def test_greedy_samples_are_what_the_model_generates_and_keep_the_prompts() -> None:
    prepared = _prepared()
    model = _student(prepared)
    stops = stop_token_ids(prepared.tokenizer)
    config = _config(on_policy={"max_new_tokens": 10, "sampling_temperature": 0.0})
    for example, sample in zip(
        prepared.train, OnPolicy(model, config, prepared).samples(prepared.train, 0), strict=True
    ):
        prompt = torch.tensor([example.student_prompt])
        with torch.no_grad():
            out = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=10,
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=stops[0],
                suppress_tokens=list(range(len(prepared.tokenizer), len(prepared.tokenizer) + 3)),
            )
        assert list(sample.example.completion) == out[0, prompt.shape[1] :].tolist()
        kept = dataclasses.replace(sample.example, completion=example.completion, classes=example.classes)
        assert kept == example


def test_a_sample_follows_from_seed_step_and_trace_and_touches_no_global_generator() -> None:
    prepared = _prepared()
    model = _student(prepared)

    def completions(examples: Sequence[Example], step: int, **fields: Any) -> dict[str, tuple[int, ...]]:
        samples = OnPolicy(model, _config(**fields), prepared).samples(examples, step)
        return {sample.example.trace_id: sample.example.completion for sample in samples}

    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    found = completions(prepared.train, 4)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    torch.manual_seed(6)
    random.seed(6)
    assert completions(prepared.train[::-1], 4) == found
    assert completions(prepared.train[2:3], 4)["trace-2"] == found["trace-2"]
    assert completions(prepared.train, 5) != found
    assert completions(prepared.train, 4, seed=4) != found
    assert len(set(found.values())) == len(found)


def test_samples_follow_the_weights_of_their_step() -> None:
    prepared = _prepared()
    model = _student(prepared)
    config = _config(on_policy={"max_new_tokens": 8, "sampling_temperature": 0.0})
    on_policy = OnPolicy(model, config, prepared)
    on_policy.samples(prepared.train, 0)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.mul_(1.5)
    again = [sample.example.completion for sample in on_policy.samples(prepared.train, 0)]
    fresh = [sample.example.completion for sample in OnPolicy(model, config, prepared).samples(prepared.train, 0)]
    assert again == fresh


def test_tokens_that_no_tokenizer_has_are_never_sampled() -> None:
    prepared = _prepared()
    model = _student(prepared)
    model.get_output_embeddings().weight.data[len(prepared.tokenizer) :] *= 50
    samples = OnPolicy(model, _config(), prepared).samples(prepared.train, 0)
    assert max(max(sample.example.completion) for sample in samples) < len(prepared.tokenizer)


@contextlib.contextmanager
def _always_next(model: Any, token: int) -> Iterator[None]:
    """Let the model write this token only."""

    def only(_: nn.Module, __: Any, logits: Tensor) -> Tensor:
        return logits.index_fill(-1, torch.tensor([token]), 1e4)

    handle = model.get_output_embeddings().register_forward_hook(only)
    try:
        yield
    finally:
        handle.remove()


def test_an_answer_ends_with_its_stop_token_or_is_cut_without_one() -> None:
    prepared = _prepared()
    model = _student(prepared)
    letter = prepared.tokenizer.encode("a", add_special_tokens=False)[0]
    on_policy = OnPolicy(model, _config(), prepared)
    for stop in stop_token_ids(prepared.tokenizer):
        with _always_next(model, stop):
            for sample in on_policy.samples(prepared.train, 0):
                assert (sample.example.completion, sample.is_valid) == ((stop,), False)
                assert [CLASS_NAMES[index] for index in sample.example.classes] == ["stop"]
    with _always_next(model, letter):
        for sample in on_policy.samples(prepared.train, 0):
            assert (sample.example.completion, sample.is_valid) == ((letter,) * 12, True)
            assert {CLASS_NAMES[index] for index in sample.example.classes} == {"text"}
        prompts = [max(len(example.student_prompt), len(example.teacher_prompt)) for example in prepared.train]
        limit = max(prompts) + 1
        short = OnPolicy(model, _config(max_example_tokens=limit), prepared).samples(prepared.train, 0)
        lengths = [limit - length for length in prompts]
        assert [len(sample.example.completion) for sample in short] == [min(length, 12) for length in lengths]
        assert 1 in lengths


def test_the_classes_of_a_sample_are_those_of_its_text() -> None:
    prepared = _prepared()
    on_policy = OnPolicy(_student(prepared), _config(), prepared)
    for example in prepared.train:
        sample = on_policy._sample(example, example.completion, is_cut=False)
        assert (sample.example, sample.is_valid) == (example, True)
        cut = on_policy._sample(example, example.completion[:-1], is_cut=True)
        assert (cut.example.completion, cut.example.classes) == (example.completion[:-1], example.classes[:-1])


EVIL = ("<|im_end|>", "<|endoftext|>", "</s>", "<tool_call>", "</tool_call>")


def _evil_traces() -> list[Trace]:
    """Answers that hold the text of a control token, in an argument or in words."""
    traces = []
    for index, text in enumerate(EVIL):
        for number, trace in enumerate(tiny_traces(1) * 2):
            call = ToolCall(name="set_light", arguments={"room": f"a{text}b {text}"})
            answer = Message.calling([call]) if number else Message(role="assistant", content=f"It says a{text}.")
            messages = (*trace.messages[:-1], answer)
            if number or "tool_call" not in text:  # words with such a mark are a call that can't be read
                traces.append(trace.model_copy(update={"id": f"evil-{index}-{number}", "messages": messages}))
    return traces


@pytest.mark.parametrize(
    ("kind", "teacher_kind"),
    [(one, other) for one in ("chatml", "qwen", "plain") for other in ("qwen", "plain", "metaspace") if one != other],
)
def test_the_text_of_a_control_token_is_text_to_a_teacher_of_another_tokenizer(
    kind: TokenizerKind, teacher_kind: TokenizerKind
) -> None:
    prepared = _prepared(kind, teacher_kind, traces=_evil_traces())
    on_policy = OnPolicy(_student(prepared), _config(), prepared)
    assert prepared.teacher is not None
    teacher = prepared.teacher.tokenizer
    controls = {token: teacher.convert_tokens_to_ids(token) for token in control_tokens(teacher)}
    stop = stop_token_ids(teacher)[0]
    for example in prepared.train:
        sample = on_policy._sample(example, example.completion, is_cut=False).example
        assert sample.alignment == example.alignment and sample.alignment is not None
        ids = sample.teacher_completion
        framing = dict.fromkeys(("<tool_call>", "</tool_call>"), example.text.startswith("<tool_call>"))
        for token, index in controls.items():
            expected = (index == stop) + framing.get(token, False)
            assert token == teacher.unk_token or ids.count(index) == expected, (token, sample.text)


def test_a_control_token_that_the_student_writes_is_that_of_its_teacher() -> None:
    prepared = _prepared("chatml", "qwen")
    assert prepared.teacher is not None
    on_policy = OnPolicy(_student(prepared), _config(), prepared)
    token = "<|im_start|>"
    words = [prepared.tokenizer.encode(word, add_special_tokens=False) for word in ("Turn", " light")]
    stop = prepared.tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = (*words[0], prepared.tokenizer.convert_tokens_to_ids(token), *words[1], stop)
    sample = on_policy._sample(prepared.train[0], ids, is_cut=False).example
    assert prepared.teacher.tokenizer.convert_tokens_to_ids(token) in sample.teacher_completion


@pytest.mark.parametrize(
    ("tuning", "dtype", "autocast"),
    [
        ("full", torch.float32, None),
        ("full", torch.float32, torch.bfloat16),
        ("lora", torch.float32, None),
        ("lora", torch.bfloat16, torch.bfloat16),
        ("dropout", torch.float32, None),
        ("dropout", torch.bfloat16, torch.bfloat16),
    ],
)
def test_sampling_leaves_a_model_as_training_has_it(
    tuning: str, dtype: torch.dtype, autocast: torch.dtype | None
) -> None:
    prepared = _prepared()
    base = _student(prepared).to(dtype)
    model = base if tuning == "full" else noisy_lora(base, lora_dropout=0.1 if tuning == "dropout" else 0.0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    fuse_lora(model)
    for layer in model.modules():
        if hasattr(layer, "cast_input_dtype_enabled"):
            layer.cast_input_dtype_enabled = autocast is None
    model.train()
    kept_still = base.model.layers[1].eval()
    config = _config(on_policy={"max_new_tokens": 6, "sampling_temperature": 0.0})
    on_policy = OnPolicy(model, config, prepared, autocast=autocast)
    with training_attention(model):
        implementation = base.config._attn_implementation
        modes = [each.training for each in model.modules()]
        samples = on_policy.samples(prepared.train, 0)
        assert [each.training for each in model.modules()] == modes and not kept_still.training
        assert base.config._attn_implementation == implementation != "sdpa"
        assert not torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu")
        assert on_policy._decoder is not None and on_policy._decoder.shares_prefix
        # Each token is, up to the precision, the likeliest of a plain forward pass without dropout.
        model.eval()
        for sample in samples:
            ids = torch.tensor([[*sample.example.student_prompt, *sample.example.completion]])
            with torch.no_grad(), torch.autocast("cpu", autocast, enabled=autocast is not None):
                rows = model(ids).logits[0, len(sample.example.student_prompt) - 1 : -1].float()
            rows = rows[:, : len(prepared.tokenizer)]
            chosen = rows.gather(1, torch.tensor(sample.example.completion)[:, None])[:, 0]
            exact = dtype == torch.float32 and autocast is None
            assert (rows.amax(1) - chosen).max() <= (1e-4 if exact else 0.1) * rows.std()
        model.train()
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            model(torch.tensor([prepared.train[0].student_ids])).logits.float().square().mean().backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained and all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)


def test_an_error_leaves_a_model_as_training_has_it_too() -> None:
    prepared = _prepared()
    model = _student(prepared).train()
    model.get_output_embeddings().weight.data[7] = float("nan")
    before = model.config._attn_implementation
    with pytest.raises(ModelError, match="after 9 optimizer steps the student computes numbers that are not finite"):
        OnPolicy(model, _config(), prepared).samples(prepared.train, 9)
    assert model.training and model.config._attn_implementation == before


def _trainer(
    directory: Path, prepared: Prepared, on_policy: OnPolicy, objective: ObjectiveConfig, **args: Any
) -> DistillTrainer:
    return make_trainer(
        directory,
        objective=objective,
        examples=prepared.train,
        student=on_policy._model,
        vocabulary_size=len(prepared.tokenizer),
        on_policy=on_policy,
        **args,
    )


def _step(trainer: DistillTrainer, groups: Sequence[Sequence[Example]]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of an on-policy step, whose micro batches come as the Trainer gets them."""
    batches, totals = trainer.get_batch_samples(iter(groups), len(groups), torch.device("cpu"))
    trainer.model.zero_grad()
    loss = 0.0
    for batch in batches:
        share = trainer.compute_loss(trainer.model, batch, num_items_in_batch=totals)
        share.backward()
        loss += share.item()
    return loss, {name: value.grad.clone() for name, value in trainer.model.named_parameters()}


def _assert_same(found: tuple[float, dict[str, Tensor]], expected: tuple[float, dict[str, Tensor]]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    scale = max(value.norm() for value in expected[1].values())
    assert scale > 1e-3
    for name, value in expected[1].items():
        assert (found[1][name] - value).norm() <= 1e-5 * scale, name


def _reference(trainer: DistillTrainer, samples: Sequence[Sample], size: int) -> tuple[float, dict[str, Tensor]]:
    """T^2 KL(student || teacher) at T = 2 by plain float64 passes over single sequences, shifted by hand."""
    student, teacher = trainer.model.double(), trainer._teacher.model.double()  # type: ignore[union-attr]
    student.zero_grad()
    sums, count = [], 0
    for sample in samples:
        completion = sample.example.completion
        logs = []
        for model, prompt in ((student, sample.example.student_prompt), (teacher, sample.example.teacher_prompt)):
            rows = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1, :size]
            logs.append((rows / 2).log_softmax(-1))
        logq, logp = logs[0], logs[1].detach()
        sums.append(4 * (logq.exp() * (logq - logp)).sum())
        count += len(completion)
    loss = torch.stack(sums).sum() / count
    loss.backward()
    grads = {name: value.grad.float() for name, value in student.named_parameters()}
    trainer.model.float()
    teacher.float()
    return loss.item(), grads


@pytest.mark.parametrize("layout", [PACKED, UNPACKED], ids=["packed", "unpacked"])
@pytest.mark.parametrize("count", [1, 5])
def test_the_gradient_is_that_of_reverse_kl_alone_on_the_sampled_tokens(
    tmp_path: Path, layout: Any, count: int
) -> None:
    prepared = _prepared()
    examples = prepared.train[:count]
    objective = ObjectiveConfig(**REVERSE, kd_temperature=2.0)
    on_policy = OnPolicy(_student(prepared), _config(), prepared)
    samples = on_policy.samples(examples, 0)
    trainer = _trainer(tmp_path, prepared, on_policy, objective, layout=layout)
    found = _step(trainer, [examples])
    assert trainer._sums.keys() == {"num_tokens", "num_examples"}
    assert trainer._sample_sums.keys() == {"kd", "num_examples", "num_valid"}
    assert not any(
        sample.example.completion == example.completion for sample, example in zip(samples, examples, strict=True)
    )
    _assert_same(found, _reference(trainer, samples, len(prepared.tokenizer)))


@pytest.mark.parametrize("layout", [PACKED, UNPACKED], ids=["packed", "unpacked"])
def test_the_rows_of_samples_are_those_of_an_unpacked_forward_pass(layout: Any) -> None:
    prepared = _prepared()
    model = _student(prepared)
    on_policy = OnPolicy(model, _config(), prepared)
    samples = [sample for step in (0, 1) for sample in on_policy.samples(prepared.train, step)]
    batch = Collator(layout, layout, {}, "completion")([sample.example for sample in samples])
    found = forward_rows(
        model, model.get_output_embeddings(), batch["student"]["inputs"], batch["student"]["logit_rows_N"]
    ).logits_NV
    start = 0
    for sample in samples:
        prompt, completion = sample.example.student_prompt, sample.example.completion
        expected = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        assert torch.allclose(found[start : start + len(completion)], expected, atol=1e-4)
        start += len(completion)
    assert start == len(found)
    # The prompts, which two samples each share, and their common beginning stand once in a packed row.
    if layout is PACKED:
        num_prompt_tokens = sum(len(sample.example.student_prompt) for sample in samples)
        assert batch["num_tokens"] < 0.5 * num_prompt_tokens


def test_the_split_into_micro_batches_does_not_change_samples_nor_gradients(tmp_path: Path) -> None:
    prepared = _prepared()
    weights = {"text": 0.5, "structure": 2.0}
    objective = ObjectiveConfig(**EVERYTHING, class_weights=weights)  # type: ignore[arg-type]
    trainer = _trainer(tmp_path, prepared, OnPolicy(_student(prepared), _config(), prepared), objective)
    examples = prepared.train
    whole = _step(trainer, [examples])
    _assert_same(_step(trainer, [[example] for example in examples]), whole)
    _assert_same(_step(trainer, [examples[:1], examples[1:3], examples[3:]]), whole)
    drawn = [
        [batch["targets_N"] for batch in trainer.get_batch_samples(iter(groups), len(groups), torch.device("cpu"))[0]]
        for groups in ([examples], [[example] for example in examples])
    ]
    assert torch.equal(torch.cat(drawn[0]), torch.cat(drawn[1]))


def test_the_totals_are_those_of_the_samples_over_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = _prepared()
    on_policy = OnPolicy(_student(prepared), _config(), prepared)
    objective = ObjectiveConfig(**EVERYTHING, class_weights={"stop": 5.0})  # type: ignore[arg-type]
    trainer = _trainer(tmp_path, prepared, on_policy, objective)
    samples = on_policy.samples(prepared.train, 0)
    classes = [CLASS_NAMES[index] for sample in samples for index in sample.example.classes]
    groups = [prepared.train[:3], prepared.train[3:]]
    _, totals = trainer.get_batch_samples(iter(groups), 2, torch.device("cpu"))
    weight = sum(5.0 if name == "stop" else 1.0 for name in classes)
    assert totals is not None and totals.tolist() == [weight, len(classes)]
    assert len(classes) != sum(len(example.completion) for example in prepared.train)

    # Two processes that sample for a half each: every one divides by the totals of both.
    halves = [trainer.get_batch_samples(iter([group]), 1, torch.device("cpu"))[1] for group in groups]
    with monkeypatch.context() as patch:
        patch.setattr(type(trainer.accelerator), "num_processes", 2)
        for own, other in (halves, halves[::-1]):
            patch.setattr(trainer.accelerator, "reduce", lambda value, reduction, other=other: value + other)
            group = groups[0] if own is halves[0] else groups[1]
            _, shared = trainer.get_batch_samples(iter([group]), 1, torch.device("cpu"))
            assert shared is not None and torch.equal(shared, totals)


def _train(directory: Path, prepared: Prepared, pack: int, accumulation: int, fraction: float) -> DistillTrainer:
    config = _config(on_policy_fraction=fraction)
    objective = ObjectiveConfig(**EVERYTHING)  # type: ignore[arg-type]
    on_policy = OnPolicy(_student(prepared), config, prepared)
    trainer = _trainer(
        directory,
        prepared,
        on_policy,
        objective,
        per_device_train_batch_size=pack,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=3,
        learning_rate=0.05,
        optim="sgd",
        lr_scheduler_type="constant",
        logging_steps=1,
        seed=7,
    )
    trainer.train()
    assert trainer.state.global_step == 9
    return trainer


def test_training_in_other_micro_batches_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Nine examples in steps of four: the last accumulation window of an epoch holds one."""
    prepared = _prepared(count=9)
    expected = _train(tmp_path, prepared, pack=4, accumulation=1, fraction=0.5)
    lines = [line for line in expected.state.log_history if "loss" in line]
    sampled = [is_on_policy(step, fraction=0.5, seed=3) for step in range(9)]
    assert 0 < sum(sampled) < 9
    for line, is_sampled in zip(lines, sampled, strict=True):
        num_examples = 1 if line["step"] % 3 == 0 else 4
        assert line.get("on_policy_examples") == (num_examples if is_sampled else None)
        terms = {"kd": 0.9, "hidden": 0.5}
        if is_sampled:
            assert 0 <= line["on_policy_valid"] <= 1 and not {"ce", "kd", "hidden"} & line.keys()
            weighted = sum(weight * line[f"on_policy_{name}"] for name, weight in terms.items())
        else:
            assert not [name for name in line if name.startswith("on_policy")]
            weighted = 0.7 * line["ce"] + sum(weight * line[name] for name, weight in terms.items())
        assert line["loss"] == pytest.approx(weighted, rel=1e-5)
        assert line["tokens_per_s"] > 0 and line["examples_per_s"] > 0
    start = dict(_student(prepared).named_parameters())
    found = dict(_train(tmp_path, prepared, pack=1, accumulation=4, fraction=0.5).model.named_parameters())
    for name, value in expected.model.named_parameters():
        assert torch.allclose(found[name], value, atol=1e-5), name
        assert not torch.allclose(start[name], value, atol=1e-4), name


def test_a_mean_over_several_steps_counts_the_steps_of_its_kind(tmp_path: Path) -> None:
    prepared = _prepared()
    each, all_three = (
        _trainer(
            tmp_path,
            prepared,
            OnPolicy(_student(prepared), _config(on_policy_fraction=0.5, seed=4), prepared),
            ObjectiveConfig(**REVERSE),
            per_device_train_batch_size=2,
            max_steps=4,
            learning_rate=1e-3,
            logging_steps=logging_steps,
        )
        for logging_steps in (1, 4)
    )
    for trainer in (each, all_three):
        trainer.train()
    lines = [line for line in each.state.log_history if "loss" in line]
    (whole,) = (line for line in all_three.state.log_history if "loss" in line)
    for name in ("loss", "ce", "kd", "on_policy_kd", "on_policy_valid"):
        values = [line[name] for line in lines if name in line]
        assert 0 < len(values) < 4 or name == "loss"
        assert whole[name] == pytest.approx(sum(values) / len(values), rel=1e-5), name
    assert whole["on_policy_examples"] == sum(line.get("on_policy_examples", 0) for line in lines)


def test_micro_batches_of_empty_answers_train(tmp_path: Path) -> None:
    prepared = _prepared()
    model = _student(prepared)
    objective = ObjectiveConfig(**EVERYTHING)  # type: ignore[arg-type]
    trainer = _trainer(tmp_path, prepared, OnPolicy(model, _config(), prepared), objective)
    with _always_next(model, stop_token_ids(prepared.tokenizer)[0]):
        batches, totals = trainer.get_batch_samples(iter([prepared.train]), 1, torch.device("cpu"))
    assert totals is not None and totals.tolist() == [8, 8]
    loss = trainer.compute_loss(trainer.model, batches[0], num_items_in_batch=totals)
    loss.backward()
    assert loss.isfinite() and loss > 0


@pytest.mark.parametrize(("kind", "teacher"), [("chatml", "qwen"), ("qwen", "metaspace"), ("metaspace", "qwen")])
def test_a_teacher_of_another_tokenizer_reads_the_samples_text(kind: TokenizerKind, teacher: TokenizerKind) -> None:
    prepared = _prepared(kind, teacher)
    assert prepared.teacher is not None
    on_policy = OnPolicy(_student(prepared), _config(), prepared)
    assert [example.alignment for example in prepared.train] == [
        on_policy._sample(example, example.completion, is_cut=False).example.alignment for example in prepared.train
    ]
    for example in prepared.train:
        whole = example.completion
        for count in range(1, len(whole) - 1):
            cut = on_policy._sample(example, whole[:count], is_cut=True).example
            assert cut.alignment is not None
            tokens = [index for span in cut.alignment.spans for index in span.student]
            assert tokens == list(range(len(cut.completion))) and len(cut.classes) == len(tokens)
            tokens = [index for span in cut.alignment.spans for index in span.teacher]
            assert tokens == list(range(len(cut.teacher_completion)))
            if cut.completion == (prepared.tokenizer.convert_tokens_to_ids(prepared.tokenizer.eos_token),):
                assert cut.alignment.paired == (True,)  # the position after the prompt alone
                continue
            assert cut.completion == whole[: len(cut.completion)] and len(cut.completion) < count
            assert cut.teacher_completion[-1] != prepared.teacher.tokenizer.eos_token_id
            for side in ("student", "teacher"):
                assert max(cut.hidden_rows(side, "request+completion")) < len(getattr(cut, f"{side}_ids"))


def test_of_a_text_that_can_not_be_aligned_the_position_after_the_prompt_is_left() -> None:
    prepared = _prepared("chatml", "qwen")
    assert prepared.teacher is not None and prepared.teacher.string_pairs is not None
    pairs = prepared.teacher.string_pairs
    on_policy = OnPolicy(_student(prepared), _config(), prepared)
    half = prepared.tokenizer.encode("\N{EURO SIGN}", add_special_tokens=False)[:1]
    for ids, is_cut in ((half, True), ([*half, pairs.student.stop_id], False)):
        found = on_policy._sample(prepared.train[0], ids, is_cut=is_cut).example
        assert found.completion == (pairs.student.stop_id,)
        assert found.teacher_completion == (pairs.teacher.stop_id,)
        assert found.alignment is not None and found.alignment.paired == (True,)


def test_the_student_may_end_with_either_stop_token_before_a_teacher_of_another_tokenizer() -> None:
    prepared = _prepared("qwen", "chatml")
    assert prepared.teacher is not None and prepared.teacher.string_pairs is not None
    stop = prepared.teacher.string_pairs.student.stop_id
    other = prepared.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    on_policy = OnPolicy(_student(prepared), _config(), prepared)
    example = prepared.train[0]
    found = on_policy._sample(example, (*example.completion[:-1], other), is_cut=False).example
    assert found.completion[-1] == stop and found == example
