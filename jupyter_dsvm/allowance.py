"""What code may start: the rule of ``DSVMService.kernel_may_start``, and the log of starts that it counts.

Starting a machine costs money, so a line in a notebook may do it only where the configuration says so. The log is a file
of this user (0600), since papermill and nbclient make a new process for every run.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .errors import ConfigurationError, NotAllowed
from .models import Compute

DAY_SECONDS = 24 * 3600.0
KEYS = {"names", "price_per_hour", "starts_per_day"}


class Allowance:
    def __init__(
        self, rule: Callable[[], Mapping[str, Any]], log_file: Path | None, clock: Callable[[], float] = time.time
    ) -> None:
        """``rule`` gives the setting as it is now; ``log_file`` None counts in this process alone."""
        self._rule = rule
        self._file = log_file
        self._clock = clock
        self._lock = threading.Lock()
        self._starts: list[tuple[float, str]] = []

    def take(self, compute: Compute, resize: bool = False) -> None:
        """Code is about to start ``compute``, or to give it the size and price that it has here: count it, or raise
        ``NotAllowed`` with what to do instead."""
        do = "resize" if resize else "start"
        rule = self._rule()
        unknown = set(rule) - KEYS
        if unknown:
            raise ConfigurationError(
                f"DSVMService.kernel_may_start has no {', '.join(sorted(map(repr, unknown)))}.",
                advice=f"It knows {', '.join(sorted(KEYS))}.",
            )
        names = rule.get("names") or ()
        if isinstance(names, str):
            names = [names]
        called = {n.lower() for n in (compute.name, f"{compute.resource_group}/{compute.name}", compute.long_name)}
        if not any(fnmatchcase(name, str(pattern).lower()) for pattern in names for name in called):
            raise NotAllowed(
                f"{compute.name} is {compute.power_state.value}, and code may not {do} it.",
                advice=f"{do.title()} it in the Compute panel or with `jupyter dsvm {do} "
                f"{compute.name}{' SIZE' if resize else ''}`, or allow it in jupyter_dsvm_config.py: "
                f"c.DSVMService.kernel_may_start = {{'names': [{compute.name!r}]}}.",
            )
        self._check_price(compute, rule.get("price_per_hour"))
        with self._lock:
            limit = rule.get("starts_per_day")
            now = self._clock()
            if limit is not None:
                recent = [at for at, _ in self._read() if now - at < DAY_SECONDS]
                if len(recent) >= int(limit):
                    raise NotAllowed(
                        f"Code has started {len(recent)} machines in the last 24 hours, which is all that is allowed.",
                        advice=f"Start {compute.name} in the Compute panel, or raise starts_per_day in "
                        "DSVMService.kernel_may_start.",
                        retry_after=max(0.0, min(recent, default=now) + DAY_SECONDS - now),
                    )
            self._append(now, compute.id)

    @staticmethod
    def _check_price(compute: Compute, limit: Any) -> None:
        if limit is None:
            return
        price = compute.price
        if price is None or price.amount > float(limit):
            said = (
                "its price is not known"
                if price is None
                else f"it costs about {price.amount:g} {price.currency} an hour"
            )
            raise NotAllowed(
                f"Code may start machines of up to {float(limit):g} an hour, and of {compute.name} {said}.",
                advice="Start it in the Compute panel, or change price_per_hour in DSVMService.kernel_may_start.",
            )

    def _read(self) -> list[tuple[float, str]]:
        if self._file is None:
            return self._starts
        starts = []
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                at, compute_id = json.loads(line)
                starts.append((float(at), str(compute_id)))
            except (ValueError, TypeError):
                continue  # a line that a crash cut short
        return starts

    def _append(self, at: float, compute_id: str) -> None:
        if self._file is None:
            self._starts = [s for s in self._starts if at - s[0] < DAY_SECONDS] + [(at, compute_id)]
            return
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = [s for s in self._read() if at - s[0] < DAY_SECONDS] + [(at, compute_id)]
        new = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(s) + "\n" for s in kept)
        os.replace(new, self._file)
