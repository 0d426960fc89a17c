from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, StrictInt, ValidationError

from fcdistill.config import (
    AdaptConfig,
    EvalConfig,
    FromTeacherLayers,
    GenerateConfig,
    ObjectiveConfig,
    TrainConfig,
)
from fcdistill.config.backend_section import OpenAIBackendConfig
from fcdistill.config.section import ConfigModel, Rule
from fcdistill.config.train_section import AdaptationConfig, AugmentationConfig, MonitorConfig

_BASE_RULES: tuple[Rule["Base"], ...] = (Rule(lambda base: base.low > base.high, "low lies above high"),)


class Base(ConfigModel):
    rules: ClassVar[tuple[Rule[Any], ...]] = _BASE_RULES
    low: StrictInt = 0
    high: StrictInt = 9


_DERIVED_RULES: tuple[Rule["Derived"], ...] = (
    Rule(lambda derived: derived.step > derived.high, lambda derived: f"step {derived.step} is above {derived.high}"),
    Rule(lambda derived: derived.step == 0, lambda derived: f"step is 0: {10 // derived.low} steps at least"),
)


class Derived(Base):
    rules: ClassVar[tuple[Rule[Any], ...]] = (*_BASE_RULES, *_DERIVED_RULES)
    step: StrictInt = 1

    @classmethod
    def spelled_out(cls, values: Any) -> Any:
        return {"step": values} if isinstance(values, int) else values


class Outer(ConfigModel):
    inner: Derived = Derived()


def refused(section: type[BaseModel], **values: Any) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        section.model_validate(values)
    return [item["msg"].removeprefix("Value error, ") for item in raised.value.errors()]


def test_a_rule_that_is_broken_is_told_with_the_values_that_break_it() -> None:
    assert refused(Base, low=10) == ["low lies above high"]
    assert refused(Derived, step=12) == ["step 12 is above 9"]
    assert refused(Outer, inner={"step": 12}) == ["step 12 is above 9"]


def test_of_several_broken_rules_the_first_is_told_that_of_a_base_before_all() -> None:
    assert refused(Derived, low=10, step=12) == ["low lies above high"]


def test_a_message_is_made_only_where_its_rule_is_broken() -> None:
    assert Derived(low=0, step=1).step == 1  # the last message can't be made of these values


def test_rules_are_read_after_each_field_is_right_by_itself() -> None:
    assert refused(Derived, low="10", step=12) == ["Input should be a valid integer"]


def test_what_is_written_shorter_is_written_out_wherever_a_section_lies() -> None:
    assert Outer.model_validate({"inner": 3}).inner == Derived(step=3) == Derived.model_validate(3)


@pytest.mark.parametrize(
    ("section", "base"),
    [
        (TrainConfig, AdaptationConfig.__bases__[0]),
        (AdaptConfig, AdaptationConfig),
        (OpenAIBackendConfig, OpenAIBackendConfig.__bases__[0]),
    ],
)
def test_a_section_keeps_the_rules_of_its_base(section: type[ConfigModel], base: type[ConfigModel]) -> None:
    assert base.rules and section.rules[: len(base.rules)] == base.rules


@pytest.mark.parametrize(
    "section",
    [AugmentationConfig, EvalConfig, FromTeacherLayers, GenerateConfig, MonitorConfig, ObjectiveConfig, TrainConfig],
)
def test_no_rule_stands_twice(section: type[ConfigModel]) -> None:
    assert section.rules and len(set(map(id, section.rules))) == len(section.rules)
    texts = [rule.message for rule in section.rules if isinstance(rule.message, str)]
    assert len(set(texts)) == len(texts)
