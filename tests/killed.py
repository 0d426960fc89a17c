"""Work that dies in the middle: in a copy of the test's process, where all that takes long to import already is."""

import os
import signal
import time
import traceback
from collections.abc import Callable

__all__ = ["exit_code_of", "kill_me"]


def exit_code_of(work: Callable[[], object], *, timeout_s: float = 300) -> int:
    """Run a function in a fork of this process, which ends with it.

    Returns:
        0 where the function returned, 1 where it raised (the traceback goes to stderr), and the negative number of
        the signal that killed it otherwise; -SIGABRT where it took longer than `timeout_s`.
    """
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + timeout_s
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGABRT)
            ended = os.waitpid(process, 0)
            break
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


def kill_me() -> None:
    """Kill this process as the system does when memory runs out: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
