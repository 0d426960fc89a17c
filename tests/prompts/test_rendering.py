import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from fcdistill.config import CLASS_NAMES
from fcdistill.errors import ModelError
from fcdistill.models.loading import load_tokenizer
from fcdistill.prompts.rendering import (
    answer_classes,
    answer_text,
    call_markers,
    label_answer,
    prepare_tokenizer,
    render_example,
    render_prompt,
    stop_token_ids,
    template_sha256,
    tokenizer_sha256,
)
from fcdistill.records import FunctionCall, FunctionTool, Message, ToolCall, ToolSpec
from fcdistill.toolcalls.parsing import parse_output, render_calls
from tests.paths import ROOT
from tests.tiny import tiny_tokenizer

KINDS = ("chatml", "plain", "qwen")
STYLES = ("full", "compact", "none")
REAL = ("smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct")

SPEC = ToolSpec(
    name="set_light",
    description="sentinel-description",
    parameters={
        "type": "object",
        "properties": {"room": {"type": "string", "enum": ["kitchen", "attic"]}, "level": {"type": "integer"}},
        "required": ["room"],
    },
)
CALL = ToolCall(name="set_light", arguments={"room": "kitchen", "level": 30})
OTHER = ToolCall(name="set_light", arguments={"zeta": {"a": [1.5, None]}, "alpha": "ü <&> 'q' \"d\"\n</tool_call>"})
SYSTEM, REQUEST = Message(role="system", content="sentinel-system"), Message(role="user", content="Light the kitchen.")
ANSWERS = (
    Message.calling([CALL]),
    Message.calling([CALL, OTHER]),
    Message(role="assistant", content="Which room do you mean?"),
    Message(role="assistant", content="Sure.", tool_calls=(FunctionCall(function=CALL),)),
)


def prepared(kind: str) -> PreTrainedTokenizerBase:
    tokenizer = tiny_tokenizer(kind)
    prepare_tokenizer(tokenizer)
    return tokenizer


CHATML = prepared("chatml")


def smart_home() -> list[ToolSpec]:
    tools = json.loads((ROOT / "schemas" / "smart_home.json").read_text())
    return [FunctionTool.model_validate(tool).function for tool in tools]


def require_everything_arrives(tokenizer: PreTrainedTokenizerBase) -> None:
    """Tools, roles, arguments as objects, results: each sentinel stands in the prompt."""
    conversation = [SYSTEM, REQUEST, Message.calling([OTHER]), Message(role="tool", content="sentinel-result"), REQUEST]
    text = tokenizer.decode(render_prompt(tokenizer, conversation, [SPEC], "full"))
    for sentinel in ("sentinel-system", "sentinel-description", REQUEST.content, "sentinel-result"):
        assert sentinel in text
    assert json.dumps(SPEC.parameters) in text
    assert render_calls([OTHER]) in text
    assert text.index("sentinel-description") < text.index(REQUEST.content) < text.index("sentinel-result")


def require_sound_example(tokenizer: PreTrainedTokenizerBase, answer: Message, style: str) -> None:
    """Prompt parity, the completion's text, its classes and its stop token."""
    messages = [SYSTEM, REQUEST, answer]
    example = render_example(tokenizer, messages, [SPEC], style)
    assert example.prompt_ids == render_prompt(tokenizer, messages[:-1], [SPEC], style)
    body = "\n".join(part for part in (answer.content, render_calls(answer.calls)) if part)
    stop = stop_token_ids(tokenizer)[0]
    assert example.completion_text == body + tokenizer.convert_ids_to_tokens(stop)
    assert tokenizer.decode(example.completion_ids) == example.completion_text
    assert example.completion_ids.count(stop) == 1 and example.completion_ids[-1] == stop
    assert len(example.completion_classes) == len(example.completion_ids)
    assert example.completion_classes[-1] == "stop" and "stop" not in example.completion_classes[:-1]
    assert tokenizer.decode(example.prompt_ids[example.request_start :]).lstrip().startswith(REQUEST.content)
    assert parse_output(body).calls == answer.calls


@pytest.mark.parametrize("kind", KINDS)
def test_everything_arrives_in_the_prompt(kind: str) -> None:
    require_everything_arrives(prepared(kind))


