"""Which sizes a VM could have, and why not: pure, from what Azure's own lists say of the sizes and the model of the VM.

Called by the provider for ``sizes`` and before a resize. ``RULES`` are what keeps a size from being had, ``CAVEATS`` what
is to be known of one that can; the first rule that speaks is the reason that is shown. What is not known keeps nothing
from being had: Azure says no itself then, and the resize is undone.

Sources: https://learn.microsoft.com/azure/virtual-machines/sizes/resize-vm, …/resource-skus (capabilities), the size pages
and their list of retirements, and the known issues of the Data Science VM.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from ...models import OS, PowerState, Price, Size, SizeOffer
from .machine import Hardware, VirtualMachine
from .sizes import gpu_model, short
from .sizes import size as size_of
from .skus import Sku, Usage

REGIONAL, SPOT = "cores", "lowprioritycores"
"""Names in the list of usages: the region's quota, and the one for Spot VMs of all families."""

RETIREMENTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"nc\d+r?$|nc\d+rs?_v2$|nd\d+r?s$|nv\d+$"), "2023"),
    (re.compile(r"nc\d+r?s_v3$"), "2025-09-30"),
    (re.compile(r"nv\d+s_v3$|nv\d+as_v4$"), "2026-09-30"),
    (re.compile(r"np\d+s$"), "2027-05-31"),
    (re.compile(r"ds?\d+_v2$"), "2028-05-01"),
    (re.compile(r"b\d+l?m?s$|a\d+m?_v2$|f\d+s?$"), "2028-11-15"),
    (re.compile(r"[de]\d+s?_v3$"), "2029-11-15"),
)
"""By the short name, where the list of sizes does not say itself."""


@dataclass(frozen=True)
class Question:
    """A VM and what it could become one of."""

    machine: VirtualMachine
    hardware: Hardware
    present: Sku | None
    """Its size now, as the list has it; None if the list does not: it is retired, or not for this subscription."""
    quotas: Mapping[str, Usage]
    accelerated: bool | None = None
    """Whether one of its network interfaces has accelerated networking; None if that could not be read."""
    no_gpus: str = ""
    """A sentence if the subscription is of a kind that gets no GPU."""
    today: str = ""
    """ISO 8601; the day that retirements are compared with."""

    @property
    def running(self) -> bool:
        """Whether it has hardware, whose cores count in the quotas until it is released."""
        return self.machine.compute.power_state is not PowerState.DEALLOCATED

    @property
    def own_cores(self) -> int:
        """What a release gives back to the quotas."""
        size = self.machine.compute.size
        known = self.present.vcpus if self.present else size_of(size.name).vcpus if size else None
        return (known or 0) if self.running else 0


Rule = Callable[[Question, Sku], str]
"""A sentence, or nothing."""


# -- what keeps a size from being had ----------------------------------------------------------------------------------


def _architecture(q: Question, sku: Sku) -> str:
    own = q.present.architecture.lower() if q.present and q.present.architecture else "x64"
    theirs = sku.architecture.lower()
    return f"Its processors are {sku.architecture}, and the VM's image is for {own}." if theirs not in ("", own) else ""


def _confidential(q: Question, sku: Sku) -> str:
    if sku.confidential and q.hardware.security != "ConfidentialVM":
        return "It is for confidential VMs, which this one is not and cannot become."
    if not sku.confidential and q.hardware.security == "ConfidentialVM":
        return "This is a confidential VM, and the size is not for those."
    return ""


def _generation(q: Question, sku: Sku) -> str:
    own = q.machine.generation
    if not own or not sku.generations or own in sku.generations:
        return ""
    if own == "V1":
        return "It needs a generation 2 VM, and this one is generation 1; it can be upgraded in the Azure portal."
    return "It boots generation 1 VMs only, and this one is generation 2."


def _trusted_launch(q: Question, sku: Sku) -> str:
    lacks = q.hardware.security == "TrustedLaunch" and not sku.trusted_launch
    return "It has no Trusted Launch, which this VM was made with." if lacks else ""


def _disk_controller(q: Question, sku: Sku) -> str:
    own = q.hardware.disk_controller
    if not sku.disk_controllers or own.lower() in {c.lower() for c in sku.disk_controllers}:
        return ""
    theirs = " and ".join(sorted(sku.disk_controllers))
    return f"Its disks are attached by {theirs}, and this VM's by {own}; that cannot be changed here."


def _temporary_disk(q: Question, sku: Sku) -> str:
    """With Linux it is a warning: Azure's own pages do not agree."""
    return _disk_difference(q, sku) if q.machine.compute.os is OS.WINDOWS else ""


def _disk_difference(q: Question, sku: Sku) -> str:
    if q.present is None or None in (q.present.temporary_disk, sku.temporary_disk):
        return ""
    if q.present.temporary_disk and not sku.temporary_disk:
        return "It has no temporary disk, and the present size has one."
    if sku.temporary_disk and not q.present.temporary_disk:
        return "It has a temporary disk, and the present size has none."
    return ""


