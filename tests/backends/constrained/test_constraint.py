"""Tests of `fcdistill.backends.constrained.constraint`: which texts and calls tokenizers and layouts may write."""

import pytest
from tokenizers import AddedToken

from fcdistill.backends.base import Request
from fcdistill.backends.constrained.constraint import Constraint
from fcdistill.errors import BackendError, ModelError
from fcdistill.prompts.rendering import prepare_tokenizer, stop_token_ids
from fcdistill.records import EvalCase, ToolCall
from fcdistill.storage import read_jsonl
from fcdistill.toolcalls.parsing import parse_output, render_calls
from fcdistill.tools.catalog import load_catalog
from fcdistill.tools.validation import CallValidator
from tests.backends.constrained.call_templates import LLAMA, MISTRAL, MISTRAL_NEW, template
from tests.backends.constrained.walker import Walker, spec
from tests.paths import ROOT
from tests.tiny import TokenizerKind, tiny_tokenizer

LIGHT = spec("set_light", properties={"room": {"enum": ["kitchen", "hall"]}}, required=["room"])
COLOUR = spec("set_light_colour", properties={"tone": {"type": "string"}, "level": {"type": "number"}})
KITCHEN = ToolCall(name="set_light", arguments={"room": "kitchen"})
WARM = ToolCall(name="set_light_colour", arguments={"tone": "warm", "level": 2.5})


@pytest.mark.parametrize("kind", ["qwen", "chatml", "plain", "metaspace"])
def test_every_answer_is_text_or_valid_calls(kind: TokenizerKind) -> None:
    walker, validator = Walker([LIGHT, COLOUR], kind), CallValidator([LIGHT, COLOUR])
    outputs = [parse_output(text) for text in (*walker.walks(20), *walker.walks(20, start=""))]
    assert sum(bool(output.calls) for output in outputs) >= 10 and len(outputs) >= 30
    for output in outputs:
        assert not output.errors
        assert not any(validator.check_call(call) for call in output.calls)


@pytest.mark.parametrize("kind", ["qwen", "chatml", "plain", "metaspace"])
@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", True),
        ("Which room do you mean? `hall` or [kitchen] (a < b)?", True),
        (render_calls([KITCHEN]), True),
        (render_calls([KITCHEN, WARM, KITCHEN]), True),
        (f"Sure!\n{render_calls([KITCHEN])} Done.", True),
        ('<tool_call>{"name":"set_light","arguments":{"room":"hall"}}</tool_call>', True),
        (render_calls([ToolCall(name="set_lamp", arguments={})]), False),
        (render_calls([ToolCall(name="set_light", arguments={"room": "attic"})]), False),
        (render_calls([ToolCall(name="set_light", arguments={})]), False),
        (render_calls([KITCHEN]).removesuffix("</tool_call>"), False),
        (render_calls([KITCHEN], "json"), False),
        (render_calls([KITCHEN], "fenced"), False),
        (render_calls([KITCHEN], "mistral"), False),
        ("<|python_tag|>", False),
        ("<tool_call> set_light", False),
    ],
)
def test_what_may_be_written(kind: TokenizerKind, text: str, allowed: bool) -> None:
    assert Walker([LIGHT, COLOUR], kind).allows(text) is allowed


@pytest.mark.parametrize(("calls", "dialect", "start"), [(LLAMA, "llama3", "{"), (MISTRAL, "mistral", "[TOOL_CALLS]")])
def test_calls_are_written_as_the_template_does(calls: str, dialect: str, start: str) -> None:
    walker = Walker([LIGHT, COLOUR], "chatml", chat_template=template(calls))
    assert walker.allows(render_calls([KITCHEN], dialect)) and walker.allows(render_calls([KITCHEN, WARM], dialect))
    assert not walker.allows(render_calls([KITCHEN]))
    assert not walker.allows(render_calls([ToolCall(name="set_light", arguments={"room": "attic"})], dialect))
    written = walker.walks(10, start=start)
    assert len(written) >= 5
    for text in written:
        output = parse_output(text)
        assert output.calls and not output.errors


