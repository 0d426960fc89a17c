"""What becomes of chat templates: which are kept, in which format their calls are read, and why the others are not.

Each template of a directory is put on a tokenizer and tried as it is when a model is loaded. Public templates lie in
the repositories of llama.cpp (models/templates), vLLM (examples) and TRL (trl/chat_templates):

    python evals/studies/templates.py DIR --out runs/studies/templates

Files are named `FAMILY-REST.jinja`; the summary counts by family.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fcdistill.backends import Request
from fcdistill.backends.constrained.constraint import Constraint
from fcdistill.errors import FcdistillError, ModelError
from fcdistill.prompts.rendering import call_format, prepare_tokenizer, render_example, render_prompt, stop_token_ids
from fcdistill.records import Message, ToolCall, ToolSpec
from fcdistill.storage import write_json, write_text
from fcdistill.toolcalls.parsing import parse_output

SPEC = ToolSpec(
    name="set_light",
    description="Switch a light.",
    parameters={
        "type": "object",
        "properties": {
            "room": {"type": "string"},
            "level": {"type": "integer"},
            "dim": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    },
)
ONE = ToolCall(name="set_light", arguments={"room": "kitchen"})
TYPED = ToolCall(name="set_light", arguments={"room": "attic", "level": 30, "dim": True, "tags": ["late", "42"]})
TEXTS = ToolCall(name="set_light", arguments={"room": 'first\nL\'Été "quoted" <b> & more'})
ROUND_TRIPS: dict[str, list[ToolCall]] = {"one": [ONE], "two": [ONE, TYPED], "typed": [TYPED], "texts": [TEXTS]}
REQUEST = Message(role="user", content="Light the kitchen.")
_SPECIAL = re.compile(
    r"<[|｜][^\s<>{}'\"]{1,40}[|｜]>|<(?:end|start)_[a-z_]+>|<SPECIAL_\d+>|<seed:eos>|<turn\|>|\[e~\["
)
"""Marks that models of these families have as one special token."""


@dataclass(frozen=True)
class Row:
    """What became of one template.

    Attributes:
        template: its file.
        kept: it is used; else the kit's stands in its place, or the model is refused.
        dialect: how its calls are written.
        one: one call comes back as it was from what a student would learn; likewise two, typed values, and texts.
        two: see `one`.
        typed: see `one`.
        texts: see `one`.
        grammar: constrained decoding lets each of these answers be written that come back.
        thinking: what its prompt of a student ends with: a thought that is open, one that is closed, or none.
        refused: why it is refused, or an answer is.
    """

    template: str
    kept: bool
    dialect: str = ""
    one: bool = False
    two: bool = False
    typed: bool = False
    texts: bool = False
    grammar: bool = False
    thinking: str = ""
    refused: str = ""


def main() -> int:
    """Try every template of a directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/studies/templates"))
    arguments = parser.parse_args()
    paths = sorted(arguments.directory.glob("*.jinja"))
    if not paths:
        print(f"{arguments.directory} holds no *.jinja file", file=sys.stderr)
        return 2
    rows = [tried(path.stem, path.read_text(encoding="utf-8")) for path in paths]
    write_json(arguments.out / "templates.json", [asdict(row) for row in rows])
    names = [field.name for field in fields(Row)]
    table = _table(names, [[_cell(getattr(row, name)) for name in names] for row in rows])
    write_text(arguments.out / "templates.md", f"{summary(rows)}\n{table}")
    print(summary(rows))
    print(f"Each template: {arguments.out / 'templates.md'}")
    return 0


def tried(name: str, template: str) -> Row:
    """What becomes of a template."""
    tokenizer = tokenizer_with(template)
    try:
        prepare_tokenizer(tokenizer, thinks=False)
    except ModelError as error:
        return Row(name, kept=False, refused=_reason(error))
    kept = str(tokenizer.chat_template).endswith(template)
    refused = ""
    found: dict[str, bool] = {}
    answers: list[list[int]] = []
    for kind, calls in ROUND_TRIPS.items():
        try:
            example = render_example(tokenizer, [REQUEST, Message.calling(calls)], [SPEC], "full")
        except ModelError as error:
            found[kind], refused = False, refused or _reason(error)
            continue
        text = tokenizer.decode(example.completion_ids[:-1], skip_special_tokens=False)
        output = parse_output(text, [SPEC], expected=call_format(tokenizer).dialect)
        found[kind] = not output.errors and list(output.calls) == calls
        answers += [example.completion_ids] if found[kind] else []
    try:
        prompt = tokenizer.decode(render_prompt(tokenizer, [REQUEST], [SPEC], "full"))
    except ModelError as error:
        prompt, refused = "", refused or _reason(error)
    return Row(
        name,
        kept,
        call_format(tokenizer).dialect,
        **found,
        grammar=bool(answers) and may_be_written(tokenizer, answers),
        thinking=_thinking(prompt),
        refused=refused if kept else "",
    )


def may_be_written(tokenizer: PreTrainedTokenizerFast, answers: Sequence[Sequence[int]]) -> bool:
    """Whether constrained decoding allows every token of these answers, the stop token among them."""
    try:
        constraint = Constraint(tokenizer, stop_token_ids(tokenizer))
        masks = constraint.masks([Request(str(index), (), (SPEC,)) for index in range(len(answers))])
        return all(
            bool(masks.allowed({str(index): ids[:place]})[0, token])
            for index, ids in enumerate(answers)
            for place, token in enumerate(ids)
        )
    except FcdistillError:
        return False


def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes that has the template, and the marks in it as special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = sorted({*_SPECIAL.findall(template), "<|im_start|>", "<|im_end|>"} - {"<|begin|>", "<|eos|>"})
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        bos_token="<|begin|>",
        eos_token="<|eos|>",
        additional_special_tokens=marks,
    )
    fast.chat_template = template
    return fast


def summary(rows: Sequence[Row]) -> str:
    """Counts by family, as Markdown."""
    families = list(dict.fromkeys(_family(row) for row in rows))
    body = []
    for family in [*families, "all"]:
        mine = [row for row in rows if family in ("all", _family(row))]
        kept = [row for row in mine if row.kept]
        dialects = Counter(row.dialect for row in kept)
        counts: Iterable[int] = (
            len(mine),
            len(kept),
            sum(row.one and row.typed for row in kept),
            sum(row.two for row in kept),
            sum(row.texts for row in kept),
            sum(row.grammar for row in kept),
            sum(not row.kept and not row.refused for row in mine),
            sum(not row.kept and bool(row.refused) for row in mine),
        )
        shown = "" if family == "all" else ", ".join(name for name, _ in dialects.most_common())
        body.append([family, *map(str, counts), shown])
    head = [
        "family",
        "templates",
        "kept",
        "calls and types",
        "two calls",
        "texts",
        "grammar",
        "kit's instead",
        "refused",
        "formats",
    ]
    return _table(head, body)


def _family(row: Row) -> str:
    return row.template.partition("-")[0]


def _thinking(prompt: str) -> str:
    tail = prompt.rstrip()
    if tail.endswith(("<think>", "<seed:think>", "[THINK]", "<|START_THINKING|>")):
        return "open"
    return "closed" if tail.endswith(("</think>", "</seed:think>", "<|END_THINKING|>", "<channel|>")) else "none"


def _reason(error: ModelError) -> str:
    return " ".join(str(error).partition("\nRequired")[0].split())[:200]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).replace("|", "\\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
