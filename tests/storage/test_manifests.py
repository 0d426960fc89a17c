from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import DataError
from fcdistill.records import ModelRef
from fcdistill.storage import read_json, sha256_bytes
from tests.storage.support import run


def test_the_manifest_says_how_the_directory_came_to_be(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"abc")
    with run(tmp_path / "out", inputs=[source], model=ModelRef(model="m", revision="r")):
        manifest = read_json(tmp_path / "out" / "manifest.json")
    assert manifest["inputs"] == {str(source): sha256_bytes(b"abc")}
    assert manifest["model"] == {"model": "m", "revision": "r", "params": {}}
    assert (manifest["stage"], manifest["status"], manifest["seed"]) == ("train", "running", 3)
    assert {"fcdistill", "torch", "pydantic"} <= manifest["packages"].keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "generate"}, "holds a run of `fcdistill train`"),
        ({"seed": 4}, "seed: was 3, is 4"),
        ({"config": {"epochs": 2, "batch": 8}}, "epochs: was 1, is 2"),
        (
            {"config": {"epochs": 1, "objective": {"ce_weight": 1.0, "kd_weight": 0.5}, "batch": 8}},
            "objective.kd_weight: was 0.0, is 0.5",
        ),
        ({"model": ModelRef(model="m")}, "model: was None, is {'model': 'm'"),
        ({"tokenizer_sha256": "t"}, "tokenizer_sha256: was None, is 't'"),
        ({"template_sha256": "t"}, "template_sha256: was None, is 't'"),
    ],
)
def test_another_run_in_its_place_is_refused_and_the_difference_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with run(tmp_path):
        before = read_json(tmp_path / "manifest.json")
    with pytest.raises(DataError) as caught:
        run(tmp_path, **changes)
    assert message in caught.value.found
    assert "batch" not in caught.value.found
    assert read_json(tmp_path / "manifest.json")["config"] == before["config"]
    with run(tmp_path) as again:
        assert again.resumed


def test_changed_added_and_removed_inputs_are_named(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    for path in (one, two, three):
        path.write_text("old")
    with run(tmp_path / "out", inputs=[one, two]):
        one.write_text("new")
    with pytest.raises(DataError) as caught:
        run(tmp_path / "out", inputs=[one, three])
    assert f"input {one}: its content changed" in caught.value.found
    assert f"input {two}: was read, is not" in caught.value.found
    assert f"input {three}: was not read, is now" in caught.value.found


@pytest.mark.parametrize("content", ["{", "[]", '{"stage": "train"}', '{"stage": 1, "stage": 1}'])
def test_a_corrupt_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="manifest") as caught:
        run(tmp_path)
    assert "choose another output directory" in caught.value.fix
    assert (tmp_path / "manifest.json").read_text() == content
