"""What it costs that the outputs of cells are kept for a page that comes later (``jupyter_dsvm.kernels.recording``).

The same server twice, with and without, taking turns: round trips of ``pass``, 20,000 small outputs and 100 of 1 MB through the
websocket, for a kernel here and one on the machine; the CPU time of the server; and how long a page waits for 20 MB of missed
outputs of 500 cells.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from functools import partial

from .bench import Bench
from .contenders import OURS, Contender, Ours, free_tier
from .processes import cpu_seconds
from .rows import Row, times
from .server import Server
from .spares import spare_settings

WITHOUT = "not kept"
COLUMNS = (WITHOUT, OURS)

PASSES = 200
SMALL = 20_000
BIG = 100
CELLS = 500
CELL = 40_000
"""Characters that each of them puts out."""

_SLOWER = times(WITHOUT, 1.05, text="≤ 1.05 × not kept")
_LESS = times(WITHOUT, 0.95, text="≥ 0.95 × not kept", more=True)


def _rows(key: str, where: str) -> tuple[Row, ...]:
    return (
        Row(f"kept-pass-{key}", f"`pass` through the websocket, {where}", "ms", _SLOWER, columns=COLUMNS),
        Row(f"kept-small-{key}", f"20,000 small outputs, {where}", "s", _SLOWER, columns=COLUMNS),
        Row(f"kept-small-cpu-{key}", "CPU of the server for them", "s", None, columns=COLUMNS),
        Row(f"kept-display-{key}", f"100 × 1 MB display, {where}", "MB/s", _LESS, 0, columns=COLUMNS),
        Row(f"kept-display-cpu-{key}", "CPU of the server per MB", "ms", None, columns=COLUMNS),
    )


ROWS = (
    *_rows("free", "the free tier"),
    *_rows("vm", "on a machine"),
    Row("kept-missed", "500 cells, 20 MB of missed outputs: all of it asked for", "s", None, columns=(OURS,)),
)


def measure(bench: Bench) -> None:
    off = spare_settings(False)
    kept: dict[str, Contender] = {
        "free": free_tier(bench.folder / "kf"),
        "vm": Ours(bench.folder / "kv", bench.vm, bench.near, **off),
    }
    without: dict[str, Contender] = {
        "free": free_tier(bench.folder / "nf"),
        "vm": Ours(bench.folder / "nv", bench.vm, bench.near, kept_outputs_mib=0, **off),
    }
    without["free"].settings["DSVMService"]["kept_outputs_mib"] = 0
    for key in ("free", "vm"):
        columns = {WITHOUT: without[key], OURS: kept[key]}
        with contextlib.ExitStack() as stack:
            turns = {}
            keys = {name: [(row.key, name) for row in _rows(key, "")] for name in columns}
            for name, contender in columns.items():
                server = stack.enter_context(Server(contender))
                turns[name] = partial(_turn, bench, key, name, server, server.open())
            bench.rounds(turns, keys)
    with Server(kept["free"]) as server:
        bench.attempt(partial(_missed, bench, server, server.open()), [("kept-missed", OURS)])


def _turn(bench: Bench, key: str, column: str, server: Server, kernel_id: str) -> None:
    small, big = bench.size(SMALL, 300), bench.size(BIG, 3)
    add = bench.results.add
    with server.page(kernel_id) as page:
        page.run("from IPython.display import display")
        add(
            f"kept-pass-{key}", column, 1000 * statistics.median(page.run("pass") for _ in range(bench.size(PASSES, 5)))
        )
        cpu = cpu_seconds(server.server_side())
        add(f"kept-small-{key}", column, page.run(f"for i in range({small}): print(i, flush=True)"))
        time.sleep(0.5)  # what is kept is written
        add(f"kept-small-cpu-{key}", column, cpu_seconds(server.server_side()) - cpu)
        cpu = cpu_seconds(server.server_side())
        code = f"for i in range({big}): display({{'text/plain': str(i) + ' ' * 1_000_000}}, raw=True)"
        add(f"kept-display-{key}", column, big / page.run(code))
        time.sleep(0.5)
        add(f"kept-display-cpu-{key}", column, 1000 * (cpu_seconds(server.server_side()) - cpu) / big)


def _missed(bench: Bench, server: Server, kernel_id: str) -> None:
    cells = bench.size(CELLS, 5)
    with server.page(kernel_id) as page:
        for n in range(cells):
            page.cell = f"cell-{n}"
            page.run(f"print('x' * {CELL})")
    for _ in range(bench.repeats):
        begun = time.perf_counter()
        found = server.outputs(kernel_id)
        bench.results.add("kept-missed", OURS, time.perf_counter() - begun)
        assert len(found) == cells
        assert all(len(row["outputs"][0]["text"]) == CELL + 1 for row in found)
