"""Where a machine that a user names may be: not on this computer, nor on what stands beside it for its own use.

Whoever types a host name makes this server connect there. So that nobody reaches through it what only the server itself
should (its own services, a hub's, the cloud's metadata), such addresses are refused unless the administrator lists them.
A name is resolved once, by the connection, which goes to the very addresses that were looked at here. A machine behind a
``ProxyJump`` or ``ProxyCommand`` is resolved over there and not looked at: those run programs as the user, who could
connect without us.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from ..errors import ConfigurationError, NotAllowed

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

PLATFORM = {ipaddress.ip_address("168.63.129.16"), ipaddress.ip_address("fd00:ec2::254")}
"""Azure's own service for its VMs (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16), and the
metadata of another cloud; the one at 169.254.169.254 is link-local."""


def check(name: str, host: str, addresses: Iterable[object], allowed: Sequence[str]) -> None:
    """Raises ``NotAllowed`` if one of the ``addresses`` of ``host`` may not be connected to, ``ConfigurationError`` for a
    wrong list.

    ``name`` is what users call it. ``allowed``: names, addresses and networks that the administrator lists.
    """
    names, networks = _parsed(allowed)
    if {name.lower(), host.lower()} & names:
        return
    hub = _hub()
    for text in addresses:
        address = plain(str(text))
        why = "" if any(address in network for network in networks) else why_not(address, hub)
        if why:
            raise NotAllowed(
                f"{name} is not connected to: {host} is {address}, {why}.",
                advice="If notebooks are meant to run there, an administrator can list it in SSHHosts.allowed_addresses.",
                code="AddressNotAllowed",
            )


def plain(text: str) -> IPAddress:
    """An address without its scope, and as IPv4 where IPv6 only wraps that."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return inner or address
    return address


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def why_not(address: IPAddress, hub: Iterable[IPAddress] = ()) -> str:
    """Why a user may not send this server there, as the rest of a sentence; empty where they may."""
    if address.is_loopback:
        return "this computer itself"
    if address.is_unspecified:
        return "no address of any machine"
    if address.is_link_local:
        return "a link-local address, where clouds keep what is for this computer only"
    if address.is_multicast or address == ipaddress.ip_address("255.255.255.255"):
        return "an address of many machines"
    if address in PLATFORM:
        return "the cloud's own service for this computer"
    if address in hub:
        return "the hub that this server belongs to"
    return "an address of this computer" if _ours(address) else ""


def _ours(address: IPAddress) -> bool:
    """Whether it is this computer's: only then can something be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _hub() -> tuple[IPAddress, ...]:
    """Addresses of the JupyterHub that has started this server, if one has."""
    host = urlsplit(os.environ.get("JUPYTERHUB_API_URL", "")).hostname
    if not host:
        return ()
    try:
        return tuple(plain(str(row[4][0])) for row in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return ()


def _parsed(
    allowed: Sequence[str],
) -> tuple[set[str], list[ipaddress.IPv4Network | ipaddress.IPv6Network]]:
    names: set[str] = set()
    networks = []
    for entry in allowed:
        try:
            networks.append(ipaddress.ip_network(entry.strip(), strict=False))
        except ValueError:
            if "/" in entry or not entry.strip():
                raise ConfigurationError(
                    f"SSHHosts.allowed_addresses has {entry!r}, which is no network.",
                    advice="Its entries are addresses, networks such as 10.0.0.0/8, and names of hosts.",
                ) from None
            names.add(entry.strip().lower())
    return names, networks
