"""How a relay comes to be: forked off the attach pipe, in a private folder that it holds locked for its life."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import NoReturn, Set

from .daemon import SOCKET, Relay
from .folders import kernel_folder, kernels_folder, lock_folder, private_folder, write_private
from .listening import listen

log = logging.getLogger("relay")

LOCK_WAIT = 0.5
"""Seconds that the pipe, and so all kernels on it, may wait for a relay's predecessor to be gone."""


def spawn(tag: bytes) -> str:
    """Start the relay of this kernel, detached, and return the path of its socket, which listens already.

    Called by the attach pipe, which has one thread. The socket is made here, before the fork: so a connect follows at
    once, and what can go wrong with the folder is raised here as an ``OSError``, where somebody hears it.
    """
    private_folder(kernels_folder())  # under /tmp somebody else may have made it, and could then exchange what is in it
    folder = private_folder(kernel_folder(tag))
    lock = lock_folder(folder, LOCK_WAIT)
    if lock is None:
        raise OSError("the kernel's relay is just starting or ending; try again in a moment")
    try:
        return _start_in(folder, tag, lock)
    finally:
        os.close(lock)


def _start_in(folder: str, tag: bytes, lock: int) -> str:
    for name in os.listdir(folder):  # left behind by a relay that was killed with its machine
        path = os.path.join(folder, name)
        if not os.path.isdir(path):
            os.unlink(path)
    path = os.path.join(folder, SOCKET)
    listener = listen(path)
    child = os.fork()
    if child:
        listener.close()
        os.waitpid(child, 0)
        return path
    _become_relay(folder, tag, listener, lock)


def _become_relay(folder: str, tag: bytes, listener: socket.socket, lock: int) -> NoReturn:
    """In the forked child. It never comes back into the pipe's code, whatever happens."""
    try:
        os.setsid()
        if os.fork() == 0:
            _detach_from_everything(os.path.join(folder, "relay.log"), {listener.fileno(), lock})
            Relay(folder, tag, listener).run()
    except BaseException:
        log.exception("the relay failed")
    finally:
        os._exit(0)


def _detach_from_everything(log_path: str, keep: Set[int]) -> None:
    """No terminal, no open file of the pipe (sshd would wait for its channel), no folder that could be unmounted."""
    os.chdir("/")
    write_private(log_path, b"")
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log_path, os.O_WRONLY | os.O_APPEND)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.INFO, force=True)
