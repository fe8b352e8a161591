"""What a notebook can run on."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .idle import IdleStop
from .shape import Shape

FREE = "free"
"""The id of the free tier: the Jupyter server that serves the page."""


class PowerState(str, enum.Enum):
    """Azure's own words. ``stopped`` is still billed, ``deallocated`` is not."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DEALLOCATING = "deallocating"
    DEALLOCATED = "deallocated"
    UNKNOWN = "unknown"

    @classmethod
    def from_azure(cls, code: str | None) -> PowerState:
        """From ``PowerState/running`` and the like; whatever is not known, or absent, is ``unknown``."""
        try:
            return cls((code or "").rpartition("/")[2].lower())
        except ValueError:
            return cls.UNKNOWN


class ComputeKind(str, enum.Enum):
    FREE = "free"
    DSVM = "dsvm"
    HOST = "host"


class OS(str, enum.Enum):
    LINUX = "linux"
    WINDOWS = "windows"


@dataclass(frozen=True)
class Size(Shape):
    """An Azure VM size (SKU). What is not known is None, never 0."""

    name: str
    vcpus: int | None = None
    memory_gib: float | None = None
    gpus: int | None = None
    gpu_model: str | None = None


@dataclass(frozen=True)
class Price(Shape):
    """An estimate per hour."""

    amount: float
    currency: str
    as_of: str


@dataclass(frozen=True)
class Problem(Shape):
    """An error as data: what ``DSVMError.to_json`` gives."""

    code: str
    message: str
    advice: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class Compute(Shape):
    """Something a notebook can run on: the free tier, a DSVM, or a host. A row of the panel."""

    id: str
    """Opaque, stable, URL-safe: ``free``, ``azure:VMID``, ``host:ALIAS`` or ``hub:…`` (a hub's broker)."""
    name: str
    kind: ComputeKind
    power_state: PowerState
    os: OS = OS.LINUX
    location: str | None = None
    subscription: str | None = None
    """The subscription's id."""
    resource_group: str | None = None
    image: str | None = None
    """``publisher:offer:sku`` of a DSVM."""
    size: Size | None = None
    price: Price | None = None
    attached: tuple[str, ...] = ()
    """Paths of the notebooks whose kernels run there; filled in by the service."""
    hibernated: bool = False
    """Deallocated with its memory kept: it can be started as it is, and not be resized."""
    updating: bool = field(default=False, metadata={"json": False})
    """Whether the cloud works on it, by whomever that was asked for: what ``elsewhere`` looks for."""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False, metadata={"json": False})
    """As somebody has set them in the cloud."""
    image_version: str | None = field(default=None, metadata={"json": False})
    """Of the image that it was made from, such as 25.06.18."""
    unchanged_since: float | None = field(default=None, compare=False, metadata={"json": False})
    """When the cloud's last operation on it has ended, in seconds since 1970 by the cloud's clock: it was neither started nor
    stopped after that. None where that was not said; lists do not have it."""
    problem: Problem | None = None
    not_allowed: tuple[str, ...] = ()
    """What this account was told that it may not do with it (``start``, ``stop``, ``resize``), until somebody else signs in."""
    idle: IdleStop | None = None
    """Whether and when it is stopped for being idle; of one that is off, what will hold once it is started from here. None where
    nobody watches it. Filled in by the service."""

    @property
    def long_name(self) -> str:
        """``subscription/group/name``, as far as known: the longest name a user can type for it."""
        return "/".join(p for p in (self.subscription, self.resource_group, self.name) if p)


@dataclass(frozen=True)
class SizeOffer(Shape):
    """A size for a VM: a row of ``GET computes/{id}/sizes``, and of what a new VM can have."""

    size: Size
    price: Price | None = None
    current: bool = False
    """Whether it is the VM's size now."""
    available: bool = True
    reason: str = ""
    """Why it cannot be had, in a sentence; empty where it can."""
    warnings: tuple[str, ...] = ()
    """What is to be known before choosing it, a sentence each."""


@dataclass(frozen=True)
class SSHTarget(Shape):
    """Where and how to reach a machine over SSH: what a provider tells the connection."""

    compute: str
    name: str
    """What users call the machine; for messages."""
    host: str
    port: int = 22
    user: str | None = None
    key_files: tuple[str, ...] = ()
    own_key: str | None = None
    """Our own private key, where it may have been put there. It is tried first, and beside the usual ones."""
    certificates: tuple[Any, ...] = field(default=(), repr=False, compare=False, metadata={"json": False})
    """Keys in memory (paramiko's ``PKey``, with a certificate), tried before those of files."""
    pinned_key_id: str | None = None
    """Host keys are pinned under this name (the ``vmId``) rather than under the address; None: ``known_hosts``."""
    host_key_alias: str | None = None
    """The name to look for in ``known_hosts`` in place of address and port (OpenSSH's ``HostKeyAlias``)."""
    known_hosts: tuple[str, ...] | None = None
    """The user's ``known_hosts`` files, where they are not the usual ones (``UserKnownHostsFile``)."""
    proxy_command: str | None = None
    allowed_addresses: tuple[str, ...] | None = None
    """Of a machine that a user has typed: what it may be although it is near this server (``ssh.addresses``). None: anything."""
    python: str | None = None
    """The Python to try first there (``compute.python``)."""
