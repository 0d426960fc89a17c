from pathlib import Path

import pytest

from fcdistill.errors import DataError
from fcdistill.records import SeedRequest
from fcdistill.storage import iter_jsonl, iter_unique_jsonl, read_jsonl, write_jsonl
from tests.storage.support import seed


def test_jsonl_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.jsonl"
    write_jsonl(path, [seed(1), seed(2)])
    assert read_jsonl(path, SeedRequest) == [seed(1), seed(2)]
    assert path.read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b"}', "text: required and not given"),
        ('{"id": "b", "text": "x", "note": 1}', "note: unknown field"),
        ('{"id": "b", "text": 5}', r"text: Input should be a valid string \(found 5\)"),
        ('{"id": "b", "id": "c", "text": "x"}', "key 'id' occurs more than once"),
        ('{"id": "b", "te', "character 15"),
        ("[]", "must be an object"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"seeds .*a.jsonl, line 3: .*{message}"):
        read_jsonl(path, SeedRequest, "seeds")


def test_two_records_of_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [seed(1), seed(2), seed(1)])
    assert len(list(iter_jsonl(path, SeedRequest))) == 3
    with pytest.raises(DataError, match="holds id '1' twice"):
        read_jsonl(path, SeedRequest)
    records = iter_unique_jsonl(path, SeedRequest)
    assert [next(records), next(records)] == [seed(1), seed(2)]
    with pytest.raises(DataError, match="holds id '1' twice"):
        next(records)
