"""Where a machine that a user names may be."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from jupyter_dsvm.errors import ConfigurationError, NotAllowed, Unreachable
from jupyter_dsvm.models import SSHTarget
from jupyter_dsvm.ssh import addresses
from jupyter_dsvm.ssh.addresses import check
from jupyter_dsvm.ssh.connection import SSHConnection
from jupyter_dsvm.ssh.hostkeys import HostKeys


def own_address() -> str:
    """One that this computer has besides loopback; skips the test where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this computer has no network")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1", "this computer itself"),
        ("127.99.1.2", "this computer itself"),
        ("::1", "this computer itself"),
        ("::ffff:127.0.0.1", "this computer itself"),
        ("64:ff9b::7f00:1", "this computer itself"),
        ("2002:7f00:1::", "this computer itself"),
        ("0.0.0.0", "no address of any machine"),
        ("::", "no address of any machine"),
        ("169.254.169.254", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "many machines"),
        ("ff02::1", "many machines"),
        ("255.255.255.255", "many machines"),
        ("168.63.129.16", "the cloud's own service"),
    ],
)
def test_what_is_near_this_server_is_refused(address: str, says: str):
    with pytest.raises(NotAllowed, match=says) as refused:
        check("lab", "lab.example.org", ["192.0.2.9", address], ["10.0.0.0/8"])
    assert refused.value.code == "AddressNotAllowed"
    assert "SSHHosts.allowed_addresses" in refused.value.advice


def test_addresses_of_this_computer_are_refused():
    with pytest.raises(NotAllowed, match="an address of this computer"):
        check("lab", "lab", [own_address()], [])


def test_the_hub_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://192.0.2.80:8081/hub/api")
    with pytest.raises(NotAllowed, match="the hub that this server belongs to"):
        check("lab", "lab", ["192.0.2.80"], [])
    check("lab", "lab", ["192.0.2.81"], [])
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://no.such.name.invalid:8081/hub/api")
    check("lab", "lab", ["192.0.2.80"], [])


@pytest.mark.parametrize("allowed", ["127.0.0.0/8", "127.0.0.1", "LAB", "lab.example.org", "::/0 ,127.0.0.1/32"])
def test_what_the_administrator_lists_is_not(allowed: str):
    check("lab", "lab.example.org", ["127.0.0.1"], [part.strip() for part in allowed.split(",")])


def test_ordinary_addresses():
    check("lab", "lab", ["10.1.2.3", "192.168.7.7", "8.8.8.8", "2606:4700::1"], [])


@pytest.mark.parametrize("wrong", ["127.0.0.1/99", "x/8", " "])
def test_a_wrong_list(wrong: str):
    with pytest.raises(ConfigurationError, match="no network"):
        check("lab", "lab", ["10.1.2.3"], [wrong])


def test_the_connection_goes_to_the_addresses_that_were_looked_at(monkeypatch: pytest.MonkeyPatch):
    """A name that means something else the second time it is asked for gets nobody anywhere."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "rebinding.example.org":
            return real(host, *arguments, **options)
        asked.append(host)
        return real("192.0.2.1" if len(asked) == 1 else "127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = SSHTarget("host:x", "x", "rebinding.example.org", listener.getsockname()[1], allowed_addresses=())
        with pytest.raises(Unreachable):
            SSHConnection(target).connect(HostKeys(known_hosts=[]), timeout=1.0)
        with pytest.raises(NotAllowed):
            SSHConnection(target).connect(HostKeys(known_hosts=[]), timeout=1.0)
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert len(asked) == 2, "once for each connection"
    assert addresses.plain("10.0.0.1").version == 4
