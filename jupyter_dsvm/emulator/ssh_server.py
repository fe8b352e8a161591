"""The SSH server of an emulated VM where OpenSSH's is not installed: commands, terminals and SFTP on asyncssh.

Started by ``guest.py`` as a program of its own: ``ssh_server.py HOST PORT HOST_KEY AUTHORIZED_KEYS USER``. It takes
public keys only. Its environment is what every session gets; started by root it becomes USER once it listens.
"""

from __future__ import annotations

import asyncio
import fcntl
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
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    waiter = asyncio.ensure_future(child.wait())
    closed = asyncio.ensure_future(process.channel.wait_closed())
    await asyncio.wait([waiter, closed], return_when=asyncio.FIRST_COMPLETED)
    if waiter.done():
        # What it still had in its pipes goes out first, then the status.
        await process.stdout.drain()
        process.exit(waiter.result() & 0xFF)
    await waiter
    closed.cancel()


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
    server = await asyncssh.listen(
        host,
        port,
        server_host_keys=[host_key],
        authorized_client_keys=authorized_keys,
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
