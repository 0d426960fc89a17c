"""`fcdistill eval` of a server whose model writes each format: as text, as data, in another format than its own.

One server on loopback answers all. Behind the chat API all formats are asked about in one run, since nothing is known
there of the model's format; behind the completions API a run for each family has that family's tokenizer.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from fcdistill.prompts.rendering import answer_text, prepare_tokenizer, render_example
from fcdistill.records import EvalCase, FunctionTool, Message, Prediction, Score, ToolCall
from fcdistill.storage import iter_jsonl, read_json, write_json, write_jsonl
from fcdistill.toolcalls.dialects.table import DIALECTS
from fcdistill.toolcalls.parsing import render_calls
from tests.backends.openai.faulty_server import FaultyServer, Reply, chat, failure
from tests.cli.projects import invoke
from tests.prompts.families import FAMILIES, family_tokenizer
from tests.toolcalls.dialects.beacons import TOOLS, TWO

UNKNOWN = '<|custom_tool_call|>set_beacon(label="Quai")'
WORDS = "No tool here does that."
WRAPPED = [FunctionTool(function=spec) for spec in TOOLS]


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with (
        FaultyServer(lambda body, earlier: failure(500)).running() as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield running


def as_data(calls: list[ToolCall]) -> list[dict[str, Any]]:
    """Calls as the chat API gives them."""
    functions = [{"name": call.name, "arguments": json.dumps(call.arguments)} for call in calls]
    return [{"id": f"c{number}", "type": "function", "function": function} for number, function in enumerate(functions)]


def case(identity: str, calls: list[ToolCall]) -> EvalCase:
    """Whose request is its id: an answer in words is right where there are no calls."""
    return EvalCase(
        id=identity,
        messages=(Message(role="user", content=f"<{identity}>"),),
        behaviour="call" if calls else "no_call",
        expected=(tuple(calls),),
        category="parallel" if calls else "irrelevance",
    )


def evaluate(directory: Path, server: FaultyServer, cases: list[EvalCase], **backend: Any) -> None:
    """Run the command on these cases; its files are in `out`."""
    write_jsonl(directory / "cases.jsonl", cases)
    write_json(directory / "tools.json", [tool.model_dump(mode="json") for tool in WRAPPED])
    model = {"backend": "openai_http", "base_url": server.base_url, "model": "served", "api_key_env": None, **backend}
    files = {name: str(directory / name) for name in ("cases.jsonl", "tools.json", "out")}
    section = {
        "cases": files["cases.jsonl"],
        "tools": files["tools.json"],
        "out": files["out"],
        "model": {**model, "max_retries": 3},
    }
    write_json(directory / "config.yaml", {"eval": section})
    assert invoke("eval", str(directory / "config.yaml")) == 0


def found(directory: Path) -> dict[str, tuple[Prediction, Score]]:
    """What was answered to each case, and how it was scored."""
    predictions = iter_jsonl(directory / "out" / "predictions.jsonl", Prediction)
    scores = iter_jsonl(directory / "out" / "scores.jsonl", Score)
    return {prediction.id: (prediction, score) for prediction, score in zip(predictions, scores, strict=True)}


def chat_answers(dialect: str) -> dict[str, Reply]:
    """By the name of a case: what a server answers that has no parser of this format, or has one."""
    written, draft = render_calls(TWO, dialect), render_calls(TWO[1:], dialect)
    return {
        "text": chat(written),
        "prose": chat(f"I do that now.\n{written}\nAnything else?"),
        "thought": chat(f"<think>\nPerhaps {draft}?\n</think>\n\n{written}"),
        "data": chat(
            f"I do that now: {draft}",
            finish_reason="tool_calls",
            reasoning_content=f"Perhaps {draft}?",
            tool_calls=as_data(TWO),
        ),
        "words": chat(WORDS, reasoning_content=f"Perhaps {draft}?"),
        "unknown": chat(UNKNOWN),
    }


@pytest.fixture(scope="module")
def chatted(server: FaultyServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Prediction, Score]]:
    directory = tmp_path_factory.mktemp("chatted")
    replies = {f"<{dialect} {name}>": reply for dialect in DIALECTS for name, reply in chat_answers(dialect).items()}
    server.behaviour = lambda body, earlier: replies[body["messages"][-1]["content"]]
    names = chat_answers("hermes")
    evaluate(
        directory,
        server,
        [case(f"{dialect} {name}", [] if name == "words" else TWO) for dialect in DIALECTS for name in names],
    )
    report = read_json(directory / "out" / "report.json")
    assert (report["num_cases"], report["num_unscored"], report["dialect"]) == (len(replies), 0, None)
    assert report["dialects"] == {**dict.fromkeys(DIALECTS, 3), "unknown": len(DIALECTS)}
    return found(directory)


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_every_format_is_read_behind_the_chat_api(chatted: dict[str, tuple[Prediction, Score]], dialect: str) -> None:
    prose = {"text": "", "prose": "I do that now.\nAnything else?", "thought": ""}
    for name, words in prose.items():
        prediction, score = chatted[f"{dialect} {name}"]
        assert (list(prediction.calls), prediction.parse_errors, prediction.dialects) == (TWO, (), (dialect,))
        assert score.correct and (prediction.prose is None or prediction.prose == words)
    data, score = chatted[f"{dialect} data"]
    assert (list(data.calls), data.parse_errors, data.dialects, score.correct) == (TWO, (), (), True)
    words, score = chatted[f"{dialect} words"]
    assert (words.calls, words.parse_errors, score.correct) == ((), (), True)
    unknown, score = chatted[f"{dialect} unknown"]
    assert [error.kind for error in unknown.parse_errors] == ["unknown_dialect"] and unknown.dialects == ("unknown",)
    assert (score.correct, score.parsed, score.primary_error) == (False, False, "parse_error")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_held_against_the_format_of_its_template(server: FaultyServer, tmp_path: Path, family: str) -> None:
    tokenizer = family_tokenizer(family)
    tokenizer.save_pretrained(tmp_path / "model")
    write_json(tmp_path / "model" / "config.json", {"model_type": "llama"})
    prepare_tokenizer(tokenizer)
    dialect = FAMILIES[family].dialect
    other = "hermes" if dialect != "hermes" else "kimi_k2"
    calls = TWO if FAMILIES[family].writes_parallel else TWO[:1]

    def written(answer: Message) -> str:
        request = Message(role="user", content="Set it.")
        example = render_example(tokenizer, [request, answer], TOOLS, "full")
        return answer_text(tokenizer, example.completion_ids[:-1])

    answers = {
        "own": written(Message.calling(calls)),
        "other": render_calls(calls, other),
        "unknown": UNKNOWN,
        "unknown words": UNKNOWN,
        "words": written(Message(role="assistant", content=WORDS)),
    }

    def reply(body: dict[str, Any], earlier: int) -> Reply:
        prompt = tokenizer.decode(body["prompt"])
        (name,) = (name for name in answers if f"<{name}>" in prompt)
        choice = {"text": answers[name], "finish_reason": "stop"}
        return Reply(body=json.dumps({"choices": [choice]}).encode())

    server.behaviour = reply
    cases = [case(name, [] if "words" in name else calls) for name in answers]
    evaluate(tmp_path, server, cases, api="completions", tokenizer=str(tmp_path / "model"))
    right = {name: score.correct for name, (_, score) in found(tmp_path).items()}
    assert right == {"own": True, "other": True, "unknown": False, "unknown words": False, "words": True}
    read = {name: prediction.dialects for name, (prediction, _) in found(tmp_path).items()}
    assert (read["own"], read["other"], read["words"]) == ((dialect,), (other,), ())
    report = read_json(tmp_path / "out" / "report.json")
    assert report["dialect"] == dialect and report["dialects"] == {"unknown": 2, dialect: 1, other: 1}
    assert (report["num_other_dialect"], report["num_unknown_dialect"]) == (3, 2)
    assert report["errors"]["parse_error"] == 2
