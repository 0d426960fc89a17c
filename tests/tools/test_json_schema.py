"""The grammars of a few formats are read when they are needed; decimals and null count as they are written."""

import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.tools.json_schema import (
    DIALECTS,
    Draft202012Validator,
    as_written,
    canonical_dialect,
    dialect_of,
    with_null,
)

GRAMMARS = ("rfc3986_validator", "rfc3987_syntax")
JUDGE = """
import sys
from fcdistill.tools.json_schema import Draft202012Validator
assert not {grammars!r} & sys.modules.keys(), "read before any value was checked"
schema = {{"format": {format!r}}}
print(Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid({value!r}))
"""


@pytest.mark.parametrize(
    ("format", "value", "valid"),
    [
        ("uri", "https://example.org/a?b#c", True),
        ("uri", "no uri", False),
        ("iri", "https://exämple.org/ä", True),
        ("iri", "no iri", False),
        ("iri-reference", "/ä", True),
    ],
)
def test_a_grammar_is_read_for_the_value_that_needs_it(format: str, value: str, valid: bool) -> None:
    code = JUDGE.format(grammars=set(GRAMMARS), format=format, value=value)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.stdout.strip(), ended.stderr) == (str(valid), "")


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"multipleOf": 0.01}, [19.99, 4.35, 20, -0.07, 0, 1e22, 10**5000, "x"], [4.355, 0.001]),
        ({"multipleOf": 0.1}, [0.3, 21.7, 1.1e3], [0.35, 0.1 + 0.2]),
        ({"multipleOf": 1e-7}, [3e-7, 1e300], [1e-8]),
        ({"multipleOf": 2}, [4, 4.0, 2**70], [3, 4.5]),
        ({"type": "string", "nullable": True}, [None, "x"], [3]),
        ({"type": ["string", "number"], "nullable": True}, [None, 3], [True]),
        ({"type": "string", "nullable": False}, ["x"], [None]),
        ({"type": "string", "nullable": True, "enum": ["x"]}, ["x"], [None]),
        ({"type": "string", "nullable": True, "enum": ["x", None]}, ["x", None], ["y"]),
        ({"type": "string", "pattern": r"^\d\p{Lu}$"}, ["1Ä"], ["1ä", "\u0661Ä", "1Ä\n"]),
        ({"type": "string", "pattern": "("}, ["("], [1]),
    ],
)
def test_what_is_here_otherwise_than_in_the_library(
    dialect: Any, schema: dict[str, Any], right: list[Any], wrong: list[Any]
) -> None:
    judge = dialect(schema)
    assert all(map(judge.is_valid, right))
    assert not any(map(judge.is_valid, wrong))


@given(st.decimals(-(10**9), 10**9, places=3), st.integers(1, 9999), st.integers(0, 3))
def test_multiples_are_those_of_the_decimals_that_are_written(number: Decimal, digits: int, places: int) -> None:
    step = Decimal(digits).scaleb(-places)
    judge = Draft202012Validator({"multipleOf": float(step)})
    assert judge.is_valid(float(number)) == (number % step == 0)
    assert as_written(float(number)) == number


@pytest.mark.parametrize(
    ("schema", "read"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": ["null", "string"], "nullable": True}, {"type": ["null", "string"]}),
        ({"type": "string", "nullable": False}, {"type": "string"}),
        ({"enum": ["a"], "nullable": True}, {"enum": ["a"]}),
    ],
)
def test_nullable_adds_to_a_type_and_to_nothing_else(schema: dict[str, Any], read: dict[str, Any]) -> None:
    assert with_null(schema) == read


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_known_by_either_scheme_and_with_or_without_an_end(name: str) -> None:
    address = name.partition("://")[2]
    for scheme in ("http", "https"):
        for end in ("", "#", "/"):
            schema = {"$schema": f"{scheme}://{address}{end}", "type": "object"}
            assert dialect_of(schema) is DIALECTS[name]
            own = canonical_dialect(schema)
            assert own["$schema"].removesuffix("#") == name and own["type"] == "object"
    for known in (name, f"{name}#"):
        assert canonical_dialect({"$schema": known}) == {"$schema": known}


@pytest.mark.parametrize("named", ["ftp://json-schema.org/draft-07/schema", "json-schema.org/draft-07/schema", "", 7])
def test_other_names_are_no_dialect(named: object) -> None:
    assert dialect_of({"$schema": named}) is None
    assert canonical_dialect({"$schema": named}) == {"$schema": named}
