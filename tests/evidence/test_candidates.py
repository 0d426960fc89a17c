"""Tests of `fcdistill.evidence.candidates`."""

from pathlib import Path

import pytest

from fcdistill.errors import DataError
from fcdistill.evidence.candidates import plant_errors, read_domains, read_source
from fcdistill.generation.verification.planted_errors import KINDS
from tests.evidence.imported import ROWS, imported


def test_traces_and_what_words_alone_refused_are_candidates(tmp_path: Path) -> None:
    rows = [*ROWS, ("kitchen light on", {"name": "set_lamp", "arguments": {}})]
    source = read_source(imported(tmp_path, rows, policy="strict", trust="hand_written"))
    assert len(source.candidates) == 6 and [reject.check for reject in source.rejects] == ["tool"]
    assert source.refused == {"log-2", "log-3"}
    assert (source.policy, source.trust, source.precision) == ("strict", "hand_written", 0.97)
    assert read_source(imported_again(tmp_path)).refused == {"log-3"}


def imported_again(directory: Path) -> Path:
    other = directory / "balanced"
    other.mkdir()
    return imported(other)


def test_each_candidate_is_followed_by_its_planted_errors(tmp_path: Path) -> None:
    source = read_source(imported(tmp_path))
    variants = plant_errors(source, read_domains(source, seed=0))
    owners = [variant.of for variant in variants]
    assert list(dict.fromkeys(owners)) == [trace.id for trace in source.candidates]
    assert len({variant.trace.id for variant in variants}) == len(variants)
    for trace in source.candidates:
        own, *planted = [variant for variant in variants if variant.of == trace.id]
        assert own.kind is None and own.trace is trace
        kinds = [variant.kind for variant in planted]
        assert kinds == [kind for kind in KINDS if kind in kinds] and len(kinds) >= 3
        assert all(variant.trace.messages[:-1] == trace.messages[:-1] for variant in planted)
        assert all(variant.trace.answer != trace.answer for variant in planted)
    # As the import read them.
    assert {variant.of for variant in variants if variant.kind is None and variant.words.refusals} == {"log-2", "log-3"}


def test_other_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        read_source(tmp_path)
    finished = imported(tmp_path)
    manifest = finished / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete"', '"running"'))
    with pytest.raises(DataError, match="a run of stage 'import' that is running"):
        read_source(finished)


def test_a_directory_without_a_call_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no trace with a call"):
        read_source(imported(tmp_path, [("hi there", {"name": "set_lamp", "arguments": {}})]))
