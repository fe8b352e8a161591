"""``jupyter dsvm``: what the panel does, for a terminal and for scripts.

Data goes to stdout (``--json`` in the shapes of the REST API), everything else to stderr. The exit status is 0 only when
what was asked for is done; 1 with one sentence when it failed; 2 when the command line is wrong; 130 when interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir

from . import access_command, advise_command, create_command, hub_command, idle_command, signin_command, spend_command
from .compute.provider import Cancel
from .computes import PowerKind
from .errors import Cancelled, ConfigurationError, DSVMError
from .models import OperationState
from .operations import Running
from .service import DSVMService, load_service

POLL_SECONDS = 0.2
INTERRUPTED = 130

GIVING_UP = {
    "create": "Cancelling; what was made is being deleted again.",
    "resize": "It is put back, unless its size has changed already; Ctrl-C once more leaves at once.",
}
"""What Ctrl-C does to a change, where that is not the usual."""


def say(text: str) -> None:
    """To the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def show(data: Any) -> None:
    """JSON to whoever reads stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script ``jupyter-dsvm``, which is ``jupyter dsvm``."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:2] == ["hub", "broker"]:
        return hub_command.run_broker(argv[2:])
    arguments = None if argv[:1] == ["emulator"] else _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        status: int = _emulator(argv[1:]) if arguments is None else arguments.run(arguments)
        return status
    except DSVMError as e:
        say(f"jupyter dsvm: {e}")
        return INTERRUPTED if isinstance(e, Cancelled) else 1
    except KeyboardInterrupt:
        say("jupyter dsvm: interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has what they wanted (| head); Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jupyter dsvm",
        description="Run notebooks on Azure Data Science VMs and other machines, and bring them back.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, text: str, parent: Any = commands) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = parent.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run, command=name)
        return sub

    demo = command("demo", _demo, "Start a stand-in for Azure and JupyterLab on it, with a sample notebook.")
    demo.add_argument("--dir", help="folder for the machines' disks and the notebook; kept for the next time")
    demo.add_argument("--port", type=int, default=8888, help="first port to try for JupyterLab (default 8888)")
    commands.add_parser("emulator", help="Run the stand-in for Azure; prints one JSON line when it is ready.")
    listing = command("list", _list, "List what notebooks can run on.")
    listing.add_argument("--json", action="store_true", help="print the list as JSON")
    for name, text in (
        ("start", "Start a VM and wait until it runs."),
        ("stop", "Stop (deallocate) a VM and wait until it costs nothing but its disk."),
        ("restart", "Restart a VM and wait until it runs again."),
    ):
        power = command(name, _power, text)
        power.add_argument("name", metavar="NAME", help="NAME, GROUP/NAME or SUBSCRIPTION/GROUP/NAME")
        power.add_argument("--json", action="store_true", help="print the machine as JSON when it is done")
        power.set_defaults(kind=name)
    idle_command.add_keep_arguments(command("keep", _idle, "Keep a VM on for a while, although nobody uses it."))
    idle_command.add_autostop_arguments(
        command("autostop", _idle, "Choose after how many idle minutes a VM is stopped by a Jupyter server of yours.")
    )
    sizes = command("sizes", _sizes, "List the sizes that a VM can have.")
    sizes.add_argument("name", metavar="NAME", help="NAME, GROUP/NAME or SUBSCRIPTION/GROUP/NAME")
    sizes.add_argument("--all", action="store_true", help="also those that it cannot have, with the reasons")
    sizes.add_argument("--json", action="store_true", help="print the list, with all of them, as JSON")
    resize = command("resize", _resize, "Give a VM another size and wait until it has it. What runs there ends.")
    resize.add_argument("name", metavar="NAME", help="NAME, GROUP/NAME or SUBSCRIPTION/GROUP/NAME")
    resize.add_argument("size", metavar="SIZE", help="such as NC4as_T4_v3; `jupyter dsvm sizes NAME` lists them")
    resize.add_argument("--json", action="store_true", help="print the machine as JSON when it is done")

    advise_command.add_arguments(
        command("advise", _advise, "Say whether a notebook gains from a GPU, how much memory it needs, and what fits.")
    )
    create_command.add_arguments(
        command("create", _create, "Make a Data Science VM. It costs money from when it runs.")
    )
    spend_command.add_arguments(command("spend", _spend, "Say what VMs have cost, by day; an estimate."))
    kernelspec = commands.add_parser("kernelspec", help="Kernels that start on a VM.")
    parser_group = kernelspec.add_subparsers(metavar="COMMAND", required=True)
    install = command(
        "install",
        _install,
        "Make kernelspecs dsvm-NAME-KERNEL for the kernels of a running machine: for papermill, nbclient and consoles.",
        parser_group,
    )
    install.add_argument("name", metavar="NAME", help="the machine")
    install.add_argument("--kernel", metavar="K", help="only this kernel of the machine")
    where = install.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="in the user's Jupyter folder (the default)")
    where.add_argument("--sys-prefix", action="store_true", help="in this Python environment")
    where.add_argument("--prefix", help="under this folder")
    install.add_argument("--json", action="store_true", help="print what was made as JSON")
    signin_command.add_arguments(
        command("signin", _signin, "Sign in to Azure with a code, for your running Jupyter server.")
    )
    access_command.add_access_arguments(
        command("access", _access, "Set up SSH on a VM: this account's key, your account there, its host keys.")
    )
    forgetting = command("forget", _forget, "Take this account's key from a VM, and forget its account and host keys.")
    forgetting.add_argument("name", metavar="NAME", help="the machine")
    access_command.add_ssh_arguments(command("ssh", _ssh, "A shell on a machine, or a command, with OpenSSH's client."))
    hub_command.add_arguments(
        commands.add_parser("hub", help="The broker of a JupyterHub: run it, and look after its VMs."),
        lambda function, arguments: function(arguments, say, show, print),
    )
    doctor = command("doctor", _doctor, "Look for what could keep notebooks from moving, and say what to do.")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


@contextlib.contextmanager
def service() -> Iterator[DSVMService]:
    loaded = load_service()
    try:
        yield loaded
    finally:
        loaded.close()


def _list(arguments: argparse.Namespace) -> int:
    from .tables import computes_text

    with service() as s:
        listing = s.computes(refresh=True)
        listing = dataclasses.replace(listing, computes=tuple(idle_command.with_stops(s, listing.computes)))
    if arguments.json:
        show(listing.to_json())
    else:
        # Kernels belong to servers; this process has none, so there is nothing to say about notebooks.
        print(computes_text(listing.computes, (), notebooks=False))
        for problem in listing.problems:
            say(f"Not everything could be listed: {problem.message} {problem.advice}".rstrip())
    return 1 if listing.problems else 0


def _power(arguments: argparse.Namespace) -> int:
    kind: PowerKind = arguments.kind
    with service() as s:
        running = s.changes.begin_power(kind, arguments.name)
        return _followed(s, running, lambda: s.changes.run_power(running, kind), arguments.json)


def _idle(arguments: argparse.Namespace) -> int:
    with service() as s:
        return idle_command.run(s, arguments, say)


def _create(arguments: argparse.Namespace) -> int:
    new = create_command.wanted(arguments)
    with service() as s:
        if not create_command.agreed(s, new, arguments.yes, say):
            say("Nothing was made.")
            return 1
        running = s.creations.begin(new)
        return _followed(s, running, lambda: s.creations.run(running, new), arguments.json)


def _followed(s: DSVMService, running: Running, work: Callable[[], object], as_json: bool) -> int:
    """Do ``work``, say how it goes, and give the exit status. Ctrl-C cancels."""
    running.listeners.append(say)
    s.spawn(running, work)
    while True:
        try:
            ended = running.finished.result(timeout=POLL_SECONDS)
            break
        except FutureTimeout:
            continue
        except KeyboardInterrupt:
            if running.cancel.is_set():
                raise  # a second Ctrl-C
            say(GIVING_UP.get(running.value.kind, "Giving up waiting; what was asked of the cloud may still happen."))
            running.cancel.set()
    if ended.state is OperationState.DONE:
        say(ended.notice)
        row = s.known.known(ended.compute or "")
        if as_json and row is not None:
            show(row.to_json())
        return 0
    problem = ended.error
    say(f"jupyter dsvm: {problem.message} {problem.advice}".rstrip() if problem else "jupyter dsvm: it failed.")
    return INTERRUPTED if ended.state is OperationState.CANCELLED else 1


def _sizes(arguments: argparse.Namespace) -> int:
    from .tables import sizes_text

    with service() as s:
        offers, notice = s.known.sizes(s.known.find(arguments.name).id)
    if arguments.json:
        show({"sizes": [o.to_json() for o in offers], "notice": notice})
    else:
        print(sizes_text(offers, arguments.all))
        say(notice)
    return 0


def _resize(arguments: argparse.Namespace) -> int:
    with service() as s:
        row = s.known.find(arguments.name)
        running = s.resizes.begin(row.id, arguments.size)
        say(s.known.sizes(row.id)[1])
        return _followed(s, running, lambda: s.resizes.run(running, arguments.size), arguments.json)


def _install(arguments: argparse.Namespace) -> int:
    from .install import install_kernelspecs

    prefix = sys.prefix if arguments.sys_prefix else arguments.prefix
    with service() as s:
        row = s.known.find(arguments.name)
        specs = s.arrivals.kernelspecs(row, Cancel())
    made = install_kernelspecs(row, specs, arguments.kernel, prefix)
    if arguments.json:
        show([m.to_json() for m in made])
    else:
        for m in made:
            say(f"{m.display_name}: {m.name} in {m.path}")
    return 0


def _advise(arguments: argparse.Namespace) -> int:
    with service() as s:
        return advise_command.run(s, arguments, show, print)


def _spend(arguments: argparse.Namespace) -> int:
    with service() as s:
        return spend_command.run(s, arguments, show, print, say)


def _signin(arguments: argparse.Namespace) -> int:
    return signin_command.run(arguments, say, show)


def _access(arguments: argparse.Namespace) -> int:
    if arguments.password:
        return access_command.send_password(arguments, say)
    with service() as s:
        return access_command.set_up(s, arguments, say)


def _forget(arguments: argparse.Namespace) -> int:
    with service() as s:
        return access_command.forget(s, arguments, say)


def _ssh(arguments: argparse.Namespace) -> int:
    with service() as s:
        return access_command.ssh(s, arguments)


def _doctor(arguments: argparse.Namespace) -> int:
    from .doctor import examine

    findings = examine()
    if arguments.json:
        show([f.to_json() for f in findings])
    else:
        for f in findings:
            print(f"{f.mark} {f.what}: {f.message}")
            if f.advice:
                print(f"    {f.advice}")
    return 0 if all(f.ok is not False for f in findings) else 1


def _emulator(argv: Sequence[str]) -> int:
    """``jupyter dsvm emulator``: its own parser has its options."""
    try:
        from .emulator.__main__ import parser, run
    except ImportError as e:
        raise _no_emulator(e) from e
    folder = [] if any(a == "--dir" or a.startswith("--dir=") for a in argv) else ["--dir", str(default_folder())]
    return run(parser().parse_args([*folder, *argv]))


def _demo(arguments: argparse.Namespace) -> int:
    from .demo import run_demo

    try:
        from .emulator import Emulator, EmulatorError
    except ImportError as e:
        raise _no_emulator(e) from e
    folder = Path(arguments.dir).absolute() if arguments.dir else default_folder()
    say(f"Starting the stand-in for Azure in {folder}. The first time, its machines are built, which takes minutes.")
    emulator = Emulator(folder, timings={}, may_start=True)
    try:
        emulator.start()
    except EmulatorError as e:
        raise ConfigurationError(str(e)) from e
    try:
        return run_demo(folder, emulator.config_dir, arguments.port, say)
    finally:
        say("Stopping the machines.")
        emulator.stop()


def default_folder() -> Path:
    """Where the demo and the emulator keep disks and notebooks unless told otherwise."""
    return Path(jupyter_data_dir()) / "jupyter-dsvm" / "demo"


def _no_emulator(error: ImportError) -> ConfigurationError:
    return ConfigurationError(
        f"The stand-in for Azure cannot be loaded: {error}.", advice="Install it with pip install 'jupyter-dsvm[demo]'."
    )
