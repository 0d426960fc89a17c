"""How prompts will be rendered is known before weights are, and is what the backend then says."""

from pathlib import Path

import pytest

from fcdistill.backends import ScriptedBackend, open_backend, prompt_format
from fcdistill.config import LocalBackendConfig, OpenAIBackendConfig, ScriptedBackendConfig, ToolsInPrompt
from fcdistill.errors import ModelError
from fcdistill.models.loading import load_model
from fcdistill.models.students import StudentCard, save_student
from fcdistill.records import ModelRef


def local(model: Path, style: ToolsInPrompt | None = None) -> LocalBackendConfig:
    return LocalBackendConfig(model=str(model), dtype="float32", device="cpu", tools_in_prompt=style)


@pytest.mark.parametrize("style", [None, "compact"])
def test_what_is_foretold_of_a_model_is_what_its_backend_says(tiny_models: Path, style: ToolsInPrompt | None) -> None:
    config = local(tiny_models / "student", style)
    foretold = prompt_format(config)
    assert foretold == open_backend(config).prompt_format
    assert foretold is not None and foretold.tools_in_prompt == (style or "full")
    other = prompt_format(local(tiny_models / "chatml"))
    assert other is not None and other.template_sha256 != foretold.template_sha256


def test_a_student_is_asked_as_it_was_trained(tiny_models: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_models / "student"), dtype="float32", device="cpu")
    card = StudentCard(tools_in_prompt="none", tools=(), base=ModelRef(model="base"))
    save_student(loaded.model, loaded.tokenizer, tmp_path / "student", card)
    for style, expected in ((None, "none"), ("full", "full")):
        config = local(tmp_path / "student", style)  # type: ignore[arg-type]
        foretold = prompt_format(config)
        assert foretold is not None and foretold == open_backend(config).prompt_format
        assert foretold.tools_in_prompt == expected


def test_no_weights_are_needed(tiny_models: Path) -> None:
    assert prompt_format(local(tiny_models / "cut_short")) == prompt_format(local(tiny_models / "student"))
    with pytest.raises(ModelError):
        open_backend(local(tiny_models / "cut_short"))


def test_who_renders_no_prompt_has_no_format(tiny_models: Path) -> None:
    chat = OpenAIBackendConfig(backend="openai_http", base_url="http://localhost:1/v1", model="m", api_key_env=None)
    assert prompt_format(chat) is None and open_backend(chat).prompt_format is None
    assert prompt_format(ScriptedBackendConfig(backend="scripted", answers=Path("none.jsonl"))) is None
    assert ScriptedBackend({}).prompt_format is None


def test_the_completions_api_is_asked_in_the_format_of_its_tokenizer(tiny_models: Path) -> None:
    config = OpenAIBackendConfig(
        backend="openai_http",
        base_url="http://localhost:1/v1",
        model="m",
        api_key_env=None,
        api="completions",
        tokenizer=str(tiny_models / "student"),
        tools_in_prompt="compact",
    )
    backend = open_backend(config)
    foretold = prompt_format(config)
    assert foretold == backend.prompt_format == prompt_format(local(tiny_models / "student", "compact"))
    backend.close()
