"""``jupyter dsvm doctor``: what could keep a notebook from moving, each with what to do about it.

Checks only look; none changes anything or costs anything.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DSVMError, printable
from .kernels.registry import PROVISIONER
from .models import FREE, OS, Compute, ComputeKind, PowerState, Shape
from .service import DSVMService, load_service
from .settings import load_config

REACH_SECONDS = 4.0
MAX_MACHINES = 12


@dataclass(frozen=True)
class Finding(Shape):
    what: str
    ok: bool | None
    """None: worth knowing, but nothing is wrong."""
    message: str
    advice: str = ""

    @property
    def mark(self) -> str:
        return {True: "✓", False: "✗", None: "·"}[self.ok]


def examine() -> list[Finding]:
    """All checks, in the order in which one needs the other. Blocks for some seconds (network)."""
    findings: list[Finding] = []
    for check in (_python, _zmq, _sockets, _extension, _provisioner, _labextension, _tools, _configuration):
        findings += _guarded(check)
    if all(f.ok is not False for f in findings if f.what == "Configuration"):
        findings += _guarded(_machines)
    return findings


def _guarded(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """A check that fails in a way nobody thought of is a finding too, and the others still run."""
    try:
        return list(check())
    except DSVMError as e:
        return [Finding(check.__name__.strip("_").capitalize(), False, e.message, e.advice)]
    except Exception as e:
        return [Finding(check.__name__.strip("_").capitalize(), False, f"The check failed: {type(e).__name__}: {e}.")]


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 10)
    yield Finding("Python", good, f"{version} at {sys.executable}.", "" if good else "Python 3.10 or newer is needed.")


def _zmq() -> Iterator[Finding]:
    import zmq

    ipc = bool(zmq.has("ipc"))
    yield Finding(
        "pyzmq",
        True if ipc else None,
        f"{zmq.__version__} with libzmq {zmq.zmq_version()}{'' if ipc else ', without ipc'}.",
        "" if ipc else "Kernels here are reached over loopback TCP instead.",
    )


def _sockets() -> Iterator[Finding]:
    good = hasattr(socket, "AF_UNIX")
    yield Finding(
        "%dsvm",
        good,
        "This Python has unix sockets."
        if good
        else "This Python has no unix sockets, so %dsvm cannot reach the server.",
        "" if good else "Use the Compute panel or `jupyter dsvm`.",
    )


def _extension() -> Iterator[Finding]:
    from jupyter_core.paths import jupyter_config_path
    from jupyter_server.config_manager import BaseJSONConfigManager

    enabled = False
    for folder in reversed(jupyter_config_path()):  # the first folder of the path wins
        config: Any = BaseJSONConfigManager(config_dir=folder, read_directory=True).get("jupyter_server_config")
        found = config.get("ServerApp", {}).get("jpserver_extensions", {})
        enabled = bool(found.get("jupyter_dsvm", enabled))
    good = enabled
    yield Finding(
        "Server extension",
        good,
        "Enabled." if good else "Not enabled, so there is no panel, and kernels cannot move.",
        "" if good else "Run `jupyter server extension enable jupyter_dsvm`, then restart the server.",
    )


def _provisioner() -> Iterator[Finding]:
    found = importlib.metadata.entry_points(group="jupyter_client.kernel_provisioners", name=PROVISIONER)
    if not found:
        yield Finding("Kernels", False, f"The entry point {PROVISIONER} is missing.", "Reinstall jupyter-dsvm.")
        return
    try:
        next(iter(found)).load()
    except Exception as e:
        yield Finding("Kernels", False, f"{PROVISIONER} cannot be loaded: {e}.", "Reinstall jupyter-dsvm.")
        return
    chosen = os.environ.get("JUPYTER_DEFAULT_PROVISIONER_NAME")
    if chosen and chosen != PROVISIONER:
        yield Finding(
            "Kernels",
            False,
            f"JUPYTER_DEFAULT_PROVISIONER_NAME is {chosen}, so kernels are started without us.",
            "Unset it to be able to move notebooks.",
        )
    else:
        yield Finding("Kernels", True, f"{PROVISIONER} can start them.")


def _labextension() -> Iterator[Finding]:
    from jupyter_core.paths import jupyter_path

    good = any(Path(p, "jupyter-dsvm", "package.json").is_file() for p in jupyter_path("labextensions"))
    yield Finding(
        "Panel",
        good,
        "Installed." if good else "The JupyterLab part is not installed.",
        "" if good else "Reinstall jupyter-dsvm; in a checkout, `make build`.",
    )


def _tools() -> Iterator[Finding]:
    if shutil.which("ssh") is None:
        yield Finding("ssh", None, "Not found.", "Needed only for hosts behind a ProxyJump: install openssh-client.")
    if shutil.which("sshd", path=f"/usr/sbin:/usr/local/sbin:{os.environ.get('PATH', '')}") is None:
        yield Finding("sshd", None, "Not found.", "Needed only by the emulator, which uses asyncssh without it.")


def _configuration() -> Iterator[Finding]:
    config = load_config(logging.getLogger("jupyter_dsvm"))
    names = sorted(k for k in config if config[k])
    yield Finding("Configuration", True, f"Sets {', '.join(names)}." if names else "Nothing is set, so defaults apply.")


def _machines() -> Iterator[Finding]:
    service = load_service()
    try:
        listing = service.computes(refresh=True)
        for problem in listing.problems:
            yield Finding("Computes", False, problem.message, problem.advice)
        machines = [c for c in listing.computes if c.id != FREE]
        kinds = {k: sum(c.kind is k for c in machines) for k in (ComputeKind.DSVM, ComputeKind.HOST)}
        yield Finding(
            "Computes",
            True if machines else None,
            f"{kinds[ComputeKind.DSVM]} Data Science VMs and {kinds[ComputeKind.HOST]} SSH hosts.",
            ""
            if machines
            else "Sign in to Azure (`jupyter dsvm signin` or `az login`), or add a host to ~/.ssh/config.",
        )
        asked = [c for c in machines if _can_be_asked(c)][:MAX_MACHINES]
        with ThreadPoolExecutor(max_workers=MAX_MACHINES, thread_name_prefix="jupyter-dsvm-doctor") as pool:
            yield from pool.map(lambda c: _reach(service, c), asked)
    finally:
        service.close()


def _can_be_asked(compute: Compute) -> bool:
    return compute.os is OS.LINUX and compute.power_state in (PowerState.RUNNING, PowerState.UNKNOWN)


def _reach(service: DSVMService, compute: Compute) -> Finding:
    """Whether an SSH server answers there; nothing is signed in to."""
    what = f"SSH to {compute.name}"
    try:
        target = service.known.ssh_target(compute.id)
    except DSVMError as e:
        return Finding(what, False, e.message, e.advice)
    if target.proxy_command:
        return Finding(what, None, f"Goes through `{printable(target.proxy_command, 120)}`; not tried.")
    try:
        with socket.create_connection((target.host, target.port), timeout=REACH_SECONDS) as s:
            s.settimeout(REACH_SECONDS)
            banner = printable(s.recv(255), 80)
    except OSError as e:
        return Finding(
            what,
            False,
            f"No answer at {target.host} port {target.port}: {e}.",
            "Check the address, the network security group (port 22) and that sshd runs there.",
        )
    good = banner.startswith("SSH-")
    return Finding(
        what,
        good,
        f"{banner} at {target.host} port {target.port}."
        if good
        else f"What answers at port {target.port} is no SSH server.",
        "" if good else "Check the port in the SSH configuration.",
    )
