"""paramiko's transport, fit for a machine that is not trusted and for a fast pipe. Imported with the first connection.

Why the subclasses: paramiko takes memory for whatever length a packet claims (up to 4 GiB), and queues what a server
sends beyond the window that it was given. Both are bounded here. Measured at 40 ms round trip: 300 MB/s with large
windows, large packets and AES-GCM against 44 MB/s with paramiko's defaults.
"""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any, ClassVar

from .library import AuthHandler, Channel, Packetizer, common, paramiko
from .packets import PacketQueue

WINDOW = 32 * 1024 * 1024
PACKET = 256 * 1024
CIPHERS_FIRST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")

_MAX_PACKET = PACKET + 64 * 1024  # RFC 4253 section 6.1 allows for headers, padding and MAC beyond the payload
_MAX_BANNER = 64 * 1024
_GREETING_KEPT = 500

LOG_CHANNEL = "jupyter_dsvm.ssh.transport"


class BoundedPacketizer(Packetizer):
    greeting = b""
    """What the server said first, for the error if that was no SSH greeting."""
    _banner = 0

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if not 0 <= n <= _MAX_PACKET:
            raise paramiko.SSHException(f"the server announced a packet of {n} bytes")
        data: bytes = super().read_all(n, check_rekey)
        return data

    def _read_timeout(self, timeout: float) -> bytes:
        data: bytes = super()._read_timeout(timeout)  # type: ignore[misc]
        self._banner += len(data)
        self.greeting = (self.greeting + data)[:_GREETING_KEPT]
        if self._banner > _MAX_BANNER:
            raise paramiko.SSHException(f"the server sent {self._banner} bytes that are no SSH greeting")
        return data


def _feed(channel: Channel, message: paramiko.Message) -> None:
    Channel._feed(channel, message)  # type: ignore[attr-defined]
    _check_window(channel)


def _feed_extended(channel: Channel, message: paramiko.Message) -> None:
    Channel._feed_extended(channel, message)  # type: ignore[attr-defined]
    _check_window(channel)


def _check_window(channel: Channel) -> None:
    if len(channel.in_buffer) + len(channel.in_stderr_buffer) > WINDOW + PACKET:
        raise paramiko.SSHException("the server sent more than the channel's window allows")


class _Ahead(AuthHandler):
    """Signs in right behind the request for the service that signs in: waiting for its acceptance takes a round trip."""

    _sent = False

    def _request_auth(self) -> None:
        assert self.private_key is not None
        # With which algorithm an RSA key is to sign is known once the server has named those that it takes.
        known: Any = self.transport.server_extensions  # type: ignore[attr-defined]
        self._sent = "rsa" not in self.private_key.get_name() or "server-sig-algs" in known
        super()._request_auth()  # type: ignore[misc]
        if self._sent:
            accepted = paramiko.Message()
            accepted.add_string("ssh-userauth")
            accepted.rewind()
            super()._parse_service_accept(accepted)  # type: ignore[misc]

    def _parse_service_accept(self, message: paramiko.Message) -> None:
        if not self._sent:
            super()._parse_service_accept(message)  # type: ignore[misc]


def ask_to_exec(channel: Channel, command: str) -> None:
    """``Channel.exec_command`` without its wait for the answer: that sets ``event_ready``, or closes the channel."""
    request = paramiko.Message()
    request.add_byte(common.cMSG_CHANNEL_REQUEST)
    request.add_int(channel.remote_chanid)
    request.add_string("exec")
    request.add_boolean(True)
    request.add_string(command)
    channel._event_pending()  # type: ignore[attr-defined]
    channel.get_transport()._send_user_message(request)  # type: ignore[attr-defined]


class Transport(paramiko.Transport):
    _channel_handler_table: ClassVar[dict[int, Any]] = {
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        common.MSG_CHANNEL_DATA: _feed,
        common.MSG_CHANNEL_EXTENDED_DATA: _feed_extended,
    }

    def __init__(self, sock: socket.socket, host_key_algorithms: tuple[str, ...]) -> None:
        super().__init__(
            sock, default_window_size=WINDOW, default_max_packet_size=PACKET, packetizer_class=BoundedPacketizer
        )
        self._host_key_algorithms = host_key_algorithms
        options = self.get_security_options()
        known = options.ciphers
        options.ciphers = tuple(c for c in CIPHERS_FIRST if c in known)
        # A lost connection is reported by us, with its reason; paramiko would log a traceback for each.
        self.set_log_channel(LOG_CHANNEL)
        logger = logging.getLogger(LOG_CHANNEL)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)

    def auth_publickey(self, username: str, key: paramiko.PKey, event: threading.Event | None = None) -> list[str]:
        if not (self.is_active() and self.initial_kex_done):
            raise paramiko.SSHException("No existing session")
        done = event or threading.Event()
        self.auth_handler = _Ahead(self)
        self.auth_handler.auth_publickey(username, key, done)
        return [] if event is not None else list(self.auth_handler.wait_for_response(done))

    def open_channel(self, *args: Any, **options: Any) -> Channel:
        channel = super().open_channel(*args, **options)
        channel.in_buffer = PacketQueue()  # type: ignore[assignment]  # nothing has come yet: nothing has been asked
        return channel

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The order in which host keys are asked for. Certificates are left out: nothing here could check one."""
        return self._host_key_algorithms
