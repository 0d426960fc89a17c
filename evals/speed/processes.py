"""Contenders as processes of their own, and the machine that they run on; what they do is not known here.

Only the standard library is used: the process that starts the contenders has to stay small, and knows no torch.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from fcdistill.errors import ConfigError

__all__ = ["describe_machine", "last_line", "num_cores", "resolve_device", "say", "start", "versions_of"]

_HERE = Path(__file__).parent


def start(python: str, script: str, *arguments: str, num_threads: int) -> subprocess.CompletedProcess[str]:
    """Run a script of this directory to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads), "TOKENIZERS_PARALLELISM": "false"}
    command = [python, str(_HERE / script), *arguments]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def last_line(text: str) -> str:
    """The last line that says something."""
    lines: Iterable[str] = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if line), "it said nothing")


def say(line: str) -> None:
    """Tell people something; stdout is for the report."""
    print(line, file=sys.stderr, flush=True)


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_device(choice: str) -> Literal["cpu", "cuda"]:
    """The device of a flag of auto, cpu or cuda."""
    if choice == "auto":
        # Asked of another process: this one stays without torch, and so small.
        code = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        choice = done.stdout.strip()
    return "cuda" if choice == "cuda" else "cpu"


def versions_of(python: str, packages: Sequence[str]) -> dict[str, str]:
    """The versions of packages in an interpreter's environment, of those that it has.

    Raises:
        ConfigError: there is no such interpreter.
    """
    code = (
        "import importlib.metadata, importlib.util, json, platform, sys\n"
        "found = {n: importlib.metadata.version(n) for n in sys.argv[1:] if importlib.util.find_spec(n)}\n"
        "print(json.dumps({'python': platform.python_version(), **found}))"
    )
    try:
        done = subprocess.run([python, "-c", code, *packages], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f"--peer-python {python}: {error}", required="a Python interpreter", fix="correct the path"
        ) from None
    found: dict[str, str] = json.loads(done.stdout)
    return found


def describe_machine(device: str, num_threads: int) -> dict[str, Any]:
    """What a report says of the machine."""
    return {"device": device, "cores": num_cores(), "threads": num_threads, "architecture": platform.machine()}
