"""The link: this server's end of a relay, as a backend of the proxy. It resumes after any interruption.

One ``RelayBackend`` per kernel, on its VM's ``VMPipe``. It belongs to the I/O thread like every backend. What must not be
lost goes through its ``relay.session.Session``, which knows what the other end has; what frames mean is in ``incoming``.

    phase    becomes
    NEW      LIVE (start), OVER (close, end)
    LIVE     ENDING (end), OVER (close, gone)
    ENDING   OVER: the relay has confirmed the end and hung up, or time is up

What the kernel said is acknowledged, and so forgotten by the relay, once the clients have it (``acknowledging``).
Credit goes back at once, unless the clients are too far behind (``hold``).

The VM is not trusted. A frame that cannot be right makes this kernel ``gone`` with ``ProtocolError``; whether a message
answers a request of ours is the proxy's to check.
"""

from __future__ import annotations

import enum
import time
import uuid
from collections import deque
from typing import Any

from ..errors import ConfigurationError, DSVMError, printable
from ..models import LinkPhase, LinkState, utc_now
from ..relay.events import Attached, EpochChanged, Event, Gone, HungUp, Received
from ..relay.hello import ADOPTION
from ..relay.session import Role, Session
from ..relay.spec import KernelSpec
from ..relay.wire import (
    MAX_BODY,
    Channel,
    Frame,
    Type,
    WireError,
    call_body,
    data_bodies,
    interrupt_body,
    json_body,
    signal_body,
)
from .acknowledging import Acknowledging
from .backends import BackendEvents, RelayEnds
from .incoming import Incoming
from .iothread import Timer
from .keptfiles import KeptKernel
from .ledger import ledger
from .linkends import broken, hung_up, no_more
from .messages import MalformedMessage, Message, Signer
from .owed import OwedEnd, settled_by, settled_by_goodbye
from .runsthere import RunsThere
from .vmpipe import VMPipe

MAX_MESSAGE = 256 * 1024 * 1024
"""Bytes of one message from a VM, which is put together in this server's memory."""

SENT_CHUNK = 16 * 1024
"""Bytes of a message to the kernel that travel in one frame: on a slow way an interrupt waits for no more than a few."""

END_WAIT = 15.0
"""Seconds that the far end may take to confirm an end: the kernel's grace, and the way there and back."""

HANG_UP_WAIT = 2.0
"""Seconds between the confirmation and the relay's GOODBYE."""

MAX_UNREAD = 4 * 1024 * 1024
"""Bytes of answers to ``%dsvm`` that a VM may leave unacknowledged while it goes on asking."""

LAST_WORDS = 1024 * 1024
"""Bytes that are still sent on the way out."""

MAX_PINGS = 1000
"""PINGs of a relay that wait to be answered; it has no reason for more than one."""


class Phase(enum.Enum):
    NEW = "new"
    LIVE = "live"
    ENDING = "ending"
    OVER = "over"


