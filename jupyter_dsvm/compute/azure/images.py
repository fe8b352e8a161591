"""Which VMs are Data Science VMs, by the marketplace image they were made from.

Called by the provider for each row of a listing. The table is from the DSVM release notes and documentation
(https://learn.microsoft.com/azure/machine-learning/data-science-virtual-machine/release-notes) and from images seen
in public infrastructure code; retired images stay in it, since VMs made from them still run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...models import OS

_LINUX, _WINDOWS = OS.LINUX, OS.WINDOWS

DSVM_IMAGES: dict[tuple[str, str], OS] = {
    ("microsoft-dsvm", "ubuntu-2204"): _LINUX,
    ("microsoft-dsvm", "ubuntu-2004"): _LINUX,
    ("microsoft-dsvm", "ubuntu-1804"): _LINUX,
    ("microsoft-dsvm", "linux-data-science-vm-ubuntu"): _LINUX,
    ("microsoft-ads", "linux-data-science-vm-ubuntu"): _LINUX,
    ("microsoft-ads", "linux-data-science-vm"): _LINUX,
    ("microsoft-dsvm", "dsvm-win-2022"): _WINDOWS,
    ("microsoft-dsvm", "dsvm-win-2019"): _WINDOWS,
    ("microsoft-dsvm", "dsvm-windows"): _WINDOWS,
    ("microsoft-ads", "windows-data-science-vm"): _WINDOWS,
    ("microsoft-ads", "standard-data-science-vm"): _WINDOWS,
    ("microsoft-ads", "dsvm-deep-learning"): _WINDOWS,
    # This spelling is in Microsoft's own guest-configuration documentation.
    ("microsoft-dvsm", "dsvm-win-2022"): _WINDOWS,
    ("microsoft-dvsm", "dsvm-win-2019"): _WINDOWS,
    ("microsoft-dvsm", "dsvm-windows"): _WINDOWS,
}
"""(publisher, offer), lower-case. Absent on purpose: microsoft-dsvm's ``ubuntu-hpc`` and ``aml-workstation``, which
are the HPC image and Azure ML's compute image, without JupyterHub and conda environments."""

PUBLISHERS = tuple(sorted({publisher for publisher, _ in DSVM_IMAGES}))


@dataclass(frozen=True)
class Recognised:
    """Why a VM counts as a DSVM."""

    image: str | None
    """``publisher:offer:sku``; None if only the tag says so and the image has no such name."""
    os: OS


def recognise(
    image: Mapping[str, Any] | None,
    plan: Mapping[str, Any] | None,
    tags: Mapping[str, str] | None,
    *,
    os_type: str | None,
    tag: str,
    gallery: Mapping[str, Any] | None = None,
    purchase_plan: Mapping[str, Any] | None = None,
) -> Recognised | None:
    """What kind of DSVM this is, or None if it is none.

    Args:
        image: The VM's ``storageProfile.imageReference``.
        plan: Its purchase plan, which survives in VMs made from a captured image.
        tags: Its tags.
        os_type: ``Linux`` or ``Windows``, as Azure says for the disk; it counts before the table.
        gallery: The ``identifier`` of the gallery image it was made from, and
        purchase_plan: that image's purchase plan: what whoever captured a DSVM said of it.
        tag: The tag by which users mark a VM as a DSVM themselves; ``false``, ``no`` and ``0`` unmark one.
    """
    marked = next((str(value).strip().lower() for key, value in _pairs(tags) if key.lower() == tag.lower()), None)
    if marked in {"false", "no", "0"}:
        return None
    identities = (
        _identity(image, "publisher", "offer", "sku"),
        _identity(plan, "publisher", "product", "name"),
        _identity(gallery, "publisher", "offer", "sku"),
        _identity(purchase_plan, "publisher", "product", "name"),
    )
    for publisher, offer, sku in identities:
        known = DSVM_IMAGES.get((publisher.lower(), offer.lower()))
        if known is not None:
            return Recognised(":".join((publisher, offer, sku)).rstrip(":"), _os(os_type) or known)
    if marked is not None:
        publisher, offer, sku = identities[0]
        return Recognised(f"{publisher}:{offer}:{sku}" if publisher else None, _os(os_type) or _LINUX)
    return None


def _identity(source: Mapping[str, Any] | None, *keys: str) -> tuple[str, str, str]:
    named = source if isinstance(source, Mapping) else {}
    first, second, third = (str(named.get(key) or "") for key in keys)
    return first, second, third


def _pairs(tags: Any) -> Iterable[tuple[str, Any]]:
    """A tag is what a user typed, and a row is what the graph says: neither need be a mapping of texts."""
    return [(str(key), value) for key, value in tags.items()] if isinstance(tags, Mapping) else []


def gallery_image(image: Any) -> str | None:
    """The resource id of the gallery image that a VM's ``imageReference`` names, without its version; else None."""
    given = str((image if isinstance(image, Mapping) else {}).get("id") or "")
    match = re.match(
        r"(/subscriptions/[^/]+/.+/galleries/[^/]+/images/[^/]+)(?:/versions/[^/]+)?/?$", given, re.IGNORECASE
    )
    return match[1] if match else None


def _os(os_type: str | None) -> OS | None:
    try:
        return OS(str(os_type or "").lower())
    except ValueError:
        return None
