"""Waits until a machine that has just been started has booted: until its SSH server greets.

A cloud calls a VM running as soon as it has hardware; what runs on it comes up after that. Only where the machine is
reached directly can this server tell. A port that stays closed is no failure of the start (it may be closed to this server
alone), but whoever wants to attach is told.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from .compute.provider import Cancel
from .computes import CONFIRMED_OFF
from .errors import Cancelled, ComputeError, ComputeNotRunning, DSVMError, OperationRefused
from .models import OS, Compute, ComputeKind, PowerState, SSHTarget

PATIENCE = 90.0
"""Seconds until a port counts as closed to this server. Nothing fails when it is over."""

TRY_SECONDS = 5.0
"""For a connection, and for the greeting on it."""

PAUSE_SECONDS = 1.0
LOOK_SECONDS = 10.0
"""Between two looks whether the machine is still on, and where."""


def greets(host: str, port: int, seconds: float = TRY_SECONDS) -> bool:
    """Whether something that speaks SSH answers there: RFC 4253, 4.2, lets it send other lines first."""
    deadline = time.monotonic() + seconds
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            heard = b""
            while len(heard) < 4096:
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                more = connection.recv(1024)
                if not more:
                    return False
                heard += more
                if heard.startswith(b"SSH-") or b"\nSSH-" in heard:
                    return True
    except (OSError, UnicodeError):
        pass
    return False


def wait(
    compute: Compute,
    target: Callable[[str], SSHTarget],
    look: Callable[[str], Compute],
    cancel: Cancel,
    patience: float = PATIENCE,
) -> str:
    """ "" once it greets or where that cannot be told; a sentence where it did not in time. Blocks. ``target`` says where the
    machine is now, ``look`` what state it is in.

    Raises:
        OperationRefused: It is off again: somebody else has stopped it.
        Cancelled: ``cancel`` was set.
    """
    if (
        compute.kind is not ComputeKind.DSVM
        or compute.os is OS.WINDOWS
        or compute.power_state is not PowerState.RUNNING
    ):
        return ""
    deadline, looked, there = time.monotonic() + patience, time.monotonic(), None
    while True:
        try:
            there = there or target(compute.id)
        except ComputeNotRunning as e:
            if e.code != "NoAddress":
                raise _off_again(compute, e) from e
            return f"Whether it has booted cannot be told from here: {e.message}"
        except DSVMError:
            return ""  # the one who connects is told why
        if there.proxy_command:
            return ""
        if greets(there.host, there.port):
            return ""
        if time.monotonic() > deadline:
            return (
                f"Its SSH port ({there.port} at {there.host}) has not answered this server within {patience:.0f} s, so notebooks "
                "cannot be attached there yet: it may still be booting, or its network security group may not let this server in."
            )
        if cancel.wait(PAUSE_SECONDS):
            raise Cancelled(
                f"Stopped waiting for {compute.name} to boot. It runs, and is billed.",
                advice=f"`jupyter dsvm stop {compute.name}` (in a notebook, `%dsvm stop {compute.name}`) releases it, so that it "
                "costs nothing but its disk.",
            )
        if time.monotonic() - looked > LOOK_SECONDS:
            looked, there = time.monotonic(), None
            try:
                now = look(compute.id).power_state
            except ComputeError:
                continue
            if now in CONFIRMED_OFF or now in {PowerState.STOPPING, PowerState.DEALLOCATING}:
                raise _off_again(compute, None, now)


def _off_again(compute: Compute, said: DSVMError | None, now: PowerState = PowerState.UNKNOWN) -> OperationRefused:
    what = said.message if said is not None else f"{compute.name} is {now.value}."
    return OperationRefused(
        f"{compute.name} was started, but another operation has changed it since: {what}",
        advice="Wait until its state is settled, then try again.",
        code="Conflict",
    )
