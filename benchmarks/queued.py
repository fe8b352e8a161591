"""The time between one cell's end and the next one's beginning in the kernel, when all were sent at once (*Run All*).

A kernel needs some milliseconds of its own between two cells, so ours is held against those of a local one."""

from __future__ import annotations

import contextlib
import json
import statistics
from functools import partial
from itertools import pairwise

from .bench import Bench
from .contenders import LOCAL, OURS, PEER, Contender, Ours, SSHPyk, local
from .direct import DirectClient, Parts
from .holder import Holder
from .rows import Row, times_local
from .spares import spare_settings

ROWS = (
    Row("gap", "gap between queued cells", "ms", None),
    Row("gap-far", "gap between queued cells at 40 ms", "ms", times_local(1, 42, text="≤ local + 1 round trip + 2 ms")),
)

# Each cell notes when it began and when it ended, the last expression being the latest thing in it.
CELL = """import time as _time; _begun = _time.time()
_gaps = globals().get('_gaps', []); _gaps.append((_begun, _time.time()))"""
LAST = "import json; print(json.dumps(_gaps)); del _gaps"


def measure(bench: Bench) -> None:
    off = spare_settings(False)
    contenders: dict[str, tuple[Contender, str, list[str]]] = {
        "local": (local(bench.folder / "l"), LOCAL, ["gap", "gap-far"]),
        "sshpyk": (SSHPyk(bench.folder / "s-near", bench.vm, bench.near), PEER, ["gap"]),
        "ours": (Ours(bench.folder / "o0-near", bench.vm, bench.near, **off), OURS, ["gap"]),
        "sshpyk, 40 ms": (SSHPyk(bench.folder / "s-far", bench.vm, bench.far), PEER, ["gap-far"]),
        "ours, 40 ms": (Ours(bench.folder / "o0-far", bench.vm, bench.far, **off), OURS, ["gap-far"]),
    }
    with contextlib.ExitStack() as stack:
        turns = {}
        keys = {name: [(row, column) for row in rows] for name, (_, column, rows) in contenders.items()}

        def open_one(name: str) -> None:
            holder = stack.enter_context(Holder(contenders[name][0]))
            client = stack.enter_context(DirectClient(holder.launch().connection))
            turns[name] = partial(_turn, bench, client, keys[name])

        for name in contenders:
            bench.attempt(partial(open_one, name), keys[name])
        bench.rounds(turns, keys)


def _turn(bench: Bench, client: DirectClient, keys: list[tuple[str, str]]) -> None:
    for _ in range(bench.size(20, 4)):
        client.send(CELL)
    text: list[str] = []

    def output(kind: str, parts: Parts) -> None:
        if kind == "stream":
            text.append(json.loads(parts[3].bytes)["text"])

    client.run(LAST, output)
    cells = json.loads("".join(text))
    gaps = [begin - end for (_, end), (begin, _) in pairwise(cells)]
    for key, column in keys:
        bench.results.add(key, column, 1000 * statistics.median(gaps))
