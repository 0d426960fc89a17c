"""Tests of `fcdistill.distillation.packed.attention`."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fcdistill.distillation.packed import attention
from fcdistill.distillation.packed.attention import training_attention
from fcdistill.distillation.packed.forward import forward_rows, model_inputs
from fcdistill.distillation.packed.packing import pack_tree, pad_rows
from tests.tiny import Family, tiny_model


def _rows(length: int = 20, *, packed: bool = True) -> dict[str, Tensor]:
    generator = random.Random(length)
    shared = [generator.randrange(60) for _ in range(5)]
    sequences = [shared + [generator.randrange(60) for _ in range(length - n)] for n in range(4)]
    return model_inputs(pack_tree(sequences, max_tokens=4096) if packed else pad_rows(sequences), "dense_mask")


def _outputs(family: Family, inputs: dict[str, Tensor], *, fast: bool, autocast: bool = False) -> list[Tensor]:
    """Logits, and the gradients of a random projection of them."""
    model = tiny_model(family, 60)
    torch.manual_seed(0)
    context = training_attention(model) if fast else torch.enable_grad()
    with context:
        rows_N = torch.arange(inputs["input_ids"].numel())
        precision = torch.bfloat16 if autocast else None
        logits_NV = forward_rows(model, model.get_output_embeddings(), inputs, rows_N, autocast=precision).logits_NV
        (logits_NV.float() * torch.randn(logits_NV.shape)).sum().backward()
    return [logits_NV.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("block", [3, 128])
def test_logits_and_gradients_are_those_of_the_fused_kernel(
    family: Family, packed: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(attention, "_KEY_STEP", 5)
    monkeypatch.setattr(attention, "_BLOCK", block)
    find_blocks = attention._find_blocks
    monkeypatch.setattr(attention, "_find_blocks", lambda mask: calls.append(1) or find_blocks(mask))
    inputs = _rows(packed=packed)
    fast, fused = (_outputs(family, inputs, fast=fast) for fast in (True, False))
    assert calls and len(fast) == len(fused) > 10
    for ours, theirs in zip(fast, fused, strict=True):
        assert (ours - theirs).norm() < 2e-5 * theirs.norm()


def test_under_autocast_it_agrees_to_rounding() -> None:
    inputs = _rows()
    fast, fused = (_outputs("llama", inputs, fast=fast, autocast=True)[0].float() for fast in (True, False))
    assert (fast - fused).norm() < 0.02 * fused.norm()


def _random_heads(num_positions: int, dtype: torch.dtype) -> list[Tensor]:
    """Queries of four heads, keys and values of two, of two rows."""
    torch.manual_seed(0)
    return [torch.randn(2, heads, num_positions, 8, dtype=dtype) for heads in (4, 2, 2)]


def _tree_mask(num_positions: int, *, shared: int, branch: int) -> Tensor:
    """Causal masks [2, 1, T, T] of branches behind a shared prefix; the second row's prefix is longer by one branch."""
    place = torch.arange(num_positions)
    rows = []
    for prefix in (shared, shared + branch):
        ends = torch.where(place < prefix, num_positions, prefix + ((place - prefix) // branch + 1) * branch)
        rows.append((place[:, None] >= place) & (place[:, None] < ends))
    return torch.stack(rows)[:, None]


def test_gradients_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_BLOCK", 4)
    heads = [tensor.requires_grad_() for tensor in _random_heads(14, torch.float64)]
    blocks = attention._blocks(mask := _tree_mask(14, shared=3, branch=4))
    assert torch.autograd.gradcheck(lambda *tensors: attention._BlockAttention.apply(*tensors, blocks, 0.3), heads)
    query, key, value = (tensor.detach() for tensor in heads)
    found = attention._BlockAttention.apply(query, key, value, blocks, 0.3)
    wanted = nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=0.3, enable_gqa=True)
    assert torch.allclose(found.transpose(1, 2), wanted, rtol=1e-9)


def test_a_block_meets_only_the_keys_that_its_queries_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_BLOCK", 4)
    monkeypatch.setattr(attention, "_KEY_STEP", 1)
    blocks = attention._blocks(_tree_mask(16, shared=4, branch=4)[:1])
    keys = [torch.arange(16)[block.keys].tolist() for block in blocks]
    shared = [0, 1, 2, 3]
    assert keys == [shared, [*shared, *range(4, 8)], [*shared, *range(8, 12)], [*shared, *range(12, 16)]]


def test_blocks_have_few_numbers_of_keys() -> None:
    masks = [_tree_mask(400 + branch, shared=200, branch=branch) for branch in range(30, 60)]
    counts = {block.num_keys for mask in masks for block in attention._blocks(mask) if block.num_keys % 64}
    assert counts <= {len(mask[0, 0]) for mask in masks}, "but where there are no more keys"


def test_all_layers_share_what_is_found_in_a_mask_and_nothing_outlives_it() -> None:
    mask = _tree_mask(16, shared=4, branch=4)
    assert attention._blocks(mask) is attention._blocks(mask)
    known = len(attention._known_blocks)
    del mask
    assert len(attention._known_blocks) == known - 1


def test_a_query_that_sees_nothing_gets_zeros_and_gives_no_gradient() -> None:
    heads = [tensor.requires_grad_() for tensor in _random_heads(6, torch.float32)]
    mask = _tree_mask(6, shared=2, branch=2)
    mask[0, :, 1] = False
    mask[1] = False
    found = attention._BlockAttention.apply(*heads, attention._blocks(mask), 1.0)
    assert not found[1].any() and not found[0, 1].any() and found[0, [0, 2, 3, 4, 5]].all()
    found.sum().backward()
    assert all(tensor.grad is not None and not tensor.grad[1].any() for tensor in heads)
    assert not heads[0].grad[0, :, 1].any() and all(tensor.grad[0].isfinite().all() for tensor in heads)


def test_bfloat16_gradients_are_about_as_exact_as_those_of_the_fused_kernel() -> None:
    mask = _tree_mask(160, shared=100, branch=20)

    def errors(attend: Callable[..., Tensor]) -> list[float]:
        rounded = [tensor.bfloat16() for tensor in _random_heads(160, torch.float32)]
        exact = [tensor.double().requires_grad_() for tensor in rounded]
        tensors = [tensor.requires_grad_() for tensor in rounded]
        for heads, function in ((exact, _fused), (tensors, attend)):
            attended = function(*heads, mask)
            (attended * torch.randn(attended.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        pairs = zip(tensors, exact, strict=True)
        return [((found.grad - wanted.grad).norm() / wanted.grad.norm()).item() for found, wanted in pairs]

    pairs = zip(errors(_by_blocks), errors(_fused), strict=True)
    assert all(ours < 1.5 * theirs < 0.02 for ours, theirs in pairs)


def _by_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    found: Tensor = attention._BlockAttention.apply(query, key, value, attention._blocks(mask), query.shape[-1] ** -0.5)
    return found.transpose(1, 2)


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)


@pytest.mark.parametrize("length", [24, 300])
def test_large_scores_are_not_rounded_before_the_softmax(length: int) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, length, 16).bfloat16() for _ in range(3))
    query += 4  # as where all keys have a direction in common: scores of some hundreds that differ by a few
    key += 4
    mask = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    found = attention._BlockAttention.apply(query, key, value, attention._blocks(mask), 1.0).float().transpose(1, 2)
    exact = (query.double() @ key.double().transpose(2, 3)).masked_fill(~mask, -torch.inf).softmax(-1) @ value.double()
    assert (found - exact).abs().max() < 0.02


