"""The page's websocket to a kernel: paced instead of limited, and it knows what has arrived.

jupyter_server makes one connection per websocket, from the class in ``web_app.settings``, where the extension puts
``DSVMWebsocketConnection`` in the place of jupyter_server's own. For a kernel behind a proxy, no ZeroMQ socket is between
the two: the connection takes what the proxy's ``clients`` hold for its session, so much at a time as the browser reads. The
rest waits there, in bounded memory and on disk. What the browser has not confirmed is sent again when the same session
connects anew; the page drops what it had already (``labextension/src/once.ts``). Any other kernel is served as
jupyter_server does it, with ``TCP_NODELAY`` (48 → 6.6 ms for a round trip of ``pass``, measured).

One websocket's life, all on the server's loop::

    prepare --> connect --> [take --> write --> flushed --> ping … pong --> confirmed]* --> disconnect (parked)

However a websocket closes, its session is only parked. The close code says little: JupyterLab itself closes and opens anew
to reconnect, and some proxies say "going away" when it is they that restart. What is kept for a page that does not come
back has its bounds there.

jupyter_server's limiter of output stands for looking whether the browser can follow, so it is off here unless
``limit_rate`` is configured. Its adaptation to kernels of message protocol 4 (before 2015) is left out.
"""

# jupyter_server's connections are not annotated.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from jupyter_client.jsonutil import json_default
from jupyter_client.session import DELIM
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado import web
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketProtocol13
from traitlets import Bool, default

from . import frames
from .relay.wire import Channel

if TYPE_CHECKING:
    from .kernels.clients import ClientConnection, Outgoing
    from .kernels.proxy import Proxy

CHANNELS = {"shell": Channel.SHELL, "control": Channel.CONTROL, "stdin": Channel.STDIN}
"""What a page may send on."""

NAMES = {channel: channel.name.lower() for channel in Channel}

BATCH = 256 * 1024
"""Bytes that are taken and written at a time (and never less than one message)."""

Frame = tuple[list[bytes], bool]
"""A websocket message in pieces, and whether it is binary."""


