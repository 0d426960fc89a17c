from fcdistill.models.vocabulary import shared_vocabulary
from tests.tiny import tiny_tokenizer


def test_equal_tokenizers_share_their_vocabulary() -> None:
    found = shared_vocabulary(tiny_tokenizer("qwen"), tiny_tokenizer("qwen"))
    assert (found.same, found.size) == (True, 502)


def test_padded_heads_do_not_matter_and_tokens_do() -> None:
    longer = tiny_tokenizer("qwen")
    longer.add_tokens(["<extra>"])
    found = shared_vocabulary(tiny_tokenizer("qwen"), longer)
    assert (found.same, found.size) == (False, 502)
    assert "'<extra>'" in found.detail


def test_different_tokenizers_share_nothing_they_disagree_on() -> None:
    found = shared_vocabulary(tiny_tokenizer("qwen"), tiny_tokenizer("plain"))
    assert (found.same, found.size) == (False, 0)
    assert "'<s>'" in found.detail


def test_equal_maps_that_cut_differently_are_not_the_same() -> None:
    a, b = tiny_tokenizer("qwen"), tiny_tokenizer("qwen")
    b.backend_tokenizer.pre_tokenizer = type(b.backend_tokenizer.pre_tokenizer)(add_prefix_space=True)
    found = shared_vocabulary(a, b)
    assert not found.same and "cut differently" in found.detail
