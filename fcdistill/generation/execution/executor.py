"""Calls are carried out by the user's own function, and what comes of it is a check.

The function is `function(name, arguments)`: it takes one call, returns a JSON value or raises. `name` is the tool's as
the catalogue's source gives it. One process of its own (`worker`) serves many calls; it is replaced where it
crashes or takes too long, and nothing of the user's module is ever imported here. What the function remembers between
calls is lost with its process, and calls of rejected candidates are carried out too, so it is best a sandbox of the
real tools.

Security: the limits of time and memory hold against accidents, not against malice. The function runs with the rights,
files, network and environment of whoever runs `fcdistill`, on arguments that a model wrote.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fcdistill.config import ExecutorConfig
from fcdistill.errors import ConfigError
from fcdistill.records import Check, ToolCall

__all__ = ["Executor", "execution_checks"]

_STARTUP_S = 60.0
_READ_BYTES = 65536


class Executor:
    """Carries out calls in a process that is started when it is needed.

    Args:
        config: the function, and its limits per call.
        original_names: a tool's name to the one that its source gave, where they differ.
    """

    def __init__(self, config: ExecutorConfig, original_names: Mapping[str, str] = MappingProxyType({})) -> None:
        self._config = config
        self._original_names = original_names
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and import the function, where that is not done.

        Raises:
            ConfigError: there is no such function, or its module can't be imported within the limits.
        """
        if self._process is not None:
            return
        config = self._config
        limits = (config.timeout_s, config.memory_bytes, _STARTUP_S)
        command = [sys.executable, "-m", f"{__package__}.worker", config.function, *map(str, limits)]
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what the function itself starts can be killed with it
        )
        reply = self._reply(_STARTUP_S)
        if isinstance(reply, str):
            raise ConfigError(
                f"executor {config.function}: its process {reply} while the module was imported",
                required=f"an import within {_STARTUP_S:g} s and executor.memory_bytes ({config.memory_bytes})",
                fix=f"raise executor.memory_bytes, or import less in {config.function.partition(':')[0]}",
            )
        if not reply["ok"]:
            self.close()
            raise ConfigError(f"executor: {reply['text']}", required=reply["required"], fix=reply["fix"])

    def check(self, calls: Sequence[ToolCall]) -> Check:
        """Carry out calls, in their order, up to the first that fails."""
        results = []
        for call in calls:
            ok, text = self._carry_out(call)
            if not ok:
                return Check(name="execution", ok=False, detail=f"{call.name}: {text}")
            results.append(f"{call.name} returned {text}")
        return Check(name="execution", ok=True, detail="; ".join(results) if self._config.record_results else "")

    def close(self) -> None:
        """Kill the process with all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # before it is waited for, while its number is surely its own
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()

    def _carry_out(self, call: ToolCall) -> tuple[bool, str]:
        name = self._original_names.get(call.name, call.name)
        line = (json.dumps({"name": name, "arguments": call.arguments}) + "\n").encode()
        self.start()
        try:
            self._send(line)
        except BrokenPipeError:  # it ended after its last answer, for which this call is not to blame
            self.close()
            self.start()
            self._send(line)
        reply = self._reply(self._config.timeout_s)
        return (False, f"the process {reply}") if isinstance(reply, str) else (reply["ok"], reply["text"])

    def _send(self, line: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line)

    def _reply(self, timeout_s: float) -> dict[str, Any] | str:
        """What the process answers; where it does not, what became of it, and it is gone."""
        assert self._process is not None and self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        received = b""
        while not received.endswith(b"\n"):
            left = deadline - time.monotonic()
            ready = select.select([self._process.stdout], [], [], left)[0] if left > 0 else []
            if not ready:
                self.close()
                return f"was killed after {timeout_s:g} s"
            data = os.read(self._process.stdout.fileno(), _READ_BYTES)
            if not data:
                process = self._process
                self.close()
                return _ended(process.returncode)
            received += data
        reply: dict[str, Any] = json.loads(received)
        return reply


def execution_checks(executor: Executor | None, calls: Sequence[ToolCall]) -> list[Check]:
    """The verdict on an answer's calls; none where it has no calls, or nobody carries them out."""
    return [executor.check(calls)] if executor is not None and calls else []


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
