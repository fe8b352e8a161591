"""From an SSH connection to an attach pipe: one exec, one wait.

In order:

1. The command is one line of portable ``sh``. It has no single quote, backslash, exclamation mark or newline in it, so
   that ``exec sh -c '…'`` means the same to bash, dash, zsh, csh and fish.
2. All else goes to its stdin at once, nothing into arguments or the environment: the Python remembered for this VM, the
   one that the user has set, the loader's text (``kernels.loader``), the SHA-256 of the relay, and the first frames. Nor is
   sshd's answer to the exec waited for. Each wait would be a round trip.
3. The shell reads the first two lines (byte by byte, as POSIX asks of ``read`` on a pipe) and tries one Python after
   the other. Each checks itself before it touches stdin, and the shell goes on to the next if it says no.
4. The loader answers with a magic, and ``have`` or ``need``; what login shells printed before it is skipped. Only after
   ``need`` is the relay sent, and the first frames once more. Then the channel carries frames.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import struct
import threading
import time
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BootstrapError, SSHError, Unreachable, printable
from ..ssh.keys import write_private
from . import loader

if TYPE_CHECKING:
    import paramiko

    from ..ssh.connection import SSHConnection

MAX_NOISE = 64 * 1024
"""Bytes that a login shell may print before the magic."""

MAX_ABOUT = 4096

PLACES = (
    "/anaconda/envs/*/bin/python /anaconda/bin/python /opt/conda/bin/python /opt/conda/envs/*/bin/python"
    " ~/.conda/envs/*/bin/python ~/miniconda3/bin/python ~/anaconda3/bin/python ~/miniforge3/bin/python"
    " ~/mambaforge/bin/python ~/.venv/bin/python python3 /usr/local/bin/python3 /usr/bin/python3 python"
)
"""Where images and installers put Python; the first four are those of DSVM images."""

# Status 91 and 92 are those of kernels.loader. An empty string in sys.path is the working directory, whose files must not
# take the place of modules. A Python that has served before is not asked to import pyzmq (30 ms), only to have it.
_CHECK = (
    "import sys,os;sys.path[:]=[p for p in sys.path if p];sys.version_info<(3,8) and sys.exit(91);"
    "from importlib.util import find_spec;find_spec(sys.argv[1]) or sys.exit(92);"
    "sys.argv[3:] or __import__(sys.argv[1]);"
    "exec(bytes().join(os.read(0,1) for _ in range(int(sys.argv[2]))))"
)

_SCRIPT = (
    "read -r known; read -r wished; seen=; "
    'try() { p=$1; case $p in "~/"*) p=$HOME/${p#??};; esac; '
    'case $p in */*) [ -x "$p" ] || return;; *) p=$(command -v "$p") || return;; esac; '
    'case " $seen " in *" $p "*) return;; esac; seen="$seen $p"; '
    '"$p" -c "@CHECK@" zmq @SIZE@ $2; s=$?; case $s in 91) w="is older than Python 3.8";; 92) w="has no pyzmq";; '
    '1|2|126|127) w="does not work (exit status $s)";; *) exit $s;; esac; echo "tried: $p $w" >&2; }; '
    'if [ -n "$known" ]; then try "$known" known; fi; '
    'if [ -n "$wished" ]; then try "$wished"; case $seen in "") echo "tried: $wished is not there" >&2;; esac; fi; '
    "set -f; "
    'for j in $("${SHELL:-sh}" -lc "command -v jupyter; command -v python3; command -v python" </dev/null 2>/dev/null); '
    "do case $j in "
    '/*/jupyter) IFS= read -r i <"$j"; i=${i#??}; i=${i# }; i=${i%% *}; case $i in /*/python*) try "$i";; esac; '
    'try "${j%/*}/python";; '
    '/*/python|/*/python3) try "$j";; esac; done; '
    'set +f; for j in @PLACES@; do try "$j"; done; exit 90'
)


@dataclass(frozen=True)
class Bootstrapped:
    """An attach pipe: frames go in and come out of ``channel``, whose first bytes may be in ``received``."""

    channel: paramiko.Channel
    received: bytes
    python: str
    shipped: bool
    """Whether the relay had to be sent."""


class RememberedPythons:
    """Which Python served on which VM: a 0600 JSON file ``{compute: path}``. Shared; its methods block on the file only."""

    def __init__(self, path: str | Path | None = None) -> None:
        """``path``: by default under Jupyter's data folder."""
        self._path = None if path is None else Path(path)
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        if self._path is None:
            from jupyter_core.paths import jupyter_data_dir

            self._path = Path(jupyter_data_dir()) / "jupyter-dsvm" / "pythons.json"
        return self._path

    def get(self, compute: str) -> str | None:
        with self._lock:
            return self._read().get(compute)

    def set(self, compute: str, python: str) -> None:
        """Remember; a failure to write costs only time at the next connect, so it is not raised."""
        with self._lock:
            pythons = self._read()
            if pythons.get(compute) != python:
                self._write({**pythons, compute: python})

    def forget(self, compute: str) -> None:
        """It may not serve any more: at the next connect it is looked for as at the first."""
        with self._lock:
            pythons = self._read()
            if pythons.pop(compute, None) is not None:
                self._write(pythons)

    def _write(self, pythons: dict[str, str]) -> None:
        try:
            write_private(self.path, json.dumps(pythons, indent=1, sort_keys=True).encode())
        except OSError:
            pass

    def _read(self) -> dict[str, str]:
        try:
            data = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(data, dict):
            return {}
        return {k: v for k, v in data.items() if isinstance(v, str) and _is_path(v)}


