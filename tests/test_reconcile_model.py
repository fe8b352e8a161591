"""Random trees, random edits on both sides, several rounds, plans that fail or stop in the middle: nothing is ever lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_dsvm.sync import base as bases
from jupyter_dsvm.sync.entries import Kind, Side
from jupyter_dsvm.sync.names import Names
from jupyter_dsvm.sync.plan import Direction, Do, Options, Plan
from jupyter_dsvm.sync.reconcile import advance, reconcile
from support.sides import Disk, Executor, Node

PATHS = ["a", "b", "A", "d", "D", "d/a", "d/b", "D/a", "d/e", "d/e/f", "n.ipynb", "d/long.tar.gz"]
NEVER = "d/b"
CONTENTS = ["same", "SAME", "a longer one"]
START = datetime(2026, 11, 28, 5, 10)

EDITS = ["write", "write", "write", "copy", "touch", "mode", "remove", "remove", "folder", "rename", "link"]

edit = st.tuples(
    st.sampled_from(
        ["write", "write", "write", "copy", "touch", "mode", "remove", "remove", "folder", "rename", "link"]
    ),
    st.integers(0, len(PATHS) - 1),
    st.integers(0, len(PATHS) - 1),
)
edits = st.lists(edit, max_size=4)
round_ = st.fixed_dictionaries(
    {
        "here": edits,
        "there": edits,
        "meanwhile": st.lists(st.tuples(st.integers(0, 6), st.sampled_from(list(Side)), edit), max_size=2),
        "direction": st.sampled_from(list(Direction)),
        "stop_at": st.one_of(st.none(), st.integers(0, 8)),
        "fails": st.sets(st.integers(0, 8), max_size=3),
        "saved": st.booleans(),
        "hashes": st.booleans(),
        "unreadable": st.one_of(st.none(), st.tuples(st.sampled_from(list(Side)), st.integers(0, len(PATHS) - 1))),
        "pull_bytes": st.one_of(st.none(), st.none(), st.integers(0, 30)),
        "owned": st.booleans(),
    }
)
world = st.fixed_dictionaries(
    {
        "skew": st.sampled_from([0, -7200, 90_000]),
        "folds": st.booleans(),
        "unsettled": st.booleans(),
        "trash_below": st.sampled_from([0, 1 << 30]),
        "never": st.booleans(),
        "rounds": st.lists(round_, min_size=1, max_size=4),
    }
)


class World:
    def __init__(self, drawn) -> None:
        self.here = Disk(1_000_000, Names(folds_case=drawn["folds"]), unsettled=drawn["unsettled"])
        self.there = Disk(1_000_000 + drawn["skew"], unsettled=drawn["unsettled"])
        self.executor = Executor(self.here, self.there)
        self.base = {}
        self.serial = 0
        self.plans = 0
        self.options = Options(
            START,
            "gpu-vm",
            here_names=self.here.names,
            trash_below=drawn["trash_below"],
            never_pull=(lambda path: "never" if path == NEVER else "") if drawn["never"] else lambda path: "",
        )

    def edit(self, disk: Disk, what) -> None:
        do, first, second = what
        path = PATHS[first]
        node = disk.get(path)
        if do == "remove":
            disk.remove(path)
        elif do == "rename":
            disk.rename(path, PATHS[second])
        elif not disk.can_have(path):
            return
        elif do in ("touch", "mode"):
            if node is not None and node.kind is Kind.FILE:
                disk.make(path, replace(node, executable=node.executable ^ (do == "mode")))
        elif do == "folder":
            disk.make(path, Node(Kind.FOLDER))
        elif do == "link":
            disk.make(path, Node(Kind.LINK, PATHS[second]))
        else:
            self.serial += 1
            content = (
                CONTENTS[second % len(CONTENTS)] if do == "copy" else f"version {self.serial}" + "." * (second % 3)
            )
            disk.make(path, Node(Kind.FILE, content, executable=bool(node and node.executable)))

    def plan(self, direction: Direction, hashes: bool = True, **options) -> Plan:
        """As the workspace does it: look, plan, read what the plan asks for, plan again."""
        self.executor.base = self.base
        here, unknown_here = self.here.scan(self.base, Side.HERE)
        there, unknown_there = self.there.scan(self.base, Side.THERE)
        self.options = replace(self.options, unknown_here=unknown_here, unknown_there=unknown_there, **options)
        if hashes:
            plan = reconcile(self.base, here, there, direction=direction, options=self.options)
            here = self.here.read(plan.digests_here, here)
            there = self.there.read(plan.digests_there, there)
        plan = reconcile(self.base, here, there, direction=direction, options=self.options)
        assert not hashes or not (plan.digests_here or plan.digests_there), "what was read is asked for again"
        self.plans += 1
        if self.plans % 4:
            return plan
        again = reconcile(
            dict(reversed(self.base.items())),
            dict(reversed(here.items())),
            dict(reversed(there.items())),
            direction=direction,
            options=self.options,
        )
        assert again.actions == plan.actions, "not deterministic"
        return plan

    def forced(self, direction: Direction, **options) -> Plan:
        plan = self.plan(direction, **options)
        if plan.halt is not None:
            assert plan.actions == ()
            assert plan.halt.message
            assert "--force" in plan.halt.advice
            plan = self.plan(direction, **{**options, "forced": plan.halt.id})
            assert plan.halt is None
        return plan

    def round(self, drawn) -> None:
        self.options = replace(self.options, now=self.options.now + timedelta(minutes=drawn["saved"]))
        for side, disk in ((Side.HERE, self.here), (Side.THERE, self.there)):
            for what in drawn[side.value]:
                self.edit(disk, what)
            unreadable = drawn["unreadable"]
            disk.unreadable = {PATHS[unreadable[1]]} if unreadable and unreadable[0] is side else set()
        owned = frozenset({"n.ipynb", "a"}) if drawn["owned"] else frozenset()
        plan = self.forced(drawn["direction"], hashes=drawn["hashes"], pull_bytes=drawn["pull_bytes"], owned_here=owned)
        self.check_plan(plan, drawn)

        def meanwhile(i: int) -> None:
            for at, side, what in drawn["meanwhile"]:
                if at == i:
                    self.edit(self.executor.disks[side], what)

        outcomes = self.executor.carry_out(
            plan, before=meanwhile, fails=lambda i: i in drawn["fails"], stop_at=drawn["stop_at"]
        )
        if drawn["saved"]:
            self.base = advance(self.base, plan, outcomes)

    def check_plan(self, plan: Plan, drawn) -> None:
        blocked = {*self.options.unknown_here, *self.options.unknown_there}
        for action in plan.actions:
            assert not any((action.path + "/").startswith(b + "/") for b in blocked), action
            if action.side is Side.HERE and action.do in (Do.COPY, Do.DELETE, Do.MOVE):
                assert not self.options.never_pull(action.path) or action.why.value == "type"
                if action.path in self.options.owned_here and action.why.value != "type":
                    assert action.do is Do.COPY
                    assert action.replaces is None
        assert drawn["pull_bytes"] is None or plan.pulled_bytes <= drawn["pull_bytes"]
        assert [e.size for e in plan.left_there] == sorted((e.size for e in plan.left_there), reverse=True)

    def settle(self) -> None:
        """One whole sync that nothing disturbs; then both sides are alike, and another has nothing to do."""
        self.here.unreadable = self.there.unreadable = set()
        whole = {"pull_bytes": None, "owned_here": frozenset(), "forced": ""}
        for _ in range(2):  # what is forced may leave a folder that was not empty
            plan = self.forced(Direction.BOTH, **whole)
            outcomes = self.executor.carry_out(plan)
            assert all(o.done for o in outcomes), [o for o in outcomes if not o.done]
            self.base = advance(self.base, plan, outcomes)
        skipped = {s.path for s in plan.skipped}
        self.check_alike(skipped)
        # Time goes by, and what was written lately is settled.
        self.here.clock += 100
        self.there.clock += 100
        plan = self.plan(Direction.BOTH, **whole)
        assert plan.halt is None
        assert plan.actions == ()
        assert plan.forgotten == ()
        assert plan.conflicts == ()
        self.base = advance(self.base, plan, [])
        plan = self.plan(Direction.BOTH, hashes=False, **whole)
        # What never comes from the VM is never in step either, so that its stamps grow old.
        assert all(any((a.path + "/").startswith(s + "/") for s in skipped) for a in plan.actions)
        assert plan.noted == ()
        assert {*plan.digests_here, *plan.digests_there} <= skipped
        assert bases.from_json(bases.to_json(self.base)) == self.base

    def check_alike(self, skipped: set[str]) -> None:
        # Deleted here, and not empty there when it was to be removed there, because of an edit at that moment.
        left = {path for path, row in self.base.items() if row.here is None or row.there is None}
        assert all(self.base[path].kind is Kind.FOLDER for path in left)

        def told(disk: Disk):
            return {
                p: (n.kind, n.content, n.executable)
                for p, n in disk.nodes.items()
                if p not in left and not any((p + "/").startswith(s + "/") for s in skipped)
            }

        assert told(self.here) == told(self.there)
        for path, row in self.base.items():
            if path in left or any((path + "/").startswith(s + "/") for s in skipped):
                continue
            here, there = self.here.entry(path), self.there.entry(path)
            assert here is not None, path
            assert there is not None, path
            assert (here.digest, there.digest) == (row.digest, row.digest)
            assert here.kind is there.kind is row.kind


def run(drawn) -> None:
    world = World(drawn)
    for one in drawn["rounds"]:
        world.round(one)
    world.settle()


@pytest.mark.timeout(300)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(world)
def test_nothing_is_lost_and_both_sides_come_into_step(drawn):
    """Made of small parts, so that hypothesis can make what fails small."""
    run(drawn)


@pytest.mark.timeout(300)
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64))
def test_the_same_in_many_more_worlds(seed: int):
    """Each is made of one number, which is ten times as quick."""
    run(any_world(Random(seed)))


def any_world(random: Random) -> dict[str, Any]:
    """As ``world`` draws them, with longer stories."""

    def some_edits(most: int = 5) -> list[Any]:
        count = random.choice([0, 1, 1, 2, most])
        return [
            (random.choice(EDITS), random.randrange(len(PATHS)), random.randrange(len(PATHS))) for _ in range(count)
        ]

    def some_round() -> dict[str, Any]:
        quiet = random.random() < 0.5
        return {
            "here": some_edits(),
            "there": some_edits(),
            "meanwhile": [] if quiet else [(random.randrange(7), random.choice(list(Side)), e) for e in some_edits(2)],
            "direction": random.choice(list(Direction)),
            "stop_at": random.choice([None, None, random.randrange(9)]),
            "fails": set() if quiet else {random.randrange(9) for _ in range(random.randrange(4))},
            "saved": random.random() < 0.8,
            "hashes": random.random() < 0.8,
            "unreadable": random.choice([None, None, None, (random.choice(list(Side)), random.randrange(len(PATHS)))]),
            "pull_bytes": random.choice([None, None, random.randrange(31)]),
            "owned": random.random() < 0.3,
        }

    return {
        "skew": random.choice([0, -7200, 90_000]),
        "folds": random.random() < 0.3,
        "unsettled": random.random() < 0.3,
        "trash_below": random.choice([0, 1 << 30]),
        "never": random.random() < 0.3,
        "rounds": [some_round() for _ in range(random.randint(1, 6))],
    }
