"""The public banking domain as files of the kit: the tools, conversations to learn from, and 197 cases.

Reads the data files of the repository distil-labs/distil-voice-assistant-banking (commit c8616a6, folder
`slm-finetuning/data`, Apache-2.0), which are not copied here, and further conversations in OpenAI's layout:

    python evals/bench/prepare_bank.py DATA --more MORE.jsonl --out runs/bank/data

Every call of a test conversation is one case, with the conversation before it; nothing is learned from them.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fcdistill.errors import DataError, FcdistillError
from fcdistill.records import EvalCase, Message, ToolCall
from fcdistill.storage import loads_strict, write_json, write_jsonl, write_text

FILES = ("job_description.json", "train.jsonl", "test.jsonl")


def main() -> int:
    """Write tools.json, conversations.jsonl and cases.jsonl."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help=f"the directory with {', '.join(FILES)}")
    parser.add_argument(
        "--more", type=Path, action="append", default=[], help="further conversations, {messages} a line"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bank/data"))
    arguments = parser.parse_args()
    data: Path = arguments.data
    missing = [path for path in (*(data / name for name in FILES), *arguments.more) if not path.is_file()]
    if missing:
        raise DataError(
            f"{missing[0]} is missing",
            required=f"{', '.join(FILES)} in one directory, and the files that --more names",
            fix="get them from the repository that this script's documentation names",
        )
    out: Path = arguments.out
    conversations = [conversation(row) for row in rows(data / "train.jsonl")]
    conversations += [row["messages"] for path in arguments.more for row in rows(path)]
    cases = [case for number, row in enumerate(rows(data / "test.jsonl"), 1) for case in cases_of(number, row)]
    description = loads_strict((data / "job_description.json").read_text(encoding="utf-8"))
    write_json(out / "tools.json", description["tools"])
    write_text(out / "conversations.jsonl", "".join(f"{json.dumps({'messages': each})}\n" for each in conversations))
    write_jsonl(out / "cases.jsonl", cases)
    print(f"{len(conversations)} conversations and {len(cases)} cases in {out}")
    return 0


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield loads_strict(line)


def conversation(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's messages, its answer the last one."""
    answer = loads_strict(row["answer"])
    call = {"name": answer["name"], "arguments": answer["parameters"]}
    last = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    return [*loads_strict(row["question"]), last]


def cases_of(number: int, row: dict[str, Any]) -> Iterator[EvalCase]:
    """A case for each call of a conversation."""
    before: list[Message] = []
    for message in conversation(row):
        calls = [ToolCall(**each["function"]) for each in message.get("tool_calls", ())]
        if calls:
            yield EvalCase(
                id=f"{number:02d}-{sum(each.role == 'assistant' for each in before) + 1}",
                messages=tuple(before),
                behaviour="call",
                expected=(tuple(calls),),
                category="multiple",
            )
        before.append(Message.calling(calls) if calls else Message(role=message["role"], content=message["content"]))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FcdistillError as error:
        sys.exit(f"prepare_bank: {error}")
