"""Tests of `call_grammar`: the layouts of templates, and refusals that name what is wrong."""

import importlib.util

import pytest

from fcdistill.backends.constrained.call_grammar import CallLayout, call_grammar, read_layout, require_enforceable
from fcdistill.errors import CatalogError, MissingDependencyError, ModelError
from fcdistill.prompts.rendering import prepare_tokenizer
from fcdistill.records import ToolSpec
from tests.backends.constrained.call_templates import LLAMA, MISTRAL, MISTRAL_NEW, ONE_ONLY, template
from tests.backends.constrained.walker import spec
from tests.tiny import TokenizerKind, tiny_tokenizer

HERMES = CallLayout('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", None)


@pytest.mark.parametrize("kind", ["qwen", "chatml", "plain", "metaspace", "unigram"])
def test_hermes_templates(kind: TokenizerKind) -> None:
    tokenizer = tiny_tokenizer(kind)
    prepare_tokenizer(tokenizer)
    assert read_layout(tokenizer) == HERMES


@pytest.mark.parametrize(
    ("calls", "layout"),
    [
        (LLAMA, CallLayout('{"name": "', '", "parameters": ', "}", None)),
        (ONE_ONLY, CallLayout('{"name": "', '", "parameters": ', "}", None)),
        (MISTRAL_NEW, CallLayout("[TOOL_CALLS]", "[ARGS]", "", None)),
        (MISTRAL, CallLayout('[TOOL_CALLS] [{"name": "', '", "arguments": ', "}]", '}, {"name": "')),
    ],
    ids=["llama", "one call at a time", "newer mistral", "mistral"],
)
def test_other_templates(calls: str, layout: CallLayout) -> None:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(calls)
    assert read_layout(tokenizer) == layout


@pytest.mark.parametrize(
    "calls",
    [
        "{{ '<call>' + call.function.name + '</call>' }}",
        """{{ '<tool_call>{"arguments": ' + call.function.arguments | tojson + ', "name": "' }}"""
        """{{ call.function.name + '"}</tool_call>' }}""",
        "{{ call.function.name + '(' + call.function.arguments | tojson + ')' }}",
    ],
    ids=["no arguments", "arguments first", "no call that is read"],
)
def test_templates_that_can_not_be_followed_are_refused(calls: str) -> None:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.chat_template = template(calls)
    with pytest.raises(ModelError, match="writes a call as .*first_tool"):
        read_layout(tokenizer)


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
    assert "block" not in call_grammar((), HERMES, {})
