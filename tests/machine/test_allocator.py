"""Tests of `fcdistill.machine.allocator`."""

import subprocess
import sys

import pytest

from fcdistill.machine.allocator import keep_freed_memory

# Allocates and frees a block; prints what the allocator then keeps for later.
_KEPT = """
import ctypes
from fcdistill.machine.allocator import keep_freed_memory

class Info(ctypes.Structure):
    _fields_ = [(f"field{{n}}", ctypes.c_size_t) for n in range(9)] + [("keepcost", ctypes.c_size_t)]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.mallinfo2.restype = Info
if {keep}:
    assert keep_freed_memory()
libc.free(libc.malloc({size}))
print(libc.mallinfo2().keepcost)
"""


def _kept_bytes(size: int, *, keep: bool) -> int:
    # In a process of its own: the setting is for good.
    code = _KEPT.format(keep=keep, size=size)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_freed_blocks_stay_with_the_process() -> None:
    block = 48 << 20
    assert _kept_bytes(block, keep=True) >= block > 4 * _kept_bytes(block, keep=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_huge_blocks_go_back() -> None:
    assert _kept_bytes(256 << 20, keep=True) < 64 << 20


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
