"""``jupyter dsvm demo``: JupyterLab on the emulated machines, with the sample notebook, until Ctrl-C.

The command line starts the emulator; here only its configuration folder is known, as in any other use of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir

from .errors import ConfigurationError, printable

NOTEBOOK = "digits.ipynb"
START_SECONDS = 90.0
END_SECONDS = 30.0
POLL_SECONDS = 0.2

NEEDED = {"jupyterlab": "jupyterlab", "ipykernel": "ipykernel", "sklearn": "scikit-learn"}
"""Modules that the demo needs on the free tier, and the packages that have them."""


def run_demo(folder: Path, config_dir: Path, port: int, say: Callable[[str], None]) -> int:
    """Serve until Ctrl-C or SIGTERM, or until JupyterLab ends by itself. Prints the address on stdout, alone on a line."""
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"The demo needs {', '.join(missing)} in {sys.prefix}.",
            advice=f"Install with {sys.executable} -m pip install {' '.join(missing)}.",
        )
    notebooks = folder / "notebooks"
    notebooks.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (notebooks / NOTEBOOK).exists():
        sample = resources.files("jupyter_dsvm") / "emulator" / "sample" / NOTEBOOK
        (notebooks / NOTEBOOK).write_bytes(sample.read_bytes())
    say("Starting JupyterLab.")
    with _sigterm_as_interrupt(), _jupyterlab(notebooks, config_dir, folder / "jupyterlab.log", port) as lab:
        address = _wait(lab, folder / "jupyterlab.log")
        sys.stdout.write(address + "\n")
        sys.stdout.flush()
        say("Open that address. Ctrl-C ends everything.")
        try:
            code = lab.wait()
        except KeyboardInterrupt:
            say("Stopping JupyterLab.")
            return 0
    raise ConfigurationError(
        f"JupyterLab ended with exit code {code}.", advice=f"Its log: {folder / 'jupyterlab.log'}."
    )


def _settings(folder: Path) -> Path:
    """JupyterLab's settings for the demo: it does not ask a new user about its news."""
    notifications = folder / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    if not notifications.exists():
        notifications.parent.mkdir(parents=True, exist_ok=True)
        notifications.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    return folder


@contextlib.contextmanager
def _jupyterlab(notebooks: Path, config_dir: Path, log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(config_dir),
        # In the environment, since arguments can be read by every user of this computer.
        "JUPYTER_TOKEN": secrets.token_urlsafe(24),
        # The demo neither sees nor changes how the user's own JupyterLab is set up.
        "JUPYTERLAB_SETTINGS_DIR": str(_settings(notebooks.parent / "settings")),
        "JUPYTERLAB_WORKSPACES_DIR": str(notebooks.parent / "workspaces"),
    }
    environment.pop("JUPYTER_DEFAULT_PROVISIONER_NAME", None)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={notebooks}"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=50"]
    # Also where the package was installed without its configuration files, as in a checkout.
    command.append("--ServerApp.jpserver_extensions=jupyter_dsvm=True")
    if hasattr(os, "getuid") and os.getuid() == 0:
        command.append("--allow-root")
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        # A session of its own: Ctrl-C in the terminal is ours, or JupyterLab would ask whether it was meant.
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(lab: subprocess.Popen[bytes], log: Path) -> str:
    """The address, once the server answers at it."""
    info_file = Path(jupyter_runtime_dir()) / f"jpserver-{lab.pid}.json"
    deadline = time.monotonic() + START_SECONDS
    while lab.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, KeyError):
            info = json.loads(info_file.read_text())
            if _answers(info):
                return f"{info['url']}lab/tree/{NOTEBOOK}?token={info['token']}"
        time.sleep(POLL_SECONDS)
    raise ConfigurationError(
        f"JupyterLab did not start within {START_SECONDS:.0f} s. It said: {printable(log.read_bytes())}",
        advice=f"Its whole log: {log}.",
    )


def _answers(info: dict[str, Any]) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{info['port']}{info['base_url']}api/status",
        headers={"Authorization": f"token {info['token']}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as response:
        return bool(response.status == 200)


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """A terminal that closes and ``kill`` end the demo as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
