"""What importing the extension adds to a server's start: a fresh process that has imported the server already."""

from __future__ import annotations

import subprocess
import sys

from .bench import Bench
from .contenders import OURS
from .rows import Row, at_most

ROWS = (
    Row("import", "importing the extension at server start", "ms", at_most(50, "≤ 50 ms"), 1),
    Row("import-ssh", "importing what the first attach needs (not at start)", "ms", None, 1),
)

CODE = """
import time
import jupyter_server.serverapp, jupyter_server.extension.application
begun = time.perf_counter()
import {modules}
print(time.perf_counter() - begun)
"""


def measure(bench: Bench) -> None:
    keys = {"extension": [("import", OURS)], "ssh": [("import-ssh", OURS)]}
    bench.rounds(
        {
            "extension": lambda: _import(bench, "import", "jupyter_dsvm.extension, jupyter_dsvm.routes"),
            "ssh": lambda: _import(bench, "import-ssh", "paramiko"),
        },
        keys,
        bench.repeats * bench.size(3, 1),
    )


def _import(bench: Bench, row: str, modules: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(modules=modules)], capture_output=True, text=True, check=True
    )
    bench.results.add(row, OURS, 1000 * float(done.stdout))
