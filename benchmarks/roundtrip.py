"""How long ``pass`` takes: a cell with its reply and its idle, one at a time, from a client in a process of its own.

A sample is the median of a batch; the contenders' batches take turns on kernels that all stay open.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping
from functools import partial

from .bench import Bench
from .contenders import LOCAL, OURS, PEER, Contender, Ours, SSHPyk, free_tier, local
from .direct import DirectClient
from .holder import Holder
from .rows import Row, at_most, times_local, times_peer
from .server import Server
from .spares import spare_settings

BUSY = 0.5

ROWS = (
    Row("pass", "round trip of `pass`", "ms", times_local(1, 0.6, text="≤ local + 0.6 ms")),
    Row("pass-far", "round trip of `pass` at 40 ms", "ms", times_peer(1, 0.6, text="≤ sshpyk + 0.6 ms")),
    Row("pass-free", "the free tier behind the proxy", "ms", times_local(1.05, text="≤ 1.05 × local")),
    Row("pass-free-busy", "the same, server's loop half busy", "ms", times_local(1.05, text="≤ 1.05 × local")),
    Row("pass-page", "`pass` through the websocket", "ms", at_most(8, "≤ 8 ms")),
    Row("pass-page-far", "`pass` through the websocket at 40 ms", "ms", at_most(48, "≤ 40 + 8 ms")),
    Row("pass-page-free", "the free tier through the websocket", "ms", at_most(8, "≤ 8 ms")),
    Row("pass-page-free-busy", "the same, server's loop half busy", "ms", times_local(1.05, text="≤ 1.05 × local")),
)

Pass = Callable[[], float]
"""One cell; seconds."""


def measure(bench: Bench) -> None:
    off = spare_settings(False)
    contenders: dict[str, tuple[Contender, str]] = {
        "local": (local(bench.folder / "l"), LOCAL),
        "free tier": (free_tier(bench.folder / "f"), OURS),
        "sshpyk": (SSHPyk(bench.folder / "s-near", bench.vm, bench.near), PEER),
        "ours": (Ours(bench.folder / "o0-near", bench.vm, bench.near, **off), OURS),
        "sshpyk, 40 ms": (SSHPyk(bench.folder / "s-far", bench.vm, bench.far), PEER),
        "ours, 40 ms": (Ours(bench.folder / "o0-far", bench.vm, bench.far, **off), OURS),
    }
    _directly(bench, contenders)
    _through_pages(bench, contenders)


def _directly(bench: Bench, contenders: dict[str, tuple[Contender, str]]) -> None:
    rows = {
        "local": ["pass", "pass-free"],
        "free tier": ["pass-free"],
        "sshpyk": ["pass"],
        "ours": ["pass"],
        "sshpyk, 40 ms": ["pass-far"],
        "ours, 40 ms": ["pass-far"],
    }
    with contextlib.ExitStack() as stack:
        held: dict[str, tuple[Holder, DirectClient]] = {}

        def open_one(name: str) -> None:
            holder = stack.enter_context(Holder(contenders[name][0]))
            held[name] = holder, stack.enter_context(DirectClient(holder.launch().connection))

        def batch(name: str) -> float:
            return _batch(bench, partial(held[name][1].run, "pass"))

        turns, keys = _opened(bench, contenders, rows, open_one, batch)
        bench.rounds(turns, keys)

        _with_a_busy_loop(bench, contenders, "pass-free-busy", held, batch)


def _through_pages(bench: Bench, contenders: dict[str, tuple[Contender, str]]) -> None:
    rows = {
        "local": ["pass-page", "pass-page-free"],
        "free tier": ["pass-page-free"],
        "sshpyk": ["pass-page"],
        "ours": ["pass-page"],
        "sshpyk, 40 ms": ["pass-page-far"],
        "ours, 40 ms": ["pass-page-far"],
    }
    with contextlib.ExitStack() as stack:
        held: dict[str, tuple[Server, str]] = {}

        def open_one(name: str) -> None:
            server = stack.enter_context(Server(contenders[name][0]))
            held[name] = server, server.open()

        def batch(name: str) -> float:
            # A page for each turn: one that waits for its turn would not answer the server's pings.
            server, kernel_id = held[name]
            with server.page(kernel_id) as page:
                return _batch(bench, partial(page.run, "pass"))

        turns, keys = _opened(bench, contenders, rows, open_one, batch)
        bench.rounds(turns, keys)

        _with_a_busy_loop(bench, contenders, "pass-page-free-busy", held, batch)


def _with_a_busy_loop(
    bench: Bench,
    contenders: dict[str, tuple[Contender, str]],
    row: str,
    held: Mapping[str, tuple[Holder | Server, object]],
    batch: Callable[[str], float],
) -> None:
    """The same once more for the kernels here, while the loop of whoever holds them has other things to do."""

    def busy(name: str) -> None:
        held[name][0].busy(BUSY)
        try:
            sample = batch(name)
        finally:
            held[name][0].busy(0)
        bench.results.add(row, contenders[name][1], sample)

    both = [name for name in ("local", "free tier") if name in held]
    bench.rounds({name: partial(busy, name) for name in both}, {name: [(row, contenders[name][1])] for name in both})


def _opened(
    bench: Bench,
    contenders: dict[str, tuple[Contender, str]],
    rows: dict[str, list[str]],
    open_one: Callable[[str], None],
    batch: Callable[[str], float],
) -> tuple[dict[str, Callable[[], None]], dict[str, list[tuple[str, str]]]]:
    """Open everybody's kernel, and give the turns of those who have one."""
    turns: dict[str, Callable[[], None]] = {}
    keys = {name: [(key, contenders[name][1]) for key in names] for name, names in rows.items()}
    for name in rows:
        if bench.attempt(partial(open_one, name), keys[name]):
            turns[name] = partial(_turn, bench, keys[name], partial(batch, name))
    return turns, keys


def _turn(bench: Bench, keys: list[tuple[str, str]], batch: Callable[[], float]) -> None:
    sample = batch()
    for key, column in keys:
        bench.results.add(key, column, sample)


def _batch(bench: Bench, cell: Pass) -> float:
    """Milliseconds."""
    for _ in range(3):
        cell()
    return 1000 * statistics.median(cell() for _ in range(bench.size(50, 5)))
