"""Who wants this machine kept on: one file per server, in a private folder of the account, so that two servers do not stop it
under each other.

The pipe writes and reads them for its server, which asks before it stops the machine. A lease ends by this machine's own count of
seconds since it was started (``CLOCK_BOOTTIME``), which no change of the wall clock reaches, and with the machine. Every change
and the claim to stop the machine are made under a lock of the folder: whoever claims it finds no other lease, and whoever comes
after finds the claim.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .folders import beside_kernels, lock_folder, private_folder, write_private
from .record import boot_id

LONGEST = 24 * 3600.0
"""Seconds; who wants it longer asks again."""

MOST = 64
LONGEST_FILE = 4096
LOCK_WAIT = 0.5
NEW = ".new"
STOPPING = "stopping"
"""The reason of a lease that is a claim to stop the machine."""

_HOLDER = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class Lease(NamedTuple):
    holder: str
    """A server's own name for itself, which lasts through its restarts."""
    left: float
    why: str

    def as_json(self) -> Dict[str, Any]:
        return {"holder": self.holder, "left": round(self.left, 1), "why": self.why}


class LeaseError(Exception):
    """What was asked for cannot be, with the reason."""


def seconds_up() -> float:
    """Since the machine was started, with the time that it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leases:
    def __init__(self, folder: Optional[str] = None) -> None:
        self.folder = folder if folder is not None else beside_kernels("leases")

    def read(self) -> List[Lease]:
        """Those that hold now, in the order of their holders' names. What is no lease of this run of the machine is left out."""
        now, boot = seconds_up(), boot_id()
        found = []
        try:
            names = sorted(os.listdir(private_folder(self.folder)))
        except OSError:
            return []
        for name in names:
            if name.endswith(NEW):
                continue
            lease = self._read(os.path.join(self.folder, name), now, boot)
            if lease is not None:
                found.append(lease)
        return sorted(found)

    def keep(self, holder: Any, seconds: Any, why: Any) -> List[Lease]:
        """Have the machine kept on for so long; 0 ends it. All that hold afterwards, of which one may be a claim to stop it.

        Raises ``LeaseError``, or ``OSError`` where the folder is not ours alone or the disk takes nothing.
        """
        holder, why = _checked(holder, why)
        if not _is_number(seconds) or not 0 <= seconds <= LONGEST:
            raise LeaseError(f"a lease is for 0 to {LONGEST:g} seconds, not {seconds!r}")
        if why == STOPPING:
            raise LeaseError("a claim to stop is none to keep on")
        lock = self._locked()
        try:
            self._write(holder, seconds, why)
            return self.read()
        finally:
            os.close(lock)

    def claim(self, holder: Any, seconds: Any) -> List[Lease]:
        """Claim that the machine is to be stopped, for so long. The leases of others, which are why it was not claimed; none if
        it is."""
        holder, _ = _checked(holder, STOPPING)
        if not _is_number(seconds) or not 0 < seconds <= LONGEST:
            raise LeaseError(f"a claim is for up to {LONGEST:g} seconds, not {seconds!r}")
        lock = self._locked()
        try:
            others = [lease for lease in self.read() if lease.holder != holder and lease.why != STOPPING]
            if not others:
                self._write(holder, seconds, STOPPING)
            return others
        finally:
            os.close(lock)

    def _locked(self) -> int:
        lock = lock_folder(private_folder(self.folder), LOCK_WAIT)
        if lock is None:
            raise LeaseError("another process on the machine holds the leases locked")
        return lock

    def _write(self, holder: str, seconds: float, why: str) -> None:
        now, boot = seconds_up(), boot_id()
        path = os.path.join(self.folder, hashlib.sha256(holder.encode()).hexdigest()[:32])
        for name in os.listdir(self.folder):
            other = os.path.join(self.folder, name)
            if other != path and self._read(other, now, boot) is None:
                _remove(other)
        if not seconds:
            _remove(path)
            return
        if not os.path.exists(path) and len(os.listdir(self.folder)) >= MOST:
            raise LeaseError(f"{MOST} servers keep the machine on already")
        value = {"holder": holder, "until": now + seconds, "boot": boot, "why": why}
        # Whole under its name or not there: who reads without the lock takes half of one for none.
        write_private(path + NEW, json.dumps(value).encode())
        os.replace(path + NEW, path)

    def _read(self, path: str, now: float, boot: str) -> Optional[Lease]:
        try:
            with open(path, "rb") as f:
                value = json.loads(f.read(LONGEST_FILE))
            holder, why = _checked(value["holder"], value["why"])
            left = float(value["until"]) - now
        except (OSError, ValueError, KeyError, TypeError, LeaseError):
            return None
        return Lease(holder, left, why) if value.get("boot") == boot and 0 < left <= LONGEST + 60 else None


def _checked(holder: Any, why: Any) -> Tuple[str, str]:
    if not isinstance(holder, str) or not _HOLDER.fullmatch(holder):
        raise LeaseError("a holder's name is 1 to 64 letters, digits and _ . : -")
    if not isinstance(why, str) or len(why) > 200 or not why.isprintable():
        raise LeaseError("a reason is a line of up to 200 characters")
    return holder, why


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
