"""Tests of `local_backend` on tiny models; what transformers' own `generate` writes is the reference."""

import math
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from fcdistill.backends import Completion, Request
from fcdistill.backends.local import continuation
from fcdistill.backends.local.local_backend import LocalBackend
from fcdistill.config import DecodeSettings, ToolsInPrompt
from fcdistill.errors import BackendError, CatalogError
from fcdistill.models.loading import LoadedModel, load_model
from fcdistill.models.students import StudentCard
from fcdistill.prompts.rendering import prepare_tokenizer, render_prompt, stop_token_ids
from fcdistill.records import FunctionTool, Message, ModelRef, ToolCall, ToolSpec
from fcdistill.toolcalls.parsing import parse_output, render_calls
from fcdistill.tools.validation import CallValidator
from tests.tiny import Family, TokenizerKind, tiny_model, tiny_tokenizer

LIGHT = ToolSpec(
    name="set_light",
    description="Turn the light of a room on or off.",
    parameters={"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]},
)
TIMER = ToolSpec(name="set_timer", description="Set a timer.", parameters={"type": "object", "properties": {}})
ASKS = ("Turn the kitchen light on", "Set a timer", "hi", "Please play some jazz in the living room!", "Turn it off")
GREEDY = DecodeSettings(max_new_tokens=20)


def loaded(
    family: Family = "llama", kind: TokenizerKind = "qwen", card: StudentCard | None = None, **config: int
) -> LoadedModel:
    tokenizer = tiny_tokenizer(kind)
    prepare_tokenizer(tokenizer)
    model = tiny_model(family, len(tokenizer), **config)
    return LoadedModel(model, tokenizer, ModelRef(model="tiny"), card)


def requests(specs: Sequence[ToolSpec] = (LIGHT, TIMER), asks: Sequence[str] = ASKS) -> list[Request]:
    return [
        Request(
            f"{'+'.join(spec.name for spec in specs) or 'none'}-{index}",
            (Message(role="user", content=ask),),
            tuple(specs),
        )
        for index, ask in enumerate(asks)
    ]


def prompt_of(model: LoadedModel, request: Request, style: ToolsInPrompt = "full") -> list[int]:
    return render_prompt(model.tokenizer, request.messages, request.specs, style)


def reference(model: LoadedModel, request: Request, num_new: int, style: ToolsInPrompt = "full") -> str:
    """The text that `generate` writes, up to a stop token."""
    prompt = prompt_of(model, request, style)
    stops = stop_token_ids(model.tokenizer)
    with torch.no_grad():
        out = model.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=num_new,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=stops[0],
        )
    ids = out[0, len(prompt) :].tolist()
    text: str = model.tokenizer.decode([token for token in ids if token not in stops])
    return text


@pytest.mark.parametrize(("family", "kind"), [("llama", "chatml"), ("qwen2", "qwen"), ("gemma3", "plain")])
@pytest.mark.parametrize("shares", [True, False])
def test_greedy_answers_equal_generate(family: Family, kind: TokenizerKind, shares: bool) -> None:
    model = loaded(family, kind)
    backend = LocalBackend(model, batch_size=3)
    backend._decoder.shares_prefix = shares
    asked = requests()
    completions = {completion.id: completion for completion in backend.complete(asked, GREEDY)}
    assert completions.keys() == {request.id for request in asked}
    for request in asked:
        found = completions[request.id]
        assert found.text == reference(model, request, 20)
        assert found.prompt_tokens == len(prompt_of(model, request))
        assert found.finish_reason in ("length", "stop")
        assert found.latency_s is not None and found.latency_s > 0


def test_several_catalogues_in_one_call_equal_generate_and_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuation, "_MIN_GROUP_TOKENS", 8)
    model = loaded("qwen2")
    backend = LocalBackend(model, batch_size=4)
    asked = [*requests(), *requests((TIMER,)), *requests(()), *requests((TIMER, LIGHT), ASKS[:2])]
    random.Random(0).shuffle(asked)
    for _ in range(2):
        texts = {completion.id: completion.text for completion in backend.complete(asked[:-2], GREEDY)}
        assert texts == {request.id: reference(model, request, 20) for request in asked[:-2]}


def test_no_requests_give_no_completions() -> None:
    assert list(LocalBackend(loaded()).complete([], GREEDY)) == []


class Script:
    """Chooses given tokens instead of the model's, and notes which rows each pass had."""

    def __init__(self, model: LoadedModel, texts: dict[str, str | list[int]]) -> None:
        encode = model.tokenizer.encode
        self.ids = {
            name: text if isinstance(text, list) else [*encode(text, add_special_tokens=False)]
            for name, text in texts.items()
        }
        self.passes: list[set[str]] = []

    def __call__(self, _: Tensor, rows: Sequence[continuation.Row], __: DecodeSettings) -> list[int]:
        self.passes.append({row.id for row in rows})
        return [self.ids[row.id][len(row.generated)] for row in rows]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[LoadedModel, dict[str, str | list[int]]], Script]:
    def install(model: LoadedModel, texts: dict[str, str | list[int]]) -> Script:
        script = Script(model, texts)
        monkeypatch.setattr(continuation, "_chosen", script)
        return script

    return install


