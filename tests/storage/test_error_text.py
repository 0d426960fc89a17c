from pathlib import Path

import pytest

from fcdistill.errors import DataError
from fcdistill.records import EvalCase
from fcdistill.storage import read_jsonl


def test_validators_of_a_record_speak_without_pydantic_prefixes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": "a", "messages": [{"role": "user"}], "behaviour": "call", "expected": [[]], "category": "simple"}'
    )
    with pytest.raises(DataError) as caught:
        read_jsonl(path, EvalCase)
    assert "behaviour is 'call' but an expected answer holds no call" in caught.value.found
    assert "Value error" not in caught.value.found
