"""Frames: what goes over the attach pipe, in both directions. Pure: bytes in, frames out.

A frame is::

    length  u32   of all that follows, at most MAX_FRAME
    type    u8    Type
    kernel  16 B  which kernel it is about (kernel_tag); zeros: the pipe itself
    seq     u64   its place in this kernel's and direction's one ordered sequence, from 1; 0: not in the sequence
    body    …     by type, below

    type         seq  direction      body
    HELLO        0    both           JSON {version, epoch, received_upto, credit, …}; to the VM also {create}
    DATA         n    both           channel u8, last u8, then a piece of a message (pack_message, split at CHUNK)
    ACK          0    both           u64: everything up to here would survive a crash of the sender of this frame
    CREDIT       0    both           u64: bytes of bodies, counted from the first frame, that may be sent in all
    PING, PONG   0    both           u64, the PONG's is the PING's
    START        n    to the VM      JSON: what to run (relay.spec.KernelSpec)
    SIGNAL       0    to the VM      i32: dropped while the link is down, since a late one would stop the wrong cell
    RESTART      n    to the VM      JSON {}: end the kernel process and start it again
    SHUTDOWN     n    to the VM      JSON {}: end the kernel and the relay
    CALL         n    to the server  u64 id, JSON: a line of %dsvm
    RESULT       n    to the VM      u64 id, JSON: progress or the end of a call
    STARTED      n    to the server  JSON {pid, run}: a kernel process runs (run counts RESTARTs)
    EXITED       n    to the server  JSON {code, run, text}: it has ended, after all its output
    GOODBYE      0    both           JSON {reason, text}: the sender hangs up (superseded, shutdown, protocol, version)
    GONE         0    to the server  JSON {text}: no relay there has this kernel
    OMITTED      n    to the server  JSON {parent_header, messages, bytes}: outputs left out here, over the relay's limit

The decoder checks a length before it takes memory for it, and knows nothing of what frames mean.
An unknown type is kept, not refused: a newer end may say more than an older one understands.
"""

from __future__ import annotations

import enum
import json
import struct
import uuid
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple, Union

_HEADER = struct.Struct("!IB16sQ")
_AFTER_LENGTH = _HEADER.size - 4
_U32 = struct.Struct("!I")
_U64 = struct.Struct("!Q")
_I32 = struct.Struct("!i")

VERSION = 1
"""Of the protocol; both ends say theirs in HELLO and speak the lower one."""

CHUNK = 256 * 1024
"""A message longer than this travels in several DATA frames, so that kernels sharing a pipe take turns."""

MAX_FRAME = 1024 * 1024
"""No frame is longer; a length above this is a protocol error before a byte of it is read."""

MAX_BODY = MAX_FRAME - _AFTER_LENGTH
"""The longest body that fits a frame. JSON bodies are the caller's to keep below it; DATA is cut at CHUNK."""

MAX_MESSAGE = 512 * 1024 * 1024
"""No message is put together beyond this many bytes."""

MAX_PARTS = 4096

PIECE = 256
"""What a piece of a message that is not whole counts besides its bytes: an empty one takes memory too."""

Buffer = Union[bytes, bytearray, memoryview]


class WireError(Exception):
    """The other end sent what is no frame, or a body that does not fit its type."""


class Type(enum.IntEnum):
    HELLO = 1
    DATA = 2
    ACK = 3
    CREDIT = 4
    PING = 5
    PONG = 6
    START = 7
    SIGNAL = 8
    RESTART = 9
    SHUTDOWN = 10
    CALL = 11
    RESULT = 12
    STARTED = 13
    EXITED = 14
    GOODBYE = 15
    GONE = 16
    OMITTED = 17


SEQUENCED = frozenset(
    {
        Type.DATA,
        Type.START,
        Type.RESTART,
        Type.SHUTDOWN,
        Type.CALL,
        Type.RESULT,
        Type.STARTED,
        Type.EXITED,
        Type.OMITTED,
    }
)


class Channel(enum.IntEnum):
    """The channels of a kernel that carry messages; the heartbeat is the proxy's own."""

    SHELL = 1
    IOPUB = 2
    STDIN = 3
    CONTROL = 4


PIPE = bytes(16)
"""The kernel tag of frames that are about the pipe and no kernel."""


def kernel_tag(kernel_id: str) -> bytes:
    """The 16 bytes that stand for a kernel in frames. Kernel ids are UUIDs unless a custom manager makes them."""
    try:
        return uuid.UUID(kernel_id).bytes
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_URL, "jupyter-kernel:" + kernel_id).bytes


@dataclass(frozen=True)
class Frame:
    type: int
    kernel: bytes
    seq: int
    body: Buffer

    def encode(self) -> bytes:
        return b"".join(self.buffers())

    def buffers(self) -> Tuple[bytes, Buffer]:
        """The same bytes without copying the body, for ``socket.sendmsg``."""
        return _HEADER.pack(_AFTER_LENGTH + len(self.body), self.type, self.kernel, self.seq), self.body

    @property
    def size(self) -> int:
        return _HEADER.size + len(self.body)


