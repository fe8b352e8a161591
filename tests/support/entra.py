"""The emulated Entra on a thread of the test's own, its certificate's file, and a person who enters codes."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jupyter_dsvm.compute.azure.signin import SignIn
from jupyter_dsvm.compute.azure.signin_settings import SignInSettings
from jupyter_dsvm.compute.azure.signin_store import SignInStore
from jupyter_dsvm.emulator.certificates import LOOPBACK
from jupyter_dsvm.emulator.directory import Directory
from jupyter_dsvm.emulator.entra import EntraServer
from jupyter_dsvm.models import SignInState, SignInStatus

ARM = "http://127.0.0.1:9"
"""An endpoint that is no Azure cloud, which nobody asks here."""


class Clock:
    """Entra's time, which a test moves on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Entra:
    url: str
    port: int
    ca_file: str
    directory: Directory
    clock: Clock
    folder: Path

    def settings(self, **more: str) -> SignInSettings:
        return SignInSettings(**{"endpoint": ARM, "authority": self.url, "authority_ca_file": self.ca_file, **more})

    @contextmanager
    def sign_in(self, **more: str) -> Iterator[SignIn]:
        made = SignIn(self.settings(**more), SignInStore(self.folder / "kept"))
        try:
            yield made
        finally:
            made.close()

    def signed_in(self, sign_in: SignIn, tenant: str = "", **person: str) -> SignInStatus:
        """Ask for a code and enter it."""
        status = sign_in.begin(tenant)
        assert status.code is not None, status.error
        self.directory.enter(status.code, **person)
        done = finished(sign_in, status)
        assert done.state is SignInState.SIGNED_IN, done.error
        return done


def finished(sign_in: SignIn, status: SignInStatus) -> SignInStatus:
    assert status.id is not None
    done = sign_in.wait(status.id, 30)
    assert done is not None
    return done


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def entra_server(folder: Path, hosts: Sequence[str] = LOOPBACK) -> Iterator[Entra]:
    """Codes are asked about once a second, which is as often as MSAL can."""
    clock, up, stop = Clock(), threading.Event(), threading.Event()
    directory = Directory(clock=clock)
    directory.behaviour.interval = 1
    servers: list[EntraServer] = []

    async def serve() -> None:
        server = EntraServer(directory, hosts)
        servers.append(server)
        server.start()
        up.set()
        await asyncio.to_thread(stop.wait)
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert up.wait(20)
        ca_file = folder / "ca.pem"
        ca_file.write_bytes(servers[0].authority_pem)
        yield Entra(servers[0].url, servers[0].port, str(ca_file), directory, clock, folder)
    finally:
        stop.set()
        thread.join()


@contextmanager
def proxy_to(port: int) -> Iterator[tuple[str, list[str]]]:
    """A proxy that takes every CONNECT to ``port`` on this computer, and the hosts that were asked for: how real clouds' names
    lead to the emulated Entra, TLS and all."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def pump(client: socket.socket) -> None:
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(4096)
                if not data:
                    return
                head += data
            asked.append(head.split(b" ")[1].decode())
            with socket.create_connection(("127.0.0.1", port)) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                other = {client: server, server: client}
                while not stop.is_set():
                    for ready in select.select(list(other), [], [], 0.1)[0]:
                        data = ready.recv(65536)
                        if not data:
                            return
                        other[ready].sendall(data)

    def accept() -> None:
        listener.settimeout(0.1)
        while not stop.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            client.settimeout(None)
            threads.append(threading.Thread(target=pump, args=(client,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        stop.set()
        acceptor.join()
        for thread in threads:
            thread.join()
        listener.close()
