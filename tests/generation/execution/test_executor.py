"""Tests of `fcdistill.generation.execution.executor` and of its process."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fcdistill.config import ExecutorConfig
from fcdistill.errors import ConfigError
from fcdistill.generation.execution.executor import Executor
from fcdistill.records import ToolCall
from tests.paths import ROOT

HOUSE = '''
"""A house that can be called, and breaks in all the ways in which a function can."""

import os
import signal
import subprocess
import sys
import time

served = 0
NO_FUNCTION = 3


def run(name, arguments):
    global served
    served += 1
    print("chatter on standard output")
    return ACTIONS[name](**arguments)


def pid():
    return os.getpid()


def spawn():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


ACTIONS = {
    "echo": lambda **arguments: arguments,
    "served": lambda: served,
    "pid": pid,
    "spawn": spawn,
    "raise": lambda: 1 / 0,
    "leave": lambda: sys.exit("goodbye"),
    "crash": lambda: os._exit(7),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "sleep": lambda: time.sleep(600),
    "grow": lambda: len(bytearray(4 << 30)),
    "object": lambda: object(),
    "nan": lambda: float("nan"),
    "long": lambda: "x" * 100_000,
    "surrogate": lambda: "\\ud800",
    "read": lambda: sys.stdin.read(),
}
'''


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("house")
    (folder / "house.py").write_text(HOUSE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        yield folder


@pytest.fixture(scope="module")
def executor(house: Path) -> Iterator[Executor]:
    executor = Executor(ExecutorConfig(function="house:run", record_results=True))
    yield executor
    executor.close()


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def result(executor: Executor, name: str) -> Any:
    check = executor.check([call(name)])
    assert check.ok, check
    return json.loads(check.detail.removeprefix(f"{name} returned "))


def test_results_are_recorded_and_one_process_serves_many_calls(executor: Executor) -> None:
    check = executor.check([call("echo", text="grün", n=1), call("echo")])
    assert check.ok and check.name == "execution"
    assert check.detail == 'echo returned {"text": "grün", "n": 1}; echo returned {}'
    assert result(executor, "pid") == result(executor, "pid") != os.getpid()
    assert "house" not in sys.modules


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("raise", "raise: ZeroDivisionError: division by zero"),
        ("leave", "leave: SystemExit: goodbye"),
        ("unknown", "unknown: KeyError: 'unknown'"),
        ("grow", "grow: MemoryError"),
        ("object", "object: the function returned no JSON value: Object of type object is not JSON serializable"),
        ("nan", "nan: the function returned no JSON value"),
    ],
)
def test_what_a_function_raises_is_its_call_s_failure(executor: Executor, name: str, detail: str) -> None:
    before = result(executor, "pid")
    check = executor.check([call("echo"), call(name), call("echo")])
    assert not check.ok and check.detail.startswith(detail)
    assert result(executor, "pid") == before


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("crash", "crash: the process ended with exit code 7"),
        ("segfault", "segfault: the process was ended by SIGSEGV"),
    ],
)
def test_a_crash_is_a_failure_and_the_next_call_has_a_new_process(executor: Executor, name: str, detail: str) -> None:
    before = result(executor, "pid")
    assert executor.check([call(name)]).detail == detail
    assert result(executor, "pid") != before and result(executor, "served") == 2


def test_a_process_that_is_gone_before_a_call_is_replaced(executor: Executor) -> None:
    gone = result(executor, "pid")
    os.kill(gone, 9)
    os.waitid(os.P_PID, gone, os.WEXITED | os.WNOWAIT)
    assert result(executor, "pid") != gone


def test_results_are_bounded_and_the_function_s_pipes_are_its_own(executor: Executor) -> None:
    assert len(executor.check([call("long")]).detail) < 2100
    assert result(executor, "surrogate") == "?"
    assert result(executor, "read") == ""


def test_a_call_that_takes_too_long_is_killed_with_all_that_it_started(house: Path) -> None:
    executor = Executor(ExecutorConfig(function="house:run", timeout_s=1.5, record_results=True))
    try:
        child = result(executor, "spawn")
        assert executor.check([call("sleep")]).detail == "sleep: the process was killed after 1.5 s"
        assert has_ended(child)
        assert executor.check([call("echo")]).ok
    finally:
        executor.close()


def has_ended(pid: int) -> bool:
    """Whether a killed process is gone, at the latest soon: signals are delivered when the system gets to it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
    return False


def test_results_are_not_recorded_unless_asked_and_names_are_the_source_s(house: Path) -> None:
    executor = Executor(ExecutorConfig(function="house:run"), {"home_echo": "echo"})
    try:
        assert executor.check([call("home_echo", a=1)]).detail == ""
    finally:
        executor.close()


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("nowhere:run", "module 'nowhere' of nowhere:run can't be imported: ModuleNotFoundError"),
        ("house:runs", "module 'house' has no 'runs'"),
        ("house:NO_FUNCTION", "house:NO_FUNCTION is int"),
        ("broken:run", "module 'broken' of broken:run can't be imported: RuntimeError: not today"),
        ("gone:run", "executor gone:run: its process ended with exit code 3 while the module was imported"),
    ],
)
def test_a_function_that_can_t_be_had_is_a_configuration_error(house: Path, function: str, found: str) -> None:
    (house / "broken.py").write_text("raise RuntimeError('not today')")
    (house / "gone.py").write_text("import os; os._exit(3)")
    executor = Executor(ExecutorConfig(function=function))
    with pytest.raises(ConfigError) as caught:
        executor.start()
    assert found in caught.value.found and caught.value.required and caught.value.fix
    executor.close()


def test_its_process_does_not_outlive_it(house: Path) -> None:
    executor = Executor(ExecutorConfig(function="house:run", record_results=True))
    pid, child = result(executor, "pid"), result(executor, "spawn")
    executor.close()
    executor.close()
    assert has_ended(pid) and has_ended(child)
