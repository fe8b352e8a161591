"""A machine of the SSH configuration, without any cloud: it shares this computer's files, and has a home folder of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .sshd import SSHServer, sshd

NAME = "lab-pc"


@contextlib.contextmanager
def lab_pc(folder: Path, patch: pytest.MonkeyPatch, **env: str) -> Iterator[SSHServer]:
    """Jupyter in this process knows this machine and nothing else to run on. Nothing runs there afterwards.

    ``env`` is set for all who sign in there; DSVM_NAME is.
    """
    home, config = folder / "home", folder / "config"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    config.mkdir()
    (config / "jupyter_dsvm_config.json").write_text(
        '{"DSVMService": {"compute_providers": ["free", "hosts"]}, "SSHHosts": {"allowed_addresses": ["127.0.0.0/8"]}}'
    )
    patch.setenv("HOME", str(home))
    patch.setenv("JUPYTER_CONFIG_DIR", str(config))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with sshd(folder / "sshd", env={"DSVM_NAME": NAME, "PATH": path, **env}) as server:
        (home / ".ssh/config").write_text(
            f"Host {NAME}\n  HostName {server.host}\n  Port {server.port}\n  User {server.user}\n"
            f"  IdentityFile {server.key_file}\n"
        )
        (home / ".ssh/known_hosts").write_text(f"[{server.host}]:{server.port} {server.host_key_line}\n")
        yield server
        left = server.wait_until_idle()
        assert not left, left
