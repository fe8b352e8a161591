"""Terminals of this server whose shell runs on a machine, and what somebody types for such a shell. A part of ``DSVMService``.

A terminal is JupyterLab's own (jupyter_server_terminals); only its command is ``ssh``, called as ``jupyter dsvm ssh`` calls it, but
from the server that is signed in, so that nobody signs in for it again. ``routes`` opens it, on the server's loop.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compute.provider import Cancel
from .errors import DSVMError, HostKeyError, OperationRefused
from .models import FREE, OS, Compute, SSHTarget
from .ownfolder import OwnFolder
from .ssh.openssh import arguments_of, command_line

if TYPE_CHECKING:
    from .computes import Computes
    from .connections import Connections

LAST_WORDS = (
    '"$@"; status=$?; if [ "$status" -eq 255 ]; then printf "\\n%s" '
    '"The connection to $0 has ended. Press Enter to close this terminal."; read -r _; fi; exit "$status"'
)
"""A terminal closes in the page when its process ends, and with it what ssh said; 255 is ssh's own failure. The machine's name is
``$0``, ssh and its arguments the rest, so nothing of either is read as shell."""


@dataclass(frozen=True)
class Prepared:
    """What a terminal runs."""

    argv: tuple[str, ...]
    forget: Callable[[], None]
    """Removes its files; called when it has ended, or never came to be. Blocks for a moment, raises nothing."""


class Terminals:
    def __init__(self, computes: Computes, connections: Connections, folder: OwnFolder) -> None:
        self._computes = computes
        self._connections = connections
        self._folder = folder

    def prepare(self, compute: str) -> Prepared:
        """Find the machine, let ourselves in once, and say what a terminal is to run. Blocks; raises ``DSVMError``.

        Letting ourselves in sets SSH up where it is not, as an attach does, and says in a sentence what a terminal could only
        show for a moment."""
        client = shutil.which("ssh")
        if client is None:
            raise OperationRefused(
                "A terminal needs OpenSSH's client, which this Jupyter server has not.",
                advice="Install it where Jupyter runs (openssh-client).",
                code="NoSSHClient",
            )
        row = self._enterable(compute)
        self._connections.let_in(row, Cancel())
        target = self._computes.terminal_target(row.id)
        folder = self._new_folder()
        try:
            words = arguments_of(target, self._keys(row, target), folder)
        except BaseException:
            _remove(folder)
            raise
        argv = ("/bin/sh", "-c", LAST_WORDS, row.name, client, *words)
        return Prepared(argv, lambda: _remove(folder))

    def ssh_command(self, compute: str) -> str:
        """Blocks; raises ``DSVMError``."""
        row = self._enterable(compute)
        target = self._computes.ssh_target(row.id)
        self._keys(row, target)
        return command_line(target, self._connections.host_keys.file_of(target))

    def _enterable(self, compute: str) -> Compute:
        row = self._computes.find(compute)
        if row.id == FREE:
            raise OperationRefused(
                "The free tier is this Jupyter server itself.", advice="Open an ordinary terminal.", code="FreeTier"
            )
        if row.os is OS.WINDOWS:
            raise OperationRefused(
                f"{row.name} runs Windows; there is no shell over SSH there yet.",
                advice="Use Remote Desktop, from the Azure portal.",
                code="WindowsNotSupported",
            )
        return row

    def _keys(self, row: Compute, target: SSHTarget) -> list[str]:
        keys = [key.line for key in self._connections.host_keys.known(target)]
        if target.pinned_key_id and not keys:
            raise HostKeyError(
                f"The host key of {row.name} is not known yet.",
                advice=f"Attach a notebook there or open a terminal on it, or run `jupyter dsvm access {row.name}`.",
                code="HostKeyUnknown",
            )
        return keys

    def _new_folder(self) -> Path:
        import secrets  # late, as everything that a server without any terminal there need not load

        try:
            folder = self._folder.sub("terminals") / secrets.token_hex(8)
            folder.mkdir(mode=0o700)
        except OSError as e:
            raise DSVMError(
                f"The files that ssh needs cannot be written to {self._folder.path}: {e}.",
                advice="Make Jupyter's runtime folder writable (`jupyter --runtime-dir`).",
            ) from e
        return folder


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


class Watcher:
    """Stands among a terminal's clients (terminado's ``PtyWithClients.clients``) and sees its end."""

    size = (None, None)  # it limits nobody's

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def on_pty_read(self, text: str) -> None:
        """Output, which is for the others."""

    def on_pty_died(self) -> None:
        self._ended()


def open_terminal(manager: Any, prepared: Prepared) -> str:
    """On the server's loop: a terminal of ``manager`` (``web_app.settings["terminal_manager"]``) that runs it; its name."""
    try:
        name = str(manager.create(shell_command=list(prepared.argv))["name"])
        manager.terminals[name].clients.append(Watcher(prepared.forget))
    except BaseException:
        prepared.forget()
        raise
    return name
