import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel

from fcdistill.backends import open_backend
from fcdistill.config import LocalBackendConfig, TrainConfig, parse_config
from fcdistill.distillation.run import run_training
from fcdistill.distillation.student_model import load_student, quantization_of, reassemble_student, save_trained
from fcdistill.evaluation.runner import run_eval
from fcdistill.models.loading import load_model
from fcdistill.models.students import read_card
from fcdistill.prompts.rendering import prepare_tokenizer, tokenizer_sha256
from fcdistill.records import EvalCase, FunctionTool, Message, ModelRef, ToolCall, ToolSpec, Trace, TraceMeta
from fcdistill.storage import write_json, write_jsonl
from tests.prompts.families import FAMILIES, family_tokenizer
from tests.tiny import tiny_model, tiny_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "student"
    tiny_model("llama", len(tiny_tokenizer("qwen")), num_layers=4).save_pretrained(directory)
    tiny_tokenizer("qwen").save_pretrained(directory)
    return directory


def _config(model: Path, out: Path, **fields: Any) -> TrainConfig:
    values = {"traces": "t.jsonl", "out": out, "student": {"model": str(model)}, "device": "cpu", **fields}
    config: TrainConfig = parse_config(values, "train", "test")
    return config


def test_weights_that_are_trained_are_float32_and_frozen_ones_are_not(model: Path, tmp_path: Path) -> None:
    lora, base = load_student(_config(model, tmp_path, dtype="bfloat16"), CPU)
    full, _ = load_student(_config(model, tmp_path, dtype="bfloat16", tuning={"method": "full"}), CPU)
    assert isinstance(lora.model, PeftModel) and lora.autocast == full.autocast == torch.bfloat16
    dtypes = {(weight.requires_grad, weight.dtype) for weight in lora.model.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}
    assert {(weight.requires_grad, weight.dtype) for weight in full.model.parameters()} == {(True, torch.float32)}
    assert base.model == str(model) and base.revision and not base.params


def test_a_cut_student_says_which_layers_it_kept(model: Path, tmp_path: Path) -> None:
    student = {"init": "from_teacher_layers", "model": str(model), "keep_every": 2}
    side, base = load_student(_config(model, tmp_path, student=student, dtype="float32"), CPU)
    assert base.params["keep_layers"] == [0, 2, 3]  # the last one always
    assert side.model.config.num_hidden_layers == 3
    assert side.autocast is None


def test_how_weights_are_stored_is_the_adapters_to_say(model: Path, tmp_path: Path) -> None:
    assert quantization_of(_config(model, tmp_path, tuning={"method": "full"})) == "none"
    assert quantization_of(_config(model, tmp_path, tuning={"method": "lora", "quantization": "4bit"})) == "4bit"


@pytest.mark.parametrize("merge", [False, True])
def test_what_is_saved_computes_what_was_trained(model: Path, tmp_path: Path, merge: bool) -> None:
    config = _config(model, tmp_path / "run", dtype="float32", merge=merge, tools_in_prompt="none")
    torch.manual_seed(1)  # of the adapter: how much float32 rounds depends on what is drawn, and may reach the bound
    trained, base = load_student(config, CPU)
    with torch.no_grad():
        for name, weight in trained.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    ids = torch.arange(12)[None]
    expected = trained.model.eval()(ids).logits.detach()
    again = reassemble_student(config, trained.model.state_dict())
    assert torch.equal(again.model.eval()(ids).logits, expected)

    tokenizer = load_model(str(model), dtype="float32").tokenizer
    save_trained(config, trained, SimpleNamespace(tokenizer=tokenizer, tools=()), base, None)  # type: ignore[arg-type]
    assert (config.out / "merged").exists() == merge
    for saved in ["adapter", "merged"][: 1 + merge]:
        loaded = load_model(str(config.out / saved), dtype="float32")
        assert torch.allclose(loaded.model.eval()(ids).logits, expected, atol=1e-5)
        assert loaded.card is not None and loaded.card.tools_in_prompt == "none"
        assert (loaded.card.dialect, loaded.card.server_parsers["vllm"]) == ("hermes", "hermes")
        assert loaded.card.no_response_template is None and loaded.tokenizer.response_template is not None
        assert tokenizer_sha256(loaded.tokenizer) == tokenizer_sha256(tokenizer)


