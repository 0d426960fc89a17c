"""The bad-input table: how `generate`, `adapt`, `cache`, `train` and `eval` can be misused, and what they answer.

Every row runs the whole command on a project that works but for one thing. Whatever it is: the exit code tells usage
from infrastructure, the message says what was found, what is required and how to fix it, there is no traceback, and
nothing half made is left behind.
"""

import errno
import fcntl
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.cli.projects import files_below, invoke, json_lines, run_cli, write_project

Prepare = Callable[[Path, pytest.MonkeyPatch], object]


@dataclass(frozen=True)
class Misuse:
    """A row of the table.

    Attributes:
        id: what is wrong.
        sets: values of `--set`; `{models}` is the directory of the tiny models.
        says: fragments of the message, in any order.
        files: files of the project that are replaced, or removed (None).
        arguments: the arguments, where they are not the config file and `sets`.
        prepare: changes the project or the machine; what it returns lives as long as the command runs.
        code: the exit code.
        leaves: files that may be there afterwards, because they are finished work or hold it.
    """

    id: str
    says: tuple[str, ...]
    sets: tuple[str, ...] = ()
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    arguments: tuple[str, ...] | None = None
    prepare: Prepare | None = None
    code: int = 2
    leaves: tuple[str, ...] = ()


def parameters(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def tools_json(**changes: Any) -> str:
    """A catalogue whose first tool is changed."""
    light = {"name": "set_light", "parameters": parameters(room={"type": "string"})}
    return json.dumps([light | changes, {"name": "set_timer", "parameters": parameters(minutes={"type": "integer"})}])


BAD_FIRST = tools_json(function="set_light")
NOT_ENFORCED = tools_json(parameters=parameters(room={"type": "string", "not": {"const": "attic"}}))


def case(**changes: Any) -> dict[str, Any]:
    call = {"name": "set_timer", "arguments": {"minutes": 2}}
    messages = [{"role": "user", "content": "2 minutes"}]
    good = {"id": "c1", "messages": messages, "behaviour": "call", "expected": [[call]], "category": "simple"}
    return good | changes


def cases(**changes: Any) -> dict[str, str]:
    return {"cases.jsonl": json_lines([case(**changes)])}


def calling(name: str, **arguments: Any) -> list[Any]:
    return [[{"name": name, "arguments": arguments}]]


def run_before(command: str) -> Prepare:
    """Another run of the command has finished in the same output directory."""

    def prepare(*_: object) -> None:
        assert invoke(command, "config.yaml") == 0

    return prepare


def locked(out: str) -> Prepare:
    """Another process works in the output directory."""

    def prepare(directory: Path, _: pytest.MonkeyPatch) -> object:
        (directory / out).mkdir(parents=True)
        lock = (directory / out / ".lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    return prepare


def file_at(out: str) -> Prepare:
    """A file lies where the output directory should be."""

    def prepare(directory: Path, _: pytest.MonkeyPatch) -> None:
        (directory / out).parent.mkdir(parents=True, exist_ok=True)
        (directory / out).write_text("mine")

    return prepare


def wrong_manifest(out: str) -> Prepare:
    """The output directory holds a manifest of something else."""

    def prepare(directory: Path, _: pytest.MonkeyPatch) -> None:
        (directory / out).mkdir(parents=True)
        (directory / out / "manifest.json").write_text('{"name": "my app"}')

    return prepare


def disk_full(_: Path, patch: pytest.MonkeyPatch) -> None:
    """The disk refuses every durable write."""
    patch.setattr(os, "fsync", _refuse(errno.ENOSPC))


def no_permission(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "mkdir", _refuse(errno.EACCES))


def _refuse(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def no_cuda(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: False)


def no_proxy(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("NO_PROXY", "127.0.0.1")


def other_traces_cached(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """A cache is finished, then the traces file holds others."""
    run_before("cache")(directory, patch)
    (directory / "traces.jsonl").write_text(json_lines([trace()]))


def shards_lost(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """A finished cache has lost its shards, and most of its traces are no longer at hand."""
    run_before("cache")(directory, patch)
    for shard in (directory / "runs/cache").glob("*.parquet"):
        shard.unlink()
    first, *_ = (directory / "traces.jsonl").read_text().splitlines(keepends=True)
    (directory / "traces.jsonl").write_text(first)


def trace(**changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    meta = {"source": "import", "category": "irrelevance", "plan_cell": "x", "teacher": {"model": "by hand"}}
    return {"id": "t1", "messages": messages, "tools": [], "split_group": "g", "meta": meta} | changes


NOWHERE = ("model ./nowhere: no such directory or file", "an existing path", "here /", "check the path")
OFFLINE = ("'org/tiny' is no local directory and could not be fetched", "a reachable hub", "run it again")
FIELDS = "the fields and values that `fcdistill schemas config` lists"

CONFIG_ROWS = {
    command: [
        Misuse("no config file", ("nope.yaml does not exist", "a YAML file", "check the path"), arguments=("nope.yaml",)),
        Misuse("config is a directory", (". does not exist or is no file", "a YAML file"), arguments=(".",)),
        Misuse("broken YAML", ("config config.yaml is not valid YAML", 'in "config.yaml", line 1', "correct the file"), files={"config.yaml": f"{command}: ["}),
        Misuse("config is not UTF-8", ("is not valid YAML: 'utf-8' codec can't decode", "YAML, UTF-8"), files={"config.yaml": b"eval: \xff"}),
        Misuse("empty config", ("config config.yaml is not a mapping", "sections adapt, eval, generate, train"), files={"config.yaml": ""}),
        Misuse("no section", (f"has no section '{command}'", "add it"), files={"config.yaml": "x-shared: 1"}),
        Misuse("misspelt section", ("unknown section 'generaet'", "Did you mean 'generate'?"), files={"config.yaml": "generaet: {}"}),
        Misuse("section is no mapping", (f"section {command}:", "must be a mapping of fields (found 3)"), files={"config.yaml": f"{command}: 3"}),
        Misuse("key twice", ("key 'out' occurs twice", "line 3"), files={"config.yaml": f"{command}:\n  out: a\n  out: b\n"}),
        Misuse("misspelt field", ("ouut: unknown field. Did you mean 'out'?", FIELDS), sets=("ouut=x",)),
        Misuse("required field missing", ("out: required and not given", "correct the named fields"), files={"config.yaml": f"{command}: {{}}"}),
        Misuse("wrong type", ("out: must be a path (found 5)", FIELDS), sets=("out=5",)),
        Misuse("--set without a value", ("--set 'seed' names no field and value", "--set field=value", "for example --set seed=1"), sets=("seed",)),
        Misuse("--set with broken YAML", ("--set 'seed=['", "a value in YAML", "quote it"), sets=("seed=[",)),
        Misuse("--set below a value", ("'deep' lies below 'runs/", "which is no mapping", "set the whole mapping"), sets=("out.deep=1",)),
    ]
    for command in ("generate", "adapt", "train", "eval")
}  # fmt: skip


def without_ray(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "ray", None)


def with_ray_at(address: str) -> Prepare:
    def prepare(_: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setitem(sys.modules, "ray", ModuleType("ray"))  # nothing can be asked of it
        patch.setenv("RAY_ADDRESS", address)

    return prepare


GENERATE_ROWS = [
    Misuse("constrained script", ("constrained works with backend local only, not with scripted",), ("constrained=true",)),
    Misuse("constrained tool that no grammar enforces", ("tool 'set_light', /properties/room: not is not enforced",), ("constrained=true", "teacher=no-such-model"), {"tools.json": NOT_ENFORCED}),
    Misuse("seed is text", ("seed: Input should be a valid integer (found 'one')",), ("seed=one",)),
    Misuse("fraction out of range", ("no_call_fraction: Input should be less than or equal to 0.5 (found 0.7)",), ("no_call_fraction=0.7",)),
    Misuse("unknown backend", ("teacher: Input tag 'openai'", "'local', 'openai_http', 'scripted'"), ("teacher={backend: openai, model: x}",)),
    Misuse("no catalogue", ("tool catalogue tools.json does not exist", "an existing file", "check the path"), files={"tools.json": None}),
    Misuse("catalogue is broken JSON", ("tool catalogue tools.json is not valid JSON (line 2)", "strict JSON", "correct the file"), files={"tools.json": '[\n{"name": }]'}),
    Misuse("catalogue holds no tool", ("there is no tool", "at least one tool"), files={"tools.json": "[]"}),
    Misuse("catalogue of an unknown layout", ("holds a string, in no known layout", "OpenAI tools", "MCP tools/list"), files={"tools.json": '"set_light"'}),
    Misuse("invalid JSON Schema", ("the parameters of tool 'set_light' can't be used", "/properties/room/type", "correct the schema at the named place"), files={"tools.json": tools_json(parameters=parameters(room={"type": "text"}))}),
    Misuse("remote $ref", ("set_light", "https://example.com/room.json", "refers only to itself"), files={"tools.json": tools_json(parameters=parameters(room={"$ref": "https://example.com/room.json"}))}),
    Misuse("duplicate tool", ("two tools are called 'set_timer'", "unique names", "rename one"), files={"tools.json": tools_json(name="set_timer")}),
    Misuse("uncallable tool name", ("tool 1 ('dämpfen'): the name can't be called", "letters, digits", "rename the tool"), files={"tools.json": tools_json(name="dämpfen")}),
    Misuse("functions that can't be imported", ("module 'no_such_module' of no_such_module:dim can't be imported", "ModuleNotFoundError", "check that `python -c 'import no_such_module'` works"), ("tools='no_such_module:dim'",)),
    Misuse("no seeds file", ("seeds file seeds.jsonl does not exist", "check the path"), files={"seeds.jsonl": None}),
    Misuse("broken line of seeds", ("seeds file seeds.jsonl, line 2: Expecting", "one SeedRequest record a line", "correct that line"), files={"seeds.jsonl": json_lines([{"id": "a", "text": "b"}]) + '{"id": \n'}),
    Misuse("seed with other fields", ("line 1: text: required and not given; request: unknown field", "SeedRequest"), files={"seeds.jsonl": json_lines([{"id": "a", "request": "b"}])}),
    Misuse("two seeds of one id", ("seeds file seeds.jsonl holds id 'a' twice", "unique ids"), files={"seeds.jsonl": json_lines([{"id": "a", "text": "b"}, {"id": "a", "text": "c"}])}),
    Misuse("seeds are no text", ("seeds file seeds.jsonl, line 1: byte 0 is not UTF-8",), files={"seeds.jsonl": b"\xff\xfe{}\n"}),
    Misuse("no values file", ("values file values.json does not exist",), files={"values.json": None}),
    Misuse("values of an unknown parameter", ("'set_light.rom' names no parameter of the catalogue", "name one of set_light.room"), files={"values.json": '{"set_light.rom": ["hall"]}'}),
    Misuse("no examples file", ("examples file examples.jsonl does not exist",), files={"examples.jsonl": None}),
    Misuse("example against its schema", ("examples file examples.jsonl, example e: set_timer/minutes", "calls that satisfy the catalogue", "correct the example"), files={"examples.jsonl": json_lines([{"id": "e", "request": "x", "category": "simple", "calls": calling("set_timer", minutes="ten")[0]}])}),
    Misuse("example calls an unknown tool", ("example e: set_lihgt", "did you mean set_light?"), files={"examples.jsonl": json_lines([{"id": "e", "request": "x", "category": "simple", "calls": calling("set_lihgt", room="hall")[0]}])}),
    Misuse("no eval cases to keep apart", ("eval cases none.jsonl does not exist",), ("decontaminate=[none.jsonl]",)),
    Misuse("nothing to generate", ("there is nothing to generate", "num_call_first above 0, or a seeds file"), ("seeds=null",)),
    Misuse("results of a tool that is not there", ("results file results.json: the entry 'fly' is unknown", "tools are: "), ("results=results.json",), files={"results.json": '{"fly": {}}'}),
    Misuse("empty seeds and nothing else planned", ("there is nothing to generate",), files={"seeds.jsonl": ""}),
    Misuse("arguments that can't be sampled", ("no valid arguments found for tool 'set_light'", "failed at /floor", "list some in the values file under the key 'set_light.floor'"), ("num_call_first=4",), {"tools.json": tools_json(parameters=parameters(floor={"type": "integer", "minimum": 2, "maximum": 9, "not": {"type": "integer"}})), "examples.jsonl": "", "values.json": "{}"}),
    Misuse("texts that nothing lists", ("parameter set_light.room takes any text", "some values for it", "list them in the values file under the key 'set_light.room'"), ("num_call_first=4", "values=null")),
    Misuse("no script", ("script answers.jsonl does not exist",), files={"answers.jsonl": None}),
    Misuse("script answers in two ways", ("answers 'hi' in two ways", "one answer per request"), files={"answers.jsonl": json_lines([{"request": "hi", "text": "a"}, {"request": "hi", "text": "b"}])}),
    Misuse("teacher does not exist", NOWHERE, ("teacher=./nowhere",)),
    Misuse("teacher is no reference", ("'?!' is no model reference", "`fcdistill models list`"), ("teacher='?!'",)),
    Misuse("teacher can't be fetched", OFFLINE, ("teacher=org/tiny",), code=3),
    Misuse("teacher is corrupt", ("model {models}/cut_short can't be loaded", "intact weights", "restore or replace the model's files"), ("teacher={{model: '{models}/cut_short', device: cpu}}",)),
    Misuse("unknown device", ("device 'gpu': no such device", "auto, cpu, cuda, cuda:N or mps", "use auto"), ("teacher={{model: '{models}/student', device: gpu}}",)),
    Misuse("rounds of a scripted teacher", ("rounds is 2, but teacher.backend is scripted, and only a model that runs here can learn", "set rounds to 1, or name a local teacher"), ("rounds=2",)),
    Misuse("rounds without questions", ("rounds is 2, but there are no requests for the adapted teacher to answer", "give seeds, or set blind_answers to true or rounds to 1"), ("rounds=2", "seeds=null", "teacher={{model: '{models}/student'}}")),
    Misuse("no round", ("rounds: Input should be greater than or equal to 1 (found 0)",), ("rounds=0",)),
    Misuse("judge without work", ("judge is never asked: set num_votes above 1, blind_answers or judge_grounding",), ("judge={backend: scripted, answers: answers.jsonl}",)),
    Misuse("grounding without a judge", ("judge_grounding needs a judge",), ("judge_grounding=true",)),
    Misuse("votes that are all the same", ("num_votes above 1 needs a sampling_temperature above 0",), ("num_votes=3", "sampling_temperature=0")),
    Misuse("judge does not exist", NOWHERE, ("judge=./nowhere", "num_votes=3")),
    Misuse("executor is no reference", ("executor: must be module:function, for example tools:run",), ("executor='run calls'",)),
    Misuse("executor of no module", ("executor: module 'no_such_module' of no_such_module:run can't be imported", "check that `python -c 'import no_such_module'` works"), ("executor='no_such_module:run'",)),
    Misuse("executor is no function", ("executor: json:__doc__ is str", "a function"), ("executor='json:__doc__'",)),
    Misuse("similarity above 1", ("near_duplicate_jaccard: Input should be less than or equal to 1 (found 2)",), ("near_duplicate_jaccard=2",)),
    Misuse("out is a file", ("output directory runs/traces is a file", "choose another output directory"), prepare=file_at("runs/traces")),
    Misuse("out lies below a file", ("could not create tools.json/traces: Not a directory",), ("out=tools.json/traces",), code=3),
    Misuse("no permission", ("could not create runs/traces: Permission denied", "permission and free disk space"), prepare=no_permission, code=3),
    Misuse("disk full", ("could not write runs/traces/manifest.json: No space left on device", "run the same command again; finished work is kept"), leaves=("runs/traces/.lock",), prepare=disk_full, code=3),
    Misuse("out is locked", ("another process is working in runs/traces", "one run per output directory", "wait for it"), prepare=locked("runs/traces"), code=3),
    Misuse("out holds another config", ("runs/traces holds a run with another configuration", "attempts: was 2, is 3", "choose another output directory, or delete this one"), ("attempts=3",), prepare=run_before("generate")),
    Misuse("out holds another stage", ("runs/eval holds a run of `fcdistill eval`", "an output directory of its own for each stage, here generate"), ("out=runs/eval",), prepare=run_before("eval")),
    Misuse("rounds of one shard", ("shard is 1/2, but rounds is 2, and the teacher can't learn before all shards are done", "set rounds to 1 for the shards; the generation without shard, with rounds 2, then takes them up"), ("shard=1/2", "rounds=2")),
    Misuse("no such shard", ("shard: must be i/n with i from 1 to n, for example 1/4",), ("shard=3/2",)),
    Misuse("--rounds and --set that disagree", ("--rounds 2 and --set 'rounds=3' disagree", "one value of rounds", "leave one of them away"), ("rounds=3",), arguments=("config.yaml", "--rounds", "2")),
    Misuse("--shard and --set that disagree", ("--shard 1/2 and --set 'shard=2/2' disagree",), ("shard=2/2",), arguments=("config.yaml", "--shard", "1/2")),
    Misuse("--shard of a config that has rounds", ("config config.yaml and the given options, section generate:", "shard is 1/2, but rounds is 2"), ("rounds=2",), arguments=("config.yaml", "--shard", "1/2")),
    Misuse("ray and one shard", ("shard is 1/2, but ray is 2, and Ray works at all shards: unset one",), ("shard=1/2", "ray=2")),
    Misuse("no shard for ray", ("ray: Input should be greater than or equal to 1 (found 0)",), ("ray=0",)),
    Misuse("ray is not installed", ("the package ray can't be imported", "pip install 'fcdistill[ray]', or run the shards yourself with --shard i/n"), ("ray=2",), prepare=without_ray),
    Misuse("no cluster of ray", ("no Ray cluster answers at RAY_ADDRESS 127.0.0.1:1: ", "host:port of a running cluster's head", "unset it to work on this machine"), ("ray=2",), prepare=with_ray_at("127.0.0.1:1"), code=3),
    Misuse("no server for clients of ray", ("no Ray cluster answers at RAY_ADDRESS ray://127.0.0.1:1: ",), ("ray=2",), prepare=with_ray_at("ray://127.0.0.1:1"), code=3),
    Misuse("address of ray without a port", ("RAY_ADDRESS is 'head', which names no host and port", "ray://host:port of its server for clients"), ("ray=2",), prepare=with_ray_at("head")),
    Misuse("out holds a foreign manifest", ("manifest runs/traces/manifest.json is not one", "choose another output directory"), prepare=wrong_manifest("runs/traces"), leaves=("runs/traces/.lock",)),
    Misuse("all candidates are rejected", ("no trace was kept of 6 that were planned", "read the reasons in runs/traces/rejects.jsonl"), ("examples=null",), {"answers.jsonl": json_lines([{"request": "x", "text": "y"}])}, code=3, leaves=("runs/traces/*",)),
]  # fmt: skip

LAYERS = "student={{init: from_teacher_layers, model: '{models}/student', "
KD = "objective.kd_weight=1.0"
CACHED = "signal=cached"
SERVED = (
    CACHED,
    "teacher=null",
    "served_teacher={{base_url: 'http://127.0.0.1:9/v1', model: big, tokenizer: '{models}/teacher', api_key_env: null, max_retries: 0}}",
)
TRAIN_ROWS = [
    Misuse("epochs is text", ("epochs: Input should be a valid number (found 'three')",), ("epochs=three",)),
    Misuse("learning rate 0", ("learning_rate: Input should be greater than 0 (found 0)",), ("learning_rate=0",)),
    Misuse("misspelt field of a subsection", ("tuning.lora_rnk: unknown field. Did you mean 'lora_rank'?",), ("tuning.lora_rnk=4",)),
    Misuse("unknown tuning", ("tuning: Input tag 'qlora'", "'lora', 'full'"), ("tuning.method=qlora",)),
    Misuse("rank of a full tuning", ("tuning.lora_rank: unknown field. Allowed: method.",), ("tuning={method: full, lora_rank: 4}",)),
    Misuse("all weights are 0", ("objective: all weights are 0", "must be positive"), ("objective.ce_weight=0",)),
    Misuse("kd_weight without a teacher", ("objective.kd_weight or objective.hidden_weight is set but teacher is not",), (KD, "teacher=null")),
    Misuse("negative weight", ("objective.kd_weight: Input should be greater than or equal to 0 (found -1.0)",), ("objective.kd_weight=-1.0",)),
    Misuse("parameter of another divergence", ("objective: jsd_beta 0.3 is set but kd_divergence is tvd", "set kd_divergence to jsd"), (KD, "objective.kd_divergence=tvd", "objective.jsd_beta=0.3")),
    Misuse("packs that don't divide a step", ("examples_per_pack 3 does not divide examples_per_step 4",), ("examples_per_pack=3",)),
    Misuse("augmentation of tools that no prompt shows", ("augmentation changes the tools that a prompt shows, but tools_in_prompt is none", "set it to full or compact"), ("augmentation.shuffle_tools=true", "tools_in_prompt=none")),
    Misuse("augmentation of cached signals", ("augmentation draws other texts in every epoch, but signal is cached", "set signal to online"), (CACHED, KD, "augmentation.shuffle_tools=true")),
    Misuse("distractors without a catalogue", ("augmentation: num_distractors is 2 but distractor_catalogue is not given",), ("augmentation.num_distractors=2",)),
    Misuse("no distractor catalogue", ("tool catalogue nope.json does not exist",), ("augmentation={distractor_catalogue: nope.json, num_distractors: 1}",)),
    Misuse("a distractor that can't be used", ("bad.json, tool 1: unknown key 'name' beside function",), ("augmentation={distractor_catalogue: bad.json, num_distractors: 1}",), {"bad.json": BAD_FIRST}),
    Misuse("distractors without the one that can't be used", ("of 1 tools in bad.json the traces lack 0",), ("augmentation={distractor_catalogue: bad.json, num_distractors: 1, skip_invalid: true}",), {"bad.json": BAD_FIRST}),
    Misuse("distractors that the traces have", ("augmentation.num_distractors is 1, but of 2 tools in tools.json the traces lack 0", "foreign to the traces"), ("augmentation={distractor_catalogue: tools.json, num_distractors: 1}",)),
    Misuse("both ways to cut", ("give exactly one of keep_every and keep_layers",), (LAYERS + "keep_every: 2, keep_layers: [0]}}",)),
    Misuse("embeddings in the layer map", ("layer_map pair [0, 1]: indices start at 1, since 0 is the embeddings",), ("objective={hidden_weight: 1.0, layer_map: [[0, 1]]}",)),
    Misuse("no traces file", ("traces traces.jsonl does not exist", "check the path"), files={"traces.jsonl": None}),
    Misuse("traces is a directory", ("traces . is a directory", "name the file inside it"), ("traces=.",)),
    Misuse("no trace in the file", ("the traces file holds no trace", "at least one trace", "generate some"), files={"traces.jsonl": "\n"}),
    Misuse("broken line of traces", ("traces traces.jsonl, line 2: Expecting", "one Trace record a line"), files={"traces.jsonl": json_lines([trace()]) + "{\n"}),
    Misuse("key twice in a trace", ("line 1: key 'id' occurs more than once in one object",), files={"traces.jsonl": '{"id": "a", "id": "b"}\n'}),
    Misuse("eval cases for traces", ("line 1: ", "behaviour: unknown field", "Trace record"), ("traces=cases.jsonl",)),
    Misuse("trace that ends with the user", ("the last message has role 'user'; a trace ends with the assistant",), files={"traces.jsonl": json_lines([trace(messages=trace()["messages"][:1] * 2)])}),
    Misuse("two traces of one id", ("holds id 't1' twice",), files={"traces.jsonl": json_lines([trace(), trace()])}),
    Misuse("all traces are too long", ("none of 8 traces has at most max_example_tokens 16 tokens", "the shortest has", "raise max_example_tokens"), ("max_example_tokens=16",)),
    Misuse("one split group", ("the traces have a single split group", "set held_out_fraction to 0"), ("held_out_fraction=0.5",), {"traces.jsonl": json_lines([trace()])}),
    Misuse("student does not exist", NOWHERE, ("student.model=./nowhere",)),
    Misuse("student can't be fetched", OFFLINE, ("student.model=org/tiny",), code=3),
    Misuse("student directory holds no model", ("no_model holds no model: neither config.json nor adapter_config.json",), ("student.model={models}/no_model",)),
    Misuse("student is corrupt", ("cut_short can't be loaded: ", "intact weights"), ("student.model={models}/cut_short",)),
    Misuse("student's config.json is broken", ("no_config can't be loaded", "config.json"), ("student.model={models}/no_config",)),
    Misuse("student without a tokenizer", ("no_tokenizer has no tokenizer", "copy the tokenizer files"), ("student.model={models}/no_tokenizer",)),
    Misuse("pickled weights", ("pickled has no *.safetensors file", "pickled .bin weights are never loaded", "convert the weights"), ("student.model={models}/pickled",)),
    Misuse("adapter without its base", ("model {models}/deleted: no such directory or file", "the base of adapter {models}/orphan is missing"), ("student.model={models}/orphan",)),
    Misuse("broken gguf", ("GGUF file {models}/broken.gguf can't be converted", "an intact GGUF file"), ("student.model={models}/broken.gguf",)),
    Misuse("teacher does not exist", NOWHERE, (KD, "teacher=./nowhere")),
    Misuse("teacher whose tokens are no bytes", ("tokenizer '{models}/wordpiece' does not show which bytes its tokens write (its decoder is WordPiece)", "a byte-level or SentencePiece tokenizer", "set kd_weight and hidden_weight to 0"), (KD, "teacher={models}/wordpiece")),
    Misuse("teacher whose tokenizer changes text", ("trace 'trace-4': tokenizer '{models}/lowercase' changes the answer", "an answer that both tokenizers keep byte by byte"), (KD, "teacher={models}/lowercase")),
    Misuse("jsd between two tokenizers", ("objective.kd_divergence is jsd, but student {models}/student and teacher {models}/chatml have different tokenizers", "forward_kl: between two tokenizers", "set objective.kd_divergence to forward_kl"), (KD, "objective.kd_divergence=jsd", "teacher={models}/chatml")),
    Misuse("layer map outside the models", ("objective.layer_map: pair [3, 1] lies outside the models", "a student layer in 1..2 and a teacher layer in 1..3", "layer_map: proportional"), ("objective={hidden_weight: 1.0, layer_map: [[3, 1]]}",)),
    Misuse("layers that the model lacks", ("student.keep_layers [0, 7]", "ascending layers in 0..1", "has 2 layers"), (LAYERS + "keep_layers: [0, 7]}}",)),
    Misuse("modules that the model lacks", ("tuning.target_modules: the model has no module 'query'", "'all-linear', or some of", "q_proj"), ("tuning.target_modules=[query]",)),
    Misuse("float16 without CUDA", ("dtype is float16, but there is no CUDA device", "use bfloat16 or float32"), ("dtype=float16",), prepare=no_cuda),
    Misuse("unknown device", ("device 'gpu': no such device", "auto, cpu, cuda, cuda:N or mps"), ("device=gpu",)),
    Misuse("out is a file", ("output directory runs/student is a file",), prepare=file_at("runs/student")),
    Misuse("no permission", ("could not create runs/student: Permission denied",), prepare=no_permission, code=3),
    Misuse("disk full", ("No space left on device", "finished work is kept"), leaves=("runs/student/.lock",), prepare=disk_full, code=3),
    Misuse("out is locked", ("another process is working in runs/student",), prepare=locked("runs/student"), code=3),
    Misuse("out holds another config", ("runs/student holds a run with another configuration", "objective.ce_weight: was 1.0, is 2.0"), ("objective.ce_weight=2.0",), prepare=run_before("train")),
    Misuse("out holds another stage", ("runs/traces holds a run of `fcdistill generate`",), ("out=runs/traces",), prepare=run_before("generate")),
    Misuse("self beside a teacher", ("signal is self, whose teacher is the student without its adapter, but teacher is {models}/teacher", "remove teacher"), (KD, "signal=self")),
    Misuse("self without an adapter", ("signal is self, but tuning.method is full", "set tuning.method to lora"), (KD, "signal=self", "teacher=null", "tuning={method: full}")),
    Misuse("no file of teacher examples", ("teacher_examples file none.jsonl does not exist", "check the path"), (KD, "teacher_examples=none.jsonl")),
    Misuse("teacher example that calls another tool", ("teacher_examples file other.jsonl, example e: set_lihgt", "calls that satisfy the catalogue", "correct the example"), (KD, "teacher_examples=other.jsonl"), {"other.jsonl": json_lines([{"id": "e", "request": "x", "category": "simple", "calls": calling("set_lihgt", room="hall")[0]}])}),
    Misuse("unknown gate", ("objective.kd_gate: Input should be 'off', 'agree' or 'prob' (found 'strict')",), (KD, "objective.kd_gate=strict")),
    Misuse("cached without a cache", ("signal is cached but cache is not given",), (CACHED, KD, "cache=null")),
    Misuse("temperature that is not cached", ("objective.kd_temperature is 3.0, but cache.temperatures are 1.0, 2.0, 4.0: choose one of them",), (CACHED, KD, "objective.kd_temperature=3.0")),
    Misuse("reverse_kl from a cache", ("objective.kd_divergence is reverse_kl, but signal is cached", "it needs the teacher's whole distribution", "set signal to online, or choose another kd_divergence"), (CACHED, KD, "objective.kd_divergence=reverse_kl")),
    Misuse("ranking of one cached token", ("cache.top_k is 1, but objective.kd_divergence is hinge", "at least 2 tokens"), (CACHED, KD, "objective.kd_divergence=hinge", "cache.top_k=1")),
    Misuse("top_k above the vocabulary", ("cache.top_k is 9999, but the vocabulary has 502 tokens",), (CACHED, KD, "cache.top_k=9999")),
    Misuse("cache of another precision", ("runs/cache holds a run with another configuration", "dtype: was 'float32', is 'bfloat16'"), (CACHED, KD, "dtype=bfloat16"), prepare=run_before("cache")),
    Misuse("cache without the aligned layers", ("hidden_layers: was [], is [3]",), (CACHED, "objective={hidden_weight: 1.0, num_layer_pairs: 1}"), prepare=run_before("cache")),
    Misuse("cache of other traces", ("teacher cache runs/cache was made for other traces",), (CACHED, KD), prepare=other_traces_cached),
    Misuse("cache is being written", ("another process is working in runs/cache",), (CACHED, KD), prepare=locked("runs/cache"), code=3),
    Misuse("a server at every step", ("signal is online, but served_teacher is asked once", "set signal to cached"), (KD, *SERVED[1:])),
    Misuse("temperature of a served teacher", ("objective.kd_temperature is 2.0, but a server gives log-probabilities at temperature 1",), (KD, *SERVED, "objective.kd_temperature=2.0")),
    Misuse("server that nobody runs", ("no server can be reached at http://127.0.0.1:9/v1", "start it or correct base_url"), (KD, *SERVED), prepare=no_proxy, code=3),
]  # fmt: skip

ADAPT_ROWS = [
    Misuse("no teacher", ("teacher: Input should be a valid string (found None)",), ("teacher=null",)),
    Misuse("a field of train", ("signal: unknown field. Allowed: chat_template_kwargs, compile_loss,",), ("signal=online",)),
    Misuse("all weights", ("tuning.method: Input should be 'lora' (found 'full')",), ("tuning={method: full}",)),
    Misuse("packs that don't divide a step", ("examples_per_pack 3 does not divide examples_per_step 4",), ("examples_per_pack=3",)),
    Misuse("teacher does not exist", NOWHERE, ("teacher=./nowhere",)),
    Misuse("teacher can't be fetched", OFFLINE, ("teacher=org/tiny",), code=3),
    Misuse("teacher is corrupt", ("cut_short can't be loaded: ", "intact weights"), ("teacher={models}/cut_short",)),
    Misuse("no traces file", ("traces traces.jsonl does not exist", "check the path"), files={"traces.jsonl": None}),
    Misuse("out holds another config", ("runs/teacher holds a run with another configuration", "learning_rate: was 0.001, is 0.5"), ("learning_rate=0.5",), prepare=run_before("adapt")),
    Misuse("out holds a student", ("runs/student holds a run of `fcdistill train`", "an output directory of its own for each stage, here adapt"), ("out=runs/student",), prepare=run_before("train")),
    Misuse("out is locked", ("another process is working in runs/teacher",), prepare=locked("runs/teacher"), code=3),
]  # fmt: skip

CACHE_ROWS = [
    Misuse("no config file", ("nope.yaml does not exist", "a YAML file"), arguments=("nope.yaml",)),
    Misuse("no section", ("has no section 'train'", "add it"), files={"config.yaml": "x-shared: 1"}),
    Misuse("no cache in the section", ("cache is not given", "teacher, and cache with its dir", "add cache"), ("cache=null",)),
    Misuse("no teacher", ("teacher is not given", "add teacher"), ("teacher=null",)),
    Misuse("server without its key", ("the environment variable NO_SUCH_KEY is not set", "api_key_env names"), (*SERVED, "served_teacher.api_key_env=NO_SUCH_KEY")),
    Misuse("server that nobody runs", ("no server can be reached at http://127.0.0.1:9/v1", "start it or correct base_url"), SERVED, prepare=no_proxy, code=3),
    Misuse("likely tokens of an echo", ("cache.top_k is 32, but served_teacher.logprobs is echo", "set cache.top_k to 0"), (*SERVED, "served_teacher.logprobs=echo")),
    Misuse("teacher is the student", ("signal is self: the teacher is the student itself", "train without a cache"), ("signal=self", "teacher=null")),
    Misuse("augmentation", ("augmentation draws other texts in every epoch, but a cache is of fixed texts", "train with signal online"), ("augmentation.rename_probability=0.5",)),
    Misuse("misspelt field", ("cache.topk: unknown field. Did you mean 'top_k'?", FIELDS), ("cache.topk=4",)),
    Misuse("top_k is text", ("cache.top_k: Input should be a valid integer (found 'all')",), ("cache.top_k=all",)),
    Misuse("no temperature", ("cache.temperatures: Tuple should have at least 1 item",), ("cache.temperatures=[]",)),
    Misuse("top_k above the vocabulary", ("cache.top_k is 9999, but the vocabulary has 502 tokens", "at most 502", "lower cache.top_k"), ("cache.top_k=9999",)),
    Misuse("layer that the teacher lacks", ("cache.hidden_layers are 1, 7, but the teacher has no layer 7", "teacher layers in 1..3"), ("cache.hidden_layers=[1, 7]",)),
    Misuse("aligned layer is not kept", ("cache.hidden_layers are 1, but layer 3 is aligned", "or leave it away"), ("cache.hidden_layers=[1]", "objective={hidden_weight: 1.0, num_layer_pairs: 1}")),
    Misuse("no traces file", ("traces traces.jsonl does not exist", "check the path"), files={"traces.jsonl": None}),
    Misuse("all traces are too long", ("none of 8 traces has at most max_example_tokens 16 tokens",), ("max_example_tokens=16",)),
    Misuse("teacher does not exist", NOWHERE, ("teacher=./nowhere",)),
    Misuse("teacher can't be fetched", OFFLINE, ("teacher=org/tiny",), code=3),
    Misuse("teacher is corrupt", ("cut_short can't be loaded: ", "intact weights"), ("teacher={models}/cut_short",)),
    Misuse("dir is a file", ("output directory runs/cache is a file",), prepare=file_at("runs/cache")),
    Misuse("no permission", ("could not create runs/cache: Permission denied",), prepare=no_permission, code=3),
    Misuse("disk full", ("could not write runs/cache/manifest.json: No space left on device", "finished work is kept"), leaves=("runs/cache/.lock",), prepare=disk_full, code=3),
    Misuse("dir is locked", ("another process is working in runs/cache", "wait for it"), prepare=locked("runs/cache"), code=3),
    Misuse("dir holds another stage", ("runs/student holds a run of `fcdistill train`", "an output directory of its own for each stage, here cache"), ("cache.dir=runs/student",), prepare=run_before("train")),
    Misuse("dir holds a foreign manifest", ("manifest runs/cache/manifest.json is not one",), prepare=wrong_manifest("runs/cache")),
    Misuse("another top_k", ("runs/cache holds a run with another configuration", "top_k: was 32, is 16", "choose another output directory, or delete this one"), ("cache.top_k=16",), prepare=run_before("cache")),
    Misuse("other temperatures", ("temperatures: was [1.0, 2.0, 4.0], is [1.0, 3.0]",), ("cache.temperatures=[1.0, 3.0]",), prepare=run_before("cache")),
    Misuse("another teacher", ("model.model: was '{models}/teacher', is '{models}/student'", "model.revision: was "), ("teacher={models}/student",), prepare=run_before("cache")),
    Misuse("other traces", ("teacher cache runs/cache was made for other traces", "1 of 1 traces are not in it, the first is 't1'", "choose another cache.dir, or delete this one"), prepare=other_traces_cached),
    Misuse("lost shards of traces that are gone", ("shards of teacher cache runs/cache are missing or damaged", "of their traces are not among those given", "all traces that the cache was made for"), prepare=shards_lost),
]  # fmt: skip

SUITE = ("--cases", "cases.jsonl", "--tools", "tools.json", "--out", "runs/eval")


def without_llguidance(_: Path, patch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    patch.setattr(importlib.util, "find_spec", lambda name: None if name == "llguidance" else found(name))


EVAL_ROWS = [
    Misuse("constrained predictions", ("decode.constrained has no effect on saved predictions; remove it",), ("decode.constrained=true", "model=null", "predictions=predictions.jsonl")),
    Misuse("--constrained without --model", ("--constrained is given without --model",), arguments=(*SUITE, "--predictions", "predictions.jsonl", "--constrained")),
    Misuse("constrained server", ("constrained works with backend local only: what a server's answers may be is set at the server",), ("decode.constrained=true", "model={backend: openai_http, base_url: 'http://localhost:1', model: m, api_key_env: null}")),
    Misuse("constrained script", ("constrained works with backend local only, not with scripted",), ("decode.constrained=true",)),
    Misuse("config of a script and --constrained", ("config config.yaml and the given options, section eval:", "constrained works with backend local only, not with scripted"), arguments=("config.yaml", "--constrained")),
    Misuse("constrained tool that no grammar enforces", ("tool 'set_light', /properties/room: not is not enforced", "decode without constrained"), arguments=(*SUITE, "--model", "no-such-model", "--constrained"), files={"tools.json": NOT_ENFORCED}),
    Misuse("constrained without llguidance", ("llguidance, which is not installed", "pip install 'fcdistill[constrained]'"), arguments=(*SUITE, "--model", "no-such-model", "--constrained"), prepare=without_llguidance),
    Misuse("limit is text", ("limit: Input should be a valid integer (found 'ten')",), ("limit=ten",)),
    Misuse("limit 0", ("the given options, section eval:", "limit: Input should be greater than or equal to 1 (found 0)"), arguments=(*SUITE, "--predictions", "predictions.jsonl", "--limit", "0")),
    Misuse("unknown style", ("model.tools_in_prompt: Input should be 'full', 'compact' or 'none' (found 'short')",), arguments=(*SUITE, "--model", "m", "--tools-in-prompt", "short")),
    Misuse("repeat of a greedy local model", ("repeat is 3, but a local model with decode.sampling_temperature 0 answers alike each time", "set a sampling_temperature above 0"), arguments=(*SUITE, "--model", "m", "--repeat", "3")),
    Misuse("sampling of saved predictions", ("--sampling-temperature is given without --model", "give --model"), arguments=(*SUITE, "--predictions", "predictions.jsonl", "--sampling-temperature", "0.7")),
    Misuse("config of saved predictions and --sampling-temperature", ("--sampling-temperature is given, but the answers are saved predictions", "a model, whose answers it sets", "leave it away"), ("model=null", "predictions=predictions.jsonl"), arguments=("config.yaml", "--sampling-temperature", "0.7")),
    Misuse("flag and --set that disagree", ("--sampling-temperature 0.7 and --set 'decode.sampling_temperature=0' disagree", "one value of decode.sampling_temperature", "leave one of them away"), ("decode.sampling_temperature=0",), arguments=("config.yaml", "--sampling-temperature", "0.7")),
    Misuse("flag and --set of its subsection that disagree", ("--max-drop 0.1 and --set 'gate={{max_drop: 0.2}}' disagree", "one value of gate.max_drop"), ("gate={max_drop: 0.2}",), arguments=("config.yaml", "--max-drop", "0.1")),
    Misuse("switch and --set that disagree", ("--allow-mismatch and --set 'gate.allow_mismatch=false' disagree",), ("gate.allow_mismatch=false",), arguments=("config.yaml", "--allow-mismatch")),
    Misuse("flag of a subsection that --set removes", ("--batch-size 4 and --set 'model=null' disagree", "one value of model.batch_size"), ("model=null", "predictions=predictions.jsonl"), arguments=("config.yaml", "--batch-size", "4")),
    Misuse("flag of a subsection that is none", ("--max-drop 0.1: 'max_drop' lies below 5, which is no mapping", "set the whole mapping"), files={"config.yaml": "eval: {gate: 5}"}, arguments=("config.yaml", "--max-drop", "0.1")),
    Misuse("config and a wrong option", ("config config.yaml and the given options, section eval:", "limit: Input should be greater than or equal to 1 (found 0)"), arguments=("config.yaml", "--limit", "0")),
    Misuse("config of a script and --model", ("config config.yaml and the given options, section eval:", "model.model: unknown field. Allowed: answers, backend."), arguments=("config.yaml", "--model", "x")),
    Misuse("config of a model and --predictions", ("give exactly one of model and predictions",), arguments=("config.yaml", "--predictions", "predictions.jsonl")),
    Misuse("--set without a config", ("--set limit=1 is given without a config file", "give the config file, or the options"), arguments=(*SUITE, "--predictions", "predictions.jsonl", "--set", "limit=1")),
    Misuse("--batch-size without --model", ("--batch-size is given without --model", "give --model"), arguments=(*SUITE, "--predictions", "predictions.jsonl", "--batch-size", "4")),
    Misuse("nothing given", ("out: required and not given",), arguments=()),
    Misuse("no cases and no suite", ("give exactly one of cases and suite",), arguments=("--predictions", "p.jsonl", "--out", "runs/eval")),
    Misuse("neither model nor predictions", ("give exactly one of model and predictions",), arguments=SUITE),
    Misuse("both model and predictions", ("give exactly one of model and predictions",), ("predictions=predictions.jsonl",)),
    Misuse("no cases file", ("cases cases.jsonl does not exist", "check the path"), files={"cases.jsonl": None}),
    Misuse("unknown format of cases", ("cases_format: Input should be 'cases' or 'openai-messages' (found 'sharegpt')",), arguments=(*SUITE, "--predictions", "predictions.jsonl", "--cases-format", "sharegpt")),
    Misuse("format of a suite", ("cases_format belongs to cases: a suite has a format of its own",), arguments=("--suite", "bfcl:multiple", "--cases-format", "openai-messages", "--predictions", "p.jsonl", "--out", "runs/eval")),
    Misuse("gold cases as message rows", ("cases cases.jsonl, row 1: it holds no assistant message, which would be the gold answer", "the gold answer of the assistant"), arguments=(*SUITE, "--predictions", "predictions.jsonl", "--cases-format", "openai-messages")),
    Misuse("no case in the file", ("cases cases.jsonl holds no case", "at least one EvalCase"), files={"cases.jsonl": ""}),
    Misuse("broken line of cases", ("cases cases.jsonl, line 2: Expecting", "one EvalCase record a line"), files={"cases.jsonl": json_lines([case()]) + "[1,\n"}),
    Misuse("misspelt field of a case", ("line 1: behavior: unknown field",), files=cases(behavior="call")),
    Misuse("unknown category", ("line 1: category: Input should be 'simple'", "(found 'easy')"), files=cases(category="easy")),
    Misuse("two cases of one id", ("holds id 'c1' twice",), files={"cases.jsonl": json_lines([case(), case()])}),
    Misuse("cases without tools", ("case 'c1': it holds no tools and no catalogue was given", "tools in the case, or --tools"), ("tools=null",), cases()),
    Misuse("call expected where none is right", ("line 1: ", "behaviour is 'no_call': expected must be [[]]"), files=cases(behaviour="no_call")),
    Misuse("unknown function in expected", ("case 'c1': the expected call", "unknown_function", "did you mean set_timer?"), files=cases(expected=calling("set_timr", minutes=2))),
    Misuse("expected call against its schema", ("case 'c1': the expected call", "breaks its tool's schema: wrong_type", "correct that case"), files=cases(expected=calling("set_timer", minutes="two"))),
    Misuse("expected call lacks an argument", ("breaks its tool's schema: missing_required",), files=cases(expected=calling("set_timer"))),
    Misuse("unknown comparator", ("comparator of 'set_timer.minutes': comparator 'fuzzy' is none of exact, casefold",), files=cases(comparators={"set_timer.minutes": "fuzzy"})),
    Misuse("comparator of an unknown parameter", ("comparator 'set_timer.hours' names no parameter of set_timer (minutes)",), files=cases(comparators={"set_timer.hours": "exact"})),
    Misuse("comparator that never applies", ("expected set_timer.minutes: ", "date"), files=cases(comparators={"set_timer.minutes": "date"})),
    Misuse("comparator of the catalogue that is none", ("tool catalogue tools.json: x-comparator of set_light.room: comparator 'fuzzy' is none of exact",), files={"tools.json": tools_json(parameters=parameters(room={"type": "string", "x-comparator": "fuzzy"}))}),
    Misuse("comparator below a parameter", ("set_light has an x-comparator that does not belong to a parameter",), files={"tools.json": tools_json(parameters=parameters(room={"type": "array", "items": {"type": "string", "x-comparator": "casefold"}}))}),
    Misuse("no catalogue", ("tool catalogue tools.json does not exist",), files={"tools.json": None}),
    Misuse("remote $ref", ("https://example.com/room.json",), files={"tools.json": tools_json(parameters=parameters(room={"$ref": "https://example.com/room.json"}))}),
    Misuse("no predictions file", ("predictions none.jsonl does not exist",), arguments=(*SUITE, "--predictions", "none.jsonl")),
    Misuse("prediction of an unknown case", ("predictions predictions.jsonl: 1 of 1 ids belong to no case, the first is 'zz'", "ids of the suite's cases"), ("model=null", "predictions=predictions.jsonl"), {"predictions.jsonl": json_lines([{"id": "zz", "text": ""}])}),
    Misuse("more predictions than repeat says", ("predictions predictions.jsonl: case 'c2' has an answer number 3, and repeat is 2", "as many answers to each case as repeat says", "--repeat 3"), ("model=null", "predictions=predictions.jsonl", "repeat=2"), {"predictions.jsonl": json_lines([{"id": "c2", "text": ""}] * 3)}),
    Misuse("broken line of predictions", ("predictions predictions.jsonl, line 1: Expecting",), ("model=null", "predictions=predictions.jsonl"), {"predictions.jsonl": "{'id': 'c1'}\n"}),
    Misuse("prediction that says nothing", ("line 1: neither text nor tool_calls is given",), ("model=null", "predictions=predictions.jsonl"), {"predictions.jsonl": json_lines([{"id": "c2"}])}),
    Misuse("two predictions for one case", ("predictions predictions.jsonl: case 'c2' has an answer number 2, and repeat is 1",), ("model=null", "predictions=predictions.jsonl"), {"predictions.jsonl": json_lines([{"id": "c2", "text": ""}] * 2)}),
    Misuse("predictions lack a case", ("1 of 2 cases have no answer and stay unscored; c3: there is no prediction", "add them to the predictions"), ("model=null", "predictions=predictions.jsonl"), {"predictions.jsonl": json_lines([{"id": "c2", "text": ""}])}, code=3, leaves=("runs/eval/*",)),
    Misuse("script lacks answers", ("2 of 2 cases have no answer and stay unscored; c2: the script has no answer to '2 minutes on the clock'", "run the same command again"), files={"answers.jsonl": ""}, code=3, leaves=("runs/eval/*",)),
    Misuse("model does not exist", NOWHERE, arguments=(*SUITE, "--model", "./nowhere")),
    Misuse("model can't be fetched", OFFLINE, arguments=(*SUITE, "--model", "org/tiny"), code=3),
    Misuse("misspelt name of the catalogue", ("could not be fetched", "the catalogue has qwen2.5-coder-0.5b-instruct, smollm2-135m-instruct"), ("model=smollm2-135m",), code=3),
    Misuse("model is a file", ("tools.json is a file", "a directory or a .gguf file"), ("model=./tools.json",)),
    Misuse("model is corrupt", ("cut_short can't be loaded",), ("model={models}/cut_short",)),
    Misuse("training is not finished", ("unfinished is a run directory without a trained model", "run `fcdistill train` or `fcdistill adapt` again: it resumes"), ("model={models}/unfinished",)),
    Misuse("adapter without its base", ("model {models}/deleted: no such directory or file",), ("model={models}/orphan",)),
    Misuse("out is a file", ("output directory runs/eval is a file",), prepare=file_at("runs/eval")),
    Misuse("no permission", ("could not create runs/eval: Permission denied",), prepare=no_permission, code=3),
    Misuse("disk full", ("No space left on device",), leaves=("runs/eval/.lock",), prepare=disk_full, code=3),
    Misuse("out is locked", ("another process is working in runs/eval",), prepare=locked("runs/eval"), code=3),
    Misuse("out holds another model's answers", ("holds a run with another configuration", "model.answers: was 'answers.jsonl', is 'other.jsonl'"), ("model.answers=other.jsonl",), {"other.jsonl": ""}, prepare=run_before("eval")),
    Misuse("cases changed since", ("input cases.jsonl: its content changed",), prepare=lambda directory, patch: (run_before("eval")(directory, patch), (directory / "cases.jsonl").write_text(json_lines([case()])))),
]  # fmt: skip

ROWS = [
    pytest.param(command, row, id=f"{command}: {row.id}")
    for command, own in (
        ("generate", GENERATE_ROWS),
        ("adapt", ADAPT_ROWS),
        ("cache", CACHE_ROWS),
        ("train", TRAIN_ROWS),
        ("eval", EVAL_ROWS),
    )
    for row in CONFIG_ROWS.get(command, []) + own
]


@pytest.mark.parametrize(("command", "row"), ROWS)
def test_misuse_is_explained_and_leaves_nothing_behind(
    command: str,
    row: Misuse,
    tiny_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_project(tmp_path, tiny_models)
    for name, content in row.files.items():
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        alive = row.prepare(tmp_path, patch) if row.prepare else None
        before = files_below(tmp_path)
        arguments = list(row.arguments if row.arguments is not None else ["config.yaml"])
        for change in row.sets:
            arguments += ["--set", change.format(models=tiny_models) if "{models}" in change else change]
        ended = run_cli(capsys, command, *arguments)
    del alive
    assert ended.code == row.code, ended
    assert row.leaves or ended.err.startswith("fcdistill: "), ended
    _, *message = ended.err.partition("fcdistill: ")
    for fragment in ("\nRequired: ", "\nFix: ", *row.says):
        assert fragment.format(models=tiny_models) in "".join(message), ended
    assert "Traceback" not in ended.err and "internal error" not in ended.err, ended
    after = files_below(tmp_path)
    unexpected = [
        name
        for name in after.keys() | before.keys()
        if after.get(name) != before.get(name) and not any(Path(name).match(allowed) for allowed in row.leaves)
    ]
    assert not unexpected, ended
