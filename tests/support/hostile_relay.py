"""What the owner of a VM could put in place of our relay: for tests of what then happens to the server.

``hostile(attack)`` makes the bootstrap ship this file as the relay. Over there it speaks the protocol well enough for a notebook to
be attached: it lists kernelspecs, "starts" a kernel, and answers as one, with the notebook's own key. The first cell
of the user is when it attacks.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import io
import json
import os
import struct
import uuid
import zipfile
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from jupyter_dsvm.relay.events import Received
from jupyter_dsvm.relay.session import Role, Session
from jupyter_dsvm.relay.wire import (
    PIPE,
    Channel,
    Frame,
    FrameDecoder,
    MessageAssembler,
    Type,
    call_body,
    data_bodies,
    json_body,
    read_call,
    read_json,
)

NASTY = "\x1b[2J\x07<img src=x onerror=alert(1)>\u202e\r\x00"
"""A text that clears a terminal, is HTML, and turns what follows around."""
FORGED = "FORGED"
Header = dict[str, Any]


class HostileRelay:
    def __init__(self, attack: str) -> None:
        self.attack = ATTACKS[attack]
        self.decoder = FrameDecoder()
        self.session = Session(Role.RELAY)
        self.assembler = MessageAssembler()
        self.key = b""
        self.idents: list[list[bytes]] = []
        """The routing frames of every request so far."""
        self.requests: list[Header] = []

    def run(self) -> None:
        while data := os.read(0, 1 << 16):
            for frame in self.decoder.feed(data):
                self.frame(frame)
            self.flush()

    def frame(self, frame: Frame) -> None:
        if frame.kernel == PIPE:
            if frame.type == Type.PING:
                self.write(Frame(Type.PONG, PIPE, 0, frame.body))
            elif frame.type == Type.CALL:
                call, _request = read_call(frame.body)
                self.write(Frame(Type.RESULT, PIPE, 0, call_body(call, {"result": KERNELSPECS})))
            return
        if frame.type == Type.HELLO:
            self.session = Session(Role.RELAY, frame.kernel)
            self.session.attach(pid=1)
        for event in self.session.receive(frame):
            if isinstance(event, Received):
                self.received(event)

    def received(self, event: Received) -> None:
        if event.type == Type.START:
            self.key = read_json(event.body)["key"].encode()
            self.session.send(Type.STARTED, json_body({"pid": 1, "run": 1, "transport": "ipc", "cwd": "/"}))
        elif event.type == Type.SHUTDOWN:
            self.session.send(Type.EXITED, json_body({"code": 0, "run": 1, "text": ""}))
        elif event.type == Type.DATA:
            message = self.assembler.feed(event.body)
            if message is not None:
                self.request(*message)
        if event.seq:
            self.session.delivered(event.seq)

    def request(self, channel: Channel, parts: list[bytes]) -> None:
        at = parts.index(b"<IDS|MSG>")
        header, content = json.loads(parts[at + 2]), json.loads(parts[at + 5])
        self.idents.append(parts[:at])
        self.requests.append(header)
        kind = header["msg_type"]
        self.publish("status", {"execution_state": "busy"}, header)
        if kind == "kernel_info_request":
            about = {"status": "ok", "protocol_version": "5.4", "implementation": "hostile", "banner": NASTY}
            self.reply(channel, header, {**about, "language_info": {"name": "python"}}, parts[:at])
        elif kind == "execute_request" and not content.get("silent"):
            self.attack(self, header, parts[:at])
            self.reply(channel, header, {"status": "ok", "execution_count": 1}, parts[:at])
        else:
            self.reply(channel, header, {"status": "ok"}, parts[:at])
        self.publish("status", {"execution_state": "idle"}, header)

    # Speech

    def message(self, kind: str, content: Any, parent: Any, idents: list[bytes], **more: Any) -> list[bytes]:
        """A message, signed with the notebook's own key. ``content`` may be bytes, to be sent as they are."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "username": NASTY, "session": "s", "version": "5.4"}
        header.update(date="2026-01-01T00:00:00Z", **more)
        signed = [json.dumps(header).encode(), json.dumps(parent).encode(), b"{}"]
        signed.append(content if isinstance(content, bytes) else json.dumps(content).encode())
        signature = hmac.new(self.key, b"".join(signed), hashlib.sha256).hexdigest().encode()
        return [*idents, b"<IDS|MSG>", signature, *signed]

    def say(self, channel: Channel, parts: list[bytes]) -> None:
        for body in data_bodies(channel, parts):
            self.session.send(Type.DATA, body)

    def publish(self, kind: str, content: Any, parent: Any) -> None:
        self.say(Channel.IOPUB, self.message(kind, content, parent, [b"topic"]))

    def reply(self, channel: Channel, request: Header, content: Any, idents: list[bytes]) -> None:
        kind = request["msg_type"].replace("_request", "_reply")
        self.say(channel, self.message(kind, content, request, idents))

    def flush(self) -> None:
        while self.session.can_send:
            for frame in self.session.frames_to_send(1 << 20):
                self.write(frame)

    def frame_now(self, kind: int, seq: int, body: bytes) -> None:
        self.write(Frame(kind, self.session.tag, seq, body))

    def sequenced(self, kind: int, body: bytes) -> None:
        self.session.send(kind, body)

    def write(self, frame: Frame) -> None:
        self.write_raw(frame.encode())

    @staticmethod
    def write_raw(data: bytes) -> None:
        while data:
            data = data[os.write(1, data) :]

    def for_ever(self, act: Callable[[], object], times: int) -> None:
        """Do it again and again, as fast as the server takes it, listening meanwhile as little as possible."""
        os.set_blocking(0, False)
        for number in range(times):
            act()
            if number % 64 == 0 or self.session.journal.size > 1 << 20:
                with contextlib.suppress(BlockingIOError):
                    for frame in self.decoder.feed(os.read(0, 1 << 16)):
                        if frame.type in (Type.CREDIT, Type.ACK):
                            self.session.receive(frame)
                self.flush()
        os.set_blocking(0, True)