CALLS = render_calls([ToolCall(name="set_light", arguments={"room": "kitchen"})])


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        (f"{CALLS}<|im_end|>rest", "stop", CALLS),
        (f"{CALLS}\nDone. And so on", "call_complete", None),
        (f"{CALLS}\n{CALLS}<|im_end|>", "stop", f"{CALLS}\n{CALLS}"),
        ("a long text without a call " * 20, "length", None),
        ("<|im_end|>", "stop", ""),
        ("<|endoftext|>hm <|im_end|>", "length", None),
    ],
)
@pytest.mark.parametrize("kind", ["qwen", "chatml"])
def test_when_rows_end(
    scripted: Callable[[LoadedModel, dict[str, str | list[int]]], Script],
    kind: TokenizerKind,
    text: str,
    finish_reason: str,
    expected: str | None,
) -> None:
    model = loaded(kind=kind)
    if text.startswith("<|endoftext|>"):  # a special token that ends nothing is part of the text
        text = text.removesuffix("<|im_end|>") + "a b c " * 60
    scripted(model, {"r": text})
    request = Request("r", (Message(role="user", content="hi"),), (LIGHT,))
    (found,) = LocalBackend(model).complete([request], DecodeSettings(max_new_tokens=70))
    assert found.finish_reason == finish_reason
    if expected is not None:
        assert found.text == expected
    else:
        assert text.startswith(found.text) and found.text
        assert found.completion_tokens == len(model.tokenizer.encode(found.text, add_special_tokens=False))
    if finish_reason == "call_complete":
        assert CALLS in found.text and len(found.text) < len(text)
    if finish_reason == "length":
        assert found.completion_tokens == 70


def test_the_tokens_of_a_thought_are_counted_apart(
    scripted: Callable[[LoadedModel, dict[str, str | list[int]]], Script],
) -> None:
    model = loaded(kind="qwen")
    scripted(
        model, {"thinks": "<think>\nHm, which?\n</think>\n\nWhich room?<|im_end|>", "speaks": "Which room?<|im_end|>"}
    )
    asked = [Request(name, (Message(role="user", content="hi"),), (LIGHT,)) for name in ("thinks", "speaks")]
    found = {each.id: each for each in LocalBackend(model).complete(asked, DecodeSettings(max_new_tokens=70))}
    assert found["thinks"].parsed().thought == "Hm, which?" and found["thinks"].parsed().text == "Which room?"
    assert found["thinks"].thought_tokens == len(model.tokenizer.encode("Hm, which?", add_special_tokens=False))
    assert found["speaks"].thought_tokens == 0


def test_calls_are_expected_in_the_format_on_the_card() -> None:
    told = card("full").model_copy(update={"dialect": "qwen_xml"})
    assert LocalBackend(loaded(card=told)).prompt_format.dialect == "qwen_xml"
    assert LocalBackend(loaded(card=card("full"))).prompt_format.dialect == "hermes"


def test_waiting_rows_take_the_places_of_finished_ones(
    scripted: Callable[[LoadedModel, dict[str, str | list[int]]], Script],
) -> None:
    model = loaded()
    stop = stop_token_ids(model.tokenizer)[0]
    asked = requests((LIGHT,), [f"Set a timer for {index} minutes" for index in range(9)])
    lengths = {request.id: 30 if index == 0 else 4 for index, request in enumerate(asked)}
    script = scripted(model, {name: [50] * (length - 1) + [stop] for name, length in lengths.items()})
    found = list(LocalBackend(model, batch_size=4).complete(asked, DecodeSettings(max_new_tokens=40)))
    assert {completion.id: completion.completion_tokens for completion in found} == lengths
    assert max(map(len, script.passes)) <= 4
    # In whole batches the long row alone would take 30 passes and two more batches 4 each.
    assert sum(len(names) for names in script.passes) == sum(lengths.values())
    assert len(script.passes) <= 34
    assert found[-1].id == asked[0].id


def test_prompts_beyond_the_context_get_an_error_and_the_others_an_answer() -> None:
    model = loaded()
    asked = requests((), ["hi", "Turn the light on " * 30])
    limit = len(prompt_of(model, asked[0])) + 5
    model.model.config.max_position_embeddings = limit
    found = {completion.id: completion for completion in LocalBackend(model).complete(asked, GREEDY)}
    assert found["none-0"].error is None and found["none-0"].completion_tokens in range(1, 6)
    long = found["none-1"]
    assert long.finish_reason == "error" and long.text == ""
    assert long.prompt_tokens == len(prompt_of(model, asked[1]))
    assert long.error == f"the prompt has {long.prompt_tokens} tokens; the model's context has {limit}"


