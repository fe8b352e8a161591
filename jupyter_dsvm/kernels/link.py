"""The link: this server's end of a relay, as a backend of the proxy. It resumes after any interruption.

One ``RelayBackend`` per kernel, on its VM's ``VMPipe``. It belongs to the I/O thread like every backend. What must not be
lost goes through its ``relay.session.Session``, which knows what the other end has; here is only what frames mean.

    phase    becomes
    NEW      LIVE (start), OVER (close, end)
    LIVE     ENDING (end), OVER (close, gone)
    ENDING   OVER: the relay has confirmed the end and hung up, or time is up

The VM is not trusted. A frame that cannot be right makes this kernel ``gone`` with ``ProtocolError``; whether a message
answers a request of ours is the proxy's to check.
"""

from __future__ import annotations

import enum
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import ConfigurationError, DSVMError, ProtocolError, RelayError, printable
from ..models import LinkPhase, LinkState, utc_now
from ..relay.session import Attached, EpochChanged, Event, Gone, HungUp, Received, Role, Session
from ..relay.spec import KernelSpec
from ..relay.wire import (
    MAX_BODY,
    Channel,
    Frame,
    MessageAssembler,
    Type,
    WireError,
    call_body,
    data_bodies,
    json_body,
    kernel_tag,
    read_call,
    read_json,
    signal_body,
)
from .backends import BackendEvents, on_loopback_tcp
from .iothread import Timer
from .messages import MalformedMessage, Message, Signer
from .vmpipe import VMPipe

MAX_MESSAGE = 256 * 1024 * 1024
"""Bytes of one message from a VM, which is put together in this server's memory."""

END_WAIT = 15.0
"""Seconds that the far end may take to confirm an end: the kernel's grace, and the way there and back."""

HANG_UP_WAIT = 2.0
"""Seconds between the confirmation and the relay's GOODBYE."""

