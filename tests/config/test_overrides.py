from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.config import EvalConfig
from fcdistill.config.overrides import flag_of, with_flags, with_overrides
from fcdistill.errors import ConfigError

NAMES = st.sampled_from(["a", "b", "c_d"])
SCALARS = st.one_of(st.integers(), st.booleans(), st.text("xyz", min_size=1))
SECTIONS = st.recursive(
    st.dictionaries(NAMES, SCALARS, max_size=3),
    lambda inner: st.dictionaries(NAMES, st.one_of(SCALARS, inner)),
    max_leaves=6,
)
FIELDS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)


def plain(values: Any) -> Any:
    return values


def leaves(values: Any, before: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {before: values}
    return {name: value for key, inner in values.items() for name, value in leaves(inner, f"{before}.{key}").items()}


def value_at(values: Any, field: str) -> Any:
    for step in field.split("."):
        values = values[step]
    return values


@given(values=SECTIONS, field=FIELDS, value=SCALARS)
def test_a_flag_gives_its_field_and_leaves_all_others(values: dict[str, Any], field: str, value: Any) -> None:
    try:
        found = with_flags(values, {field: value}, spelled_out=plain)
    except ConfigError as error:
        assert "which is no mapping" in error.found
        return
    assert value_at(found, field) == value
    others = {name: kept for name, kept in leaves(values).items() if not f"{name}.".startswith(f".{field}.")}
    assert others.items() <= leaves(found).items()


@given(values=SECTIONS, field=FIELDS, value=st.integers())
def test_a_flag_and_a_set_of_its_field_are_one_or_refused(values: dict[str, Any], field: str, value: int) -> None:
    def both(said: int) -> Any:
        override = f"{field}={said}"
        return with_flags(with_overrides(values, [override]), {field: value}, [override], spelled_out=plain)

    try:
        with_overrides(values, [f"{field}=0"])
    except ConfigError:
        return  # the field lies below a value
    assert both(value) == with_flags(values, {field: value}, spelled_out=plain)
    with pytest.raises(ConfigError) as raised:
        both(value + 1)
    assert raised.value.found == f"{flag_of(field)} {value} and --set '{field}={value + 1}' disagree"
    assert raised.value.required == f"one value of {field}"


@pytest.mark.parametrize(
    ("override", "disagrees"),
    [
        ("model=other", False),
        ("model={model: other}", False),
        ("model={batch_size: 4}", False),
        ("model={batch_size: 5}", True),
        ("model.batch_size=4", False),
        ("model.batch_size=5", True),
        ("model.batch_size={deep: 4}", True),
        ("model.batch_size.deep=4", True),
        ("model=null", True),
        ("model=5", True),
        ("batch_size=5", False),
    ],
)
def test_a_set_disagrees_where_it_says_other_of_the_field_or_takes_its_subsection_away(
    override: str, disagrees: bool
) -> None:
    def read() -> Any:
        values = with_overrides({}, [override])
        return with_flags(values, {"model.batch_size": 4}, [override], spelled_out=EvalConfig.spelled_out)

    if not disagrees:
        assert read()["model"]["batch_size"] == 4
        return
    with pytest.raises(ConfigError, match="--batch-size 4 and --set '.*' disagree"):
        read()


def test_a_path_is_the_same_however_it_is_written() -> None:
    flags = {"cases": Path("a/b.jsonl")}
    assert with_flags({}, flags, ["cases=./a/b.jsonl"], spelled_out=plain) == flags
    with pytest.raises(ConfigError, match="--cases a/b.jsonl and --set 'cases=b.jsonl' disagree"):
        with_flags({}, flags, ["cases=b.jsonl"], spelled_out=plain)


def test_a_list_of_paths_is_the_same_however_it_is_written() -> None:
    flags = {"recorded": [Path("a/b.jsonl"), Path("c.jsonl")]}
    assert with_flags({}, flags, ["recorded=[./a/b.jsonl, c.jsonl]"], spelled_out=plain) == flags
    for other in ("[a/b.jsonl]", "a/b.jsonl", "[c.jsonl, a/b.jsonl]"):
        with pytest.raises(ConfigError, match="--recorded a/b.jsonl --recorded c.jsonl and --set"):
            with_flags({}, flags, [f"recorded={other}"], spelled_out=plain)


def test_flags_are_written_like_their_fields() -> None:
    assert [flag_of(field) for field in ("out", "model.batch_size")] == ["--out", "--batch-size"]
