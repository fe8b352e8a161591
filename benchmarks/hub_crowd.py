"""Two hundred users at one hub, its broker and its class's machines: all start a machine at nine o'clock, all attach, all look.

Real: a JupyterHub with its proxy and 200 users with tokens of their own; the broker, a process of its own, asked by HTTP; the
machines' sshd, accounts, certificates, connections, relays; ``SERVERS`` users' Jupyter servers and their ipykernels. Of the other
users the Jupyter server is left out, and their kernels are small (``pupils``): 200 of either do not fit beside each other on one
small computer. Azure is the emulator, where a start takes a second; all of it shares the computer's cores.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.emulator.network import can_isolate
from tests.support import hub as hubs
from tests.support.broker import vm
from tests.support.restarted import attach
from tests.support.school import School, school
from tests.support.served import Served

from .bench import Bench
from .contenders import OURS
from .machines import ROOT, processes_with
from .processes import cpu_seconds, private
from .rows import Row, at_most

USERS = 200
SERVERS = 8
"""Users with a Jupyter server."""
PROCESSES = 6
"""That play the others."""
MACHINES = ("class-0", "class-1", "class-2", "class-3")
LOOK_EVERY = 10.0
WINDOW = 40.0
"""Seconds for which users look while the requests to Azure are counted."""
CROWDS = (1, 50, USERS)

BOUND = at_most(60 / 15 + 60 / 3, "≤ a list every 15 s, a look every 3 s")
COLUMNS = (OURS,)
ROWS = (
    Row("crowd-started", "200 users start a machine of their own at once: until the last is on", "s", None, 0, COLUMNS),
    Row("crowd-places", "users who were shown a place in the queue", "", None, 0, COLUMNS),
    Row("crowd-place", "the last place that was shown", "", None, 0, COLUMNS),
    Row("crowd-start-list", "a list while they wait, for somebody else", "ms", None, 0, COLUMNS),
    Row("crowd-start-list-worst", "the same, the slowest", "ms", None, 0, COLUMNS),
    Row("crowd-start-cpu", "the broker's CPU time for those starts", "s", None, 1, COLUMNS),
    Row("crowd-attached", "200 users attach to four machines at once: until the last has its kernel", "s", None, 0, COLUMNS),
    Row("crowd-attached-half", "the same, until half of them have", "s", None, 0, COLUMNS),
    Row("crowd-failed", "attaches that failed", "", at_most(0, "none"), 0, COLUMNS),
    Row("crowd-attach-list", "a list meanwhile, for somebody else", "ms", None, 0, COLUMNS),
    Row("crowd-attach-list-worst", "the same, the slowest", "ms", None, 0, COLUMNS),
    Row("crowd-attach-cpu", "the broker's CPU time for those attaches", "s", None, 1, COLUMNS),
    Row("crowd-ask", "a question to each kernel, all at once: median", "ms", None, 0, COLUMNS),
    *(
        Row(f"crowd-azure-{users}", f"requests to Azure per minute, {users} users look", "", BOUND, 0, COLUMNS)
        for users in CROWDS
    ),
    *(Row(f"crowd-list-{users}", f"a list, {users} users look", "ms", None, 0, COLUMNS) for users in CROWDS),
    Row("crowd-look-cpu", "the broker's CPU with 200 users who look", "% of a core", None, 0, COLUMNS),
    Row("crowd-broker", "the broker's memory at the end: USS", "MiB", None, 0, COLUMNS),
    Row("crowd-threads", "the broker's threads", "", None, 0, COLUMNS),
    Row("crowd-files", "the broker's open files, at most", "", None, 0, COLUMNS),
    Row("crowd-server", "a user's server, attached, with the others around it: USS", "MiB", None, 0, COLUMNS),
)  # fmt: skip


class Pupils:
    """A process that plays some users."""

    def __init__(self, address: str, people: dict[str, str]) -> None:
        self.count = len(people)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pupils"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say({"address": address, "people": people})

    def _say(self, words: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def do(self, what: str, first: int, **arguments: Any) -> list[dict[str, Any]]:
        """The first so many of them."""
        assert self._process.stdout is not None
        self._say({"do": what, "first": first, **arguments})
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return found

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Crowd:
    """All users who have no server."""

    def __init__(self, pupils: Sequence[Pupils]) -> None:
        self._pupils = pupils
        self._pool = ThreadPoolExecutor(len(pupils))

    def do(self, what: str, most: int = USERS, **arguments: Any) -> list[dict[str, Any]]:
        """``most`` of them, at the same time; what each says."""
        left, asked = most, []
        for one in self._pupils:
            first = min(left, one.count)
            left -= first
            if first:
                asked.append(self._pool.submit(one.do, what, first, **arguments))
        return [said for answer in asked for said in answer.result()]

    def end(self) -> None:
        for done in [self._pool.submit(one.end) for one in self._pupils]:
            done.result()
        self._pool.shutdown()


class Onlooker:
    """Somebody whose page asks for the list every half second meanwhile; and the broker's open files."""

    def __init__(self, one: School, token: str, broker: int) -> None:
        self.took: list[float] = []
        self.files = self.threads = 0
        self._one, self._token, self._broker = one, token, broker
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            begun = time.monotonic()
            status, answer = self._one.ask(self._token, "computes")
            assert status == 200, answer
            self.took.append(time.monotonic() - begun)
            self.files = max(self.files, sum(1 for _ in open_files(self._broker)))

    def __enter__(self) -> Onlooker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def open_files(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        yield entry.name


def processes_running(file: str) -> list[int]:
    """Whose command line names it."""
    return [pid for pid, line in processes_with("JUPYTERHUB_SERVICE_NAME=dsvm").items() if file in line]


def measure(bench: Bench) -> None:
    reason = can_isolate() if hubs.PROXY.exists() else "JupyterHub's proxy is not there (make .stamps/proxy/done)"
    if reason:
        bench.say(f"   left out: {reason}")
        return
    bench.rounds({"all": lambda: _once(bench)}, {"all": [(row.key, OURS) for row in ROWS]}, 1)


def _once(bench: Bench) -> None:
    users, servers = bench.size(USERS, 8), bench.size(SERVERS, 1)
    names = [f"u{number:03}" for number in range(users)]
    groups: dict[str, list[str]] = {machine: names[n :: len(MACHINES)] for n, machine in enumerate(MACHINES)}
    own = [vm(f"own-{name}", user=name) for name in names]
    shared = [vm(machine, power="running", group=machine) for machine in MACHINES]
    folder = bench.folder / "crowd"
    folder.mkdir()
    with (
        Emulator(bench.folder / "azure", machines=(*own, *shared)) as emulator,
        hubs.homes(dict.fromkeys(names[:servers], False), False) as people,
    ):
        emulator.set_timings(start=1.0, runCommand=1.0)
        for person in people:
            hubs.bare(person)
        with school(emulator, folder, people, groups, through_proxy=False) as one:
            tokens = dict(zip(names, ThreadPoolExecutor(4).map(one.hub.token, names), strict=True))
            (broker,) = processes_running(str(folder / "dsvm_broker.py"))
            served = {person.name: one.hub.spawn(person.name) for person in people}
            rest = names[servers:]
            number = bench.size(PROCESSES, 2)
            crowd = Crowd([Pupils(one.broker, {name: tokens[name] for name in rest[n::number]}) for n in range(number)])
            try:
                with contextlib.ExitStack() as ending:
                    ending.callback(_end, crowd, served)
                    _measured(bench, emulator, one, crowd, served, tokens, broker)
            finally:
                crowd.end()
                for name in served:
                    one.hub.cull(name)


def _end(crowd: Crowd, served: dict[str, Served]) -> None:
    crowd.do("end")
    for server in served.values():
        server.end_kernels()


def _measured(
    bench: Bench,
    emulator: Emulator,
    one: School,
    crowd: Crowd,
    served: dict[str, Served],
    tokens: dict[str, str],
    broker: int,
) -> None:
    add = bench.results.add
    onlooker = next(iter(tokens))
    pool = ThreadPoolExecutor(max(1, len(served)))

    # Nine o'clock
    cpu, begun = cpu_seconds([broker]), time.monotonic()
    with Onlooker(one, tokens[onlooker], broker) as looking:
        starts = [pool.submit(_start, server, f"own-{name}") for name, server in served.items()]
        done = crowd.do("start", machine="own-{}")
        for start in starts:
            start.result()
    _no_error(bench, "start", done)
    add("crowd-started", OURS, time.monotonic() - begun)
    shown = [said["places"] for said in done if said.get("places")]
    add("crowd-places", OURS, len(shown))
    add("crowd-place", OURS, max((place for places in shown for place in places), default=0))
    assert all(a >= b for places in shown for a, b in itertools.pairwise(places)), "a place went back"
    _add_times(bench, "crowd-start", looking, cpu_seconds([broker]) - cpu)
    bench.say(f"   started: {time.monotonic() - begun:.0f} s")

    # All attach
    cpu, begun = cpu_seconds([broker]), time.monotonic()
    with Onlooker(one, tokens[onlooker], broker) as looking:
        attaches = [pool.submit(_attach, server) for server in served.values()]
        done = crowd.do("attach", machines=list(MACHINES))
        for attached in attaches:
            done.append(attached.result())
    add("crowd-attached", OURS, time.monotonic() - begun)
    add("crowd-attached-half", OURS, statistics.median(said.get("seconds", float("inf")) for said in done))
    add("crowd-failed", OURS, _no_error(bench, "attach", done))
    _add_times(bench, "crowd-attach", looking, cpu_seconds([broker]) - cpu)
    files = looking.files
    bench.say(f"   attached: {time.monotonic() - begun:.0f} s")
    asked = [said["seconds"] for said in crowd.do("ask") if "seconds" in said]
    add("crowd-ask", OURS, 1000 * statistics.median(asked))
    for name in served:
        (pid,) = [p for p, line in processes_with(f"JUPYTERHUB_USER={name}").items() if "jupyterhub.singleuser" in line]
        add("crowd-server", OURS, private(pid))

    # All look
    for users in CROWDS:
        before, cpu = len(emulator.traffic), cpu_seconds([broker])
        window = bench.size(int(WINDOW), 4)
        said = crowd.do("look", users, seconds=window, every=LOOK_EVERY if not bench.quick else 1)
        _no_error(bench, "look", said)
        add(f"crowd-azure-{users}", OURS, (len(emulator.traffic) - before) * 60 / window)
        add(f"crowd-list-{users}", OURS, 1000 * statistics.median(t for answer in said for t in answer.get("took", ())))
    add("crowd-look-cpu", OURS, (cpu_seconds([broker]) - cpu) * 100 / window)
    add("crowd-broker", OURS, private(broker))
    add("crowd-threads", OURS, _threads(broker))
    add("crowd-files", OURS, files)
    pool.shutdown()


def _start(server: Served, machine: str) -> None:
    begun = server.rest("POST", f"jupyter-dsvm/computes/{hubs.compute(server, machine)}/start", {}, 202)
    done, _ = server.operation(begun["id"], 600)
    assert done["state"] == "done", done


def _attach(server: Served) -> dict[str, Any]:
    begun = time.monotonic()
    names = {row["name"] for row in server.rest("GET", "jupyter-dsvm/computes")["computes"]}
    kernel = server.open("lesson.ipynb")["kernel"]["id"]
    (machine,) = names & set(MACHINES)
    try:
        attach(server, kernel, hubs.compute(server, machine), 600)
    except AssertionError as e:
        return {"error": str(e)[:300]}
    return {"seconds": time.monotonic() - begun}


def _no_error(bench: Bench, what: str, done: list[dict[str, Any]]) -> int:
    """How many failed; why is said."""
    errors = [said["error"] for said in done if "error" in said]
    for error in sorted(set(errors)):
        bench.say(f"   {what}: {errors.count(error)} × {error}")
    return len(errors)


def _add_times(bench: Bench, key: str, looking: Onlooker, cpu: float) -> None:
    bench.results.add(f"{key}-list", OURS, 1000 * statistics.median(looking.took))
    bench.results.add(f"{key}-list-worst", OURS, 1000 * max(looking.took))
    bench.results.add(f"{key}-cpu", OURS, cpu)


def _threads(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
