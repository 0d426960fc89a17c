"""A model directory as the tests of `fcdistill.models` share it."""

from pathlib import Path

import pytest

from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A model directory as any tool writes it, without a card."""
    tokenizer = tiny_tokenizer("qwen")
    directory = tmp_path / "plain"
    tiny_model("qwen2", len(tokenizer)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