@functools.cache
def relay_zip() -> tuple[bytes, str]:
    """The package ``jupyter_dsvm.relay`` as the package ``relay`` in a zip, and the SHA-256 of that. The same each time."""
    buffer = io.BytesIO()
    folder = resources.files("jupyter_dsvm").joinpath("relay")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(folder.iterdir(), key=lambda f: f.name):
            if file.name.endswith(".py"):
                info = zipfile.ZipInfo(f"relay/{file.name}", (1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o600 << 16
                archive.writestr(info, file.read_bytes())
    data = buffer.getvalue()
    return data, hashlib.sha256(data).hexdigest()


@functools.cache
def _loader_source() -> bytes:
    return resources.files(__package__).joinpath("loader.py").read_bytes()


@functools.cache
def command() -> str:
    """The command line for the exec; the same for every VM."""
    script = (
        _SCRIPT.replace("@CHECK@", _CHECK).replace("@SIZE@", str(len(_loader_source()))).replace("@PLACES@", PLACES)
    )
    assert not set(script) & set("'\\!\n")
    return f"exec sh -c '{script}'"


def bootstrap(
    connection: SSHConnection,
    *,
    pythons: RememberedPythons | None = None,
    timeout: float = 30.0,
    ahead: bytes = b"",
    module: str = "pipe",
) -> Bootstrapped:
    """Start the attach pipe. Blocks, at most ``timeout`` seconds; called on the pipe's thread after each connect.

    ``ahead``: frames for the pipe that need not wait until it stands. ``module``: another one of the relay's that is to run in
    its place (``files``).

    Raises ``BootstrapError`` with what the machine printed, or ``Unreachable`` when the connection is lost meanwhile.
    """
    target = connection.target
    deadline = time.monotonic() + timeout
    data, digest = relay_zip()
    remembered = pythons.get(target.compute) if pythons is not None else None
    wished = target.python or ""
    if wished and not _is_path(wished, absolute=False):
        raise BootstrapError(
            f"{wished!r} cannot be the Python of {target.name}.", advice="Set the path of a Python there."
        )
    try:
        channel = connection.exec(command(), timeout, wait=False)
    except Unreachable:
        raise
    except SSHError as e:
        raise BootstrapError(e.message, advice=e.advice, code=e.code) from e
    listener = _Listener(connection, channel, deadline, timeout)
    try:
        pythons_to_try = f"{remembered or ''}\n{wished}\n".encode()
        listener.send(
            pythons_to_try + _loader_source() + f"{digest} {len(data)} {len(ahead)} {module}\n".encode() + ahead
        )
        need, about = listener.answer()
        if need:
            listener.send(data + ahead)
        python = about.get("python", "")
        if pythons is not None and isinstance(python, str) and _is_path(python):
            pythons.set(target.compute, python)
        channel.settimeout(None)
        return Bootstrapped(channel, bytes(listener.received), printable(str(python), 200), need)
    except BaseException:
        channel.close()
        raise


class _Listener:
    """Reads what comes before the first frame."""

    def __init__(self, connection: SSHConnection, channel: paramiko.Channel, deadline: float, timeout: float) -> None:
        self._connection = connection
        self._channel = channel
        self._deadline = deadline
        self._timeout = timeout
        self._noise = b""
        self.received = bytearray()

    def send(self, data: bytes) -> None:
        try:
            self._channel.settimeout(max(0.1, self._deadline - time.monotonic()))
            self._connection.feed(self._channel, data)
        except TimeoutError:
            raise self._failure() from None

    def answer(self) -> tuple[bool, dict[str, object]]:
        """Whether the relay is needed, and what the loader says about its Python."""
        while True:
            before, magic, after = self.received.partition(loader.MAGIC)
            if magic:
                break
            if len(before) > MAX_NOISE:
                raise self._failure()
            self._receive()
        self._noise = bytes(before)
        self.received = after
        while len(self.received) < 8:
            self._receive()
        word, size = bytes(self.received[:4]), struct.unpack("!I", self.received[4:8])[0]
        if word not in (loader.HAVE, loader.NEED) or size > MAX_ABOUT:
            raise self._failure()
        while len(self.received) < 8 + size:
            self._receive()
        try:
            about = json.loads(self.received[8 : 8 + size])
        except ValueError:
            raise self._failure() from None
        del self.received[: 8 + size]
        return word == loader.NEED, about if isinstance(about, dict) else {}

    def _receive(self) -> None:
        self._channel.settimeout(max(0.0, self._deadline - time.monotonic()))
        try:
            piece = self._channel.recv(64 * 1024)
        except TimeoutError:
            raise self._failure() from None
        if not piece:
            raise self._failure()
        self.received += piece

    def _failure(self) -> Exception:
        """Why it did not come about, with all that the other side has printed."""
        channel, target = self._channel, self._connection.target
        ended = channel.eof_received or channel.closed
        if ended:
            channel.status_event.wait(1.0)
        if not self._connection.alive and not channel.exit_status_ready():
            return Unreachable(f"The connection to {target.name} was lost while the relay was started.")
        refused = self._connection.refused(channel)
        if refused is not None and not self.received:
            return BootstrapError(refused.message, advice=refused.advice, code=refused.code)
        status = channel.exit_status if channel.exit_status_ready() else None
        said = b""
        while channel.recv_stderr_ready() and len(said) < MAX_NOISE:
            said += channel.recv_stderr(MAX_NOISE)
        text = printable(said + b"\n" + self._noise + bytes(self.received[:MAX_NOISE])) or "nothing"
        if not ended:
            if len(self.received) > MAX_NOISE:
                return BootstrapError(
                    f"The login shell of {self._connection.user} on {target.name} prints too much before anything runs. "
                    f"It printed: {text}",
                    advice="Make its start files (.bashrc and the like) silent for sessions without a terminal.",
                )
            return BootstrapError(
                f"The relay on {target.name} did not answer within {self._timeout:g} s. The machine printed: {text}",
                advice=f"Check that `ssh {self._connection.user}@{target.host} true` returns quickly, then try again.",
                code="BootstrapTimeout",
            )
        what, advice = _EXPLAINED.get(
            status if status is not None else -1,
            (
                f"The relay could not be started on {{name}} (exit status {status}).",
                "Check the account's login shell there and its start files.",
            ),
        )
        code = "NoPython" if status == loader.NO_PYTHON else None
        return BootstrapError(
            f"{what.format(name=target.name)} The machine printed: {text}",
            advice=advice.format(name=target.name),
            code=code,
        )


_EXPLAINED = {
    loader.NO_PYTHON: (
        "There is no Python 3.8 or newer with pyzmq on {name}.",
        "Run `python3 -m pip install --user pyzmq ipykernel` there, or set the path of the Python to use for {name}.",
    ),
    loader.NO_FOLDER: (
        "The relay cannot be kept on {name}.",
        "Check that the account's home folder there can be written to and has space left.",
    ),
    loader.DAMAGED: ("The relay did not arrive whole on {name}.", "Try again."),
    loader.FAILED: ("The relay failed on {name}.", "Report this, with what the machine printed."),
}


def _is_path(python: str, absolute: bool = True) -> bool:
    """Whether this may go into the first lines of stdin. What a VM told us to remember is only ever run there."""
    return python.isprintable() and 0 < len(python) <= MAX_ABOUT and (not absolute or python.startswith("/"))
