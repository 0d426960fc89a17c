"""A user's Python function, named `module:function`, is imported and described; errors are said in their words.

Importing runs the user's module: only who was told to may call this.
"""

import contextlib
import importlib
import inspect
import operator
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fcdistill.errors import CatalogError, FcdistillError
from fcdistill.tools.openapi_schema import with_null_types

__all__ = ["describe_function", "import_function"]


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


def describe_function(function: Callable[..., Any], ref: str) -> dict[str, Any]:
    """What `transformers.utils.get_json_schema` makes of a function: name, description, parameters, return.

    A call gives arguments by name. `**options` takes further ones, each of its type; with `*values`, which have no
    name, a function is no tool.

    Args:
        function: the function.
        ref: how it is referred to, for errors.

    Raises:
        CatalogError: the function can't be described, or takes `*values`.
    """
    if function.__name__ == "<lambda>":
        raise CatalogError(
            f"function {ref} is a lambda, so the name can't be called", required="a name", fix="write it with def"
        )
    parameters, further = [], None
    for parameter in _signature(function, ref).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise CatalogError(
                f"function {ref} takes *{parameter.name}, arguments without a name",
                required="parameters that a call can name",
                fix=f"take a list instead: write `{parameter.name}` without the star, with a type such as list[str]",
            )
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            further = parameter
        else:
            parameters.append(parameter)
    described = _described(function, parameters, inspect.getdoc(function) or "", ref)
    schema = with_null_types(described["parameters"])
    if further is not None:
        schema["additionalProperties"] = _further(function, further, ref)
    return {**described, "parameters": schema}


def _signature(function: Callable[..., Any], ref: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise CatalogError(
            f"function {ref} can't be described: {error}",
            required="a function whose signature Python knows",
            fix="wrap it in a function of your own, with type hints",
        ) from None


def _further(function: Callable[..., Any], parameter: inspect.Parameter, ref: str) -> Any:
    """The schema of each argument that `**options` takes."""
    if parameter.annotation is inspect.Parameter.empty:
        return True
    named = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    described = _described(function, [named], f"Any.\n\nArgs:\n    {parameter.name}: Any.", ref)
    schema: dict[str, Any] = with_null_types(described["parameters"]["properties"][parameter.name])
    return {key: value for key, value in schema.items() if key != "description"} or True


def _described(
    function: Callable[..., Any], parameters: list[inspect.Parameter], docstring: str, ref: str
) -> dict[str, Any]:
    """What transformers makes of a function that has only these parameters, and this docstring."""
    from transformers.utils import chat_template_utils, get_json_schema

    # Names in annotations written as text are looked up where the function was written.
    stand_in: Any = types.FunctionType(
        (lambda: None).__code__, getattr(inspect.unwrap(function), "__globals__", {}), function.__name__
    )
    stand_in.__doc__ = re.sub(r"(?m)^(\s*)\*\*(?=\w+\s*(\(.*\))?:)", r"\1", docstring)
    stand_in.__signature__ = inspect.Signature(parameters)
    stand_in.__annotations__ = {each.name: each.annotation for each in parameters if each.annotation is not each.empty}
    returned = getattr(function, "__annotations__", {}).get("return", inspect.Parameter.empty)
    if returned is not inspect.Parameter.empty:
        stand_in.__annotations__["return"] = returned
    try:
        described: dict[str, Any] = get_json_schema(stand_in)["function"]
    except (
        chat_template_utils.DocstringParsingException,
        chat_template_utils.TypeHintParsingException,
        NameError,
        TypeError,
        ValueError,
    ) as error:
        raise CatalogError(
            f"function {ref} can't be described: {error}",
            required="type hints and a Google-style docstring that describes every argument",
            fix="complete the function's signature and docstring",
        ) from None
    return described


@contextlib.contextmanager
def _current_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)
