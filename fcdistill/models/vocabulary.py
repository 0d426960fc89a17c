"""Whether two tokenizers share a vocabulary: the same ids for the same text. Models are not known here."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

__all__ = ["SharedVocabulary", "shared_vocabulary"]

_PROBES = (
    '{"name": "set_timer", "arguments": {"minutes": 10}}',
    "Straße  naïve\t12345 don't\n\n日本語 🙂",
    "<tool_call>\n",
)


@dataclass(frozen=True)
class SharedVocabulary:
    """Whether two tokenizers cut text into the same ids.

    Attributes:
        same: the token-to-id maps are equal and sample texts encode equally.
        size: ids below it mean the same token on both sides; the whole vocabulary where `same`.
        detail: for users: what was compared, or the first difference.
    """

    same: bool
    size: int
    detail: str


def shared_vocabulary(a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase) -> SharedVocabulary:
    """Compare two tokenizers by their token-to-id maps, never by the (padded) sizes of their models."""
    a_tokens, b_tokens = ({index: token for token, index in side.get_vocab().items()} for side in (a, b))
    end = max([*a_tokens, *b_tokens]) + 1
    size = next((index for index in range(end) if a_tokens.get(index) != b_tokens.get(index)), end)
    if size < end:
        detail = f"id {size} is {a_tokens.get(size)!r} on one side and {b_tokens.get(size)!r} on the other"
        return SharedVocabulary(False, size, detail)
    for probe in _PROBES:
        if a.encode(probe, add_special_tokens=False) != b.encode(probe, add_special_tokens=False):
            return SharedVocabulary(False, size, f"equal maps of {size} tokens, but {probe!r} is cut differently")
    return SharedVocabulary(True, size, f"equal maps of {size} tokens")
