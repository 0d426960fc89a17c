import gc
import json
import logging
import os
import shutil
import signal
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import decoders
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaAttention

from fcdistill.backends.base import Request
from fcdistill.backends.local.local_backend import LocalBackend
from fcdistill.config import AdaptConfig, TrainConfig, parse_config
from fcdistill.distillation import preparation, run, student_model
from fcdistill.distillation.examples.collation import Collator
from fcdistill.distillation.examples.examples import Example
from fcdistill.distillation.on_policy import is_on_policy
from fcdistill.distillation.preparation import prepare
from fcdistill.distillation.run import TrainResult, run_training
from fcdistill.distillation.teacher.write_cache import run_caching
from fcdistill.distillation.trainer import DistillTrainer
from fcdistill.errors import CatalogError, ConfigError, DataError, ModelError
from fcdistill.models import loading
from fcdistill.models.loading import load_model
from fcdistill.models.vocabulary import shared_vocabulary
from fcdistill.prompts.rendering import render_example, render_prompt, stop_token_ids, template_sha256
from fcdistill.records import (
    FunctionTool,
    Message,
    TeacherReport,
    ToolCall,
    ToolSpec,
    Trace,
    WorkedExample,
)
from fcdistill.storage import iter_jsonl, read_json, write_jsonl
from tests.distillation.tiny_data import tiny_traces
from tests.distillation.world import metrics_lines, train_config, train_until_sealed, trained_weights
from tests.tiny import tiny_tokenizer

pytestmark = pytest.mark.slow
"""Whole runs, from a configuration to a saved student: over a hundred seconds together."""

EVERYTHING = {"ce_weight": 1.0, "kd_weight": 0.5, "kd_temperature": 2.0, "hidden_weight": 0.5, "num_layer_pairs": 2}


def _assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-6), name


