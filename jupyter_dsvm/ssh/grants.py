"""What is remembered of the way into each VM: whose account, and until when our key is good there.

One file of ours, 0600, by ``vmId``: a VM that was replaced is another one, of which nothing is known. Written by setting
up and forgetting; read before every connect. Server processes and the command line share it, so changes hold a lock.
"""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .keys import private_folder, write_private


@dataclass(frozen=True)
class Grant:
    """Of one VM; what is not known is empty or 0."""

    user: str = ""
    """The account, as it was found or said."""
    until: float = 0.0
    """Seconds since 1970 at which our key ends there."""
    since: float = 0.0

    def good(self, now: float | None = None) -> bool:
        return self.until > (time.time() if now is None else now)

    def half_over(self, now: float | None = None) -> bool:
        """Whether it is time to renew it while it still works."""
        now = time.time() if now is None else now
        return self.good(now) and now > (self.since + self.until) / 2


class Grants:
    """May be called from any thread; blocks on files only."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        if self._path is None:
            from jupyter_core.paths import jupyter_data_dir

            self._path = Path(jupyter_data_dir()) / "jupyter-dsvm" / "access.json"
        return self._path

    def get(self, vm_id: str) -> Grant:
        return self._read().get(vm_id, Grant())

    def change(self, vm_id: str, **values: Any) -> None:
        self._edit(lambda all_: all_.__setitem__(vm_id, replace(all_.get(vm_id, Grant()), **values)))

    def forget(self, vm_id: str) -> None:
        self._edit(lambda all_: all_.pop(vm_id, None))

    def _edit(self, edit: Callable[[dict[str, Grant]], object]) -> None:
        try:
            with self._lock:
                private_folder(self.path.parent)
                with open(self.path.with_suffix(".lock"), "w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    found = self._read()
                    edit(found)
                    text = json.dumps({vm_id: asdict(grant) for vm_id, grant in found.items()}, indent=1)
                    write_private(self.path, text.encode())
        except OSError as e:
            raise ConfigurationError(
                f"What is known of the VM's accounts cannot be kept in {self.path}: {e}.",
                advice="Make that folder writable for this account.",
            ) from e

    def _read(self) -> dict[str, Grant]:
        """Nothing where the file is not there, or is none of ours: then it is found out anew."""
        try:
            rows = json.loads(self.path.read_text("utf-8"))
            return {
                str(vm_id): Grant(str(row["user"]), float(row["until"]), float(row["since"]))
                for vm_id, row in rows.items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}
