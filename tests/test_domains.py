"""The files of each domain: catalogue, seeds, examples and gold cases fit together and stay apart where they must."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from fcdistill.config.config_file import load_config
from fcdistill.evaluation.scoring import Scorer
from fcdistill.evaluation.suites import read_suite
from fcdistill.generation.plan.plan import make_plan, time_of_context
from fcdistill.generation.plan.tool_results import read_results
from fcdistill.generation.verification.value_book import read_value_book
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.prompts.worked_examples import read_examples
from fcdistill.records import EvalCase, Message, Prediction, SeedRequest, ToolCall, ToolSpec, WorkedExample
from fcdistill.storage import read_jsonl
from fcdistill.tools.catalog import Catalog, load_catalog
from fcdistill.tools.validation import CallValidator
from tests.paths import ROOT


@dataclass(frozen=True)
class Domain:
    """A domain and how much of it there must be at least.

    Attributes:
        name: of its files.
        config: its configuration of all stages.
        cases: category to the fewest cases that say something about it.
        cases_per_tool: the fewest cases whose answer calls a tool.
        seeds: the fewest seeds.
        examples: the fewest worked examples.
        multi_turn: the fewest cases that need the result of an earlier call.
        unknown_words: cases that say their answer in words which the grounding check does not know ("full brightness"),
            or say numbers and choices that mean nothing ("26 degrees, no wonder"). It would drop such training rows.
    """

    name: str
    config: str
    cases: dict[str, int]
    cases_per_tool: int
    seeds: int
    examples: int
    multi_turn: int = 0
    unknown_words: frozenset[str] = field(default_factory=frozenset)


DOMAINS = [
    Domain(
        "smart_home",
        "demo.yaml",
        {"simple": 100, "multiple": 40, "parallel": 30, "parallel_multiple": 30, "irrelevance": 25, "clarify": 20},
        cases_per_tool=8,
        seeds=300,
        examples=50,
        unknown_words=frozenset(
            f"sh-{name}"
            for name in (
                "simple-009 simple-018 simple-024 simple-034 simple-047 simple-048 simple-050 simple-052 simple-087 "
                "simple-096 multiple-013 multiple-018 multiple-029 multiple-034 multiple-039 multiple-041 multiple-042 "
                "multiple-044 multiple-045 parallel-006 parallel-019 parallel-021 parallel-031 parallel-033 "
                "parallel-multiple-002 parallel-multiple-019"
            ).split()
        ),
    ),
    Domain(
        "support_desk",
        "support_desk.yaml",
        {"simple": 80, "multiple": 35, "parallel": 25, "parallel_multiple": 25, "irrelevance": 22, "clarify": 18},
        cases_per_tool=12,
        seeds=250,
        examples=40,
        multi_turn=10,
    ),
]

COMPARATOR = re.compile(r"exact|casefold|numeric\(\d+(\.\d+)?\)|set|date|any_of(\(casefold\))?|ignore")


@pytest.fixture(scope="module", params=DOMAINS, ids=lambda domain: domain.name)
def domain(request: pytest.FixtureRequest) -> Domain:
    found: Domain = request.param
    return found


@pytest.fixture(scope="module")
def catalog(domain: Domain) -> Catalog:
    return load_catalog(str(ROOT / "schemas" / f"{domain.name}.json"))


@pytest.fixture(scope="module")
def specs(catalog: Catalog) -> dict[str, ToolSpec]:
    return {spec.name: spec for spec in catalog.specs}


@pytest.fixture(scope="module")
def verifier(domain: Domain, catalog: Catalog) -> Verifier:
    book = read_value_book(ROOT / "data" / "values" / f"{domain.name}.json", catalog)
    return Verifier(catalog, CallValidator(catalog.specs), book)


@pytest.fixture(scope="module")
def cases(domain: Domain) -> list[EvalCase]:
    return read_jsonl(ROOT / "evals" / domain.name / "cases.jsonl", EvalCase)


@pytest.fixture(scope="module")
def seeds(domain: Domain) -> list[SeedRequest]:
    return read_jsonl(ROOT / "data" / "seeds" / f"{domain.name}.jsonl", SeedRequest)


@pytest.fixture(scope="module")
def examples(domain: Domain, catalog: Catalog) -> list[WorkedExample]:
    return read_examples(ROOT / "data" / "examples" / f"{domain.name}.jsonl", CallValidator(catalog.specs))


def request_of(case: EvalCase) -> str:
    """What the user said last."""
    return [message.content for message in case.messages if message.role == "user"][-1]


def now_of(case: EvalCase) -> datetime | None:
    return next((time_of_context(message.content) for message in case.messages if message.role == "system"), None)


def has_history(case: EvalCase) -> bool:
    return any(message.role in ("assistant", "tool") for message in case.messages)


def calls_in(messages: tuple[Message, ...]) -> list[ToolCall]:
    return [made.function for message in messages for made in message.tool_calls]


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


def plain_answers(case: EvalCase) -> Iterator[list[ToolCall]]:
    """Every acceptable answer, once for each choice of the values that `any_of` comparators list."""

    def plain_calls(call: ToolCall) -> list[ToolCall]:
        listed = [
            value if case.comparators.get(f"{call.name}.{name}", "").startswith("any_of") else [value]
            for name, value in call.arguments.items()
        ]
        chosen = itertools.product(*listed)
        return [ToolCall(name=call.name, arguments=dict(zip(call.arguments, one, strict=True))) for one in chosen]

    for answer in case.expected:
        yield from (list(calls) for calls in itertools.product(*map(plain_calls, answer)))


def gold_calls(cases: list[EvalCase]) -> Iterator[tuple[EvalCase, ToolCall]]:
    for case in cases:
        for answer in case.expected:
            for call in answer:
                yield case, call


def test_catalogue_holds_twelve_valid_tools(specs: dict[str, ToolSpec]) -> None:
    assert len(specs) == 12
    for spec in specs.values():
        Draft202012Validator.check_schema(spec.parameters)


def test_every_category_has_enough_cases(domain: Domain, cases: list[EvalCase]) -> None:
    counts: Counter[str] = Counter(case.category for case in cases)
    assert set(counts) == set(domain.cases)
    assert {name: counts[name] for name, minimum in domain.cases.items() if counts[name] < minimum} == {}
    assert len(cases) >= 220


def test_every_tool_is_used_by_enough_cases(domain: Domain, cases: list[EvalCase], specs: dict[str, ToolSpec]) -> None:
    uses = Counter(name for case in cases for name in {call.name for answer in case.expected for call in answer})
    assert {name: uses[name] for name in specs if uses[name] < domain.cases_per_tool} == {}


def test_every_optional_argument_and_choice_is_expected_somewhere(
    cases: list[EvalCase], specs: dict[str, ToolSpec]
) -> None:
    given = {(call.name, name) for _, call in gold_calls(cases) for name in call.arguments}
    assert {(spec.name, name) for spec in specs.values() for name in spec.parameters["properties"]} <= given
    values = {
        (name, item)
        for _, call in gold_calls(cases)
        for name, value in call.arguments.items()
        for item in (value if isinstance(value, list) else [value])
        if isinstance(item, str)
    }
    choices = {
        (name, choice)
        for spec in specs.values()
        for name, schema in spec.parameters["properties"].items()
        for choice in schema.get("items", schema).get("enum", ())
        if choice != schema.get("default")  # what is left out hardly ever is asked for
    }
    assert choices <= values


def test_ids_and_requests_are_unique(cases: list[EvalCase]) -> None:
    assert max(Counter(case.id for case in cases).values()) == 1
    assert max(Counter(normalised(request_of(case)) for case in cases).values()) == 1


def test_gold_calls_satisfy_their_schemas(cases: list[EvalCase], verifier: Verifier) -> None:
    answers = [(case, answer) for case in cases for answer in plain_answers(case)]
    answers += [(case, [call]) for case in cases for call in calls_in(case.messages)]
    checks = [(case.id, verifier.check_schema(answer)) for case, answer in answers]
    assert [f"{name}: {check.detail}" for name, check in checks if not check.ok] == []


def test_gold_answers_score_right(domain: Domain, catalog: Catalog) -> None:
    suite = read_suite(ROOT / "evals" / domain.name / "cases.jsonl", ROOT / "schemas" / f"{domain.name}.json")
    scorer = Scorer(catalog.specs)
    wrong = [
        f"{case.id}: {score.errors}"
        for case in suite.cases
        for calls in plain_answers(case)
        for score in [scorer.score(case, Prediction(id=case.id, text="" if calls else "Which?", calls=tuple(calls)))]
        if not score.correct
    ]
    assert wrong == []


def test_requests_say_what_their_gold_answers_hold(domain: Domain, cases: list[EvalCase], verifier: Verifier) -> None:
    unknown_words = {
        case.id
        for case in cases
        if case.behaviour == "call"
        and not has_history(case)
        and not any(verifier.check_grounding(request_of(case), calls, now_of(case)).ok for calls in plain_answers(case))
    }
    assert unknown_words == domain.unknown_words


def test_the_later_steps_of_a_conversation_use_the_result_of_an_earlier_call(
    domain: Domain, cases: list[EvalCase], verifier: Verifier
) -> None:
    conversations = [case for case in cases if has_history(case)]
    assert len(conversations) >= domain.multi_turn
    for case in conversations:
        assert "multi_turn" in case.tags, case.id
        results = [message for message in case.messages if message.role == "tool"]
        made = [call.id for message in case.messages for call in message.tool_calls]
        assert [result.tool_call_id for result in results] == made, case.id
        spoken = " ".join(message.content for message in case.messages if message.role == "user")
        (calls,) = plain_answers(case)
        leaves = {leaf for call in calls for leaf in strings_and_numbers(call.arguments)}
        known = {leaf for result in results for leaf in strings_and_numbers(json.loads(result.content))}
        assert any(leaf in known and str(leaf) not in spoken for leaf in leaves), case.id
        said = " ".join(message.content for message in case.messages)
        last = max(index for index, message in enumerate(case.messages) if message.role == "user")
        others = calls_in(case.messages[last:])
        check = verifier.check_step_grounding(said, request_of(case), calls, others, now_of(case))
        assert check.ok, f"{case.id}: {check.detail}"


def strings_and_numbers(value: Any) -> Iterator[str | float]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings_and_numbers(inner)
    else:
        yield value


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
                assert all(one != other for one, other in itertools.combinations(value, 2)), case.id


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
        words = normalised(request_of(case))
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


def test_seeds_are_many_and_unique(domain: Domain, seeds: list[SeedRequest]) -> None:
    assert len(seeds) >= domain.seeds
    assert max(Counter(seed.id for seed in seeds).values()) == 1
    assert max(Counter(normalised(seed.text) for seed in seeds).values()) == 1


def test_worked_examples_show_every_tool_and_say_what_they_call(
    domain: Domain, examples: list[WorkedExample], verifier: Verifier
) -> None:
    assert len(examples) >= domain.examples
    shown = Counter(call.name for example in examples if example.category == "simple" for call in example.calls)
    assert min(shown[spec.name] for spec in verifier.catalog.specs) >= 2
    for example in examples:
        if example.calls:
            check = verifier.check_grounding(example.request, example.calls, time_of_context(example.system))
            assert check.ok, f"{example.id}: {check.detail}"


def test_the_facts_of_a_plan_ground_its_calls(domain: Domain, catalog: Catalog, verifier: Verifier) -> None:
    config = load_config(ROOT / "evals" / domain.name / domain.config, "generate", ["num_call_first=300"])
    results = read_results(config.results, catalog)
    for item in make_plan(config, catalog, verifier.validator, verifier.book, [], results):
        request = " then ".join(phrase for facts in item.facts for _, phrase in facts)
        check = verifier.check_grounding(request, item.calls, item.now)
        assert check.ok, (item, check.detail)


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


def test_no_case_shares_wording_with_a_seed_or_an_example(
    cases: list[EvalCase], seeds: list[SeedRequest], examples: list[WorkedExample]
) -> None:
    known = [(seed.id, seed.text) for seed in seeds] + [(example.id, example.request) for example in examples]
    clashes = [
        f"{case.id} and {name}: {text}"
        for case in cases
        for name, text in known
        if share_wording(request_of(case), text)
    ]
    assert clashes == []


def test_the_configuration_reads_the_domains_files(domain: Domain) -> None:
    path = ROOT / "evals" / domain.name / domain.config
    generate, train, evaluate = (load_config(path, "generate"), load_config(path, "train"), load_config(path, "eval"))
    cases, tools = Path(f"evals/{domain.name}/cases.jsonl"), Path(f"schemas/{domain.name}.json")
    assert (generate.tools, generate.decontaminate, evaluate.tools, evaluate.cases) == (tools, (cases,), tools, cases)
    assert generate.seeds == Path(f"data/seeds/{domain.name}.jsonl")
    assert generate.values == Path(f"data/values/{domain.name}.json")
    assert generate.examples == Path(f"data/examples/{domain.name}.jsonl")
    assert train.traces == generate.out / "traces.jsonl"
