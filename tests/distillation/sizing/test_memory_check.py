import json
import math
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from fcdistill.config import TrainConfig, parse_config
from fcdistill.distillation import run, student_model
from fcdistill.distillation.preparation import prepare
from fcdistill.distillation.sizing.memory_check import CheckReport, run_check
from fcdistill.errors import DataError
from fcdistill.models.loading import load_model
from fcdistill.records import MetricsLine
from fcdistill.storage import iter_jsonl, write_jsonl
from tests.distillation.tiny_data import tiny_traces
from tests.tiny import tiny_tokenizer

EVERYTHING = {"kd_weight": 0.5, "hidden_weight": 0.5, "num_layer_pairs": 2}
GIB = 2**30


def _config(models: Path, directory: Path, **fields: Any) -> TrainConfig:
    write_jsonl(directory / "traces.jsonl", tiny_traces(10))
    values = {
        "traces": directory / "traces.jsonl",
        "out": directory / "run",
        "student": {"model": str(models / "student")},
        "teacher": str(models / "teacher"),
        "tools_in_prompt": "compact",
        "tuning": {"lora_rank": 4, "lora_alpha": 8},
        "objective": EVERYTHING,
        "examples_per_step": 4,
        "examples_per_pack": 2,
        "epochs": 2,
        "dtype": "float32",
        "device": "cpu",
        **fields,
    }
    config: TrainConfig = parse_config(values, "train", "test")
    return config


