"""The end of a notebook's kernel that nobody here has asked for, as far as its front knows of it. Pure.

``note`` and ``forget`` are called on the I/O thread; ``death`` is replaced as a whole and read from any.
"""

from __future__ import annotations

from dataclasses import dataclass

from .backends import Backend


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

    def __init__(self) -> None:
        self.death: Death | None = None

    def note(self, backend: Backend, code: int, text: str, asked: bool) -> None:
        """The notebook's kernel has ended. ``asked``: somebody here wanted it to. A kernel that ends by itself and says that
        all is well (0) was told to by a cell."""
        if not asked and code != 0:
            memory = getattr(backend, "out_of_memory", None)
            self.death = Death(backend.compute, backend.compute_name, code, text, memory)

    def forget(self) -> None:
        self.death = None
