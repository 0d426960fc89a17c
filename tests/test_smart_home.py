"""The files of the `smart_home` domain: catalogue, seeds and gold cases fit together and stay apart where they must."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from fcdistill.records import EvalCase, FunctionTool, SeedRequest, ToolCall, ToolSpec
from fcdistill.storage import read_json, read_jsonl

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "schemas" / "smart_home.json"
CASES = ROOT / "evals" / "smart_home" / "cases.jsonl"
SEEDS = ROOT / "data" / "seeds" / "smart_home.jsonl"

MINIMUM_CASES = {
    "simple": 100,
    "multiple": 40,
    "parallel": 30,
    "parallel_multiple": 30,
    "irrelevance": 25,
    "clarify": 20,
}
"""Category to the fewest cases that say something about it."""

COMPARATOR = re.compile(r"exact|casefold|numeric\(\d+(\.\d+)?\)|set|date|any_of(\(casefold\))?|ignore")


@pytest.fixture(scope="module")
def specs() -> dict[str, ToolSpec]:
    tools = [FunctionTool.model_validate(tool).function for tool in read_json(TOOLS)]
    return {spec.name: spec for spec in tools}


@pytest.fixture(scope="module")
def cases() -> list[EvalCase]:
    return read_jsonl(CASES, EvalCase)


@pytest.fixture(scope="module")
def seeds() -> list[SeedRequest]:
    return read_jsonl(SEEDS, SeedRequest)


def normalised(text: str) -> tuple[str, ...]:
    """The words of a text, lower case and without punctuation."""
    return tuple(re.sub(r"[^\w\s]", "", text.lower()).split())


def trigrams(words: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def share_wording(one: str, other: str) -> bool:
    """Same words, or at least half of all 3-grams in common; of texts below five words, the same set of words."""
    a, b = normalised(one), normalised(other)
    if a == b or (min(len(a), len(b)) < 5 and set(a) == set(b)):
        return True
    a_grams, b_grams = trigrams(a), trigrams(b)
    union = len(a_grams | b_grams)
    return union > 0 and len(a_grams & b_grams) / union >= 0.5


def plain_arguments(case: EvalCase, call: ToolCall) -> Iterator[dict[str, Any]]:
    """The arguments of a gold call, once for each value that an `any_of` comparator lists."""
    listed = {name for name in call.arguments if case.comparators.get(f"{call.name}.{name}", "").startswith("any_of")}
    first = {name: value[0] if name in listed else value for name, value in call.arguments.items()}
    yield first
    for name in listed:
        for value in call.arguments[name][1:]:
            yield first | {name: value}


def gold_calls(cases: list[EvalCase]) -> Iterator[tuple[EvalCase, ToolCall]]:
    for case in cases:
        for answer in case.expected:
            for call in answer:
                yield case, call


def test_catalogue_holds_twelve_valid_tools(specs: dict[str, ToolSpec]) -> None:
    assert len(specs) == 12
    for spec in specs.values():
        Draft202012Validator.check_schema(spec.parameters)


def test_every_category_has_enough_cases(cases: list[EvalCase]) -> None:
    counts: Counter[str] = Counter(case.category for case in cases)
    assert len(cases) >= 250
    assert set(counts) == set(MINIMUM_CASES)
    short = {name: counts[name] for name, minimum in MINIMUM_CASES.items() if counts[name] < minimum}
    assert short == {}


def test_every_tool_is_used_by_enough_cases(cases: list[EvalCase], specs: dict[str, ToolSpec]) -> None:
    uses = Counter(name for case in cases for name in {call.name for answer in case.expected for call in answer})
    assert {name: uses[name] for name in specs if uses[name] < 8} == {}


def test_ids_and_requests_are_unique(cases: list[EvalCase]) -> None:
    assert max(Counter(case.id for case in cases).values()) == 1
    assert max(Counter(normalised(case.messages[-1].content) for case in cases).values()) == 1


def test_gold_calls_satisfy_their_schemas(cases: list[EvalCase], specs: dict[str, ToolSpec]) -> None:
    validators = {
        name: Draft202012Validator(spec.parameters, format_checker=Draft202012Validator.FORMAT_CHECKER)
        for name, spec in specs.items()
    }
    wrong = [
        f"{case.id}: {call.name} {error.json_path}: {error.message}"
        for case, call in gold_calls(cases)
        for arguments in plain_arguments(case, call)
        for error in validators[call.name].iter_errors(arguments)
    ]
    assert wrong == []


def test_comparators_are_known_and_belong_to_an_expected_argument(cases: list[EvalCase]) -> None:
    for case in cases:
        used = {f"{call.name}.{name}" for answer in case.expected for call in answer for name in call.arguments}
        assert set(case.comparators) <= used, case.id
        assert all(COMPARATOR.fullmatch(comparator) for comparator in case.comparators.values()), case.id


def test_any_of_lists_distinct_values(cases: list[EvalCase]) -> None:
    for case, call in gold_calls(cases):
        for name, value in call.arguments.items():
            if case.comparators.get(f"{call.name}.{name}", "").startswith("any_of"):
                assert isinstance(value, list) and value, case.id
                assert all(one != other for one, other in combinations(value, 2)), case.id


def test_behaviour_follows_the_category(cases: list[EvalCase]) -> None:
    expected = {"irrelevance": "no_call", "clarify": "clarify"}
    assert [case.id for case in cases if case.behaviour != expected.get(case.category, "call")] == []


def test_number_and_kind_of_calls_follow_the_category(cases: list[EvalCase]) -> None:
    for case in cases:
        for answer in case.expected:
            names = {call.name for call in answer}
            match case.category:
                case "simple" | "multiple":
                    assert len(answer) == 1, case.id
                case "parallel":
                    assert len(answer) >= 2 and len(names) == 1, case.id
                case "parallel_multiple":
                    assert len(answer) >= 2 and len(names) >= 2, case.id
                case _:
                    assert not answer, case.id


def test_a_default_is_expected_only_where_the_request_names_it(
    cases: list[EvalCase], specs: dict[str, ToolSpec]
) -> None:
    for case, call in gold_calls(cases):
        words = normalised(case.messages[-1].content)
        for name, value in call.arguments.items():
            parameter = specs[call.name].parameters["properties"][name]
            if "default" in parameter and value == parameter["default"]:
                assert str(value).lower() in words, f"{case.id}: {call.name}.{name}"


def test_relative_dates_come_with_the_current_time(cases: list[EvalCase]) -> None:
    for case in cases:
        has_time = any(message.role == "system" and "Current time:" in message.content for message in case.messages)
        assert has_time == ("relative_time" in case.tags), case.id


def test_tags_name_the_tools(cases: list[EvalCase]) -> None:
    for case in cases:
        assert {call.name for answer in case.expected for call in answer} <= set(case.tags), case.id


def test_a_clarify_case_names_the_tool_that_lacks_a_value(cases: list[EvalCase], specs: dict[str, ToolSpec]) -> None:
    assert [case.id for case in cases if case.category == "clarify" and not set(case.tags) & set(specs)] == []


def test_some_plain_cases_are_critical(cases: list[EvalCase]) -> None:
    assert sum(case.critical for case in cases) >= 5
    assert all(case.behaviour == "call" for case in cases if case.critical)


def test_seeds_are_many_and_unique(seeds: list[SeedRequest]) -> None:
    assert len(seeds) >= 300
    assert max(Counter(seed.id for seed in seeds).values()) == 1
    assert max(Counter(normalised(seed.text) for seed in seeds).values()) == 1


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("Lock the patio door!", "lock the patio door", True),
        ("timer 11 minutes", "11 minutes timer", True),
        ("please lock the patio door now", "please lock the patio door tonight", True),
        ("kitchen light on", "kitchen light off", False),
        ("turn the bedroom light off before the film", "vacuum the bedroom before the film", False),
    ],
)
def test_share_wording_tells_repeats_from_relatives(one: str, other: str, shared: bool) -> None:
    assert share_wording(one, other) is shared


def test_no_case_shares_wording_with_a_seed(cases: list[EvalCase], seeds: list[SeedRequest]) -> None:
    clashes = [
        f"{case.id} and {seed.id}: {seed.text}"
        for case in cases
        for seed in seeds
        if share_wording(case.messages[-1].content, seed.text)
    ]
    assert clashes == []
