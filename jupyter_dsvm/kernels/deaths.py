"""The end of a notebook's kernel that nobody here has asked for, as far as its front knows of it. Pure.

``note`` and ``forget`` are called on the I/O thread; ``death`` is replaced as a whole and read from any.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import DSVMError, KernelStartError, printable
from .actions import Side
from .backends import Backend

log = logging.getLogger("jupyter_dsvm.proxy")


@dataclass(frozen=True)
class Death:
    compute: str
    compute_name: str
    code: int
    """Of its process; negative: the signal."""
    text: str
    """What it said last, cleaned; may be empty."""
    out_of_memory: int | None
    """``Backend.out_of_memory``."""


class Deaths:
    """Remembers the latest one until the notebook has another kernel by a person's will, or runs elsewhere.

    jupyter_client starts a dead kernel again by itself: that is the same story still, and the notebook's variables are as lost.
    """

    def __init__(self, explain: Callable[[Death], DSVMError | None]) -> None:
        """``explain``: what the cell that ran is to be told of it; None: its exit code, as always. On the I/O thread."""
        self.death: Death | None = None
        self._explain = explain

    def note(self, backend: Backend, code: int, text: str, asked: bool) -> DSVMError | None:
        """The notebook's kernel has ended; what ``explain`` says. ``asked``: somebody here wanted it to. A kernel that ends by
        itself and says that all is well (0) was told to by a cell."""
        if asked or code == 0:
            return None
        memory = getattr(backend, "out_of_memory", None)
        self.death = Death(backend.compute, backend.compute_name, code, text, memory)
        try:
            return self._explain(self.death)
        except Exception:
            log.exception("why a kernel ended cannot be found out")  # it has ended all the same
            return None

    def forget(self) -> None:
        self.death = None


def ended_by_itself(side: Side, answered: bool, code: int, text: str, current: bool) -> KernelStartError:
    """What is said of it where nobody knows more than its exit code. ``current``: it was the notebook's kernel, not one that was to
    become it."""
    said = f" It said: {printable(text).rstrip('.')}." if text.strip() else ""
    return KernelStartError(
        f"The kernel on {side.compute_name} ended with exit code {code}{'' if answered else ' before it answered'}.{said}",
        advice="Restart the kernel to go on." if current else "The notebook keeps the kernel it had.",
        code="KernelDied" if answered else None,
    )
