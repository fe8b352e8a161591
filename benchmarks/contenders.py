"""Who is measured: each has Jupyter folders of its own, in which its kernelspec starts a kernel where it is to run."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_dsvm.kernels.kernelspecs import RemoteSpec, installed_spec

from .machines import ROOT, SSHServer, Way

PEERS = ROOT / ".stamps" / "peers"
"""The peers' virtual environment: the packages of the one that runs this, and sshpyk (``benchmarks/setup-peers``)."""
MARK = "JUPYTER_DSVM_BENCHMARK"
"""In the environment of every process on this side of the way: the contender's name, and which of its folders."""

LEFT_OUT = (
    "JUPYTER_PATH",
    "JUPYTER_CONFIG_PATH",
    "JUPYTER_DEFAULT_",
    "JUPYTER_TOKEN",
    "JUPYTERHUB_",
    "JPY_",
    "PYTEST_",
)
"""Variables of whoever starts the benchmarks that would change what is measured."""

LOCAL, PEER, OURS = "local", "sshpyk", "ours"


@dataclass
class Contender:
    """Folders, environment and kernelspec of one contender. ``name`` is its column."""

    folder: Path
    """Short: sockets are bound in it."""
    name: str = LOCAL
    kernel: str = "python3"
    python: Path = field(default_factory=lambda: Path(sys.executable))
    extension: bool = False
    """Whether servers load jupyter-dsvm."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of jupyter-dsvm: sections of ``jupyter_dsvm_config.json``."""

    def prepare(self) -> None:
        for part in ("home/.ssh", "config", "data", "runtime", "ipython", "root"):
            (self.folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / "config" / "jupyter_dsvm_config.json").write_text(json.dumps(self.settings))

    @property
    def mark(self) -> str:
        """What finds this side's processes, however they detached themselves."""
        return f"{MARK}={self.name}:{self.folder.name}"

    def environment(self) -> dict[str, str]:
        name, _, value = self.mark.partition("=")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(LEFT_OUT)}
        return {
            **kept,
            name: value,
            "HOME": str(self.folder / "home"),
            "JUPYTER_CONFIG_DIR": str(self.folder / "config"),
            "JUPYTER_DATA_DIR": str(self.folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "PYTHONPATH": str(ROOT),
        }

    def hang_up(self) -> None:
        """End what stays connected by itself when nobody holds a kernel any more."""

    def _kernelspec(self, name: str, spec: dict[str, Any]) -> None:
        folder = self.folder / "data" / "kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kernel.json").write_text(json.dumps(spec))


def local(folder: Path) -> Contender:
    """A kernel here, as jupyter_client starts it."""
    return Contender(folder)


def free_tier(folder: Path) -> Contender:
    """A kernel here, behind our proxy."""
    settings = {"DSVMService": {"compute_providers": ["free"]}}
    return Contender(folder, OURS, extension=True, settings=settings)


class Ours(Contender):
    """A kernel on the machine, through our relay."""

    def __init__(self, folder: Path, vm: SSHServer, way: Way, **service: Any) -> None:
        """``service``: settings of ``DSVMService``."""
        settings = {
            "DSVMService": {"compute_providers": ["free", "hosts"], **service},
            "SSHHosts": {"allowed_addresses": ["127.0.0.0/8"]},
        }
        super().__init__(folder, OURS, f"dsvm-{way.name}-python3", extension=True, settings=settings)
        self._vm, self._way = vm, way

    def prepare(self) -> None:
        super().prepare()
        ssh = self.folder / "home" / ".ssh"
        (ssh / "config").write_text(ssh_host(self._vm, self._way))
        (ssh / "known_hosts").write_text(f"[{self._way.host}]:{self._way.port} {self._vm.host_key_line}\n")
        spec = RemoteSpec("python3", "Python 3 (ipykernel)", "python", ("python3",))
        self._kernelspec(self.kernel, installed_spec(f"host:{self._way.name}", self._way.name, spec))


class SSHPyk(Contender):
    """A kernel on the machine, through OpenSSH's tunnels; configured as sshpyk's README recommends."""

    def __init__(self, folder: Path, vm: SSHServer, way: Way) -> None:
        super().__init__(folder, PEER, f"sshpyk-{way.name}", PEERS / "bin" / "python")
        self._vm, self._way = vm, way
        self._config = folder / "home" / ".ssh" / "config"

    def prepare(self) -> None:
        super().prepare()
        known = self.folder / "home" / ".ssh" / "known_hosts"
        known.write_text(f"[{self._way.host}]:{self._way.port} {self._vm.host_key_line}\n")
        options = {
            "BatchMode": "yes",
            "UserKnownHostsFile": known,
            "ControlMaster": "auto",
            "ControlPath": self.folder / "master",
            "ControlPersist": "10m",
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 120000,
            "TCPKeepAlive": "yes",
            "ConnectionAttempts": 1,
            "ConnectTimeout": 5,
        }
        lines = "".join(f"  {name} {value}\n" for name, value in options.items())
        self._config.write_text(ssh_host(self._vm, self._way) + lines)
        config = {
            "ssh_host_alias": self._way.name,
            "ssh_config": str(self._config),
            "remote_python": sys.executable,
            "remote_kernel_name": "python3",
        }
        self._kernelspec(
            self.kernel,
            {
                "argv": ["sshpyk-kernel"],
                "display_name": f"Python 3 on {self._way.name} (sshpyk)",
                "language": "python",
                "interrupt_mode": "message",
                "metadata": {"kernel_provisioner": {"provisioner_name": "sshpyk-provisioner", "config": config}},
            },
        )

    def hang_up(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                ["ssh", "-F", self._config, "-O", "exit", self._way.name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=10,
            )


def ssh_host(vm: SSHServer, way: Way) -> str:
    return (
        f"Host {way.name}\n  HostName {way.host}\n  Port {way.port}\n  User {vm.user}\n  IdentityFile {vm.key_file}\n"
    )
