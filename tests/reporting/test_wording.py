import pytest

from fcdistill.records import Rate
from fcdistill.reporting.wording import interval, percent, quantity, visible


def test_shares_and_intervals() -> None:
    assert (percent(0.4485), percent(1.0), percent(None)) == ("44.9%", "100.0%", "n/a")
    assert interval(Rate(value=0.5, successes=1, n=2, low=0.0946, high=0.9054)) == "9.5–90.5%"
    assert interval(Rate(value=None, successes=0, n=0, low=None, high=None)) == "n/a"


def test_quantities() -> None:
    assert quantity(0.12345, "s") == "0.123\N{NO-BREAK SPACE}s"
    assert (quantity(21.4, ""), quantity(None, "s")) == ("21", "n/a")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\r\nb\tc", "a\nb\tc"), ("\x1b[2J", "\ufffd[2J"), ("a\u202eb\u2066c", "a\ufffdb\ufffdc"), ("é中", "é中")],
)
def test_characters_that_hide_text_are_replaced(text: str, shown: str) -> None:
    assert visible(text) == shown
