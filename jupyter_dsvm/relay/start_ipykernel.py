"""Starts ipykernel in place of ``python -m ipykernel_launcher``, with two changes. Run by the kernel's Python, as a file.

The relay, or the server for a kernel of its own, writes this file beside the kernel's sockets. It imports nothing of either:
the kernel's Python is another.

1. ipykernel listens on loopback TCP for what forked children print (``IOPubThread._setup_pipe_in``), whatever the transport
   of its channels. Any user of the machine can connect to that. Here it is an ipc socket in the private folder.
2. Its IOPub socket drops what a subscriber is slow to read, beyond 1000 messages. Here it waits, and so does the cell, as one
   that prints into a pipe: whoever started the kernel is the only subscriber, reads eagerly, and keeps account of what it
   cannot keep. So nothing is lost in between, and what is under way stays bounded on a machine that is too busy.

Both are changes to ipykernel's inside. Where a version has no such inside, it starts as it is.

A spare (``park``) runs this file too, once it is told for which kernel: so what is true after a start is true of it.
"""

import itertools
import os
import runpy
import sys
from contextlib import contextmanager
from typing import Any, Iterator

FOLDER = os.path.dirname(os.path.abspath(__file__))


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def without_tcp(thread_class: Any, socket_class: Any) -> None:
    """Make both ends of the pipe from forked children an ipc socket. Its port number is then of no use, and 0."""
    setup_in, setup_out, connect = thread_class._setup_pipe_in, thread_class._setup_pipe_out, socket_class.connect
    number = itertools.count(1)
    endpoints = {}

    def setup_pipe_in(self: Any) -> Any:
        endpoint = endpoints[id(self)] = f"ipc://{FOLDER}/p{os.getpid()}-{next(number)}"
        with replaced(socket_class, "bind_to_random_port", lambda s, *_, **__: 0 * bool(s.bind(endpoint))):
            return setup_in(self)

    def setup_pipe_out(self: Any) -> Any:
        with replaced(socket_class, "connect", lambda s, *_: connect(s, endpoints[id(self)])):
            return setup_out(self)

    thread_class._setup_pipe_in, thread_class._setup_pipe_out = setup_pipe_in, setup_pipe_out


def without_loss(app_class: Any, publishers: Any, no_drop: int) -> None:
    """Have the socket wait before it is bound: from the first message on. ipykernel's own queue of what its threads give the
    thread that publishes has room for some 2000 messages, and then they wait, too; an interrupt ends that."""
    bind_socket = app_class._bind_socket

    def bind(self: Any, s: Any, port: int) -> Any:
        if s.type in publishers:
            s.set(no_drop, 1)
        return bind_socket(self, s, port)

    app_class._bind_socket = bind


def main() -> None:
    # Python has put this file's folder there (not with -P or -I). With -m it is the working folder, and ipykernel_launcher
    # takes that away before it imports anything: a tornado.py among somebody's notebooks is not to be taken for tornado.
    first = bool(sys.path) and sys.path[0] == os.path.realpath(FOLDER)
    if first:
        del sys.path[0]
    try:
        import zmq
        from ipykernel.iostream import IOPubThread
        from ipykernel.kernelapp import IPKernelApp

        without_tcp(IOPubThread, zmq.Socket)
        without_loss(IPKernelApp, (zmq.PUB, zmq.XPUB), zmq.XPUB_NODROP)
    except (ImportError, AttributeError) as e:
        sys.stderr.write(f"ipykernel is started unchanged: {e}\n")
    if first:
        sys.path.insert(0, os.getcwd())
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
