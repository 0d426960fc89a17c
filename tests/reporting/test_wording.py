import pytest

from fcdistill.records import Rate, ScoreError
from fcdistill.reporting.wording import describe_error, interval, percent, quantity, visible


def test_shares_and_intervals() -> None:
    assert (percent(0.4485), percent(1.0), percent(None)) == ("44.9%", "100.0%", "n/a")
    assert interval(Rate(value=0.5, successes=1, n=2, low=0.0946, high=0.9054)) == "9.5–90.5%"
    assert interval(Rate(value=None, successes=0, n=0, low=None, high=None)) == "n/a"


def test_quantities() -> None:
    assert quantity(0.12345, "s") == "0.123\N{NO-BREAK SPACE}s"
    assert (quantity(21.4, ""), quantity(None, "s")) == ("21", "n/a")


def test_an_error_names_its_place_where_it_has_one() -> None:
    assert describe_error(ScoreError(code="wrong_type", path="dim.level", detail="a string")) == (
        "wrong_type dim.level: a string"
    )
    assert describe_error(ScoreError(code="no_output", path="", detail="empty")) == "no_output: empty"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\r\nb\tc", "a\nb\tc"), ("\x1b[2J", "\ufffd[2J"), ("a\u202eb\u2066c", "a\ufffdb\ufffdc"), ("é中", "é中")],
)
def test_characters_that_hide_text_are_replaced(text: str, shown: str) -> None:
    assert visible(text) == shown
