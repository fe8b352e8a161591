"""Jupyter messages as they are on the wire: parts in, parts out, looked into only where somebody must know.

A message is ``[routing frames…, <IDS|MSG>, signature, header, parent_header, metadata, content, buffers…]``
(jupyter_client's messaging documentation). The proxy forwards parts as they are; it reads headers, and writes a part
anew, with a new signature, only where it changes one.
"""

from __future__ import annotations

import hmac
import json
from collections import OrderedDict
from itertools import accumulate
from typing import Any

from jupyter_client.session import DELIM, Session

MAX_HEADER = 1024 * 1024
MAX_CONTENT = 4 * 1024 * 1024
"""Bytes of JSON that are read of a message from a VM; decoded they may take 30 times as much. What is longer is only passed on."""


MAX_SMALL = 64 * 1024
"""Bytes of JSON from a VM up to which it is read whole only to see that a client can read it."""
MAX_DEPTH = 200
"""How deep JSON from a VM may be nested: clients that read it give up at some 900 (Python's recursion limit)."""
SHALLOW = 2 * MAX_DEPTH
"""Bytes of JSON that cannot be nested deeper, since each level takes two; most headers and outputs are no longer."""
COUNTED = 16 * 1024
"""Bytes of JSON beyond which ``bytes.find`` is faster than ``bytes.count``, which looks at each byte by itself (1 MB: 1 ms)."""

