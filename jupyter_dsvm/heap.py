"""The C library's heap on a hub, where many servers share one computer's memory: kept in few pieces, and given back.

glibc has a heap of its own for each of the first threads, up to eight per core, and keeps in each what was freed in between.
With two of them, and what is free given back after each change of machines or kernels, a server whose notebook was on a VM
takes 1.4 MB less (measured). Python holds its lock nearly whenever it takes memory, so that threads wait for no heap.
On other C libraries there is nothing to do.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

HEAPS = 2
_M_ARENA_MAX = -8
"""mallopt(3)."""


@functools.cache
def _glibc() -> Any:
    """None where it is another library."""
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
    except OSError:
        return None


def keep_small() -> None:
    """No further heaps for this process's threads. For early on: what there is already stays."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_ARENA_MAX, HEAPS)


def give_back() -> None:
    """What is free in all heaps goes back to the system: some milliseconds, in which other threads that take memory wait."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)
