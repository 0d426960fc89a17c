from pathlib import Path

import pytest

from fcdistill.errors import ModelError
from fcdistill.models.loading import load_model
from fcdistill.models.references import resolve
from fcdistill.records import ModelRef


@pytest.mark.parametrize(
    ("ref", "kind"),
    [
        ("smollm2-135m-instruct", "catalogue"),
        ("qwen2.5-coder-0.5b-instruct", "catalogue"),
        ("gpt2", "hub"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "hub"),
    ],
)
def test_names_mean_the_catalogue_or_the_hub(ref: str, kind: str) -> None:
    found = resolve(ref)
    assert (found.kind, found.path_or_id, found.ref.model) == (kind, ref, ref)


def test_a_catalogue_name_wins_over_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert resolve("smollm2-135m-instruct").kind == "catalogue"


@pytest.mark.parametrize(
    ("files", "kind", "inside"),
    [
        (["config.json"], "directory", ""),
        (["adapter_config.json"], "adapter", ""),
        (["manifest.json", "merged/config.json", "adapter/adapter_config.json"], "run", "merged"),
        (["manifest.json", "adapter/adapter_config.json"], "run", "adapter"),
    ],
)
def test_directories_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], kind: str, inside: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in files:
        path = tmp_path / "runs" / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    found = resolve("runs/x")
    assert (found.kind, Path(found.path_or_id)) == (kind, Path("runs/x") / inside)
    assert found.ref == ModelRef(model="runs/x")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("./missing", "no such directory"),
        ("/missing", "no such directory"),
        ("~/missing-model", "no such directory"),
        ("runs/x/merged", "no such directory"),
        ("missing.gguf", "model missing.gguf: no such directory or file"),
        ("runs/", "no such directory"),
        ("", "no model reference"),
        ("two words", "no model reference"),
        ("empty", "holds no model"),
        ("unfinished", "without a trained model"),
        ("file.bin", "is a file"),
    ],
)
def test_unusable_references_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ref: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "manifest.json").write_text("{}")
    (tmp_path / "file.bin").write_text("x")
    with pytest.raises(ModelError, match=message) as caught:
        load_model(ref, dtype="float32")
    assert caught.value.required and caught.value.fix
