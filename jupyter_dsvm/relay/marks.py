"""What our processes on a VM are called, so that anybody there sees which of them work: the name that ``ps`` shows
(``/proc/PID/comm``).

Two accounts of one VM cannot read each other's folders, and should not stop the VM under each other. A process's name is the
one thing that is everybody's to read; it says nothing of a kernel but whether it runs a cell. Children lose the name when they
start a program.
"""

from __future__ import annotations

PIPE_MARK = "dsvm-pipe"
HOLDER_MARK = "dsvm-holder"
RELAY_BUSY = "dsvm-relay:busy"
RELAY_IDLE = "dsvm-relay:idle"
"""15 bytes, which is what Linux keeps."""


def mark(name: str) -> None:
    """Called on the process's main thread. Where there is no such file the process goes without, and counts as busy."""
    try:
        with open("/proc/self/comm", "w", encoding="ascii") as f:
            f.write(name)
    except OSError:
        pass
