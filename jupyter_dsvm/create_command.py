"""``jupyter dsvm create``: shows what the machine will be and cost, asks, makes it and says how it goes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from .compute.creating import Creation, NewCompute
from .errors import NotAllowed
from .models import SizeOffer
from .service import DSVMService
from .tables import price_words, size_words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what to call it: letters, digits and hyphens")
    parser.add_argument("--size", required=True, metavar="S", help="such as Standard_D4ds_v5")
    parser.add_argument("--location", required=True, metavar="L", help="the region, such as westeurope")
    parser.add_argument("--subscription", metavar="S", help="its id or name; needed where there are several")
    parser.add_argument("--group", metavar="G", help="the resource group")
    reach = parser.add_mutually_exclusive_group()
    reach.add_argument("--private", action="store_true", help="without a public address")
    reach.add_argument(
        "--from",
        dest="source_address",
        metavar="ADDRESS",
        help="this server's public address: the only one that may reach the VM (or a network, 203.0.113.0/24)",
    )
    parser.add_argument("--disk", type=int, metavar="GIB", help="size of its disk; the default is the image's")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print the machine as JSON when it is made")


def wanted(arguments: argparse.Namespace) -> NewCompute:
    """Raises ``BadRequest``."""
    return NewCompute.from_json(
        {
            "name": arguments.name,
            "location": arguments.location,
            "size": arguments.size,
            "subscription": arguments.subscription,
            "resource_group": arguments.group,
            "private": arguments.private,
            "source_address": arguments.source_address,
            "disk_gib": arguments.disk,
        }
    )


def described(new: NewCompute, choices: Creation, offer: SizeOffer | None) -> list[str]:
    """What is about to be made, a line each."""
    where = next((s.name for s in choices.subscriptions if s.id == choices.subscription), choices.subscription or "")
    size = offer.size.name if offer is not None else new.size
    words = f" ({size_words(offer.size)})" if offer is not None and size_words(offer.size) != size else ""
    price = price_words(offer.price) if offer is not None else ""
    address = (
        "no public address"
        if new.private or choices.private_only
        else f"a public address, whose SSH port is open to {new.source_address or choices.source_address or 'nobody yet'} alone"
    )
    return [
        f"{new.name}: {size}{words} in {choices.location}, from {choices.image}",
        f"In {where}, resource group {new.resource_group or choices.resource_group}, with {address}.",
        f"{price or 'Its price is not known'}{' (an estimate)' if price else ''}, from now until it is stopped. {choices.notice}",
        *(offer.warnings if offer is not None else ()),
    ]


def agreed(
    service: DSVMService,
    new: NewCompute,
    yes: bool,
    say: Callable[[str], None],
    ask: Callable[[], str] | None = None,
) -> bool:
    """Show what is about to be made, and ask. Raises what the provider raises, and ``NotAllowed`` where nobody can be asked."""
    choices = service.creation(new.location, new.subscription)
    if not choices.allowed:
        raise NotAllowed(choices.reason)
    offer = next((o for o in choices.sizes if o.size.name.lower() == new.size.lower()), None)
    if offer is not None and not offer.available:
        return True  # creating it says why it cannot be, and what can
    for line in described(new, choices, offer):
        say(line)
    if yes:
        return True
    if ask is None:
        if not sys.stdin.isatty():
            raise NotAllowed("Nobody is there to be asked.", advice="Add --yes to make it without a question.")
        ask = _ask
    return ask().strip().lower() in ("y", "yes")


def _ask() -> str:
    sys.stderr.write("Make it? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline()
