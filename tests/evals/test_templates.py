"""The study of chat templates on those of the tests' families."""

from templates import Row, summary, tried

from tests.prompts.families import FAMILIES


def test_a_row_says_what_becomes_of_a_template() -> None:
    kept = tried("qwen3-own", FAMILIES["qwen3"].template)
    assert kept == Row("qwen3-own", True, "hermes", True, True, True, True, grammar=True, thinking="closed")
    single = tried("llama3-own", FAMILIES["llama3"].template)
    assert (single.kept, single.one, single.two, single.typed, single.grammar) == (True, True, False, True, True)
    assert single.refused
    assert tried("plain-a", "{% for m in messages %}{{ m.content }}{% endfor %}").kept is False
    unread = FAMILIES["qwen2"].template.replace("<tool_call>", "~>").replace('{"name": ', "call ")
    refused = tried("plain-b", unread)
    assert not refused.kept and "can't be read back" in refused.refused


def test_the_summary_counts_by_family() -> None:
    whole = Row("a-1", True, "hermes", True, True, True, True, grammar=True)
    rows = [whole, Row("a-2", False, refused="x"), Row("b-1", False)]
    lines = summary(rows).splitlines()
    assert lines[2:] == [
        "| a | 2 | 1 | 1 | 1 | 1 | 1 | 0 | 1 | hermes |",
        "| b | 1 | 0 | 0 | 0 | 0 | 0 | 1 | 0 |  |",
        "| all | 3 | 1 | 1 | 1 | 1 | 1 | 1 | 1 |  |",
    ]
