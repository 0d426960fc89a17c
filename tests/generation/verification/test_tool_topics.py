import pytest

from fcdistill.generation.verification.tool_topics import names_topic, topic_of


@pytest.mark.parametrize(
    ("tool", "topic"),
    [
        ("set_light", "light"),
        ("add_shopping_items", "shopping items"),
        ("getWeather", "weather"),
        ("speak_to_human", "human"),
        ("reset-pin", "pin"),
        ("readRSSFeed", "rss feed"),
        ("greeting", ""),
        ("", ""),
    ],
)
def test_the_topic_is_the_name_without_its_verb(tool: str, topic: str) -> None:
    assert topic_of(tool) == topic


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("back to the light, make it blue", True),
        ("the lights again", True),
        ("set it to blue", False),
        ("the timer again", False),
        ("blue", False),
    ],
)
def test_a_topic_is_named_by_its_own_words(text: str, named: bool) -> None:
    assert names_topic(text, "set_light", ("set_timer",)) == named


def test_a_word_that_both_tools_are_about_names_neither() -> None:
    assert not names_topic("the card again", "cancel_card", ("replace_card",))
    assert names_topic("the card again", "cancel_card", ("check_balance",))
