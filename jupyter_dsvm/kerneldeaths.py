"""Why a kernel ended that nobody had asked to: ``KernelRecord.problem``.

A relay says itself whether its machine was out of memory. For kernels here that is found out here, since the limit is one of the
configuration: while there are any, a thread looks at the memory every two seconds.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from .kernels.deaths import Death
from .models import FREE, Problem
from .relay.deaths import KILLED, LOOK_EVERY, Look, Watch

GIB = 1024**3

OUT_OF_MEMORY = "OutOfMemory"
"""The code of such a problem; the page offers a larger machine after it."""


class KernelDeaths:
    def __init__(self, look: Callable[[], Look], every: float = LOOK_EVERY) -> None:
        """``look`` at the free tier's memory; it may take some milliseconds, and is called on any thread."""
        self._lock = threading.Lock()
        self._watch = Watch(look, 0.0)
        self._every = every
        self._problems: dict[str, tuple[Death, Problem, int]] = {}
        """With how often that kernel was ended for want of memory since a person restarted it last."""
        self._any_here = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def problem(self, kernel_id: str, death: Death | None) -> Problem | None:
        """Called for each row; found out once for each death, and right after it, on the I/O thread."""
        known = self._problems.get(kernel_id)
        if death is None:
            self._problems.pop(kernel_id, None)
            return None
        if known is not None and known[0] is death:
            return known[1]
        limit = death.out_of_memory
        if death.compute == FREE:
            with self._lock:
                limit = self._watch.verdict(death.code)
        count = (known[2] if known is not None else 0) + (limit is not None)
        problem = problem_of(death, limit, count)
        self._problems[kernel_id] = (death, problem, count)
        return problem

    def kernels_changed(self, any_here: bool) -> None:
        """Whether there are kernels on this server. Any thread; does not block."""
        self._any_here = any_here
        if any_here:
            with self._lock:
                if self._thread is None and not self._stop.is_set():
                    self._thread = threading.Thread(target=self._look, name="jupyter-dsvm-memory", daemon=True)
                    self._thread.start()

    def _look(self) -> None:
        while True:
            look = self._watch.look()
            with self._lock:
                self._watch.keep(look)
            if self._stop.wait(self._every):
                return
            with self._lock:
                if not self._any_here:
                    self._thread = None
                    return

    def close(self) -> None:
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()


def problem_of(death: Death, limit: int | None, count: int = 1) -> Problem:
    """``limit``: bytes of memory, where the kernel was ended for want of it, for the ``count``-th time. That is in the text: a page
    tells of a problem that reads otherwise than the last one."""
    here = death.compute == FREE
    if limit is not None:
        where = "" if here else f" on {death.compute_name}"
        again = f" again ({count} times)" if count > 1 else ""
        first = (
            "Move the notebook to a bigger machine"
            if here
            else f"Resize {death.compute_name}, move to a bigger machine"
        )
        return Problem(
            OUT_OF_MEMORY,
            f"Out of memory at {gigabytes(limit)}{where}{again}: the kernel was ended, and its variables are lost.",
            f"{first}, or load less at a time and shut down notebooks that are not in use.",
        )
    name = "the free tier" if here else death.compute_name
    last = last_words(death)
    said = f" It said: {last.rstrip('.')}." if last else ""
    advice = "Run the cells again. Where it happens again, look for the cell after which it does."
    if death.code in KILLED:
        advice = f"Something on {name} ended it: a person, a program, or the system itself. Run the cells again."
    return Problem(
        "KernelDied",
        f"The kernel on {name} ended unexpectedly, {how(death.code)}. Its variables are lost.{said}",
        advice,
    )


def last_words(death: Death) -> str:
    """The last line of what it printed, where that may be the reason: ``ModuleNotFoundError: …``. One that was ended by a signal
    did not know; and ipykernel prints at its start how to connect to it."""
    lines = death.text.strip().splitlines()
    return "" if death.code < 0 or not lines or "--existing" in lines[-1] else lines[-1].strip()


def how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"with exit code {code}"
    words = ""
    try:
        words = signal.strsignal(-code) or ""
    except ValueError:
        pass
    return f"by signal {-code} ({words.lower()})" if words else f"by signal {-code}"


def gigabytes(size: int) -> str:
    """“4 GB”, as the page says it."""
    gib = size / GIB
    return f"{round(gib) if gib >= 10 else round(gib, 1 if gib >= 0.1 else 2):g} GB"
