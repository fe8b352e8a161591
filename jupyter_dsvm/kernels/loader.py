"""What the VM's Python runs first. ``kernels.bootstrap`` sends this file's text over stdin; nothing here imports the package.

It finds or takes over the relay's zip and then becomes the attach pipe, or another of its modules. Stdin, read without
buffering so that no frame is swallowed: a line ``SHA-256 size ahead module``; if we said ``need``, so many bytes of frames that
were sent ahead, which are thrown away, and the zip; then frames, which begin with those that were sent ahead. Stdout: ``MAGIC``,
``have`` or ``need``, a u32 length and JSON about this Python; then frames. It runs on Python 3.8 with the standard library.
"""

import errno
import hashlib
import importlib
import importlib.util
import io
import json
import marshal
import os
import stat
import struct
import sys
import time
import traceback

MAGIC = b"\x00\xd5\x56jupyter-dsvm-relay/1\x00"
"""No login shell prints a NUL. The number is that of this exchange; frames have their own version."""

HAVE, NEED = b"have", b"need"

NO_PYTHON = 90
TOO_OLD = 91
NO_PYZMQ = 92
FAILED = 93
NO_FOLDER = 94
DAMAGED = 95
"""Exit statuses. 91 and 92 make the shell try the next Python, as 1, 2, 126 and 127 do: those are never used here."""


FULL = (errno.ENOSPC, errno.EDQUOT)

UNUSED = 30 * 86400
"""Seconds after which a zip of another version goes. Whoever runs from one renews its time (``relay.archive``)."""


class LoaderError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte or len(line) > 1000:
            raise LoaderError(DAMAGED, "the connection ended before the relay's hash had come")
        line += byte
    return line


def read_exactly(size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = os.read(0, min(size - len(data), 1 << 18))
        if not piece:
            raise LoaderError(DAMAGED, f"the connection ended after {len(data)} of {size} bytes of the relay")
        data += piece
    return bytes(data)


def write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def relay_folder() -> str:
    data = os.environ.get("XDG_DATA_HOME") or ""
    if not os.path.isabs(data):
        data = os.path.join(os.path.expanduser("~"), ".local", "share")
    folder = os.path.join(data, "jupyter-dsvm", "relay")
    for path in (os.path.dirname(folder), folder):
        os.makedirs(path, mode=0o700, exist_ok=True)
        # What lies here is run: nobody else may have put it there.
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise LoaderError(NO_FOLDER, f"{path} is not a folder that only this account can write to; move it away")
    return folder


def stored(path: str, digest: str) -> bool:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == digest
    except OSError:
        return False


def reserve(path: str, size: int) -> int:
    """A file for the zip with room for it: whether the disk is full is to be known before the other side is told to go on."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as e:
        if e.errno in FULL:  # others mean that this kind of disk cannot say so beforehand
            os.close(fd)
            os.unlink(path)
            raise
    return fd


def store(fd: int, temporary: str, path: str, digest: str, size: int, ahead: int) -> None:
    try:
        with os.fdopen(fd, "wb") as file:
            data = read_exactly(ahead + size)[ahead:]
            if hashlib.sha256(data).hexdigest() != digest:
                raise LoaderError(DAMAGED, "the relay arrived damaged")
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def compiled(path: str) -> str:
    """The same zip with bytecode in it, made once per Python: compiling it all takes 0.2 s, at every connect (measured).

    Its name has its own SHA-256 at the end, so that a damaged one is found out, too.
    """
    folder, name = os.path.split(path)
    start = f"{name[:-4]}.{sys.implementation.cache_tag}."
    try:
        for found in os.listdir(folder):
            if found.startswith(start) and found.endswith(".zip"):
                made = os.path.join(folder, found)
                if stored(made, found[len(start) : -4]):
                    return made
                os.unlink(made)
        data = with_bytecode(path)
        made = os.path.join(folder, f"{start}{hashlib.sha256(data).hexdigest()}.zip")
        temporary = f"{made}.{os.getpid()}"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(data)
            os.replace(temporary, made)
        except BaseException:
            os.unlink(temporary)
            raise
        return made
    except Exception:  # no more than a matter of speed
        return path


def with_bytecode(path: str) -> bytes:
    import zipfile  # takes a while itself

    made = io.BytesIO()
    with zipfile.ZipFile(path) as sources, zipfile.ZipFile(made, "w") as target:
        for name in sources.namelist():
            source = sources.read(name)
            target.writestr(zipfile.ZipInfo(name), source)
            code = marshal.dumps(compile(source, f"{path}/{name}", "exec", dont_inherit=True))
            # PEP 552: by the source's hash, which nobody is to check.
            head = importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + importlib.util.source_hash(source)
            target.writestr(zipfile.ZipInfo(name + "c"), head + code)
    return made.getvalue()


def tidy(path: str) -> None:
    """This one is in use; others that nobody has used for long are removed, with what a broken connection left."""
    try:
        os.utime(path)
        for entry in os.scandir(os.path.dirname(path)):
            own = entry.path.startswith(path[:-4])
            if not own and entry.stat(follow_symlinks=False).st_mtime < time.time() - UNUSED:
                os.unlink(entry.path)
    except OSError:
        pass  # costs some space, and no more than that


def load() -> "tuple[str, str]":
    """The path of the zip, once it is there, and which of its modules is to run."""
    digest, size, ahead, module = read_line().decode("ascii").split()
    path = os.path.join(relay_folder(), f"{digest}.zip")
    temporary = f"{path}.{os.getpid()}"
    have = stored(path, digest)
    fd = -1 if have else reserve(temporary, int(size))
    about = json.dumps({"python": sys.executable, "version": sys.version.split()[0]}).encode()
    write_all(MAGIC + (HAVE if have else NEED) + struct.pack("!I", len(about)) + about)
    if not have:
        store(fd, temporary, path, digest, int(size), int(ahead))
    tidy(path)
    return path, module


def main() -> int:
    try:
        path, module = load()
        sys.path.insert(0, compiled(path))
        importlib.import_module(f"relay.{module}").main()
    except SystemExit as e:
        return FAILED if e.code else 0
    except LoaderError as e:
        print(e, file=sys.stderr)  # noqa: T201  # becomes part of the error that the user reads
        return e.status
    except OSError as e:
        if e.filename or e.errno in FULL:
            print(e, file=sys.stderr)  # noqa: T201  # says all: what is wrong with which folder
            return NO_FOLDER
        traceback.print_exc()
        return FAILED
    except BaseException:
        traceback.print_exc()
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