KERNELSPECS = [
    {"name": "python3", "display_name": NASTY, "language": "python", "argv": ["python"]},
    {"name": NASTY, "display_name": NASTY, "language": NASTY, "argv": ["x"]},
    {"name": "wrong types", "argv": {"a": 1}, "env": 7},
    None,
]


# Attacks: while the user's cell runs there


def forged(relay: HostileRelay, request: Header, idents: list[bytes]) -> None:
    """Everything that answers nothing which this kernel was asked, to everybody whose address it knows."""
    someone = {**request, "msg_id": "of-another-kernel"}
    others = [{}, None, [], 7, someone, {"msg_id": None}, {"msg_id": ["x"]}]
    # Requests of earlier clients, and those that only the proxy itself has made.
    others += [r for r in relay.requests if r["msg_id"] != request["msg_id"] and r["msg_type"] == "execute_request"]
    stream = {"name": "stdout", "text": FORGED}
    ready = {"data": {"text/html": FORGED, "text/plain": FORGED}, "metadata": {}, "transient": {"display_id": "d"}}
    for parent in others[:6]:
        relay.publish("stream", stream, parent)
        relay.publish("display_data", ready, parent)
        relay.publish("update_display_data", ready, parent)
        relay.publish("execute_input", {"code": FORGED, "execution_count": 9}, parent)
        relay.publish("status", {"execution_state": FORGED}, parent)
        relay.publish("comm_open", {"comm_id": FORGED, "target_name": FORGED, "data": {}}, parent)
    for to in relay.idents:
        for parent in others:
            relay.say(Channel.STDIN, relay.message("input_request", {"prompt": FORGED, "password": True}, parent, to))
            for channel in (Channel.SHELL, Channel.CONTROL):
                answer = {
                    "status": "ok",
                    "execution_count": 9,
                    "payload": [{"source": "set_next_input", "text": FORGED}],
                }
                relay.say(channel, relay.message("execute_reply", answer, parent, to))
    # About the right request, but not what may be said about it, or not there.
    for kind in ("execute_reply", "input_request", "iopub_welcome", "execute_request", "comm_" + NASTY, ""):
        relay.publish(kind, stream, request)
    for kind in ("kernel_info_reply", "complete_reply", "stream", "execute_request", NASTY):
        relay.say(Channel.SHELL, relay.message(kind, {"status": "ok", "text": FORGED}, request, idents))
        relay.say(Channel.STDIN, relay.message(kind, {"prompt": FORGED}, request, idents))
    relay.say(Channel.CONTROL, relay.message("execute_reply", {"status": "ok", "text": FORGED}, request, idents))
    relay.say(Channel.IOPUB, [b"no message", FORGED.encode()])
    relay.say(Channel.SHELL, [])
    relay.say(Channel.IOPUB, relay.message("stream", stream, request, [b"t"], msg_id=7))
    deep = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    parts = relay.message("stream", stream, request, [b"t"])
    for at in (3, 4):  # header and parent header
        relay.say(Channel.IOPUB, [*parts[:at], deep, *parts[at + 1 :]])
    for content in (deep, b"\xff", b"[]", b""):
        relay.publish("status", content, request)
        relay.publish("comm_close", content, request)
    relay.publish("stream", {"name": "stdout", "text": "an honest line\n"}, request)


def notes(relay: HostileRelay, request: Header, _idents: list[bytes]) -> None:
    """What only a relay says: in cells that this kernel was never asked to run, and once, at length, in that which runs."""
    for parent in ({}, {"msg_id": "none"}, {**request, "msg_id": "of-another-kernel"}):
        for kind, about in ((Type.NOTE, {"minutes": 5}), (Type.OMITTED, {"messages": 1, "bytes": 1})):
            relay.sequenced(kind, json_body({"parent_header": parent, "text": FORGED, **about}))
    relay.sequenced(Type.NOTE, json_body({"parent_header": request, "text": NASTY * 5_000, "minutes": 1 << 40}))


