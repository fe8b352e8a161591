"""Frames: what goes over the attach pipe, in both directions. Pure: bytes in, frames out.

A frame is::

    length  u32   of all that follows, at most MAX_FRAME
    type    u8    Type
    kernel  16 B  which relay it is for or from, a random word; zeros: the pipe itself
    seq     u64   its place in this kernel's and direction's one ordered sequence, from 1; 0: not in the sequence
    body    …     by type

``docs/protocol.md`` lists what each type's body is, who sends it, and since which version.

The decoder checks a length before it takes memory for it, and knows nothing of what frames mean.
An unknown type is kept, not refused: a newer end may say more than an older one understands.
"""

from __future__ import annotations

import enum
import json
import struct
import uuid
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple, Union

_HEADER = struct.Struct("!IB16sQ")
_AFTER_LENGTH = _HEADER.size - 4
_U32 = struct.Struct("!I")
_U64 = struct.Struct("!Q")
_I32 = struct.Struct("!i")

VERSION = 2
"""Of the protocol; both ends say theirs in HELLO and speak the lower one. 2 knows adoption and INTERRUPT."""

CHUNK = 64 * 1024
"""A message longer than this travels in several DATA frames, so that kernels sharing a pipe take turns."""

MAX_FRAME = 1024 * 1024
"""No frame is longer; a length above this is a protocol error before a byte of it is read."""

MAX_BODY = MAX_FRAME - _AFTER_LENGTH
"""The longest body that fits a frame. JSON bodies are the caller's to keep below it; DATA is cut at CHUNK."""

MAX_MESSAGE = 512 * 1024 * 1024
"""No message is put together beyond this many bytes."""

MAX_PARTS = 4096

LONGEST_OUTPUT = 240 * 1024 * 1024
"""Bytes of a message on IOPub that a relay sends. A server takes 256 MiB (``kernels.link``), frames' overhead counted, and gives
the kernel up for more: so what is longer is left out by the relay, and the cell says so."""

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
    INTERRUPT = 18
    NOTE = 19


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
        Type.NOTE,
    }
)


class Channel(enum.IntEnum):
    """The channels of a kernel that carry messages; the heartbeat is the proxy's own."""

    SHELL = 1
    IOPUB = 2
    STDIN = 3
    CONTROL = 4


_CHANNELS = {int(channel): channel for channel in Channel}

PIPE = bytes(16)
"""The kernel tag of frames that are about the pipe and no kernel."""


def kernel_tag(kernel_id: str) -> bytes:
    """A kernel's id as 16 bytes, as short as a name can be. Kernel ids are UUIDs unless a custom manager makes them."""
    try:
        return uuid.UUID(kernel_id).bytes
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_URL, "jupyter-kernel:" + kernel_id).bytes


