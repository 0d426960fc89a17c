"""Cases whose messages hold earlier calls and their results, from the prompt to the verdict."""

from pathlib import Path

import pytest

from fcdistill.backends.base import Request
from fcdistill.backends.local.local_backend import LocalBackend
from fcdistill.backends.openai.chat_wire import wire_messages
from fcdistill.backends.scripted import ScriptedBackend
from fcdistill.config import EvalConfig, ToolsInPrompt
from fcdistill.evaluation.runner import run_eval
from fcdistill.evaluation.suites import read_suite
from fcdistill.models.loading import LoadedModel
from fcdistill.prompts.rendering import prepare_tokenizer, render_prompt
from fcdistill.records import EvalCase, ModelRef
from fcdistill.toolcalls.parsing import render_calls
from tests.paths import ROOT
from tests.tiny import tiny_model, tiny_tokenizer

CASES, TOOLS = ROOT / "evals" / "smart_home" / "multi_turn.jsonl", ROOT / "schemas" / "smart_home.json"
SUITE = read_suite(CASES, TOOLS)
BY_ID = {case.id: case for case in SUITE.cases}


def config(tmp_path: Path) -> EvalConfig:
    model = {"backend": "scripted", "answers": "unused.jsonl"}
    values = {"cases": CASES, "tools": TOOLS, "out": tmp_path / "out", "model": model, "decode": {"max_new_tokens": 4}}
    return EvalConfig.model_validate(values)


def gold(case: EvalCase) -> str:
    words = {"call": render_calls(case.expected[0]), "no_call": "You are welcome.", "clarify": "At what time?"}
    return words[case.behaviour]


def earlier_calls(case: EvalCase) -> str:
    return render_calls([call for message in case.messages for call in message.calls])


def test_the_suite_holds_what_several_turns_bring() -> None:
    roles = [[message.role for message in case.messages] for case in SUITE.cases]
    assert sum("tool" in each for each in roles) >= 5 and any(each[-1] == "tool" for each in roles)
    assert {case.behaviour for case in SUITE.cases} == {"call", "no_call", "clarify"}


def test_gold_answers_are_right_and_earlier_calls_again_are_not(tmp_path: Path) -> None:
    found = run_eval(config(tmp_path), ScriptedBackend(lambda request: gold(BY_ID[request.id])))
    assert found.report.call_accuracy.value == 1
    again = [case for case in SUITE.cases if earlier_calls(case)]
    repeating = run_eval(
        config(tmp_path / "again"), ScriptedBackend(lambda request: earlier_calls(BY_ID[request.id]) or "No.")
    )
    verdicts = {score.id: score.primary_error for score in repeating.scores}
    for case in again:
        assert verdicts[case.id] in {"unexpected_call", "wrong_function", "wrong_count"}, case.id


@pytest.mark.parametrize("style", ["full", "compact", "none"])
@pytest.mark.parametrize("kind", ["chatml", "qwen"])
def test_every_turn_reaches_the_prompt_in_its_order(kind: str, style: ToolsInPrompt) -> None:
    tokenizer = tiny_tokenizer(kind)  # type: ignore[arg-type]
    prepare_tokenizer(tokenizer)
    for case in SUITE.cases:
        text = tokenizer.decode(render_prompt(tokenizer, case.messages, SUITE.specs[case.id], style))
        place = 0
        for message in case.messages:
            for part in filter(None, (message.content, render_calls(message.calls))):
                place = text.index(part, place) + len(part)


def test_every_turn_reaches_a_server_with_its_calls_id() -> None:
    for case in SUITE.cases:
        wire = wire_messages(case.messages)
        assert [message["role"] for message in wire] == [message.role for message in case.messages]
        called = [call["id"] for message in wire for call in message.get("tool_calls", ())]
        assert [message["tool_call_id"] for message in wire if message["role"] == "tool"] == called


def test_a_local_model_is_asked_and_scored(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("qwen")
    prepare_tokenizer(tokenizer)
    asked: list[Request] = []

    class Recording(LocalBackend):
        def complete(self, requests, settings):  # type: ignore[no-untyped-def]
            asked.extend(requests)
            return super().complete(requests, settings)

    model = LoadedModel(tiny_model("llama", len(tokenizer)), tokenizer, ModelRef(model="tiny"), None)
    found = run_eval(config(tmp_path), Recording(model, batch_size=4))
    assert [request.messages for request in asked] == [case.messages for case in SUITE.cases]
    assert len(found.scores) == len(SUITE.cases) and found.report.num_unscored == 0
    assert all(
        found.predictions[case.id].prompt_tokens
        == len(render_prompt(tokenizer, case.messages, SUITE.specs[case.id], "full"))
        for case in SUITE.cases
    )
