"""How the C allocator treats the large tensors that come and go with every step on a CPU.

By default glibc gives every block of more than some MB back to the kernel at once, and the next step gets it again,
page by page and zeroed. Blocks below 64 MB are kept instead; larger ones still go back, since holes of changing sizes
would let the process grow.
"""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# Names and numbers of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_INT = 2**31 - 1
_LARGEST_KEPT_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocations; returns whether its allocator can be told so."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        [mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES), mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)]
    )
