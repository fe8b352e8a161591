"""The shapes of making a new machine: what can be chosen, and what was.

``ComputeProvider.creation`` gives a ``Creation`` (``GET creation``), ``ComputeProvider.create`` takes a ``NewCompute``
(``POST computes``, ``jupyter dsvm create``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadRequest
from ..models import Shape, SizeOffer

FIELDS = {
    "name": str, "location": str, "size": str, "subscription": str, "resource_group": str, "private": bool,
    "source_address": str, "disk_gib": int,
}  # fmt: skip
REQUIRED = ("name", "location", "size")
LONGEST = 200
"""Characters of a value. Azure's own names are shorter; what is longer is no name."""


@dataclass(frozen=True)
class NewCompute(Shape):
    """What somebody wants to have made. What is None is the provider's to choose."""

    name: str
    location: str
    size: str
    subscription: str | None = None
    """Its id or its name."""
    resource_group: str | None = None
    private: bool = False
    """Without a public address: to be reached from its own network only."""
    source_address: str | None = None
    """Who may reach its SSH port: an address, or a network in CIDR notation."""
    disk_gib: int | None = None
    """Size of its disk; None: the image's."""
    tags: tuple[tuple[str, str], ...] = field(default=(), metadata={"json": False})
    """Further tags that it gets: whose it is, on a hub. Nobody sends these."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NewCompute:
        """From a request's body. Raises ``BadRequest`` that names the field."""
        unknown = sorted(set(data) - set(FIELDS))
        if unknown:
            raise BadRequest(
                f"A new machine has no {', '.join(map(repr, unknown))}.", advice=f"Possible are {', '.join(FIELDS)}."
            )
        given = {name: value for name, value in data.items() if value is not None}
        for name, value in given.items():
            wanted = FIELDS[name]
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                words = {str: "a text", bool: "true or false", int: "a whole number"}[wanted]
                raise BadRequest(f"{name} has to be {words}, not {str(value)[:60]!r}.")
            if isinstance(value, str) and len(value) > LONGEST:
                raise BadRequest(f"{name} is longer than {LONGEST} characters.")
        missing = [name for name in REQUIRED if not str(given.get(name, "")).strip()]
        if missing:
            raise BadRequest(
                f"The new machine's {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not said.",
                advice="`GET creation` lists the regions and sizes there are.",
            )
        values: dict[str, Any] = {n: value.strip() if isinstance(value, str) else value for n, value in given.items()}
        return cls(**values)


@dataclass(frozen=True)
class SubscriptionOffer(Shape):
    id: str
    name: str
    available: bool = True
    reason: str = ""
    """Why nothing can be made there; empty where it can."""


@dataclass(frozen=True)
class LocationOffer(Shape):
    name: str
    """As Azure's programs write it: ``westeurope``."""
    text: str
    """As people read it: ``West Europe``."""


@dataclass(frozen=True)
class Creation(Shape):
    """What a new machine can be like."""

    allowed: bool
    reason: str = ""
    """Why none can be made at all; empty where one can."""
    subscriptions: tuple[SubscriptionOffer, ...] = ()
    subscription: str | None = None
    """The one that the rest is about."""
    locations: tuple[LocationOffer, ...] = ()
    location: str | None = None
    """The one that ``sizes`` is about."""
    sizes: tuple[SizeOffer, ...] = ()
    """Those that can be had first; none without a location."""
    image: str = ""
    """What it is made from, in words."""
    resource_group: str = ""
    """Where it goes unless somebody says otherwise."""
    source_address: str = ""
    """Who may reach its SSH port, if the administrator has said so; empty: whoever makes it has to say."""
    private_only: bool = False
    """Whether the administrator has it that new machines have no public address."""
    notice: str = ""
    """What it costs beside the price per hour, in sentences."""
