"""The rules of what a new VM can be called and be like, as far as they need nobody else: pure, raises our errors.

Called by ``preflight``. Sources: naming rules
https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules; reserved words
https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-reserved-resource-name; names of the
administrator, from the description of ``osProfile.adminUsername`` in
https://learn.microsoft.com/rest/api/compute/virtual-machines/create-or-update.
"""

from __future__ import annotations

import ipaddress
import re

from ...errors import BadRequest, ConfigurationError

LONGEST_NAME = 59
"""64 for a Linux VM and for a virtual network, whose name is the VM's and ``-vnet``."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII)
_RESERVED = re.compile(r"microsoft|windows|\A(?:login|xbox)", re.IGNORECASE)
_GROUP = re.compile(r"[-\w.()]{0,89}[-\w()]")
_LOCATION = re.compile(r"[a-z0-9]{2,40}", re.ASCII)
_SIZE = re.compile(r"[A-Za-z0-9_-]{2,80}", re.ASCII)

_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
"""What useradd of the image's Ubuntu takes; Azure alone would take up to 64 characters of almost any kind. Lower-case, since a
user name with capitals breaks the image's JupyterHub."""
FORBIDDEN_ACCOUNTS = frozenset(
    (
        "administrator", "admin", "user", "user1", "test", "user2", "test1", "user3", "admin1", "1", "123", "a", "actuser",
        "adm", "admin2", "aspnet", "backup", "console", "david", "guest", "john", "owner", "root", "server", "sql", "support",
        "support_388945a0", "sys", "test2", "test3", "user4", "user5",
    )
)  # fmt: skip

SMALLEST_DISK, LARGEST_DISK = 30, 4095
"""GiB; above that Azure boots from no disk (https://learn.microsoft.com/azure/virtual-machines/managed-disks-overview)."""
WIDEST = 24
"""The shortest prefix of a source network that somebody other than the administrator may open the SSH port to."""


def check_name(name: str) -> None:
    """Raises ``BadRequest``: the name becomes a VM's, its host's and, with endings, those of its network."""
    problem = ""
    if not name:
        problem = "it is empty"
    elif len(name) > LONGEST_NAME:
        problem = f"it has {len(name)} characters"
    elif not _NAME.fullmatch(name):
        problem = "it has other characters than letters, digits and hyphens, or a hyphen at an end"
    elif name.isdigit():
        problem = "it has digits only"
    elif name.lower() == "free":
        problem = "that is what the free tier is called"
    elif _RESERVED.search(name):
        problem = (
            "it has a word in it that Azure keeps for itself (microsoft, windows, or login or xbox at the beginning)"
        )
    if problem:
        raise BadRequest(
            f"{name[:80]!r} cannot be the name of a VM: {problem}.",
            advice=f"Use 1 to {LONGEST_NAME} letters, digits and hyphens, such as gpu-vm.",
            code="BadName",
        )


def check_group(name: str) -> None:
    if not _GROUP.fullmatch(name):
        raise BadRequest(
            f"{name[:80]!r} cannot be the name of a resource group.",
            advice="Azure takes up to 90 letters, digits, and - _ . ( ), not with a full stop at the end.",
            code="BadName",
        )


def check_location(text: str) -> str:
    """``West Europe`` as ``westeurope``."""
    name = text.replace(" ", "").lower()
    if not _LOCATION.fullmatch(name):
        raise BadRequest(
            f"{text[:80]!r} is no region of Azure.", advice="Name one such as westeurope.", code="BadLocation"
        )
    return name


def check_size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise BadRequest(
            f"{text[:80]!r} is no size of a VM.", advice="Name one such as Standard_D4ds_v5.", code="BadSize"
        )
    return text


def check_disk(gib: int | None) -> None:
    if gib is not None and not SMALLEST_DISK <= gib <= LARGEST_DISK:
        raise BadRequest(
            f"The disk cannot have {gib} GiB.",
            advice=f"Azure takes {SMALLEST_DISK} to {LARGEST_DISK} GiB, and no less than the image has; without a number it is "
            "as large as the image.",
            code="BadDisk",
        )


def check_account(name: str, setting: str) -> None:
    """``setting`` is where it comes from, for the message."""
    if name.lower() in FORBIDDEN_ACCOUNTS or not _ACCOUNT.fullmatch(name):
        raise ConfigurationError(
            f"{setting} is {name[:80]!r}, which cannot be the account of a new VM: Azure or Ubuntu does not take that name.",
            advice="Set AzureCompute.create_admin to a name of lower-case letters, digits, - and _, such as azureuser.",
        )


def source_network(text: str, by_administrator: bool) -> str:
    """An address or a network as the rule takes it (``203.0.113.7/32``). Raises ``BadRequest``, or ``ConfigurationError`` for the
    administrator's own."""
    kind = ConfigurationError if by_administrator else BadRequest
    where = "AzureCompute.create_source_address" if by_administrator else "The address that may reach the VM"
    try:
        network = ipaddress.IPv4Network(text.strip())  # the VM's public address is one of IPv4
    except ValueError:
        raise kind(
            f"{where} is {text[:60]!r}, which is neither an IPv4 address nor a network of them.",
            advice="Write 203.0.113.7, or 203.0.113.0/24 with nothing but zeros after the prefix.",
            code="BadAddress",
        ) from None
    if network.prefixlen == 0:
        raise kind(f"{where} is the whole internet.", advice="Name this server's public address.", code="BadAddress")
    if network.is_loopback or network.is_link_local or network.is_multicast or network.is_unspecified:
        raise kind(
            f"{where} is {text[:60]!r}, from which nothing comes over a network.",
            advice="Name this server's public address.",
            code="BadAddress",
        )
    if not by_administrator and network.prefixlen < WIDEST:
        raise kind(
            f"{text[:60]!r} opens the SSH port to more addresses than a /{WIDEST} has.",
            advice="Name this server's own public address. Wider networks are the administrator's to allow "
            "(AzureCompute.create_source_address).",
            code="BadAddress",
        )
    return str(network)
