"""(base, here, there) → plan, conflicts, halt. Pure.

Each path of the base and of both sides is looked at by itself: what became of it on each side since the base (``State``), and what
is then to be done (``TABLE``). Only afterwards do paths matter to each other: folders that must stay for what is in them, a file
where the other side has a folder, names that differ in case only, the room that is left here.

Rules that hold for every plan, whatever the sides say:

- Nothing is replaced or deleted on a side but what the other side had too at the last sync (it is in the base), or what gets
  another name first. Deleted and replaced files go to the trash.
- A path of which one side could not say what it is is left alone on both, and all under it.
- What is not done now is found again by the next sync. A plan may stop anywhere.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import replace

from . import halts, names
from .base import Base, Row, row_of
from .entries import Entry, Kind, Side, Skipped, Tree
from .names import folders_of
from .ordering import phases
from .plan import Action, Conflict, Direction, Do, Options, Outcome, Plan, Why
from .told import Told


class State(enum.Enum):
    """What became of a path on one side since the base."""

    SAME = "same"
    """As in the base; also: not there then, and not now."""
    CHANGED = "changed"
    """Another content, another kind, or new."""
    GONE = "gone"


class Step(enum.Enum):
    NOTHING = "nothing"
    PUSH = "push"
    PULL = "pull"
    DELETE_HERE = "delete here"
    DELETE_THERE = "delete there"
    FORGET = "forget"
    COMPARE = "compare"
    """Both changed: in step if they are alike now, otherwise a conflict."""


TABLE: Mapping[tuple[State, State], Step] = {
    # here           there
    (State.SAME, State.SAME): Step.NOTHING,
    (State.SAME, State.CHANGED): Step.PULL,
    (State.SAME, State.GONE): Step.DELETE_HERE,
    (State.CHANGED, State.SAME): Step.PUSH,
    (State.CHANGED, State.CHANGED): Step.COMPARE,
    (State.CHANGED, State.GONE): Step.PUSH,
    (State.GONE, State.SAME): Step.DELETE_THERE,
    (State.GONE, State.CHANGED): Step.PULL,
    (State.GONE, State.GONE): Step.FORGET,
}

WRITES_HERE = frozenset({Step.PULL, Step.DELETE_HERE, Step.COMPARE})
DELETES = {Step.DELETE_HERE: Side.HERE, Step.DELETE_THERE: Side.THERE}
COPIES = {Step.PULL: Side.HERE, Step.PUSH: Side.THERE}


def reconcile(base: Base, here: Tree | None, there: Tree | None, *, direction: Direction, options: Options) -> Plan:
    """What brings both sides into step. ``None`` is a side whose folder is not there.

    Called by the workspace after both scans, and once more if the plan asks for digests. The plan is deterministic.
    """
    vanished = [side for side, tree in ((Side.HERE, here), (Side.THERE, there)) if tree is None and base]
    if vanished:
        halt = halts.vanished(vanished, options)
        if options.forced != halt.id:
            return Plan(halt=halt)
        base = {}  # as if never synced: what the other side has is copied again
    return _Reconciliation(base, here or {}, there or {}, direction, options).plan()


def advance(base: Base, plan: Plan, outcomes: Iterable[Outcome]) -> dict[str, Row]:
    """``base`` after the plan, as far as it was carried out: only what really happened is recorded. ``outcomes`` may be any
    part of the plan's actions; what is missing did not happen, or is found again by the next sync."""
    rows = dict(base)
    for path in plan.forgotten:
        rows.pop(path, None)
    for row in plan.noted:
        rows[row.path] = row
    for outcome in outcomes:
        if not outcome.done:
            continue
        path = outcome.action.path
        if outcome.here is not None and outcome.there is not None:
            rows[path] = row_of(outcome.here, outcome.there)
        elif outcome.action.do is Do.REMOVE_FOLDER and (outcome.here or outcome.there):
            # It was not empty. The row says that one side has it and the other has not, so that it does not come back there.
            if path in rows:
                row = rows[path]
                rows[path] = replace(
                    row, here=row.here if outcome.here else None, there=row.there if outcome.there else None
                )
        elif outcome.here is None and outcome.there is None:
            rows.pop(path, None)
    return rows