def to_others_addresses(relay: HostileRelay, request: Header, _idents: list[bytes]) -> None:
    """The right answer, sent to the address of everybody else."""
    for to in (*relay.idents[:-1], [b"invented"]):
        relay.reply(Channel.SHELL, request, {"status": "ok", "execution_count": 1}, to)


def dies(relay: HostileRelay, _request: Header, _idents: list[bytes]) -> None:
    relay.sequenced(Type.EXITED, json_body({"code": 3, "run": 1, "text": NASTY * 5_000 + "its last words" + NASTY}))


def gone(relay: HostileRelay, _request: Header, _idents: list[bytes]) -> None:
    relay.frame_now(Type.GONE, 0, json_body({"text": "its last words" + NASTY}))


def frames(kind: int, body: bytes, times: int = 1) -> Callable[[HostileRelay, Header, list[bytes]], None]:
    """So many sequenced frames."""

    def attack(relay: HostileRelay, _request: Header, _idents: list[bytes]) -> None:
        relay.for_ever(lambda: relay.sequenced(kind, body), times)

    return attack


def length(relay: HostileRelay, _request: Header, _idents: list[bytes]) -> None:
    relay.write_raw(struct.pack("!I", 0xFFFFFFFF) + bytes(1 << 20))


def flood(relay: HostileRelay, _request: Header, _idents: list[bytes]) -> None:
    """300 MB of outputs of a cell that nobody has run."""
    text = {"name": "stdout", "text": FORGED * 50_000}
    relay.for_ever(lambda: relay.publish("stream", text, {"msg_id": "none", "msg_type": "execute_request"}), 1000)


def much_to_read(relay: HostileRelay, request: Header, _idents: list[bytes]) -> None:
    """JSON that takes thirty times its size once it is read."""
    lists = b'{"execution_state": [' + b"[]," * 3_000_000 + b"[]]}"
    for kind in ("status", "comm_open"):
        relay.for_ever(functools.partial(relay.publish, kind, lists, {**request, "msg_id": "none"}), 1)
        relay.for_ever(functools.partial(relay.publish, kind, lists, relay.requests[0]), 1)
    relay.say(Channel.SHELL, relay.message("kernel_info_reply", lists, relay.requests[0], []))
    parts = relay.message("stream", {}, request, [b"t"])
    relay.say(Channel.IOPUB, [*parts[:4], lists, *parts[5:]])


ATTACKS: dict[str, Callable[[HostileRelay, Header, list[bytes]], None]] = {
    "forged": forged,
    "notes": notes,
    "addresses": to_others_addresses,
    "flood": flood,
    "much to read": much_to_read,
    "dies": dies,
    "gone": gone,
    "length": length,
    "wrong type": frames(Type.START, b"{}"),
    "wrong body": frames(Type.EXITED, b"[" * 200_000),
    "endless message": frames(Type.DATA, bytes((Channel.IOPUB, 0)) + bytes(1 << 18), 2000),
    "endless message of nothing": frames(Type.DATA, bytes((Channel.IOPUB, 0)), 1_000_000),
    "calls": frames(Type.CALL, call_body(7, {"line": "status", "version": 1}), 1_000_000),
    "starts": frames(Type.STARTED, json_body({"pid": 1, "run": 1}), 1_000_000),
    "later runs": frames(Type.STARTED, json_body({"pid": 1, "run": 2}), 1_000_000),
    "note to nobody": frames(Type.NOTE, json_body({"text": "x", "minutes": 5})),
    "note of no time": frames(Type.NOTE, json_body({"parent_header": {}, "text": "x", "minutes": "soon"})),
    "exits": frames(Type.EXITED, json_body({"code": 1, "run": 9, "text": ""}), 1_000_000),
}


# On this side


def zipped(attack: str) -> bytes:
    """What is shipped: our relay, with this file in place of its pipe."""
    source = Path(__file__).read_text().replace("from jupyter_dsvm.relay", "from relay")
    source += f"\n\ndef main():\n    HostileRelay({attack!r}).run()\n"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for file in resources.files("jupyter_dsvm").joinpath("relay").iterdir():
            if file.name.endswith(".py") and file.name != "pipe.py":
                archive.writestr(f"relay/{file.name}", file.read_bytes())
        archive.writestr("relay/pipe.py", source)
    return data.getvalue()


@contextlib.contextmanager
def hostile(attack: str) -> Iterator[None]:
    """Every machine that is connected to meanwhile is one of theirs."""
    from jupyter_dsvm.kernels import bootstrap

    data = zipped(attack)
    real, bootstrap.relay_zip = bootstrap.relay_zip, lambda: (data, hashlib.sha256(data).hexdigest())  # type: ignore[assignment]
    try:
        yield
    finally:
        bootstrap.relay_zip = real
