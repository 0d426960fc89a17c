import pytest

from fcdistill.distillation.signals import require_one_vocabulary
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
