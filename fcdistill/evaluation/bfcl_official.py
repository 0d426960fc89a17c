"""The leaderboard's own verdict on an answer: its AST checker, run offline and without any vendor's SDK.

The checker's module imports the table of all hosted models, and with it every vendor's client, only to learn whether a
model's function names hold underscores for dots. A stand-in with that one fact takes the table's place while the
checker is imported, and is gone afterwards.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from fcdistill.errors import MissingDependencyError
from fcdistill.evaluation.bfcl import BfclEntry
from fcdistill.records import Prediction

__all__ = ["OfficialVerdict", "load_ast_checker", "official_verdict"]

_CHECKER = "bfcl_eval.eval_checker.ast_eval.ast_checker"
_MODEL_TABLE = "bfcl_eval.constants.model_config"
_MODEL = "fcdistill"


@dataclass(frozen=True)
class OfficialVerdict:
    """What the leaderboard says of one answer.

    Attributes:
        correct: its verdict.
        error: its kind of error, a colon and its words; empty where the answer is right.
    """

    correct: bool
    error: str = ""


@cache
def load_ast_checker() -> Callable[[list[Any], list[Any], list[Any], str], dict[str, Any]]:
    """The checker, as a function of function descriptions, calls, possible answer and category.

    Raises:
        MissingDependencyError: `bfcl-eval` is not installed, or its checker can't be imported.
    """
    before = sys.modules.get(_MODEL_TABLE)
    table = ModuleType(_MODEL_TABLE)
    table.__dict__["MODEL_CONFIG_MAPPING"] = {_MODEL: SimpleNamespace(underscore_to_dot=True)}
    sys.modules[_MODEL_TABLE] = table
    try:
        checker = importlib.import_module(_CHECKER)
        python = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"the AST checker of bfcl-eval can't be imported: {error}",
            required="bfcl-eval 2026.3.23 or one that is laid out like it",
            fix="pip install --no-deps bfcl-eval==2026.3.23",
        ) from error
    finally:
        if before is None:
            del sys.modules[_MODEL_TABLE]
        else:
            sys.modules[_MODEL_TABLE] = before

    def check(functions: list[Any], calls: list[Any], possible: list[Any], category: str) -> dict[str, Any]:
        verdict: dict[str, Any] = checker.ast_checker(functions, calls, possible, python, category, _MODEL)
        return verdict

    return check


def official_verdict(category: str, entry: BfclEntry, prediction: Prediction) -> OfficialVerdict:
    """The leaderboard's verdict on an answer.

    As there, an answer that can't be read as calls is no call: wrong where a call is wanted, right for irrelevance.

    Raises:
        MissingDependencyError: `bfcl-eval` is not installed.
    """
    calls: Sequence[Any] = () if prediction.parse_errors else prediction.calls
    if entry.possible_answer is None:
        if category.endswith("irrelevance"):
            return OfficialVerdict(True) if not calls else OfficialVerdict(False, "irrelevance: a call was made")
        return OfficialVerdict(True) if calls else OfficialVerdict(False, "relevance: no call was made")
    if not calls:
        return OfficialVerdict(False, "no_call: nothing that can be read as calls")
    made = [{call.name: call.arguments} for call in calls]
    check = load_ast_checker()
    try:
        verdict = check(list(entry.functions), made, list(entry.possible_answer), category)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # the checker trusts its input
        return OfficialVerdict(False, f"checker_failed: {type(error).__name__}: {error}")
    if verdict["valid"]:
        return OfficialVerdict(True)
    return OfficialVerdict(False, f"{verdict.get('error_type', 'unclear')}: {_words(verdict.get('error'))}")


def _words(error: object) -> str:
    """The innermost messages of an error, which for parallel calls are nested."""
    if isinstance(error, list):
        return " ".join(filter(None, map(_words, error)))
    if isinstance(error, dict):
        return " ".join(_words(each["sub_error"]) for each in error.values() if "sub_error" in each)
    return str(error or "")