class Frame(NamedTuple):
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
        self._pieces: List[Buffer] = []  # of the frame that is not complete
        self._have = 0
        self._need = _HEADER.size

    def feed(self, data: Buffer) -> List[Frame]:
        """The frames completed by ``data``, whose bodies are views of it: whoever keeps a small one for long copies it.

        ``data`` is not changed afterwards. Raises ``WireError`` on a length out of bounds; then throw the decoder away.
        """
        self._pieces.append(data)
        self._have += len(data)
        if self._have < self._need:
            return []
        view = memoryview(data if len(self._pieces) == 1 else b"".join(self._pieces))
        frames, position, size = [], 0, len(view)
        self._need = _HEADER.size
        while size - position >= _HEADER.size:
            length, kind, kernel, seq = _HEADER.unpack_from(view, position)
            if not _AFTER_LENGTH <= length <= self._max_frame:
                raise WireError(f"a frame says it is {length} bytes long; at most {self._max_frame} are allowed")
            end = position + 4 + length
            if size < end:
                self._need = 4 + length
                break
            frames.append(Frame(kind, kernel, seq, view[position + _HEADER.size : end]))
            position = end
        self._have = size - position
        self._pieces = [bytes(view[position:])] if self._have else []
        return frames

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete; not 0 at the end of a stream means a cut in the middle."""
        return self._have


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
    return b"".join((_message_head(parts), *parts))


def _message_head(parts: Sequence[Buffer]) -> bytes:
    return struct.pack(f"!I{len(parts)}Q", len(parts), *map(len, parts))


def unpack_message(*pieces: Buffer) -> List[bytes]:
    """The parts of a message that came in these pieces. What is in them is copied once."""
    first = memoryview(pieces[0])
    if len(first) < _U32.size or len(first) < _U32.size + 8 * min(_U32.unpack_from(first)[0], MAX_PARTS):
        first, pieces = memoryview(b"".join(pieces)), ()
    size = len(first) + sum(len(piece) for piece in pieces[1:])
    if size < _U32.size:
        raise WireError("a message without a head")
    (count,) = _U32.unpack_from(first)
    position = _U32.size + 8 * count
    if count > MAX_PARTS or size < position:
        raise WireError(f"a message of {size} bytes says it has {count} parts")
    lengths = struct.unpack_from(f"!{count}Q", first, _U32.size)
    if position + sum(lengths) != size:
        raise WireError("the parts of a message do not add up to its length")
    parts, following = [], iter(pieces[1:])
    for length in lengths:
        end = position + length
        if end <= len(first):
            parts.append(bytes(first[position:end]))
            position = end
            continue
        slices, missing = [first[position:]], end - len(first)
        while missing:
            first = memoryview(next(following))
            slices.append(first[:missing])
            position = min(missing, len(first))
            missing -= position
        parts.append(b"".join(slices))
    return parts


def data_bodies(channel: Channel, parts: Sequence[Buffer], chunk: int = CHUNK) -> Iterator[bytes]:
    """The DATA bodies that carry one message, in order. What is in the parts is copied once."""
    head = _message_head(parts)
    left = len(head) + sum(map(len, parts))
    if left <= chunk:
        yield b"".join((bytes((channel, 1)), head, *parts))
        return
    room = min(chunk, left)
    pieces: List[Buffer] = [bytes((channel, 0))]
    for part in (head, *parts):
        rest = memoryview(part)
        while len(rest):
            piece = rest[:room]
            rest = rest[len(piece) :]
            pieces.append(piece)
            room -= len(piece)
            left -= len(piece)
            if not room:
                yield b"".join(pieces)
                room = min(chunk, left)
                pieces = [bytes((channel, left <= chunk))]


def interrupt_body(parts: Sequence[Buffer]) -> bytes:
    """INTERRUPT's body: an interrupt_request for the control channel. ``ValueError`` where it does not fit a frame."""
    (body,) = data_bodies(Channel.CONTROL, parts, MAX_BODY - 2)
    return body


def read_interrupt(body: Buffer) -> List[bytes]:
    message = MessageAssembler().feed(body)
    if message is None or message[0] is not Channel.CONTROL:
        raise WireError("an INTERRUPT that is no whole message of the control channel")
    return message[1]


class MessageAssembler:
    """DATA bodies of one kernel and direction, in sequence, back to messages."""

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._max_message = max_message
        self._begun: Dict[int, List[Buffer]] = {}
        self._counted: Dict[int, int] = {}
        self._bytes = 0

    def feed(self, body: Buffer) -> Union[Tuple[Channel, List[bytes]], None]:
        """The message that this body completes, if it does. Raises ``WireError`` when it cannot be right."""
        if len(body) < 2:
            raise WireError("a DATA body without channel")
        number, last = body[0], body[1]
        channel = _CHANNELS.get(number)
        if channel is None:
            raise WireError(f"there is no channel {number}")
        size = len(body) - 2 + PIECE
        if self._bytes + size > self._max_message:
            raise WireError(f"a message of more than {self._max_message} bytes")
        piece = memoryview(body)[2:]
        begun = self._begun.get(number)
        if begun is None and last:
            return channel, unpack_message(piece)
        if begun is None:
            begun = self._begun[number] = []
        # A view keeps alive all that was read with it, which must not be many times what is counted here.
        begun.append(piece if memoryview(piece.obj).nbytes <= 2 * size else bytes(piece))
        self._bytes += size
        self._counted[number] = self._counted.get(number, 0) + size
        if not last:
            return None
        del self._begun[number]
        self._bytes -= self._counted.pop(number)
        return channel, unpack_message(*begun)
