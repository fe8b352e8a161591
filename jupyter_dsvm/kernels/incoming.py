"""What a relay says of its kernel on a link: messages, starts and ends, calls of ``%dsvm``, and what it had to leave out.

Part of ``kernels.link.RelayBackend``, on the I/O thread: that one has the link's phases and what is sent, this one gives on what
has come, and has the relay hear what of it was dealt with (``acknowledging``). A frame that cannot be right is a ``WireError``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import printable
from ..relay.events import Received
from ..relay.session import Session
from ..relay.wire import Channel, MessageAssembler, Type, WireError, read_call, read_json
from .acknowledging import Acknowledging
from .backends import on_loopback_tcp
from .messages import Signer
from .notes import Note, omitted, strike
from .runsthere import RunsThere, integer, memory_of

if TYPE_CHECKING:
    from .link import RelayBackend


class Incoming:
    def __init__(
        self,
        backend: RelayBackend,
        session: Session,
        acks: Acknowledging,
        runs: RunsThere,
        signer: Signer,
        max_message: int,
        adopting: bool,
    ) -> None:
        """``max_message``: bytes of one that is put together here. ``signer``: for what is said here in the kernel's name."""
        self.adopting = adopting
        """Of a relay of an earlier server process, which has not answered yet."""
        self._backend = backend
        self._session = session
        self._acks = acks
        self._runs = runs
        self._signer = signer
        self._assembler = MessageAssembler(max_message)
        self._held = self._unheard = False
        self._means: dict[int, Callable[[Received], None]] = {
            Type.DATA: self._data,
            Type.STARTED: self._started,
            Type.EXITED: self._exited,
            Type.CALL: self._called,
            Type.OMITTED: lambda e: self._note(e, omitted(read_json(e.body), self._backend.compute_name)),
            Type.NOTE: lambda e: self._note(e, strike(read_json(e.body))),
        }

    def received(self, event: Received) -> None:
        means = self._means.get(event.type)
        if means is not None:
            means(event)
        elif event.seq:
            self._take(event.seq)  # of a newer relay; nothing for us

    def hold(self, on: bool) -> None:
        """The clients are too far behind to give the relay credit, or (False) no longer: then it has all of it again."""
        self._held = on
        if not on:
            self._session.consumed(self._session.received)

    def nobody_waits(self) -> None:
        """The kernel is to end, and nobody will adopt it: the relay may forget everything, and has to hear so before it leaves."""
        self._unheard = True
        self._forget()

    def adopted(self, hello: dict[str, Any]) -> bool:
        """The relay's answer to an adoption: where both go on, and what was told of the kernel up to there. False: it was never
        started."""
        self.adopting = False
        self._acks.begin_after(self._session.received)
        kernel = hello.get("kernel")
        if not isinstance(kernel, dict):
            raise WireError("an adopted relay that does not tell of its kernel")
        found = self._runs.adopted(kernel)
        events = self._backend.events
        if found == "absent":
            return False
        if events is not None and not self._unheard:
            events.adopted(self._backend, self._session.acked)
            if found == "ended":
                self._backend.out_of_memory = memory_of(kernel)
                events.exited(self._backend, integer(kernel, "code"), printable(str(kernel.get("text", ""))))
            elif found == "started":
                events.started(self._backend)
        return True

    def _forget(self) -> None:
        self._acks.at_once = True
        if not self.adopting:
            self._acks.all_handed_on()

    def _give(self, number: int, channel: Channel, parts: list[bytes]) -> None:
        self._acks.given(number)
        if self._unheard:
            self._forget()
        events = self._backend.events
        if events is not None:
            events.message(self._backend, channel, parts, number)

    def _take(self, number: int) -> None:
        """A frame that is no message was dealt with, or will be in a moment."""
        self._acks.taken(number)
        if self._unheard:
            self._forget()

    def _data(self, event: Received) -> None:
        message = self._assembler.feed(event.body)
        if not self._held:
            self._session.consumed(event.seq)
        if message is None:
            return
        channel, parts = message
        self._give(event.seq, channel, parts)

    def _started(self, event: Received) -> None:
        self._take(event.seq)
        value = read_json(event.body)
        self._runs.starts(value)
        backend = self._backend
        backend.notice = on_loopback_tcp(backend.compute_name) if value.get("transport") == "tcp" else ""
        if backend.events is not None and not self._unheard:
            backend.events.started(backend)

    def _exited(self, event: Received) -> None:
        # Taken first: whoever is told may close this backend, and the relay waits for that word before it leaves.
        self._take(event.seq)
        value = read_json(event.body)
        code = integer(value, "code")
        self._backend.out_of_memory = memory_of(value)
        events = self._backend.events
        if self._runs.ends(value) and events is not None:
            events.exited(self._backend, code, printable(str(value.get("text", ""))))

    def _called(self, event: Received) -> None:
        call_id, request = read_call(event.body)
        self._take(event.seq)
        events = self._backend.events
        if events is not None:
            events.call(self._backend, call_id, request)

    def _note(self, event: Received, note: Note) -> None:
        """What the relay itself has to say to a cell, in its place among the outputs; the relay signs nothing."""
        parts = self._signer.published("stream", {"name": "stderr", "text": note.text}, note.parent_header)
        self._give(event.seq, Channel.IOPUB, parts)
