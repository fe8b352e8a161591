"""What a kernel on a machine costs in memory: its relay there, a spare there, and the server here.

The relay's is asked once it has rested. The server's is the growth of the server's processes (with sshpyk's ssh) per kernel after
the first, each with a page connected, as proportional set size.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from pathlib import Path

from .bench import Bench
from .contenders import LOCAL, OURS, PEER, Contender, Ours, SSHPyk, local
from .holder import Holder
from .machines import SSHServer
from .processes import Memory, memory
from .rows import Row, at_most
from .server import Server
from .spares import spare_settings, wait_for_spare

REST = 3.0
"""Seconds until a process is called idle."""

ROWS = (
    Row("relay-rss", "relay, idle: RSS", "MiB", at_most(30, "≤ 30 MB"), 1),
    Row("relay-pss", "relay, idle: PSS", "MiB", None, 1),
    Row("spare-rss", "spare, with its parent: RSS", "MiB", None, 1),
    Row("spare-pss", "spare, with its parent: PSS", "MiB", None, 1),
    Row("server-first", "server: PSS of the first kernel", "MiB", None, 1),
    Row("server-kernel", "server: PSS per further kernel", "MiB", None, 1),
)


def measure(bench: Bench) -> None:
    keys = [("relay-rss", OURS), ("relay-pss", OURS)]
    bench.rounds({"relay": partial(_relay, bench)}, {"relay": keys})
    keys = [("spare-rss", OURS), ("spare-pss", OURS)]
    bench.rounds({"spare": partial(_spare, bench)}, {"spare": keys})
    contenders: dict[str, tuple[Contender, str]] = {
        "local": (local(bench.folder / "l"), LOCAL),
        "sshpyk": (SSHPyk(bench.folder / "s-near", bench.vm, bench.near), PEER),
        "ours": (Ours(bench.folder / "o0-near", bench.vm, bench.near, **spare_settings(False)), OURS),
    }
    bench.rounds(
        {name: partial(_server, bench, contender, column) for name, (contender, column) in contenders.items()},
        {name: [("server-first", column), ("server-kernel", column)] for name, (_, column) in contenders.items()},
        bench.size(3, 1),
    )


def _relay(bench: Bench) -> None:
    with Holder(Ours(bench.folder / "o0-near", bench.vm, bench.near, **spare_settings(False))) as holder:
        holder.launch()
        time.sleep(bench.size(int(REST), 0))
        _add(bench, "relay", memory(relay_of(bench.vm)))


def _spare(bench: Bench) -> None:
    with Holder(Ours(bench.folder / "o1-near", bench.vm, bench.near, **spare_settings(True))) as holder:
        holder.launch()
        spare = wait_for_spare(bench.vm)
        time.sleep(bench.size(int(REST), 0))
        of_it, of_holder = memory(spare.pid), memory(spare.holder)
        _add(bench, "spare", Memory(of_it.rss + of_holder.rss, of_it.pss + of_holder.pss))


def _add(bench: Bench, what: str, found: Memory) -> None:
    bench.results.add(f"{what}-rss", OURS, found.rss)
    bench.results.add(f"{what}-pss", OURS, found.pss)


def relay_of(vm: SSHServer) -> int:
    """The parent of the one kernel that runs on the machine."""
    (kernel,) = (pid for pid, line in vm.processes().items() if "connection.json" in line)
    stat = Path(f"/proc/{kernel}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def _server(bench: Bench, contender: Contender, column: str) -> None:
    more = bench.size(5, 1)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(contender))
        used = [_total(server)]
        for number in range(1 + more):
            page = stack.enter_context(server.page(server.open(f"{number}.ipynb")))
            page.run("pass")
            used.append(_total(server))
        bench.results.add("server-first", column, used[1] - used[0])
        bench.results.add("server-kernel", column, (used[-1] - used[1]) / more)


def _total(server: Server) -> float:
    time.sleep(0.5)
    return sum(memory(pid).pss for pid in server.server_side())
