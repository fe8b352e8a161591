"""Which names a side can have, and the names of conflict copies. Pure."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Names:
    """What a side's file system makes of names."""

    folds_case: bool = False
    """``Data`` and ``data`` are one name (macOS, Windows)."""
    windows: bool = False
    max_name: int = 255
    """Bytes of one part."""
    max_path: int = 3000
    """Bytes of the whole, relative to the workspace; systems take 4096 with the folders above it."""


def problem(path: str, names: Names) -> str:
    """Why a side cannot have this path, or ""."""
    raise NotImplementedError


def printable(path: str) -> str:
    """With bytes that are no UTF-8, and control characters, as ``\\xNN``."""
    raise NotImplementedError


def conflict_name(path: str, there_name: str, now: datetime, taken: Container[str], names: Names) -> str:
    """``data.csv`` → ``data (gpu-vm 2026-11-28 05.10).csv``, with `` 2`` and so on where that is taken."""
    raise NotImplementedError