_decode = json.JSONDecoder().decode
"""``json.loads`` without its guess at the encoding, which takes as long as the rest."""

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""1 and -1, as signed bytes."""


class MalformedMessage(Exception):
    """The parts are no Jupyter message, or its signature is not ours."""


class Message:
    """A message's parts, with the JSON parts decoded when first asked for."""

    __slots__ = ("_content", "_header", "_parent", "_parent_key", "_type", "at", "bounded", "parts")

    def __init__(self, parts: list[bytes], bounded: bool = False) -> None:
        """``bounded``: it comes from a VM."""
        self.bounded = bounded
        try:
            self.at = parts.index(DELIM)
        except ValueError:
            raise MalformedMessage("no delimiter") from None
        if len(parts) < self.at + 6:
            raise MalformedMessage(f"{len(parts) - self.at - 1} parts after the delimiter instead of 5 or more")
        self.parts = parts
        self._header: dict[str, Any] | None = None
        self._parent: dict[str, Any] | None = None
        self._content: dict[str, Any] | None = None
        self._type: str | None = None
        self._parent_key: tuple[str, str] | None = None

    def _json(self, offset: int) -> dict[str, Any]:
        part = self.parts[self.at + offset]
        if self.bounded and len(part) > (MAX_CONTENT if offset == 5 else MAX_HEADER):
            raise MalformedMessage(f"part {offset} has {len(part)} bytes")
        try:
            value = _decode(str(part, "utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as e:
            raise MalformedMessage(f"part {offset} is not JSON: {e}") from None
        if not isinstance(value, dict):
            raise MalformedMessage(f"part {offset} is not an object")
        return value

    def check(self) -> None:
        """It comes from a VM: raise ``MalformedMessage`` where a client that reads all of it would fail.

        What is longer than ``MAX_CONTENT`` is not looked into.
        """
        for offset in range(2, 6):
            part = self.parts[self.at + offset]
            if part[:1] != b"{":
                raise MalformedMessage(f"part {offset} is not an object")
            if SHALLOW < len(part) <= MAX_CONTENT and _depth(part) > MAX_DEPTH:
                raise MalformedMessage(f"part {offset} is nested too deep")
        _ = self.header, self.parent
        if len(self.parts[self.at + 4]) <= MAX_SMALL:
            self._json(4)
        if len(self.parts[self.at + 5]) <= MAX_SMALL:
            _ = self.content  # which is kept, for whoever reads it next

    @property
    def idents(self) -> list[bytes]:
        return self.parts[: self.at]

    @property
    def header(self) -> dict[str, Any]:
        if self._header is None:
            self._header = self._json(2)
        return self._header

    @property
    def parent(self) -> dict[str, Any]:
        if self._parent is None:
            self._parent = self._json(3)
        return self._parent

    @property
    def metadata(self) -> dict[str, Any]:
        return self._json(4)

    @property
    def content(self) -> dict[str, Any]:
        if self._content is None:
            self._content = self._json(5)
        return self._content

    @property
    def type(self) -> str:
        if self._type is None:
            self._type = _text(self.header.get("msg_type"))
        return self._type

    @property
    def id(self) -> str:
        return _text(self.header.get("msg_id"))

    @property
    def key(self) -> tuple[str, str]:
        """Type and id: what tells requests that are under way apart."""
        return self.type, self.id

    @property
    def parent_key(self) -> tuple[str, str]:
        if self._parent_key is None:
            parent = self.parent
            self._parent_key = _text(parent.get("msg_type")), _text(parent.get("msg_id"))
        return self._parent_key

    @property
    def parent_id(self) -> str:
        return self.parent_key[1]

    def compare_parent(self, other: Message) -> None:
        """Most messages are about the same request as the one before: what was read of that one's parent header need not be read
        again where the two are the same bytes."""
        if other._parent_key is not None and self.parts[self.at + 3] == other.parts[other.at + 3]:
            self._parent_key = other._parent_key


def _depth(part: bytes) -> int:
    """How deep JSON is nested; where it has few brackets, as most outputs do, no deeper than they are many."""
    brackets = _brackets(part)
    if brackets <= MAX_DEPTH:
        return brackets
    outside = b"".join(part.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    steps = memoryview(outside.translate(_STEPS, _NO_BRACKETS)).cast("b")
    return max(accumulate(steps), default=0)


def _brackets(part: bytes) -> int:
    """How many brackets open; not counted beyond ``MAX_DEPTH`` in a large part."""
    if len(part) <= COUNTED:
        return part.count(b"[") + part.count(b"{")
    brackets = 0
    for bracket in (b"[", b"{"):
        at = part.find(bracket)
        while at >= 0 and brackets <= MAX_DEPTH:
            brackets += 1
            at = part.find(bracket, at + 1)
    return brackets


def _text(value: object) -> str:
    """A field that must be a string; what a hostile sender put there instead counts as absent."""
    return value if isinstance(value, str) else ""


class Signer:
    """Makes, checks and re-signs the messages of one kernel's front: one key and one session for its life."""

    def __init__(self, key: bytes, session: str, signature_scheme: str, kernel_id: str) -> None:
        self.session_id = session
        self._session = Session(key=key, session=session, signature_scheme=signature_scheme, username="kernel")
        self._topic = f"kernel.{kernel_id}."

    def message(
        self, kind: str, content: dict[str, Any], parent: Message | dict[str, Any] | None, idents: list[bytes]
    ) -> list[bytes]:
        """A message of the proxy's own. The header of a parent that is a message goes in as it came."""
        about = parent.parts[parent.at + 2] if isinstance(parent, Message) else _dump(parent or {})
        signed = [self._session.pack(self._session.msg_header(kind)), about, b"{}", _dump(content)]
        return [*idents, DELIM, self._session.sign(signed), *signed]

    def topic(self, kind: str) -> bytes:
        """What ipykernel would publish that kind of message under."""
        return (self._topic + kind).encode("utf-8", "replace")

    def published(self, kind: str, content: dict[str, Any], parent: Message | dict[str, Any] | None) -> list[bytes]:
        """A message for IOPub."""
        return self.message(kind, content, parent, [self.topic(kind)])

    def request(self, kind: str, content: dict[str, Any]) -> tuple[str, list[bytes]]:
        """A request of the proxy's own, and its id."""
        message = self._session.msg(kind, content=content)
        return message["header"]["msg_id"], self._session.serialize(message)

    def check(self, message: Message) -> None:
        """Raise ``MalformedMessage`` unless the message was signed with this kernel's key."""
        at = message.at
        if not self._session.key:
            return  # an empty key means that the user turned signing off
        expected = self._session.sign(message.parts[at + 2 : at + 6])
        if not hmac.compare_digest(expected, message.parts[at + 1]):
            raise MalformedMessage("the signature does not match")

    def replace(
        self,
        message: Message,
        header: dict[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
        content: dict[str, Any] | None = None,
    ) -> list[bytes]:
        """The message's parts with another header, parent header or content, signed again."""
        parts = list(message.parts)
        at = message.at
        for offset, value in ((2, header), (3, parent), (5, content)):
            if value is not None:
                parts[at + offset] = _dump(value)
        parts[at + 1] = self._session.sign(parts[at + 2 : at + 6])
        return parts

    def in_session(self, message: Message, parent: dict[str, Any] | None = None) -> list[bytes]:
        """The message under the front's session id, and with another parent header if one is given.

        Untouched where it is that already.
        """
        header = message.header
        if header.get("session") != self.session_id:
            return self.replace(message, header={**header, "session": self.session_id}, parent=parent)
        return message.parts if parent is None else self.replace(message, parent=parent)

    def to_subshell(self, message: Message, subshell_id: str) -> list[bytes]:
        """The message for that subshell, or (empty) for the main shell: untouched where it names none."""
        header = message.header
        if subshell_id:
            return self.replace(message, header={**header, "subshell_id": subshell_id})
        if header.get("subshell_id") is None:
            return message.parts
        return self.replace(message, header={k: v for k, v in header.items() if k != "subshell_id"})


def _dump(value: dict[str, Any]) -> bytes:
    """Escaped to ASCII: a text may hold surrogates that no UTF-8 can carry, and JSON can."""
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as e:
        raise MalformedMessage(f"it cannot be written again: {e}") from None


REMEMBERED = 100_000
"""Messages of clients that are remembered: a thread of an old cell may print for hours, and a duplicate may come late."""


class Intake:
    """What comes from clients, checked: signed, and new."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._signatures: OrderedDict[bytes, int] = OrderedDict()
        self._sent_to: OrderedDict[str, int] = OrderedDict()

    def take(self, parts: list[bytes]) -> Message:
        """Raises ``MalformedMessage`` for what a kernel would drop as well."""
        message = Message(parts)
        self._signer.check(message)
        if not message.id:
            raise MalformedMessage("a message without an id")
        signature = message.parts[message.at + 1]
        if signature and signature in self._signatures:
            # A kernel drops it too; if we waited for its answer, that would never come.
            raise MalformedMessage("it was sent twice")
        self.taken(message)
        return message

    def taken(self, message: Message) -> None:
        """It has been taken: here, or by an earlier server process."""
        _remember(self._signatures, message.parts[message.at + 1], 0)

    def sent_to(self, side: int, msg_id: str) -> None:
        """A message with that id goes to the kernel on that side, which may speak about it from now on."""
        _remember(self._sent_to, msg_id, side)

    def was_sent_to(self, side: int, msg_id: str) -> bool:
        return self._sent_to.get(msg_id) == side


def _remember(seen: OrderedDict[Any, int], what: object, value: int) -> None:
    seen[what] = value
    if len(seen) > REMEMBERED:
        seen.popitem(last=False)
