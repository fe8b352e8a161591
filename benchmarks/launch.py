"""From asking for a kernel to the reply to its first cell.

*cold*: the first kernel of a process that was just started; nothing is connected. *warm*: another one beside it. Both are
what jupyter_client does (``start_kernel``, a client, ``execute_request``), in a process that has everything imported that a Jupyter
server has imported by then. On the machine everybody's files are there from an earlier launch.
"""

from __future__ import annotations

from functools import partial

from .bench import Bench
from .contenders import LOCAL, OURS, PEER, Contender, Ours, SSHPyk, local
from .holder import Holder
from .machines import Way
from .rows import Row, times_local, times_peer
from .spares import spare_settings, wait_for_spare

ROWS = (
    Row("launch-warm", "launch, warm connection, no spare", "s", times_local(1, text="≤ local")),
    Row("launch-warm-spare", "launch, warm connection, with a spare", "s", times_local(0.5, text="≤ 0.5 × local")),
    Row("launch-cold", "launch, cold connection", "s", times_peer(0.95, text="≤ 0.95 × sshpyk")),
    Row("launch-far-cold", "launch at 40 ms, cold", "s", times_peer(0.8, text="≤ 0.8 × sshpyk")),
    Row("launch-far-warm", "launch at 40 ms, warm, no spare", "s"),
    Row("launch-far-warm-spare", "launch at 40 ms, warm, with a spare", "s", times_peer(0.43, text="≤ 0.43 × sshpyk")),
)

Cells = dict[str, list[tuple[str, str]]]


def measure(bench: Bench) -> None:
    contenders: dict[str, tuple[Contender, dict[str, list[str]]]] = {
        "local": (
            local(bench.folder / "l"),
            {"cold": ["launch-cold"], "warm": ["launch-warm", "launch-warm-spare"]},
        )
    }
    for place, way, prefix in (("", bench.near, "launch"), (", 40 ms", bench.far, "launch-far")):
        warm = [f"{prefix}-warm", f"{prefix}-warm-spare"]
        contenders |= {
            f"sshpyk{place}": (_peer(bench, way), {"cold": [f"{prefix}-cold"], "warm": warm}),
            f"ours{place}": (_ours(bench, way, False), {"cold": [f"{prefix}-cold"], "warm": [f"{prefix}-warm"]}),
            f"ours, spare{place}": (_ours(bench, way, True), {"spare": [f"{prefix}-warm-spare"]}),
        }
    columns = {"local": LOCAL, "sshpyk": PEER, "ours": OURS}
    turns, keys = {}, {}
    for name, (contender, cells) in contenders.items():
        column = columns[name.partition(",")[0]]
        keys[name] = [(key, column) for group in cells.values() for key in group]
        if bench.attempt(partial(_prime, contender), keys[name]):
            turns[name] = partial(_turn, bench, contender, cells, column)
    bench.rounds(turns, keys)


def _peer(bench: Bench, way: Way) -> Contender:
    return SSHPyk(bench.folder / f"s-{way.name}", bench.vm, way)


def _ours(bench: Bench, way: Way, spare: bool) -> Contender:
    return Ours(bench.folder / f"o{int(spare)}-{way.name}", bench.vm, way, **spare_settings(spare))


def _prime(contender: Contender) -> None:
    with Holder(contender) as holder:
        holder.launch()


def _turn(bench: Bench, contender: Contender, cells: dict[str, list[str]], column: str) -> None:
    with Holder(contender) as holder:
        cold = holder.launch()
        found = {"cold": cold.seconds}
        if "spare" in cells:
            spare = wait_for_spare(bench.vm)
            found["spare"] = holder.launch().seconds
            if not spare.taken:
                raise RuntimeError("the kernel was not made of the spare")
        else:
            found["warm"] = holder.launch().seconds
    for kind, keys in cells.items():
        for key in keys:
            bench.results.add(key, column, found[kind])
