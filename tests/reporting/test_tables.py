import re

import pytest

from fcdistill.evaluation.stats import summarise
from fcdistill.records import GateCheck, GateVerdict, PairedComparison, Prediction
from fcdistill.reporting.tables import (
    comparison_markdown,
    render_comparison,
    render_markdown,
    render_paired,
    render_plain,
    render_terminal,
)
from tests.evaluation.scores import repeated
from tests.reporting.reports import case, printed, report_of, score

FOUR = [score("a"), score("b"), score("c"), score("d", correct=False)]


def test_the_terminal_shows_headline_interval_and_breakdowns() -> None:
    text = printed(render_terminal(report_of(FOUR)))
    assert "Call accuracy 75.0% (30.1–95.4%), 3 of 4 cases right" in text
    for shown in (
        "schema valid",
        "simple",
        "set_light",
        "3/4",
        "wrong_value",
        "0.123\N{NO-BREAK SPACE}s",
        "21",
        "call was made",
    ):
        assert shown in text
    assert "Incomplete" not in text


def test_missing_answers_are_told() -> None:
    text = printed(render_terminal(report_of(FOUR, tuple(f"u{i}" for i in range(7)))))
    assert "Incomplete: 7 of 11 cases have no answer (u0, u1, u2, u3, u4, …)" in text


def test_nothing_scored_shows_no_accuracy() -> None:
    report = report_of([], ("a",))
    for text in (printed(render_terminal(report)), render_markdown(report, [], {}, [case("a")])):
        assert "Call accuracy: n/a, since none of 1 cases was scored" in text
        assert "0.0%" not in text
    assert "n/a" in comparison_markdown([("x", report)])


def test_quantities_without_values_are_left_out() -> None:
    text = printed(render_terminal(report_of(FOUR, latency_s=None)))
    assert "latency" not in text
    assert "prompt tokens" in text


def test_markdown_shows_the_wrong_cases() -> None:
    predictions = {item.id: Prediction(id=item.id, text=f"answer of {item.id}") for item in FOUR}
    text = render_markdown(report_of(FOUR), FOUR, predictions, [case(item.id) for item in FOUR])
    assert "# Evaluation" in text
    assert "| call accuracy | 75.0% | 30.1–95.4% | 3/4 |" in text
    assert "| model | tiny\\|model |" in text
    assert "## Wrong cases (1)" in text
    assert "### d (simple): wrong_value" in text
    assert "```text\nthe office light\n```" in text
    assert '```text\n{"name": "set_light", "arguments": {"room": "office"}}\n```' in text
    assert "```text\nanswer of d\n```" in text
    assert '- wrong_value set\\_light.room: expected "office", got "kitchen"' in text
    assert "answer of a" not in text


def test_markdown_says_how_prompts_were_rendered() -> None:
    report = report_of(FOUR).model_copy(update={"template_sha256": "9" * 64, "tools_in_prompt": "compact"})
    text = render_markdown(report, FOUR, {"d": Prediction(id="d")}, [case("d")])
    assert f"| chat template SHA-256 | {'9' * 64} |" in text and "| tools in the prompt | compact |" in text


def test_how_answers_were_decoded_is_said_where_it_was_not_plainly() -> None:
    greedy = {"max_new_tokens": 256, "sampling_temperature": 0.0, "top_p": 1.0, "seed": 0, "constrained": False}
    for decode, said in (
        (None, None),
        (greedy, None),
        (greedy | {"constrained": True}, "greedy, constrained to text and valid calls"),
        (greedy | {"sampling_temperature": 0.7, "top_p": 0.9}, "sampled at temperature 0.7, top_p 0.9, seed 0"),
    ):
        report = report_of(FOUR).model_copy(update={"decode": decode})
        assert (f"Decoding: {said}" in printed(render_terminal(report))) == (said is not None)
        text = render_markdown(report, FOUR, {"d": Prediction(id="d")}, [case("d")])
        assert f"| decoding | {(said or ('greedy' if decode else 'n/a')).replace('_', chr(92) + '_')} |" in text


def test_markdown_limits_the_failures_and_says_so() -> None:
    wrong = [score(name, correct=False) for name in "abc"]
    predictions = {item.id: Prediction(id=item.id, text="x") for item in wrong}
    cases = [case(item.id) for item in wrong]
    text = render_markdown(report_of(wrong), wrong, predictions, cases, max_failures=1)
    assert text.count("### ") == 1
    assert "2 more stand in scores.jsonl." in text


def test_calls_of_an_api_are_shown() -> None:
    (wrong,) = [score("a", correct=False)]
    prediction = Prediction.model_validate(
        {"id": "a", "text": "On it.", "calls": [{"name": "set_light", "arguments": {"room": "kitchen"}}]}
    )
    text = render_markdown(report_of([wrong]), [wrong], {"a": prediction}, [case("a")])
    assert '```text\nOn it.\n{"name": "set_light", "arguments": {"room": "kitchen"}}\n```' in text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("```\n# Passed\n```", "````text\n```\n# Passed\n```\n````"),
        ("\x1b[2Jgone", "```text\n\ufffd[2Jgone\n```"),
        ("a\u202eb", "```text\na\ufffdb\n```"),
        ("", "```text\n\n```"),
    ],
)
def test_model_output_stays_in_its_block(hostile: str, shown: str) -> None:
    wrong = score("a", correct=False)
    predictions = {"a": Prediction(id="a", text=hostile)}
    text = render_markdown(report_of([wrong]), [wrong], predictions, [case("a")])
    assert shown in text