class _Reconciliation:
    def __init__(self, base: Base, here: Tree, there: Tree, direction: Direction, options: Options) -> None:
        self.base = base
        self.direction = direction
        self.options = options
        self.told = Told(here, there, options)
        self.trees = self.told.trees
        self.skipped = self.told.skipped
        self.wanted: dict[Side, set[str]] = {Side.HERE: set(), Side.THERE: set()}
        self.steps: dict[str, Step] = {}
        self.states: dict[str, tuple[State, State]] = {}
        self.noted: list[Row] = []
        self.forgotten: list[str] = []
        self.conflicts: list[Conflict] = []
        self.actions: list[Action] = []
        known = (base, *self.trees.values(), *self.told.unknown.values())
        self.taken = {self.told.key(path) for paths in known for path in paths}

    # One path by itself.

    def _state(self, side: Side, path: str) -> State:
        entry, row = self.trees[side].get(path), self.base.get(path)
        stamp = row.stamp(side) if row else None
        if entry is None:
            return State.SAME if stamp is None else State.GONE
        if row is None or stamp is None or entry.kind is not row.kind:
            return State.CHANGED
        if entry.kind is Kind.FOLDER:
            return State.SAME
        if self._has_modes(side) and entry.executable != row.executable:
            return State.CHANGED
        if entry.kind is Kind.LINK or entry.digest:
            return State.SAME if entry.digest == row.digest else State.CHANGED
        if stamp.still(entry):
            return State.SAME
        if entry.size == stamp.size:
            self.wanted[side].add(path)
        return State.CHANGED

    def _has_modes(self, side: Side) -> bool:
        return side is Side.THERE or self.options.modes_here

    def _same_content(self, path: str, here: Entry, there: Entry) -> bool:
        if here.kind is not there.kind:
            return False
        if here.kind is Kind.FOLDER:
            return True
        if here.kind is Kind.FILE and here.size != there.size:
            return False
        digests = []
        for side, entry, state in zip(Side, (here, there), self.states[path], strict=True):
            digest = entry.digest or (self.base[path].digest if state is State.SAME else "")
            digests.append(digest)
            if not digest:
                self.wanted[side].add(path)
        return all(digests) and digests[0] == digests[1]

    def _step(self, path: str) -> Step:
        self.states[path] = states = (self._state(Side.HERE, path), self._state(Side.THERE, path))
        here, there = (self.trees[side].get(path) for side in Side)
        step = TABLE[states]
        if step in DELETES and self.trees[DELETES[step]].get(path) is None:
            return Step.FORGET
        if here is not None and path in self.options.owned_here:
            # The page has it open and would write its own version over anyone's.
            step = {Step.PULL: Step.COMPARE, Step.DELETE_HERE: Step.PUSH}.get(step, step)
        if here is None or there is None or step is Step.FORGET:
            return step
        if self._same_content(path, here, there):
            if here.executable == there.executable or not self.options.modes_here:
                self._note(path, here, there)
                return Step.NOTHING
            if step is Step.COMPARE:
                return Step.PUSH
        return step

    def _note(self, path: str, here: Entry, there: Entry) -> None:
        row = self.base.get(path)
        if not (here.digest or there.digest) and row is not None and row.kind is here.kind:
            here = replace(here, digest=row.digest)
        new = row_of(here, there)
        if new != row:
            self.noted.append(new)

    # All of them together.

    def plan(self) -> Plan:
        for path in sorted({*self.base, *self.trees[Side.HERE], *self.trees[Side.THERE]}):
            if not self.told.left_alone(path):
                self.steps[path] = self._step(path)
        self._never_here()
        in_the_way = self._types()
        self._folders_that_stay()
        self._one_spelling()
        for path, step in self.steps.items():
            if path not in in_the_way:
                self._act(path, step)
        left_there = self._room_here()
        self._folders_for_copies()
        halt = halts.of_plan(
            self.base, self.trees, self.told.unknown, self.actions, self._gone(), in_the_way, self.options
        )
        common = {
            "skipped": tuple(
                Skipped(names.printable(p), s, why)
                for (s, p), why in sorted(self.skipped.items(), key=lambda i: i[0][1])
            ),
            "digests_here": tuple(sorted(self._readable(Side.HERE))),
            "digests_there": tuple(sorted(self._readable(Side.THERE))),
        }
        if halt is not None and halt.id != self.options.forced:
            return Plan(halt=halt, **common)  # type: ignore[arg-type]
        plan = Plan(
            phases=phases(self.actions, self.options),
            conflicts=tuple(self.conflicts),
            left_there=left_there,
            noted=tuple(self.noted),
            forgotten=tuple(self.forgotten),
            **common,  # type: ignore[arg-type]
        )
        asks = self.direction is not Direction.PULL and self.options.ask_above is not None
        if asks and plan.pushed_bytes > max(self.options.ask_above or 0, self.options.agreed_bytes):
            plan = replace(plan, needs_yes=plan.pushed_bytes)
        return plan

    def _readable(self, side: Side) -> set[str]:
        tree = self.trees[side]
        return {p for p in self.wanted[side] if p in tree and tree[p].kind is Kind.FILE and not tree[p].digest}

    def _never_here(self) -> None:
        for path, step in self.steps.items():
            if step in WRITES_HERE and (reason := self.options.never_pull(path)):
                self.steps[path] = Step.NOTHING
                self.skipped[Side.THERE, path] = reason

    def _stays(self, path: str) -> bool:
        """Whether a file, link or new folder of this path is still somewhere once both sides are in step."""
        return self.steps.get(path, Step.NOTHING) not in (*DELETES, Step.FORGET)

    def _gone(self) -> dict[Side, int]:
        """Files of each side that the other has deleted."""
        steps = [(DELETES[step], path) for path, step in self.steps.items() if step in DELETES]
        return {side: sum(s is side and self.trees[s][p].kind is not Kind.FOLDER for s, p in steps) for side in Side}

    def _survivors(self) -> set[str]:
        """All folders with something in them that stays, and what no side can say anything about."""
        kept: set[str] = set()
        present = {
            *self.trees[Side.HERE],
            *self.trees[Side.THERE],
            *self.told.unknown[Side.HERE],
            *self.told.unknown[Side.THERE],
        }
        for path in present:
            if self._stays(path):
                kept.update(folders_of(path))
        return kept

    def _folders_that_stay(self) -> None:
        """A folder that one side deleted stays, and comes back there, if there is something in it that stays."""
        kept = self._survivors()
        for path, step in self.steps.items():
            if step in DELETES and path in kept and self.trees[DELETES[step]][path].kind is Kind.FOLDER:
                self.steps[path] = Step.PULL if step is Step.DELETE_THERE else Step.PUSH

    def _types(self) -> set[str]:
        """Paths that are a folder on one side and a file or link on the other; and what is to become of them if that is forced:
        the name goes to the folder if something in it stays or if it is new, otherwise to the file. What is displaced is
        kept: in the trash if the base has it, or else beside."""
        found = set()
        kept = None
        for path in list(self.steps):
            here, there = (self.trees[side].get(path) for side in Side)
            if here is None or there is None or (here.kind is Kind.FOLDER) == (there.kind is Kind.FOLDER):
                continue
            if reason := self.options.never_pull(path):
                self.skipped[Side.THERE, path] = reason
                self.steps.update({p: Step.NOTHING for p in self.steps if (p + "/").startswith(path + "/")})
                continue
            found.add(path)
            kept = self._survivors() if kept is None else kept
            side = Side.HERE if here.kind is not Kind.FOLDER else Side.THERE
            leaf = self.trees[side][path]
            row = self.base.get(path)
            if path in kept or row is None or row.kind is not Kind.FOLDER:
                if self._state(side, path) is State.SAME:
                    self._do(Action(Do.DELETE, side, path, Why.TYPE, entry=leaf))
                else:
                    origin = "this server" if side is Side.HERE else self.options.there_name
                    aside = self._free_name(path, origin)
                    self._do(Action(Do.MOVE, side, path, Why.TYPE, entry=leaf, keep_as=aside))
                    self._do(Action(Do.COPY, side.other, aside, Why.TYPE, entry=replace(leaf, path=aside)))
                self._do(Action(Do.FOLDER, side, path, Why.TYPE))
            else:
                self._do(Action(Do.REMOVE_FOLDER, side.other, path, Why.TYPE))
                self._do(Action(Do.COPY, side.other, path, Why.TYPE, entry=leaf))
        return found

    def _one_spelling(self) -> None:
        """Where a side takes ``Data`` and ``data`` for one name, only one of them travels: the one that such a side has."""
        folding = [n for n in (self.options.here_names, self.options.there_names) if n.folds_case]
        if not folding:
            return
        side = Side.HERE if self.options.here_names.folds_case else Side.THERE
        has = self.trees[side]
        staying = [p for p in self.steps if self._stays(p) and any(p in t for t in self.trees.values())]
        winners: dict[str, str] = {}
        # Parents come before what is in them, and of one depth what the side has before what it would get.
        for path in sorted(staying, key=lambda p: (p.count("/"), p not in has, p not in self.base, p)):
            clash = next((w for p in (*folders_of(path), path) if (w := winners.get(self.told.key(p), p)) != p), None)
            if clash is None:
                winners[self.told.key(path)] = path
                continue
            if path not in has:
                self.steps[path] = Step.NOTHING
                where = "this server" if side is Side.HERE else self.options.there_name
                self.skipped[side.other, path] = f"on {where} it would be the same name as “{names.printable(clash)}”"

    # Actions.

    def _do(self, action: Action, always: bool = False) -> None:
        into = Side.THERE if self.direction is Direction.PUSH else Side.HERE
        if always or self.direction is Direction.BOTH or action.side is into or action.why is Why.TYPE:
            self.actions.append(action)

    def _act(self, path: str, step: Step) -> None:
        if step is Step.FORGET:
            self.forgotten.append(path)
        elif step in DELETES:
            entry = self.trees[DELETES[step]][path]
            do = Do.REMOVE_FOLDER if entry.kind is Kind.FOLDER else Do.DELETE
            self._do(Action(do, DELETES[step], path, Why.DELETED, entry=entry))
        elif step in COPIES:
            self._copy(path, COPIES[step])
        elif step is Step.COMPARE:
            self._conflict(path)

    def _copy(self, path: str, to: Side) -> None:
        entry, replaced = self.trees[to.other][path], self.trees[to].get(path)
        row = self.base.get(path)
        gone = row is not None and row.stamp(to) is not None and replaced is None
        why = Why.REVIVED if gone else Why.NEW if replaced is None else Why.CHANGED
        if entry.kind is Kind.FOLDER:
            self._do(Action(Do.FOLDER, to, path, why))
            return
        trash = replaced is not None and replaced.size <= self.options.trash_below
        entry = self._with_modes(path, to.other, entry)
        self._do(Action(Do.COPY, to, path, why, entry=entry, replaces=replaced, trash=trash))

    def _with_modes(self, path: str, source: Side, entry: Entry) -> Entry:
        """From a side without executable bits the file travels with the bit that the other side has."""
        if self._has_modes(source):
            return entry
        other = self.trees[source.other].get(path) or self.base.get(path)
        return replace(entry, executable=bool(other and other.executable))

    def _conflict(self, path: str) -> None:
        """Here's version keeps the name; there's gets another there, and is brought here under that. Done whole in
        any direction: half of it would be a conflict again."""
        here, there = self.trees[Side.HERE][path], self.trees[Side.THERE][path]
        aside = self._free_name(path, self.options.there_name)
        self.conflicts.append(Conflict(path, aside, here, there))
        here = self._with_modes(path, Side.HERE, here)
        push = Action(Do.COPY, Side.THERE, path, Why.CONFLICT, entry=here, replaces=there, keep_as=aside)
        self._do(push, always=True)
        if not self.options.never_pull(aside):
            pull = Action(Do.COPY, Side.HERE, aside, Why.CONFLICT, entry=replace(there, path=aside))
            self._do(pull, always=True)

    def _free_name(self, path: str, origin: str) -> str:
        both = (self.options.here_names, self.options.there_names)
        found = names.conflict_name(path, origin, self.options.now, lambda p: self.told.key(p) in self.taken, both)
        self.taken.add(self.told.key(found))
        return found

    def _room_here(self) -> tuple[Entry, ...]:
        """Leaves the largest files there until the rest fits here. All of a file is counted, also where it replaces another:
        both are on disk until it is renamed into place."""
        if self.options.pull_bytes is None:
            return ()
        pulls = [a for a in self.actions if a.do is Do.COPY and a.side is Side.HERE and a.entry and a.entry.size]
        wanted = [a for a in pulls if a.path in self.options.fetch]
        room = self.options.pull_bytes - sum(a.entry.size for a in wanted if a.entry)
        left = []
        for action in sorted(pulls, key=lambda a: (a.entry.size if a.entry else 0, a.path)):
            assert action.entry is not None
            if action in wanted:
                continue
            room -= action.entry.size
            if room < 0:
                left.append(action)
        gone = {id(a) for a in left}
        self.actions = [a for a in self.actions if id(a) not in gone]
        return tuple(a.entry for a in reversed(left) if a.entry)

    def _folders_for_copies(self) -> None:
        made = {(a.side, a.path) for a in self.actions if a.do is Do.FOLDER}
        for action in list(self.actions):
            if action.do not in (Do.COPY, Do.FOLDER):
                continue
            for folder in folders_of(action.path):
                if folder not in self.trees[action.side] and (action.side, folder) not in made:
                    made.add((action.side, folder))
                    self.actions.append(Action(Do.FOLDER, action.side, folder, Why.NEW))
