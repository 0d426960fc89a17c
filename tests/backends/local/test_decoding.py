"""Tests of `decoding` and `shared_prefix`: every way of advancing rows equals plain `generate`."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from fcdistill.backends.local import shared_prefix
from fcdistill.backends.local.decoding import Decoder
from tests.tiny import Family, tiny_model

VOCABULARY = 500
NUM_NEW = 24
FAMILIES: tuple[Family, ...] = ("llama", "qwen2", "gemma3")
UNUSUAL: dict[str, Any] = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
UNUSUAL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 8, "head_dim": 8}
UNUSUAL |= {"initializer_range": 0.2, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def ids(num_tokens: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (num_tokens,), generator=generator).tolist()


def generated(model: PreTrainedModel, prompt: Sequence[int], num_new: int = NUM_NEW) -> list[int]:
    """What transformers itself decodes greedily."""
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=num_new,
            do_sample=False,
            pad_token_id=0,
        )
    return out[0, len(prompt) :].tolist()


class Greedy:
    """Decodes rows greedily and notes what each has got."""

    def __init__(self, decoder: Decoder, prefix: Sequence[int]) -> None:
        self.rows = decoder.open(prefix)
        self.active: list[int] = []
        self.got: dict[int, list[int]] = {}

    def add(self, prompts: dict[int, list[int]]) -> None:
        logits = self.rows.add(list(prompts.values()))
        self.active += prompts
        self.got |= {name: [token] for name, token in zip(prompts, logits.argmax(-1).tolist(), strict=True)}

    def step(self) -> None:
        logits = self.rows.step([self.got[name][-1] for name in self.active])
        for name, token in zip(self.active, logits.argmax(-1).tolist(), strict=True):
            self.got[name].append(token)

    def finish(self, num_new: int = NUM_NEW) -> None:
        """Drop each row as soon as it has `num_new` tokens, until none is left."""
        while self.active:
            kept = [index for index, name in enumerate(self.active) if len(self.got[name]) < num_new]
            if len(kept) < len(self.active):
                self.rows.keep(kept)
                self.active = [self.active[index] for index in kept]
            else:
                self.step()


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return tiny_model(request.param, VOCABULARY)


@pytest.mark.parametrize("num_prefix", [0, 1, 40])
@pytest.mark.parametrize("shares", [True, False])
def test_rows_of_different_length_equal_generate(model: PreTrainedModel, num_prefix: int, shares: bool) -> None:
    decoder = Decoder(model)
    assert decoder.shares_prefix
    decoder.shares_prefix = shares
    prefix, prompts = ids(num_prefix, 0), {name: ids(length, name) for name, length in enumerate((1, 7, 20, 3))}
    greedy = Greedy(decoder, prefix)
    greedy.add(prompts)
    greedy.finish()
    assert greedy.got == {name: generated(model, prefix + prompt) for name, prompt in prompts.items()}


def test_rows_that_join_and_leave_midway_equal_generate(model: PreTrainedModel) -> None:
    prefix, prompts = ids(30, 0), {name: ids(length, name) for name, length in enumerate((4, 9, 30, 2, 80))}
    greedy = Greedy(Decoder(model), prefix)
    assert greedy.rows.can_join
    greedy.add({name: prompts[name] for name in (0, 1)})
    for _ in range(5):
        greedy.step()
    greedy.rows.keep([1])
    greedy.active = [1]
    greedy.add({name: prompts[name] for name in (2, 3)})
    greedy.step()
    greedy.add({4: prompts[4]})
    greedy.finish()
    for name in (1, 2, 3, 4):
        assert greedy.got[name] == generated(model, prefix + prompts[name]), name


@settings(max_examples=15, deadline=None)
@given(data=st.data(), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), num_prefix=st.integers(0, 20))
def test_any_order_of_joining_and_leaving_equals_generate(
    data: st.DataObject, lengths: list[int], num_prefix: int
) -> None:
    model = tiny_model("gemma3", VOCABULARY, num_layers=2)
    prefix, prompts = ids(num_prefix, 99), {name: ids(length, name) for name, length in enumerate(lengths)}
    greedy = Greedy(Decoder(model), prefix)
    waiting = list(prompts)
    while waiting:
        num_joining = data.draw(st.integers(1, len(waiting)))
        greedy.add({name: prompts[name] for name in waiting[:num_joining]})
        del waiting[:num_joining]
        for _ in range(data.draw(st.integers(0, 3))):
            greedy.step()
    greedy.finish(8)
    assert {name: tokens[:8] for name, tokens in greedy.got.items()} == {
        name: generated(model, prefix + prompt, 8) for name, prompt in prompts.items()
    }


@pytest.fixture
def forwarded(model: PreTrainedModel) -> Iterator[list[int]]:
    """Tokens per row of each forward pass of `model`, as they come."""
    seen: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _module, _args, inputs: seen.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    yield seen
    handle.remove()


def test_a_prefix_is_computed_once_and_extended_or_shortened(model: PreTrainedModel, forwarded: list[int]) -> None:
    decoder, long = Decoder(model), ids(60, 0)
    passes = []
    for prefix in (long[:50], long[:50], long[:60], long[:20], [*long[:20], *ids(5, 1)]):
        forwarded.clear()
        greedy = Greedy(decoder, prefix)
        passes.append(list(forwarded))
        greedy.add({0: [5, 6]})
        greedy.finish(4)
        assert greedy.got[0] == generated(model, [*prefix, 5, 6], 4)
    assert passes == [[50], [], [10], [], [5]]
    decoder.close()
    forwarded.clear()
    decoder.open(long[:50])
    assert forwarded == [50]


def test_a_long_prefix_is_computed_in_blocks(forwarded: list[int], model: PreTrainedModel) -> None:
    decoder, prefix = Decoder(model), ids(1100, 0)
    forwarded.clear()
    greedy = Greedy(decoder, prefix)
    assert forwarded == [512, 512, 76]
    greedy.add({0: [7]})
    greedy.finish(4)
    assert greedy.got[0] == generated(model, [*prefix, 7], 4)


def test_the_model_is_left_as_it_was(model: PreTrainedModel) -> None:
    before = model.config._attn_implementation
    reference = model(torch.tensor([ids(9, 0)])).logits
    greedy = Greedy(Decoder(model), ids(5, 0))
    greedy.add({0: [5], 1: [6, 7]})
    greedy.step()
    assert model.config._attn_implementation == before
    assert torch.equal(model(torch.tensor([ids(9, 0)])).logits, reference)


@pytest.mark.parametrize(
    "unusual",
    [
        lambda: Gemma2ForCausalLM(Gemma2Config(**UNUSUAL, attn_logit_softcapping=5.0)),
        lambda: MistralForCausalLM(MistralConfig(**UNUSUAL)),
    ],
    ids=["softcap", "window in all layers"],
)
def test_unusual_attention_falls_back_to_padded_batches(unusual: Any, caplog: pytest.LogCaptureFixture) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = unusual().eval()
    with caplog.at_level(logging.WARNING):
        decoder = Decoder(model)
    assert not decoder.shares_prefix
    assert "not shared" in caplog.text
    prefix = [token % 57 + 3 for token in ids(20, 0)]
    greedy = Greedy(decoder, prefix)
    assert not greedy.rows.can_join
    greedy.add({0: [5], 1: [6, 7, 8]})
    greedy.finish(12)
    assert greedy.got == {0: generated(model, [*prefix, 5], 12), 1: generated(model, [*prefix, 6, 7, 8], 12)}


def test_a_wrong_result_of_sharing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama", VOCABULARY)
    attention = type(model.model.layers[0].self_attn)
    original = attention.forward

    def shifted(self: Any, *args: Any, **kwargs: Any) -> Any:
        out, weights = original(self, *args, **kwargs)
        return (out if kwargs.get("own_tokens") is None else out * 1.1), weights

    monkeypatch.setattr(attention, "forward", shifted)
    assert not Decoder(model).shares_prefix


def test_under_autocast_prefixes_are_shared_and_scores_keep_their_precision(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a student is asked while it is trained: float32 weights, bfloat16 products."""
    cast: set[bool] = set()

    def spy(*tensors: Any) -> torch.Tensor:
        cast.add(torch.is_autocast_enabled("cpu"))
        return attend(*tensors)

    attend = shared_prefix._attend_block
    monkeypatch.setattr(shared_prefix, "_attend_block", spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoder = Decoder(model)
        assert decoder.shares_prefix
        prefix, prompts = ids(30, 0), [ids(4, 1), ids(9, 2)]
        found = decoder.open(prefix).add(prompts)
        with torch.no_grad():
            wanted = torch.stack(
                [model(torch.tensor([[*prefix, *prompt]])).logits[0, -1].float() for prompt in prompts]
            )
    assert (found - wanted).norm() < 0.05 * wanted.norm()
    assert cast == {False}
