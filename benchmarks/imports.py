"""What the extension adds to a server's start: its import, and all that is done for it until the server listens. Each in a fresh
process that has imported the server already; nothing else is enabled there, and compiled modules are used, as after an
installation."""

from __future__ import annotations

import os
import subprocess
import sys

from .bench import Bench
from .contenders import OURS
from .rows import Row, at_most

ROWS = (
    Row("start", "what the extension adds to a server's start, import and all", "ms", at_most(50, "≤ 50 ms"), 1),
    Row("import", "importing the extension at server start", "ms", at_most(50, "≤ 50 ms"), 1),
    Row("import-ssh", "importing what the first attach needs (not at start)", "ms", None, 1),
)

IMPORT = """
import time
import jupyter_server.serverapp, jupyter_server.extension.application
begun = time.perf_counter()
import {modules}
print(time.perf_counter() - begun)
"""

START = """
import os, sys, tempfile, time
folder = tempfile.mkdtemp()
for name in ("CONFIG", "DATA", "RUNTIME"):
    os.environ[f"JUPYTER_{name}_DIR"] = os.path.join(folder, name)
from jupyter_server.serverapp import ServerApp
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.extension.manager import ExtensionManager

spent = 0.0

def timed(method):
    def call(self, name, *arguments, **options):
        global spent
        begun = time.perf_counter()
        try:
            return method(self, name, *arguments, **options)
        finally:
            spent += (time.perf_counter() - begun) if name == "jupyter_dsvm" else 0.0
    return call

for name in ("add_extension", "load_extension"):
    setattr(ExtensionManager, name, timed(getattr(ExtensionManager, name)))
others = ("jupyterlab", "jupyter_lsp", "jupyter_server_terminals", "notebook", "notebook_shim")
app = ServerApp(allow_root=True, open_browser=False, port=0, root_dir=folder, log_level="ERROR")
app.jpserver_extensions = {**dict.fromkeys(others, False), "jupyter_dsvm": True}
app.initialize(argv=[])
assert "jupyter_dsvm.service" in sys.modules and not [m for m in sys.modules if m.partition(".")[0] == "azure"]
print(spent)
sys.stdout.flush()
import shutil
shutil.rmtree(folder)
os._exit(0)
"""


def measure(bench: Bench) -> None:
    modules = "jupyter_dsvm.extension, jupyter_dsvm.routes"
    _run(START)  # compiles what is not compiled yet
    bench.rounds(
        {
            "start": lambda: bench.results.add("start", OURS, _run(START)),
            "extension": lambda: bench.results.add("import", OURS, _run(IMPORT.format(modules=modules))),
            "ssh": lambda: bench.results.add("import-ssh", OURS, _run(IMPORT.format(modules="paramiko"))),
        },
        {"start": [("start", OURS)], "extension": [("import", OURS)], "ssh": [("import-ssh", OURS)]},
        bench.repeats * bench.size(3, 1),
    )


def _run(code: str) -> float:
    """Milliseconds that ``code`` prints as seconds."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return 1000 * float(done.stdout)
