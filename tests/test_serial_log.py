"""Host keys from a VM's serial log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure.serial_log import address, host_keys
from jupyter_dsvm.errors import ComputeError
from jupyter_dsvm.ssh.hostkeys import HostKey

ED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVkmVSFyBBzQ4r5u0r7PKxBZ5cXl5V8cPjyYYpYbV5A"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVkmVSFyBBzQ4r5u0r7PKxBZ5cXl5V8cPjyYYpYbV5B"
ARM = "https://management.azure.com"


def block(*lines: str) -> str:
    return "\r\n".join(["-----BEGIN SSH HOST KEY KEYS-----", *lines, "-----END SSH HOST KEY KEYS-----", ""])


def test_the_last_complete_block_counts():
    text = (
        f"{OTHER}\n"
        + block(f"{OTHER} root@vm")
        + "login: \n"
        + block("ssh-dss AAAA", f"[   9.1] cloud-init[9]: {ED} root@vm")
    )
    assert host_keys(text) == (HostKey.parse(ED),)
    assert host_keys(text + "-----BEGIN SSH HOST KEY KEYS-----\n" + OTHER) == (HostKey.parse(ED),)


@given(st.text(max_size=200))
def test_whatever_else_is_there_is_none(text: str):
    assert host_keys(text) == ()
    assert host_keys(block(text)) == ()


@pytest.mark.parametrize(
    "url",
    [
        "https://lab.blob.core.windows.net/bootdiagnostics-x/vm.serialconsole.log?sig=abc",
        "https://md-x.z30.blob.storage.azure.net/bootdiagnostics-x/vm.serialconsole.log?sig=abc",
    ],
)
def test_a_place_of_azures(url: str):
    assert address({"serialConsoleLogBlobUri": url}, ARM) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://lab.blob.core.windows.net/x",
        "https://blob.core.windows.net.example.org/x",
        "https://example.org/x.blob.core.windows.net",
        "https://lab.blob.core.windows.net:8443/x",
        "https://lab.blob.core.windows.net@example.org/x",
        "http://127.0.0.1:1/x",
        "file:///etc/passwd",
        "https://[",
    ],
)
def test_any_other_place_is_refused(url: str):
    with pytest.raises(ComputeError) as refused:
        address({"serialConsoleLogBlobUri": url}, ARM)
    assert refused.value.code == "NoSerialLog"
    with pytest.raises(ComputeError):
        address(None, ARM)


def test_a_stand_in_on_loopback_is_its_own_place():
    url = "http://127.0.0.1:4711/x"
    assert address({"serialConsoleLogBlobUri": url}, "http://127.0.0.1:4711") == url