@pytest.mark.parametrize("domain", ["smart_home", "support_desk"])
def test_the_gold_calls_of_a_domain_can_be_written(domain: str) -> None:
    catalog = load_catalog(str(ROOT / "schemas" / f"{domain}.json"))
    walker, validator = Walker(catalog.specs), CallValidator(catalog.specs)
    gold: dict[str, ToolCall] = {}
    for case in read_jsonl(ROOT / "evals" / domain / "cases.jsonl", EvalCase):
        # The longest of each tool; alternatives of a comparator are no valid call.
        for call in (call for answer in case.expected for call in answer if not validator.check_call(call)):
            gold[call.name] = max(call, gold.get(call.name, call), key=lambda each: len(each.arguments))
    assert gold.keys() == catalog.by_name.keys()
    for call in gold.values():
        declared = catalog.by_name[call.name].parameters["properties"]
        ordered = {name: call.arguments[name] for name in declared if name in call.arguments}
        assert walker.allows(render_calls([ToolCall(name=call.name, arguments=ordered)])), call


def test_calls_without_an_envelope() -> None:
    walker = Walker([LIGHT, COLOUR], "chatml", chat_template=template(MISTRAL_NEW))
    for text in ('[TOOL_CALLS]set_light[ARGS]{"room": "hall"}', "[TOOL_CALLS]set_light_colour[ARGS]{}"):
        assert walker.allows(text) and walker.allows(text * 2)
        assert len(parse_output(text * 2).calls) == 2
    assert not walker.allows("[TOOL_CALLS]set_light[ARGS]{}")


def test_without_tools_no_call_can_be_written() -> None:
    assert Walker([], "qwen").allows("I can't do that.")
    assert not Walker([], "qwen").allows(render_calls([KITCHEN]))


def test_a_mark_that_is_no_special_token_may_stand_in_text() -> None:
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    walker = Walker([LIGHT], tokenizer=tokenizer)
    assert walker.allows(f"<think>the hall</think>{render_calls([KITCHEN])}")
    assert not walker.allows("a</tool_call>") and not walker.allows("<|im_start|>")


def test_each_row_has_a_grammar_of_its_own_and_is_read_on() -> None:
    tokenizer = tiny_tokenizer("chatml")
    prepare_tokenizer(tokenizer)
    constraint = Constraint(tokenizer, stop_token_ids(tokenizer))
    masks = constraint.masks([Request("light", (), (LIGHT,)), Request("colour", (), (COLOUR,))])
    ids = tokenizer.encode(render_calls([KITCHEN]), add_special_tokens=False)
    start = next(n for n in range(len(ids)) if "arg" in tokenizer.decode(ids[:n]))
    both = masks.allowed({"light": ids[: start - 3], "colour": ids[: start - 3]})
    assert both.shape == (2, len(tokenizer)) and (both[0] != both[1]).any()
    (one,) = masks.allowed({"light": ids[: start - 2]})
    fresh = constraint.masks([Request("light", (), (LIGHT,))]).allowed({"light": ids[: start - 2]})
    assert (one == fresh[0]).all()


def test_every_token_that_ends_an_answer_may_end_it_and_stands_nowhere_else() -> None:
    tokenizer = tiny_tokenizer("qwen")
    stops = list(tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"]))
    masks = Constraint(tokenizer, stops).masks([Request("r", (), (LIGHT,))])
    ids = tokenizer.encode(render_calls([KITCHEN]), add_special_tokens=False)
    may_stop = [bool(masks.allowed({"r": ids[:n]})[0, stops].any()) for n in range(len(ids))]
    assert may_stop == [True] + [False] * (len(ids) - 1)
    assert masks.allowed({"r": ids})[0, stops].all()


def test_a_token_that_the_grammar_forbids_is_an_error() -> None:
    walker = Walker([LIGHT], "chatml")
    with pytest.raises(BackendError, match="can't follow the grammar"):
        walker._masks().allowed({"0": walker._ids("{")})


def test_a_tokenizer_that_llguidance_reads_otherwise_is_refused() -> None:
    with pytest.raises(ModelError, match="llguidance can't read the tokenizer .*: it takes"):
        Walker([LIGHT], "unigram")
