"""Do the trainers and the service that exported traces are meant for take them? Through the command line.

The worked examples of a domain become traces, and for each a reject that calls the right tool without arguments.
`fcdistill traces export` writes them for TRL and for OpenAI; then TRL's own trainers take one step each with a tiny
model of random weights, and the types of OpenAI's own client judge the fine-tuning file. With an interpreter that has
fcdistill and TRL:

    python evals/studies/export_proof.py
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from fcdistill.errors import DataError, FcdistillError, MissingDependencyError
from fcdistill.prompts.worked_examples import read_examples
from fcdistill.records import Check, FunctionTool, Message, ModelRef, Reject, ToolCall, Trace, TraceMeta, WorkedExample
from fcdistill.storage import write_jsonl
from fcdistill.tools.catalog import Catalog, load_catalog
from fcdistill.tools.validation import CallValidator

__all__ = ["check_finetune_file", "main", "rejects_of", "traces_of"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def main(arguments: Sequence[str]) -> int:
    """Export, train, check, and print what was found; exit code 1 where something was not taken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tools", type=Path, default=Path("schemas/smart_home.json"))
    parser.add_argument("--examples", type=Path, default=Path("data/examples/smart_home.jsonl"))
    parser.add_argument("--tokenizer", default="smollm2-135m-instruct", help="whose chat template renders the rows")
    given = parser.parse_args(arguments)
    catalog = load_catalog(str(given.tools))
    traces = traces_of(read_examples(given.examples, CallValidator(catalog.specs)), catalog)
    with tempfile.TemporaryDirectory(prefix="fcdistill-export-") as name:
        work = Path(name)
        write_jsonl(work / "traces.jsonl", traces)
        write_jsonl(work / "rejects.jsonl", rejects_of(traces))
        proofs: dict[str, Callable[[], str]] = {
            "trl": lambda: _supervised(_export(work, "trl"), work, given.tokenizer, catalog),
            "trl-dpo": lambda: _preferred(
                _export(work, "trl-dpo", "--rejects", str(work / "rejects.jsonl")), work, given.tokenizer, catalog
            ),
            "openai-finetune": lambda: check_finetune_file(_export(work, "openai-finetune")),
        }
        failed = 0
        for layout, prove in proofs.items():
            try:
                print(f"{layout}: {prove()}")
            except (DataError, AssertionError) as error:
                failed += 1
                print(f"{layout}: NOT TAKEN: {error}")
    return int(failed > 0)


def traces_of(examples: Sequence[WorkedExample], catalog: Catalog) -> list[Trace]:
    """A trace for each example."""
    return [_trace(example, catalog.tools) for example in examples]


def rejects_of(traces: Sequence[Trace]) -> list[Reject]:
    """For each trace with calls a candidate with the same prompt, whose first call has no arguments."""
    found = []
    for trace in traces:
        if trace.answer.calls and trace.answer.calls[0].arguments:
            wrong = Message.calling([ToolCall(name=trace.answer.calls[0].name)])
            candidate = trace.model_copy(update={"messages": (*trace.messages[:-1], wrong)})
            found.append(Reject(id=trace.id, check="schema", detail="arguments are missing", candidate=candidate))
    return found


def _trace(example: WorkedExample, tools: tuple[FunctionTool, ...]) -> Trace:
    answer = Message.calling(example.calls) if example.calls else Message(role="assistant", content=example.text)
    system = [Message(role="system", content=example.system)] if example.system else []
    meta = TraceMeta(
        source="import",
        category=example.category,
        plan_cell="example",
        teacher=ModelRef(model="worked example"),
        checks=(Check(name="schema", ok=True),),
    )
    messages = (*system, Message(role="user", content=example.request), answer)
    return Trace(id=example.id, messages=messages, tools=tools, split_group=example.id, meta=meta)


