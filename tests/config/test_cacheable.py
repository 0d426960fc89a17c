from typing import Any

import pytest

from fcdistill.config import TrainConfig, parse_config, require_cacheable
from fcdistill.errors import ConfigError

SERVED = {"base_url": "http://localhost:8000/v1", "model": "org/big", "tokenizer": "org/big"}


def train(**fields: Any) -> TrainConfig:
    values = {"traces": "t.jsonl", "out": "o", "student": {"model": "tiny"}, **fields}
    return parse_config(values, "train", "test")


@pytest.mark.parametrize(
    "fields",
    [{"teacher": "big"}, {"teacher": "big", "signal": "cached"}, {"signal": "cached", "served_teacher": SERVED}],
)
def test_a_teacher_and_a_place_make_a_cache(fields: dict[str, Any]) -> None:
    require_cacheable(train(cache={"dir": "c"}, **fields))


@pytest.mark.parametrize(
    ("fields", "found", "fix"),
    [
        ({"signal": "self"}, "signal is self", "train without a cache"),
        ({"teacher": "big", "cache": None}, "cache is not given", "add cache"),
        ({}, "teacher is not given", "add teacher"),
        ({"cache": None}, "cache is not given", "add cache"),
        ({"teacher": "big", "augmentation": {"shuffle_tools": True}}, "augmentation draws", "remove augmentation"),
    ],
)
def test_what_a_training_may_be_but_a_cache_may_not_is_refused(fields: dict[str, Any], found: str, fix: str) -> None:
    with pytest.raises(ConfigError) as raised:
        require_cacheable(train(**{"cache": {"dir": "c"}, **fields}))
    assert raised.value.found.startswith(found) and raised.value.fix is not None and raised.value.fix.startswith(fix)
    assert raised.value.required
