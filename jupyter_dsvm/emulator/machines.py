"""What the emulated Azure holds: subscriptions, sizes and machines. Data only; ``arm.py`` gives them a life.

Image names are those of the marketplace (publisher, offer, sku), sizes those of Azure's size pages; what a size holds was
read from https://learn.microsoft.com/azure/virtual-machines/sizes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TENANT_ID = "7e5d3c1a-94b2-4f60-8d17-2c6a0b9e4f31"


@dataclass(frozen=True)
class Tenant:
    id: str
    name: str
    domain: str


HOME = Tenant(TENANT_ID, "Example University", "example.com")


@dataclass(frozen=True)
class Subscription:
    id: str
    name: str
    quota_id: str = "PayAsYouGo_2014-09-01"
    """The offer; ``FreeTrial_2014-09-01`` and ``AzureForStudents_2018-01-01`` have no GPUs."""
    tenant: str = TENANT_ID
    state: str = "Enabled"
    """``Disabled``: nothing in it can be changed."""
    forbidden: bool = False
    """The account sees that it is there, and nothing in it."""
    without_schedules: bool = False
    """It is not registered for Microsoft.DevTestLab."""
    actions: tuple[str, ...] = ("*",)
    """What the account may do there; looked at for auto-shutdown schedules."""

    @property
    def free(self) -> bool:
        return self.quota_id.startswith(("FreeTrial", "AzureForStudents"))


RESEARCH = Subscription("5b0a6f4e-3d52-4c8e-9a41-6f0e8d7c2b19", "Research")
TEACHING = Subscription("c27f9d03-81e6-4b5a-b3d4-0e94a6157f8c", "Teaching")
SUBSCRIPTIONS = (RESEARCH, TEACHING)


@dataclass(frozen=True)
class SizeInfo:
    vcpus: int
    memory_gib: int
    temporary_disk_gib: int
    family: str
    """The name of its quota."""
    usd: float | None
    """Per hour with Linux; None: the price list does not have it."""
    generations: tuple[str, ...] = ("V1", "V2")
    gpus: int = 0
    gpu_model: str = ""
    gpu_memory_mib: int = 0
    product: str = ""
    """Its name in the price list."""
    architecture: str = "x64"
    controllers: tuple[str, ...] = ()
    """Disk controllers; none: the list of sizes does not say, which means SCSI."""
    premium: bool = True
    accelerated: bool = True
    max_data_disks: int | None = None
    """None: twice the vCPUs, up to 64."""
    max_interfaces: int | None = None
    """None: half the vCPUs, from 2 to 8."""
    confidential: str = ""
    """``SNP``: for confidential VMs only."""
    retires: str = ""
    """``MM/DD/YYYY``."""
    cluster: str = "general"
    """The hardware it is on: a VM that is not released can only be changed to sizes of the same."""

    @property
    def data_disks(self) -> int:
        return min(2 * self.vcpus, 64) if self.max_data_disks is None else self.max_data_disks

    @property
    def interfaces(self) -> int:
        return max(2, min(8, self.vcpus // 2)) if self.max_interfaces is None else self.max_interfaces


_T4 = ("Tesla T4", 15360, "Virtual Machines NCasT4 v3 Series")
_A100 = ("NVIDIA A100 80GB PCIe", 81920, "Virtual Machines NCadsA100v4 Series")
_H100 = ("NVIDIA H100 NVL", 95830, "Virtual Machines NCadsH100v5 Series")
_A10 = ("NVIDIA A10-24Q", 24512, "Virtual Machines NVadsA10v5 Series")
_NCT4, _NCA100 = "Standard NCASv3_T4 Family", "StandardNCADSA100v4Family"
_DDSV5, _DSV5 = "standardDDSv5Family", "standardDSv5Family"
SIZES: dict[str, SizeInfo] = {
    "Standard_D2ds_v5": SizeInfo(2, 8, 75, _DDSV5, 0.136),
    "Standard_D4ds_v5": SizeInfo(4, 16, 150, _DDSV5, 0.272),
    "Standard_D8ds_v5": SizeInfo(8, 32, 300, _DDSV5, 0.544),
    "Standard_D16ds_v5": SizeInfo(16, 64, 600, _DDSV5, 1.088),
    "Standard_D2s_v5": SizeInfo(2, 8, 0, _DSV5, 0.115),
    "Standard_D4s_v5": SizeInfo(4, 16, 0, _DSV5, 0.23),
    "Standard_B2s": SizeInfo(2, 4, 8, "standardBSFamily", 0.048, max_data_disks=4, max_interfaces=3, accelerated=False),
    "Standard_D2_v2": SizeInfo(
        2, 7, 100, "standardDv2Family", None, ("V1",), premium=False, max_data_disks=8, max_interfaces=2
    ),
    "Standard_D4d_v5": SizeInfo(
        4, 16, 150, "standardDDv5Family", None, premium=False, max_data_disks=8, max_interfaces=2
    ),
    "Standard_D4ps_v5": SizeInfo(
        4,
        16,
        0,
        "standardDPSv5Family",
        None,
        ("V2",),
        architecture="Arm64",
        max_data_disks=8,
        max_interfaces=2,
        cluster="arm",
    ),
    "Standard_D4s_v6": SizeInfo(
        4,
        16,
        0,
        "StandardDsv6Family",
        0.242,
        ("V2",),
        controllers=("NVMe",),
        max_data_disks=12,
        max_interfaces=2,
        cluster="v6",
    ),
    "Standard_DC4ads_v5": SizeInfo(
        4,
        16,
        150,
        "standardDCADSv5Family",
        None,
        ("V2",),
        confidential="SNP",
        accelerated=False,
        cluster="confidential",
    ),
    "Standard_E4ds_v5": SizeInfo(4, 32, 150, "standardEDSv5Family", None),
    "Standard_NC4as_T4_v3": SizeInfo(
        4, 28, 176, _NCT4, 0.658, ("V1", "V2"), 1, *_T4, max_data_disks=8, max_interfaces=2, cluster="t4"
    ),
    "Standard_NC8as_T4_v3": SizeInfo(
        8, 56, 352, _NCT4, 0.94, ("V1", "V2"), 1, *_T4, max_data_disks=16, max_interfaces=4, cluster="t4"
    ),
    "Standard_NC64as_T4_v3": SizeInfo(
        64, 440, 2816, _NCT4, 5.44, ("V1", "V2"), 4, *_T4, max_data_disks=32, cluster="t4"
    ),
    "Standard_NC24ads_A100_v4": SizeInfo(
        24, 220, 64, _NCA100, 4.775, ("V2",), 1, *_A100, max_data_disks=8, max_interfaces=2, cluster="a100"
    ),
    "Standard_NC48ads_A100_v4": SizeInfo(
        48, 440, 128, _NCA100, 9.55, ("V2",), 2, *_A100, max_data_disks=16, max_interfaces=4, cluster="a100"
    ),
    "Standard_NC40ads_H100_v5": SizeInfo(
        40,
        320,
        3576,
        "StandardNCadsH100v5Family",
        9.08,
        ("V2",),
        1,
        *_H100,
        controllers=("SCSI", "NVMe"),
        max_data_disks=8,
        max_interfaces=2,
        cluster="h100",
    ),
    "Standard_NV36ads_A10_v5": SizeInfo(
        36, 440, 1440, "StandardNVADSA10v5Family", 4.16, ("V1", "V2"), 1, *_A10, max_data_disks=32, cluster="a10"
    ),
}
"""Prices are those of West Europe in June 2026, from the Retail Prices API by way of Azure/karpenter-provider-azure."""

REQUIREMENTS = ("ipykernel", "ipywidgets", "scikit-learn")
"""What the Python of a Data Science VM has here; the real one has some hundred packages more."""


@dataclass(frozen=True)
class Machine:
    """One virtual machine as it is when the emulator starts."""

    name: str
    resource_group: str
    subscription: str
    size: str
    image: tuple[str, str, str]
    """Publisher, offer and sku of the marketplace image."""
    exact_version: str = "25.06.18"
    location: str = "westeurope"
    power: str = "deallocated"
    os: str = "Linux"
    generation: str = "V2"
    zones: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    entra_login: bool = False
    """Whether SSH there takes certificates of Entra's, as with the extension AADSSHLoginForLinux."""
    password: str = ""
    """Of the account, where SSH takes passwords there (VMs with accounts of their own only); empty: it takes none."""
    kernelspecs: tuple[tuple[str, str], ...] = (("python3", "Python 3 (DSVM)"),)
    """Name and display name of each kernel that the machine offers; each has a Python environment of its own."""
    requirements: tuple[str, ...] = REQUIREMENTS
    """What pip puts into those environments; none: the machine has no Python environment besides the system's."""

    ssh: bool = True
    """Whether there is a machine behind it; without, it is in Azure's lists only: a thousand of them cost nothing."""
    plan: tuple[str, str, str] | None = None
    """Publisher, product and name of its purchase plan."""
    gallery_image: tuple[str, str, str] | None = None
    """Publisher, offer and sku in the gallery image that it was made from; then ``image`` is not in its model."""
    graph_power: bool = True
    """Whether the Resource Graph knows its power state."""
    security: str = ""
    """``TrustedLaunch`` or ``ConfidentialVM``."""
    ephemeral: bool = False
    """The OS disk is on the host: it cannot be deallocated."""
    disk_controller: str = "SCSI"
    os_disk: str = "Premium_LRS"
    """Storage account type; those of the data disks are the same."""
    data_disks: int = 0
    interfaces: int = 1
    accelerated_networking: bool = False
    hibernation: bool = False
    """Whether it can be hibernated."""
    hibernated: bool = False
    """It is, when the emulator starts: ``power`` is ``deallocated`` then."""

    @property
    def has_ssh(self) -> bool:
        return self.ssh and self.os == "Linux"


