"""Unix sockets for this user only: the file is 0600, its folder 0700, and the peer's user is asked of the kernel."""

from __future__ import annotations

import os
import socket
import struct
from typing import Optional

BACKLOG = 16
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


def connect(path: str) -> Optional[socket.socket]:
    """A connection to a socket of our own; None where nobody listens, or somebody else does."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    if not same_user(connection):
        connection.close()
        return None
    connection.setblocking(False)
    return connection


def same_user(connection: socket.socket) -> bool:
    """Whether the other end was opened by our own user."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return bool(_UCRED.unpack(raw)[1] == os.getuid())