def _described(directory: Path, **fields: Any) -> str:
    """A large model of which only the config and the tokenizer are there."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
        **fields,
    }
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    tiny_tokenizer("qwen").save_pretrained(directory)
    return str(directory)


def _part(report: CheckReport, name: str, phase: str = "training") -> int:
    return sum(need.bytes_of.get(name, 0) for need in report.devices if need.phase == phase)


def test_a_teacher_of_70_billion_beside_a_small_student_is_arithmetic(tiny_models: Path, tmp_path: Path) -> None:
    large = _described(tmp_path / "large")
    report = run_check(_config(tiny_models, tmp_path, teacher=large, dtype="bfloat16"))
    assert report.teacher is not None and report.teacher.num_parameters == 70_553_706_496  # Llama 3 70B
    assert _part(report, "teacher weights") == 2 * 70_553_706_496
    (device,) = report.devices
    assert device.device == "cpu" and device.total_bytes == sum(device.bytes_of.values()) > 131 * GIB
    assert device.fits is False and report.refused == []
    assert f"the weights of {large} are not here yet" in report.warnings
    (advice,) = [text for text in report.warnings if "does not fit on cpu" in text]
    assert advice.index("teacher_quantization") < advice.index("activations")

    report = run_check(
        _config(tiny_models, tmp_path, teacher=large, dtype="bfloat16", teacher_quantization="4bit", device="auto")
    )
    assert 35 * GIB < _part(report, "teacher weights") < 39 * GIB
    assert any("teacher_quantization is 4bit" in text for text in report.refused)


def test_parameters_are_those_of_the_loaded_student(tiny_models: Path, tmp_path: Path) -> None:
    report = run_check(_config(tiny_models, tmp_path))
    model = load_model(str(tiny_models / "student"), dtype="float32", device="cpu").model
    count = sum(parameter.numel() for parameter in model.parameters())
    assert (report.student.num_parameters, report.student.weight_bytes) == (count, 4 * count)
    projectors = 2 * 32 * 48
    assert _part(report, "optimizer states") == 8 * (report.student.num_trained + projectors)
    assert _part(report, "adapters, projectors") == 4 * (report.student.num_trained + projectors)
    full = run_check(_config(tiny_models, tmp_path, tuning={"method": "full"}, dtype="bfloat16"))
    assert (full.student.num_trained, full.student.dtype) == (count, "float32")
    assert _part(full, "student weights") == (4 + 2) * count
    cut = {"init": "from_teacher_layers", "model": str(tiny_models / "teacher"), "keep_layers": [0, 2]}
    assert run_check(_config(tiny_models, tmp_path, student=cut)).student.num_parameters < report.teacher.num_parameters  # type: ignore[union-attr]


def test_the_cache_parts_the_teacher_from_the_student(tiny_models: Path, tmp_path: Path) -> None:
    config = _config(tiny_models, tmp_path, signal="cached", cache={"dir": tmp_path / "cache"})
    report = run_check(config)
    assert [need.phase for need in report.devices] == ["caching", "training"]
    assert _part(report, "teacher weights") == 0 < _part(report, "teacher weights", "caching")
    assert _part(report, "student weights", "caching") == 0


def test_the_cache_is_written_in_packs_of_its_own(tiny_models: Path, tmp_path: Path) -> None:
    def parts(**cache: int) -> dict[str, int]:
        config = _config(tiny_models, tmp_path, signal="cached", cache={"dir": tmp_path / "cache", **cache})
        return {need.phase: need.bytes_of.get("teacher logits", 0) for need in run_check(config).devices}

    small, large = parts(examples_per_pack=1), parts(examples_per_pack=8)
    assert large["caching"] > 3 * small["caching"] > 0 == small["training"] == large["training"]
    large_teacher = _described(tmp_path / "large")
    config = _config(tiny_models, tmp_path, teacher=large_teacher, signal="cached", cache={"dir": tmp_path / "cache"})
    (advice,) = [text for text in run_check(config).warnings if "caching does not fit" in text]
    assert "teacher activations: a lower cache.examples_per_pack or pack_tokens" in advice


def test_a_student_that_teaches_itself_brings_passes_but_no_weights(tiny_models: Path, tmp_path: Path) -> None:
    report = run_check(_config(tiny_models, tmp_path, signal="self", teacher=None))
    assert report.teacher is not None and report.teacher.weight_bytes == 0 == _part(report, "teacher weights")
    assert _part(report, "teacher activations") > 0 and _part(report, "teacher logits") > 0


def test_a_teacher_elsewhere_counts_there(tiny_models: Path, tmp_path: Path) -> None:
    report = run_check(_config(tiny_models, tmp_path, teacher_device="cuda:1"))
    names = {need.device: need for need in report.devices}
    assert names.keys() == {"cpu", "cuda:1"}
    assert "teacher weights" not in names["cpu"].bytes_of and "teacher weights" in names["cuda:1"].bytes_of
    if not torch.cuda.is_available():
        assert (names["cuda:1"].fits, names["cuda:1"].available_bytes) == (None, None)
        assert any("teacher_device 'cuda:1'" in text for text in report.refused)


def test_tokens_and_steps_are_those_of_the_training(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tiny_models, tmp_path, held_out_fraction=0.2, log_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(student_model, "load_model", lambda *_, **__: pytest.fail("no weights are needed"))
        tokens = run_check(config).tokens
    result = run.run_training(config)
    assert (tokens.train_examples, tokens.steps) == (result.examples, result.steps)
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert tokens.lengths == data["student"]
    lines = [line for line in iter_jsonl(tmp_path / "run" / "metrics.jsonl", MetricsLine) if line.loss is not None]
    assert len(lines) == tokens.steps
    examples = prepare(config, signal="online").train
    assert tokens.unpacked_tokens_per_step == pytest.approx(4 * mean(len(each.student_ids) for each in examples))
    assert tokens.tokens_per_step < tokens.unpacked_tokens_per_step
    assert tokens.largest_batch_rows <= 2 * tokens.lengths["completion_tokens"]["max"]


def test_what_does_not_fit_the_processes_is_refused(tiny_models: Path, tmp_path: Path) -> None:
    report = run_check(_config(tiny_models, tmp_path), num_processes=4)
    assert report.refused == ["examples_per_step is 4, but 4 processes with examples_per_pack 2 take 8 at a time"]
    one = run_check(_config(tiny_models, tmp_path))
    assert report.devices[0].total_bytes == 4 * one.devices[0].total_bytes
    assert math.isclose(report.tokens.tokens_per_step, one.tokens.tokens_per_step)


def test_left_out_traces_are_a_warning_and_unusable_ones_an_error(tiny_models: Path, tmp_path: Path) -> None:
    report = run_check(_config(tiny_models, tmp_path))
    longest = sum(figures["median"] for figures in report.tokens.lengths.values())
    report = run_check(_config(tiny_models, tmp_path, max_example_tokens=longest, objective={}))
    assert report.tokens.left_out > 0 and any("are left out" in text for text in report.warnings)
    with pytest.raises(DataError, match="none of 10 traces"):
        run_check(_config(tiny_models, tmp_path, max_example_tokens=16))


def test_the_report_is_json(tiny_models: Path, tmp_path: Path) -> None:
    report = run_check(_config(tiny_models, tmp_path))
    assert json.loads(json.dumps(asdict(report)))["devices"][0]["fits"] is True
