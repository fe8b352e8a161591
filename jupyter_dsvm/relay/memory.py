"""What the C library does with memory that is free again. Without effect where it is not glibc.

By default it gives the top of its heap back to the system whenever 128 KiB are free there, and so after every large message;
each page of the next one is then a fault, which costs more than copying into it does. So a process that passes on messages
keeps some, and gives it back when it has been quiet for a while.
"""

from __future__ import annotations

import ctypes
from typing import Any

KEPT = 16 * 1024 * 1024
"""Bytes."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


def keep() -> None:
    """Called once, when a process begins to pass on messages."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_MMAP_THRESHOLD, KEPT)


def give_back() -> None:
    """Called when it has nothing more to pass on. Takes a millisecond or so."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except OSError:
        return None
