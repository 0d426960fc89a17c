import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.prompts.continuing import closes_thought, continued


@pytest.mark.parametrize(
    ("prompt", "full", "answer"),
    [
        ("user: a\nassistant: ", "user: a\nassistant: yes", "yes"),
        ("a<think>\n", "ayes", "\n</think>\n\nyes"),
        ("a<think>", "a<think></think>yes", "</think>yes"),
        ("a<think>\n\n</think>\n\n", "ayes", "yes"),
        ("a\n<think></think>", "a\n\n<think></think>\nyes", "\nyes".lstrip()),
        ("a</think>", "ayes", "yes"),
        ("a \n", "a\n  yes", "yes"),
        ("a<|im|>  </think>", "a  <|im|></think>  yes", "yes"),
        ("a<think>", "byes", None),
        ("a: Surely, ", "a: yes", None),
        ("ab", "a", None),
    ],
)
def test_what_an_answer_says_behind_its_prompt(prompt: str, full: str, answer: str | None) -> None:
    assert continued(prompt, full) == answer


@pytest.mark.parametrize(
    ("prompt", "full", "answer"),
    [
        ("a<think>\n", "ayes", "hm\n</think>\n\nyes"),
        ("a<think>", "a<think></think>yes", "</think>yes"),
        ("a", "a<think>hm</think>yes", "<think>hm</think>yes"),
        ("a<think>", "a<think>hm</think>yes", "hm</think>yes"),
        ("a<think></think>", "ayes", "yes"),
    ],
)
def test_a_thought_is_written_where_the_prompt_opens_one_and_the_template_is_silent(
    prompt: str, full: str, answer: str
) -> None:
    assert continued(prompt, full, "hm") == answer


def test_a_prompt_that_closes_a_thought_is_told_from_one_that_opens_it() -> None:
    assert closes_thought("a<think>\n\n</think>\n\n")
    assert not closes_thought("a<think>\n") and not closes_thought("a")


@given(st.text(), st.text())
def test_a_text_that_begins_with_its_prompt_goes_on_with_the_rest(prompt: str, answer: str) -> None:
    assert continued(prompt, prompt + answer) == answer
