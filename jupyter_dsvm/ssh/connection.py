"""One SSH connection to a machine: opened, used and closed on worker threads, never on an event loop or the I/O thread.

The order of a connect: TCP, key exchange, host key held against what is known, and only then authentication. Kernels,
commands and file transfer to a VM share one connection (sshd allows ten sessions on it by default, ``MaxSessions``).
paramiko (0.16 s, 31 MB) is imported when the first connection is made.
"""

from __future__ import annotations

import errno
import getpass
import os
import re
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from ..errors import AuthenticationError, SSHError, Unreachable, printable, reason
from ..models import SSHTarget
from .addresses import check
from .hostkeys import HostKey, HostKeys
from .keystotry import KeysToTry
from .proxycommand import ProxyCommand

if TYPE_CHECKING:
    import paramiko

TOO_MANY, SLOW = "TooManyConnections", "Slow"
CROWDED = frozenset({TOO_MANY, SLOW})
"""The ``code`` of an ``Unreachable`` that passes by itself: sshd said that it is busy, or is there and does not get on."""

BUSY = re.compile("MaxStartups|Not allowed at this time")
"""What OpenSSH says in place of its greeting (``drop_connection`` in sshd.c)."""

_served: dict[tuple[str, str, int], str] = {}
"""By user, host and port: the key that was taken last, as ``KeysToTry`` labels it. It is tried first, since each try that fails
is a round trip, and counts as a failure for sshd."""

KEYS_BEFORE_PASSWORD = 4
"""Of the six tries that sshd allows (``MaxAuthTries``), the password has to get one."""

MAX_OUTPUT = 4 * 1024 * 1024

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)


