"""What a page gets of 20,000 small outputs, how soon an interrupt acts meanwhile, and what a page that does not read costs.

The page's client is Python's: a slow one, so what a faster browser would see is less time, and never fewer messages.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .bench import Bench
from .contenders import LOCAL, OURS, PEER, Contender, Ours, SSHPyk, local
from .processes import rss_now
from .rows import Row, at_least, at_most
from .server import Page, Server
from .spares import spare_settings

SMALL = 20_000
BIG = 1_000
"""Outputs of 1 MB."""
FLOOD = 30.0
"""Seconds after which the flood ends by itself."""
UNREAD = 25.0
"""Seconds at most that the page does not read: the server's ping, after 30 s, would find it dead."""

ROWS = (
    Row("small", "20,000 small outputs through the websocket: arrived", "", at_least(SMALL, "20,000"), 0),
    Row("small-time", "the same: seconds until the cell is over", "s", at_most(10, "≤ 10 s")),
    Row("interrupt", "Interrupt during a flood: until the kernel is stopped", "s", at_most(1, "≤ 1 s")),
    Row("interrupt-page", "the same: until the page has the reply", "s", at_most(1, "≤ 1 s")),
    Row("stalled", "server memory while a page does not read 1 GB of output", "MiB", at_most(64, "≤ 64 MB"), 0),
    Row("stalled-lost", "the same: outputs lost of 1,000", "", at_most(0, "0"), 0),
)


def measure(bench: Bench) -> None:
    contenders: dict[str, tuple[Contender, str]] = {
        "local": (local(bench.folder / "l"), LOCAL),
        "sshpyk": (SSHPyk(bench.folder / "s-near", bench.vm, bench.near), PEER),
        "ours": (Ours(bench.folder / "o0-near", bench.vm, bench.near, **spare_settings(False)), OURS),
    }
    for rows, turn, repeats in (
        (("small", "small-time"), _small, 0),
        (("interrupt", "interrupt-page"), _interrupt, 0),
        (("stalled", "stalled-lost"), _stalled, 1),
    ):
        bench.rounds(
            {
                name: partial(_with_page, bench, contender, column, turn)
                for name, (contender, column) in contenders.items()
            },
            {name: [(row, column) for row in rows] for name, (_, column) in contenders.items()},
            repeats,
        )


Turn = Callable[[Bench, str, Server, str, Page], None]


def _with_page(bench: Bench, contender: Contender, column: str, turn: Turn) -> None:
    with Server(contender) as server:
        kernel_id = server.open()
        with server.page(kernel_id) as page:
            page.run("pass")
            turn(bench, column, server, kernel_id, page)


def _small(bench: Bench, column: str, server: Server, kernel_id: str, page: Page) -> None:
    outputs = bench.size(SMALL, 300)
    seen: list[int] = []

    def output(kind: str, content: bytes) -> None:
        if kind == "stream":
            seen.extend(int(word) for word in json.loads(content)["text"].split() if word.isdigit())

    seconds = page.run(f"for i in range({outputs}): print(i, flush=True)", output)
    if len(seen) != len(set(seen)):
        bench.results.note("small", column, f"{len(seen) - len(set(seen))} came twice")
    bench.results.add("small", column, len(set(seen)))
    bench.results.add("small-time", column, seconds)


def _interrupt(bench: Bench, column: str, server: Server, kernel_id: str, page: Page) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stopped = Path(folder) / "stopped"
        request = page.send(f"""
import time as _time
_end = _time.time() + {FLOOD}
try:
    _i = 0
    while _time.time() < _end:
        print(_i, flush=True); _i += 1
finally:
    with open({str(stopped)!r}, "w") as _f: _f.write(repr(_time.time()))
""")
        asked: list[float] = []

        def interrupt() -> None:
            asked.append(time.time())
            server.interrupt(kernel_id)

        timer = threading.Timer(bench.size(3, 1), interrupt)
        timer.start()
        try:
            page.wait(request)
        finally:
            timer.join()
        bench.results.add("interrupt", column, float(stopped.read_text()) - asked[0])
        bench.results.add("interrupt-page", column, time.time() - asked[0])


def _stalled(bench: Bench, column: str, server: Server, kernel_id: str, page: Page) -> None:
    outputs = bench.size(BIG, 20)
    with tempfile.TemporaryDirectory() as folder:
        ended = Path(folder) / "ended"
        before = peak = rss_now(server.pid)
        request = page.send(f"""
from IPython.display import display
for _i in range({outputs}):
    display({{"text/plain": str(_i) + " " * 1_000_000}}, raw=True)
open({str(ended)!r}, "w").close()
""")
        deadline = time.monotonic() + bench.size(int(UNREAD), 5)
        rest = 0.0
        while time.monotonic() < deadline and rest < 3:
            time.sleep(0.05)
            peak = max(peak, rss_now(server.pid))
            rest += 0.05 if ended.exists() else 0  # what is under way still comes in
        seen: set[int] = set()

        def output(kind: str, content: bytes) -> None:
            nonlocal peak
            if kind == "display_data":
                seen.add(int(json.loads(content)["data"]["text/plain"]))
                peak = max(peak, rss_now(server.pid))

        try:
            page.wait(request, output)
        except (OSError, TimeoutError, ConnectionError) as e:
            bench.results.note("stalled-lost", column, f"the page heard no end: {type(e).__name__}")
        if not ended.exists():
            bench.results.note("stalled", column, "the cell had to wait for the page")
        bench.results.add("stalled", column, peak - before)
        bench.results.add("stalled-lost", column, outputs - len(seen))