def test_the_card_says_why_transformers_can_not_read_the_calls(model: Path, tmp_path: Path) -> None:
    config = _config(model, tmp_path / "run", dtype="float32", tuning={"method": "full"}, tools_in_prompt="none")
    trained, base = load_student(config, CPU)
    tokenizer = family_tokenizer("lfm2")
    prepare_tokenizer(tokenizer, thinks=False)
    save_trained(config, trained, SimpleNamespace(tokenizer=tokenizer, tools=()), base, None)  # type: ignore[arg-type]
    card = read_card(config.out / "merged")
    assert card is not None and card.dialect == "lfm2" and "Python's literals" in str(card.no_response_template)


LIGHT = FunctionTool(
    function=ToolSpec(
        name="set_light",
        description="Switch a light.",
        parameters={
            "type": "object",
            "properties": {
                "room": {"type": "string"},
                "level": {"type": "integer"},
                "warm": {"type": "boolean"},
                "days": {"type": "array", "items": {"enum": ["mon", "tue"]}},
            },
            "required": ["room"],
        },
    )
)


def _light(**arguments: Any) -> ToolCall:
    return ToolCall(name="set_light", arguments=arguments)


LEARNT: dict[str, tuple[ToolCall, ...] | str] = {
    "Light the kitchen.": (_light(room="kitchen"),),
    "Dim the attic to 30.": (_light(room="attic", level=30),),
    "Warm light in the hall.": (_light(room="hall", warm=True),),
    "No warm light in room 5 at 7.": (_light(room="5", level=7, warm=False),),
    "Light Zoë's den.": (_light(room="Zoë's den"),),
    "Light the porch on Monday and Tuesday.": (_light(room="porch", days=["mon", "tue"]),),
    "Light the hall and the attic.": (_light(room="hall"), _light(room="attic")),
    "Tell a joke.": "I can't do that.",
    "Dim it.": "Which room is it?",
}
FAST = ("gemma4", "gpt_oss")


@pytest.mark.parametrize(
    "family", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_student_of_each_family_learns_nine_answers_and_is_found_right(family: str, tmp_path: Path) -> None:
    tokenizer = family_tokenizer(family)
    student = tiny_model("llama", len(tokenizer), num_layers=2, hidden_size=64, initializer_range=0.05)
    student.save_pretrained(tmp_path / "student")
    tokenizer.save_pretrained(tmp_path / "student")
    meta = TraceMeta(source="import", category="simple", plan_cell="cell", teacher=ModelRef(model="by hand"))
    traces, cases = [], []
    learnt = {request: said for request, said in LEARNT.items() if FAMILIES[family].writes_parallel or len(said) != 2}
    for number, (request, said) in enumerate(learnt.items()):
        asked = Message(role="user", content=request)
        is_text = isinstance(said, str)
        answer = Message(role="assistant", content=said) if is_text else Message.calling(list(said))
        traces.append(
            Trace(id=f"{number}", messages=(asked, answer), tools=(LIGHT,), split_group=f"{number}", meta=meta)
        )
        behaviour = ("clarify" if said.endswith("?") else "no_call") if is_text else "call"
        category = "irrelevance" if is_text else ("simple" if len(said) == 1 else "parallel")
        case = {"messages": (asked,), "behaviour": behaviour, "expected": ((() if is_text else said),)}
        cases.append(EvalCase(id=f"{number}", category=category, **case))
    write_jsonl(tmp_path / "traces.jsonl", traces)
    write_jsonl(tmp_path / "cases.jsonl", cases)
    write_json(tmp_path / "tools.json", [LIGHT.model_dump(mode="json")])
    config = _config(
        tmp_path / "student",
        tmp_path / "run",
        traces=tmp_path / "traces.jsonl",
        tuning={"method": "full"},
        objective={"kd_weight": 0.0},
        tools_in_prompt="none",
        max_steps=220,
        epochs=300,
        examples_per_step=9,
        examples_per_pack=9,
        learning_rate=5e-3,
        held_out_fraction=0.0,
        dtype="float32",
    )
    run_training(config)
    model = {"model": str(tmp_path / "run"), "dtype": "float32", "device": "cpu"}
    files = {"cases": tmp_path / "cases.jsonl", "tools": tmp_path / "tools.json"}
    for constrained in (False, True):
        decode = {"max_new_tokens": 400, "constrained": constrained}
        values = {"model": model, **files, "out": tmp_path / f"eval-{constrained}", "decode": decode}
        with contextlib.closing(open_backend(LocalBackendConfig(**model))) as backend:
            report = run_eval(parse_config(values, "eval", "test"), backend).report
        assert (report.num_cases, report.call_accuracy.value) == (len(learnt), 1)
        assert report.dialect == FAMILIES[family].dialect and report.dialects == {report.dialect: len(learnt) - 2}
        assert (report.num_other_dialect, report.num_unknown_dialect, report.thought_tokens.mean) == (0, 0, 0)