def _premium(q: Question, sku: Sku) -> str:
    premium = sorted(kind for kind in q.hardware.disk_types if kind.lower().startswith("premium"))
    return (
        f"It takes no premium disks, and this VM has one ({premium[0]})." if premium and not sku.premium_disks else ""
    )


def _data_disks(q: Question, sku: Sku) -> str:
    most, own = sku.max_data_disks, q.hardware.data_disks
    return f"It takes {most} data disks at most, and this VM has {own}." if most is not None and most < own else ""


def _interfaces(q: Question, sku: Sku) -> str:
    most, own = sku.max_interfaces, len(q.hardware.interfaces)
    return (
        f"It takes {most} network interfaces at most, and this VM has {own}." if most is not None and most < own else ""
    )


def _accelerated(q: Question, sku: Sku) -> str:
    lacks = q.accelerated is True and sku.accelerated is False
    return "It has no accelerated networking, which is switched on for this VM's network interface." if lacks else ""


def _zone(q: Question, sku: Sku) -> str:
    own = frozenset(q.machine.zones)
    missing = own - (sku.zones - sku.restricted_zones)
    if not own or not missing or not sku.family:  # a list that says no family says no zones either
        return ""
    return f"Azure does not offer it in zone {', '.join(sorted(missing))} of {q.machine.compute.location}, where this VM is."


def _restricted(q: Question, sku: Sku) -> str:
    if not sku.restricted:
        return ""
    gpus = f" {q.no_gpus}" if sku.gpus and q.no_gpus else ""
    if sku.restricted == "QuotaId":
        return f"This kind of subscription does not get it in {q.machine.compute.location}.{gpus}"
    if sku.restricted == "NotAvailableForSubscription":
        return f"Azure does not offer it to this subscription in {q.machine.compute.location}.{gpus}"
    return f"Azure does not offer it in {q.machine.compute.location} ({sku.restricted}).{gpus}"


def _quota(q: Question, sku: Sku) -> str:
    """The VM's own cores are free again once it is released."""
    if sku.vcpus is None:
        return ""
    for name in (SPOT,) if q.hardware.spot else (sku.family.lower(), REGIONAL):
        usage = q.quotas.get(name)
        if usage is None:
            continue
        # Of a size that the list does not have, the family is not known: it may be this one.
        own = q.own_cores if q.present is None or name in (q.present.family.lower(), REGIONAL, SPOT) else 0
        left = usage.limit - usage.used + own
        if sku.vcpus <= max(0, left):
            continue
        what = {REGIONAL: "all sizes of the region", SPOT: "Spot VMs"}.get(name, f"its family ({sku.family})")
        if usage.limit == 0:
            return f"The subscription's quota for {what} is 0. {q.no_gpus if sku.gpus else ''}".strip()
        return f"It needs {sku.vcpus} cores of the quota for {what}, of which {max(0, left)} of {usage.limit} are left."
    return ""


RULES: tuple[Rule, ...] = (
    _architecture, _confidential, _generation, _trusted_launch, _disk_controller, _temporary_disk, _premium, _data_disks,
    _interfaces, _accelerated, _zone, _restricted, _quota,
)  # fmt: skip
"""The lasting reasons come first: a quota can be raised, a generation hardly."""


def reasons(question: Question, sku: Sku) -> list[str]:
    """Why this VM cannot have that size; empty if it can, as far as is known."""
    return [said for rule in RULES if (said := rule(question, sku))]


# -- what is to be known of one that can be had ------------------------------------------------------------------------


def _difference(q: Question, sku: Sku) -> str:
    difference = _disk_difference(q, sku) if q.machine.compute.os is OS.LINUX else ""
    return f"{difference} Azure may refuse that; then the VM keeps its size." if difference else ""


def _drivers(q: Question, sku: Sku) -> str:
    """The image has the CUDA driver 535, made for NVIDIA's compute GPUs up to Hopper."""
    name, model = short(sku.name), gpu_model(sku.name) or ""
    if re.match(r"n[vg]\d", name):
        return "The image's GPU drivers do not work on NV sizes, which are for graphics."
    if model.startswith("AMD"):
        return f"The image's drivers are for NVIDIA GPUs, and this one is an {model}."
    if "Blackwell" in model or "GB200" in model or "GB300" in model:
        return f"The image's GPU driver (535) is too old for {model}: install a newer one."
    return ""


def _fabric_manager(q: Question, sku: Sku) -> str:
    needs = re.match(r"nd96(amsr_a100|asr)_v4$", short(sku.name))
    return "Its GPUs work only once nvidia-fabricmanager is installed and runs." if needs else ""


def _secure_boot(q: Question, sku: Sku) -> str:
    doubtful = sku.gpus and q.hardware.secure_boot
    return "Secure Boot is on for this VM and may keep the GPU's driver from loading." if doubtful else ""


