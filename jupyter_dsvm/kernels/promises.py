"""What the callers of one proxy wait for: that a backend is prepared, that it has taken over, that the kernel has ended.

And how a coroutine waits for what blocks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def promise() -> Future[Any]:
    """A future that whoever waits for it cannot cancel: others wait for it too, and it is not theirs to set."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """For what blocks while the loop must go on. Not the loop's default executor: that would leave its threads to a loop that
    is not ours. Whoever waits may be cancelled; the function runs to its end."""
    future: Future[T] = promise()

    def run() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as e:
            future.set_exception(e)

    threading.Thread(target=run, name="jupyter-dsvm-work", daemon=True).start()
    return await asyncio.wrap_future(future)


class Promises:
    """Written on the I/O thread only. ``exit`` and ``exit_code`` may be read from any thread."""

    def __init__(self) -> None:
        self.prepared: dict[int, Future[None]] = {}
        """By the gate's number of the side: its process runs (when launched), or it is ready to be swapped in."""
        self.swapped: dict[int, Future[None]] = {}
        self.exit: Future[int] = promise()
        self.exit_code: int | None = None

    def keep(self, kind: dict[int, Future[None]], number: int, error: BaseException | None = None) -> None:
        """It has come true, or with ``error``: it will not."""
        settle(kind.pop(number, None), error)

    def fail(self, number: int, error: BaseException) -> None:
        self.keep(self.prepared, number, error)
        self.keep(self.swapped, number, error)

    def close(self, error: BaseException) -> None:
        for number in [*self.prepared, *self.swapped]:
            self.fail(number, error)
        self.has_exited(-9)

    def has_exited(self, code: int) -> None:
        """The current kernel has confirmedly ended."""
        self.exit_code = code
        if not self.exit.done():
            self.exit.set_result(code)

    def launched(self) -> None:
        """Another kernel is the current one from now on."""
        self.exit_code = None
        self.exit = promise()


def settle(future: Future[None] | None, error: BaseException | None) -> None:
    if future is None or future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