def test_a_failing_model_is_a_backend_error_and_finished_answers_are_kept(
    scripted: Callable[[LoadedModel, dict[str, str | list[int]]], Script],
) -> None:
    model = loaded()
    stop = stop_token_ids(model.tokenizer)[0]
    asked = requests((LIGHT,), ("hi", "Turn it on"))
    scripted(model, {asked[0].id: [50] * 9 + [stop], asked[1].id: [50, stop]})
    backend = LocalBackend(model, batch_size=2)
    completions = backend.complete(asked, GREEDY)
    assert next(completions).id == asked[1].id

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("not enough memory: you tried to allocate\nmore")

    handle = model.model.register_forward_pre_hook(fail)
    with pytest.raises(BackendError, match="not enough memory: you tried to allocate") as caught:
        next(completions)
    assert "batch_size below 2" in caught.value.fix
    handle.remove()
    assert len(list(backend.complete(asked, GREEDY))) == 2


def test_numbers_that_are_not_finite_are_refused() -> None:
    model = loaded()
    model.model.get_output_embeddings().weight.data[7] = math.nan
    with pytest.raises(BackendError, match="not finite"):
        list(LocalBackend(model).complete(requests(), GREEDY))


def test_stopping_early_leaves_the_model_usable() -> None:
    model = loaded()
    before = model.model.config._attn_implementation
    backend = LocalBackend(model, batch_size=2)
    completions = backend.complete(requests(), GREEDY)
    next(completions)
    assert model.model.config._attn_implementation == before
    assert not torch.is_inference_mode_enabled()
    assert isinstance(completions, Iterator)
    completions.close()  # type: ignore[attr-defined]
    backend.close()
    assert len(list(backend.complete(requests(), GREEDY))) == len(ASKS)


def card(style: ToolsInPrompt) -> StudentCard:
    return StudentCard(tools_in_prompt=style, tools=(FunctionTool(function=LIGHT),), base=ModelRef(model="tiny"))


@pytest.mark.parametrize("style", ["full", "compact", "none"])
def test_tools_are_shown_as_the_card_says(style: ToolsInPrompt) -> None:
    model = loaded(card=card(style))
    (request,) = requests(asks=ASKS[:1])
    (found,) = LocalBackend(model).complete([request], GREEDY)
    assert found.prompt_tokens == len(prompt_of(model, request, style))
    assert found.text == reference(model, request, 20, style)
    (other,) = LocalBackend(model, tools_in_prompt="full").complete([request], GREEDY)
    assert other.prompt_tokens == len(prompt_of(model, request, "full"))


SAMPLED = DecodeSettings(max_new_tokens=12, sampling_temperature=1.0, seed=3)


def texts(completions: Iterator[Completion]) -> dict[str, str]:
    return {completion.id: completion.text for completion in completions}


def test_a_sample_depends_on_seed_and_id_and_not_on_the_batch() -> None:
    model, asked = loaded(), requests()
    together = texts(LocalBackend(model, batch_size=4).complete(asked, SAMPLED))
    assert texts(LocalBackend(model, batch_size=1).complete(asked[::-1], SAMPLED)) == together
    assert texts(LocalBackend(model).complete(asked[1:2], SAMPLED)) == {asked[1].id: together[asked[1].id]}
    assert texts(LocalBackend(model).complete(asked, SAMPLED.model_copy(update={"seed": 4}))) != together
    renamed = [Request("other", asked[0].messages, asked[0].specs)]
    assert texts(LocalBackend(model).complete(renamed, SAMPLED))["other"] != together[asked[0].id]


def test_a_tiny_nucleus_is_greedy() -> None:
    model, asked = loaded(), requests()
    settings = SAMPLED.model_copy(update={"top_p": 1e-6})
    assert texts(LocalBackend(model).complete(asked, settings)) == {
        request.id: reference(model, request, 12) for request in asked
    }


CONSTRAINED = DecodeSettings(max_new_tokens=60, constrained=True)
ROOM = ToolSpec(
    name="set_light",
    description="",
    parameters={"type": "object", "properties": {"room": {"enum": ["kitchen", "hall"]}}, "required": ["room"]},
)


