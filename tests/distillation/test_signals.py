from pathlib import Path

import pytest
import torch

from fcdistill.distillation.signals import CachedTeacher, require_one_vocabulary
from fcdistill.distillation.teacher_cache import (
    IndexLine,
    TeacherCache,
    TraceSignals,
    top_k_signals,
    write_index,
    write_shard,
)
from fcdistill.errors import ConfigError
from tests.tiny import tiny_tokenizer


def test_one_tokenizer_gives_its_real_vocabulary() -> None:
    tokenizer = tiny_tokenizer("qwen")
    shared = require_one_vocabulary(tokenizer, tiny_tokenizer("qwen"), student_name="s", teacher_name="t")
    assert shared.size == len(tokenizer)


def test_other_tokenizers_are_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError) as error:
        require_one_vocabulary(
            tiny_tokenizer("chatml"), tiny_tokenizer("plain"), student_name="small", teacher_name="large"
        )
    assert "student small and teacher large have different tokenizers" in str(error.value)
    assert "cross-entropy on the traces works with any tokenizer" in error.value.fix


def test_a_cached_teacher_gives_its_rows_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    logits = {"a": torch.randn(2, 9), "b": torch.randn(3, 9)}
    hidden = {name: {layer: torch.randn(4, 5).bfloat16() for layer in (1, 2)} for name in logits}
    signals = {
        name: TraceSignals(*top_k_signals(logits_NV, 4, (1.0, 3.0)), hidden[name]) for name, logits_NV in logits.items()
    }
    write_index(tmp_path, [IndexLine(id=name, shard=0, input_sha256="") for name in logits])
    write_shard(tmp_path, 0, signals, (1.0, 3.0))
    teacher = CachedTeacher(TeacherCache(tmp_path, (1.0, 3.0), (2,)), 9, kd_temperature=3.0, needs_logits=True)
    rows = teacher.rows(teacher.read(["b", "a", "b"]))
    logits_NV = torch.cat([logits[name] for name in "bab"])
    assert rows.vocabulary_size == 9
    assert torch.equal(rows.top_k.ids_NK, logits_NV.topk(4).indices)
    exact_NK = (logits_NV / 3.0).log_softmax(-1).gather(1, rows.top_k.ids_NK)
    assert torch.allclose(rows.top_k.logprobs_NK, exact_NK, atol=2e-3)
    assert rows.hidden_MH.keys() == {2}
    assert torch.equal(rows.hidden_MH[2], torch.cat([hidden[name][2] for name in "bab"]))
