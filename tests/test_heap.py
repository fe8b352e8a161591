"""What is freed goes back to the system, in a process of its own: nobody's tests get other heaps."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from traitlets.config import Config

from jupyter_dsvm.extension import DSVMExtension
from jupyter_dsvm.heap import _glibc

GLIBC = pytest.mark.skipif(_glibc() is None, reason="another C library")

HEAPS = """
import re, sys, threading
from jupyter_dsvm import heap

if sys.argv[1] == "small":
    heap.keep_small()
kept, begun, done = [], threading.Barrier(11), threading.Event()

def work():
    kept.append([bytearray(40_000) for _ in range(40)])
    begun.wait()
    done.wait()

threads = [threading.Thread(target=work) for _ in range(10)]
for thread in threads:
    thread.start()
begun.wait()
# glibc's heaps of threads begin at multiples of 64 MiB.
starts = [int(line.partition("-")[0], 16) for line in open("/proc/self/maps") if " rw-p " in line and line.split()[4] == "0"]
print(sum(start % (64 << 20) == 0 for start in starts))
done.set()
for thread in threads:
    thread.join()
"""

FREE = """
import re
from jupyter_dsvm import heap

def taken():
    return int(open("/proc/self/statm").read().split()[1]) * 4

kept = []
for _ in range(2000):  # what is kept lies between what is freed, as after an import
    kept.append(bytearray(2000))
    kept.append(bytearray(20_000))
del kept[1::2]
before = taken()
heap.give_back()
print(before - taken())
"""


def printed(code: str, *arguments: str) -> int:
    command = [sys.executable, "-c", code, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)


@GLIBC
def test_many_threads_share_few_heaps():
    assert printed(HEAPS, "small") <= 1  # the other is the process's own
    assert printed(HEAPS, "as it is") > 1


@GLIBC
def test_what_is_free_goes_back():
    assert printed(FREE) > 20_000  # KiB, of 40 MB


def test_only_a_hub_s_server_saves_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("JUPYTERHUB_USER", raising=False)
    alone = DSVMExtension(log=logging.getLogger())
    assert (alone.save_memory, alone.load_early) == (False, True)
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    one = DSVMExtension(log=logging.getLogger())
    assert (one.save_memory, one.load_early) == (True, False)
    roomy = DSVMExtension(log=logging.getLogger(), config=Config({"DSVMExtension": {"load_early": True}}))
    assert (roomy.save_memory, roomy.load_early) == (True, True)