class FrameDecoder:
    """Bytes, cut anywhere, to frames. One per direction of a connection; start a new one after a reconnect."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray()

    def feed(self, data: Buffer) -> Iterator[Frame]:
        """Frames completed by ``data``. Raises ``WireError`` on a length out of bounds; then throw the decoder away."""
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while len(buffer) - position >= _HEADER.size:
                length, kind, kernel, seq = _HEADER.unpack_from(buffer, position)
                if not _AFTER_LENGTH <= length <= self._max_frame:
                    raise WireError(f"a frame says it is {length} bytes long; at most {self._max_frame} are allowed")
                end = position + 4 + length
                if len(buffer) < end:
                    break
                frame = Frame(kind, kernel, seq, bytes(memoryview(buffer)[position + _HEADER.size : end]))
                position = end
                yield frame
        finally:
            del buffer[:position]

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete; not 0 at the end of a stream means a cut in the middle."""
        return len(self._buffer)


# Bodies


def json_body(value: Dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def read_json(body: Buffer) -> Dict[str, Any]:
    try:
        value = json.loads(bytes(body))
    except (ValueError, RecursionError) as e:
        raise WireError(f"a body that should be JSON is not: {e}") from None
    if not isinstance(value, dict):
        raise WireError("a JSON body is not an object")
    return value


def u64_body(value: int) -> bytes:
    return _U64.pack(value)


def read_u64(body: Buffer) -> int:
    if len(body) != _U64.size:
        raise WireError(f"a number of {len(body)} bytes instead of {_U64.size}")
    return int(_U64.unpack(body)[0])


def signal_body(signum: int) -> bytes:
    return _I32.pack(signum)


def read_signal(body: Buffer) -> int:
    if len(body) != _I32.size:
        raise WireError(f"a signal of {len(body)} bytes instead of {_I32.size}")
    return int(_I32.unpack(body)[0])


def call_body(call_id: int, value: Dict[str, Any]) -> bytes:
    return _U64.pack(call_id) + json_body(value)


def read_call(body: Buffer) -> Tuple[int, Dict[str, Any]]:
    return read_u64(body[: _U64.size]), read_json(body[_U64.size :])


# Messages of a channel: a list of parts, packed, and cut into DATA bodies


def pack_message(parts: Sequence[Buffer]) -> bytes:
    """``n u32``, ``n`` lengths u64, then the parts as they are."""
    head = struct.pack(f"!I{len(parts)}Q", len(parts), *(len(p) for p in parts))
    return b"".join((head, *parts))


def unpack_message(data: Buffer) -> List[bytes]:
    if len(data) < _U32.size:
        raise WireError("a message without a head")
    (count,) = _U32.unpack_from(data)
    start = _U32.size + 8 * count
    if count > MAX_PARTS or len(data) < start:
        raise WireError(f"a message of {len(data)} bytes says it has {count} parts")
    lengths = struct.unpack_from(f"!{count}Q", data, _U32.size)
    if start + sum(lengths) != len(data):
        raise WireError("the parts of a message do not add up to its length")
    view = memoryview(data)
    parts = []
    for length in lengths:
        parts.append(bytes(view[start : start + length]))
        start += length
    return parts


def data_bodies(channel: Channel, parts: Sequence[Buffer], chunk: int = CHUNK) -> Iterator[bytes]:
    """The DATA bodies that carry one message, in order."""
    packed = memoryview(pack_message(parts))
    for position in range(0, len(packed), chunk):
        piece = packed[position : position + chunk]
        last = position + chunk >= len(packed)
        yield b"".join((bytes((channel, last)), piece))


class MessageAssembler:
    """DATA bodies of one kernel and direction, in sequence, back to messages."""

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._max_message = max_message
        self._pieces: Dict[int, List[Buffer]] = {}
        self._bytes = 0

    def feed(self, body: Buffer) -> Union[Tuple[Channel, List[bytes]], None]:
        """The message that this body completes, if it does. Raises ``WireError`` when it cannot be right."""
        if len(body) < 2:
            raise WireError("a DATA body without channel")
        number, last = body[0], body[1]
        try:
            channel = Channel(number)
        except ValueError:
            raise WireError(f"there is no channel {number}") from None
        self._bytes += len(body) - 2 + PIECE
        if self._bytes > self._max_message:
            raise WireError(f"a message of more than {self._max_message} bytes")
        pieces = self._pieces.setdefault(number, [])
        pieces.append(memoryview(body)[2:])
        if not last:
            return None
        del self._pieces[number]
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._bytes -= len(data) + PIECE * len(pieces)
        return channel, unpack_message(data)