def _export(work: Path, layout: str, *flags: str) -> Path:
    out = work / f"{layout}.jsonl"
    command = [sys.executable, "-m", "fcdistill.cli", "traces", "export", str(work / "traces.jsonl")]
    done = subprocess.run(
        [*command, "--format", layout, "--out", str(out), *flags], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise DataError(f"fcdistill traces export ended with {done.returncode}: {done.stderr.strip()}")
    return out


def _supervised(rows: Path, work: Path, reference: str, catalog: Catalog) -> str:
    """One step of TRL's SFTTrainer; what it was shown, it renders from the columns itself."""
    trl = _require_trl()
    from datasets import load_dataset

    dataset = load_dataset("json", data_files=str(rows), split="train")
    first = json.loads(rows.read_text().splitlines()[0])
    model, tokenizer = _tiny_model(reference)
    settings = trl.SFTConfig(output_dir=str(work / "sft"), max_length=None, loss_type="nll", **_one_step())
    trainer = trl.SFTTrainer(model=model, args=settings, train_dataset=dataset, processing_class=tokenizer)
    text = tokenizer.decode(trainer.train_dataset[0]["input_ids"])
    _require_told(text, first["messages"], catalog)
    loss = trainer.train().training_loss
    return f"{len(dataset)} rows, one step of TRL {trl.__version__}'s SFTTrainer, loss {loss:.3f}; tools are told"


def _preferred(rows: Path, work: Path, reference: str, catalog: Catalog) -> str:
    """One step of TRL's DPOTrainer."""
    trl = _require_trl()
    from datasets import load_dataset

    dataset = load_dataset("json", data_files=str(rows), split="train")
    first = json.loads(rows.read_text().splitlines()[0])
    model, tokenizer = _tiny_model(reference)
    settings = trl.DPOConfig(output_dir=str(work / "dpo"), max_length=None, **_one_step())
    trainer = trl.DPOTrainer(
        model=model,
        ref_model=_tiny_model(reference)[0],
        args=settings,
        train_dataset=dataset,
        processing_class=tokenizer,
    )
    row = trainer.train_dataset[0]
    text = tokenizer.decode([*row["prompt_ids"], *row["chosen_ids"]])
    _require_told(text, [*first["prompt"], *first["chosen"]], catalog)
    rejected = tokenizer.decode(row["rejected_ids"])
    assert '"arguments": {}' in rejected, f"the rejected answer does not arrive: {rejected}"
    loss = trainer.train().training_loss
    return f"{len(dataset)} pairs, one step of TRL {trl.__version__}'s DPOTrainer, loss {loss:.3f}; tools are told"


def _require_told(text: str, messages: Sequence[dict[str, Any]], catalog: Catalog) -> None:
    """All tools, the request and the values of the answer's calls stand in what the model is shown."""
    for spec in catalog.specs:
        assert f'"{spec.name}"' in text, f"tool {spec.name} is not told"
        for name in spec.parameters.get("properties", {}):
            assert f'"{name}"' in text, f"parameter {spec.name}.{name} is not told"
    for message in messages:
        assert message["content"] in text, f"a message is lost: {message['content']}"
        for call in message.get("tool_calls", ()):
            arguments = call["function"]["arguments"]
            assert json.dumps(arguments) in text, f"arguments are lost or were filled up: {arguments}"


def _require_trl() -> Any:
    try:
        import trl
    except ImportError:
        raise MissingDependencyError(
            "the package trl is not installed",
            required="TRL, whose trainers shall take the rows",
            fix="pip install --no-deps trl==1.16.0, or an environment of its own as evals/speed/README.md says",
        ) from None
    trl.__version__ = metadata.version("trl")
    return trl


def _tiny_model(reference: str) -> tuple[Any, Any]:
    """A causal model of two narrow layers, its weights drawn at random, and a real tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from fcdistill.models.loading import load_tokenizer

    tokenizer: Any = load_tokenizer(reference)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, **sizes))
    return model, tokenizer


def _one_step() -> dict[str, Any]:
    return {
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
    }


def check_finetune_file(rows: Path) -> str:
    """Hold a fine-tuning file against the types of OpenAI's client, and the rules that its types can't say.

    Raises:
        DataError: a row breaks them; it names the line.
    """
    from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
    from pydantic import TypeAdapter, ValidationError

    messages, tools = TypeAdapter(ChatCompletionMessageParam), TypeAdapter(list[ChatCompletionFunctionToolParam])
    lines = rows.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        row = json.loads(line)
        try:
            for message in row["messages"]:
                # Iterables are checked as they are read.
                list(messages.validate_python(message, strict=True).get("tool_calls", ()))
            tools.validate_python(row.get("tools", []), strict=True)
        except ValidationError as error:
            raise DataError(f"line {number}: {error}") from None
        problem = _rule_broken(row)
        if problem:
            raise DataError(f"line {number}: {problem}")
    if len(lines) < 10:
        raise DataError(f"{len(lines)} rows", required="10 at least", fix="give more examples")
    return f"{len(lines)} rows, as the types of openai {metadata.version('openai')} and the format's rules demand"


def _rule_broken(row: dict[str, Any]) -> str:
    if row.keys() - {"messages", "tools", "parallel_tool_calls"}:
        return f"unknown fields {sorted(row)}"
    if row["messages"][-1]["role"] != "assistant":
        return "the last message is not the assistant's"
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row.get("tools", [])}
    if any(not _NAME.fullmatch(name) for name in offered):
        return f"a tool's name is not allowed: {sorted(offered)}"
    waiting: set[str] = set()
    for message in row["messages"]:
        if message["role"] == "tool":
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            return f"calls without results: {sorted(waiting)}"
        for call in message.get("tool_calls", ()):
            waiting.add(call["id"])
            if call["function"]["name"] not in offered:
                return f"{call['function']['name']} is called and not offered"
            if not isinstance(json.loads(call["function"]["arguments"]), dict):
                return "arguments are no JSON object in a string"
    return ""


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FcdistillError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
