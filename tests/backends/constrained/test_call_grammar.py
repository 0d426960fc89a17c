"""Tests of `call_grammar`: refusals that name what is wrong."""

import importlib.util

import pytest

from fcdistill.backends.constrained.call_grammar import call_grammar, require_enforceable
from fcdistill.backends.constrained.call_layout import CallLayout
from fcdistill.errors import CatalogError, MissingDependencyError
from fcdistill.records import ToolSpec
from tests.backends.constrained.walker import spec


def test_a_catalogue_that_can_not_be_enforced_is_refused_with_all_that_is_wrong() -> None:
    good, bad = spec("good", properties={"a": {"type": "string"}}), {"type": "string", "not": {"const": "x"}}
    require_enforceable([(good,), ()])
    several = [spec(f"bad_{index}", properties={"a": bad}) for index in range(6)]
    with pytest.raises(CatalogError) as caught:
        require_enforceable([(good, *several)])
    assert "tool 'bad_0', /properties/a: not is not enforced; tool 'bad_1'" in caught.value.found
    assert caught.value.found.endswith("; and 1 more") and "without constrained" in caught.value.fix


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (
            {"type": "string", "pattern": "^(?=a)b"},
            "look-around, including look-ahead and look-behind, is not supported",
        ),
        ({"oneOf": [{"type": "string", "minLength": 1}, {"type": "string"}]}, "oneOf constraints are not supported"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, "required property 'v' is unsatisfiable"),
    ],
    ids=["pattern", "oneOf", "unsatisfiable"],
)
def test_what_llguidance_refuses_is_told_in_its_words_with_the_argument(schema: dict[str, object], reason: str) -> None:
    days = {"type": "array", "items": {"enum": ["mon"]}, "uniqueItems": True}
    with pytest.raises(CatalogError) as caught:
        require_enforceable([(spec(properties={"days": days, "v": schema}, required=["v"]),)])
    assert "tool 'tool', /properties/v: schema is refused by llguidance: " in caught.value.found
    assert caught.value.found.endswith(reason) or reason in caught.value.found
    assert "COMMA" not in caught.value.found


def test_a_broken_schema_is_the_catalogues_error() -> None:
    with pytest.raises(CatalogError, match="type"):
        require_enforceable([(ToolSpec(name="tool", parameters={"type": "objekt"}),)])


def test_without_llguidance_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="llguidance") as caught:
        require_enforceable([])
    assert caught.value.fix == "pip install 'fcdistill[constrained]'"


def test_without_tools_there_is_only_text() -> None:
    layout = CallLayout("hermes", '<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>")
    assert "arguments" in call_grammar((spec("ring"),), layout, {})
    assert "arguments" not in call_grammar((), layout, {})


def test_names_that_a_dialect_can_not_say_are_refused_there_alone() -> None:
    tools = [(spec("ring", properties={"a<b": {"type": "string"}}),)]
    for dialect in ("hermes", "mistral"):
        require_enforceable(tools, dialect)
    with pytest.raises(CatalogError, match="/properties/a<b: the name can't be written in calls of .* qwen_xml"):
        require_enforceable(tools, "qwen_xml")


@pytest.mark.parametrize("dialect", ["lfm2", "glm", "deepseek_v32", "gemma4"])
def test_arguments_of_any_names_are_refused_where_they_stand_by_themselves(dialect: str) -> None:
    tool = spec("ring", additionalProperties={"type": "string"})
    require_enforceable([(tool,)])
    with pytest.raises(CatalogError, match="additionalProperties for all arguments is enforced in"):
        require_enforceable([(tool,)], dialect)


def test_a_text_that_would_end_its_own_tag_is_refused() -> None:
    tool = spec("ring", properties={"mark": {"enum": ["<b>", "</parameter>"]}})
    require_enforceable([(tool,)], "glm")
    with pytest.raises(CatalogError, match="/properties/mark: enum has a text that holds '</parameter>'"):
        require_enforceable([(tool,)], "qwen_xml")
