import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.storage import MAX_DEPTH, StrictJsonError, loads_strict


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ('[{"b": {"a": 1, "c": 0, "a": 1}}]', "duplicate_key"),
        ("NaN", "not_finite"),
        ("[-Infinity]", "not_finite"),
        ("1e999", "not_finite"),
        ("-1e999", "not_finite"),
        ("9" * 400, "not_finite"),
        ("-" + "9" * 5000, "not_finite"),
        ("", "invalid_json"),
        ("{'a': 1}", "invalid_json"),
        ("[1,]", "invalid_json"),
        ("1 2", "invalid_json"),
        ("{} {}", "invalid_json"),
        ('{"a": 1}\u00a0', "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "invalid_json"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "invalid_json"),
        (r'"\ud800"', "invalid_json"),
        (r'{"\uDFFF": 1}', "invalid_json"),
        ('"\ud800"', "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        ('"é"'.encode("latin-1"), "invalid_json"),
        ('"a"'.encode("utf-16"), "invalid_json"),
    ],
)
def test_text_that_readers_may_disagree_on_is_refused(text: str | bytes, kind: str) -> None:
    with pytest.raises(StrictJsonError) as caught:
        loads_strict(text)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d\ude00"', "😀"),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, None),
        ("[" + "[]," * 500 + "[]]", [[]] * 501),
        ("9" * 308, int("9" * 308)),
        (' \r\n{"a": 1}', {"a": 1}),
        ('{"a": 1}\t \r\n', {"a": 1}),
        ("1e308", 1e308),
        ('{"a": {"x": 1}, "b": {"x": 1}}', {"a": {"x": 1}, "b": {"x": 1}}),
    ],
)
def test_right_json_is_read(text: str | bytes, value: Any) -> None:
    read = loads_strict(text)
    assert value is None or read == value


def test_the_position_of_a_syntax_error_is_known_and_that_of_a_duplicate_is_not() -> None:
    with pytest.raises(StrictJsonError) as caught:
        loads_strict('{"a": x}')
    assert caught.value.position == 6
    with pytest.raises(StrictJsonError, match=r"^Unterminated string starting at character 6$"):
        loads_strict('{"a": "x')
    with pytest.raises(StrictJsonError) as caught:
        loads_strict('{"a": 1, "a": 2}')
    assert caught.value.position is None


@settings(deadline=None)
@given(st.text() | st.binary())
def test_arbitrary_text_is_read_or_refused_and_what_is_read_can_be_written(text: str | bytes) -> None:
    try:
        value = loads_strict(text)
    except StrictJsonError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
