"""A ``ProxyCommand``: a program whose standard streams are the way to a machine."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile

from ..errors import Unreachable, printable, reason


class ProxyCommand:
    """A command whose standard streams are the way to the machine, as OpenSSH's ``ProxyCommand``.

    paramiko's own class spins at the command's end instead of reporting it, and leaves a zombie. The command comes
    ready to run: ``%h``, ``%p`` and ``%r`` are already replaced.
    """

    def __init__(self, command: str) -> None:
        self.socket, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,  # an interrupt from the terminal is meant for the server
            )
        except OSError as e:
            self.socket.close()
            self._stderr.close()
            raise Unreachable(f"The proxy command `{command}` cannot be started: {reason(e)}.") from e
        finally:
            theirs.close()

    def said(self) -> str:
        try:
            self._process.wait(0.2)  # its last words may be on the way
        except subprocess.TimeoutExpired:
            pass
        self._stderr.seek(0)
        text: bytes = self._stderr.read(64 * 1024)
        return printable(text)

    def close(self) -> None:
        self.socket.close()
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, 15)
                self._process.wait(1)
            except ProcessLookupError:
                pass
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, 9)
        self._process.wait()
        self._stderr.close()
