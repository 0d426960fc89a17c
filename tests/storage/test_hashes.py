from pathlib import Path

import pytest

from fcdistill.errors import DataError
from fcdistill.storage import sha256_bytes, sha256_file, sha256_json


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_file(path) == sha256_bytes(b"abc")
    assert sha256_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1}) != sha256_json({"a": 1, "b": [3]})
    with pytest.raises(DataError, match="does not exist"):
        sha256_file(tmp_path / "b")
