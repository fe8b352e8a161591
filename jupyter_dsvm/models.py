"""The shapes that everything passes around: frozen, and to and from JSON (DESIGN section 6).

``to_json`` gives what the REST API answers and what ``--json`` prints. Durations are seconds, memory is GiB,
moments are ISO 8601 in UTC with a ``Z``.
"""

from __future__ import annotations

import dataclasses
import enum
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeVar

FREE = "free"
"""The id of the free tier: the Jupyter server that serves the page."""

T = TypeVar("T", bound="Shape")


def utc_now() -> str:
    """Now, as every moment in a shape is written."""
    return utc_at(time.time())


def utc_at(moment: float) -> str:
    """That moment (seconds since 1970) as it is written in a shape."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Shape:
    """What the dataclasses below share: JSON out, JSON in."""

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _plain(self)
        return data


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.metadata.get("json", True)
        }
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


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
    """Opaque, stable, URL-safe: ``free``, ``azure:VMID`` or ``host:ALIAS``."""
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
    problem: Problem | None = None
    not_allowed: tuple[str, ...] = ()
    """What this account was told that it may not do with it (``start``, ``stop``, ``resize``), until somebody else signs in."""

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


class LinkPhase(str, enum.Enum):
    """Whether a kernel can be reached. ``lost`` is *unknown*, never dead; ``gone`` is confirmed."""

    LOCAL = "local"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    GONE = "gone"


@dataclass(frozen=True)
class LinkState(Shape):
    state: LinkPhase
    since: str
    attempt: int = 0
    """Which try to reconnect this is; 0 when connected."""
    reason: str = ""
    """A sentence: why it is not connected."""


@dataclass(frozen=True)
class KernelRecord(Shape):
    """A row of ``GET kernels``: a kernel whose front this server holds."""

    id: str
    path: str | None
    """The notebook's path, from the session manager."""
    compute: str
    kernelspec: str
    link: LinkState
    execution_state: str
    last_activity: str
    moving_to: str | None = None
    """The compute of an attach that is under way."""
    last_compute: str | None = None
    """Where the notebook last ran, if that is elsewhere and it was not brought back from there."""
    problem: Problem | None = None
    """Why its process ended without anybody's asking (``OutOfMemory``), until it has been moved or restarted by a person."""

    @property
    def notebook(self) -> str:
        """What to call it: its path, or a short form of the kernel's id where there is none (nbclient, a console)."""
        return self.path or f"notebook {self.id[:8]}"


