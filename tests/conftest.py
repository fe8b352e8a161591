"""What every test gets: Jupyter folders of its own, and a look afterwards at what it left behind."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jupyter_dsvm.kernels.registry import registry
from support import judge
from support.kernels import Notebook, default_provisioner

pytest_plugins = ["pytest_jupyter.jupyter_server"]

# How long examples take to make says how busy the machine is, and nothing about what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a shell's background job; what the tests start would inherit it and hear no Ctrl+C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # As under nohup; a program in a terminal would outlive it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

MARK = "JUPYTER_DSVM_TESTS"
"""In the environment of every process that a test starts, so that those which detached themselves are found too."""
PATIENCE = 8.0
"""Seconds in which what a test has ended may take to be gone."""
SPARE_FDS = 2
"""Descriptors that a first use leaves open for good: an event loop's, a random device's."""


@pytest.fixture(scope="session", autouse=True)
def jupyter_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Jupyter's folders, private to this run, under a path that is short enough for unix sockets."""
    tmp_path_factory.getbasetemp()  # where it always is
    folder = Path(tempfile.mkdtemp(prefix="dt-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        (folder / "tmp").mkdir()
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        for name in ("runtime", "data", "config"):
            (folder / name).mkdir(mode=0o700)
            patch.setenv(f"JUPYTER_{name.upper()}_DIR", str(folder / name))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv(MARK, str(os.getpid()))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "0")
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def traffic_kept() -> Iterator[None]:
    """What is said to every emulator of this run is judged when all tests have run, if ``make`` asks for it."""
    folder = os.environ.get(judge.FOLDER)
    with judge.kept(Path(folder) if folder else None):
        yield


@dataclass
class Belongings:
    """What a test may leave behind."""

    threads: set[threading.Thread]
    kernels: set[str]
    processes: dict[int, str]
    files: set[str]
    descriptors: int

    @classmethod
    def now(cls, folder: Path) -> Belongings:
        files = {*map(str, (folder / "runtime").iterdir()), *map(str, (folder / "tmp").glob("dsvm-*"))}
        kernels = {proxy.kernel_id for proxy in registry.all()}
        return cls(set(threading.enumerate()), kernels, our_processes(), files, len(os.listdir("/proc/self/fd")))

    def left(self, earlier: Belongings) -> list[str]:
        left = [f"thread {t.name}" for t in self.threads - earlier.threads]
        left += [f"kernel {kernel_id}" for kernel_id in self.kernels - earlier.kernels]
        left += [f"process {pid}: {line}" for pid, line in self.processes.items() if pid not in earlier.processes]
        left += [f"file {path}" for path in self.files - earlier.files]
        if self.descriptors > earlier.descriptors + SPARE_FDS:
            left.append(f"{self.descriptors - earlier.descriptors} file descriptors")
        return left


def our_processes() -> dict[int, str]:
    """Living processes with this run's mark: pid to command line."""
    mark, found = f"{MARK}={os.getpid()}\0".encode(), {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                    )
            except OSError:
                pass
    return found


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest, jupyter_folders: Path) -> Iterator[None]:
    """No thread, process, file or descriptor of a test outlives it. (What fixtures of a wider scope own was there before.)"""
    earlier = Belongings.now(jupyter_folders)
    yield
    deadline = time.monotonic() + PATIENCE
    while left := Belongings.now(jupyter_folders).left(earlier):
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + "; ".join(left))
        gc.collect()
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def nothing_goes_on(jupyter_folders: Path) -> None:
    """What an earlier test has had on costs nothing in this one, what it was changing when it ended is not gone on with, and
    what it has allowed or saved is forgotten."""
    kept = jupyter_folders / "data" / "jupyter-dsvm"
    carried = [kept / "carry-from.json", kept / "saved-variables.json"]
    for file in (*kept.glob("spend.sqlite*"), *kept.glob("changes/*"), *kept.glob("idle/*"), *carried):
        if file.is_file():
            file.unlink()


@pytest.fixture
def dsvm_provisioner() -> Iterator[None]:
    """Kernels of this test get a proxy."""
    with default_provisioner("dsvm-provisioner"):
        yield


@pytest.fixture
def notebook(dsvm_provisioner: None) -> Iterator[Notebook]:
    """A Python kernel behind a proxy, ready, and a client of it."""
    with Notebook() as opened:
        yield opened
