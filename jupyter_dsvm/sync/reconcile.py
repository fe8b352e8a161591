"""(base, here, there) → plan. Pure."""

from __future__ import annotations

from .base import Base
from .entries import Tree
from .plan import Direction, Options, Plan


def reconcile(base: Base, here: Tree | None, there: Tree | None, *, direction: Direction, options: Options) -> Plan:
    """What brings both sides into step. ``None`` is a side whose folder is not there."""
    raise NotImplementedError
