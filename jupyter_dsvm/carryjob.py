"""One move's variables, from the moment in which both kernels are ready to the one in which the new one has them.

``Moves`` is given one for each move that carries, and hands ``begin`` to the proxy, which calls it when nothing but variables is
left to move (``kernels.swapping``). Then, on a thread::

    hello      both kernels get the code, and say what they can do
    plan       the old one says how much it will be, for the progress, and what has to be installed where it goes
    ways       a socket beside each of them, and pumps in between (``carryends``)
    receive    the new one connects, then the old one sends
    carried    both have answered: the proxy changes over; names that failed are in the notice

If carrying as a whole fails, the move does, and the notebook stays where it was with all that it had: ``Asking.give_up``. Whoever
cancels the move, or a kernel that ends, has the proxy's future end it first; what is under way here then only has to be torn down.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

from .carrywords import came_along, progress_text, stayed
from .errors import Cancelled, DSVMError, KernelStartError, OperationRefused, SwapError
from .kernelvariables import (
    POLL_SECONDS,
    Failed,
    Hello,
    Moved,
    VariablesError,
    VariablesIn,
    hello_of,
    modules_of,
    moved_of,
    planned_of,
    read,
)
from .operations import Running
from .tables import bytes_words

if TYPE_CHECKING:
    from .carryends import LocalEnd, Pumps, RemoteEnd

log = logging.getLogger("jupyter_dsvm.carrying")

LOOK_SECONDS = 2.0
"""That the old kernel may look at its variables before it sends them: only the progress wants to know."""
STALLED_SECONDS = 300.0
"""With nothing moved. A kernel that pickles or unpickles something large says nothing meanwhile."""
GRACE_SECONDS = 3.0
"""After the first thing that went wrong: what comes next may say more about why."""
SAY_SECONDS = 0.2

Ends = Callable[[int | None], "tuple[LocalEnd | RemoteEnd, LocalEnd | RemoteEnd]"]
"""Opens the end beside the old kernel and the one beside the new one, for so many bytes, where that is known. Blocks; raises
``DSVMError``."""


class CarryFailed(SwapError):
    """Nothing is lost: the notebook keeps its kernel."""

    code = "CarryFailed"


class CarryJob:
    def __init__(
        self,
        proxy: Any,
        running: Running,
        names: Sequence[str] | None,
        source: str,
        ends: Ends,
        *,
        met: Callable[[Hello, Hello], None] = lambda old, new: None,
        measured: Callable[[int, float], None] = lambda size, seconds: None,
        room: Callable[[], int | None] = lambda: None,
        tell: bool = False,
    ) -> None:
        """``names`` None: all that can. ``source``: where the old kernel is, in a sentence. ``met`` is told what the kernels said
        of themselves, ``measured`` how many bytes took how many seconds; ``room`` gives the bytes that there is memory for, where
        that is known. ``tell``: the outcome is said in the notebook too, above its next cell's output, as nobody else looks."""
        self._proxy = proxy
        self._running = running
        self._names = names
        self._source = source
        self._open = ends
        self._met, self._measured, self._room = met, measured, room
        self._tell = tell
        self._swapped: Future[None] | None = None
        self._begun = False
        self._moved: Moved | None = None
        self._failed: tuple[Failed, ...] = ()
        self._pumps: Pumps | None = None
        self._said = 0.0

    # For the move

    def begin(self, old: int, new: int) -> None:
        """On the I/O thread: it must not block."""
        self._begun = True
        threading.Thread(target=self._run, args=(old, new), name="jupyter-dsvm-carry", daemon=True).start()

    def watch(self, swapped: Future[None]) -> None:
        """The move's own future, as soon as there is one: where it ends before this job does, there is nothing left to do."""
        self._swapped = swapped

    def notice(self) -> str:
        """What became of them, once the notebook has moved."""
        if self._moved is not None:
            return came_along(self._moved, self._failed)
        if self._begun:
            return stayed(self._source, "the kernel there ended while they were carried.")
        return stayed(self._source, "the kernel there had ended before they could be carried.")

    def ended(self, error: BaseException | None) -> None:
        """The move is over. On the I/O thread."""
        if not self._tell:
            return
        if error is None:
            self._proxy.say(self.notice())
        elif isinstance(error, DSVMError) and self._begun:
            self._proxy.say(f"This notebook stays on {self._source}. {error}")

    # On its thread

    def _run(self, old: int, new: int) -> None:
        try:
            self._carry(old, new)
        except DSVMError as e:
            self._proxy.asking.give_up(new, e)
        except Exception as e:
            log.exception("carrying variables failed")
            self._proxy.asking.give_up(new, CarryFailed(f"The variables were not carried: {type(e).__name__}: {e}"))
        else:
            self._proxy.asking.carried(new)
        finally:
            if self._pumps is not None:
                self._pumps.close()

    def _carry(self, old: int, new: int) -> None:
        self._running.step("variables", progress_text(0, 0))
        here, there = VariablesIn(self._proxy, old), VariablesIn(self._proxy, new)
        asked, looked = here.begin("hello"), here.begin_plan(self._names, None, LOOK_SECONDS)
        about_old, said = hello_of(self._wait(asked)), self._wait(looked)
        planned = planned_of(said)
        about_new = hello_of(self._wait(there.begin("hello", modules=modules_of(said))))
        self._met(about_old, about_new)
        size = planned.size
        room = self._room()
        if room is not None and planned.bytes > room:
            raise too_large(planned.bytes, room)
        began = time.monotonic()
        from .carryends import Pumps  # late, as all that only an attach needs

        at_old, at_new = self._open(size)
        self._pumps = Pumps(at_old, at_new)
        received = there.begin_receive(at_new.path, room)
        sent = here.begin_send(at_old.path, self._names, about_new)
        went, came = self._both(sent, received, size or 0)
        self._failed = tuple({f.name: f for f in (*went.failed, *came.failed)}.values())
        self._moved = came
        self._measured(self._pumps.moved, time.monotonic() - began)

    def _wait(self, asked: Future[dict[str, Any]]) -> dict[str, Any]:
        while True:
            self._look()
            try:
                return read(asked.result(timeout=POLL_SECONDS))
            except FutureTimeout:
                if asked.done():
                    raise

    def _both(self, sent: Future[dict[str, Any]], received: Future[dict[str, Any]], size: int) -> tuple[Moved, Moved]:
        assert self._pumps is not None
        wrong: float | None = None
        while not (sent.done() and received.done()):
            self._look()
            now = time.monotonic()
            if now - self._pumps.last > STALLED_SECONDS:
                raise CarryFailed(
                    f"The variables were not carried: nothing moved for {STALLED_SECONDS:.0f} s.",
                    advice="Move the notebook without them, or name only some: nothing was lost.",
                    code="Stalled",
                )
            if wrong is None and (self._pumps.broken or any(_went_wrong(f) for f in (sent, received) if f.done())):
                wrong = now
            if wrong is not None and now - wrong > GRACE_SECONDS:
                break
            self._report(size, now)
            time.sleep(POLL_SECONDS if wrong is None else SAY_SECONDS / 4)
        self._look()
        if any(not f.done() or _went_wrong(f) for f in (sent, received)):
            raise self._why(sent, received)
        return moved_of(read(sent.result()), "sent"), moved_of(read(received.result()), "received")

    def _why(self, sent: Future[dict[str, Any]], received: Future[dict[str, Any]]) -> DSVMError:
        """The first cause, as far as it can be told: a lost connection, else what the kernels said."""
        assert self._pumps is not None
        if self._pumps.broken is not None:
            broken = self._pumps.broken
            broken.advice = (
                "Nothing was lost: the notebook stays where it was. Try again, or move it without its variables."
            )
            return broken
        said = [e for f in (sent, received) if f.done() and (e := _went_wrong(f)) is not None]
        # A kernel that lost the other one only says so; the other one knows why.
        telling = [e for e in said if e.code != "LinkLost"] or said
        why = telling[0] if telling else KernelStartError("A kernel did not answer.")
        return CarryFailed(
            f"The variables were not carried. {why.message}",
            advice="Nothing was lost: the notebook stays where it was. Move it without them, or name only some.",
            code=why.code if isinstance(why, KernelStartError) else None,
        )

    def _report(self, size: int, now: float) -> None:
        assert self._pumps is not None
        if now - self._said >= SAY_SECONDS:
            self._said = now
            moved = self._pumps.moved
            self._running.report(progress_text(moved, size), min(1.0, moved / size) if size else None)

    def _look(self) -> None:
        """Whether the move goes on at all."""
        if self._swapped is not None and self._swapped.done():
            raise Cancelled("The move ended before the variables were carried.")
        if self._running.cancel.is_set():
            raise Cancelled(self._running.cancel_reason)


def too_large(size: int, room: int) -> OperationRefused:
    """The free tier's memory is small: a kernel that takes more than there is would end, and others with it."""
    return OperationRefused(
        f"The variables take {bytes_words(size)}, and the free tier has {bytes_words(room)} of memory left.",
        advice="Carry only some of them by name, or write what is large to a file.",
        code="TooLarge",
    )


def _went_wrong(future: Future[dict[str, Any]]) -> DSVMError | None:
    """Of one that is done."""
    error = future.exception()
    if error is not None:
        return error if isinstance(error, DSVMError) else VariablesError(str(error))
    try:
        read(future.result())
    except VariablesError as e:
        return e
    return None
