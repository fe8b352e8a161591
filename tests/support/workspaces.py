"""A workspace on a real SSH server, and a plain folder here, for tests of what goes between them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import sys
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from jupyter_dsvm.errors import ChangedMeanwhile
from jupyter_dsvm.kernels import bootstrap
from jupyter_dsvm.ssh.connection import SSHConnection
from jupyter_dsvm.ssh.hostkeys import HostKeys
from jupyter_dsvm.sync.entries import Entry, Kind, Side
from jupyter_dsvm.sync.plan import Action, Do, Outcome, Why
from jupyter_dsvm.sync.remote import RemoteFolder

from .sshd import SSHServer

NEVER = threading.Event()


class Way:
    """The VM's SSH connection, opened again where it was lost, as a pipe does it."""

    def __init__(self, server: SSHServer, port: int | None = None) -> None:
        self.server = server
        self.opened = 0
        self._keys = HostKeys(server.folder / "pins", [])
        self._keys.pin(server.target().pinned_key_id or "", server.host_key_line)
        self._target = server.target(python=sys.executable, port=port or server.port)
        self._connection: SSHConnection | None = None

    def __call__(self) -> SSHConnection:
        if self._connection is None or not self._connection.alive:
            self.close()
            self._connection = SSHConnection.open(self._target, self._keys)
            self.opened += 1
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def remote(server: SSHServer, root: str = "w", port: int | None = None) -> Iterator[RemoteFolder]:
    way = Way(server, port)
    folder = RemoteFolder(way, root, "vm")
    try:
        yield folder
    finally:
        folder.close()
        way.close()


class Reading:
    def __init__(self, path: Path, entry: Entry) -> None:
        self._file = path.open("rb")
        self._before = os.fstat(self._file.fileno())
        self._digest = hashlib.sha256()
        self._entry = entry

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def chunks(self, size: int = 256 * 1024, offset: int = 0) -> Iterator[bytes]:
        while data := self._file.read(min(size, self.now.size - self._file.tell())):
            self._digest.update(data)
            if self._file.tell() > offset:
                yield data[max(0, offset - self._file.tell() + len(data)) :]
        after = os.fstat(self._file.fileno())
        if (after.st_size, after.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns):
            raise ChangedMeanwhile(f"{self._entry.path} changed while it was read.")

    @property
    def now(self) -> Entry:
        return entry_of(self._entry.path, self._before)

    @property
    def entry(self) -> Entry:
        return entry_of(self._entry.path, self._before, self._digest.hexdigest())


class Staged:
    def __init__(self, root: Path, entry: Entry) -> None:
        self._root = root
        self._entry = entry
        self._path = root / (".part-" + hashlib.sha256(repr(entry).encode()).hexdigest()[:16])
        self.offset = self._path.stat().st_size if self._path.exists() else 0
        self._file = self._path.open("ab")
        self._keep = False

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._keep:
            self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def keep(self) -> None:
        self._keep = True

    def place(self, action: Action) -> Entry:
        self._file.close()
        target = self._root / action.path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(target)
        return entry_of(action.path, target.stat(), hashlib.sha256(target.read_bytes()).hexdigest())


class Plain:
    """What ``LocalFolder`` is to transfers, without any of its care."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def open(self, entry: Entry) -> Reading:
        return Reading(self.root / entry.path, entry)

    def stage(self, entry: Entry) -> Staged:
        return Staged(self.root, entry)

    def link(self, action: Action) -> Entry:
        assert action.entry is not None
        os.symlink(action.entry.digest, self.root / action.path)
        return action.entry

    def write(self, path: str, data: bytes, mtime: float = 1_700_000_000.0) -> Entry:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        os.utime(file, (mtime, mtime))
        return entry_of(path, file.stat())


def entry_of(path: str, found: os.stat_result, digest: str = "") -> Entry:
    return Entry(path, Kind.FILE, found.st_size, found.st_mtime_ns, digest, bool(found.st_mode & 0o100))


def push(entry: Entry, **how: object) -> Action:
    return Action(Do.COPY, Side.THERE, entry.path, Why.NEW, entry, **how)  # type: ignore[arg-type]


def pull(entry: Entry) -> Action:
    return Action(Do.COPY, Side.HERE, entry.path, Why.NEW, entry)


def change(folder: RemoteFolder, here: Plain, actions: Sequence[Action]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    folder.change(actions, here, outcomes.append, lambda count: None, NEVER)  # type: ignore[arg-type]
    assert len(outcomes) == len(actions)
    return sorted(outcomes, key=lambda outcome: actions.index(outcome.action))


def fetch(folder: RemoteFolder, here: Plain, actions: Sequence[Action]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    folder.fetch(actions, here, outcomes.append, lambda count: None, NEVER)  # type: ignore[arg-type]
    return outcomes


PRELUDE = """
import json, os, struct, sys, time

def frame(kind, seq, body=b""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return struct.pack("!IB16sQ", 25 + len(body), kind, bytes(16), seq) + body

def write(data):
    while data:
        data = data[os.write(1, data):]

class Requests:
    def __init__(self):
        self.data = b""
    def next(self):
        while len(self.data) < 29 or len(self.data) < 4 + struct.unpack("!I", self.data[:4])[0]:
            more = os.read(0, 65536)
            if not more:
                sys.exit()
            self.data += more
        length, kind, _, seq = struct.unpack("!IB16sQ", self.data[:29])
        body, self.data = self.data[29:4 + length], self.data[4 + length:]
        return kind, seq, body

OPEN, SCAN, DIGEST, FETCH, PART, STORE, END = range(64, 71)
ROWS, BYTES, DONE, FAILED = 80, 82, 83, 84
GOOD = {"exists": True, "fresh": False, "free": 10**12, "total": 10**12, "folds_case": False, "parts": 0, "version": 1}
DIGITS = "0123456789abcdef" * 4

def rows(seq, *rows, unknown=(), unnamed=()):
    return frame(ROWS, seq, {"rows": rows, "unknown": unknown, "unnamed": unnamed})
"""


def lie(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """The VM runs ``script`` in place of ``relay.files``: a function ``answer(kind, seq, body)`` called for every frame."""
    main = "\ndef main():\n    requests = Requests()\n    while True:\n        answer(*requests.next())\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("relay/__init__.py", "")
        archive.writestr("relay/files.py", PRELUDE + script + main)
    data = buffer.getvalue()
    monkeypatch.setattr(bootstrap, "relay_zip", lambda: (data, hashlib.sha256(data).hexdigest()))


assert struct.calcsize("!IB16sQ") == 29
