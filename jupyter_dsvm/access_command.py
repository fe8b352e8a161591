"""``jupyter dsvm access``, ``forget`` and ``ssh``: the way into a machine, from a terminal. Called by ``cli`` only."""

from __future__ import annotations

import argparse
import getpass
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TYPE_CHECKING

from .access import CONSENT, AccessRequest
from .errors import BadRequest, ConfigurationError, HostKeyError
from .models import Operation, OperationState
from .ssh.openssh import arguments_of

if TYPE_CHECKING:
    from .operations import Running
    from .service import DSVMService

POLL_SECONDS = 0.2
INTERRUPTED = 130

Say = Callable[[str], None]


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the machine")
    parser.add_argument("--user", metavar="U", default="", help="your account there; remembered")
    parser.add_argument("--renew-host-key", action="store_true", help="take over what its host key is now")
    # Never as an argument: other users of the computer see those.
    parser.add_argument(
        "--password", action="store_true", help="ask for the account's password, for your running server"
    )
    parser.add_argument("--vmaccess", action="store_true", help="by the VMAccess extension, which also gives sudo")
    parser.add_argument("--server", metavar="URL", help="with --password: which of your running Jupyter servers")


def add_ssh_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the machine")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what to run there")


def set_up(service: DSVMService, arguments: argparse.Namespace, say: Say) -> int:
    if arguments.password:
        raise BadRequest("--password goes to a running server.")  # ``cli`` sends it there
    consent = ""
    if arguments.vmaccess:
        row = service.known.find(arguments.name)
        question = f"VMAccess {CONSENT.format(user=arguments.user or 'of its user', name=row.name)}: y/N "
        if not sys.stdin.isatty():
            raise BadRequest("VMAccess needs somebody to agree.", advice="Say it at a terminal.", code="ConsentNeeded")
        if input(question).strip().lower() not in ("y", "yes"):
            say("Nothing was changed.")
            return 1
        consent = "sudo"
    request = AccessRequest.from_json(
        {
            "user": arguments.user,
            "renew_host_key": arguments.renew_host_key,
            "vmaccess": arguments.vmaccess,
            "consent": consent,
        }
    )
    running = service.access.begin(arguments.name, request)
    running.listeners.append(say)
    service.spawn(running, lambda: service.access.run(running, request))
    return waited(running, say)


def send_password(arguments: argparse.Namespace, say: Say) -> int:
    """Ask for it and hand it to the user's own running server, where it stays in memory."""
    from .remote_access import RemoteAccess

    if arguments.vmaccess or arguments.renew_host_key:
        raise BadRequest("--password goes with --user and --server only.")
    server = RemoteAccess.of_running_server(arguments.server)
    tty = sys.stdin.isatty()
    password = getpass.getpass(f"Password on {arguments.name}: ") if tty else sys.stdin.readline().rstrip("\n")
    if not password:
        raise BadRequest("No password was given.")
    ended = server.set_up(
        arguments.name, {"password": password, **({"user": arguments.user} if arguments.user else {})}
    )
    return outcome(ended, say)


def forget(service: DSVMService, arguments: argparse.Namespace, say: Say) -> int:
    running = service.access.begin_forget(arguments.name)
    running.listeners.append(say)
    service.spawn(running, lambda: service.access.run_forget(running))
    return waited(running, say)


def waited(running: Running, say: Say) -> int:
    """Follow an operation of this process to its end; the exit status."""
    while True:
        try:
            return outcome(running.finished.result(timeout=POLL_SECONDS), say)
        except FutureTimeout:
            continue
        except KeyboardInterrupt:
            if running.cancel.is_set():
                raise  # a second Ctrl-C
            say("Giving up waiting; what was asked of Azure may still happen.")
            running.cancel.set()


def outcome(ended: Operation, say: Say) -> int:
    if ended.state is OperationState.DONE:
        say(ended.notice)
        return 0
    problem = ended.error
    say(f"jupyter dsvm: {problem.message} {problem.advice}".rstrip() if problem else "jupyter dsvm: it failed.")
    return INTERRUPTED if ended.state is OperationState.CANCELLED else 1


# ssh


def ssh(service: DSVMService, arguments: argparse.Namespace) -> int:
    """Run OpenSSH's client on the machine; its exit status is ours. SSH has to be set up, as by an attach or ``access``."""
    client = shutil.which("ssh")
    if client is None:
        raise ConfigurationError("OpenSSH's client is not installed here.", advice="Install it (openssh-client).")
    row = service.known.find(arguments.name)
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    # Without a command ssh asks for a terminal.
    target = service.known.ssh_target(row.id) if command else service.known.terminal_target(row.id)
    keys = [key.line for key in service.connections.host_keys.known(target)]
    if target.pinned_key_id and not keys:
        raise HostKeyError(
            f"The host key of {row.name} is not known yet.",
            advice=f"Set SSH up first: `jupyter dsvm access {row.name}`.",
            code="HostKeyUnknown",
        )
    with tempfile.TemporaryDirectory(prefix="jupyter-dsvm-ssh-") as folder:
        words = arguments_of(target, keys, Path(folder))
        # A child, since the file with the host keys goes when it ends. Ctrl-C at the terminal is for what runs there.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with subprocess.Popen([client, *words, *command], preexec_fn=_heed_interrupts) as process:
                status = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