RESULT = Message(role="tool", content='{"level": 77}')
LATER = Message(role="user", content="sentinel-later")
TALK = [SYSTEM, REQUEST, Message.calling([CALL]), RESULT, Message(role="assistant", content="sentinel-told"), LATER]


def require_sound_conversation(tokenizer: PreTrainedTokenizerBase, style: str) -> None:
    """All turns stand in their order, each in its role, and only the last answer is supervised."""
    example = render_example(tokenizer, [*TALK, Message.calling([OTHER])], [SPEC], style)
    prompt = tokenizer.decode(example.prompt_ids)
    parts = (REQUEST.content, render_calls([CALL]), RESULT.content, "sentinel-told", LATER.content)
    places = [prompt.rindex(part) for part in parts]
    assert places == sorted(places) and prompt.index("sentinel-system") < places[0]
    assert example.prompt_ids == render_prompt(tokenizer, TALK, [SPEC], style)
    assert tokenizer.decode(example.completion_ids).startswith(render_calls([OTHER]))
    assert tokenizer.decode(example.prompt_ids[example.request_start :]).lstrip().startswith(LATER.content)
    between = prompt[places[1] + len(parts[1]) : places[2]]
    assert "tool_response" in between and ("user" in between or "Tool" in between)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
def test_conversations_without_results_arrive_turn_by_turn(kind: str, style: str) -> None:
    tokenizer, turns = prepared(kind), [SYSTEM, REQUEST, Message.calling([CALL]), LATER]
    example = render_example(tokenizer, [*turns, Message.calling([OTHER])], [SPEC], style)
    prompt = tokenizer.decode(example.prompt_ids)
    places = [prompt.rindex(part) for part in (REQUEST.content, render_calls([CALL]), LATER.content)]
    assert places == sorted(places) and "tool_response" not in prompt[places[1] :]
    assert example.prompt_ids == render_prompt(tokenizer, turns, [SPEC], style)
    assert tokenizer.decode(example.completion_ids).startswith(render_calls([OTHER]))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
def test_conversations_with_results_arrive_turn_by_turn(kind: str, style: str) -> None:
    require_sound_conversation(prepared(kind), style)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
def test_examples_end_with_a_supervised_stop_token(kind: str, style: str) -> None:
    tokenizer = prepared(kind)
    for answer in ANSWERS:
        require_sound_example(tokenizer, answer, style)


@pytest.mark.parametrize("kind", ("unigram", *KINDS))
def test_an_answer_that_a_model_wrote_has_the_text_and_the_classes_of_a_rendered_one(kind: str) -> None:
    tokenizer = prepared(kind)
    stop = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer)[0])
    for answer in ANSWERS:
        example = render_example(tokenizer, [REQUEST, answer], [SPEC], "none")
        ids = example.completion_ids[:-1]
        assert answer_text(tokenizer, ids) + stop == example.completion_text
        assert answer_classes(tokenizer, ids) == example.completion_classes[:-1]


def test_the_classes_of_an_answer_do_not_depend_on_how_it_is_cut() -> None:
    tokenizer = prepared("qwen")
    body = render_calls([CALL])
    letters = [token for letter in body for token in tokenizer.encode(letter, add_special_tokens=False)]
    classes = answer_classes(tokenizer, letters)
    assert answer_text(tokenizer, letters) == body and len(letters) == len(body)
    shown = {name: "".join(one for one, kind in zip(body, classes, strict=True) if kind == name) for name in classes}
    assert (shown["name"], shown["arg_key"], shown["arg_value"]) == ("set_light", "roomlevel", "kitchen30")


def test_answers_that_are_no_calls_have_classes_too() -> None:
    tokenizer = prepared("qwen")

    def classes(text: str) -> list[str]:
        return answer_classes(tokenizer, tokenizer.encode(text, add_special_tokens=False))

    assert set(classes("Which room do you mean?")) == {"text"}
    assert answer_classes(tokenizer, []) == []
    assert set(classes('<tool_call>\n{"name": "set_light", "arguments": {"room": "kit')) == {"structure"}
    invalid = classes('<tool_call>\n{"name": "set_light", "arguments": {"room": kitchen}}\n</tool_call>')
    assert {"structure", "name", "arg_key"} <= set(invalid)
    half = tokenizer.encode("\N{EURO SIGN}", add_special_tokens=False)[:1]
    assert answer_classes(tokenizer, half) == ["text"]


