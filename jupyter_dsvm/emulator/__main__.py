"""``python -m jupyter_dsvm.emulator --dir DIR``: prints one JSON line when ready, and serves until its parent ends."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

from . import machines, scenario
from .app import EmulatorError, Options, serve
from .records import Timings


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(prog="jupyter dsvm emulator", description="A stand-in for Azure on this computer.")
    add_arguments(parse)
    return parse


def add_arguments(parse: argparse.ArgumentParser) -> None:
    """Also called by the command line of ``jupyter dsvm``."""
    parse.add_argument(
        "--dir",
        type=Path,
        default=Path(jupyter_data_dir()) / "dsvm-emulator",
        help="where disks and configuration are kept (default: %(default)s)",
    )
    parse.add_argument("--isolate", action=argparse.BooleanOptionalAction, help="namespaces of their own for the VMs")
    parse.add_argument("--ssh-server", choices=["openssh", "asyncssh"], help="default: OpenSSH's where it is installed")
    parse.add_argument(
        "--keys",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether the configuration has a key for the VMs and their host keys; --no-keys: SSH has to be set up",
    )
    parse.add_argument("--may-start", action="store_true", help="let code in notebooks start the emulated VMs")
    parse.add_argument("--sign-in", action="store_true", help="give no token: sign in at the emulated Entra")
    parse.add_argument("--log-traffic", type=Path, metavar="FILE", help="write every exchange as a JSON line")
    parse.add_argument(
        "--timings", type=json.loads, default={}, metavar="JSON", help='such as {"start": 10}, in seconds'
    )
    parse.add_argument("--machines", type=Path, metavar="FILE", help="other VMs than the standard ones, as JSON")
    parse.add_argument("--scenario", type=Path, metavar="FILE", help="what Azure holds and how it behaves, as JSON")
    parse.add_argument("--cache", type=Path, metavar="DIR", help="where the VMs' Python is kept")
    parse.add_argument("--parent-pid", type=int, help="end with this process; default: the one that started this")


def run(arguments: argparse.Namespace) -> int:
    """The exit status: 0 when it was asked to end, 1 when it cannot run (the reason is on stderr)."""
    try:
        timings = Timings()
        chosen = machines.load(arguments.machines) if arguments.machines else machines.STANDARD
        found = scenario.load(arguments.scenario, chosen) if arguments.scenario else scenario.Scenario(machines=chosen)
        found.timings = {**arguments.timings, **found.timings}
        options = Options(
            machines=found.machines,
            scenario=found,
            timings=timings,
            isolate=arguments.isolate,
            ssh_server=arguments.ssh_server,
            traffic=arguments.log_traffic,
            keys=arguments.keys,
            may_start=arguments.may_start,
            sign_in=arguments.sign_in,
            cache=arguments.cache,
            parent_pid=arguments.parent_pid,
        )
        serve(arguments.dir, options)
    except (EmulatorError, ValueError, TypeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(parser().parse_args()))
