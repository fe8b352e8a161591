"""``jupyter dsvm keep`` and ``jupyter dsvm autostop``, and what ``list`` says of machines that stop by themselves.

This process watches nothing. What it notes a server of this account reads before its next look at the VM; the lease on the VM is
taken at once, and Azure's own schedule is moved on where a server has set it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .idle_calls import autostop, keep
from .models import Compute

if TYPE_CHECKING:
    from .service import DSVMService

NAME_HELP = "NAME, GROUP/NAME or SUBSCRIPTION/GROUP/NAME"


def add_keep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=NAME_HELP)
    parser.add_argument("hours", metavar="HOURS", nargs="?", default="", help="for how long (default 1); 0 ends it")


def add_autostop_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=NAME_HELP)
    parser.add_argument(
        "minutes", metavar="MINUTES|off", nargs="?", default="", help="idle minutes after which it is stopped"
    )
    parser.add_argument(
        "--hard", metavar="HOURS|off", help="hours after its start at which it is stopped whatever runs there"
    )


def run(service: DSVMService, arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    if arguments.command == "keep":
        said = keep(service, arguments.name, arguments.hours)
    else:
        said = autostop(service, arguments.name, arguments.minutes, arguments.hard)
    settled = service.idle_stops.settle(arguments.name)
    if settled is not None and settled.safety is not None and settled.safety.kind == "theirs":
        said += f" {settled.safety.text}"
    say(said)
    return 0


def with_stops(service: DSVMService, computes: Sequence[Compute]) -> list[Compute]:
    """With what a server of this account has last written down of them."""
    return [dataclasses.replace(row, idle=service.idle_stops.last_of(row)) for row in computes]
