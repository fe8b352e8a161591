"""A Jupyter server that stops, is killed and starts again, and a machine of its SSH configuration on which kernels outlive it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .served import OTHERS, JupyterServer, Served
from .sshd import SSHServer, sshd

MACHINE = "vm"
COMPUTE = f"host:{MACHINE}"


class Place:
    """Where a server lives: its folders, and the machine that it knows by the name ``vm``."""

    def __init__(self, folder: Path, machine: SSHServer, port: int | None = None) -> None:
        self.folder = folder
        self.machine = machine
        self.data = folder / "data"
        self.config = folder / "config"
        self.home = folder / "home"
        self.runtime = Path(tempfile.mkdtemp(prefix="rt-"))
        for each in (self.data, self.config, self.home / ".ssh"):
            each.mkdir(mode=0o700, parents=True)
        self.way(port or machine.port)
        known = self.home / ".ssh" / "known_hosts"
        known.write_text("".join(f"[{machine.host}]:{p} {machine.host_key_line}\n" for p in {machine.port, port or 0}))
        self.configure()

    def way(self, port: int) -> None:
        """The machine is reached over that port from now on."""
        (self.home / ".ssh" / "config").write_text(
            f"Host {MACHINE}\n  HostName {self.machine.host}\n  Port {port}\n  User {self.machine.user}\n"
            f"  IdentityFile {self.machine.key_file}\n"
        )

    def configure(self, **sections: dict[str, object]) -> None:
        values: dict[str, object] = {
            "DSVMService": {"compute_providers": ["free", "hosts"]},
            "SSHHosts": {
                "config_file": str(self.home / ".ssh" / "config"),
                "python": sys.executable,
                "allowed_addresses": ["127.0.0.0/8"],
            },
            **sections,
        }
        (self.config / "jupyter_dsvm_config.json").write_text(json.dumps(values))

    @property
    def kept(self) -> list[Path]:
        """What servers have written down of kernels on machines."""
        return sorted((self.data / "jupyter-dsvm" / "kernels").glob("*/kernel.json"))

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "JUPYTER_DATA_DIR": str(self.data),
            "JUPYTER_RUNTIME_DIR": str(self.runtime),  # where a killed server leaves its sockets
        }

    def server(self, name: str = "notebooks") -> JupyterServer:
        with pytest.MonkeyPatch.context() as patch:
            for key, value in self.environment.items():
                patch.setenv(key, value)
            return JupyterServer(self.folder / name, self.config, OTHERS)

    @contextlib.contextmanager
    def lasting(self, name: str) -> Iterator[JupyterServer]:
        """A server that runs at the end, whatever its test has done: the next one should not inherit its kernels."""
        with self.server(name) as made:
            yield made
            if not made.running:
                made.start()


@contextlib.contextmanager
def place(folder: Path, port: int | None = None) -> Iterator[Place]:
    with sshd(folder / "machine", "MaxSessions 10") as machine:
        found = Place(folder, machine, port)
        yield found
        shutil.rmtree(found.runtime)


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """For the tests of one file."""
    with place(tmp_path_factory.mktemp("place")) as found:
        yield found


def attach(server: Served, kernel_id: str, compute: str = COMPUTE, seconds: float = 60) -> None:
    begun = server.rest("PUT", f"jupyter-dsvm/kernels/{kernel_id}/compute", {"compute": compute}, 202)
    done, _ = server.operation(begun["id"], seconds)
    assert done["state"] == "done", done


def counting(to: int, every: float, file: Path) -> str:
    """A cell that counts, and writes into a file on the machine what it has said."""
    return (
        f"import time\nwith open({str(file)!r}, 'a') as f:\n    for i in range(1, {to} + 1):\n"
        f"        print(i, flush=True); f.write(f'{{i}}\\n'); f.flush(); time.sleep({every})"
    )


def numbers(to: int) -> str:
    return "".join(f"{i}\n" for i in range(1, to + 1))


def lines(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else 0