@pytest.mark.parametrize(
    ("kind", "markers"), [("qwen", ["<tool_call>", "</tool_call>"]), ("chatml", []), ("plain", [])]
)
def test_markers_are_the_tokens_that_were_added_for_calls(kind: str, markers: list[str]) -> None:
    assert call_markers(prepared(kind)) == markers


def test_the_stop_token_is_supervised_although_it_pads() -> None:
    tokenizer = prepared("chatml")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    example = render_example(tokenizer, [REQUEST, ANSWERS[0]], [SPEC], "full")
    assert (example.completion_ids[-1], example.completion_classes[-1]) == (tokenizer.pad_token_id, "stop")


@pytest.mark.parametrize("style", STYLES)
def test_styles_decide_how_tools_are_shown(style: str) -> None:
    tokenizer = prepared("chatml")
    text = tokenizer.decode(render_prompt(tokenizer, [SYSTEM, REQUEST], [SPEC], style))
    assert ('"enum"' in text) == (style == "full")
    assert ("set_light(room: kitchen|attic, level?: int)  # sentinel-description" in text) == (style == "compact")
    assert ("<tool_call>" in text) == (style != "none")
    assert text.count("sentinel-system") == 1 and text.count("<|im_start|>system") == 1


def test_without_tools_in_the_prompt_only_the_request_is_left() -> None:
    tokenizer = prepared("chatml")
    text = tokenizer.decode(render_prompt(tokenizer, [REQUEST], [SPEC], "none"))
    assert text == "<|im_start|>user\nLight the kitchen.<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("style", ["full", "compact"])
def test_prompts_of_one_catalogue_share_their_beginning_whatever_the_system_message(style: str) -> None:
    tokenizer = prepared("chatml")
    prompts = [
        render_prompt(tokenizer, [*first, REQUEST], [SPEC], style)
        for first in ([SYSTEM], [Message(role="system", content="It is noon.")])
    ]
    tools_end = tokenizer.decode(prompts[0]).index("sentinel-system")
    shared = next(index for index, (one, other) in enumerate(zip(*prompts, strict=False)) if one != other)
    assert len(tokenizer.decode(prompts[0][:shared])) >= tools_end - 2


def test_the_plain_template_ends_answers_with_the_end_of_sequence_token() -> None:
    tokenizer = prepared("plain")
    assert stop_token_ids(tokenizer) == [tokenizer.eos_token_id]
    text = tokenizer.decode(render_prompt(tokenizer, [REQUEST], [], "none"))
    assert text == "### User:\nLight the kitchen.\n\n### Assistant:\n"


def test_a_tokenizer_that_begins_with_bos_gets_it_once() -> None:
    tokenizer = tiny_tokenizer("plain")
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[bos])
    prepare_tokenizer(tokenizer)
    assert render_prompt(tokenizer, [REQUEST], [SPEC], "full").count(tokenizer.bos_token_id) == 1


def test_preparing_keeps_a_template_that_shows_tools_and_replaces_one_that_does_not() -> None:
    qwen, chatml = tiny_tokenizer("qwen"), tiny_tokenizer("chatml")
    before = (qwen.chat_template, chatml.chat_template)
    prepare_tokenizer(qwen)
    prepare_tokenizer(chatml)
    assert (qwen.chat_template == before[0], chatml.chat_template == before[1]) == (True, False)


