"""A kernel's process, for whoever owns it: the relay, or the holder of a spare. Nothing here waits; the owner calls ``poll``.

The standard library only, and little of it: a holder is to stay small.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from typing import Any, Callable, Mapping, Optional, Sequence, Union

from .folders import write_private

LOG_LIMIT = 1024 * 1024
"""What a kernel's log may take on disk, in bytes. Outputs do not go there, only what precedes or escapes them."""

LOG_LOOK = 0.1
"""Seconds between two looks at the log's size, since ``poll`` is called for each message of a kernel."""

TAIL = 4000
"""Bytes of the log that go into an error."""

GRACE = 5.0
"""Seconds between asking a kernel to end and ending it."""

_PR_SET_PDEATHSIG = 1  # prctl(2)


class OwnedProcess:
    """What an owner does with a kernel's process, whoever its parent is: signal it, end it, ask whether it has ended."""

    def __init__(self, log: Optional[str]) -> None:
        self.pid = 0
        self.returncode: Optional[int] = None
        self.started = time.monotonic()
        self._log = log
        self._log_at = 0.0
        self._kill_at: Optional[float] = None

    def _look(self) -> Optional[int]:
        """The exit code if it has just ended. Called by ``poll``, no more once it said one."""
        raise NotImplementedError

    def signal(self, signum: int) -> None:
        """Signal the process group; nothing happens once it has ended."""
        raise NotImplementedError

    def poll(self) -> Optional[int]:
        """The exit code (negative: the signal) once it has ended, else None. Also does what ``end`` has put off.

        With the process its whole group ends: what a cell left running there would otherwise keep memory and GPU.
        """
        if self.returncode is None:
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self.kill()
            self._bound_log()
            self.returncode = self._look()
        return self.returncode

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def end(self, grace: float = GRACE) -> None:
        """Ask the process to end; ``poll``, which the owner goes on calling, kills it ``grace`` seconds later."""
        if self._kill_at is None:
            self.signal(signal.SIGTERM)
            # An interrupted or stopped kernel must still get it.
            self.signal(signal.SIGCONT)
        self._kill_at = time.monotonic() + grace

    def close(self) -> None:
        """The owner needs it no more; it has ended, or is nobody's."""

    @property
    def ending(self) -> bool:
        return self._kill_at is not None

    def wait(self, timeout: float) -> Optional[int]:
        """``poll`` until ``timeout``. Only where blocking is right: when the process that owns the kernel ends."""
        deadline = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.returncode

    def tail(self, limit: int = TAIL) -> str:
        """The end of what it printed, for an error message. Unsafe text: whoever shows it cleans it."""
        return _tail(self._log, limit).decode("utf-8", "replace") if self._log is not None else ""

    def _bound_log(self) -> None:
        now = time.monotonic()
        if self._log is None or now < self._log_at:
            return
        self._log_at = now + LOG_LOOK
        try:
            if os.stat(self._log).st_size > LOG_LIMIT:
                kept = _tail(self._log, LOG_LIMIT // 4)
                with open(self._log, "r+b") as f:
                    f.truncate(0)
                    f.write(kept)
        except OSError:
            pass  # the folder is being removed


class KernelProcess(OwnedProcess):
    """One run of a kernel: a process in a session and process group of its own, with nothing on stdin.

    ``argv`` is complete and ``env`` is all of the environment: whether ``JPY_PARENT_PID`` is in it (a kernel on this
    server ends with the server) or not (a kernel on a VM outlives everything) is the owner's choice. ``log`` is a path
    in a private folder for what the process prints, or None to let it print where the owner prints.
    ``die_with_parent`` (Linux): killed with the thread that starts it, for an owner without whom nobody could reach it.
    ``pass_fds``: descriptors that it inherits besides its output, under their numbers.
    Raises ``OSError`` if it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Optional[str],
        log: Optional[str],
        die_with_parent: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:
        super().__init__(log)
        output: Union[int, Any, None] = None
        if log is not None:
            write_private(log, b"")
            # Append: after the log has been cut, writing goes on at its new end and leaves no hole.
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                list(argv),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent() if die_with_parent else None,
                pass_fds=pass_fds,
            )
        finally:
            if output is not None:
                os.close(output)
        self.pid = self._process.pid

    def _look(self) -> Optional[int]:
        # Looked at without reaping: as long as the leader is a zombie, its number cannot become another group's.
        if not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return None
        self.signal(signal.SIGKILL)
        return self._process.poll()

    def signal(self, signum: int) -> None:
        if self.returncode is None:
            signal_group(self.pid, signum)


def signal_group(pid: int, signum: int) -> None:
    """Nothing happens where it has ended and nobody of the group is left; macOS says EPERM for a group of zombies."""
    try:
        os.killpg(pid, signum)
    except (ProcessLookupError, PermissionError):
        pass


def start_time(pid: int) -> int:
    """When the process started, in the machine's clock ticks; 0 where there is none, or only what is left of it to reap.

    Tells it from another one with the same number. From ``/proc/<pid>/stat``, fields 3 and 22 of ``proc(5)``.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def resident(pid: int) -> int:
    """Bytes of memory that a process has, shared ones included; 0 where it is no more."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _die_with_parent() -> Optional[Callable[[], None]]:
    """What the child does before exec, prepared here: after a fork nothing should be imported. Only for one-threaded owners."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None  # not Linux
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) and None


def _tail(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(0, size - limit))
            return f.read(limit)
    except OSError:
        return b""


def signal_name(code: int) -> str:
    """How a process ended, in words: for ``EXITED`` and for messages."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
