"""The SSH server of an emulated VM where OpenSSH's is not installed: commands, terminals and SFTP on asyncssh.

Started by ``guest.py`` as a program of its own: ``ssh_server.py HOST PORT HOST_KEY AUTHORIZED_KEYS USER``. It takes
public keys only. Its environment is what every session gets; started by root it becomes USER once it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import pty
import pwd
import struct
import sys
import termios
from pathlib import Path

import asyncssh


def become(user: str) -> None:
    account = pwd.getpwnam(user)
    if os.geteuid() == 0 and account.pw_uid != 0:
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)


class _OneAccount(asyncssh.SSHServer):
    """Knows the keys of one account; nobody else has any."""

    def __init__(self, user: str, keys: asyncssh.SSHAuthorizedKeys) -> None:
        self._user, self._keys = user, keys

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        if username == self._user:
            self._connection.set_authorized_keys(self._keys)
        return True


async def session(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """One exec or shell request: the shell of the account, as sshd starts it."""
    environment = {**os.environ, "USER": process.get_extra_info("username"), **process.env}
    argv = ["/bin/bash", "-c", process.command] if process.command is not None else ["/bin/bash", "-l"]
    home = os.environ["HOME"]
    if process.term_type:
        await _terminal(process, argv, {**environment, "TERM": process.term_type}, home)
        return
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd=home,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    feeding = asyncio.create_task(_feed(process.stdin, child.stdin))
    # As with sshd, a session lasts until the last holder of its pipes is gone. (asyncssh's own redirection sometimes
    # drops the end of the output when the command has ended.)
    await asyncio.gather(_copy(child.stdout, process.stdout), _copy(child.stderr, process.stderr))
    status = await child.wait()
    feeding.cancel()
    process.exit(status & 0xFF)


async def _copy(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    """Until the command has closed its end; what nobody at the other end takes any more is dropped."""
    while data := await source.read(1 << 16):
        with contextlib.suppress(OSError, asyncssh.Error):
            target.write(data)
            await target.drain()


async def _feed(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()


async def _terminal(
    process: asyncssh.SSHServerProcess[bytes], argv: list[str], environment: dict[str, str], home: str
) -> None:
    ours, theirs = pty.openpty()
    columns, rows, width, height = process.term_size
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))
    child = await asyncio.create_subprocess_exec(
        "setsid", "--ctty", *argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=home
    )
    os.close(theirs)
    await process.redirect(stdin=os.dup(ours), stdout=ours)
    process.exit(await child.wait() & 0xFF)


async def main(host: str, port: int, host_key: str, authorized_keys: str, user: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    keys = asyncssh.read_authorized_keys(authorized_keys)
    server = await asyncssh.listen(
        host,
        port,
        # Read now, not by name: asyncssh looks again at each connection, when it is no longer root.
        server_host_keys=[asyncssh.read_private_key(host_key)],
        server_factory=lambda: _OneAccount(user, keys),
        password_auth=False,
        kbdint_auth=False,
        process_factory=session,
        sftp_factory=True,
        encoding=None,
        line_editor=False,
        tcp_keepalive=True,
    )
    become(user)
    await asyncio.to_thread(os.chdir, Path(os.environ["HOME"]))
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]))
