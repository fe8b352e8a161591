"""The Python of the emulated VMs: one image per list of requirements, and a light environment per kernel on top.

An image is a virtual environment filled by pip, built once per user of this computer under the cache folder and
shared by every VM of every emulator, read only. What a VM owns is a virtual environment of a few files, whose
``.pth`` leads to the image: its prefix, programs and kernelspecs are the VM's, on the VM's disk. Nothing of the
Python that runs the emulator gets in except its interpreter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .machines import SizeInfo

Say = Callable[[str], None]

_FORMAT = "1"
"""Part of an image's hash: raise it when the way an image is built changes."""


class ImageError(Exception):
    """The image could not be built; the message holds the end of what pip said."""


def cache_folder() -> Path:
    """Where images are kept, after the XDG base directory specification."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "jupyter-dsvm-emulator"


def base_python() -> Path:
    """The interpreter below whatever virtual environment runs this."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


class Images:
    """The images of this user. ``get`` is called on a worker thread, ``cancel`` from any other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cancelled = threading.Event()
        self._pip: subprocess.Popen[str] | None = None

    def get(self, requirements: Sequence[str], say: Say) -> Path:
        """The site-packages of an image with these requirements, built now if it is not there; that takes a minute.

        Raises ``ImageError``.
        """
        key = "\n".join([_FORMAT, str(base_python()), sys.version, *sorted(requirements)])
        image = self.folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        complete = image / "complete"
        if not complete.exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            with self._locked(image.with_suffix(".lock")):
                if not complete.exists():
                    say(f"Building the VMs' Python environment ({', '.join(requirements)}) in {image}; done once.")
                    self._build(image, requirements, say)
                    complete.touch()
        return image / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    def cancel(self) -> None:
        """Let a ``get`` that is building or waiting end with ``ImageError``."""
        self._cancelled.set()
        if self._pip is not None:
            self._pip.kill()

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Only one process builds an image; the others wait and then find it ready."""
        with open(path, "a+b") as file:
            while not self._cancelled.is_set():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.2)
            else:
                raise ImageError("Waiting for the VMs' Python environment was cancelled.")
            yield

    def _build(self, image: Path, requirements: Sequence[str], say: Say) -> None:
        shutil.rmtree(image, ignore_errors=True)
        venv.EnvBuilder(symlinks=True, with_pip=True).create(image)
        said: list[str] = []
        with subprocess.Popen(
            [str(image / "bin/python3"), "-I", "-m", "pip", "install", "--disable-pip-version-check", *requirements],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"},
        ) as pip:
            self._pip = pip
            if self._cancelled.is_set():
                pip.kill()
            for line in pip.stdout or ():
                said = [*said[-20:], line.rstrip()]
                if line.startswith(("Collecting", "Downloading", "Installing", "Successfully")):
                    say("  " + line.strip()[:110])
        self._pip = None
        if pip.returncode:
            raise ImageError("pip could not build the VMs' Python environment:\n" + "\n".join(said))


def make_environment(
    prefix: Path, seen_as: str, site_packages: Path, kernelspec: tuple[str, str], others: Sequence[tuple[str, str, str]]
) -> None:
    """One environment on a VM's disk: ``bin/python3``, ``bin/jupyter``, and the kernelspecs.

    ``prefix`` is where it lies here, ``seen_as`` the same folder in the VM's eyes. ``others`` are the kernelspecs of
    the VM's other environments as (name, display name, prefix as seen): the first environment offers them all, as
    ``jupyter kernelspec list`` does on a real one.
    """
    if not (prefix / "bin/python3").exists():
        venv.EnvBuilder(symlinks=True, with_pip=False).create(prefix)
    own = prefix / "lib" / site_packages.parent.name / "site-packages"
    (own / "image.pth").write_text(f"{site_packages}\n", encoding="utf-8")
    for program, module in (("jupyter", "jupyter_core"), ("jupyter-kernelspec", "jupyter_client.kernelspecapp")):
        # ``jupyter kernelspec`` runs the ``jupyter-kernelspec`` beside it.
        _program(
            prefix / "bin" / program, f'#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/python3" -m {module} "$@"\n'
        )
    for name, title, its_prefix in ((*kernelspec, seen_as), *others):
        folder = prefix / "share/jupyter/kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        spec = {
            "argv": [f"{its_prefix}/bin/python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": title,
            "language": "python",
            "metadata": {"debugger": True},
        }
        (folder / "kernel.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")


def make_commands(folder: Path, python: str, name: str, size_name: str, size: SizeInfo, is_dsvm: bool) -> None:
    """What the image brings besides Python: ``dsvm-more-info``, and ``nvidia-smi`` while the size has a GPU.

    Written at every boot, since a resize changes the answer. ``python`` runs them, named as the VM sees it.
    """
    binaries = folder / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    if is_dsvm:
        _program(binaries / "dsvm-more-info", f"#!/bin/sh\necho 'Data Science Virtual Machine {name} ({size_name})'\n")
    smi = binaries / "nvidia-smi"
    smi.unlink(missing_ok=True)
    if size.gpus:
        source = (Path(__file__).parent / "nvidia_smi.py").read_text(encoding="utf-8")
        _program(smi, f"#!{python}\n{source}")
        hardware = {"count": size.gpus, "model": size.gpu_model, "memory_mib": size.gpu_memory_mib, "vm": name}
        (folder / "gpus.json").write_text(json.dumps(hardware), encoding="utf-8")


def _program(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
