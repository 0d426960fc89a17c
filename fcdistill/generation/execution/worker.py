"""The process in which a user's function carries out calls: started by `executor`, imported by nobody.

`python -m fcdistill.generation.execution.worker FUNCTION TIMEOUT_S MEMORY_BYTES STARTUP_S` reads one JSON line per call
from standard input and answers each on what was its standard output. The function itself finds both empty: what it
prints goes nowhere, and there is nothing to read.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import IO, Any

from fcdistill.errors import ConfigError
from fcdistill.tools.python_functions import import_function

_LONGEST_TEXT = 2000
_GRACE_S = 5.0
"""The parent kills a process that takes too long; where the parent itself is gone, this one ends so much later."""


def main() -> None:
    """Import the function, say whether that worked, then carry out calls until the input ends."""
    ref, timeout_s, memory_bytes, startup_s = sys.argv[1:]
    calls, replies = _private_pipes()
    signal.setitimer(signal.ITIMER_REAL, float(startup_s) + _GRACE_S)
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        function = import_function(ref, ConfigError)
    except ConfigError as error:
        _reply(replies, {"ok": False, "text": error.found, "required": error.required, "fix": error.fix})
        return
    _reply(replies, {"ok": True, "text": ""})
    for line in calls:
        call = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, float(timeout_s) + _GRACE_S)
        reply = _carried_out(function, call["name"], call["arguments"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        _reply(replies, reply)


def _private_pipes() -> tuple[IO[str], IO[str]]:
    """Standard input and output under other numbers; what the function knows by theirs is empty."""
    calls, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return calls, replies


def _carried_out(function: Callable[..., Any], name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        result = function(name, arguments)
    except BaseException as error:  # whatever a user's function raises, SystemExit included, is the call's failure
        return {"ok": False, "text": _shortened(f"{type(error).__name__}: {error}".removesuffix(": "))}
    try:
        return {"ok": True, "text": _shortened(json.dumps(result, ensure_ascii=False, allow_nan=False))}
    except (TypeError, ValueError, RecursionError) as error:
        return {"ok": False, "text": _shortened(f"the function returned no JSON value: {error}")}


def _shortened(text: str) -> str:
    # Lone surrogates can be in any string, and in no UTF-8.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _reply(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
