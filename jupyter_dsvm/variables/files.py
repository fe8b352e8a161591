"""The stream in a file: variables that wait on a VM's disk until the notebook comes back to it."""

from __future__ import annotations

import os
from typing import Optional, Sequence

from .names import Namespace
from .outgoing import Outgoing
from .pickling import There
from .receiving import Receiving
from .sending import Result, Sending


def save(namespace: Namespace, path: str, names: Optional[Sequence[str]], limit: Optional[int]) -> Result:
    """Whole or not at all: written beside ``path`` and renamed. ``OSError`` where the disk does not take it."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    aside = f"{path}.{os.getpid()}.part"
    descriptor = os.open(
        aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600
    )
    try:
        with open(descriptor, "wb", buffering=1024 * 1024) as file:
            out = Outgoing(file.write, compress=False)
            sending = Sending(namespace, There(), out)
            sending.send(names)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
    return sending.result


def load(namespace: Namespace, path: str, names: Optional[Sequence[str]]) -> Result:
    with open(path, "rb", buffering=0) as file:
        receiving = Receiving(namespace, file.readinto, names=names)
        receiving.receive()
    return receiving.result
