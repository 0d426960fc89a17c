"""Tests of `continuation`: how rows are grouped, how tokens are chosen, and when rows leave."""

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.backends.local import continuation
from fcdistill.backends.local.continuation import Row, continued
from fcdistill.backends.local.decoding import Decoder
from fcdistill.config import DecodeSettings
from tests.tiny import tiny_model

VOCABULARY = 60
PROMPTS = {"a": [5, 6, 7, 8], "b": [5, 6, 9], "c": [5, 6, 7, 8, 10, 11], "d": [12]}


def asked_rows(num_allowed: int = 6) -> list[Row]:
    return [Row(name, prompt, num_allowed, random.Random(name)) for name, prompt in PROMPTS.items()]


def _end_of(row: Row) -> str | None:
    """Rows end at a multiple of 4, or when they are full."""
    if row.generated[-1] % 4 == 0:
        return "multiple"
    return "full" if len(row.generated) == row.num_allowed else None


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_every_row_comes_back_once_as_a_plain_forward_pass_continues_it(batch_size: int) -> None:
    model = tiny_model("llama", VOCABULARY)
    asked = asked_rows()
    found = list(continued(Decoder(model), asked, DecodeSettings(), _end_of, batch_size=batch_size))
    assert sorted(row.id for row, _ in found) == sorted(PROMPTS)
    assert all(any(row is one for one in asked) for row, _ in found)
    for row, end in found:
        expected = list(PROMPTS[row.id])
        with torch.no_grad():
            for _ in row.generated:
                expected.append(int(model(torch.tensor([expected])).logits[0, -1].argmax()))
        assert [*row.prompt, *row.generated] == expected
        assert end == ("multiple" if expected[-1] % 4 == 0 else "full")
        assert all(token % 4 for token in row.generated[:-1])
    assert {end for _, end in found} == {"multiple", "full"}


def test_what_a_row_draws_is_its_own() -> None:
    model = tiny_model("llama", VOCABULARY)
    settings = DecodeSettings(sampling_temperature=1.0)
    texts = []
    for batch_size, order in ((1, 1), (4, -1)):
        found = continued(Decoder(model), asked_rows()[::order], settings, _end_of, batch_size=batch_size)
        texts.append({row.id: row.generated for row, _ in found})
    assert texts[0] == texts[1]
    assert len({tuple(text) for text in texts[0].values()}) == len(PROMPTS)


@pytest.mark.parametrize("sampling_temperature", [0.0, 1.0])
def test_columns_behind_the_vocabulary_are_never_chosen(sampling_temperature: float) -> None:
    model = tiny_model("llama", VOCABULARY)
    model.get_output_embeddings().weight.data[40:] *= 50
    settings = DecodeSettings(sampling_temperature=sampling_temperature)
    for size, most in ((None, VOCABULARY - 1), (40, 39)):
        found = continued(Decoder(model), asked_rows(), settings, _end_of, batch_size=4, vocabulary_size=size)
        tokens = [token for row, _ in found for token in row.generated]
        assert (max(tokens) > 39) == (most > 39)


def test_numbers_that_are_not_finite_are_refused() -> None:
    model = tiny_model("llama", VOCABULARY)
    decoder = Decoder(model)
    model.get_output_embeddings().weight.data[7] = math.nan
    with pytest.raises(FloatingPointError):
        list(continued(decoder, asked_rows(), DecodeSettings(), _end_of, batch_size=4))


@pytest.mark.parametrize(
    ("sampling_temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.1, 0.5, 0.0, 0.25, 0.15]),
        (0.5, 1.0, [0.01 / 0.345, 0.25 / 0.345, 0.0, 0.0625 / 0.345, 0.0225 / 0.345]),
        (1.0, 0.6, [0.0, 0.5 / 0.75, 0.0, 0.25 / 0.75, 0.0]),
        (1.0, 0.5, [0.0, 1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_samples_follow_the_distribution(sampling_temperature: float, top_p: float, expected: list[float]) -> None:
    settings = DecodeSettings(sampling_temperature=sampling_temperature, top_p=top_p)
    num_draws = 4000
    logits = torch.tensor([0.1, 0.5, 0.0, 0.25, 0.15]).log().expand(num_draws, -1)
    rows = [Row(str(index), [0], 1, random.Random(index)) for index in range(num_draws)]
    counts = Counter(continuation._chosen(logits, rows, settings))
    for token, probability in enumerate(expected):
        # 5 standard deviations of a binomial
        assert abs(counts[token] / num_draws - probability) <= 5 * math.sqrt(
            probability * (1 - probability) / num_draws
        )


prompts = st.lists(st.integers(0, 2), min_size=1, max_size=8)


@given(st.lists(prompts, max_size=30), st.integers(1, 3))
def test_groups_hold_every_row_once_and_share_what_they_say(contents: list[list[int]], min_tokens: int) -> None:
    rows = [Row(str(index), prompt, 1, random.Random()) for index, prompt in enumerate(contents)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(continuation, "_MIN_GROUP_TOKENS", min_tokens)
        groups = list(continuation._grouped(rows))
    assert sorted(row.id for _, group in groups for row in group) == sorted(row.id for row in rows)
    for num_shared, group in groups:
        assert num_shared < min(len(row.prompt) for row in group)
        assert len({tuple(row.prompt[:num_shared]) for row in group}) == 1


def test_rows_with_much_in_common_are_a_group_of_their_own() -> None:
    head, a, b = [1] * 10, [2] * 100, [3] * 100
    contents = [[*head, *a, index] for index in range(4, 9)] + [[*head, *b, index] for index in range(4, 8)]
    contents += [[*head, *a[:5], 9], [*head, 8, 8]]
    rows = [Row(str(index), prompt, 1, random.Random()) for index, prompt in enumerate(contents)]
    groups = [(num_shared, {row.id for row in group}) for num_shared, group in continuation._grouped(rows)]
    assert sorted(groups, key=lambda group: min(group[1])) == [
        (110, {"0", "1", "2", "3", "4"}),
        (10, {"9", "10"}),
        (110, {"5", "6", "7", "8"}),
    ]
