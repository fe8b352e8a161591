"""How many of 300 lines, printed in 15 s, never reach the page.

*SSH killed*: after 5 s every connection to the machine is reset, and new ones are refused for 5 s. *Server killed*: after
5 s the Jupyter server gets SIGKILL; 3 s later it is started again, with the same folders, and the page connects to the kernel
with the same id if that is offered. Where it is not, sshpyk's kernel is read on by hand: its tunnels outlive the server, so a
client is pointed at its connection file, the best that its user can do. A kernel that ended with its server has lost what
it would have printed.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from functools import partial

from websocket import WebSocketException

from .bench import Bench
from .contenders import LOCAL, OURS, PEER, Contender, Ours, SSHPyk, local
from .direct import DirectClient, Parts
from .machines import Way, way
from .rows import Row, at_most
from .server import Server
from .spares import spare_settings

ROWS = (
    Row("lost-cut", "lines lost of 300 when SSH is killed for 5 s", "", at_most(0, "0"), 0),
    Row("lost-kill", "lines lost of 300 after kill -9 of the server", "", at_most(0, "0"), 0),
)

PAUSE = 0.05
DOWN = 3.0
OFFERED = 20.0
"""Seconds in which a new server may offer the kernel."""
AFTERWARDS = 40.0
"""Seconds that what is late has, after the cell's own time."""


def measure(bench: Bench) -> None:
    with way(bench.vm, "cut", relayed=True) as fragile:
        off = spare_settings(False)
        contenders: dict[str, tuple[Contender, str]] = {
            "local": (local(bench.folder / "l"), LOCAL),
            "sshpyk": (SSHPyk(bench.folder / "s-cut", bench.vm, fragile), PEER),
            "ours": (Ours(bench.folder / "o0-cut", bench.vm, fragile, **off), OURS),
        }
        repeats = max(1, min(3, bench.repeats))
        turns: dict[str, Callable[[Bench, Contender, str, Way], None]] = {"lost-cut": _cut, "lost-kill": _kill}
        for row, turn in turns.items():
            bench.rounds(
                {n: partial(turn, bench, contender, column, fragile) for n, (contender, column) in contenders.items()},
                {n: [(row, column)] for n, (_, column) in contenders.items()},
                repeats,
            )


class Lines:
    """What has been seen of the cell's lines."""

    def __init__(self, bench: Bench) -> None:
        self.wanted = bench.size(300, 60)
        self.lasts = self.wanted * PAUSE
        self.code = f"import time\nfor i in range({self.wanted}): print(i, flush=True); time.sleep({PAUSE})"
        self._seen: list[int] = []

    def from_page(self, kind: str, content: bytes) -> None:
        if kind == "stream":
            self._seen += [int(word) for word in json.loads(content)["text"].split() if word.isdigit()]

    def directly(self, kind: str, parts: Parts) -> None:
        self.from_page(kind, parts[3].bytes)

    def report(self, bench: Bench, row: str, column: str) -> None:
        lost = set(range(self.wanted)) - set(self._seen)
        if len(self._seen) != len(set(self._seen)):
            bench.results.note(row, column, f"{len(self._seen) - len(set(self._seen))} came twice")
        bench.results.add(row, column, len(lost))


def _cut(bench: Bench, contender: Contender, column: str, fragile: Way) -> None:
    lines = Lines(bench)
    with Server(contender) as server, server.page(server.open()) as page:
        page.run("pass")
        cut = threading.Timer(lines.lasts / 3, fragile.cut, (lines.lasts / 3,))
        cut.start()
        try:
            page.run(lines.code, lines.from_page, lines.lasts + AFTERWARDS)
        except (OSError, WebSocketException) as e:
            bench.results.note("lost-cut", column, f"the page heard no end: {type(e).__name__}")
        finally:
            cut.join()
    lines.report(bench, "lost-cut", column)


def _kill(bench: Bench, contender: Contender, column: str, fragile: Way) -> None:
    lines = Lines(bench)
    with Server(contender) as server:
        kernel_id = server.open()
        page = server.page(kernel_id)
        page.run("pass")
        killer = threading.Timer(lines.lasts / 3, server.kill)
        killer.start()
        request = page.send(lines.code)
        begun = time.monotonic()
        with contextlib.suppress(OSError, WebSocketException):
            page.wait(request, lines.from_page)
        killer.join()
        page.close()
        time.sleep(DOWN)
        server.start()
        left = max(1.0, begun + lines.lasts + AFTERWARDS - time.monotonic())
        try:
            if _offered(server, kernel_id):
                with server.page(kernel_id, page.session) as again:
                    again.wait(request, lines.from_page, left)
            elif column == PEER:
                bench.results.note("lost-kill", column, "read on by hand through the tunnels that were left")
                connection = contender.folder / "runtime" / f"kernel-{kernel_id}.json"
                with DirectClient(json.loads(connection.read_text()), idle=False) as client:
                    client.wait(request, lines.directly, left, replied=False)
            else:
                bench.results.note("lost-kill", column, "the kernel is not offered any more")
        except (OSError, WebSocketException, RuntimeError) as e:
            bench.results.note("lost-kill", column, f"no end was heard: {type(e).__name__}")
    lines.report(bench, "lost-kill", column)


def _offered(server: Server, kernel_id: str) -> bool:
    deadline = time.monotonic() + OFFERED
    while kernel_id not in server.kernels():
        if time.monotonic() > deadline or not server.contender.extension:  # nothing else adopts
            return False
        time.sleep(0.1)
    return True
