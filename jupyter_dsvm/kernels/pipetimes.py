"""The times of an attach pipe, in one place, so that tests can be quick and a slow site can be patient."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PipeTimes:
    """Seconds."""

    connect: float = 20.0
    """For the first connect, for which somebody waits."""
    crowd: float = 90.0
    """For the first connect in all where the machine is crowded: a class that comes at once gets in one after the other."""
    bootstrap: float = 30.0
    start: float = 12.0
    """For the first word of the relay's pipe after that, which imports its modules on a machine that may be busy."""
    reconnect: float = 6.0
    """For a connect after a loss: short, so that a machine that is gone is found out about."""
    answer: float = 3.0
    """For TCP alone after a loss. A lost SYN is sent again after 1 and 3 s, so that a new try finds the way sooner."""
    ping: float = 1.25
    """After so much silence the other side is asked whether it is there."""
    deadline: float = 3.0
    """After a PING nothing has come for so long: lost."""
    first_wait: float = 0.25
    longest_wait: float = 15.0
    hurried_wait: float = 1.0
    """Between two tries at least, however often somebody asks for one."""
    refused_wait: float = 5.0
    """Between two tries to sign in: sshd penalises addresses that fail too fast."""
    ask_gone: float = 2.0
    """Between two questions whether the machine is off."""
    close: float = 2.0
    """For what is still to be sent when the pipe is closed."""