def test_the_precision_of_other_products_is_left_as_it_was() -> None:
    left, right = torch.randn(2, 64, 64), torch.randn(2, 64, 64)
    exact = torch.bmm(left, right)
    heads = [tensor.requires_grad_() for tensor in _random_heads(6, torch.bfloat16)]
    blocks = attention._blocks(_tree_mask(6, shared=2, branch=2))
    attention._BlockAttention.apply(*heads, blocks, 1.0).sum().backward()
    assert torch.equal(torch.bmm(left, right), exact)


@pytest.mark.parametrize("options", [{"softcap": 30.0}, {"dropout": 0.5}])
def test_what_is_not_plain_goes_to_the_fused_kernel(options: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    handed_on = []
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *_, **given: handed_on.append(given))
    heads = _random_heads(6, torch.float32)
    attention._attend(nn.Module(), *heads, _tree_mask(6, shared=2, branch=2), **options)
    assert len(handed_on) == 1 and options.items() <= handed_on[0].items()


def test_the_model_attends_as_before_afterwards_and_other_choices_are_respected() -> None:
    model = tiny_model("llama", 60)
    with training_attention(model):
        assert model.config._attn_implementation == "fcdistill_packed"
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    with training_attention(model):
        assert model.config._attn_implementation == "eager"
