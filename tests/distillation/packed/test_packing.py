import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.distillation.packed.packing import PackedRows, pack_tree, pad_rows
from fcdistill.distillation.packed.tree_masks import dense_mask

# Few distinct tokens, so that prefixes are shared, sequences repeat, and some are prefixes of others.
_SEQUENCES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=8), min_size=1, max_size=9)


def _visible(rows: PackedRows, flat: int) -> list[int]:
    """Flat indices that a token sees, in the order of the row."""
    width = rows.input_ids_RT.shape[1]
    row, query = divmod(flat, width)
    assert rows.ends_RT is not None
    return [row * width + key for key in dense_mask(rows.ends_RT)[row, 0, query].nonzero().flatten().tolist()]


@settings(deadline=None)
@given(sequences=_SEQUENCES, max_tokens=st.integers(1, 40), attention_tokens=st.sampled_from([1, 10, 10**6]))
def test_each_token_sees_exactly_its_own_past(
    sequences: list[list[int]], max_tokens: int, attention_tokens: int
) -> None:
    rows = pack_tree(sequences, max_tokens=max_tokens, attention_tokens=attention_tokens)
    ids, positions = rows.input_ids_RT.flatten(), rows.position_ids_RT.flatten()
    assert len(rows.paths) == len(sequences)
    for sequence, path in zip(sequences, rows.paths, strict=True):
        assert ids[path].tolist() == sequence
        assert positions[path].tolist() == list(range(len(sequence)))
        for depth, flat in enumerate(path.tolist()):
            assert _visible(rows, flat) == path[: depth + 1].tolist()
    assert rows.input_ids_RT.shape[1] <= max(max_tokens, *map(len, sequences))


@settings(deadline=None)
@given(sequences=_SEQUENCES)
def test_in_one_row_every_shared_token_stands_once(sequences: list[list[int]]) -> None:
    rows = pack_tree(sequences, max_tokens=1000, attention_tokens=1 << 70)
    prefixes = {tuple(sequence[: end + 1]) for sequence in sequences for end in range(len(sequence))}
    assert len(rows.input_ids_RT) == 1
    assert rows.num_tokens == len(prefixes) <= rows.input_ids_RT.shape[1] <= len(prefixes) * 9 / 8


def test_rows_have_few_widths_within_the_token_budget() -> None:
    assert pack_tree([range(300)], max_tokens=4096).input_ids_RT.shape == (1, 320)
    assert pack_tree([range(300)], max_tokens=310).input_ids_RT.shape == (1, 310)
    lengths = range(100, 1100)
    widths = [pad_rows([range(length)]).input_ids_RT.shape[1] for length in lengths]
    assert len(set(widths)) < 30
    assert all(length <= width <= length * 9 / 8 for length, width in zip(lengths, widths, strict=True))


def test_padding_sees_only_itself_and_is_seen_by_none() -> None:
    rows = pack_tree([[1, 2, 3, 4], [5, 6]], max_tokens=4, pad_id=9)
    padded = (rows.input_ids_RT == 9).nonzero().tolist()
    mask = dense_mask(rows.ends_RT)
    assert len(padded) == 2
    for row, column in padded:
        assert mask[row, 0, column].nonzero().flatten().tolist() == [column]
        assert mask[row, 0, :, column].nonzero().flatten().tolist() == [column]


def test_a_long_shared_prefix_keeps_one_row_and_nothing_shared_makes_short_rows() -> None:
    shared = [[7] * 400 + [index] * 20 for index in range(8)]
    apart = [[index] * 60 for index in range(8)]
    assert pack_tree(shared, max_tokens=4096, attention_tokens=1700).input_ids_RT.shape == (1, 576)
    assert pack_tree(apart, max_tokens=4096, attention_tokens=100).input_ids_RT.shape == (8, 60)
    assert pack_tree(apart, max_tokens=4096, attention_tokens=1 << 70).input_ids_RT.shape == (1, 480)


def test_the_token_budget_opens_further_rows_and_a_longer_sequence_gets_its_own() -> None:
    sequences = [[1] * 10 + [index] * 5 for index in range(2, 8)]
    rows = pack_tree(sequences, max_tokens=20, attention_tokens=1 << 70)
    assert rows.input_ids_RT.shape == (3, 20)
    assert pack_tree([[1] * 30, [2] * 3], max_tokens=20).input_ids_RT.shape == (2, 30)


def test_padded_rows_hold_one_sequence_each() -> None:
    rows = pad_rows([[1, 2, 3], [4]], pad_id=9)
    assert rows.input_ids_RT.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert rows.padding_mask_RT.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert [path.tolist() for path in rows.paths] == [[0, 1, 2], [3]]
    assert rows.num_tokens == 4 and rows.position_ids_RT is None and rows.ends_RT is None


@pytest.mark.parametrize("sequences", [[], [[1], []]])
def test_nothing_can_not_be_packed(sequences: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one sequence"):
        pack_tree(sequences, max_tokens=10)
    with pytest.raises(ValueError, match="at least one sequence"):
        pad_rows(sequences)
