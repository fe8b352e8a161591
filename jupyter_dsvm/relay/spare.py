"""Spares: one parked Python per machine and kind of kernel, imports done, that becomes a relay's kernel in a tenth of a second.

A *kind* is all that a Python reads at its start and while it imports, and that cannot be changed afterwards: interpreter,
arguments, environment, limits. Two kernels share a spare only where all of it agrees (``kind_of``). What is a kernel's own
(``OWN``, connection file, working folder, output, umask) is set when the spare is handed out; of these only the length counts.
The user's configuration and startup files are read by ipykernel after that, as in any start.

``SpareKeeper`` is a relay's end: it keeps a connection to the holder of the spare while it has a kernel of that kind, has one
made where there is none, and asks for it when the kernel is to start. The relay's loop calls it, and it waits for nothing.
Whatever goes wrong, the answer is an ordinary start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pkgutil
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .folders import fits, kernels_folder, private_folder, write_private
from .holder import RECORD, SCRIPT, SOCKET, lock
from .kernel import is_ipykernel
from .lines import Lines
from .listening import connect
from .process import OwnedProcess, resident, signal_group, start_time
from .spec import SOCKET_VARIABLE, KernelSpec

log = logging.getLogger("relay")

OWN = (SOCKET_VARIABLE, "JPY_SESSION_NAME", "SSH_CLIENT", "SSH_CONNECTION", "SSH_AUTH_SOCK", "XDG_SESSION_ID")
"""Variables that differ from one kernel or SSH connection to the next, and that nothing looks at before the kernel runs."""

ACCEPT_LIMIT = 2.0
"""Seconds in which a spare that was asked for must have become the kernel."""

SETTLE = 2.0
"""Seconds that a kernel runs before a spare is made: its first cells come first."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks for a spare that somebody else may have made, or that is just being made."""

MAKING_LIMIT = 10.0
"""Seconds until a holder listens."""

LONGEST_PAUSE = 600.0
"""Seconds between attempts where spares fail again and again."""

KEPT = 10.0
"""Seconds after a kernel's unexpected end in which a restart is likely."""

SPARE_MEMORY = 512 * 1024 * 1024
"""Bytes that must be available on the machine before a spare is made."""

LINK = "spare"
"""The file in a kernel's folder that says where the spare of its kind is parked."""


@dataclass(frozen=True)
class Kind:
    """What a spare must be for a kernel to be made of it. ``digest`` says it all; the rest is how to park one."""

    digest: str
    folder: str
    argv: Sequence[str] = field(repr=False)
    env: Mapping[str, str] = field(repr=False)


def kind_of(
    spec: KernelSpec, connection_file: str, starter: str, call_socket: str, own: Mapping[str, str]
) -> Optional[Kind]:
    """The kind of spare that this kernel could be made of; None where it must be started in the ordinary way.

    ``own`` is the relay's environment; the paths are those of an ordinary start.
    """
    command = spec.command(connection_file, starter)
    env = spec.environment(own, call_socket)
    if not (spec.spare and os.path.isdir("/proc/self") and may_be_parked(spec.argv, env)):
        return None
    if command.count(starter) != 1:
        return None
    # Of the same length as the real ones: Python has its arguments where the system put them.
    session, nowhere = "." * len(spec.session), "(spare)".ljust(len(connection_file), ".")[: len(connection_file)]
    blank = replace(spec, session=session)
    same = {name: value for name, value in env.items() if name not in OWN}
    all_of_it = [
        [pkgutil.get_data(__package__ or "relay", name) for name in ("park.py", "holder.py", "hold.py")],
        blank.command(nowhere, "." * len(starter)),
        len(call_socket),
        sorted(same.items()),
        _circumstances(),
    ]
    digest = hashlib.sha256(repr(all_of_it).encode("utf-8", "surrogateescape")).hexdigest()
    folder = os.path.join(spares_folder(), digest[:12])
    padding = len(os.fsencode(starter)) - len(os.fsencode(os.path.join(folder, SCRIPT)))
    if padding < 0 or not fits(folder):
        return None
    parked = folder + "/" * padding + "/" + SCRIPT
    env[SOCKET_VARIABLE] = "(spare)".ljust(len(call_socket), ".")[: len(call_socket)]
    return Kind(digest, folder, blank.command(nowhere, parked), env)


