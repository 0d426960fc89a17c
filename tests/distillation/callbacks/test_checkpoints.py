import logging
from pathlib import Path

import pytest

from fcdistill.distillation.callbacks.checkpoints import checkpoint_of, last_sealed, remove_older, seal


def _checkpoint(directory: Path, step: int, *, sealed: bool = True) -> Path:
    path = directory / f"checkpoint-{step}"
    (path / "inner").mkdir(parents=True)
    (path / "weights").write_bytes(b"w" * step)
    (path / "inner" / "state").write_text("state")
    if sealed:
        seal(path)
    return path


def test_the_newest_whole_checkpoint_by_number(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        _checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-draft").mkdir()
    assert last_sealed(tmp_path) == tmp_path / "checkpoint-100"


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert last_sealed(tmp_path) is None
    assert last_sealed(tmp_path / "missing") is None


def _flip(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "sealed.json").unlink(),
        lambda path: (path / "sealed.json").write_text("{"),
        lambda path: (path / "sealed.json").write_text("1"),
        lambda path: (path / "weights").unlink(),
        lambda path: (path / "weights").write_bytes(b"w"),
        lambda path: _flip(path / "weights"),
        lambda path: _flip(path / "inner" / "state"),
    ],
)
def test_incomplete_and_damaged_checkpoints_are_skipped_and_removed(
    tmp_path: Path,
    damage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _checkpoint(tmp_path, 10)
    damaged = _checkpoint(tmp_path, 20)
    damage(damaged)
    with caplog.at_level(logging.WARNING):
        assert last_sealed(tmp_path) == tmp_path / "checkpoint-10"
    assert not damaged.exists() and "checkpoint-20 is incomplete or damaged" in caplog.text


def test_a_checkpoint_is_of_use_only_with_those_that_it_needs(tmp_path: Path) -> None:
    best, old = _checkpoint(tmp_path, 10), _checkpoint(tmp_path, 5)
    newest = _checkpoint(tmp_path, 20, sealed=False)
    seal(newest, best)
    assert last_sealed(tmp_path) == newest
    _flip(best / "weights")
    assert last_sealed(tmp_path) == old
    assert not newest.exists() and not best.exists()


def test_a_needed_checkpoint_may_not_be_replaced_by_another_one(tmp_path: Path) -> None:
    best = _checkpoint(tmp_path, 10)
    newest = _checkpoint(tmp_path, 20, sealed=False)
    seal(newest, best)
    (best / "weights").write_bytes(b"other")
    seal(best)
    assert last_sealed(tmp_path) == best


def test_the_checkpoint_of_a_step(tmp_path: Path) -> None:
    assert last_sealed(tmp_path) is None
    _checkpoint(tmp_path, 7)
    assert checkpoint_of(tmp_path, 7) == last_sealed(tmp_path)


def test_the_newest_two_stay_with_those_that_they_need(tmp_path: Path) -> None:
    """Whichever of the newest two is damaged, the other one is whole with its best."""
    old, best, *_ = (_checkpoint(tmp_path, step) for step in (4, 5, 9))
    for step, needed in ((10, best), (100, old)):
        seal(_checkpoint(tmp_path, step, sealed=False), needed)
    (tmp_path / "notes").mkdir()
    remove_older(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-10",
        "checkpoint-100",
        "checkpoint-4",
        "checkpoint-5",
        "notes",
    ]
    new_best = _checkpoint(tmp_path, 200)
    remove_older(tmp_path)
    assert sorted(tmp_path.glob("checkpoint-*")) == sorted([old, tmp_path / "checkpoint-100", new_best])
    _flip(new_best / "weights")
    assert last_sealed(tmp_path) == tmp_path / "checkpoint-100"


def test_a_damaged_seal_needs_nothing(tmp_path: Path) -> None:
    paths = [_checkpoint(tmp_path, step) for step in (1, 2, 3)]
    (paths[1] / "sealed.json").write_text("{")
    remove_older(tmp_path)
    assert sorted(tmp_path.iterdir()) == paths[1:]
