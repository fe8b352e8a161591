"""How much of a compute is in use."""

from __future__ import annotations

from dataclasses import dataclass

from .shape import Shape


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