@pytest.mark.parametrize(("family", "kind"), [("llama", "chatml"), ("qwen2", "qwen"), ("gemma3", "metaspace")])
def test_constrained_answers_of_random_weights_are_text_or_valid_calls(family: Family, kind: TokenizerKind) -> None:
    tokenizer = tiny_tokenizer(kind)
    prepare_tokenizer(tokenizer)
    validator, finished = CallValidator([ROOM, TIMER]), set()
    for seed in range(2):
        head = len(tokenizer) + 12  # the model's vocabulary is padded
        model = LoadedModel(tiny_model(family, head, seed=seed), tokenizer, ModelRef(model="tiny"), None)
        backend = LocalBackend(model, batch_size=3)
        backend._decoder.shares_prefix = seed == 0
        settings = CONSTRAINED.model_copy(update={"sampling_temperature": float(seed)})
        for found in backend.complete(requests((ROOM, TIMER)), settings):
            finished.add(found.finish_reason)
            assert found.finish_reason != "length" or found.completion_tokens == 60
            output = parse_output(found.text, truncated=found.finish_reason == "length")
            assert not any(validator.check_call(call) for call in output.calls)
            assert not output.errors or found.finish_reason == "length"
    assert "length" in finished


Favour = Callable[[str, bool, TokenizerKind], Completion]


@pytest.fixture
def favour(monkeypatch: pytest.MonkeyPatch) -> Favour:
    """Answers of a model that likes the tokens of a text by far the most, one after the other, and then to stop."""
    chosen = continuation._chosen

    def answer(text: str, constrained: bool, kind: TokenizerKind) -> Completion:
        model = loaded(kind=kind)
        script = [*model.tokenizer.encode(text, add_special_tokens=False), stop_token_ids(model.tokenizer)[0]]

        def favouring(logits_BV: Tensor, rows: Sequence[continuation.Row], settings: DecodeSettings) -> list[int]:
            liked = script[min(len(rows[0].generated), len(script) - 1)]
            logits_BV = logits_BV.clone()
            logits_BV[0, liked] += 1000
            return chosen(logits_BV, rows, settings)

        monkeypatch.setattr(continuation, "_chosen", favouring)
        settings = DecodeSettings(max_new_tokens=80, constrained=constrained)
        (found,) = LocalBackend(model).complete(requests((ROOM, TIMER), ASKS[:1]), settings)
        return found

    return answer


TWO = [ToolCall(name="set_light", arguments={"room": "hall"}), ToolCall(name="set_timer", arguments={})]


@pytest.mark.parametrize("kind", ["qwen", "chatml", "plain"])
@pytest.mark.parametrize(
    "text",
    [render_calls(TWO), f"Sure! {render_calls(TWO[:1])}", f"{render_calls(TWO)}\nDone with it.", "Which room?", ""],
)
def test_the_constraint_changes_no_answer_that_it_allows(favour: Favour, kind: TokenizerKind, text: str) -> None:
    free, bound = favour(text, False, kind), favour(text, True, kind)
    assert (bound.text, bound.finish_reason) == (free.text, free.finish_reason)
    assert free.text.startswith(text[:60]) and free.finish_reason in ("stop", "call_complete")


@pytest.mark.parametrize(
    "text",
    [
        render_calls([ToolCall(name="set_light", arguments={"room": "attic"})]),
        render_calls([ToolCall(name="set_lamp", arguments={})]),
        render_calls([ToolCall(name="set_timer", arguments={"minutes": 3})]),
        '<tool_call>\n{"name": "set_light", "arguments": {"room": "hall", "room": "hall"}}\n</tool_call>',
    ],
)
def test_a_wrong_call_is_turned_into_a_right_one_or_not_finished(favour: Favour, text: str) -> None:
    free, bound = favour(text, False, "qwen"), favour(text, True, "qwen")
    validator = CallValidator([ROOM, TIMER])
    output = parse_output(free.text)
    assert output.errors or any(validator.check_call(call) for call in output.calls)
    output = parse_output(bound.text, truncated=bound.finish_reason == "length")
    assert not any(validator.check_call(call) for call in output.calls)
    assert bound.finish_reason == "length" or (output.calls and not output.errors)


def test_tools_that_can_not_be_constrained_are_refused_before_a_token_is_decoded() -> None:
    model = loaded()
    backend = LocalBackend(model)
    model.model.register_forward_pre_hook(lambda *_: pytest.fail("the model was asked"))
    parameters = {"type": "object", "properties": {"mode": {"not": {"const": "off"}}}}
    negating = ToolSpec(name="free", description="", parameters=parameters)
    with pytest.raises(CatalogError, match="tool 'free', /properties/mode: not"):
        next(backend.complete(requests((negating,)), CONSTRAINED))


@pytest.mark.slow
def test_a_real_model_behind_a_shared_prompt_equals_generate() -> None:
    model = load_model("smollm2-135m-instruct", dtype="float32")
    asked = requests(asks=("Turn the kitchen light on", "Set a timer for ten minutes", "Who are you?"))
    backend = LocalBackend(model, batch_size=2)
    assert backend.shares_prefix
    settings = DecodeSettings(max_new_tokens=12)
    assert texts(backend.complete(asked, settings)) == {request.id: reference(model, request, 12) for request in asked}