MAX_UNREAD = 4 * 1024 * 1024
"""Bytes of answers to ``%dsvm`` that a VM may leave unacknowledged while it goes on asking."""

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
    notice = ""

    def __init__(
        self,
        pipe: VMPipe,
        kernel_id: str,
        spec: dict[str, Any],
        *,
        compute: str,
        compute_name: str,
        kernelspec: str,
        language: str,
        interrupt_mode: str,
        max_message: int | None = None,
    ) -> None:
        """Made by ``VMPipe.backend``, which has retained the pipe for it.

        ``spec`` is START's body (``relay.spec``); ``max_message`` is ``MAX_MESSAGE`` unless given.
        """
        self.compute = compute
        self.compute_name = compute_name
        self.kernelspec = kernelspec
        self.language = language
        self.interrupt_mode = interrupt_mode
        self.tag = kernel_tag(kernel_id)
        self._pipe = pipe
        self._io = pipe.io
        self._start = _start_body(spec)
        self._signer = Signer(
            str(spec["key"]).encode(),
            str(spec.get("session") or uuid.uuid4().hex),
            str(spec.get("signature_scheme") or "hmac-sha256"),
            kernel_id,
        )
        self._phase = Phase.NEW
        self._events: BackendEvents | None = None
        self._session = Session(Role.SERVER, self.tag)
        self._assembler = MessageAssembler(max_message or MAX_MESSAGE)
        self._pings = 0
        self._runs = 0
        """How often the kernel was to be started: what the far end calls the number of its run is at most that."""
        self._run_started = 0
        self._run_told = 0
        self._unread: deque[tuple[int, int]] = deque()
        self._unread_bytes = 0
        self._timer: Timer | None = None
        self._on_frame: dict[int, Callable[[Received], None]] = {
            Type.DATA: self._data,
            Type.STARTED: self._started,
            Type.EXITED: self._exited,
            Type.CALL: self._called,
            Type.OMITTED: self._omitted,
        }

    @property
    def over(self) -> bool:
        """Whether nothing of it is left here."""
        return self._phase is Phase.OVER

    # Backend

    def start(self, events: BackendEvents) -> None:
        assert self._phase is Phase.NEW
        self._events = events
        self._phase = Phase.LIVE
        self._runs = 1
        self._session.send(Type.START, self._start)
        self._start = b""
        self._tell_link(LinkPhase.CONNECTING)
        self._pipe.router.add(self)

    def send(self, channel: Channel, parts: list[bytes]) -> None:
        if self._phase is not Phase.LIVE:
            return
        if channel is Channel.CONTROL and not self._session.attached and _is_interrupt(parts):
            return  # when the link is back it would stop another cell
        for body in data_bodies(channel, parts):
            self._session.send(Type.DATA, body)
        self._pipe.router.pump()

    def signal(self, signum: int) -> None:
        if self._phase is Phase.LIVE and self._session.pass_by(Type.SIGNAL, signal_body(signum)):
            self._pipe.router.pump()

    def restart(self) -> None:
        if self._phase is Phase.LIVE:
            self._runs += 1
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
            self._wait(END_WAIT)
            self._pipe.router.pump()

    def close(self) -> None:
        if self._phase is not Phase.OVER:
            # What was handed on is acknowledged first, or it would come again to whoever attaches next.
            attached = self._session.attached
            words = [*self._session.frames_to_send(1), self._session.goodbye("detached")] if attached else []
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
            handler = self._on_frame.get(event.type)
            if handler is not None:
                handler(event)
            elif event.seq:
                self._session.delivered(event.seq)  # of a newer relay; nothing for us
        elif isinstance(event, Attached):
            self._tell_link(LinkPhase.CONNECTED)
        elif isinstance(event, EpochChanged):
            self._lost_there("another relay has taken its place")
        elif isinstance(event, Gone):
            self._lost_there(printable(event.text, 500))
        elif isinstance(event, HungUp):
            self._hung_up(event)

    def _data(self, event: Received) -> None:
        message = self._assembler.feed(event.body)
        if message is None:
            self._session.consumed(event.seq)
            return
        channel, parts = message
        if self._events is not None:
            self._events.message(self, channel, parts)
        self._session.delivered(event.seq)

    def _started(self, event: Received) -> None:
        self._session.delivered(event.seq)
        value = read_json(event.body)
        run = self._run(value)
        if run <= self._run_started:
            raise WireError(f"run {run} of the kernel starts once more")
        self._run_started = run
        self.notice = on_loopback_tcp(self.compute_name) if value.get("transport") == "tcp" else ""
        if self._events is not None and self._phase is Phase.LIVE:
            self._events.started(self)

    def _exited(self, event: Received) -> None:
        # Acknowledged first: whoever is told may close this backend, and the relay waits for that word before it leaves.
        self._session.delivered(event.seq)
        value = read_json(event.body)
        code, run = _integer(value, "code"), self._run(value)
        # A SHUTDOWN is confirmed even where the end was told before; a kernel that never ran is run 0.
        if self._events is not None and (run > self._run_told or self._run_told == 0):
            self._run_told = max(run, 1)
            self._events.exited(self, code, printable(str(value.get("text", ""))))
        if self._phase is Phase.ENDING:
            self._wait(HANG_UP_WAIT)

    def _run(self, value: dict[str, Any]) -> int:
        run = _integer(value, "run")
        if not 0 <= run <= self._runs:
            raise WireError(f"run {run} of a kernel that was started {self._runs} times")
        return run

    def _called(self, event: Received) -> None:
        call_id, request = read_call(event.body)
        self._session.delivered(event.seq)
        if self._events is not None:
            self._events.call(self, call_id, request)

    def _omitted(self, event: Received) -> None:
        """The relay's memory for this kernel was full, so it left out outputs: the cell says so itself."""
        self._session.delivered(event.seq)
        value = read_json(event.body)
        parent = value.get("parent_header")
        if not isinstance(parent, dict):
            raise WireError("an OMITTED frame without parent header")
        text = (
            f"\n[{_integer(value, 'messages')} outputs ({_integer(value, 'bytes') / 1e6:.1f} MB) were left out here: they "
            f"came faster than they could be kept on {self.compute_name}.]\n"
        )
        if self._events is not None:
            parts = self._signer.published("stream", {"name": "stderr", "text": text}, parent)
            self._events.message(self, Channel.IOPUB, parts)

    def _hung_up(self, event: HungUp) -> None:
        text = printable(event.text, 500)
        if self._phase is Phase.ENDING:
            self._over()
        elif event.reason == "superseded":
            self._gone(
                RelayError(
                    f"The kernel on {self.compute_name} was attached from elsewhere.",
                    advice="It runs on there. Attach again to take it over.",
                    code="Superseded",
                )
            )
        elif event.reason in ("protocol", "version", "epoch"):
            self._gone(
                ProtocolError(f"The relay on {self.compute_name} ended the conversation ({event.reason}): {text}")
            )
        else:
            self._lost_there(text or "its relay has ended")

    def _lost_there(self, reason: str) -> None:
        self._gone(
            RelayError(
                f"The kernel on {self.compute_name} is no more: {reason}.",
                advice="Attach again to start a new one, or return to the free tier.",
                code="KernelGone",
            )
        )

    def _broken(self, text: str) -> None:
        error = ProtocolError(
            f"The relay on {self.compute_name} broke the protocol: {text}.",
            advice="The notebook no longer listens to it. Attach again to start a new kernel.",
        )
        self._gone(error, self._session.goodbye("protocol", text))

    def _gone(self, error: DSVMError, *last_words: Frame) -> None:
        """Final, and told unless this end had been asked for: then it is just over."""
        if self._phase is Phase.OVER:
            return
        told = self._phase is Phase.LIVE
        self._tell_link(LinkPhase.GONE, reason=error.message)
        events = self._events
        self._over(*last_words)
        if told and events is not None:
            events.gone(self, error)

    def _over(self, *last_words: Frame) -> None:
        if self._phase is Phase.OVER:
            return
        self._phase = Phase.OVER
        if self._timer is not None:
            self._timer.cancel()
        self._session.detach()
        self._pipe.router.remove(self, *last_words)
        self._events = None
        self._pipe.release()

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._io.call_later(seconds, self._over)

    def _tell_link(self, state: LinkPhase, attempt: int = 0, reason: str = "") -> None:
        if self._events is not None and self._phase is Phase.LIVE:
            self._events.link(self, LinkState(state, utc_now(), attempt, reason))


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


def _integer(value: dict[str, Any], name: str) -> int:
    number = value.get(name)
    if isinstance(number, bool) or not isinstance(number, int) or abs(number) >= 1 << 63:
        raise WireError(f"{name} is no number")
    return number
