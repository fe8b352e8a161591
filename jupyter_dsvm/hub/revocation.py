"""Which certificates are not good any more although their time is not over: OpenSSH's key revocation list. Pure.

sshd reads it from the file that ``RevokedKeys`` names; it takes no plain list of serial numbers. The format is OpenSSH's
PROTOCOL.krl, version 1, written without signatures as ``ssh-keygen -k`` does. Only certificates that are not over are worth a place
in it, so it is short: ``still_good`` leaves the others out.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping

from ..ssh.hostkeys import HostKey

MAGIC = 0x5353484B524C0A00
"""``SSHKRL\\n\\0``."""

VERSION = 1
CERTIFICATES = 1
SERIAL_LIST = 0x20

LONGEST_SKEW = 300.0
"""Seconds by which a VM's clock may be behind: until then a certificate that is over is still in the list."""


def still_good(revoked: Iterable[tuple[int, float]], now: float) -> list[int]:
    """Of (serial, end) those serials that a VM might still take."""
    return sorted(serial for serial, until in revoked if until + LONGEST_SKEW > now)


def revocation_list(serials: Mapping[str, Collection[int]], version: int, now: float) -> bytes:
    """By the public line of each authority key, the serials of certificates that it has signed. ``version`` grows."""
    data = struct.pack(">QIQQQ", MAGIC, VERSION, version, int(now), 0) + _text(b"") + _text(b"jupyter-dsvm")
    for public_line, numbers in serials.items():
        if not numbers:
            continue
        ordered = sorted(set(numbers))
        listed = struct.pack(f">{len(ordered)}Q", *ordered)
        section = _text(HostKey.parse(public_line).blob) + _text(b"") + bytes([SERIAL_LIST]) + _text(listed)
        data += bytes([CERTIFICATES]) + _text(section)
    return data


def _text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