class RelayBackend:
    """A kernel that a relay owns on a VM; see ``kernels.backends.Backend`` for who calls what."""

    trusted = False
    keeps_requests = True
    notice = ""
    out_of_memory: int | None = None

    def __init__(
        self,
        pipe: VMPipe,
        kernel_id: str,
        spec: dict[str, Any] | None,
        *,
        compute: str,
        compute_name: str,
        kernelspec: str,
        language: str,
        interrupt_mode: str,
        max_message: int | None = None,
        kept: KeptKernel | None = None,
    ) -> None:
        """Made by ``VMPipe.backend``, which has retained the pipe for it, or by ``adopting``.

        ``spec`` is START's body (``relay.spec``); ``max_message`` is ``MAX_MESSAGE`` unless given.
        """
        self.compute = compute
        self.compute_name = compute_name
        self.kernelspec = kernelspec
        self.language = language
        self.interrupt_mode = interrupt_mode
        # Not the kernel's id: a notebook may come back to a machine, or change kernels there, while what it had there ends.
        self.tag = uuid.uuid4().bytes if kept is None else bytes.fromhex(kept.tag)
        self._pipe = pipe
        self._io = pipe.io
        self._start = _start_body(spec) if spec is not None else b""
        front = spec if spec is not None else vars(kept)
        self._signer = Signer(
            str(front["key"]).encode(),
            str(front.get("session") or uuid.uuid4().hex),
            str(front.get("signature_scheme") or "hmac-sha256"),
            kernel_id,
        )
        self._phase = Phase.NEW
        self.events: BackendEvents | None = None
        """Who is told; None before the start, and once it is over."""
        self._converse(Session(Role.SERVER, self.tag), RunsThere(), max_message)
        self._settled = False
        """Nothing is owed of it any more (``kernels.owed``)."""
        self._pumping = False
        self._pings = 0
        self._unread: deque[tuple[int, int]] = deque()
        self._unread_bytes = 0
        self._timer: Timer | None = None
        self._link: LinkState | None = None

    def _converse(
        self, session: Session, runs: RunsThere, max_message: int | None = None, adopting: bool = False
    ) -> None:
        self._session = session
        self._runs = runs
        self._acks = Acknowledging(session, self._io, self._pump_soon)
        self._incoming = Incoming(self, session, self._acks, runs, self._signer, max_message or MAX_MESSAGE, adopting)

    @classmethod
    def adopting(cls, pipe: VMPipe, kept: KeptKernel, handed_on: int) -> RelayBackend:
        """The kernel of a relay that an earlier server process was attached to. ``pipe`` was retained for it.

        ``handed_on``: up to which message that process's clients have everything; 0: unknown. Until it is attached it takes
        nothing: ``BackendEvents.adopted`` says when, and what the relay had received from the earlier process.
        """
        self = cls(
            pipe,
            kept.kernel_id,
            None,
            compute=kept.compute,
            compute_name=kept.compute_name,
            kernelspec=kept.kernelspec,
            language=kept.language,
            interrupt_mode=kept.interrupt_mode,
            kept=kept,
        )
        self.notice = kept.notice
        session = Session.adopting(self.tag, kept.epoch, kept.peer_epoch, handed_on)
        self._converse(session, RunsThere(kept.runs, kept.run), adopting=True)
        return self

    @property
    def ends(self) -> RelayEnds | None:
        """What a later server process needs to adopt the relay; None while there was no answer from it."""
        if not self._session.peer_epoch or self._session.version < ADOPTION:
            return None
        session, runs = self._session, self._runs
        return RelayEnds(session.epoch, session.peer_epoch, runs.asked, runs.started, self.tag.hex())

    @property
    def over(self) -> bool:
        """Whether nothing of it is left here."""
        return self._phase is Phase.OVER

    # Backend

    def start(self, events: BackendEvents) -> None:
        assert self._phase is Phase.NEW
        self.events = events
        self._phase = Phase.LIVE
        owed = OwedEnd(self.tag.hex(), self._session.epoch, self.compute, self.compute_name, time.time())
        ledger.begin(owed, owe=not self._incoming.adopting)  # before the machine can hear of it
        if not self._incoming.adopting:
            self._runs.asked = 1
            self._session.send(Type.START, self._start)
            self._start = b""
        self._tell_link(LinkPhase.CONNECTING)
        self._pipe.router.add(self)

    def send(self, channel: Channel, parts: list[bytes]) -> int:
        if self._phase is not Phase.LIVE or self._incoming.adopting:
            return 0
        if channel is Channel.CONTROL and _is_interrupt(parts):
            # Not kept for when the link is back: it would stop another cell.
            if self._session.knows(Type.INTERRUPT) and sum(map(len, parts)) < MAX_BODY // 2:
                self._session.pass_by(Type.INTERRUPT, interrupt_body(parts))
                self._pump_soon()
                return 0
            if not self._session.attached:
                return 0
        number = 0
        for body in data_bodies(channel, parts, SENT_CHUNK):
            number = self._session.send(Type.DATA, body)
        if not self._session.attached:
            self._pipe.hurry()
        self._pump_soon()
        return number

    def _pump_soon(self) -> None:
        """After the caller has written down what it sends: a request that left without that might be sent twice."""
        if not self._pumping:
            self._pumping = True
            self._io.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        if self._phase is not Phase.OVER:
            self._pipe.router.pump()

    def signal(self, signum: int) -> None:
        if self._phase is Phase.LIVE and self._session.pass_by(Type.SIGNAL, signal_body(signum)):
            self._pipe.router.pump()

    def handed_on(self, upto: int) -> None:
        if self._phase is not Phase.OVER and not self._incoming.adopting:
            self._acks.handed_on(upto)

    def hold(self, on: bool) -> None:
        if self._phase is Phase.OVER:
            return
        self._incoming.hold(on)
        if not on:
            self._pump_soon()

    def restart(self) -> None:
        if self._phase is Phase.LIVE:
            self._runs.asked += 1
            self._session.send(Type.RESTART, json_body({}))
            self._pipe.router.pump()

    def result(self, call_id: int, value: dict[str, Any]) -> None:
        if self._phase is Phase.LIVE:
            body = call_body(call_id, value)
            if len(body) > MAX_BODY:
                body = call_body(call_id, {"error": {"code": "TooLong", "message": "The answer is too long."}})
            self._unread.append((self._session.send(Type.RESULT, body), len(body)))
            self._unread_bytes += len(body)
            while self._unread and self._unread[0][0] <= self._session.acked:
                self._unread_bytes -= self._unread.popleft()[1]
            if self._unread_bytes > MAX_UNREAD:
                self._broken("it asks, and does not read the answers")
            self._pipe.router.pump()

    def end(self) -> None:
        if self._phase is Phase.NEW:
            self._over()
        elif self._phase is Phase.LIVE:
            self._phase = Phase.ENDING
            self._session.send(Type.SHUTDOWN, json_body({}))
            self._incoming.nobody_waits()
            self._wait(END_WAIT)
            self._pipe.router.pump()

    def close(self) -> None:
        if self._phase is not Phase.OVER:
            # What was handed on is acknowledged first, or it would come again to whoever attaches next; requests that wait
            # for room go out, so that they run meanwhile.
            attached = self._session.attached
            words = [*self._session.frames_to_send(LAST_WORDS), self._session.goodbye("detached")] if attached else []
            self._over(*words)

    # The pipe's member

    def pipe_up(self) -> None:
        # Only a relay that was never reached may be made: where one was and is no more, the kernel is gone with it.
        create = not self._session.peer_epoch and self._phase is Phase.LIVE
        self._pings = 0
        self._session.attach(create=create)

    def pipe_lost(self, attempt: int, error: DSVMError) -> None:
        self._session.detach()
        self._tell_link(LinkPhase.RECONNECTING, attempt + 1, error.message)

    def pipe_failed(self, error: DSVMError) -> None:
        self._session.detach()
        self._settled = settled_by(error)
        self._gone(error)

    def frames_to_send(self, max_bytes: int) -> list[Frame]:
        self._pings = 0
        return self._session.frames_to_send(max_bytes) if self._session.can_send else []

    def frame(self, frame: Frame) -> None:
        try:
            if frame.type == Type.PING:
                self._pings += 1
                if self._pings > MAX_PINGS:
                    raise WireError(f"{self._pings} PINGs at once")
            for event in self._session.receive(frame):
                self._event(event)
        except WireError as e:
            self._broken(str(e))

    # What frames mean

    def _event(self, event: Event) -> None:
        if self._phase is Phase.OVER:
            return
        if isinstance(event, Received):
            self._incoming.received(event)
            if event.type == Type.EXITED and self._phase is Phase.ENDING:
                self._wait(HANG_UP_WAIT)
        elif isinstance(event, Attached):
            if self._incoming.adopting and not self._incoming.adopted(event.hello):
                self._lost_there("it was never started")
            self._tell_link(LinkPhase.CONNECTED)
        elif isinstance(event, EpochChanged):
            self._lost_there("another relay has taken its place")
        elif isinstance(event, Gone):
            self._lost_there(printable(event.text, 500))
        elif isinstance(event, HungUp):
            self._hung_up(event)

    def _hung_up(self, event: HungUp) -> None:
        self._settled = settled_by_goodbye(event.reason)
        if self._phase is Phase.ENDING:
            self._over()
        else:
            self._gone(hung_up(self.compute_name, event))

    def _lost_there(self, reason: str) -> None:
        self._settled = True
        self._gone(no_more(self.compute_name, reason))

    def _broken(self, text: str) -> None:
        self._gone(broken(self.compute_name, text), self._session.goodbye("protocol", text))

    def _gone(self, error: DSVMError, *last_words: Frame) -> None:
        """Final, and told unless this end had been asked for: then it is just over."""
        if self._phase is Phase.OVER:
            return
        told = self._phase is Phase.LIVE
        self._tell_link(LinkPhase.GONE, reason=error.message)
        events = self.events
        self._over(*last_words)
        if told and events is not None:
            events.gone(self, error)

    def _over(self, *last_words: Frame) -> None:
        if self._phase is Phase.OVER:
            return
        if self._phase is not Phase.NEW:
            ledger.over(self.tag.hex(), self._settled)
        self._phase = Phase.OVER
        if self._timer is not None:
            self._timer.cancel()
        self._acks.close()
        self._session.detach()
        self._pipe.router.remove(self, *last_words)
        self.events = None
        self._pipe.release()

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._io.call_later(seconds, self._over)

    def _tell_link(self, state: LinkPhase, attempt: int = 0, reason: str = "") -> None:
        if self.events is not None and self._phase is Phase.LIVE:
            if self._link is None or self._link.state is not state:
                self._link = LinkState(state, utc_now(), attempt, reason)
            else:  # still the same, tried once more
                self._link = LinkState(state, self._link.since, attempt, reason)
            self.events.link(self, self._link)


def _start_body(spec: dict[str, Any]) -> bytes:
    """START's body, checked here so that a mistake of ours is not found out about over there."""
    try:
        body = json_body(KernelSpec.from_json(spec).to_json())
    except WireError as e:
        raise ConfigurationError(f"This kernel cannot be started: {e}.") from None
    if len(body) > MAX_BODY:
        raise ConfigurationError(
            f"The kernel's environment is too large to be sent ({len(body)} bytes).",
            advice="List fewer variables in the configuration.",
        )
    return body


def _is_interrupt(parts: list[bytes]) -> bool:
    try:
        return bool(Message(parts).type == "interrupt_request")
    except MalformedMessage:
        return False