class OperationState(str, enum.Enum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(str, enum.Enum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Step(Shape):
    name: str
    """The machine's word: start, connect, kernel, wait, swap, …"""
    text: str
    """The sentence a person reads."""
    state: StepState = StepState.PENDING


@dataclass(frozen=True)
class Operation(Shape):
    """A long change: start, stop, restart, resize, create, access, forget, attach, detach, install, sync; or update, which is one
    that somebody else makes and of which no more can be told."""

    id: str
    kind: str
    compute: str | None
    kernel: str | None
    state: OperationState
    steps: tuple[Step, ...] = ()
    progress: float | None = None
    error: Problem | None = None
    started: str = field(default_factory=utc_now)
    ended: str | None = None
    notice: str = ""
    """A sentence for the user when it is done: what was left behind, what moves."""
    elsewhere: bool = False
    """Begun by somebody else (in the portal, by another server), and only watched here."""


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


@dataclass(frozen=True)
class Usage(Shape):
    """How much of something is used, in GiB."""

    used_gib: float
    total_gib: float


@dataclass(frozen=True)
class GPUUse(Shape):
    name: str
    utilization: float | None = None
    """0 to 1."""
    memory: Usage | None = None


@dataclass(frozen=True)
class Metrics(Shape):
    """What ``GET computes/{id}/metrics`` answers. What is not known is None."""

    compute: str
    as_of: str
    cpu: float | None = None
    """0 to 1, of all CPUs."""
    memory: Usage | None = None
    """Of the free tier: what counts against its limit."""
    disk: Usage | None = None
    """The file system of the home folder; of the free tier: the user's data against its limit."""
    gpus: tuple[GPUUse, ...] = ()


@dataclass(frozen=True)
class Module(Shape):
    """A module that a notebook imports, as seen from a kernel on a VM."""

    name: str
    package: str
    """What to install for it; empty where that is not known, or it is not missing."""
    state: str
    """present, missing, local (beside the notebook) or unknown."""


class GPUGrade(str, enum.Enum):
    """Whether a GPU is worth its price for a notebook."""

    NEEDED = "needed"
    GAINS = "gains"
    NO_GAIN = "no_gain"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class GPUEvidence(Shape):
    """What a grade follows from: one thing that the notebook does with a library."""

    library: str
    cell: int
    """Of the code cells, from 1."""
    call: str
    """As it is written; empty for an import."""
    weight: str
    """needs, gains, could (as it is called it computes on the CPU) or none."""
    text: str
    """A sentence."""
    source: str
    """The page of the library's documentation."""


@dataclass(frozen=True)
class Fit(Shape):
    """Something the notebook could run on."""

    compute: str | None
    """None: a size that a machine could have."""
    name: str
    size: Size | None
    price: Price | None
    state: str
    """In words."""
    gpu: bool
    fits: bool | None
    """Whether its memory is enough; None where that is not known."""
    best: bool = False
    """The one that is meant by the advice."""


@dataclass(frozen=True)
class Advice(Shape):
    """What ``POST kernels/{id}/advice`` answers: CPU or GPU for a notebook, and what fits."""

    gpu: GPUGrade
    sentences: tuple[str, ...]
    """The first says which."""
    evidence: tuple[GPUEvidence, ...] = ()
    memory_gib: float | None = None
    """What it needs, as far as that is known."""
    fits: tuple[Fit, ...] = ()


class WorkspaceState(str, enum.Enum):
    OFF = "off"
    """These files do not travel; ``text`` says why."""
    WAITING = "waiting"
    """Something has changed, or may have, and is looked at in a moment; or the VM is out of reach."""
    COPYING = "copying"
    IN_STEP = "in_step"
    CONFLICTS = "conflicts"
    """In step, but for what both sides had changed: both versions are there."""
    HALTED = "halted"
    """Nothing was done, because it looked wrong; ``problem`` says what, and a forced sync does it."""
    FAILED = "failed"


@dataclass(frozen=True)
class WorkspaceConflict(Shape):
    """A file that both sides had changed. This server's version has the name, the other is kept beside it."""

    path: str
    """Relative to the workspace."""
    kept_as: str
    """Where the VM's version is."""


@dataclass(frozen=True)
class WorkspaceFile(Shape):
    """A file that stayed where it was."""

    path: str
    size: int | None = None
    """Bytes."""
    reason: str = ""


@dataclass(frozen=True)
class WorkspaceRecord(Shape):
    """A row of ``GET workspaces``: a folder here whose files are on a VM too."""

    id: str
    compute: str
    folder: str
    """Relative to the server's root; "" is the root itself."""
    kernels: tuple[str, ...]
    state: WorkspaceState
    text: str
    """What the panel says: "84 MB, in step"."""
    files: int = 0
    bytes: int = 0
    progress: float | None = None
    conflicts: tuple[WorkspaceConflict, ...] = ()
    left_there: tuple[WorkspaceFile, ...] = ()
    """On the VM only, since this server has no room for them."""
    skipped: tuple[WorkspaceFile, ...] = ()
    problem: Problem | None = None
    as_of: str | None = None
    """When both sides were last in step."""


@dataclass(frozen=True)
class WorkspaceEstimate(Shape):
    """What would travel with a notebook to a compute."""

    folder: str
    compute: str
    allowed: bool
    reason: str = ""
    """Why its files cannot travel; empty where they can."""
    files: int = 0
    bytes: int = 0
    """Of what would be copied; less where some of it is there already."""
    needs_yes: bool = False
    """More than ``DSVMService.sync_ask_above_mib``."""


@dataclass(frozen=True)
class Question(Shape):
    """What code of a notebook wants to do and a person has to allow, in the page: to start something that is billed."""

    id: str
    kind: str
    """start or resize."""
    kernel: str
    path: str | None
    compute: str
    text: str
    """The question, in sentences."""
    price: Price | None = None
    asked: str = field(default_factory=utc_now)


class SignInState(str, enum.Enum):
    SIGNED_OUT = "signed_out"
    PROMPTING = "prompting"
    SIGNED_IN = "signed_in"
    FAILED = "failed"


@dataclass(frozen=True)
class SignInStatus(Shape):
    """Who is signed in to the cloud, or how a sign-in stands.

    ``url`` and ``code`` are filled in the answer to whoever asked for the code, and nowhere else.
    """

    state: SignInState
    cloud: str | None = None
    method: str | None = None
    """device_code, pasted_token, token_file, environment, workload_identity, managed_identity or azure_cli."""
    account: str | None = None
    tenant: str | None = None
    tenants: tuple[str, ...] = ()
    """All tenants that somebody signed in to by name, the first being the one used elsewhere."""
    kept: bool = False
    """Whether it outlives the server, in the encrypted store."""
    id: str | None = None
    """Of the attempt that was begun or asked for."""
    url: str | None = None
    code: str | None = field(default=None, repr=False)
    expires: str | None = None
    error: Problem | None = None