def _retirement(q: Question, sku: Sku) -> str:
    day = retired_on(sku)
    if not day:
        return ""
    return f"Azure has retired this size ({day})." if day <= q.today else f"Azure retires this size ({day})."


def _unheard(q: Question, sku: Sku) -> str:
    return "" if sku.family else "The account may not read what this size can do; Azure itself decides."


CAVEATS: tuple[Rule, ...] = (_difference, _drivers, _fabric_manager, _secure_boot, _retirement, _unheard)


def warnings(question: Question, sku: Sku) -> tuple[str, ...]:
    return tuple(said for caveat in CAVEATS if (said := caveat(question, sku)))


def retired_on(sku: Sku) -> str:
    """ISO 8601; empty where no day is known."""
    name = short(sku.name)
    return sku.retires or next((day for pattern, day in RETIREMENTS if pattern.match(name)), "")


# -- the list ----------------------------------------------------------------------------------------------------------


def described(sku: Sku) -> Size:
    """What the list says, and of the GPU's model the table. A sixth of a GPU is shown as one."""
    known = size_of(sku.name)
    vcpus = sku.usable_vcpus or sku.vcpus
    return Size(
        sku.name,
        vcpus if vcpus is not None else known.vcpus,
        sku.memory_gib if sku.memory_gib is not None else known.memory_gib,
        sku.gpus if sku.family else known.gpus,
        gpu_model(sku.name),
    )


def offers(
    question: Question, skus: Iterable[Sku], prices: Mapping[str, Price], impossible: str = ""
) -> list[SizeOffer]:
    """Every size of the region; those that can be had first, and of these last what the image's drivers do not work on.

    Args:
        question: The VM.
        skus: What the region has.
        prices: By the name in lower case.
        impossible: Why this VM cannot be resized at all, if it cannot.
    """
    own = (question.machine.compute.size.name if question.machine.compute.size else "").lower()
    rows: list[tuple[tuple[object, ...], SizeOffer]] = []
    for sku in skus:
        current = sku.name.lower() == own
        against = [] if current else [impossible] if impossible else reasons(question, sku)
        offer = SizeOffer(
            size=described(sku),
            price=prices.get(sku.name.lower()),
            current=current,
            available=not against,
            reason=against[0] if against else "",
            warnings=warnings(replace(question, present=sku) if current else question, sku),
        )
        rows.append((_order(question, sku, offer), offer))
    if own and all(offer.size.name.lower() != own for _, offer in rows) and question.machine.compute.size:
        gone = SizeOffer(question.machine.compute.size, prices.get(own), current=True)
        rows.append(((False, False, False, bool(gone.size.gpus), gone.size.vcpus or 0, 0.0, own), gone))
    return [offer for _, offer in sorted(rows, key=lambda row: row[0])]


def _order(question: Question, sku: Sku, offer: SizeOffer) -> tuple[object, ...]:
    retired = "" < retired_on(sku) <= question.today
    size = offer.size
    drivers = bool(_drivers(question, sku))
    return (
        not offer.available, drivers, retired, bool(size.gpus), size.vcpus or 0, size.memory_gib or 0.0, sku.name.lower(),
    )  # fmt: skip


def impossible(machine: VirtualMachine, hardware: Hardware) -> str:
    """Why this VM cannot be resized at all; empty if it can."""
    if machine.compute.hibernated:
        return (
            f"{machine.name} is hibernated: its memory is kept for the size it has, so it can only be started as it is. Start it "
            "and shut down what runs there; then it can be resized."
        )
    if hardware.ephemeral:
        return (
            f"{machine.name} has an ephemeral OS disk, which is lost when a VM is released; so it cannot be released, and not be "
            "resized here. Make a new VM of the size you want."
        )
    return ""


def notice(machine: VirtualMachine, hardware: Hardware) -> str:
    """What a resize does to this VM; or why it cannot be resized at all."""
    hindered = impossible(machine, hardware)
    if hindered:
        return hindered
    linux = machine.compute.os is OS.LINUX
    temporary = "the temporary disk (/mnt)" if linux else "the temporary disk (D:)"
    said = []
    if machine.compute.power_state is PowerState.DEALLOCATED:
        said.append(f"{machine.name} is off and stays off; its disks stay as they are.")
    else:
        said.append(
            f"{machine.name} is released, changed and started again: what runs there ends, and files on {temporary} are lost. Its "
            "disks stay, and its address may change."
        )
        said.append(
            "Azure may give its place to others meanwhile. If there is none for the new size, the VM gets its old one again and "
            "is started, if there is still room for that; if not, it stays off, with its disks."
        )
    if machine.generation == "V1":
        said.append(
            "It is a generation 1 VM, so sizes that need generation 2 (A100, H100 and newer) are out of reach; it can be "
            "upgraded to generation 2 in the Azure portal."
        )
    if hardware.availability_set:
        said.append(
            "It is in an availability set, whose hardware may not have every size while other VMs of the set are not released."
        )
    return " ".join(said)


def today() -> str:
    return date.today().isoformat()