class SSHConnection:
    """An authenticated connection. ``close`` may be called from any thread and at any time, also during ``open``."""

    def __init__(self, target: SSHTarget) -> None:
        """Made by ``open``; made directly only by whoever needs ``close`` to end a connect that is under way."""
        self.target = target
        self.user = target.user or getpass.getuser()
        self._closed = threading.Event()
        self._socket: socket.socket | None = None
        self._proxy: ProxyCommand | None = None
        self._transport: paramiko.Transport | None = None

    @classmethod
    def open(
        cls,
        target: SSHTarget,
        host_keys: HostKeys,
        *,
        timeout: float = 20.0,
        password: str | None = None,
        passphrase: str | None = None,
        agent: bool = True,
    ) -> SSHConnection:
        """Connect and sign in within ``timeout`` seconds.

        Keys are tried in this order: ``target.key_files``, the agent's, and where the target names no file the user's
        usual ones; last the password, if one is given. Raises ``Unreachable``, ``HostKeyError``,
        ``AuthenticationError`` or ``SSHError``.
        """
        connection = cls(target)
        connection.connect(host_keys, timeout=timeout, password=password, passphrase=passphrase, agent=agent)
        return connection

    def connect(
        self,
        host_keys: HostKeys,
        *,
        timeout: float = 20.0,
        answer: float | None = None,
        password: str | None = None,
        passphrase: str | None = None,
        agent: bool = True,
    ) -> None:
        """What ``open`` does. On an error everything is closed again.

        ``answer``: seconds within which TCP must stand, where that is to be known sooner than the rest.
        """
        deadline = time.monotonic() + timeout
        try:
            self._connect_socket(deadline if answer is None else min(deadline, time.monotonic() + answer))
            if self._closed.is_set():
                raise Unreachable(f"The connection to {self._place} was closed.")
            self._exchange_keys(host_keys, deadline)
            self._authenticate(deadline, password, passphrase, agent)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the connection stands as far as this side knows; a silent network fault takes a ping to find out."""
        return self._transport is not None and self._transport.is_active()

    def exec(self, command: str, timeout: float = 20.0, wait: bool = True) -> paramiko.Channel:
        """Start ``command`` with the account's login shell, without a terminal. Raises ``SSHError`` if refused.

        Not ``wait``: do not spend a round trip on the answer. Where the channel ends without having said anything, ``refused``
        says whether the command was.
        """
        from .library import paramiko

        transport = self._transport
        if transport is None or not transport.is_active():
            raise Unreachable(f"The connection to {self._place} is closed.")
        channel = None
        try:
            channel = transport.open_session(timeout=timeout)
            if wait:
                channel.settimeout(timeout)
                channel.exec_command(command)
                channel.settimeout(None)
            else:
                from .transport import ask_to_exec

                ask_to_exec(channel, command)
            return channel
        except (paramiko.SSHException, OSError, EOFError) as e:
            if channel is not None:
                channel.close()
            if not transport.is_active():
                raise Unreachable(f"The connection to {self._place} was lost: {reason(e)}.") from e
            raise self._exec_refused(reason(e)) from e

    def _exec_refused(self, why: str) -> SSHError:
        return SSHError(
            f"{self._place} refused to run a command for {self.user}: {why}.",
            advice="Check the account's shell there, a ForceCommand, and MaxSessions in its sshd_config.",
            code="ExecRefused",
        )

    def refused(self, channel: paramiko.Channel) -> SSHError | None:
        """Why the command of an ``exec`` that did not wait has not been started; None where it has, as far as is known."""
        if channel.event_ready or not channel.closed or not self.alive:
            return None
        return self._exec_refused("Channel closed")

    def run(
        self, command: str, input: bytes = b"", timeout: float = 60.0, limit: int = MAX_OUTPUT
    ) -> tuple[int, bytes, bytes]:
        """Run ``command`` to its end: its exit status (-1 where a signal ended it), stdout and stderr.

        Raises ``SSHError`` when it takes longer than ``timeout`` seconds or prints more than ``limit`` bytes.
        """
        deadline = time.monotonic() + timeout
        channel = self.exec(command, timeout)
        out, err = bytearray(), bytearray()
        try:
            channel.settimeout(timeout)
            if self.feed(channel, input):
                channel.shutdown_write()
            while not (channel.exit_status_ready() and channel.eof_received):
                self._collect(channel, out, err, limit)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                # Readable when there is output, and when the channel has closed.
                select.select([channel], [], [], min(left, 1.0))
                if channel.closed:
                    break
            self._collect(channel, out, err, limit)
            if not channel.exit_status_ready() and not self.alive:
                raise Unreachable(f"The connection to {self._place} was lost while a command ran.")
            return channel.recv_exit_status() if channel.exit_status_ready() else -1, bytes(out), bytes(err)
        except (OSError, EOFError) as e:
            if not self.alive:
                raise Unreachable(f"The connection to {self._place} was lost while a command ran: {reason(e)}.") from e
            raise SSHError(
                f"A command on {self._place} did not end within {timeout:g} s. "
                f"It printed: {printable(bytes(out + err)) or 'nothing'}",
                code="Timeout",
            ) from e
        finally:
            channel.close()

    @staticmethod
    def feed(channel: paramiko.Channel, data: bytes) -> bool:
        """Write to a command's stdin; whether it took that. What has ended already has said why, which is still to be read.
        Raises ``TimeoutError``."""
        try:
            channel.sendall(data)
        except TimeoutError:
            raise
        except (OSError, EOFError):
            return False
        return True

    def _collect(self, channel: paramiko.Channel, out: bytearray, err: bytearray, limit: int) -> None:
        while channel.recv_ready():
            out += channel.recv(256 * 1024)
        while channel.recv_stderr_ready():
            err += channel.recv_stderr(256 * 1024)
        if len(out) + len(err) > limit:
            raise SSHError(f"A command on {self._place} printed more than {limit} bytes.", code="TooMuchOutput")

    def close(self) -> None:
        """Close everything, which also ends a blocked ``connect``, ``exec`` or channel; safe to call again."""
        self._closed.set()
        if self._transport is not None:
            self._transport.close()
        if self._socket is not None:
            self._socket.close()
        if self._proxy is not None:
            self._proxy.close()

    def abort(self) -> None:
        """End whatever blocks on this connection, without blocking; ``close`` is still to be called."""
        self._closed.set()
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @property
    def _account(self) -> tuple[str, str, int]:
        return self.user, self.target.host, self.target.port

    @property
    def _place(self) -> str:
        return f"{self.target.name} ({self.target.host}, port {self.target.port})"

    # TCP

    def _connect_socket(self, deadline: float) -> None:
        if self.target.proxy_command:
            self._proxy = ProxyCommand(self.target.proxy_command)
            self._socket = self._proxy.socket
            return
        try:
            addresses = socket.getaddrinfo(self.target.host, self.target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as e:
            raise Unreachable(
                f"The address of {self._place} cannot be found: {reason(e)}.",
                advice="Check the host name, and that this server can resolve it.",
            ) from e
        if self.target.allowed_addresses is not None:
            # The very addresses that are connected to below: a name could mean another one when asked again.
            check(self.target.name, self.target.host, (row[4][0] for row in addresses), self.target.allowed_addresses)
        error: OSError = TimeoutError("timed out")
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            # An address that does not answer must leave time for the others.
            share = (deadline - time.monotonic()) / (len(addresses) - index)
            sock = socket.socket(family, kind, protocol)
            try:
                self._connect_one(sock, address, time.monotonic() + share)
                # Without it a small packet waits for the ACK of the one before: an exec takes 48 ms, not 4 (measured).
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket = sock
                return
            except OSError as e:
                sock.close()
                error = e
        if isinstance(error, ConnectionRefusedError):
            what, advice = "refuses connections", "Check that the machine runs, that sshd runs there, and the port."
        else:
            what = f"does not answer ({reason(error)})"
            advice = (
                "Check that the machine runs, its address, and that its firewall or security group lets this server in."
            )
        raise Unreachable(f"{self._place} {what}.", advice=advice) from error

    def _connect_one(self, sock: socket.socket, address: Any, deadline: float) -> None:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        while code in _IN_PROGRESS:
            if self._closed.is_set():
                raise ConnectionAbortedError("closed")
            if time.monotonic() > deadline:
                raise TimeoutError("timed out")
            # Short turns, so that close() need not wait for a machine that says nothing.
            if select.select([], [sock], [sock], 0.1)[1]:
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                break
        if code:
            raise OSError(code, os.strerror(code))  # which is a ConnectionRefusedError where it should be

    # SSH

    def _exchange_keys(self, host_keys: HostKeys, deadline: float) -> None:
        from .library import paramiko
        from .transport import Transport

        assert self._socket is not None
        transport = self._transport = Transport(self._socket, host_keys.algorithms(self.target))
        left = max(0.1, deadline - time.monotonic())
        transport.handshake_timeout = transport.auth_timeout = left
        # Later than start_client's own: which of the two were first would decide what the user is told.
        transport.banner_timeout = left + 5
        try:
            transport.start_client(timeout=left)
            if not transport.initial_kex_done:  # start_client returns in silence when the time is up
                raise TimeoutError
            key = transport.get_remote_server_key()
        except (paramiko.SSHException, OSError, EOFError) as e:
            # The transport's own timer, when that is first, says no more than that nothing comes any more.
            late = time.monotonic() >= deadline - 0.01
            raise self._no_ssh(transport, TimeoutError(f"no key exchange within {left:.0f} s") if late else e) from e
        host_keys.verify(self.target, HostKey(key.get_name(), key.asbytes()))

    def _no_ssh(self, transport: paramiko.Transport, error: Exception) -> Unreachable:
        """Why no SSH connection came about where something accepts connections."""
        if self._proxy is not None:
            said = self._proxy.said()
            return Unreachable(
                f"{self._place} accepts connections, but no SSH connection came about: {reason(error)}."
                + (f" The proxy command printed: {said}" if said else ""),
                advice="Check the proxy command.",
            )
        greeting = printable(getattr(transport.packetizer, "greeting", b""), 200)
        if BUSY.search(greeting):
            return Unreachable(
                f"sshd on {self._place} takes no further connections just now. It said: {greeting}",
                advice="Too many are signing in at once (MaxStartups), or failed to (PerSourcePenalties); it passes by itself.",
                code=TOO_MANY,
            )
        if not greeting and (transport.is_active() or isinstance(error, TimeoutError)):
            return Unreachable(
                f"{self._place} accepts connections and then says nothing.",
                advice="Its sshd may be overloaded or stopped, or something else listens on this port.",
                code="NoGreeting",
            )
        if not greeting:
            return Unreachable(
                f"{self._place} hangs up before it says anything.",
                advice="sshd does that when too many sign in at once (MaxStartups); a firewall or a load balancer may, too.",
                code="HangsUp",
            )
        if isinstance(error, TimeoutError):
            return Unreachable(
                f"sshd on {self._place} is slow: {reason(error)}.",
                advice="The machine has much to do just now. Try again in a moment.",
                code=SLOW,
            )
        return Unreachable(
            f"{self._place} accepts connections, but no SSH connection came about: {reason(error)}.",
            advice="Check that it is an SSH server that listens on this port.",
        )

    def _authenticate(self, deadline: float, password: str | None, passphrase: str | None, agent: bool) -> None:
        from .library import paramiko

        transport = self._transport
        assert transport is not None
        tried: list[str] = []
        refused = False
        keys = KeysToTry(self.target, passphrase, agent, _served.get(self._account, ""))
        try:
            for label, key in keys:
                if password is not None and len(tried) == KEYS_BEFORE_PASSWORD:
                    break
                tried.append(label)
                transport.auth_timeout = max(0.1, deadline - time.monotonic())
                try:
                    if not transport.auth_publickey(self.user, key):
                        _served[self._account] = label
                        return
                except paramiko.BadAuthenticationType:
                    refused = True
                    break
                except paramiko.AuthenticationException:
                    if not transport.is_active() or time.monotonic() > deadline:
                        raise
                refused = True
            if password is not None:
                tried.append("the password")
                if not transport.auth_password(self.user, password):
                    return
                refused = True
        except (paramiko.SSHException, OSError, EOFError) as e:
            # A machine that never said no has not refused anybody, and may be there again in a moment.
            lost, why = not transport.is_active() or time.monotonic() > deadline, reason(e).rstrip(".")
            if lost and not refused:
                if transport.is_active():
                    raise Unreachable(f"{self._place} has fallen silent while signing in: {why}.", code=SLOW) from e
                raise Unreachable(f"The connection to {self._place} was lost while signing in: {why}.") from e
        finally:
            keys.close()
        if self._closed.is_set():
            raise Unreachable(f"The connection to {self._place} was closed while signing in.")
        raise AuthenticationError(
            f"{self._place} does not let {self.user} in. "
            f"Tried: {'; '.join([*tried, *keys.skipped]) or 'no key, there is none'}. "
            f"The server accepts: {_accepted(transport, self.user)}.",
            advice="Attach once more, and the hub sets the VM up anew; if it stays so, tell whoever runs the hub."
            if self.target.compute.startswith("hub:")
            else "The VM needs the AADSSHLoginForLinux extension, and you a role Virtual Machine User Login on it; "
            "or set AzureCompute.entra_ssh to False."
            if self.target.certificates
            else f"Put the public half of one of these keys into ~{self.user}/.ssh/authorized_keys there, "
            "or set the right user and key file.",
        )


def _accepted(transport: paramiko.Transport, user: str) -> str:
    """The ways to sign in that the server names; asked after a failure only, so that a success costs no round trip."""
    from .library import paramiko

    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as e:
        return ", ".join(printable(kind, 50) for kind in e.allowed_types) or "nothing"
    except (paramiko.SSHException, OSError, EOFError):
        pass
    return "unknown (it has hung up)"
