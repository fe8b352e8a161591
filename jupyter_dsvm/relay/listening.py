"""Unix sockets for this user only: the file is 0600, its folder 0700, and the peer's user is asked of the kernel."""

from __future__ import annotations

import os
import socket
import struct
from typing import Optional

BACKLOG = 16
CONNECT_TIMEOUT = 2.0
"""Seconds; a connect waits only where the backlog is full."""

_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)


def listen(path: str) -> socket.socket:
    """A listening socket at ``path``, in place of a dead one. Called while the process has one thread: it sets the umask."""
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener


def accept_same_user(listener: socket.socket) -> Optional[socket.socket]:
    """The next connection, not blocking; None where there is none, or it is another user's (root is another user too)."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    if not same_user(connection):
        connection.close()
        return None
    connection.setblocking(False)
    return connection


def connect(path: str, timeout: float = CONNECT_TIMEOUT) -> Optional[socket.socket]:
    """A connection to a socket of our own; None where certainly nobody listens.

    ``OSError`` where that is not known: the listener is stopped or overwhelmed, or it is not ours.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
        if not same_user(connection):
            raise PermissionError(f"{path} is another user's")
        connection.setblocking(False)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError:
        connection.close()
        raise
    return connection


def same_user(connection: socket.socket) -> bool:
    """Whether the other end was opened by our own user."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return bool(_UCRED.unpack(raw)[1] == os.getuid())
