"""Plans carried out on two real folders: what reconcile expects of a side is what ``LocalFolder`` does."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_dsvm.errors import SyncError
from jupyter_dsvm.sync.base import Row
from jupyter_dsvm.sync.entries import STAGING, TRASH, Entry, Kind, Side
from jupyter_dsvm.sync.ignore import never_pulled
from jupyter_dsvm.sync.local import LocalFolder
from jupyter_dsvm.sync.plan import Action, Direction, Do, Options, Outcome, Plan
from jupyter_dsvm.sync.reconcile import advance, reconcile

PATHS = ["a.csv", "b", "d/a", "d/b.ipynb", "d/e/f", "d"]

edit = st.tuples(
    st.sampled_from(["write", "write", "same", "touch", "mode", "remove", "folder", "rename", "link"]),
    st.sampled_from(PATHS),
    st.sampled_from(PATHS),
)
rounds = st.lists(
    st.tuples(
        st.lists(edit, max_size=4), st.lists(edit, max_size=4), st.sampled_from(Direction), st.sets(st.integers(0, 6))
    ),
    min_size=1,
    max_size=3,
)


class Two:
    """The VM's folder is one on this disk as well, so each side's executor is a ``LocalFolder``."""

    def __init__(self, at: Path) -> None:
        self.roots = {side: at / side.value for side in Side}
        for root in self.roots.values():
            root.mkdir()
        self.base: dict[str, Row] = {}
        self.serial = 0

    def edit(self, root: Path, do: str, path: str, other: str) -> None:
        target = root / path
        try:
            if do in ("write", "same"):
                target.parent.mkdir(parents=True, exist_ok=True)
                self.serial += do == "write"
                target.unlink(missing_ok=True)
                target.write_text(f"version {self.serial}" if do == "write" else "alike")
            elif do == "touch":
                os.utime(target)
            elif do == "mode":
                target.chmod(target.stat().st_mode ^ 0o100)
            elif do == "folder":
                target.mkdir(parents=True)
            elif do == "link":
                target.symlink_to(os.path.relpath(root / other, target.parent))
            elif do == "rename":
                target.rename(root / other)
            elif target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink()
        except OSError:
            pass  # as for any user: no such file, or something is in the way

    def contents(self) -> set[str]:
        found = set()
        for root in self.roots.values():
            found |= {
                p.read_text() for p in root.rglob("*") if p.is_file() and not p.is_symlink() and STAGING not in p.parts
            }
        return found

    def sync(self, direction: Direction, fails: set[int] = frozenset(), forced: str = "") -> Plan:
        # A new one for each sync, as in the service.
        sides = {side: LocalFolder(root) for side, root in self.roots.items()}
        swapped = {p: replace(r, here=r.there, there=r.here) for p, r in self.base.items()}
        scans = {s: f.scan(self.base if s is Side.HERE else swapped, f.rules()) for s, f in sides.items()}
        trees = {side: dict(scan.tree or {}) for side, scan in scans.items()}
        options = Options(
            datetime(2026, 11, 28, 5, 10), "gpu-vm", never_pull=never_pulled, forced=forced,
            unknown_here=scans[Side.HERE].unknown, unknown_there=scans[Side.THERE].unknown,
        )  # fmt: skip
        for _ in range(3):
            plan = reconcile(self.base, trees[Side.HERE], trees[Side.THERE], direction=direction, options=options)
            trees[Side.HERE].update(sides[Side.HERE].digests(plan.digests_here))
            trees[Side.THERE].update(sides[Side.THERE].digests(plan.digests_there))
        if plan.halt is not None and not forced:
            return self.sync(direction, fails, plan.halt.id)
        assert plan.halt is None
        before = self.contents()
        outcomes = [self.do(sides, action) for i, action in enumerate(plan.actions) if i not in fails]
        assert fails or all(o.done for o in outcomes), [o for o in outcomes if not o.done]
        assert before <= self.contents()
        self.base = advance(self.base, plan, outcomes)
        return plan

    def do(self, sides: dict[Side, LocalFolder], action: Action) -> Outcome:
        if action.do is not Do.COPY:
            outcome = sides[action.side].carry_out(action)
            if action.side is Side.THERE:
                outcome = replace(outcome, here=outcome.there, there=outcome.here)
            return outcome
        try:
            target, source = self.copy(sides[action.side], sides[action.side.other], action)
        except SyncError as e:
            return Outcome(action, False, problem=str(e))
        here, there = (target, source) if action.side is Side.HERE else (source, target)
        return Outcome(action, True, here, there)

    @staticmethod
    def copy(to: LocalFolder, source: LocalFolder, action: Action) -> tuple[Entry, Entry]:
        assert action.entry is not None
        if action.entry.kind is Kind.LINK:
            return to.link(action), action.entry
        with source.open(action.entry) as reading, to.stage(reading.now) as staged:
            for data in reading.chunks():
                staged.write(data)
            return staged.place(action), reading.entry

    def told(self, side: Side) -> dict[str, tuple[str, str, bool]]:
        found = {}
        for path in sorted(self.roots[side].rglob("*")):
            name = str(path.relative_to(self.roots[side]))
            if name.split("/")[0] in (TRASH, STAGING):
                continue
            if path.is_symlink():
                found[name] = ("link", os.readlink(path), False)
            elif path.is_dir():
                found[name] = ("folder", "", False)
            else:
                found[name] = ("file", path.read_text(), bool(path.stat().st_mode & 0o100))
        return found


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds)
def test_two_real_folders_come_into_step_and_nothing_is_lost(drawn):
    with tempfile.TemporaryDirectory() as name:
        two = Two(Path(name))
        for here, there, direction, fails in drawn:
            for one in here:
                two.edit(two.roots[Side.HERE], *one)
            for one in there:
                two.edit(two.roots[Side.THERE], *one)
            two.sync(direction, fails)
        two.sync(Direction.BOTH)
        assert two.told(Side.HERE) == two.told(Side.THERE)
        again = two.sync(Direction.BOTH)
        assert again.actions == ()
        assert not any((root / STAGING).exists() and os.listdir(root / STAGING) for root in two.roots.values())


def test_what_was_placed_is_known_by_its_stamp(tmp_path: Path):
    """The second sync reads no file: not on the side that sent, and not on the one that received."""
    two = Two(tmp_path)
    for i in range(5):
        path = two.roots[Side.HERE] / f"f{i}"
        path.write_text(str(i))
        os.utime(path, ns=(10**18, 10**18))
    assert len(two.sync(Direction.PUSH).actions) == 5
    trees = []
    swapped = {p: replace(r, here=r.there, there=r.here) for p, r in two.base.items()}
    for side, base in ((Side.HERE, two.base), (Side.THERE, swapped)):
        local = LocalFolder(two.roots[side])
        trees.append(local.scan(base, local.rules()).tree)
    plan = reconcile(two.base, *trees, direction=Direction.BOTH, options=Options(datetime(2026, 11, 28), "gpu-vm"))
    assert plan == Plan()
