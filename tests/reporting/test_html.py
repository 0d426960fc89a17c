import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from fcdistill.evaluation.stats import summarise
from fcdistill.records import GateVerdict, Prediction, Report, Score
from fcdistill.reporting.html import render_html
from tests.evaluation.scores import repeated
from tests.reporting.reports import HOSTILE, case, report_of, score


class Page(HTMLParser):
    """What a browser would make of a page: its elements with attributes, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = kind, text + data
        else:
            self.text += data

    @property
    def failures(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.scripts[0][1])
        return found


def page(scores: list[Score], predictions: dict[str, Prediction] | None = None, report: Report | None = None) -> Page:
    answers = predictions or {item.id: Prediction(id=item.id, text=f"answer of {item.id}") for item in scores}
    cases = [case(item.id) for item in scores]
    return Page(render_html(report or report_of(scores), scores, answers, cases, title="a <run>"))


FOUR = [score("a"), score("b"), score("c"), score("d", correct=False)]


def test_the_page_shows_headline_breakdowns_and_provenance() -> None:
    text = page(FOUR).text
    for shown in (
        "a <run>",
        "75.0%",
        "95% interval 30.1–95.4%",
        "3 of 4 cases exactly right",
        "set_light",
        "wrong value",
        "0.123\N{NO-BREAK SPACE}s",
        "tiny|model",
        "c" * 64,
    ):
        assert shown in text
    assert "Gate" not in text and "Incomplete" not in text


def test_the_page_says_how_answers_were_decoded() -> None:
    decode = {"max_new_tokens": 256, "sampling_temperature": 0.0, "top_p": 1.0, "seed": 0, "constrained": True}
    report = summarise(FOUR, [], cases_sha256="c" * 64, decode=decode)
    assert "greedy, constrained to text and valid calls" in page(FOUR, report=report).text


def test_repeated_cases_count_answers_and_show_their_reliability() -> None:
    scores = [*repeated("a", "111"), *repeated("b", "110"), *repeated("c", "000")]
    report = summarise(scores, [], repeat=3, cases_sha256="c" * 64)
    shown = page([scores[0], scores[3], scores[6]], report=report)
    for text in ("5 of 9 answers exactly right", "3 answers to each case: 1 cases always right, 1 sometimes, 1 never"):
        assert text in shown.text
    assert "pass^3" in shown.text and "consistency" in shown.text
    assert [failure["id"] for failure in shown.failures] == ["c"]


def test_only_wrong_cases_are_listed_with_all_their_errors_and_the_diff() -> None:
    error = {"code": "enum_violation", "path": "set_light.room", "detail": "not a room"}
    other = {"code": "wrong_value", "path": "set_light.room", "detail": "expected office"}
    wrong = score("d", correct=False, primary_error="enum_violation", errors=[error, other])
    prediction = Prediction.model_validate(
        {"id": "d", "text": "x", "calls": [{"name": "set_light", "arguments": {"room": "attic"}}]}
    )
    (failure,) = page([score("a"), wrong], {"a": Prediction(id="a"), "d": prediction}).failures
    assert failure["id"] == "d" and failure["primary"] == "enum_violation" and failure["errors"] == [error, other]
    (call,) = failure["calls"]
    assert call["arguments"] == [
        {"name": "room", "expected": '"office"', "got": '"attic"', "mark": "differs", "rule": ""}
    ]


@pytest.mark.parametrize("passed", [True, False])
def test_the_gate_verdict_is_told(passed: bool) -> None:
    verdict = GateVerdict.model_validate(
        {
            "passed": passed,
            "checks": [{"rule": "min_accuracy", "passed": passed, "detail": "75.0% against <80%>"}],
            "comparison": {
                "num_pairs": 4, "both_right": 2, "baseline_only": 1, "candidate_only": 1, "difference": -0.25,
                "low": -0.5, "high": 0.1, "p_worse": 0.75, "p_differs": 1.0,
            },
            "regressed_ids": ["d"],
            "warnings": ["the suite is small"],
        }
    )  # fmt: skip
    text = page(FOUR, report=report_of(FOUR).model_copy(update={"gate": verdict})).text
    assert f"Gate {'passed' if passed else 'failed'}" in text
    assert f"Gate {'failed' if passed else 'passed'}" not in text
    for shown in ("75.0% against <80%>", "\N{MINUS SIGN}25.0 points", "Regressed (1)", "the suite is small"):
        assert shown in text


def test_missing_answers_are_told() -> None:
    text = page(FOUR, report=report_of(FOUR, ("u1", "u2"))).text
    assert "Incomplete. 2 of 6 cases have no answer" in text and "u1, u2" in text


def test_nothing_scored_and_nothing_wrong_are_told_apart() -> None:
    assert "No case was scored." in page([], report=report_of([], ("a",))).text
    assert "There are none." in page([score("a")]).text


def test_what_models_wrote_stays_text() -> None:
    call = {"name": HOSTILE, "arguments": {HOSTILE: HOSTILE}}
    errors = [{"code": "unknown_function", "path": HOSTILE, "detail": HOSTILE}]
    wrong = score("d", correct=False, primary_error="unknown_function", errors=errors, tools=[HOSTILE])
    prediction = Prediction.model_validate({"id": "d", "text": HOSTILE, "calls": [call]})
    clean, hostile = (
        page(FOUR),
        page([*FOUR[:3], wrong], {"d": prediction} | {name: Prediction(id=name) for name in "abc"}),
    )
    assert [kind for kind, _ in hostile.scripts] == ["application/json", None]
    assert hostile.scripts[1] == clean.scripts[1]
    assert not {"img", "iframe", "object"} & {tag for tag, _ in hostile.elements}
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)
    (failure,) = hostile.failures
    assert failure["output"] == failure["errors"][0]["detail"] == HOSTILE
    assert HOSTILE in hostile.text  # the row of the tool


def test_the_policy_allows_this_one_script_and_loads_nothing() -> None:
    shown = page(FOUR)
    ((policy,),) = [
        [attributes["content"]]
        for tag, attributes in shown.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(shown.scripts[1][1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    links = [
        value or "" for _, attributes in shown.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(link.startswith(("#", "data:")) for link in links)


def test_hidden_characters_are_replaced_and_long_texts_cut() -> None:
    wrong = score("d", correct=False)
    (failure,) = page([wrong], {"d": Prediction(id="d", text="\x1b\u202e" + "x" * 5000)}).failures
    assert failure["output"].startswith("\ufffd\ufffdxxx")
    assert failure["output"].endswith("[1002 more characters]")


def test_bars_follow_the_rates() -> None:
    report = report_of(FOUR)
    low, high = report.call_accuracy.low, report.call_accuracy.high
    assert low is not None and high is not None
    text = render_html(report, [], {}, [], title="t")
    assert f'<i style="width:75.00%"></i><b style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%">' in text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_background(theme: str) -> None:
    text = render_html(report_of(FOUR), [], {}, [], title="t")
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", text)
    colours = {name: light if theme == "light" else dark for name, light, dark in found}
    on_cards = [
        (ink, ground) for ink in ("text", "soft", "accent", "good", "bad", "warn") for ground in ("card", "page")
    ]
    in_boxes = [("good", "good-bg"), ("bad", "bad-bg"), ("warn", "warn-bg"), ("soft", "code"), ("soft", "track")]
    for ink, ground in on_cards + in_boxes:
        # WCAG 2.2, 1.4.3: 4.5 to 1 for text.
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, definition of contrast ratio)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