def test_a_template_that_encodes_arguments_twice_is_replaced() -> None:
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "call.function.arguments | tojson", "call.function.arguments | tojson | tojson"
    )
    assert "tojson | tojson" in tokenizer.chat_template
    prepare_tokenizer(tokenizer)
    require_everything_arrives(tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_preparing_twice_changes_nothing(kind: str) -> None:
    tokenizer = prepared(kind)
    before = (template_sha256(tokenizer), tokenizer_sha256(tokenizer), tokenizer.pad_token, tokenizer.response_template)
    prepare_tokenizer(tokenizer)
    assert before == (
        template_sha256(tokenizer),
        tokenizer_sha256(tokenizer),
        tokenizer.pad_token,
        tokenizer.response_template,
    )


def test_a_missing_pad_token_becomes_the_end_of_sequence_token() -> None:
    assert tiny_tokenizer("plain").pad_token is None
    assert prepared("plain").pad_token == "</s>"


def test_a_tokenizer_without_end_of_sequence_is_refused() -> None:
    tokenizer = tiny_tokenizer("plain")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        prepare_tokenizer(tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_tokenizers_keep_template_and_response_template(kind: str, tmp_path: Path) -> None:
    tokenizer = prepared(kind)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert template_sha256(loaded) == template_sha256(tokenizer)
    assert loaded.response_template == tokenizer.response_template
    require_everything_arrives(loaded)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_the_calls_through_the_response_template(kind: str) -> None:
    tokenizer = prepared(kind)
    for answer in ANSWERS:
        example = render_example(tokenizer, [REQUEST, answer], [SPEC], "full")
        message = tokenizer.parse_response(example.completion_text, prefix=tokenizer.decode(example.prompt_ids))
        calls = tuple(ToolCall.model_validate(call["function"]) for call in message.get("tool_calls", ()))
        assert calls == answer.calls
        assert message.get("content", "") == answer.content


def test_classes_follow_the_characters_of_each_token() -> None:
    tokenizer = prepared("qwen")
    answer = Message.calling([ToolCall(name="set_light", arguments={"room": "kitchen", "deep": {"level": 30}})])
    example = render_example(tokenizer, [REQUEST, answer], [SPEC], "full")
    texts: dict[str, str] = dict.fromkeys(CLASS_NAMES, "")
    for token, kind in zip(example.completion_ids, example.completion_classes, strict=True):
        texts[kind] += tokenizer.decode([token])
    assert texts["name"] == "set_light"
    assert texts["arg_key"].replace('"', "") == "roomdeeplevel"
    assert texts["arg_value"].replace('"', "").replace(" ", "") == "kitchen30"
    assert texts["stop"] == "<|im_end|>"
    assert texts["structure"].startswith("<tool_call>\n{") and texts["structure"].endswith("</tool_call>")


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=6), st.text(max_size=12), max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_text_has_one_class_per_token_and_comes_back(text: str, arguments: dict[str, Any]) -> None:
    tokenizer = CHATML
    for answer in (Message(role="assistant", content=text), Message.calling([ToolCall(name="f", arguments=arguments)])):
        example = render_example(tokenizer, [REQUEST, answer], [], "none")
        assert len(example.completion_ids) == len(example.completion_classes)
        assert tokenizer.decode(example.completion_ids) == example.completion_text


@pytest.mark.parametrize("kind", ["chatml", "metaspace", "qwen"])
def test_the_labels_of_an_answer_are_those_of_the_rendered_example(kind: str) -> None:
    tokenizer = prepared(kind)
    timer = ToolCall(name="set_timer", arguments={"minutes": 10})
    answer = Message.calling([CALL, timer])
    rendered = render_example(tokenizer, [REQUEST, answer], [SPEC], "none")
    stop = tokenizer.convert_ids_to_tokens(rendered.completion_ids[-1])
    labels = label_answer(tokenizer, rendered.completion_text.removesuffix(stop))
    assert (labels.ids, labels.classes) == (rendered.completion_ids, rendered.completion_classes)
    for tool, word in (("set_light", "kitchen"), ("set_timer", "minute")):
        own = [index for index, named in zip(labels.ids, labels.tools, strict=True) if named == tool]
        assert word in tokenizer.decode(own).replace(" ", "")
    is_call = [kind in ("name", "arg_key", "arg_value") for kind in labels.classes]
    assert [bool(tool) for tool in labels.tools] == is_call
    assert set(label_answer(tokenizer, "Which room?").tools) == {""}


def test_the_request_starts_at_the_last_user_message() -> None:
    tokenizer = prepared("chatml")
    again = Message(role="user", content="Light the attic.")
    result = Message(role="tool", content="Light the attic.")
    messages = [REQUEST, ANSWERS[0], result, ANSWERS[2], again, ANSWERS[0], result, ANSWERS[2]]
    example = render_example(tokenizer, messages, [SPEC], "full")
    tail = tokenizer.decode(example.prompt_ids[example.request_start :])
    assert tail.startswith("Light the attic.<|im_end|>\n<|im_start|>assistant\n<tool_call>")
    only_system = render_example(tokenizer, [SYSTEM, ANSWERS[2]], [], "none")
    assert only_system.request_start == len(only_system.prompt_ids)


def test_templates_get_ids_and_names_and_no_null() -> None:
    tokenizer = prepared("chatml")
    tokenizer.chat_template = "{{ messages | tojson }}{{ tools | tojson if tools }}{{ eos_token }}"
    calls = Message(
        role="assistant", content=None, tool_calls=(FunctionCall(function=CALL), FunctionCall(function=CALL))
    )
    results = [Message(role="tool", content="one"), Message(role="tool", content="two")]
    text = tokenizer.decode(render_prompt(tokenizer, [REQUEST, calls, *results], [SPEC], "full"))
    messages = json.loads(text[: text.index("]" + '[{"type": "function"') + 1])
    assert "null" not in text
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call00001", "call00002"]
    assert [message["tool_call_id"] for message in messages[2:]] == ["call00001", "call00002"]
    assert {message["name"] for message in messages[2:]} == {"set_light"}
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == CALL.arguments


def test_a_template_that_rewrites_its_prompt_is_refused() -> None:
    tokenizer = prepared("chatml")
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: Surely, {% endif %}"
    )
    with pytest.raises(ModelError, match="does not render an answer as the continuation of its prompt.*Surely"):
        render_example(tokenizer, [REQUEST, ANSWERS[2]], [], "none")


