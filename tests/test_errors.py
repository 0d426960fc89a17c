import pickle

import pytest

from fcdistill import errors
from fcdistill.errors import ConfigError, FcdistillError, InfrastructureError, StorageError

ERRORS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("error_type", ERRORS)
def test_every_error_is_in_the_tree_and_in_its_drawing(error_type: type[FcdistillError]) -> None:
    assert issubclass(error_type, FcdistillError)
    assert error_type.__name__ in (errors.__doc__ or "")


def test_all_lists_every_error() -> None:
    defined = [name for name, value in vars(errors).items() if isinstance(value, type)]
    assert sorted(defined) == sorted(errors.__all__)


@pytest.mark.parametrize("error_type", ERRORS)
def test_exit_code_tells_usage_from_infrastructure(error_type: type[FcdistillError]) -> None:
    assert error_type.exit_code == (3 if issubclass(error_type, InfrastructureError) else 2)


def test_text_says_what_was_found_what_is_required_and_how_to_fix_it() -> None:
    error = ConfigError("seed is 'x'", required="an integer", fix="write seed: 1")
    assert str(error) == "seed is 'x'\nRequired: an integer\nFix: write seed: 1"


def test_text_leaves_out_what_is_not_given() -> None:
    assert str(StorageError("gone")) == "gone"
    assert str(StorageError("gone", fix="look")) == "gone\nFix: look"


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("found", required="required", fix="fix")))
    assert (error.found, error.required, error.fix) == ("found", "required", "fix")
