"""CPU or GPU for a notebook."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .computes import Price, Size
from .shape import Shape


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