UBUNTU_2204_DSVM = ("microsoft-dsvm", "ubuntu-2204", "2204-gen2")

STANDARD: tuple[Machine, ...] = (
    Machine(
        "cpu-vm",
        "notebooks",
        RESEARCH.id,
        "Standard_D4ds_v5",
        UBUNTU_2204_DSVM,
        power="running",
        tags={"team": "vision"},
    ),
    Machine(
        "gpu-vm",
        "notebooks",
        RESEARCH.id,
        "Standard_NC4as_T4_v3",
        UBUNTU_2204_DSVM,
        zones=("1",),
        tags={"team": "vision", "costCenter": "4711"},
        kernelspecs=(("python3", "Python 3 (DSVM)"), ("azureml_py310", "Python 3.10 - AzureML")),
    ),
    Machine(
        "web-server",
        "Web-Prod",
        RESEARCH.id,
        "Standard_B2s",
        ("canonical", "ubuntu-24_04-lts", "server"),
        exact_version="24.04.202505160",
        power="running",
        kernelspecs=(),
        requirements=(),
    ),
    Machine(
        "old-vm",
        "CLASSROOM",
        TEACHING.id,
        "Standard_D2ds_v5",
        ("microsoft-dsvm", "ubuntu-2004", "2004"),
        exact_version="25.02.13",
        location="northeurope",
        power="stopped",
        generation="V1",
    ),
    Machine(
        "win-vm",
        "classroom",
        TEACHING.id,
        "Standard_D4ds_v5",
        ("microsoft-dsvm", "dsvm-win-2022", "winserver-2022"),
        location="northeurope",
        os="Windows",
        kernelspecs=(),
        requirements=(),
    ),
)
"""What `jupyter dsvm emulator` shows: a running DSVM, a deallocated one with a GPU, a VM that is no DSVM, one that is
stopped (and still billed), and one with Windows; in two subscriptions."""

TWINS: tuple[Machine, ...] = (
    Machine("twin", "notebooks", RESEARCH.id, "Standard_D2ds_v5", UBUNTU_2204_DSVM),
    Machine("twin", "classroom", TEACHING.id, "Standard_D2ds_v5", UBUNTU_2204_DSVM, location="northeurope"),
)
"""Two of one name, to be added where ambiguous names are the subject."""


def save(machines: Iterable[Machine], path: Path) -> None:
    path.write_text(json.dumps([dataclasses.asdict(m) for m in machines], indent=1), encoding="utf-8")


def load(path: Path) -> Sequence[Machine]:
    """From the file that ``save`` wrote. Raises ``ValueError`` or ``TypeError`` where it is something else."""
    return [
        Machine(
            **{
                **row,
                "image": tuple(row["image"]),
                "zones": tuple(row["zones"]),
                "kernelspecs": tuple((name, title) for name, title in row["kernelspecs"]),
                "requirements": tuple(row["requirements"]),
                **{name: tuple(row[name]) for name in ("plan", "gallery_image") if row.get(name)},
            }
        )
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]