def test_everything_together_writes_a_student_that_loads(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = train_config(world, out, objective=EVERYTHING, held_out_fraction=0.2, max_steps=1000)
    result = run_training(config)
    assert (result.steps, result.examples, result.directory) == (4, 8, out)
    lines = [line for line in metrics_lines(out) if line.loss is not None]
    assert [line.step for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert line.ce is not None and line.kd is not None and line.hidden is not None
        assert line.loss == pytest.approx(line.ce + 0.5 * line.kd + 0.5 * line.hidden, rel=1e-4)
    assert lines[-1].ce < lines[0].ce  # type: ignore[operator]
    assert [line.step for line in metrics_lines(out) if line.held_out_ce is not None] == [2, 4]
    assert result.held_out_ce == metrics_lines(out)[-1].held_out_ce
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        "adapter",
        "data.json",
        "manifest.json",
        "merged",
        "metrics.jsonl",
        "projectors.safetensors",
        "result.json",
        "teacher.json",
    ]
    loaded = load_model(str(out), dtype="float32")
    assert loaded.card is not None and loaded.card.tools_in_prompt == "compact"
    assert [tool.function.name for tool in loaded.card.tools] == ["set_light", "set_timer"]
    assert loaded.model.config.use_cache
    assert not any("maps" in name for name in loaded.model.state_dict())
    rows, base = loaded.model.get_input_embeddings().weight, load_model(str(world / "student"), dtype="float32").model
    changed = (rows != base.get_input_embeddings().weight).any(dim=-1).nonzero().flatten().tolist()
    assert [loaded.tokenizer.decode(index) for index in changed] == ["<tool_call>", "</tool_call>"]
    adapter = load_model(str(out / "adapter"), dtype="float32")
    ids = torch.tensor([[1, 2, 3, 4]])
    assert torch.allclose(adapter.model(ids).logits, loaded.model(ids).logits, atol=1e-5)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["tokenizer_sha256"] and manifest["template_sha256"]
    assert json.loads((out / "data.json").read_text())["held_out_examples"] == 2


def test_a_finished_directory_returns_at_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = train_config(world, tmp_path / "run", max_steps=1)
    result = run_training(config)
    monkeypatch.setattr(student_model, "load_model", _refuse)
    assert run_training(config) == result
    with pytest.raises(DataError, match="learning_rate"):
        run_training(config.model_copy(update={"learning_rate": 0.5}))


def _refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("no weights are needed")


@pytest.mark.parametrize("tuning", [{"method": "lora", "lora_rank": 4, "lora_dropout": 0.1}, {"method": "full"}])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: dict[str, Any]
) -> None:
    fields = {"objective": EVERYTHING, "tuning": tuning, "epochs": 3}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    expected = run_training(train_config(world, whole, **fields))
    monkeypatch.setattr(run, "DistillTrainer", _DiesInStep7)
    with pytest.raises(_DiedError):
        run_training(train_config(world, resumed, **fields))
    monkeypatch.undo()
    assert sorted(path.name for path in (resumed / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-6"]
    found = run_training(train_config(world, resumed, **fields))
    assert (found.steps, found.train_loss) == (9, pytest.approx(expected.train_loss, rel=1e-5))
    _assert_equal(trained_weights(resumed), trained_weights(whole))
    assert any("projectors" in name for name in trained_weights(whole))
    assert [line.step for line in metrics_lines(resumed)] == list(range(1, 10))
    assert [line.ce for line in metrics_lines(resumed)] == pytest.approx(
        [line.ce for line in metrics_lines(whole)], rel=1e-5
    )


MONITORED = {"held_out_fraction": 0.2, "monitor": {"steps": 5, "keep_best": True, "max_new_tokens": 4}}


@pytest.mark.parametrize(
    "fields", [{"save_steps": 5}, {"save_steps": 100} | MONITORED], ids=["save-steps", "new-best-student"]
)
def test_the_means_of_a_resumed_run_are_those_of_an_uninterrupted_one(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    """It goes on in the middle of what would be a line's steps."""
    fields = {"objective": EVERYTHING, "epochs": 10, "max_steps": 10, "log_steps": 3} | fields
    run_training(train_config(world, tmp_path / "whole", **fields))
    with monkeypatch.context() as patch:
        patch.setattr(run, "DistillTrainer", _DiesInStep7)
        with pytest.raises(_DiedError):
            run_training(train_config(world, tmp_path / "resumed", **fields))
    run_training(train_config(world, tmp_path / "resumed", **fields))
    assert [line.step for line in metrics_lines(tmp_path / "whole") if line.loss is not None] == [3, 5, 6, 9, 10]
    found, expected = (
        [
            line.model_dump(exclude={"tokens_per_s", "examples_per_s"}, exclude_none=True)
            for line in metrics_lines(tmp_path / name)
        ]
        for name in ("resumed", "whole")
    )
    assert len(found) == len(expected)
    for line, expected_line in zip(found, expected, strict=True):
        assert line == pytest.approx(expected_line, rel=1e-5)


class _DiedError(Exception):
    pass


class _DiesInStep7(DistillTrainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.state.global_step == 6:
            raise _DiedError
        return super().compute_loss(*args, **kwargs)


def test_a_damaged_checkpoint_is_replaced_by_an_older_one(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run_training(train_config(world, whole, epochs=3))
    monkeypatch.setattr(run, "DistillTrainer", _DiesInStep7)
    with pytest.raises(_DiedError):
        run_training(train_config(world, resumed, epochs=3))
    monkeypatch.undo()
    (resumed / "checkpoints" / "checkpoint-6" / "optimizer.pt").write_bytes(b"half")
    with caplog.at_level(logging.INFO):
        run_training(train_config(world, resumed, epochs=3))
    assert "checkpoint-6 is incomplete or damaged" in caplog.text
    _assert_equal(trained_weights(resumed), trained_weights(whole))


@pytest.mark.parametrize("augmented", [False, True])
def test_a_run_that_was_killed_goes_on(world: Path, tmp_path: Path, augmented: bool) -> None:
    """It was killed in the middle of its second epoch."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fields = {"epochs": 3, "objective": EVERYTHING, **(_augmented(tmp_path) if augmented else {})}
    run_training(train_config(world, whole, **fields))
    config = train_config(world, killed, **fields)
    assert train_until_sealed(config, "checkpoint-6") == -signal.SIGKILL
    assert (killed / "checkpoints" / "checkpoint-6").exists()
    run_training(config)
    _assert_equal(trained_weights(killed), trained_weights(whole))
    assert [line.step for line in metrics_lines(killed)] == list(range(1, 10))
    assert _curve(killed, "loss") == pytest.approx(_curve(whole, "loss"), rel=1e-5)


def _augmented(directory: Path) -> dict[str, Any]:
    """Fields of a run in which everything is drawn."""
    parameters = {"type": "object", "properties": {"song": {"type": "string", "description": "Its title."}}}
    tools = [{"name": f"play_{n}", "description": "Plays a song.", "parameters": parameters} for n in range(4)]
    (directory / "foreign.json").write_text(json.dumps(tools))
    drawn = {"shuffle_tools": True, "num_distractors": 3, "rename_probability": 0.5}
    augmentation = {"distractor_catalogue": directory / "foreign.json", **drawn}
    return {"augmentation": augmentation, "tools_in_prompt": "full"}


def test_every_epoch_draws_its_tools_anew_and_held_out_examples_keep_theirs(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packs: list[list[Example]] = []
    collate = Collator.__call__

    def watch(self: Collator, examples: Sequence[Example]) -> dict[str, Any]:
        packs.append(list(examples))
        return collate(self, examples)

    monkeypatch.setattr(Collator, "__call__", watch)
    fields = {"epochs": 3, "held_out_fraction": 0.2, "save_steps": 6, "examples_per_pack": 1, "objective": EVERYTHING}
    run_training(train_config(world, tmp_path / "run", **fields, **_augmented(tmp_path)))
    seen: dict[str, list[Example]] = {}
    for example in (example for pack in packs for example in pack):
        seen.setdefault(example.trace_id, []).append(example)
    held_out = [found for found in seen.values() if len(set(found)) == 1]
    trained = [found for found in seen.values() if len(set(found)) > 1]
    assert (len(held_out), len(trained)) == (2, 8)
    prompts = [{example.student_prompt for example in found} for found in trained]
    assert all(len(found) == 3 for found in trained) and sum(map(len, prompts)) > 20
    for found in trained:
        for example in found:
            assert example.student_prompt == example.teacher_prompt, "one template, tools in full: one text"
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert sorted(Path(path).name for path in manifest["inputs"]) == ["foreign.json", "traces.jsonl"]
    card = load_model(str(tmp_path / "run"), dtype="float32").card
    assert card is not None and [tool.function.name for tool in card.tools] == ["set_light", "set_timer"]


def test_an_augmented_run_teaches_across_tokenizers(world: Path, tmp_path: Path) -> None:
    # A random teacher contradicts the traces: it has to count enough to be followed beside them.
    fields = {"teacher": str(world / "plain"), "objective": EVERYTHING | {"kd_weight": 4.0}, "max_steps": 20}
    run_training(train_config(world, tmp_path / "run", **fields, **_augmented(tmp_path), epochs=20, save_steps=100))
    for name in ("ce", "kd", "hidden"):
        curve = _curve(tmp_path / "run", name)
        assert len(curve) == 20 and sum(curve[-5:]) < sum(curve[:5]), name


def test_an_interrupt_saves_a_checkpoint_and_reaches_the_caller(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(run, "DistillTrainer", _InterruptedInStep1)
    with pytest.raises(KeyboardInterrupt):
        run_training(train_config(world, out, save_steps=100))
    monkeypatch.undo()
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["checkpoint-1"]
    assert json.loads((out / "manifest.json").read_text())["status"] == "running"
    assert run_training(train_config(world, out, save_steps=100)).steps == 6


class _InterruptedInStep1(DistillTrainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.state.global_step == 0 and not self._sums:
            os.kill(os.getpid(), signal.SIGINT)
        return super().compute_loss(*args, **kwargs)


def test_models_that_can_not_be_packed_are_trained_on_unpacked_rows(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = run_training(
            train_config(world, tmp_path / "run", student={"model": str(world / "sliding")}, max_steps=2)
        )
    assert "packing is not exact for the student" in caplog.text
    assert result.steps == 2 and (tmp_path / "run" / "merged").is_dir()


def test_full_tuning_in_bfloat16_keeps_float32_weights_while_it_trains(world: Path, tmp_path: Path) -> None:
    """A learning rate far below bfloat16's resolution still adds up."""
    out = tmp_path / "run"
    run_training(
        train_config(
            world,
            out,
            tuning={"method": "full"},
            dtype="bfloat16",
            learning_rate=1e-4,
            learning_rate_schedule="constant",
            epochs=10,
            save_steps=100,
        )
    )
    assert not (out / "adapter").exists()
    trained = load_file(out / "merged" / "model.safetensors")
    before = load_file(world / "student" / "model.safetensors")
    assert trained["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16
    assert metrics_lines(out)[-1].ce < metrics_lines(out)[0].ce  # type: ignore[operator]
    moved = (trained["model.norm.weight"].float() - before["model.norm.weight"]).abs()
    assert moved.max() > 0, "all of 30 updates of 1e-4 were rounded away"


def test_bfloat16_lora_keeps_float32_adapters(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_training(train_config(world, out, dtype="bfloat16", objective=EVERYTHING))
    adapter = load_file(out / "adapter" / "adapter_model.safetensors")
    assert {value.dtype for value in adapter.values()} == {torch.float32}
    assert load_file(out / "merged" / "model.safetensors")["lm_head.weight"].dtype == torch.bfloat16
    assert metrics_lines(out)[-1].ce < metrics_lines(out)[0].ce  # type: ignore[operator]


def test_a_student_cut_from_its_teacher(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_training(
        train_config(
            world,
            out,
            student={"init": "from_teacher_layers", "model": str(world / "teacher"), "keep_every": 2},
            objective=EVERYTHING,
            gradient_checkpointing=True,
        )
    )
    for reference in (out, out / "adapter"):
        assert load_model(str(reference), dtype="float32").model.config.num_hidden_layers == 3


def test_a_quantised_student_is_merged_into_the_weights_as_they_are(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here without a quantisation library: what is loaded stays where it was put, and what is merged is loaded anew."""
    run_training(train_config(world, tmp_path / "plain", objective=EVERYTHING))
    loaded = []

    def load(ref: str, *choice: Any, **options: Any) -> Any:
        loaded.append((Path(ref).name, options.get("quantization", "none")))
        return load_model(ref, *choice, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loading, "bits_and_bytes", lambda *_: None)
        patch.setattr(preparation, "require_quantization", lambda *_: None)
        for part in (student_model, preparation):
            patch.setattr(part, "load_model", load)
        tuning = {"method": "lora", "lora_rank": 4, "lora_alpha": 8, "quantization": "4bit"}
        run_training(
            train_config(world, tmp_path / "run", objective=EVERYTHING, tuning=tuning, teacher_quantization="8bit")
        )
    assert loaded == [("student", "4bit"), ("teacher", "8bit"), ("adapter", "none")]
    _assert_equal(trained_weights(tmp_path / "run"), trained_weights(tmp_path / "plain"))


@pytest.mark.parametrize(
    "fields",
    [
        {"tuning": {"method": "lora", "quantization": "4bit"}},
        {"teacher_quantization": "8bit", "objective": EVERYTHING},
        {"teacher_device": "cuda:7", "objective": EVERYTHING},
        {"teacher_device": "auto", "objective": EVERYTHING},
    ],
    ids=["qlora", "teacher-quantization", "teacher-device", "teacher-auto"],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_what_needs_a_gpu_is_refused_before_weights_are_loaded(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    for part in (student_model, preparation):
        monkeypatch.setattr(part, "load_model", _refuse)
    with pytest.raises(ConfigError):
        run_training(train_config(world, tmp_path / "run", **fields))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_compiled_loss_follows_the_curve_of_the_plain_one(world: Path, tmp_path: Path) -> None:
    run_training(train_config(world, tmp_path / "plain", objective=EVERYTHING))
    try:
        run_training(train_config(world, tmp_path / "compiled", objective=EVERYTHING, compile_loss=True))
    except ConfigError as error:
        pytest.skip(error.found)
    for name in ("loss", "ce", "kd", "hidden", "grad_norm"):
        assert _curve(tmp_path / "compiled", name) == pytest.approx(_curve(tmp_path / "plain", name), rel=1e-4), name


def test_gradient_checkpointing_changes_nothing(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Counter[str]()
    attend = LlamaAttention.forward

    def count(self: LlamaAttention, *args: Any, **kwargs: Any) -> Any:
        passes[out.name] += 1
        return attend(self, *args, **kwargs)

    monkeypatch.setattr(LlamaAttention, "forward", count)
    fields = {"objective": EVERYTHING, "max_steps": 6}
    out = tmp_path / "on"
    run_training(train_config(world, out, **fields, gradient_checkpointing=True))
    out = tmp_path / "recomputing"
    run_training(train_config(world, out, **fields))
    monkeypatch.setattr(student_model, "recompute_cheap_parts", lambda model: 0)
    out = tmp_path / "off"
    run_training(train_config(world, out, **fields))
    # Each of the student's three layers once more for each of the ten micro batches.
    assert passes["on"] - 3 * 10 == passes["recomputing"] == passes["off"] > 3 * 10
    _assert_equal(trained_weights(tmp_path / "on"), trained_weights(tmp_path / "off"))
    # Sums in another order; Adam makes much of gradients that are nearly zero, so weights are no measure here.
    for name in ("loss", "grad_norm"):
        assert _curve(tmp_path / "recomputing", name) == pytest.approx(_curve(tmp_path / "off", name), rel=1e-6), name


def test_a_student_that_teaches_itself_ends_where_its_base_would_take_it(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the run is taken up again: the teacher is the base, not what the student has become."""
    fields = {"objective": EVERYTHING, "epochs": 3, "tools_in_prompt": "none"}
    base, own, resumed = (tmp_path / name for name in ("base", "own", "resumed"))
    run_training(train_config(world, base, **fields, teacher=str(world / "student")))
    fields |= {"signal": "self", "teacher": None}
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "load_model", _refuse)
        run_training(train_config(world, own, **fields))
    found = trained_weights(own)
    for name, value in trained_weights(base).items():
        assert (found[name] - value).norm() <= 1e-3 * value.norm(), name
    assert _curve(own, "kd") == pytest.approx(_curve(base, "kd"), rel=1e-3) and min(_curve(own, "hidden")) > 0
    monkeypatch.setattr(run, "DistillTrainer", _DiesInStep7)
    with pytest.raises(_DiedError):
        run_training(train_config(world, resumed, **fields))
    monkeypatch.undo()
    run_training(train_config(world, resumed, **fields))
    _assert_equal(trained_weights(resumed), trained_weights(own))
    report = TeacherReport.model_validate(read_json(own / "teacher.json"))
    assert (report.signal, report.teacher.model) == ("self", str(world / "student"))


def test_a_bfloat16_student_with_dropout_teaches_itself_in_packs(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tuning = {"method": "lora", "lora_rank": 4, "lora_dropout": 0.1}
    fields = {"signal": "self", "teacher": None, "objective": EVERYTHING, "tools_in_prompt": "none"}
    with caplog.at_level(logging.WARNING):
        run_training(
            train_config(
                world, tmp_path / "run", dtype="bfloat16", tuning=tuning, gradient_checkpointing=True, **fields
            )
        )
    assert "packing is not exact" not in caplog.text
    assert _curve(tmp_path / "run", "ce")[-1] < _curve(tmp_path / "run", "ce")[0]


def test_a_cut_student_is_taught_by_all_that_is_left_of_it(world: Path, tmp_path: Path) -> None:
    student = {"init": "from_teacher_layers", "model": str(world / "teacher"), "keep_every": 2}
    run_training(
        train_config(world, tmp_path / "run", student=student, signal="self", teacher=None, objective=EVERYTHING)
    )
    assert min(_curve(tmp_path / "run", "hidden")) > 0
    assert not (tmp_path / "run" / "projectors.safetensors").exists()


def test_the_teacher_is_measured_once_whatever_gives_its_signal(world: Path, tmp_path: Path) -> None:
    run_training(train_config(world, tmp_path / "online", objective=EVERYTHING, max_steps=1))
    run_training(_cached(world, tmp_path / "cached", 8, max_steps=1))
    hidden = {"ce_weight": 1.0, "hidden_weight": 1.0, "num_layer_pairs": 1}
    run_training(train_config(world, tmp_path / "hidden", objective=hidden, max_steps=1))
    online, cached, hidden_only = (
        TeacherReport.model_validate(read_json(tmp_path / name / "teacher.json"))
        for name in ("online", "cached", "hidden")
    )
    assert hidden_only == online and online.num_examples == 10
    assert cached.overall.nll == pytest.approx(online.overall.nll, rel=1e-5)
    assert cached.overall.agreement_rate == online.overall.agreement_rate
    run_training(train_config(world, tmp_path / "alone", max_steps=1))
    run_training(
        train_config(world, tmp_path / "unasked", objective=EVERYTHING, max_steps=1, teacher_report_examples=0)
    )
    assert not any((tmp_path / name / "teacher.json").exists() for name in ("alone", "unasked"))


def test_worked_examples_reach_the_teacher_and_are_inputs_of_the_run(world: Path, tmp_path: Path) -> None:
    example = WorkedExample(
        id="e",
        request="light it up",
        category="simple",
        calls=(ToolCall(name="set_light", arguments={"room": "hall"}),),
    )
    write_jsonl(tmp_path / "examples.jsonl", [example])
    fields = {"objective": EVERYTHING, "max_steps": 2, "teacher_examples": tmp_path / "examples.jsonl"}
    run_training(train_config(world, tmp_path / "plain", objective=EVERYTHING, max_steps=2))
    run_training(train_config(world, tmp_path / "shown", **fields))
    kd = [_curve(tmp_path / name, "kd")[0] for name in ("plain", "shown")]
    assert kd[0] != pytest.approx(kd[1], rel=1e-3)
    assert _curve(tmp_path / "plain", "ce")[0] == pytest.approx(_curve(tmp_path / "shown", "ce")[0], rel=1e-6)
    write_jsonl(tmp_path / "examples.jsonl", [example.model_copy(update={"request": "let there be light"})])
    with pytest.raises(DataError, match="examples.jsonl: its content changed"):
        run_training(train_config(world, tmp_path / "shown", **fields))
    cached = {"max_steps": 1, "teacher_examples": tmp_path / "examples.jsonl"}
    run_training(_cached(world, tmp_path / "first", 8, **cached))
    write_jsonl(tmp_path / "examples.jsonl", [example])
    with pytest.raises(DataError, match="traces have another teacher input"):
        run_training(_cached(world, tmp_path / "second", 8, **cached))
    run_training(train_config(world, tmp_path / "alone", max_steps=1, teacher_examples=tmp_path / "missing.jsonl"))


def _adaptation(world: Path, out: Path, **fields: Any) -> AdaptConfig:
    values = train_config(world, out).model_dump(include=set(AdaptConfig.model_fields) - {"tools_in_prompt"}) | fields
    config: AdaptConfig = parse_config(values, "adapt", "test")
    return config


@pytest.mark.parametrize("merge", [True, False])
def test_an_adapted_teacher_is_the_teacher_with_other_weights(world: Path, tmp_path: Path, merge: bool) -> None:
    """Tokenizer, template, prompts and layers are as they were, so that it stands wherever the teacher stood."""
    out = tmp_path / "teacher"
    run_training(_adaptation(world, out, epochs=20, save_steps=100, merge=merge))
    assert (out / "merged").exists() == merge and not (out / "teacher.json").exists()
    assert json.loads((out / "manifest.json").read_text())["stage"] == "adapt"
    raw, adapted = load_model(str(world / "teacher"), dtype="float32"), load_model(str(out), dtype="float32")
    assert adapted.card is not None and adapted.card.tools_in_prompt == "full"
    assert template_sha256(adapted.tokenizer) == template_sha256(raw.tokenizer)
    assert shared_vocabulary(adapted.tokenizer, raw.tokenizer).same
    assert stop_token_ids(adapted.tokenizer) == stop_token_ids(raw.tokenizer)
    trace = tiny_traces(1)[0]
    example = Message.calling([ToolCall(name="set_timer", arguments={"minutes": 3})])
    request = Request("r", (Message(role="user", content="three"), example, trace.messages[0]), trace.specs)
    prompts = []
    for loaded in (raw, adapted):
        backend = LocalBackend(loaded)
        prompts.append(render_prompt(loaded.tokenizer, request.messages, request.specs, backend.tools_in_prompt))
    assert prompts[0] == prompts[1] and "Switches a light" in raw.tokenizer.decode(prompts[0])
    run_training(train_config(world, tmp_path / "raw", objective=EVERYTHING, max_steps=1))
    run_training(train_config(world, tmp_path / "taught", objective=EVERYTHING, max_steps=1, teacher=str(out)))
    nll = [TeacherReport.model_validate(read_json(tmp_path / name / "teacher.json")) for name in ("raw", "taught")]
    assert nll[1].overall.nll < 0.5 * nll[0].overall.nll
    assert nll[1].by_class["structure"].agreement_rate > nll[0].by_class["structure"].agreement_rate
    assert run_training(_cached(world, tmp_path / "cached", 8, max_steps=1, teacher=str(out))).steps == 1


def test_an_adapted_teacher_reads_the_tools_as_it_learned_them(world: Path, tmp_path: Path) -> None:
    run_training(_adaptation(world, tmp_path / "teacher", max_steps=1, tools_in_prompt="none"))
    fields = {"objective": EVERYTHING, "max_steps": 1}
    taught = prepare(
        train_config(world, tmp_path / "run", teacher=str(tmp_path / "teacher"), **fields), signal="online"
    )
    raw = prepare(train_config(world, tmp_path / "run", **fields), signal="online")
    assert taught.teacher is not None and taught.teacher.tools_in_prompt == "none"
    texts = [taught.teacher.tokenizer.decode(found.train[0].teacher_prompt) for found in (taught, raw)]
    assert ["Switches a light" in text for text in texts] == [False, True]
    shuffled = {"augmentation": {"shuffle_tools": True}, "tools_in_prompt": "compact"}
    with pytest.raises(ConfigError, match="was adapted without tools in its prompt"):
        prepare(
            train_config(world, tmp_path / "run", teacher=str(tmp_path / "teacher"), **fields, **shuffled),
            signal="online",
        )


def test_an_adaptation_that_died_goes_on(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(_adaptation(world, tmp_path / "whole", epochs=3))
    monkeypatch.setattr(run, "DistillTrainer", _DiesInStep7)
    with pytest.raises(_DiedError):
        run_training(_adaptation(world, tmp_path / "resumed", epochs=3))
    monkeypatch.undo()
    run_training(_adaptation(world, tmp_path / "resumed", epochs=3))
    _assert_equal(trained_weights(tmp_path / "resumed"), trained_weights(tmp_path / "whole"))
    with pytest.raises(DataError, match="holds a run of `fcdistill adapt`"):
        run_training(train_config(world, tmp_path / "whole"))


@pytest.mark.parametrize("teacher", ["plain", "metaspace"])
def test_a_teacher_of_another_tokenizer_and_family_teaches(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, teacher: str
) -> None:
    fields = {"max_steps": 30, "epochs": 20, "save_steps": 100}
    taught = {"student": {"model": str(world / teacher)}, "tuning": {"method": "full"}}
    run_training(train_config(world, tmp_path / "teacher", **fields, **taught))
    out = tmp_path / "run"
    with caplog.at_level(logging.INFO):
        run_training(train_config(world, out, teacher=str(tmp_path / "teacher"), objective=EVERYTHING, **fields))
    assert "their tokens are aligned by bytes" in caplog.text
    lines = [line for line in metrics_lines(out) if line.loss is not None]
    assert len(lines) == 30
    for line in lines:
        assert line.loss == pytest.approx(line.ce + 0.5 * line.kd + 0.5 * line.hidden, rel=1e-4)  # type: ignore[operator]
    for name in ("ce", "kd", "hidden"):
        before, after = (sum(getattr(line, name) for line in part) for part in (lines[:5], lines[-5:]))
        assert after < 0.8 * before, name
    alignment = json.loads((out / "data.json").read_text())["alignment"]
    assert 0 < alignment["paired_fraction"] < 1 and alignment["shared_fraction"] > 0.5
    assert load_model(str(out), dtype="float32").model.config.num_hidden_layers == 3

    alone = tmp_path / "alone"
    objective = {"ce_weight": 0, "kd_weight": 1.0}
    run_training(train_config(world, alone, teacher=str(tmp_path / "teacher"), objective=objective, **fields))
    losses = [_text_loss(world, model) for model in (world / "student", alone / "merged")]
    assert losses[1] < 0.7 * losses[0], "the teacher's signal alone does not teach the text"


def _text_loss(world: Path, model: Path) -> float:
    """Nats per completion token of the traces."""
    loaded = load_model(str(model), dtype="float32")
    total, count = 0.0, 0
    for trace in iter_jsonl(world / "traces.jsonl", Trace):
        rendered = render_example(loaded.tokenizer, trace.messages, trace.specs, "compact")
        ids = torch.tensor([[*rendered.prompt_ids, *rendered.completion_ids]])
        targets = torch.tensor(rendered.completion_ids)
        with torch.no_grad():
            rows = loaded.model(ids).logits[0, len(rendered.prompt_ids) - 1 : -1]
        total += torch.nn.functional.cross_entropy(rows, targets, reduction="sum").item()
        count += len(targets)
    return total / count


def test_spans_of_two_tokenizers_do_not_depend_on_packing_and_micro_batches(world: Path, tmp_path: Path) -> None:
    fields = {"teacher": str(world / "plain"), "objective": EVERYTHING | {"class_weights": {"name": 3.0}}}
    losses = []
    for pack, tokens in ((1, 64), (4, 4096)):
        out = tmp_path / f"pack-{pack}"
        run_training(train_config(world, out, examples_per_pack=pack, pack_tokens=tokens, **fields))
        losses.append([line.loss for line in metrics_lines(out) if line.loss is not None])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_tokenizer_whose_bytes_are_unknown_is_refused_for_kd_before_weights_are_loaded(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_tokenizer("chatml")
    tokenizer.backend_tokenizer.decoder = decoders.WordPiece()
    shutil.copytree(world / "metaspace", tmp_path / "odd")
    tokenizer.save_pretrained(tmp_path / "odd")
    for weights in ({"kd_weight": 1.0}, {"hidden_weight": 1.0}):
        with monkeypatch.context() as patch:
            patch.setattr(student_model, "load_model", _refuse)
            patch.setattr(preparation, "load_model", _refuse)
            with pytest.raises(ModelError, match="does not show which bytes its tokens write"):
                run_training(
                    train_config(world, tmp_path / "refused", teacher=str(tmp_path / "odd"), objective=weights)
                )
    assert not (tmp_path / "refused").exists()
    assert run_training(train_config(world, tmp_path / "ce", teacher=str(tmp_path / "odd"), max_steps=1)).steps == 1


def _cached(world: Path, out: Path, top_k: int, **fields: Any) -> TrainConfig:
    cache = {"dir": out.parent / f"cache-{top_k}", "top_k": top_k, "shard_traces": 3}
    return train_config(
        world, out, **{"objective": EVERYTHING, "signal": "cached", "cache": cache, "epochs": 3, **fields}
    )


def _curve(out: Path, name: str) -> list[float]:
    return [getattr(line, name) for line in metrics_lines(out) if line.loss is not None]


def test_a_student_of_another_tokenizer_learns_from_a_cache_what_it_learns_beside_the_teacher(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"teacher": str(world / "plain"), "epochs": 2}
    run_training(train_config(world, tmp_path / "online", objective=EVERYTHING, **fields))
    whole = _cached(world, tmp_path / "whole", len(tiny_tokenizer("plain")), **fields)
    few = _cached(world, tmp_path / "few", 16, **fields)
    for config in (whole, few):
        run_caching(config)
    monkeypatch.setattr(preparation, "load_model", lambda *_, **__: pytest.fail("the caches are whole"))
    for config in (whole, few):
        run_training(config)
    for name in ("ce", "kd", "hidden"):
        online = _curve(tmp_path / "online", name)
        assert len(online) == 6 and min(online) > 0, name
        assert _curve(tmp_path / "whole", name) == pytest.approx(online, rel=2e-4), name
    pairs = zip(_curve(tmp_path / "few", "kd"), _curve(tmp_path / "online", "kd"), strict=True)
    assert all(0 < kept < all_tokens for kept, all_tokens in pairs)


def test_training_from_a_cache_follows_the_curve_of_a_teacher_that_runs_beside_it(world: Path, tmp_path: Path) -> None:
    """With all tokens up to float16; with 32 nearly so, where the teacher is as sure as trained ones are."""
    sure = load_model(str(world / "teacher"), dtype="float32")
    sure.model.get_output_embeddings().weight.data *= 6
    for part in (sure.model, sure.tokenizer):
        part.save_pretrained(tmp_path / "teacher")
    teacher = str(tmp_path / "teacher")
    run_training(train_config(world, tmp_path / "online", objective=EVERYTHING, epochs=3, teacher=teacher))
    run_training(_cached(world, tmp_path / "whole", len(sure.tokenizer), teacher=teacher))
    run_training(_cached(world, tmp_path / "top32", 32, teacher=teacher))
    for name, whole, top32 in (("ce", 1e-4, 1e-3), ("kd", 1e-4, 0.03), ("hidden", 2e-4, 1e-3)):
        online = _curve(tmp_path / "online", name)
        assert len(online) == 9 and max(online) - min(online) > 0.1
        assert _curve(tmp_path / "whole", name) == pytest.approx(online, rel=whole), name
        assert _curve(tmp_path / "top32", name) == pytest.approx(online, rel=top32), name


def test_the_teacher_is_gone_before_the_student_is_loaded_and_never_loaded_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []

    def load_teacher_model(*args: Any, **kwargs: Any) -> Any:
        found = load_model(*args, **kwargs)
        loaded.append(weakref.ref(found.model))
        return found

    def load_student_model(*args: Any, **kwargs: Any) -> Any:
        assert [teacher() for teacher in loaded] == [None]
        return load_model(*args, **kwargs)

    gc.disable()  # that the teacher is gone must not depend on when Python next collects
    try:
        with monkeypatch.context() as patch:
            patch.setattr(preparation, "load_model", load_teacher_model)
            patch.setattr(student_model, "load_model", load_student_model)
            run_training(_cached(world, tmp_path / "first", 8, max_steps=2))
    finally:
        gc.enable()
    monkeypatch.setattr(preparation, "load_model", _refuse)
    run_training(_cached(world, tmp_path / "second", 8, max_steps=2))
    _assert_equal(trained_weights(tmp_path / "second"), trained_weights(tmp_path / "first"))
    fewer = ("trace-1", "trace-7", "trace-4", "trace-2")
    write_jsonl(tmp_path / "fewer.jsonl", [trace for trace in reversed(tiny_traces(10)) if trace.id in fewer])
    third = _cached(world, tmp_path / "third", 8, traces=tmp_path / "fewer.jsonl", held_out_fraction=0.3)
    assert run_training(third).examples == 3


def test_a_resumed_run_reads_the_cache_again(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(_cached(world, tmp_path / "whole", 8))
    monkeypatch.setattr(run, "DistillTrainer", _DiesInStep7)
    with pytest.raises(_DiedError):
        run_training(_cached(world, tmp_path / "resumed", 8))
    monkeypatch.undo()
    monkeypatch.setattr(preparation, "load_model", _refuse)
    run_training(_cached(world, tmp_path / "resumed", 8))
    _assert_equal(trained_weights(tmp_path / "resumed"), trained_weights(tmp_path / "whole"))


def test_a_cache_of_other_settings_is_refused_and_leaves_the_output_free(world: Path, tmp_path: Path) -> None:
    run_training(_cached(world, tmp_path / "first", 8, max_steps=1))
    with pytest.raises(DataError, match="dtype: was 'float32', is 'bfloat16'"):
        run_training(_cached(world, tmp_path / "second", 8, max_steps=1, dtype="bfloat16"))
    assert not (tmp_path / "second").exists()


def test_without_a_teacher_term_the_cache_plays_no_role(world: Path, tmp_path: Path) -> None:
    assert run_training(_cached(world, tmp_path / "run", 8, max_steps=1, objective={"ce_weight": 1.0})).steps == 1
    assert not (tmp_path / "cache-8").exists()


def _on_policy(world: Path, out: Path, **fields: Any) -> TrainConfig:
    sampled = {"on_policy_fraction": 0.6, "on_policy": {"max_new_tokens": 24}, "epochs": 3}
    return train_config(world, out, **{"objective": EVERYTHING | {"kd_divergence": "reverse_kl"}, **sampled, **fields})


@pytest.mark.parametrize("tuning", [{"method": "lora", "lora_rank": 4, "lora_dropout": 0.1}, {"method": "full"}])
def test_a_resumed_run_samples_what_an_uninterrupted_one_does(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: dict[str, Any]
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run_training(_on_policy(world, whole, tuning=tuning))
    monkeypatch.setattr(run, "DistillTrainer", _DiesInStep7)
    with pytest.raises(_DiedError):
        run_training(_on_policy(world, resumed, tuning=tuning))
    monkeypatch.undo()
    run_training(_on_policy(world, resumed, tuning=tuning))
    _assert_equal(trained_weights(resumed), trained_weights(whole))
    lines = metrics_lines(whole)
    assert [line.step for line in lines if line.on_policy_examples] == [
        step + 1 for step in range(9) if is_on_policy(step, fraction=0.6, seed=3)
    ]
    assert any(line.on_policy_examples for line in lines[6:]) and not all(line.on_policy_examples for line in lines)
    for name in ("loss", "on_policy_kd", "on_policy_hidden", "on_policy_valid", "on_policy_examples"):
        found, expected = (
            {line.step: getattr(line, name) for line in each} for each in (metrics_lines(resumed), lines)
        )
        assert [step for step, value in found.items() if value is None] == [
            step for step, value in expected.items() if value is None
        ]
        assert [value for value in found.values() if value is not None] == pytest.approx(
            [value for value in expected.values() if value is not None], rel=1e-5
        )


def test_sampling_in_none_of_the_steps_leaves_training_as_it_is(world: Path, tmp_path: Path) -> None:
    fields = {"held_out_fraction": 0.2, "tuning": {"method": "lora", "lora_rank": 4, "lora_dropout": 0.1}}
    for name, fraction in (("off", 0.0), ("never", 1e-9)):
        run_training(_on_policy(world, tmp_path / name, on_policy_fraction=fraction, **fields))
    off, never = trained_weights(tmp_path / "off"), trained_weights(tmp_path / "never")
    assert off.keys() == never.keys() and all(torch.equal(never[name], value) for name, value in off.items())
    speeds = {"tokens_per_s", "examples_per_s"}
    logs = [[line.model_dump(exclude=speeds) for line in metrics_lines(tmp_path / name)] for name in ("off", "never")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(
    ("teacher", "dtype"), [("teacher", "bfloat16"), ("plain", "float32"), ("metaspace", "float32")]
)
def test_training_on_samples_alone_brings_the_student_to_its_teacher(
    world: Path, tmp_path: Path, teacher: str, dtype: str
) -> None:
    out = tmp_path / "run"
    config = _on_policy(
        world,
        out,
        teacher=str(world / teacher),
        objective={"kd_weight": 1.0},
        on_policy_fraction=1.0,
        dtype=dtype,
        epochs=20,
        max_steps=25,
        save_steps=100,
    )
    run_training(config)
    divergence = _curve(out, "on_policy_kd")
    assert len(divergence) == 25 and set(_curve(out, "ce")) == {None}
    assert sum(divergence[-5:]) < 0.9 * sum(divergence[:5])


def test_samples_are_scored_by_the_students_own_base_as_by_a_teacher_of_the_same_weights(
    world: Path, tmp_path: Path
) -> None:
    for name, teacher in (("self", None), ("online", str(world / "student"))):
        run_training(_on_policy(world, tmp_path / name, signal=name, teacher=teacher, on_policy_fraction=1.0))
    found, expected = (_curve(tmp_path / name, "on_policy_kd") for name in ("self", "online"))
    assert found == pytest.approx(expected, rel=1e-5) and min(expected) > 0


def test_what_draws_measures_gates_and_samples_works_together_and_resumes(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {
        "objective": EVERYTHING | {"kd_gate": "prob"},
        "on_policy_fraction": 0.4,
        "augmentation": {"shuffle_tools": True},
        "monitor": {"steps": 2, "max_new_tokens": 4},
        "held_out_fraction": 0.2,
        "epochs": 4,
    }
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run_training(_on_policy(world, whole, **fields))
    monkeypatch.setattr(run, "DistillTrainer", _DiesInStep7)
    with pytest.raises(_DiedError):
        run_training(_on_policy(world, resumed, **fields))
    monkeypatch.undo()
    run_training(_on_policy(world, resumed, **fields))
    _assert_equal(trained_weights(resumed), trained_weights(whole))
    for name in ("kd_gate_pass", "on_policy_valid", "held_out_call_accuracy"):
        assert any(getattr(line, name) is not None for line in metrics_lines(whole)), name


def test_tools_that_samples_can_not_be_checked_against_are_refused_before_weights_are_loaded(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = FunctionTool(function=ToolSpec(name="broken", description="", parameters={"type": "nothing"}))
    traces = [trace.model_copy(update={"tools": (*trace.tools, broken)}) for trace in tiny_traces(5)]
    write_jsonl(tmp_path / "traces.jsonl", traces)
    monkeypatch.setattr(student_model, "load_model", _refuse)
    monkeypatch.setattr(preparation, "load_model", _refuse)
    with pytest.raises(CatalogError, match="tool 'broken'"):
        run_training(_on_policy(world, tmp_path / "run", traces=tmp_path / "traces.jsonl"))
    assert not (tmp_path / "run").exists()


def test_long_traces_are_left_out_and_named(world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match="none of 10 traces has at most max_example_tokens 16 tokens"):
        run_training(train_config(world, tmp_path / "none", max_example_tokens=16))
    run_training(train_config(world, tmp_path / "all", max_steps=1))
    lengths = json.loads((tmp_path / "all" / "data.json").read_text())["student"]
    limit = lengths["prompt_tokens"]["median"] + lengths["completion_tokens"]["median"]
    with caplog.at_level(logging.WARNING):
        run_training(train_config(world, tmp_path / "some", max_steps=1, max_example_tokens=limit))
    report = json.loads((tmp_path / "some" / "data.json").read_text())
    assert 0 < len(report["left_out"]) == 10 - report["train_examples"]
    assert f"{len(report['left_out'])} of 10 traces have more than max_example_tokens {limit}" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"traces": Path("missing.jsonl")}, "traces missing.jsonl does not exist"),
        ({"objective": {"hidden_weight": 1.0, "layer_map": [[9, 1]]}}, r"layer_map: pair \[9, 1\] lies outside"),
        ({"tuning": {"method": "lora", "target_modules": ["nothing"]}}, "no module 'nothing'"),
        ({"student": {"model": "./nowhere"}}, "nowhere"),
        ({"dtype": "float16"}, "dtype is float16, but there is no CUDA device"),
    ],
)
def test_misuse_is_explained(world: Path, tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as error:
        run_training(train_config(world, tmp_path / "run", **fields))
    assert type(error.value).__module__ == "fcdistill.errors"


def test_the_last_steps_are_logged_however_few_they_are(world: Path, tmp_path: Path) -> None:
    every_step, some = tmp_path / "every_step", tmp_path / "some"
    run_training(train_config(world, every_step, max_steps=5))
    result = run_training(train_config(world, some, max_steps=5, log_steps=3, save_steps=100))
    losses = [line.loss for line in metrics_lines(every_step)]
    assert [line.step for line in metrics_lines(some)] == [3, 5]
    assert result.train_loss == pytest.approx((losses[3] + losses[4]) / 2, rel=1e-5)  # type: ignore[operator]
    assert run_training(train_config(world, tmp_path / "short", max_steps=1, log_steps=100)).train_loss == losses[0]


def test_the_result_is_plain_data(world: Path, tmp_path: Path) -> None:
    result = run_training(train_config(world, tmp_path / "run", max_steps=1, merge=False))
    assert isinstance(result, TrainResult) and result.seconds > 0 and result.held_out_ce is None
    assert not (tmp_path / "run" / "merged").exists()
    shutil.rmtree(tmp_path / "run")
