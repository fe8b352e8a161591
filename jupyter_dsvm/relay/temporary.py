"""Files of this account on the machine's temporary disk, which are lost when Azure deallocates it: run by the attach pipe in a
process of its own.

Theory. Which disk that is, three things say, and a mount of which none of them speaks is not called temporary, since somebody may
have mounted a disk of their own at /mnt:

* ``PLACE`` in the account's environment, where an image has it elsewhere;
* the names that Azure's udev rules give it under ``/dev/disk`` (WALinuxAgent, azure-vm-utils, cloud-init);
* the warning that cloud-init and WALinuxAgent put into it, in ``/mnt``, ``/mnt/resource`` or where ``waagent.conf`` says.

NVMe temporary disks are not mounted unless somebody does it, and many sizes have none: then nothing is found.

Printed as one line of JSON: ``{"disks": [mount points], "files": [paths, newest first], "more", "bytes", "complete"}``. ``bytes``
are those of all files; ``complete`` is false where there were too many to look at.
"""

from __future__ import annotations

import glob
import heapq
import json
import os
import re
import stat
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

PLACE = "JUPYTER_DSVM_TEMPORARY_DISK"
"""An environment variable: where it is, or "" for nowhere."""

WARNING = "DATALOSS_WARNING_README.txt"
USUAL = ("/mnt", "/mnt/resource")
NAMED = (
    "/dev/disk/azure/resource*",
    "/dev/disk/azure/local/by-*/*",
    "/dev/disk/cloud/azure_resource*",
)
MOUNTS = "/proc/self/mountinfo"
AGENT = "/etc/waagent.conf"
LONGEST_FILE = 1024 * 1024

MOST = 20
"""Files that are named."""
LONGEST_PATH = 1024
MOST_ENTRIES = 200_000
DEEPEST = 40
SECONDS = 5.0
"""What is not found by then is not counted."""


class Mount(NamedTuple):
    device: Tuple[int, int]
    point: str


def mounts(mountinfo: str) -> List[Mount]:
    """Of /proc/self/mountinfo, where spaces and the like are written in octal. Pure."""
    found = []
    for line in mountinfo.splitlines():
        parts = line.split(" ")
        numbers = re.fullmatch(r"(\d+):(\d+)", parts[2]) if len(parts) > 5 else None
        if numbers:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), parts[4])
            found.append(Mount((int(numbers.group(1)), int(numbers.group(2))), point))
    return found


def agents_place(conf: str) -> Optional[str]:
    """``ResourceDisk.MountPoint`` of waagent.conf. Pure."""
    found = re.search(r"^[ \t]*ResourceDisk\.MountPoint[ \t]*=[ \t]*(/\S*)", conf, re.MULTILINE)
    return found.group(1).rstrip("/") or None if found else None


def temporary_disks() -> List[str]:
    """Where this machine's temporary disks are mounted; mostly one or none."""
    place = os.environ.get(PLACE)
    if place is not None:
        return [place] if os.path.isabs(place) and os.path.isdir(place) else []
    known = mounts(_text(MOUNTS))
    devices = _named_devices()
    usual = {*USUAL, agents_place(_text(AGENT))}
    last = {mount.point: mount.device for mount in known}  # what is mounted there last hides the others
    return [
        point
        for point, device in last.items()
        if point != "/" and (device in devices or (point in usual and os.path.isfile(os.path.join(point, WARNING))))
    ]


def _named_devices() -> Set[Tuple[int, int]]:
    found = set()
    for pattern in NAMED:
        for path in glob.glob(pattern):
            try:
                number = os.stat(path).st_rdev
            except OSError:
                continue
            if number:
                found.add((os.major(number), os.minor(number)))
    return found


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return f.read(LONGEST_FILE)
    except OSError:
        return ""


class Found:
    """What a walk has come upon."""

    def __init__(self, uid: int) -> None:
        self._uid = uid
        self._newest: List[Tuple[float, str]] = []
        self._until = time.monotonic() + SECONDS
        self._entries = 0
        self.count = 0
        self.bytes = 0
        self.complete = True

    def walk(self, top: str) -> None:
        """Regular files of the account below ``top``, on that file system. No link is followed."""
        try:
            device = os.stat(top).st_dev
        except OSError:
            return
        left = [(top, 0)]
        while left:
            folder, depth = left.pop()
            try:
                entries = os.scandir(folder)
            except OSError:
                continue  # another account's, mostly
            with entries:
                for entry in entries:
                    self._entries += 1
                    if self._entries > MOST_ENTRIES or time.monotonic() > self._until:
                        self.complete = False
                        return
                    try:
                        about = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # it has just gone
                    if about.st_dev != device:
                        continue
                    if stat.S_ISDIR(about.st_mode):
                        if depth < DEEPEST:
                            left.append((entry.path, depth + 1))
                        else:
                            self.complete = False
                    elif stat.S_ISREG(about.st_mode) and about.st_uid == self._uid and entry.name != WARNING:
                        self._take(entry.path, about)

    def _take(self, path: str, about: os.stat_result) -> None:
        self.count += 1
        self.bytes += about.st_size
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        if len(shown) <= LONGEST_PATH:
            push = heapq.heappush if len(self._newest) < MOST else heapq.heappushpop
            push(self._newest, (about.st_mtime, shown))

    @property
    def newest(self) -> List[str]:
        return [path for _, path in sorted(self._newest, reverse=True)]


def look() -> Dict[str, Any]:
    """All of it. Takes ``SECONDS`` and a little at most, unless the disk hangs; then the pipe ends this process."""
    disks = temporary_disks()
    found = Found(os.getuid())
    for disk in disks:
        found.walk(disk)
    files = found.newest
    return {
        "disks": disks,
        "files": files,
        "more": found.count - len(files),
        "bytes": found.bytes,
        "complete": found.complete,
    }


def main() -> None:
    sys.stdout.write(json.dumps(look()) + "\n")


if __name__ == "__main__":
    main()
