"""Requests in a language without a pack, through an import: what is kept of right answers, and of planted errors.

Sixty German requests for the smart_home domain, with the calls that they ask for; no values file knows their words.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fcdistill.config import PolicyName
from fcdistill.generation.dataset.trace_words import trace_words
from fcdistill.generation.imports.import_traces import import_traces
from fcdistill.generation.verification.languages.detection import is_english
from fcdistill.generation.verification.planted_errors import ErrorKind, Planter
from fcdistill.generation.verification.policy import PRIOR_ERROR_RATE, decide
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Reject, Trace
from fcdistill.storage import read_jsonl
from tests.generation.home import catalog, validator

FILE = Path(__file__).with_name("german_requests.jsonl")
ROWS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
PLAIN = Verifier(catalog(), validator(), ValueBook())


def imported(directory: Path, policy: PolicyName) -> tuple[list[Trace], list[Reject]]:
    """Traces and rejects of an import of all requests."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": row["request"]},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"type": "function", "function": call} for call in row["calls"]],
                },
            ]
        }
        for row in ROWS
    ]
    source, out = directory / "log.jsonl", directory / "out"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_traces(source, "openai-messages", out, catalog=catalog(), policy=policy)
    return read_jsonl(out / "traces.jsonl", Trace), read_jsonl(out / "rejects.jsonl", Reject)


def test_the_language_is_found() -> None:
    """A short request without a function word counts as English, by which nothing more is kept."""
    assert len(ROWS) == 60 == len({row["request"] for row in ROWS})
    assert [row["request"] for row in ROWS if is_english(row["request"])] == [
        "Was sagt die Vorhersage für Sankt Peter-Ording am Wochenende?",
        "Schließ die Haustür ab",
    ]


@pytest.mark.parametrize(("policy", "kept"), [("strict", 8), ("balanced", 52), ("trusting", 60)])
def test_what_each_policy_keeps(tmp_path: Path, policy: PolicyName, kept: int) -> None:
    traces, rejects = imported(tmp_path, policy)
    assert (len(traces), len(rejects)) == (kept, 60 - kept)
    assert {reject.check for reject in rejects} <= {"grounding"}


def test_balanced_refuses_what_is_spelled_out_and_says_so(tmp_path: Path) -> None:
    """The eight right answers that it costs: numbers in words, and a text in other words."""
    _, rejects = imported(tmp_path, "balanced")
    refused = {reject.candidate.messages[0].content: reject.detail for reject in rejects}
    numbers = [detail for detail in refused.values() if "not in the request as digits or as a copy" in detail]
    assert len(numbers) == 8
    assert refused["Gib mir fünf Minuten für die Eier"].endswith("set_timer.duration.minutes = 5")
    assert "create_reminder.text" in refused["Erinnere mich morgen um 18 Uhr daran, die Blumen zu gießen"]


def test_planted_errors_in_values_that_must_be_stated_are_found(tmp_path: Path) -> None:
    """Digits and copies tell numbers and texts; of closed values and forgotten arguments they tell little."""
    traces, _ = imported(tmp_path, "balanced")
    planter = Planter(catalog(), validator(), [trace.answer.calls for trace in traces])
    planted: Counter[ErrorKind] = Counter()
    let_through: Counter[ErrorKind] = Counter()
    for trace in traces:
        for error in planter.plant(trace.id, trace.answer.calls):
            planted[error.kind] += 1
            words = trace_words(PLAIN, trace, error.calls)
            let_through[error.kind] += decide("balanced", words, independent=True).keep
    counts = {kind: (let_through[kind], planted[kind]) for kind in planted}
    assert counts["number"] == (0, 19) and counts["free_text"] == (0, 16), counts
    assert (sum(let_through.values()), sum(planted.values())) == (130, 233), counts
    share = sum(let_through.values()) / sum(planted.values())
    # Of a log in use: 1 in 20 is wrong to begin with, and of what is kept about 3 in 100.
    assert 1 - PRIOR_ERROR_RATE["production"] * share / (52 / 60) >= 0.967
