"""100 outputs of 1 MB each, from sending the cell until it is idle, and the CPU time that the server's side spends on them.

The server's side is the process that holds the kernel's manager (for ours: proxy and link too) and, for sshpyk, its ssh.
Through the websocket it is the Jupyter server, with ssh.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from .bench import Bench
from .contenders import LOCAL, OURS, PEER, Contender, Ours, SSHPyk, local
from .direct import DirectClient
from .holder import Holder
from .processes import cpu_seconds
from .rows import Row, at_least, times_local
from .server import Server
from .spares import spare_settings

ROWS = (
    Row("display", "100 × 1 MB display", "MB/s", times_local(0.75, text="≥ 0.75 × local", more=True), 0),
    Row("display-far", "the same at 40 ms", "MB/s", at_least(120, "≥ 120 MB/s"), 0),
    Row("display-page", "the same through the websocket", "MB/s", None, 0),
    Row("display-cpu", "CPU of the server's side per MB of output", "ms", None),
    Row("display-page-cpu", "the same through the websocket", "ms", None),
)

MB = 1_000_000


def measure(bench: Bench) -> None:
    off = spare_settings(False)
    near: dict[str, tuple[Contender, str]] = {
        "local": (local(bench.folder / "l"), LOCAL),
        "sshpyk": (SSHPyk(bench.folder / "s-near", bench.vm, bench.near), PEER),
        "ours": (Ours(bench.folder / "o0-near", bench.vm, bench.near, **off), OURS),
    }
    far: dict[str, tuple[Contender, str]] = {
        "sshpyk, 40 ms": (SSHPyk(bench.folder / "s-far", bench.vm, bench.far), PEER),
        "ours, 40 ms": (Ours(bench.folder / "o0-far", bench.vm, bench.far, **off), OURS),
    }
    _directly(bench, near, "display", "display-cpu")
    _directly(bench, far, "display-far", None)
    _through_pages(bench, near)


def _directly(bench: Bench, contenders: dict[str, tuple[Contender, str]], row: str, cpu_row: str | None) -> None:
    with contextlib.ExitStack() as stack:
        turns: dict[str, Callable[[], None]] = {}
        keys = {n: [(r, column) for r in (row, cpu_row) if r] for n, (_, column) in contenders.items()}

        def open_one(name: str) -> None:
            contender, column = contenders[name]
            holder = stack.enter_context(Holder(contender))
            client = stack.enter_context(DirectClient(holder.launch().connection))
            client.run(_cell(2))  # whatever a first output sets up

            def count(code: str) -> tuple[float, int]:
                sizes: list[int] = []
                seconds = client.run(
                    code, lambda kind, parts: sizes.append(len(parts[3])) if kind == "display_data" else None
                )
                return seconds, sum(sizes)

            turns[name] = partial(_turn, bench, row, cpu_row, column, count, holder.server_side)

        for name in contenders:
            bench.attempt(partial(open_one, name), keys[name])
        bench.rounds(turns, keys)


def _through_pages(bench: Bench, contenders: dict[str, tuple[Contender, str]]) -> None:
    with contextlib.ExitStack() as stack:
        turns: dict[str, Callable[[], None]] = {}
        keys = {n: [(r, column) for r in ("display-page", "display-page-cpu")] for n, (_, column) in contenders.items()}

        def open_one(name: str) -> None:
            contender, column = contenders[name]
            server = stack.enter_context(Server(contender))
            kernel_id = server.open()

            def count(code: str) -> tuple[float, int]:
                sizes: list[int] = []
                with server.page(kernel_id) as page:
                    page.run(_cell(2))
                    seconds = page.run(
                        code, lambda kind, content: sizes.append(len(content)) if kind == "display_data" else None
                    )
                return seconds, sum(sizes)

            turns[name] = partial(_turn, bench, "display-page", "display-page-cpu", column, count, server.server_side)

        for name in contenders:
            bench.attempt(partial(open_one, name), keys[name])
        bench.rounds(turns, keys)


def _cell(outputs: int) -> str:
    return f"""from IPython.display import display
for _ in range({outputs}):
    display({{"text/plain": "x" * {MB}}}, raw=True)"""


def _turn(
    bench: Bench,
    row: str,
    cpu_row: str | None,
    column: str,
    run: Callable[[str], tuple[float, int]],
    server_side: Callable[[], list[int]],
) -> None:
    outputs = bench.size(100, 4)
    pids = server_side()
    before = cpu_seconds(pids)
    seconds, received = run(_cell(outputs))
    if received < outputs * MB:
        bench.results.note(row, column, f"only {received / MB:.0f} of {outputs} MB arrived")
    bench.results.add(row, column, received / MB / seconds)
    if cpu_row is not None and received:
        bench.results.add(cpu_row, column, 1000 * (cpu_seconds(pids) - before) / (received / MB))
