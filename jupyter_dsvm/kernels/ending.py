"""Ends one kernel on a VM that nobody goes on with: its relay is adopted, told SHUTDOWN, and asked nothing else.

    phase     is left by                                                        for
    WAITING   the pipe stands (a patient one goes on trying)                    ASKED
    ASKED     the pipe is lost                                                  WAITING
    any       the relay says GOODBYE, the pipe says GONE, the pipe has failed   OVER
    any       ``PATIENCE`` is over; ``give_up`` while it waits                  OVER

What the kernel had still to say is of interest to nobody, so the relay gets no credit beyond one small window. The order
overtakes that, and a relay that cannot tell everything leaves after some seconds anyway. Belongs to the I/O thread. The VM is not
trusted: what it can make us keep is bounded, and what makes no sense ends this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import DSVMError
from ..relay.events import EpochChanged, Event, Gone, HungUp, Received
from ..relay.session import Session
from ..relay.wire import Frame, Type, WireError, json_body
from .owed import OwedEnd, settled_by, settled_by_goodbye

if TYPE_CHECKING:
    from .vmpipe import VMPipe

PATIENCE = 600.0
"""Seconds; after that it is tried again when the machine is attached to, or a server starts."""

CREDIT = 2 * 1024 * 1024

MAX_FRAMES = 100_000


class Ending:
    def __init__(self, pipe: VMPipe, end: OwedEnd, over: Callable[[bool], None]) -> None:
        """``pipe`` was retained for it. ``over(settled)`` is called once, on the I/O thread."""
        self.tag = bytes.fromhex(end.tag)
        self._pipe = pipe
        # Any relay that has our epoch will do: one that was still being greeted has not told us its own.
        self._session = Session.adopting(self.tag, end.epoch, "", credit=CREDIT)
        self._session.send(Type.SHUTDOWN, json_body({}))
        self._frames = 0
        self._tell: Callable[[bool], None] | None = over
        self._timer = pipe.io.call_later(PATIENCE, self._too_late)
        pipe.router.add(self)

    def give_up(self) -> None:
        """The server stops: an end that is under way may still come about, for one that waits nobody does."""
        if not self._session.attached:
            self._over(False)

    def _too_late(self) -> None:
        self._over(False, *([self._session.goodbye("detached")] if self._session.attached else []))

    # The pipe's member

    def pipe_up(self) -> None:
        self._session.attach()

    def pipe_lost(self, attempt: int, error: DSVMError) -> None:
        self._session.detach()

    def pipe_failed(self, error: DSVMError) -> None:
        self._over(settled_by(error))

    def frames_to_send(self, max_bytes: int) -> list[Frame]:
        return self._session.frames_to_send(max_bytes) if self._session.can_send else []

    def frame(self, frame: Frame) -> None:
        self._frames += 1
        try:
            if self._frames > MAX_FRAMES:
                raise WireError("no end of frames")
            for event in self._session.receive(frame):
                self._event(event)
        except WireError as e:
            self._over(False, self._session.goodbye("protocol", str(e)))

    def _event(self, event: Event) -> None:
        if isinstance(event, Gone):
            self._over(True)
        elif isinstance(event, HungUp):
            self._over(settled_by_goodbye(event.reason))
        elif isinstance(event, EpochChanged):
            self._over(True)
        elif isinstance(event, Received) and event.type == Type.EXITED:
            self._session.delivered(event.seq)  # which the relay waits for before it says GOODBYE
            self._pipe.router.pump()

    def _over(self, settled: bool, *last_words: Frame) -> None:
        tell, self._tell = self._tell, None
        if tell is None:
            return
        self._timer.cancel()
        self._session.detach()
        self._pipe.router.remove(self, *last_words)
        tell(settled)
        self._pipe.release()
