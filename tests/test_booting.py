"""Waiting for a machine that has just been started: until it greets, and without failing where that cannot be seen."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from jupyter_dsvm import booting
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import Cancelled, ComputeNotRunning, Forbidden, OperationRefused
from jupyter_dsvm.models import Compute, PowerState, SSHTarget
from support.fakes import dsvm, windows
from support.sshd import free_port

VM = dsvm("gpu-vm")


@contextmanager
def machine(*answers: bytes | None, port: int | None = None) -> Iterator[int]:
    """Accepts one connection for each answer, says that, and hangs up; None: says nothing while the client waits."""
    listener = socket.create_server(("127.0.0.1", port or 0))
    listener.settimeout(10)

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                if answer is None:
                    connection.settimeout(10)
                    connection.recv(1)
                else:
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join()
        listener.close()


def at(port: int, **more: object) -> Callable[[str], SSHTarget]:
    return lambda compute_id: SSHTarget(compute_id, "gpu-vm", "127.0.0.1", port, **more)


def same(compute_id: str) -> Compute:
    return VM


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", True),
        (b"Authorised use only.\r\nSSH-2.0-x\r\n", True),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"", False),
        (b"x" * 10_000, False),
    ],
)
def test_who_greets(answer: bytes, expected: bool):
    with machine(answer) as port:
        assert booting.greets("127.0.0.1", port) is expected


def test_silence_is_no_greeting():
    with machine(None) as port:
        assert booting.greets("127.0.0.1", port, 0.2) is False
    assert booting.greets("127.0.0.1", free_port()) is False
    assert booting.greets("no such host.invalid", 22, 1.0) is False


def test_it_waits_until_the_server_is_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(booting, "PAUSE_SECONDS", 0.05)
    port = free_port()
    said: list[str] = []
    waiting = threading.Thread(target=lambda: said.append(booting.wait(VM, at(port), same, Cancel())))
    waiting.start()
    time.sleep(0.3)
    assert said == []
    with machine(b"SSH-2.0-x\r\n", port=port):
        waiting.join(10)
    assert said == [""]


def test_a_closed_port_is_said_and_fails_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(booting, "PAUSE_SECONDS", 0.01)
    port = free_port()
    said = booting.wait(VM, at(port), same, Cancel(), patience=0.1)
    assert f"SSH port ({port} at 127.0.0.1) has not answered" in said
    assert "network security group" in said


@pytest.mark.parametrize(
    "row", [windows("win-vm"), dataclasses.replace(VM, power_state=PowerState.UNKNOWN)], ids=["windows", "unknown"]
)
def test_where_nothing_can_be_seen_nothing_is_asked(row: Compute):
    def nobody(compute_id: str) -> SSHTarget:
        raise AssertionError

    assert booting.wait(row, nobody, same, Cancel()) == ""


def test_through_another_machine_it_cannot_be_seen():
    assert booting.wait(VM, at(1, proxy_command="false"), same, Cancel()) == ""


def test_no_address_and_no_right_to_read_one():
    def no_address(compute_id: str) -> SSHTarget:
        raise ComputeNotRunning("gpu-vm is running but has no address yet.", code="NoAddress")

    def forbidden(compute_id: str) -> SSHTarget:
        raise Forbidden("You may not read the network.")

    assert "no address yet" in booting.wait(VM, no_address, same, Cancel())
    assert booting.wait(VM, forbidden, same, Cancel()) == ""


def test_somebody_stops_it_meanwhile(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(booting, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(booting, "LOOK_SECONDS", 0.05)
    off = dataclasses.replace(VM, power_state=PowerState.DEALLOCATING)
    with pytest.raises(
        OperationRefused, match=r"was started, but another operation has changed it since.*deallocating"
    ):
        booting.wait(VM, at(free_port()), lambda compute_id: off, Cancel())


def test_cancel_says_that_it_runs():
    cancel = Cancel()
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(Cancelled, match="It runs, and is billed") as caught:
        booting.wait(VM, at(free_port()), same, cancel)
    assert "releases it" in caught.value.advice
