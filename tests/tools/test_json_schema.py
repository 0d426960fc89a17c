"""The grammars of a few formats are read when they are needed, and judge as ever."""

import subprocess
import sys

import pytest

from fcdistill.tools.json_schema import DIALECTS, canonical_dialect, dialect_of

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
