"""A notebook's folder to the machine: 1,000 files, 100 MB that nothing makes smaller; then a second sync with nothing changed.

Beside ``rsync -a`` over OpenSSH, which signs in for each run, and naive SFTP (paramiko, one file after the other). Ours goes over
the connection that a notebook's kernel has opened; what it takes with a connection of its own is a row of its own. The source is
in the page cache for everybody. SFTP is measured on a tenth of the files at 40 ms, which is said and not scaled.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_dsvm.sync.local import LocalFolder
from jupyter_dsvm.sync.plan import Direction
from jupyter_dsvm.sync.remote import RemoteFolder
from jupyter_dsvm.sync.workspace import Workspace

from .bench import Bench
from .contenders import OURS
from .machines import Way
from .rows import Row, at_most, times

if TYPE_CHECKING:
    from jupyter_dsvm.ssh.connection import SSHConnection

RSYNC, SFTP = "rsync -a", "SFTP, file by file"
COLUMNS = (RSYNC, SFTP, OURS)

ROWS = (
    Row("push", "first push of 1,000 files, 100 MB", "s", times(RSYNC, 1.3, text="≤ 1.3 × rsync"), columns=COLUMNS),
    Row("push-far", "the same at 40 ms", "s", times(RSYNC, 1.3, text="≤ 1.3 × rsync"), columns=COLUMNS),
    Row("push-own", "the same, connecting for it", "s", columns=COLUMNS),
    Row("push-own-far", "the same at 40 ms, connecting for it", "s", columns=COLUMNS),
    Row("idle", "a second sync, nothing changed", "s", at_most(0.2, "≤ 200 ms"), columns=COLUMNS),
    Row("idle-far", "the same at 40 ms", "s", at_most(0.32, "≤ 3 round trips + 200 ms"), columns=COLUMNS),
    Row("idle-trips", "times that a second sync waits for the machine", "", at_most(3, "≤ 3"), 0, columns=COLUMNS),
)

SIZE = 100_000
NEVER = threading.Event()


def measure(bench: Bench) -> None:
    source = _folder(bench)
    for way, far in ((bench.near, ""), (bench.far, "-far")):
        contenders = (_Rsync(bench, source, way), _SFTP(bench, source, way, bool(far)), _Ours(bench, source, way))
        turns: dict[str, Callable[[], None]] = {}
        for contender in contenders:
            turns[contender.name] = partial(_turn, bench, contender, far)
        keys = {c.name: [(f"push{far}", c.name), (f"idle{far}", c.name)] for c in contenders}
        bench.rounds(turns, keys)


def _folder(bench: Bench) -> Path:
    source = bench.folder / "source"
    random_bytes = random.Random(1).randbytes
    for number in range(bench.size(1000, 20)):
        file = source / f"folder {number % 20}" / f"file {number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random_bytes(SIZE))
        os.utime(file, (1_700_000_000, 1_700_000_000))
    return source


class _Contender:
    name = ""

    def __init__(self, bench: Bench, source: Path, way: Way) -> None:
        self.bench = bench
        self.source = source
        self.way = way
        self.count = 0

    def fresh(self) -> None:
        """Another place on the machine, so that the next push is a first one."""
        self.count += 1

    @property
    def place(self) -> str:
        return f"{self.way.name}-{self.name.split(',')[0].split()[0]}-{self.count}"

    def sync(self) -> None:
        raise NotImplementedError

    def target(self) -> Path:
        return self.bench.vm.home / self.place

    def check(self) -> None:
        """Whoever is measured has done it."""
        for file in self.source.rglob("*.bin"):
            there = self.target() / file.relative_to(self.source)
            if there.stat().st_size != SIZE:
                raise RuntimeError(f"{there} is not whole")

    def end(self) -> None:
        pass


def _turn(bench: Bench, contender: _Contender, far: str) -> None:
    contender.fresh()
    try:
        begun = time.monotonic()
        contender.sync()
        pushed = time.monotonic() - begun
        contender.check()
        time.sleep(0.2)
        begun = time.monotonic()
        contender.sync()
        idle = time.monotonic() - begun
        if isinstance(contender, _SFTP) and contender.part:
            note = f"{len(contender.files())} of the files took {pushed:.1f} s, and to look at them again {idle:.1f} s"
            for row in ("push", "idle"):
                bench.results.fail(f"{row}{far}", contender.name, "measured on a tenth of the files")
                bench.results.note(f"{row}{far}", contender.name, note)
            return
        bench.results.add(f"push{far}", contender.name, pushed)
        bench.results.add(f"idle{far}", contender.name, idle)
        if isinstance(contender, _Ours):
            contender.more(far)
    finally:
        contender.end()
        shutil.rmtree(contender.target(), ignore_errors=True)


class _Rsync(_Contender):
    name = RSYNC

    def sync(self) -> None:
        vm = self.bench.vm
        if shutil.which("rsync") is None:
            raise FileNotFoundError("rsync is not installed")
        ssh = (
            f"ssh -p {self.way.port} -i {vm.key_file} -o BatchMode=yes -o StrictHostKeyChecking=no"
            " -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        )
        target = f"{vm.user}@{self.way.host}:{self.target()}/"
        subprocess.run(["rsync", "-a", "-e", ssh, f"{self.source}/", target], check=True)


class _SFTP(_Contender):
    name = SFTP

    def __init__(self, bench: Bench, source: Path, way: Way, part: bool) -> None:
        super().__init__(bench, source, way)
        self.part = part

    def files(self) -> list[Path]:
        files = sorted(self.source.rglob("*.bin"))
        return files[: len(files) // 10] if self.part else files

    def check(self) -> None:
        if not self.part:
            super().check()

    def sync(self) -> None:
        import paramiko

        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # its own machine, on loopback
        vm = self.bench.vm
        client.connect(self.way.host, self.way.port, vm.user, key_filename=str(vm.key_file), look_for_keys=False)
        try:
            sftp = client.open_sftp()
            made: set[Path] = set()
            for file in self.files():
                there = self.target() / file.relative_to(self.source)
                for folder in (self.target(), there.parent):
                    if folder not in made:
                        made.add(folder)
                        try:
                            sftp.mkdir(str(folder))
                        except OSError:
                            pass  # it is there
                here = file.stat()
                try:
                    found = sftp.stat(str(there))
                    if found.st_size == here.st_size and found.st_mtime == int(here.st_mtime):
                        continue
                except FileNotFoundError:
                    pass
                sftp.put(str(file), str(there), confirm=False)
                sftp.utime(str(there), (here.st_atime, here.st_mtime))
        finally:
            client.close()


class _Ours(_Contender):
    name = OURS

    def __init__(self, bench: Bench, source: Path, way: Way) -> None:
        super().__init__(bench, source, way)
        self._connection: SSHConnection | None = None
        self._workspace: Workspace | None = None
        self._remote: RemoteFolder | None = None

    def target(self) -> Path:
        return self.bench.vm.home / "notebooks" / self.place

    def connect(self) -> SSHConnection:
        from jupyter_dsvm.ssh.connection import SSHConnection
        from jupyter_dsvm.ssh.hostkeys import HostKeys

        if self._connection is None:
            vm = self.bench.vm
            keys = HostKeys(self.bench.folder / "pins", [])
            target = vm.target(host=self.way.host, port=self.way.port, python=sys.executable)
            keys.pin(target.pinned_key_id or "", vm.host_key_line)
            self._connection = SSHConnection.open(target, keys)
        return self._connection

    def fresh(self) -> None:
        super().fresh()
        self.connect()
        self._remote = RemoteFolder(self.connect, self.place, "vm")
        self._workspace = Workspace(LocalFolder(self.source), self._remote, self.bench.folder / f"{self.place}.json")

    def sync(self) -> None:
        assert self._workspace is not None
        done = self._workspace.sync(Direction.PUSH, lambda progress: None, NEVER)
        if done.problems or done.halt or done.needs_yes:
            raise RuntimeError(f"{done.problems[:1]} {done.halt}")

    def more(self, far: str) -> None:
        """What has rows of its own."""
        assert self._remote is not None
        before = self._remote.round_trips
        self.sync()
        if far:
            self.bench.results.add("idle-trips", OURS, self._remote.round_trips - before)
        self.end()
        self.count += 1
        begun = time.monotonic()
        self.fresh()
        self.sync()
        self.bench.results.add(f"push-own{far}", OURS, time.monotonic() - begun)

    def end(self) -> None:
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        deadline = time.monotonic() + 5
        for folder in (self.bench.vm.home / "notebooks").glob("*"):
            while (folder / ".dsvm-sync").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            if stat.S_ISDIR(folder.lstat().st_mode):
                shutil.rmtree(folder, ignore_errors=True)
