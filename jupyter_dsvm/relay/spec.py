"""What a START frame says: which kernel to run, and how."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .kernel import kernel_argv, started_by
from .wire import WireError

SOCKET_VARIABLE = "JUPYTER_DSVM_SOCKET"
"""Tells the magic in the kernel where its relay (or the proxy) listens for ``%dsvm``."""

JOURNAL_LIMIT = 1024 * 1024 * 1024

NOT_FOR_KERNELS = frozenset({"JPY_PARENT_PID", "JPY_INTERRUPT_EVENT", "JPY_SESSION_NAME", SOCKET_VARIABLE})
"""Never inherited: the first makes ipykernel end with a process that is not its parent, the others are another kernel's."""


@dataclass(frozen=True)
class KernelSpec:
    """``key`` is the notebook's own and stays out of argv, environment and ``repr``; it goes into the connection file only."""

    kernel_id: str
    argv: Tuple[str, ...]
    key: str = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Optional[str] = None
    signature_scheme: str = "hmac-sha256"
    session: str = ""
    kernel_name: str = ""
    interrupt_mode: str = "signal"
    resource_dir: str = ""
    journal_limit: int = JOURNAL_LIMIT
    """Bytes that the relay may keep before it leaves outputs out and says so; 0 for no limit."""
    spare: bool = False
    """Whether this kernel may be made of a spare, and one be parked for the next (``spare``)."""

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> KernelSpec:
        """Raises ``WireError`` where a type is wrong. What it does not know it ignores: a newer server may say more."""
        argv, env, cwd = value.get("argv"), value.get("env") or {}, value.get("cwd")
        if not isinstance(argv, (list, tuple)) or not argv or not all(isinstance(a, str) for a in argv):
            raise WireError("a START without argv")
        if not isinstance(env, dict) or not all(isinstance(v, str) for v in env.values()):
            raise WireError("a START whose env is no mapping of strings")
        if cwd is not None and not isinstance(cwd, str):
            raise WireError("a START whose cwd is no path")
        limit = value.get("journal_limit", JOURNAL_LIMIT)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise WireError("a START whose journal_limit is no number")
        words = {}
        for name in (
            "kernel_id",
            "key",
            "signature_scheme",
            "session",
            "kernel_name",
            "interrupt_mode",
            "resource_dir",
        ):
            word = value.get(name, getattr(cls, name, ""))
            if not isinstance(word, str):
                raise WireError(f"a START whose {name} is no text")
            words[name] = word
        spare = value.get("spare") is True
        return cls(argv=tuple(argv), env=dict(env), cwd=cwd, journal_limit=limit, spare=spare, **words)

    def command(self, connection_file: str, starter: str = "") -> List[str]:
        """The whole argv. ``starter``: the path of ``start_ipykernel.py``, which takes the place of ``-m ipykernel…``."""
        argv = kernel_argv(self.argv, connection_file, self.resource_dir, self.session)
        return started_by(starter, argv) if starter else argv

    def environment(self, own: Mapping[str, str], call_socket: str) -> Dict[str, str]:
        """This machine's environment (that of the relay, which is the login's), with what the server lists for this kernel."""
        env = {name: value for name, value in own.items() if name not in NOT_FOR_KERNELS}
        env.update(self.env)
        env[SOCKET_VARIABLE] = call_socket
        return env

    def folder(self) -> str:
        """Where the kernel starts: ``cwd`` if that is a folder here, otherwise the home folder."""
        home = os.path.expanduser("~")
        cwd = os.path.join(home, os.path.expanduser(self.cwd)) if self.cwd else home
        return cwd if os.path.isdir(cwd) else home if os.path.isdir(home) else "/"
