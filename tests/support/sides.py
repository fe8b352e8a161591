"""Two folders in memory, and an executor that carries out plans on them as the contract says; for the tests of reconcile."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from jupyter_dsvm.sync.base import Base, known
from jupyter_dsvm.sync.entries import UNSETTLED, Entry, Kind, Side
from jupyter_dsvm.sync.names import POSIX, Names
from jupyter_dsvm.sync.plan import Action, Do, Outcome, Plan


@dataclass
class Node:
    kind: Kind
    content: str = ""
    executable: bool = False
    mtime: int = 0
    mark: str = ""


@dataclass
class Disk:
    """One side. Its clock is its own."""

    clock: int
    names: Names = POSIX
    nodes: dict[str, Node] = field(default_factory=dict)
    trash: list[str] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    unsettled: bool = False
    """Whether what was written lately is told as such, as real scans do."""
    serial: itertools.count = field(default_factory=itertools.count)

    def spelled(self, path: str) -> str:
        """As this side has it."""
        if not self.names.folds_case:
            return path
        found = []
        for part in path.split("/"):
            prefix = "/".join([*found, part])
            found.append(
                next((p for p in self.nodes if self.names.key(p) == self.names.key(prefix)), prefix).split("/")[-1]
            )
        return "/".join(found)

    def get(self, path: str) -> Node | None:
        return self.nodes.get(self.spelled(path))

    def holds(self, folder: str) -> list[str]:
        folder = self.spelled(folder)
        return [p for p in self.nodes if p.startswith(folder + "/")]

    def contents(self) -> set[str]:
        return {n.content for n in self.nodes.values() if n.kind is not Kind.FOLDER} | set(self.trash)

    # What a user does.

    def can_have(self, path: str) -> bool:
        """All above it are folders, or can be made."""
        parts = path.split("/")
        above = [self.get("/".join(parts[:i])) for i in range(1, len(parts))]
        return all(n is None or n.kind is Kind.FOLDER for n in above)

    def make(self, path: str, node: Node) -> None:
        """With the folders above it. A folder in its place is removed, with what it holds."""
        parts = path.split("/")
        for i in range(1, len(parts)):
            self.nodes.setdefault(self.spelled("/".join(parts[:i])), Node(Kind.FOLDER))
        if node.kind is not Kind.FOLDER or (self.get(path) or node).kind is not Kind.FOLDER:
            self.remove(path, spelling=False)
        self.clock += 1
        self.nodes.setdefault(
            self.spelled(path), replace(node, mtime=self.clock, mark=f"{next(self.serial)}:{self.clock}")
        )

    def remove(self, path: str, spelling: bool = True) -> None:
        for p in self.holds(path):
            del self.nodes[p]
        self.nodes.pop(self.spelled(path), None)

    def rename(self, old: str, new: str) -> None:
        """As mv: a file keeps its time."""
        old = self.spelled(old)
        if old not in self.nodes or (new + "/").startswith(old + "/") or not self.can_have(new):
            return
        moved = {p[len(old) :]: self.nodes[p] for p in [old, *self.holds(old)]}
        self.remove(old)
        if not self.can_have(new):
            self.nodes.update({old + p: n for p, n in moved.items()})
            return
        self.remove(new)
        self.make(new, Node(Kind.FOLDER))
        new = self.spelled(new)
        for tail, node in moved.items():
            self.nodes[new + tail] = node

    # What a sync does.

    def entry(self, path: str, digest: bool = True) -> Entry | None:
        node = self.get(path)
        if node is None:
            return None
        path = self.spelled(path)
        if node.kind is Kind.FOLDER:
            return Entry(path, Kind.FOLDER)
        if node.kind is Kind.LINK:
            return Entry(path, Kind.LINK, digest=node.content)
        size, told = len(node.content), digest_of(node.content) if digest else ""
        mark = UNSETTLED if self.unsettled and abs(self.clock - node.mtime) < 3 else node.mark
        return Entry(path, Kind.FILE, size, node.mtime, told, node.executable, mark)

    def scan(self, base: Base, side: Side) -> tuple[dict[str, Entry], dict[str, str]]:
        before = known(base, side)
        tree = {}
        for path in self.nodes:
            if any((path + "/").startswith(u + "/") for u in self.unreadable):
                continue
            entry = self.entry(path, digest=False)
            assert entry is not None
            old = before.get(path)
            same = old and (old.size, old.mtime_ns, old.mark) == (entry.size, entry.mtime_ns, entry.mark)
            if entry.kind is Kind.FILE and old and old.kind is Kind.FILE and same and entry.mark != UNSETTLED:
                entry = replace(entry, digest=old.digest)
            tree[path] = entry
        return tree, {u: "it cannot be read" for u in self.unreadable if self.get(u)}

    def read(self, paths: Collection[str], tree: dict[str, Entry]) -> dict[str, Entry]:
        return {**tree, **{p: e for p in paths if (e := self.entry(p))}}


def digest_of(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


class Refused(Exception):
    pass


def is_still(disk: Disk, path: str, entry: Entry) -> bool:
    now = disk.entry(path)
    return now is not None and now.path == path and alike(now, entry)


def alike(now: Entry, then: Entry) -> bool:
    if now.kind is not then.kind:
        return False
    if now.kind is Kind.LINK:
        return now.digest == then.digest
    return (
        (now.size, now.mtime_ns) == (then.size, then.mtime_ns) and UNSETTLED in (now.mark, then.mark)
    ) or now == replace(then, digest=now.digest)


class Executor:
    def __init__(self, here: Disk, there: Disk) -> None:
        self.disks = {Side.HERE: here, Side.THERE: there}
        self.base: Base = {}

    def carry_out(
        self,
        plan: Plan,
        *,
        before: Callable[[int], None] = lambda i: None,
        fails: Callable[[int], bool] = lambda i: False,
        stop_at: int | None = None,
    ) -> list[Outcome]:
        outcomes = []
        for i, action in enumerate(plan.actions):
            if i == stop_at:
                break
            before(i)
            had = self.contents()
            try:
                if fails(i):
                    raise Refused("the disk is full")
                outcomes.append(self._do(action))
            except Refused as e:
                outcomes.append(Outcome(action, False, problem=str(e)))
            lost = had - self.contents()
            assert not lost or self.was_in_step(action), f"{action} lost {lost}"
        return outcomes

    def was_in_step(self, action: Action) -> bool:
        """A version may go only if it is the one that both sides had, and it is not to be kept."""
        row = self.base.get(action.path)
        return (
            action.do is Do.COPY
            and not action.trash
            and not action.keep_as
            and action.replaces is not None
            and row is not None
            and (action.replaces.digest or row.digest) == row.digest
        )

    def contents(self) -> set[str]:
        return self.disks[Side.HERE].contents() | self.disks[Side.THERE].contents()

    def _do(self, a: Action) -> Outcome:
        disk, other = self.disks[a.side], self.disks[a.side.other]
        told: dict[str, Entry | None] = {}
        if not disk.can_have(a.path) or ("/" in a.path and disk.get(a.path.rpartition("/")[0]) is None):
            raise Refused("a folder above it is not there")
        now = disk.get(a.path)
        if a.do is Do.FOLDER:
            if now is None:
                disk.nodes[disk.spelled(a.path)] = Node(Kind.FOLDER)
            elif now.kind is not Kind.FOLDER or disk.spelled(a.path) != a.path:
                raise Refused("something is in its place")
            source = other.entry(a.path)
            if source is None or source.kind is not Kind.FOLDER:
                # Both have it only once the other side has it too; the shell knows that from the plan.
                return Outcome(a, True)
            told = {a.side.value: disk.entry(a.path), a.side.other.value: source}
        elif a.do is Do.DELETE:
            if a.entry is None or not is_still(disk, a.path, a.entry):
                raise Refused("it has changed")
            disk.trash.append(disk.nodes.pop(a.path).content)
        elif a.do is Do.REMOVE_FOLDER:
            if now is not None and (now.kind is not Kind.FOLDER or disk.spelled(a.path) != a.path):
                raise Refused("it is no folder")
            if disk.holds(a.path):
                told = {a.side.value: disk.entry(a.path)}
            else:
                disk.nodes.pop(a.path, None)
        elif a.do is Do.MOVE:
            if a.entry is None or not is_still(disk, a.path, a.entry) or disk.get(a.keep_as):
                raise Refused("it has changed")
            disk.nodes[disk.spelled(a.keep_as)] = disk.nodes.pop(a.path)
        else:
            source = other.entry(a.path)
            assert a.entry is not None
            if source is None or source.kind is not a.entry.kind or source.path != a.path:
                raise Refused("it is not there any more")
            if a.replaces is None and now is not None:
                raise Refused("something is in its place")
            if a.replaces is not None and not is_still(disk, a.path, a.replaces):
                raise Refused("it has changed")
            if a.keep_as:
                if disk.get(a.keep_as) or now is None:
                    raise Refused("the name is taken")
                disk.clock += 1
                disk.nodes[disk.spelled(a.keep_as)] = replace(now, mark=f"{now.mark.partition(':')[0]}:{disk.clock}")
            elif a.trash and now is not None:
                disk.trash.append(now.content)
            disk.clock += 1
            node = other.nodes[a.path]
            placed = replace(node, mark=f"{next(disk.serial)}:{disk.clock}", executable=a.entry.executable)
            disk.nodes[disk.spelled(a.path)] = placed
            told = {a.side.value: disk.entry(a.path), a.side.other.value: source}
        return Outcome(a, True, **told)
