"""A project's first files, drafted from nothing but its tool catalogue: config, seeds, values and eval cases.

Every file can be used as it is: the config loads, every drafted call satisfies its tool's schema, and no seed shares
its wording with an eval case. What only the team knows (what their users say, which texts are realistic) is drafted so
that it shows what to write there.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcdistill.config import GenerateConfig
from fcdistill.errors import ConfigError
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.plan.realistic import RealisticTexts
from fcdistill.generation.verification.value_book import ValueBook, ValueEntry
from fcdistill.records import EvalCase, Message, SeedRequest, ToolCall, ToolSpec
from fcdistill.storage import write_json, write_jsonl, write_text
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import members, optional_parameters, resolve_schema
from fcdistill.tools.validation import CallValidator

__all__ = ["DRAFT_TAG", "Project", "draft_project", "write_project"]

DRAFT_TAG = "draft"
"""Marks eval cases whose request is not yet written."""

_SEED = 0
_DEEPEST = 6
_VALUES_EACH = 3
_CALL_FIRST_PER_TOOL = 50
_KIND_SAYING = frozenset({"type", "properties", "items", "prefixItems"})
_SAMPLED_FORMATS = ("date-time", "date", "time")


@dataclass(frozen=True)
class Project:
    """Drafted files, not yet written.

    Attributes:
        config: where the YAML file goes; the others lie beside it.
        config_text: its content.
        seeds: starter requests, one per tool.
        values: the values file: drafted texts by `tool.param`.
        cases: eval cases, each with a request still to be written.
        notes: what could not be drafted, and what to do about it.
    """

    config: Path
    config_text: str
    seeds: tuple[SeedRequest, ...]
    values: Mapping[str, tuple[str, ...]]
    cases: tuple[EvalCase, ...]
    notes: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, Path, Path, Path]:
        """Config, seeds, values, eval cases."""
        return _files(self.config.parent)


def draft_project(tools: Path, catalog: Catalog, out: Path, *, teacher: str, student: str) -> Project:
    """Draft all files of a project.

    Args:
        tools: the catalogue's file, for the config.
        catalog: its content.
        out: the directory that the files and the runs shall lie in.
        teacher: model reference.
        student: model reference.
    """
    values: dict[str, tuple[str, ...]] = {}
    notes = []
    for spec in catalog.specs:
        for path, schema in _free_texts(spec):
            drafted = _texts_for(path, schema)
            if drafted:
                values[path] = tuple(dict.fromkeys((*values.get(path, ()), *drafted)))
            else:
                notes.append(
                    f"{path}: no valid text could be drafted; list some under this key of the values "
                    "file, or as `examples` in the schema, else `fcdistill generate` refuses the catalogue"
                )
    validator = CallValidator(catalog.specs)
    book = ValueBook({path: tuple(map(ValueEntry, texts)) for path, texts in values.items()})
    now = GenerateConfig.model_fields["current_time"].default
    sampler = ArgumentSampler(validator, book, seed=_SEED, now=now)
    cases: list[EvalCase] = []
    seeds: list[SeedRequest] = []
    for spec in catalog.specs:
        try:
            calls = list(_calls(spec, sampler))
            seed_call = sampler.sample(spec, ())
        except ConfigError as error:
            notes.append(f"{spec.name}: no seed and no eval case, since {error.found}")
            continue
        cases += (_call_case(f"{spec.name}-{number}", call) for number, call in enumerate(calls, 1))
        seeds.append(SeedRequest(id=f"seed-{len(seeds) + 1:04d}", text=_seed_text(seed_call), category="simple"))
    cases.append(_no_call_case())
    files = _files(out)
    text = _config_text(
        tools, files, len(catalog.specs), teacher=teacher, student=student, skip_invalid=bool(catalog.left_out)
    )
    return Project(files[0], text, tuple(seeds), values, tuple(cases), tuple(notes))


def write_project(project: Project) -> None:
    """Write the files, all or none.

    Raises:
        ConfigError: one of them exists.
        StorageError: the disk refused.
    """
    there = [str(path) for path in project.files if path.exists() or path.is_symlink()]
    if there:
        raise ConfigError(
            f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'} already",
            required="a place where none of the project's files lies; nothing is overwritten",
            fix="give another --out, or move the file away",
        )
    config, seeds, values, cases = project.files
    write_jsonl(seeds, project.seeds)
    write_json(values, project.values)
    write_jsonl(cases, project.cases)
    write_text(config, project.config_text)


def _files(out: Path) -> tuple[Path, Path, Path, Path]:
    return out / "fcdistill.yaml", out / "seeds.jsonl", out / "values.json", out / "cases.jsonl"


def _free_texts(spec: ToolSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """The places of a tool's arguments that take any text, of which no schema says which are realistic."""
    met: set[tuple[str, int]] = set()  # what a path leads to, by identity: an array may hold itself

    def visit(schema: Any, path: str, *, of_known_kind: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
        if (path, id(schema)) in met or path.count(".") > _DEEPEST:
            return
        met.add((path, id(schema)))
        schema = resolve_schema(schema, spec.parameters)
        if "const" in schema or "enum" in schema or schema.get("examples"):
            return
        of_known_kind = of_known_kind or bool(_KIND_SAYING & schema.keys())
        for keyword in ("allOf", "anyOf", "oneOf"):
            for branch in schema.get(keyword, ()):
                yield from visit(branch, path, of_known_kind=of_known_kind)
        for name, inner in (
            members(schema, spec.parameters).items() if "properties" in schema or "type" in schema else ()
        ):
            yield from visit(inner, f"{path}.{name}")
        items = schema.get("items", ())
        for inner in (*schema.get("prefixItems", ()), *(items if isinstance(items, list | tuple) else [items])):
            yield from visit(inner, path)
        if _is_free_text(schema) and not (of_known_kind and "type" not in schema):
            yield path, schema

    yield from visit(spec.parameters, spec.name)


def _is_free_text(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    untyped = kind is None and not schema.keys() & {"anyOf", "oneOf"}
    return ("string" in kinds or untyped) and schema.get("format") not in _SAMPLED_FORMATS


def _texts_for(path: str, schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Some texts that satisfy the schema, named for the parameter where that is possible."""
    noun = path.rpartition(".")[2].replace("_", " ")
    least = int(schema.get("minLength", 0))
    texts = RealisticTexts(_SEED)
    drawn = dict.fromkeys(texts.draw(noun, schema) for _ in range(2 * _VALUES_EACH))
    candidates = [
        *(text for text in drawn if text is not None),
        *(f"{which} {noun}".ljust(least, "x") for which in ("first", "second", "third")),
        *(letter * max(1, least) for letter in "abcABC123"),
    ]
    # Named like the tool, of which a warning then speaks.
    probe = ToolSpec(name=path.partition(".")[0], parameters={"type": "object", "properties": {"value": dict(schema)}})
    validator = CallValidator([probe])
    valid = (
        text for text in candidates if not validator.check_call(ToolCall(name=probe.name, arguments={"value": text}))
    )
    return tuple(text for _, text in zip(range(_VALUES_EACH), valid, strict=False))


def _calls(spec: ToolSpec, sampler: ArgumentSampler) -> Iterator[ToolCall]:
    """A call with the required arguments alone and, of a tool that has optional ones, a call with one of them."""
    plain = sampler.sample(spec, ())
    yield plain
    optional = optional_parameters(spec)
    if optional:
        fuller = sampler.sample(spec, (random.Random(spec.name).choice(optional),))
        if fuller != plain:
            yield fuller


def _call_case(identity: str, call: ToolCall) -> EvalCase:
    return EvalCase(
        id=identity,
        messages=(Message(role="user", content=f"<Write here what a user says who wants this: {_spoken(call)}>"),),
        behaviour="call",
        expected=((call,),),
        category="simple",
        tags=(DRAFT_TAG,),
    )


def _no_call_case() -> EvalCase:
    return EvalCase(
        id="no-call-1",
        messages=(Message(role="user", content="<Write here what users ask although none of the tools does it>"),),
        behaviour="no_call",
        expected=((),),
        category="irrelevance",
        tags=(DRAFT_TAG,),
    )


def _seed_text(call: ToolCall) -> str:
    name = call.name.replace("_", " ").replace("-", " ")
    said = ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in call.arguments.items())
    return f"{name}: {said}" if said else name


def _spoken(call: ToolCall) -> str:
    said = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in call.arguments.items())
    return f"{call.name}({said})"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key.replace('_', ' ')} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " and ".join(map(_plain, value))
    return value.replace("_", " ") if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _config_text(
    tools: Path, files: Sequence[Path], num_tools: int, *, teacher: str, student: str, skip_invalid: bool
) -> str:
    config, seeds, values, cases = files
    runs = config.parent / "runs"
    skipping = "\n  skip_invalid: true # tools that can't be used are left out" if skip_invalid else ""

    def quoted(value: object) -> str:
        return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a YAML string

    return f"""\
# One section per stage; `fcdistill schemas config` lists all fields. Paths start at the current directory.

x-teacher: &teacher {quoted(teacher)} # hub id, local directory, .gguf file or a name from `fcdistill models list`
x-student: &student {quoted(student)}

# fcdistill generate {config}
generate:
  tools: {quoted(tools)}{skipping}
  seeds: {quoted(seeds)} # requests as your users write them; replace the drafted ones, 50 and more are worth it
  values: {quoted(values)} # realistic texts for arguments that take any text; replace the drafted ones
  decontaminate: [{quoted(cases)}] # what an eval case says is not trained on
  out: {quoted(runs / "traces")}
  teacher: {{model: *teacher}}
  seed: 0
  num_call_first: {max(200, _CALL_FIRST_PER_TOOL * num_tools)} # calls are sampled, the teacher writes their requests
  no_call_fraction: 0.2 # requests that no tool serves, or that lack a required value
  removed_tools_fraction: 0.0 # more than 0 where tools_in_prompt is full or compact: prompts that lack the tool

# fcdistill train {config}
train:
  traces: {quoted(runs / "traces" / "traces.jsonl")}
  out: {quoted(runs / "student")}
  student: {{model: *student}}
  tools_in_prompt: none # the tools go into the weights; full or compact where the catalogue changes
  tuning: {{method: lora, lora_rank: 32, lora_alpha: 64}}
  # Cross-entropy on the verified calls. To follow the teacher's distribution too:
  # teacher: *teacher
  # objective: {{kd_weight: 1.0}}
  epochs: 2
  examples_per_step: 8
  examples_per_pack: 8
  learning_rate: 0.002
  seed: 0

# fcdistill eval {config}
eval:
  cases: {quoted(cases)} # gold cases; write the request of each, and more of them
  tools: {quoted(tools)}{skipping}
  out: {quoted(runs / "eval")}
  model: {{model: {quoted(runs / "student")}}}
"""