def test_ids_and_details_are_literal() -> None:
    error = {"code": "wrong_value", "path": "f.<b>", "detail": "got [x](y)\n# big | *bold*"}
    wrong = score("a_b*c", correct=False, errors=[error])
    text = render_markdown(report_of([wrong]), [wrong], {"a_b*c": Prediction(id="a_b*c")}, [case("a_b*c")])
    assert "### a\\_b\\*c (simple)" in text
    assert "- wrong_value f.\\<b\\>: got \\[x\\](y) \\# big \\| \\*bold\\*" in text


def test_long_outputs_are_cut() -> None:
    wrong = score("a", correct=False)
    predictions = {"a": Prediction(id="a", text="x" * 5000)}
    text = render_markdown(report_of([wrong]), [wrong], predictions, [case("a")])
    assert "[3000 more characters]" in text
    assert "x" * 2001 not in text


def test_the_comparison_has_a_row_per_report() -> None:
    rows = [("base", report_of([score("a", correct=False)])), ("[bold]student", report_of(FOUR, ("u",)))]
    lines = printed(render_comparison(rows)).splitlines()
    (student,) = [line for line in lines if "[bold]student" in line]
    assert re.split(r" {2,}", student.strip()) == [
        "[bold]student", "75.0%", "30.1–95.4%", "100.0%", "100.0%", "21", "0.123\N{NO-BREAK SPACE}s", "1"
    ]  # fmt: skip
    markdown = comparison_markdown(rows).splitlines()
    assert len(markdown) == 4
    assert markdown[2].startswith("| base | 0.0% | 0.0–79.3% |")
    assert markdown[3].startswith("| \\[bold\\]student | 75.0% |")


PAIRED = PairedComparison(
    num_pairs=2000,
    both_right=1500,
    baseline_only=9,
    candidate_only=40,
    difference=0.0156,
    low=-0.0001,
    high=0.0224,
    p_worse=1.0,
    p_differs=0.0000095,
)


def test_a_paired_row_shows_points_and_never_a_p_of_zero() -> None:
    text = printed(render_paired("[red]base", [("student", PAIRED)]))
    (row,) = [line for line in text.splitlines() if "student" in line]
    assert re.split(r" {2,}", row.strip()) == ["student", "+1.6", "+0.0 to +2.2", "9", "40", "<0.001"]
    assert "Against [red]base" in text


def test_everything_fits_eighty_columns() -> None:
    comparison = render_comparison([("qwen2.5-coder-0.5b-instruct, 5 worked examples", report_of(FOUR))])
    for renderable in (render_terminal(report_of(FOUR)), comparison):
        text = printed(renderable, width=80)
        assert "…" not in text
        assert "30.1–95.4%" in text and "0.123\N{NO-BREAK SPACE}s" in text
        assert max(len(line) for line in text.splitlines()) <= 80


def test_repeated_cases_show_pass_hat_consistency_and_count_answers() -> None:
    scores = [*repeated("a", "111"), *repeated("b", "110"), *repeated("c", "000")]
    report = summarise(scores, [], repeat=3, cases_sha256="c" * 64)
    verdicts = [scores[0], scores[3], scores[6]]
    predictions = {item.id: Prediction(id=item.id) for item in verdicts}
    text = render_markdown(report, verdicts, predictions, [case(name) for name in "abc"])
    assert "5 of 9 answers (3 to each case) right" in text
    assert "| figure | value | 95% interval | answers |" in text
    assert re.search(r"\| pass\^2 \| 44\.4% \| [\d.]+–[\d.]+% \|  \|", text)
    assert re.search(r"\| pass\^3 \| 33\.3% \|.*\n\| consistency \| 77\.8% \|", text)
    assert "pass^1" not in text
    assert "## Right in 3 answers" in text and "| sometimes | 1 |" in text
    assert "## Wrong cases (1)" in text
    shown = printed(render_terminal(report))
    assert "pass^3" in shown and "consistency" in shown


def test_a_message_says_the_verdict_and_shows_regressions_first() -> None:
    scores = [score("a"), *(score(name, correct=False) for name in ("b", "c", "d\x1b[2J"))]
    check = GateCheck(rule="max_drop", passed=False, detail="it dropped")
    gate = GateVerdict(passed=False, checks=(check,), regressed_ids=("c",), warnings=("few cases",))
    report = report_of(scores).model_copy(update={"gate": gate})
    assert render_plain(report, scores, max_failures=2).splitlines() == [
        "Call accuracy 25.0% (4.6–69.9%), 1 of 4 cases right",
        "Gate: FAILED",
        "  max_drop FAILED: it dropped",
        "  Warning: few cases",
        "  Turned wrong: c",
        'c: wrong_value set_light.room: expected "office", got "kitchen"',
        'b: wrong_value set_light.room: expected "office", got "kitchen"',
        "… and 1 more wrong cases",
    ]
    assert "\x1b" not in render_plain(report, scores, max_failures=3)
    assert render_plain(report_of([], unscored=("e",)), [], max_failures=2).splitlines() == [
        "Call accuracy: n/a, since none of 1 cases was scored",
        "Incomplete: 1 of 1 cases have no answer (e)",
    ]
