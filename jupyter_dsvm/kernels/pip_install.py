"""Run by a kernel's own Python on a VM (``environments``): pip, for as long as somebody waits for it.

Stdin, one line of JSON each: the packages, and the environment variables of the kernelspec; then nothing, until whoever asked goes
away or no longer wants it: at its end pip and all that it has begun are killed. Stdout: what pip says. The exit status is pip's.
It runs on Python 3.8 with the standard library, as ``python -c`` of a line that reads this text.
"""

import sys

sys.path[:] = [p for p in sys.path if p]  # no file of the working directory takes the place of what is imported here

import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import threading  # noqa: E402

GRACE = 3.0
"""Seconds that pip has to take back what it has done half."""

packages = json.loads(sys.stdin.readline())
variables = {**os.environ, **json.loads(sys.stdin.readline()), "PYTHONUNBUFFERED": "1", "PIP_NO_COLOR": "1"}
# In the root folder, where nothing of the user's can be taken for a package or for pip.
pip = subprocess.Popen(
    [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "--",
        *packages,
    ],
    stdin=subprocess.DEVNULL,
    stderr=subprocess.STDOUT,
    cwd="/",
    env=variables,
    start_new_session=True,
)


def tell(signum: int) -> None:
    try:
        os.killpg(pip.pid, signum)
    except OSError:
        pass


def watch() -> None:
    while os.read(0, 4096):
        pass
    tell(signal.SIGINT)
    try:
        pip.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    tell(signal.SIGKILL)


threading.Thread(target=watch, daemon=True).start()
status = pip.wait()
tell(signal.SIGKILL)  # what it may have left behind
sys.stdout.flush()
os._exit(status if status >= 0 else 1)  # the thread still reads