def may_be_parked(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether this is a Python that runs ipykernel, with nothing between it and us, and whatever its working folder is."""
    if not is_ipykernel(argv) or not os.path.isabs(argv[0]):
        return False
    if not re.fullmatch(r"python[0-9.]*", os.path.basename(argv[0])):
        return False
    if not all(arg.startswith("-") for arg in argv[1 : list(argv).index("-m")]):
        return False
    paths = env.get("PYTHONPATH", "").split(os.pathsep)
    return paths == [""] or all(os.path.isabs(path) for path in paths)


def _circumstances() -> List[Any]:
    """What else a process has from who starts it, and keeps."""
    limits = [(name, resource.getrlimit(getattr(resource, name))) for name in dir(resource) if name[:7] == "RLIMIT_"]
    spaces = []
    for name in ("mnt", "net", "pid", "user", "uts", "ipc"):
        try:
            spaces.append(os.readlink(f"/proc/self/ns/{name}"))
        except OSError:
            spaces.append("")
    return [limits, os.getgroups(), os.getgid(), os.nice(0), sorted(os.sched_getaffinity(0)), spaces]


def spares_folder() -> str:
    """Where spares are parked: beside the kernels' folders, and with a path that is no longer."""
    kernels = kernels_folder()
    if os.path.basename(kernels) == "kernels":
        return os.path.join(os.path.dirname(kernels), "spares")
    return kernels + "-s"


def spare_of(kernel_folder: str) -> Optional[Dict[str, int]]:
    """The spare that a kernel on this machine has in waiting: ``{"pid", "rss"}``, bytes with its holder's; None without one."""
    try:
        with open(os.path.join(kernel_folder, LINK), encoding="utf-8") as f:
            folder = f.read()
        with open(os.path.join(folder, RECORD), "rb") as record:
            value = json.loads(record.read(4096))
        pid, holder = int(value["pid"]), int(value["holder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    rss = resident(pid)
    return {"pid": pid, "rss": rss + resident(holder)} if rss else None


class SpareProcess(OwnedProcess):
    """A kernel that was a spare. Its parent is the holder, so what there is to know of it comes over a connection.

    ``refused`` says why it is none after all; then it has done nothing, and the owner closes it and starts another process.
    """

    def __init__(self, lines: Lines, log_path: str) -> None:
        super().__init__(log_path)
        self.refused = ""
        self._lines = lines
        self._start_time = 0
        self._unwanted: Optional[int] = None

    def look_for_refusal(self) -> str:
        """Why it did not become the kernel; empty as long as it may, and once it has."""
        self._hear()
        if not self.pid and not self.refused and time.monotonic() > self.started + ACCEPT_LIMIT:
            self._refuse("it did not answer in time")
        return self.refused

    def _look(self) -> Optional[int]:
        self._hear()
        if self.returncode is not None:
            return self.returncode
        if not self.pid:
            if self._unwanted is not None:
                self.close()  # and the holder ends it
            return self._unwanted
        if self._lines.open:
            return None
        # The holder was killed, and the kernel with it.
        if start_time(self.pid) == self._start_time:
            signal_group(self.pid, signal.SIGKILL)
            return None
        return -signal.SIGKILL

    def signal(self, signum: int) -> None:
        if not self.pid:
            if signum in (signal.SIGTERM, signal.SIGKILL):
                self._unwanted = -signum
        elif self.returncode is None and start_time(self.pid) == self._start_time:
            signal_group(self.pid, signum)

    def close(self) -> None:
        """The connection: if the process has not ended, the holder ends it."""
        self._lines.close()

    def _hear(self) -> None:
        if self.refused or self.returncode is not None or self._lines.connection.fileno() < 0:
            return
        for value in self._lines.read():
            taken, code = value.get("taken"), value.get("exited")
            if isinstance(taken, dict) and isinstance(taken.get("pid"), int) and taken["pid"] > 1:
                self.pid, self._start_time = taken["pid"], int(taken.get("start_time") or 0)
            elif isinstance(code, int):
                self.returncode = code
            elif "refused" in value:
                self._refuse(str(value["refused"]))
        if not self._lines.open and not self.pid:
            self._refuse("its holder has ended")

    def _refuse(self, why: str) -> None:
        self.refused = self.refused or why
        self.close()


class SpareKeeper:
    """A relay's interest in the spare of its kernel's kind."""

    def __init__(self) -> None:
        self.kind: Optional[Kind] = None
        """Of the kernel that this relay has; None where no spare can be of use."""
        self._lines: Optional[Lines] = None
        self._heard = False  # that it is parked
        self._failures = 0
        self._look_at = 0.0
        self._making_until = 0.0
        self._maker: Optional[subprocess.Popen[bytes]] = None

    def use(self, kind: Optional[Kind], kernel_folder: str) -> None:
        """The kind of the kernel that this relay has, from now on. Nothing happens yet."""
        self.close()
        if kind is None:
            return
        try:
            write_private(os.path.join(kernel_folder, LINK), kind.folder.encode())
        except OSError as e:
            log.warning("no spare is used: %s", e)
            return
        self.kind = kind
        _sweep(spares_folder())

    def take(self, kernel: Mapping[str, Any], log_path: str) -> Optional[SpareProcess]:
        """Ask the spare to be this kernel (``park`` says what is in that); None where there is none."""
        if self.kind is None:
            return None
        self._hear()
        if self._lines is None:
            self._connect()
        elif not self._heard:
            return None  # it is not ready yet
        lines, self._lines = self._lines, None
        self._pause()
        if lines is None:
            return None
        if not lines.say(take={"kind": self.kind.digest, "kernel": dict(kernel)}):
            lines.close()
            return None
        return SpareProcess(lines, log_path)

    def step(self, make: bool, keep: bool) -> None:
        """Called every now and then. ``make``: there should be a spare. ``keep``: if there is one, it is wanted."""
        if self._maker is not None and self._maker.poll() is not None:
            self._maker = None
        if self.kind is None:
            return
        self._hear()
        if self._lines is not None:
            if not keep:
                self._leave()
        elif make and time.monotonic() >= self._look_at:
            self._connect()
            if self._lines is None:
                self._make()

    @property
    def interested(self) -> bool:
        return self._lines is not None

    def close(self) -> None:
        """The relay ends, or has no such kernel any more. A spare that nobody else wants ends as well."""
        self._leave()
        if self.kind is not None:
            _remove_dead(self.kind.folder)
        self.kind = None

    def _hear(self) -> None:
        if self._lines is None:
            return
        if any("parked" in value for value in self._lines.read()):
            self._heard = True
            self._failures = 0
        if not self._lines.open:
            self._failures += 0 if self._heard else 1
            self._leave()
            self._pause()

    def _leave(self) -> None:
        if self._lines is not None:
            self._lines.close()
        self._lines = None
        self._heard = False

    def _pause(self) -> None:
        seconds = min(LONGEST_PAUSE, SETTLE * 2.0**self._failures)
        # Not all relays at once: one spare is enough.
        self._look_at = time.monotonic() + seconds * random.uniform(1.0, 1.5)  # noqa: S311

    def _connect(self) -> None:
        assert self.kind is not None
        try:
            connection = connect(os.path.join(self.kind.folder, SOCKET), timeout=0)
        except OSError as e:
            log.info("the spare cannot be reached: %s", e)
            return
        if connection is not None:
            self._lines = Lines(connection)
            self._making_until = 0.0

    def _make(self) -> None:
        assert self.kind is not None
        now = time.monotonic()
        self._look_at = now + LOOK_INTERVAL
        if now < self._making_until:
            return
        if self._making_until:
            self._making_until = 0.0
            self._failures += 1
            self._pause()
            return
        if _available() < SPARE_MEMORY:
            self._look_at = now + 60.0
            return
        self._making_until = now + MAKING_LIMIT
        try:
            self._maker = _start_holder(self.kind)
        except OSError as e:
            log.warning("no spare can be made: %s", e)


def _start_holder(kind: Kind) -> subprocess.Popen[bytes]:
    """Not as an argument, and in no variable: what a kernel's environment has in it is its own."""
    package = __package__ or "relay"
    root = os.path.abspath(__file__)
    for _ in range(package.count(".") + 2):
        root = os.path.dirname(root)
    order = {
        "kind": kind.digest,
        "folder": kind.folder,
        "argv": list(kind.argv),
        "env": dict(kind.env),
        "script": (pkgutil.get_data(package, "park.py") or b"").decode(),
    }
    code = f"import sys; sys.path.insert(0, {root!r}); from {package}.holder import main; main()"
    with tempfile.TemporaryFile(dir=private_folder(spares_folder())) as file:
        file.write(json.dumps(order).encode())
        file.seek(0)
        # Without site-packages: it needs none of them, and is to stay small.
        return subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdin=file, start_new_session=True)


def _available() -> float:
    """Bytes of memory that the machine has left; unknown is enough."""
    try:
        with open("/proc/meminfo", "rb") as f:
            found = re.search(rb"^MemAvailable:\s+(\d+) kB", f.read(), re.MULTILINE)
    except OSError:
        found = None
    return int(found.group(1)) * 1024 if found else float("inf")


def _sweep(folder: str) -> None:
    """Remove what spares left behind that were killed together with everybody who knew of them."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        _remove_dead(os.path.join(folder, name))


def _remove_dead(folder: str) -> None:
    if not os.path.isdir(folder):
        return
    try:
        held = lock(folder, seconds=0)
    except OSError:
        return
    if held is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)
