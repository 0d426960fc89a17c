"""A user's Python function, named `module:function`, is imported; what goes wrong with that is said in their words.

Importing runs the user's module: only who was told to may call this.
"""

import contextlib
import importlib
import inspect
import operator
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fcdistill.errors import FcdistillError

__all__ = ["import_function"]


def import_function(ref: str, error: type[FcdistillError]) -> Callable[..., Any]:
    """The function that `module:function` names; modules in the current directory are found too.

    Raises:
        FcdistillError: of the type `error`: there is no such module or function.
    """
    module_name, separator, name = ref.partition(":")
    if not (separator and module_name and name):
        raise error(f"{ref!r} names no function", required="module:function", fix="write for example tools:dim")
    try:
        with _current_directory_importable():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as raised:  # whatever a user's module does when it is imported
        raise error(
            f"module {module_name!r} of {ref} can't be imported: {type(raised).__name__}: {raised}",
            required="a module that is installed or lies in the current directory",
            fix=f"check that `python -c 'import {module_name}'` works here ({Path.cwd()})",
        ) from raised
    try:
        function = operator.attrgetter(name)(module)
    except AttributeError:
        functions = sorted(key for key, value in vars(module).items() if inspect.isroutine(value))
        raise error(
            f"module {module_name!r} has no {name!r}",
            required="a function of that module",
            fix=f"name one of {', '.join(functions) or '(it has none)'}",
        ) from None
    if not inspect.isroutine(function):
        raise error(f"{ref} is {type(function).__name__}", required="a function", fix="name a function")
    return function


@contextlib.contextmanager
def _current_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)