class DSVMWebsocketConnection(ZMQChannelsWebsocketConnection):
    """One websocket of one page to one kernel. Made and called by jupyter_server's ``KernelWebsocketHandler``."""

    limit_rate = Bool(
        help="""Whether to limit the rate of IOPub messages, which drops what is above it. By default False for kernels that
        can be moved: what they say is sent as fast as the browser reads it. True for others, as in jupyter_server. The
        other settings of the limiter do not turn it on."""
    ).tag(config=True)

    _proxy: Proxy | None = None
    _client: ClientConnection | None = None
    _writing: asyncio.Task[None] | None = None
    _ping_timer: asyncio.TimerHandle | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._ready = asyncio.Event()
        self._statuses: deque[str] = deque()
        self._receipts: frames.Receipts[Outgoing] = frames.Receipts()

    @default("limit_rate")
    def _default_limit_rate(self) -> bool:
        return self._proxy is None

    # The life of a websocket

    async def _register_session(self) -> None:
        """A page that comes back before its former websocket was seen to close takes over from that one."""
        former = self._open_sessions.get(f"{self.kernel_id}:{self.session.session}")
        await super()._register_session()
        connection = getattr(former, "connection", None)
        if isinstance(connection, DSVMWebsocketConnection) and connection._proxy is not None:
            connection.disconnect()

    def request_kernel_info(self) -> Any:
        """The last step of ``prepare``, before the upgrade. A proxy answers or keeps whatever the page asks, so a kernel
        that is busy, out of reach or still starting lets nobody wait."""
        self._proxy = getattr(getattr(self.kernel_manager, "provisioner", None), "proxy", None)
        if self._proxy is None:
            return super().request_kernel_info()
        known: Future[dict[str, Any]] = Future()
        known.set_result({})
        return known

    def connect(self) -> asyncio.Future[None] | None:  # type: ignore[override]
        """After the upgrade. The handler waits for what this gives."""
        self.websocket_handler.set_nodelay(True)
        if self._proxy is None:
            return super().connect()
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connected.set_result(None)
        manager = self.multi_kernel_manager
        try:
            manager.add_restart_callback(self.kernel_id, self.on_kernel_restarted)
            manager.add_restart_callback(self.kernel_id, self.on_restart_failed, "dead")
            self._client = self._proxy.clients.connect(self.session_id, self._waker())
        except (web.HTTPError, KeyError):  # it was shut down meanwhile
            self.websocket_handler.close()
            return connected
        manager.notify_connect(self.kernel_id)
        ZMQChannelsWebsocketConnection._open_sockets.add(self)
        self._hear_pongs()
        self._writing = asyncio.ensure_future(self._write(self._client))
        return connected

    def _waker(self) -> Callable[[], None]:
        """What ``clients`` calls, on any thread, when there is something to take."""
        loop, ready = asyncio.get_running_loop(), self._ready

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(ready.set)
            except RuntimeError:
                pass  # the loop was closed: the server has ended

        return wake

    def disconnect(self) -> None:  # type: ignore[override]
        """The websocket is closed, or taken over. Called more than once."""
        if self._proxy is None:
            super().disconnect()
            return
        client, self._client = self._client, None
        if client is None:
            return
        if self._writing is not None:
            self._writing.cancel()
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        if self.websocket_handler.get_argument("session_id", None):
            client.disconnect()
        else:
            client.close()  # nobody can come back under a name that nobody was told
        manager = self.multi_kernel_manager
        manager.notify_disconnect(self.kernel_id)
        if self.kernel_id in manager:
            manager.remove_restart_callback(self.kernel_id, self.on_kernel_restarted)
            manager.remove_restart_callback(self.kernel_id, self.on_restart_failed, "dead")
        if self._open_sessions.get(self.session_key) is self.websocket_handler:
            del self._open_sessions[self.session_key]
        ZMQChannelsWebsocketConnection._open_sockets.discard(self)
        if not self._close_future.done():
            self._close_future.set_result(None)

    # From the page

    def handle_incoming_message(self, incoming_msg: str | bytes) -> None:
        """What this raises makes tornado log it and drop the connection."""
        if self._proxy is None:
            super().handle_incoming_message(incoming_msg)  # type: ignore[arg-type]
            return
        if self._client is None:
            return  # closed already
        if self._is_v1:
            name, parts = frames.read_v1(incoming_msg)  # type: ignore[arg-type]
            header = parts[0]
        else:
            named, message = frames.read_json(incoming_msg)
            name = named or "shell"
            buffers = [bytes(memoryview(b)) for b in message.get("buffers") or ()]
            parts = [*self.session.serialize(message)[2:], *buffers]
            header = parts[0]
        channel = CHANNELS.get(name)
        if channel is None:
            self.log.warning("No such channel: %r", name)
            return
        allowed = self.multi_kernel_manager.allowed_message_types
        if allowed and (kind := self.session.unpack(header)["msg_type"]) not in allowed:
            self.log.warning('Received message of type "%s", which is not allowed. Ignoring.', kind)
            return
        signature = self.session.sign(parts[: frames.MESSAGE_PARTS])
        self._client.send(channel, [DELIM, signature, *parts])

    @property
    def _is_v1(self) -> bool:
        return bool(self.subprotocol == frames.V1)

    # To the page

    async def _write(self, client: ClientConnection) -> None:
        """Take and write for as long as the websocket is open. It waits for the browser, the loop never does."""
        loop, pace = asyncio.get_running_loop(), frames.Pace()
        try:
            while True:
                self._ready.clear()
                if batch := client.take(BATCH):
                    size = await self._send(self._encoded(batch))
                    client.flushed(batch[-1])
                    self._receipts.wrote(batch[-1], len(batch))
                    self._ping()
                    rest = pace.wrote(len(batch), loop.time())
                    # What was flushed at once has let nobody else have a turn, so even without a rest.
                    await asyncio.sleep(rest if size < BATCH // 2 else 0)
                elif self._statuses:
                    await self._send([self._status(self._statuses.popleft())])
                elif client.over:
                    self.websocket_handler.close()
                    return
                else:
                    await self._ready.wait()
        except (WebSocketClosedError, StreamClosedError):
            pass  # the handler hears of it as well
        except Exception:
            self.log.exception("The websocket of %s cannot go on", self.session_key)
            self.websocket_handler.close()

    async def _send(self, messages: list[Frame]) -> int:
        """Return once the last is in the socket's buffer: how many bytes. Raises when the websocket is closed."""
        handler = self.websocket_handler
        protocol = handler.ws_connection
        if protocol is None or protocol.is_closing():
            raise WebSocketClosedError
        written, size = None, 0
        if isinstance(protocol, WebSocketProtocol13) and protocol._compressor is None and not protocol.mask_outgoing:
            # As tornado does it, but without two copies of each message, a call of the system and three futures.
            pieces = (piece for message, binary in messages for piece in frames.framed(message, binary))
            for piece in frames.joined(pieces):
                written = protocol.stream.write(piece)
                size += len(piece)
        else:
            for message, binary in messages:
                written = handler.write_message(b"".join(message), binary)
                size += sum(map(len, message))
        if written is not None:
            await written
        return size

    def _encoded(self, batch: list[Outgoing]) -> list[Frame]:
        """Without what cannot be sent, or is above a limit that somebody has configured."""
        if self._is_v1 and self.multi_kernel_manager.allow_tracebacks and not self.limit_rate:
            return [(frames.v1(NAMES[outgoing.channel], outgoing.parts[2:]), True) for outgoing in batch]
        return [frame for outgoing in batch if (frame := self._encode(outgoing)) is not None]

    def _encode(self, outgoing: Outgoing) -> Frame | None:
        channel = NAMES[outgoing.channel]
        signed = outgoing.parts[1:]
        parts = signed[1:]
        message: dict[str, Any] = {"header": None, "parent_header": None, "content": None}
        try:
            if not self._is_v1:
                message = self.session.deserialize(signed)
            self._on_error(channel, message, parts)
            if self.limit_rate and self._limit_rate(channel, message, parts):
                return None
            if self._is_v1:
                return frames.v1(channel, parts), True
            text = self._reserialize_reply(message, channel)
        except Exception:
            self.log.exception("A message on %s cannot be sent to the page", channel)
            return None
        return ([text], True) if isinstance(text, bytes) else ([text.encode()], False)

    def _on_error(self, channel: str, msg: dict[str, Any], msg_list: list[bytes]) -> None:
        """Hide what an error says, where ``allow_tracebacks`` is off. (jupyter_server 2.21 looks for the text to show instead
        at a manager that has none, and fails.)"""
        manager = self.multi_kernel_manager
        if self._proxy is None or manager.allow_tracebacks or channel != "iopub":
            super()._on_error(channel, msg, msg_list)
            return
        msg["header"] = self.get_part("header", msg["header"], msg_list)
        if msg["header"]["msg_type"] == "error":
            msg["content"] = {
                "ename": "ExecutionError",
                "evalue": "Execution error",
                "traceback": [manager.traceback_replacement_message],
            }
            msg_list[3] = self.session.pack(msg["content"])

    def _send_status_message(self, status: str) -> None:
        """The kernel was restarted, or cannot be. It goes out behind what the former one said."""
        if self._proxy is None:
            super()._send_status_message(status)
            return
        self._statuses.append(status)
        self._ready.set()

    def _status(self, status: str) -> Frame:
        assert self._proxy is not None
        message = self.session.msg("status", {"execution_state": status})
        # JupyterLab throws away what it has not handled yet when the kernel's session changes.
        message["header"]["session"] = self._proxy.session
        if self._is_v1:
            fields = ("header", "parent_header", "metadata", "content")
            return frames.v1("iopub", [self.session.pack(message[field]) for field in fields]), True
        return [json.dumps({**message, "channel": "iopub"}, default=json_default).encode()], False

    # What has arrived

    def _hear_pongs(self) -> None:
        """Beside the handler, for which each is a sign of life."""
        handler, sign_of_life = self.websocket_handler, self.websocket_handler.on_pong

        def on_pong(data: bytes) -> None:
            sign_of_life(data)
            arrived = self._receipts.pong(data)
            if arrived is not None and self._client is not None:
                self._client.confirmed(arrived)

        handler.on_pong = on_pong  # type: ignore[method-assign]

    def _ping(self) -> None:
        """Ask whether the browser has what was written, now or in a moment."""
        loop = asyncio.get_running_loop()
        seconds = self._receipts.due(loop.time())
        if seconds is None or (seconds and self._ping_timer is not None):
            return
        if self._ping_timer is not None:
            self._ping_timer.cancel()
            self._ping_timer = None
        if seconds:
            self._ping_timer = loop.call_later(seconds, self._ping_now)
            return
        try:
            self.websocket_handler.ping(self._receipts.ping(loop.time()))
        except (WebSocketClosedError, StreamClosedError):
            pass

    def _ping_now(self) -> None:
        self._ping_timer = None
        self._ping()