def test_a_template_that_refuses_a_role_is_a_clear_error() -> None:
    tokenizer = prepared("chatml")
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(ModelError, match="refuses a conversation with roles .*no system role"):
        render_prompt(tokenizer, [SYSTEM, REQUEST], [], "none")


def test_hashes_tell_tokenizers_apart_and_not_their_use() -> None:
    tokenizer = prepared("chatml")
    before = tokenizer_sha256(tokenizer)
    tokenizer(["a", "a longer text"], padding=True, truncation=True, max_length=4)
    assert tokenizer_sha256(tokenizer) == before
    tokenizer.add_tokens(["<new>"])
    assert tokenizer_sha256(tokenizer) != before
    assert template_sha256(prepared("plain")) != template_sha256(tokenizer)


def test_answers_are_marked_for_generation_masks() -> None:
    for kind in ("chatml", "plain"):
        tokenizer = prepared(kind)
        messages = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "Sure."}]
        encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        marked = [id_ for id_, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
        assert tokenizer.decode(marked) == "Sure." + tokenizer.eos_token


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers_render_everything(name: str) -> None:
    tokenizer = load_tokenizer(name)
    require_everything_arrives(tokenizer)
    for style in STYLES:
        require_sound_conversation(tokenizer, style)
        for answer in ANSWERS:
            require_sound_example(tokenizer, answer, style)


@pytest.mark.slow
def test_the_real_tokenizers_agree_on_the_completion_and_differ_in_prompt_length() -> None:
    texts, lengths = set(), {}
    for name in REAL:
        tokenizer = load_tokenizer(name)
        for style in STYLES:
            example = render_example(tokenizer, [REQUEST, Message.calling([CALL, OTHER])], smart_home(), style)
            texts.add(example.completion_text)
            lengths[name, style] = len(example.prompt_ids)
    assert len(texts) == 1
    assert lengths[REAL[0], "none"] < 20 < lengths[REAL[0], "compact"] < lengths[REAL[0], "full"] / 2


@pytest.mark.parametrize("kind", KINDS)
def test_results_in_any_order_are_one_prompt(kind: str) -> None:
    tokenizer = prepared(kind)
    calls = tuple(FunctionCall(id=identity, function=CALL) for identity in ("a", "b"))
    results = [Message(role="tool", tool_call_id=identity, content=f"of {identity}") for identity in ("a", "b")]
    made = Message(role="assistant", tool_calls=calls)
    prompts = [
        render_prompt(tokenizer, [REQUEST, made, *order, REQUEST], [SPEC], "full") for order in (results, results[::-1])
    ]
    assert prompts[0] == prompts[1] and tokenizer.decode(prompts[0]).index("of a") < tokenizer.decode(prompts[0]).index(
        "of b"
    )
