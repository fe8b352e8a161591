"""What an administrator allows: who sees which VM, who may start, stop, resize and make one, when, and for how much.

``HubPolicy`` are the settings, and its methods decide; nothing is asked of anybody and nothing is changed in here. Who asks brings
the facts (``Facts``) and the time. A refusal is a ``RefusedByPolicy`` that names the rule, which is the name of the setting. What
is not allowed by a rule is refused, so that without any tag or setting nobody can do anything.

=============  ====================================================================================================
what           rules, in this order; the first that does not hold is named
=============  ====================================================================================================
see, attach    ``user_tag``, ``group_tag`` or ``pools`` give the VM to the person; a VM of others looks as if there were none
start          as attach, then ``sizes``, ``hours``, ``running_per_user``, ``budget_per_user``, ``budget``
attach         ``hours``, ``users_per_vm`` of its pool, ``budget_per_user``, ``budget``
stay attached  the VM is still theirs; ``budget_per_user``, ``budget``; ``hours`` with ``close_after_hours``
stop           ``stop_under_others``: nobody else uses it; otherwise it is left to the others
restart        ``stop_under_others``: nobody else is attached
resize         ``may_resize``, ``resize_sizes``, ``stop_under_others``, then as start
create         ``may_create``, ``sizes``, ``budget_per_user``, ``budget``
=============  ====================================================================================================

A teacher sees every VM and is not held by ``hours``, ``running_per_user`` and ``budget_per_user``, nor by others who are attached.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

from traitlets import Bool, Dict, Float, Int, List, TraitError, Unicode, validate
from traitlets.config import Configurable

from ..errors import RefusedByPolicy
from .hours import Hours
from .lessons import Lesson
from .presence import PULL_SECONDS

GROUP = "group:"
"""Before the name of a group, in lists of people."""


@dataclass(frozen=True)
class Person:
    """Whom the hub has identified."""

    name: str
    groups: frozenset[str] = frozenset()
    admin: bool = False


@dataclass(frozen=True)
class Machine:
    """Of a VM, what rules are about."""

    id: str
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    size: str = ""
    price: float | None = None
    """Per hour; None where it is not known."""


@dataclass(frozen=True)
class Facts:
    """What is so now."""

    attached: frozenset[str] = frozenset()
    """Names of those who are attached to the VM."""
    using: frozenset[str] = frozenset()
    """Of them, those for whom it stays on (``presence``)."""
    running: frozenset[str] = frozenset()
    """Ids of the VMs that are on, or will be, because this person has started them, without the one that is asked for."""
    spent: float = 0.0
    """In this month, by this person."""
    spent_by_all: float = 0.0


@dataclass(frozen=True)
class Pool:
    """VMs that are alike, one of which a person gets at the first attach."""

    name: str
    people: tuple[str, ...]
    users_per_vm: int


class HubPolicy(Configurable):
    """``c.HubPolicy.…`` in the broker's configuration."""

    teachers = List(
        Unicode(),
        help="Who sees and may do everything: names of users, and `group:NAME`. Administrators of the hub are teachers too.",
    ).tag(config=True)
    user_tag = Unicode(
        "jupyterhub-user", help="The tag of a VM that names the users whose it is, with commas in between."
    ).tag(config=True)
    group_tag = Unicode(
        "jupyterhub-group",
        help="The tag of a VM that names groups of the hub, with commas in between: each of their members has an account of "
        "their own there.",
    ).tag(config=True)
    pool_tag = Unicode("jupyterhub-pool", help="The tag of a VM that names the pool it belongs to.").tag(config=True)
    pools = Dict(
        help='Pools of VMs: {NAME: {"people": [USER, "group:NAME", "*"], "users_per_vm": 1}}. Whoever is among `people` gets one '
        "VM of the pool at the first attach, and keeps it.",
    ).tag(config=True)
    sizes = List(
        Unicode(), ["*"], help="Sizes, or patterns of them, that VMs may have in order to be started here or made."
    ).tag(config=True)
    hours = List(
        Unicode(),
        help="When VMs may be started and attached: `Mon-Fri 08:00-20:00`, `daily 22:00-02:00`. Empty: always.",
    ).tag(config=True)
    time_zone = Unicode("UTC", help="Of those hours, such as Europe/Berlin.").tag(config=True)
    close_after_hours = Bool(
        False,
        help="Whether what is attached when the hours are over is ended. Otherwise it may go on until it is idle.",
    ).tag(config=True)
    running_per_user = Int(1, min=0, help="How many VMs that one person has started may be on at a time.").tag(
        config=True
    )
    budget_per_user = Float(
        None, allow_none=True, min=0, help="What one person's VMs may cost in a month, in AzureCompute.currency."
    ).tag(config=True)
    budget = Float(None, allow_none=True, min=0, help="What all VMs together may cost in a month.").tag(config=True)
    idle_minutes = Float(
        30.0,
        allow_none=True,
        min=1,
        help="Minutes after which a VM is stopped that nobody is attached to, or where nothing of theirs goes on; None: never.",
    ).tag(config=True)
    hard_limit_hours = Float(
        8.0, allow_none=True, min=0.1, help="Hours after its start at which a VM is stopped whatever runs; None: never."
    ).tag(config=True)
    stop_under_others = Bool(False, help="Whether somebody may stop, restart or resize a VM that others use.").tag(
        config=True
    )
    may_create = List(Unicode(), help="Who may make VMs: names of users, `group:NAME`. Nobody by default.").tag(
        config=True
    )
    may_resize = List(Unicode(), help="Who may resize VMs. Nobody by default.").tag(config=True)
    resize_sizes = List(Unicode(), ["*"], help="Sizes, or patterns of them, to which they may.").tag(config=True)
    certificate_minutes = Float(
        10.0, min=1, max=60, help="Minutes for which an SSH certificate is good; it is renewed while it is used."
    ).tag(config=True)
    source_addresses = List(
        Unicode(),
        help="Networks (CIDR) from which certificates may be used, as the VMs see the users' servers. Empty: from anywhere.",
    ).tag(config=True)
    terminals = Bool(False, help="Whether certificates allow a terminal (`jupyter dsvm ssh`).").tag(config=True)
    memory_per_user = Unicode("", help="What one account may use on a VM, as systemd's MemoryMax: 8G, 50%.").tag(
        config=True
    )
    cpu_per_user = Unicode("", help="The same for CPU time, as systemd's CPUQuota: 200% is two CPUs.").tag(config=True)
    keep_homes = Bool(
        False, help="Whether the home folder of an account that is removed is kept on the VM, for root alone."
    ).tag(config=True)
    lessons: Any = List(
        help='A timetable: VMs that are started before a lesson. [{"hours": "Mon 09:00-11:00", "vms": ["class-vm"]}, {"hours": '
        '"Thu 14:00-16:00", "pool": "gpu", "count": 12, "before_minutes": 15}], in `time_zone`.',
    ).tag(config=True)
    image_version = Unicode(
        "",
        help="The version of the image that the VMs of the hub are to have, such as 25.06.18; others are shown to teachers.",
    ).tag(config=True)
    tasks_per_user = Int(2048, min=64, help="Processes and threads that one account may have on a VM.").tag(config=True)

    @validate("hours")
    def _hours_parse(self, proposal: dict[str, Any]) -> Any:
        try:
            Hours.parse(proposal["value"])
        except ValueError as e:
            raise TraitError(f"HubPolicy.hours: {e}.") from None
        return proposal["value"]

    @validate("lessons")
    def _lessons_parse(self, proposal: dict[str, Any]) -> Any:
        try:
            for one in proposal["value"]:
                Lesson.parse(one)
        except ValueError as e:
            raise TraitError(f"HubPolicy.lessons: {e}.") from None
        return proposal["value"]

    @validate("time_zone")
    def _zone_is_one(self, proposal: dict[str, Any]) -> Any:
        try:
            ZoneInfo(proposal["value"])
        except (KeyError, ValueError, OSError):
            raise TraitError(f"HubPolicy.time_zone: there is no time zone {proposal['value']!r}.") from None
        return proposal["value"]

    @validate("pools")
    def _pools_are_whole(self, proposal: dict[str, Any]) -> Any:
        for name, value in proposal["value"].items():
            if not isinstance(value, dict) or set(value) - {"people", "users_per_vm"} or not _word(name):
                raise TraitError(
                    f'HubPolicy.pools: {name!r} has to be a word, with {{"people": […], "users_per_vm": 1}}.'
                )
            people, most = value.get("people", []), value.get("users_per_vm", 1)
            if not isinstance(people, list) or not all(isinstance(p, str) for p in people):
                raise TraitError(f"HubPolicy.pools: the people of {name!r} have to be a list of names.")
            if not isinstance(most, int) or isinstance(most, bool) or most < 1:
                raise TraitError(f"HubPolicy.pools: the users_per_vm of {name!r} have to be 1 or more.")
        return proposal["value"]

    # Who

    def is_teacher(self, person: Person) -> bool:
        return person.admin or _among(person, self.teachers)

    def may(self, person: Person, people: Sequence[str]) -> bool:
        """Whether one of those settings that name people names this one."""
        return self.is_teacher(person) or _among(person, people)

    def pool(self, name: str) -> Pool | None:
        value = self.pools.get(name)
        if value is None:
            return None
        return Pool(name, tuple(value.get("people", ())), int(value.get("users_per_vm", 1)))

    def pool_of(self, machine: Machine) -> Pool | None:
        """The pool that it belongs to, if that is one of ours."""
        return self.pool(_tag(machine, self.pool_tag).strip())

    def pools_of(self, person: Person) -> list[Pool]:
        """Those from which this person may have a VM."""
        pools = (self.pool(name) for name in self.pools)
        return [p for p in pools if p is not None and _among(person, p.people)]

    def owns(self, person: Person, machine: Machine, assigned: Collection[str] = ()) -> bool:
        """Whether it is a VM of this person: by its tags, or because it was assigned to them and they may still use its pool.
        ``assigned``: ids of the VMs that were."""
        if person.name in _names(_tag(machine, self.user_tag)):
            return True
        if person.groups & _names(_tag(machine, self.group_tag)):
            return True
        pool = self.pool_of(machine)
        return pool is not None and machine.id in assigned and _among(person, pool.people)

    def sees(self, person: Person, machine: Machine, assigned: Collection[str] = ()) -> bool:
        return self.is_teacher(person) or self.owns(person, machine, assigned)

    def allows_size(self, size: str) -> bool:
        return _matches(size, self.sizes)

    # Decisions: each raises ``RefusedByPolicy``

    def check_start(self, person: Person, machine: Machine, facts: Facts, now: float) -> None:
        what = f"{machine.name} may not be started"
        self._check_size(machine.size, f"{what}: it has the size {machine.size or 'unknown'}")
        self._check_hours(person, now, what)
        if not self.is_teacher(person) and len(facts.running) >= self.running_per_user:
            raise _refused(
                "running_per_user",
                f"{what}: {_count(len(facts.running), 'VM')} of yours {_are(len(facts.running))} on already",
                f"Stop {'it' if len(facts.running) == 1 else 'one of them'} first.",
            )
        self._check_budgets(person, facts, what)

    def check_attach(self, person: Person, machine: Machine, facts: Facts, now: float) -> None:
        what = f"Nothing may be attached to {machine.name}"
        self._check_hours(person, now, what)
        pool = self.pool_of(machine)
        others = facts.attached - {person.name}
        if pool is not None and len(others) >= pool.users_per_vm and not self.is_teacher(person):
            raise _refused("pools", f"{what}: {_count(len(others), 'person')} work there", "Ask your teacher.")
        self._check_budgets(person, facts, what)

    def check_stay(self, person: Person, machine: Machine, assigned: Collection[str], facts: Facts, now: float) -> None:
        """Of somebody who is attached: whether they still may be. What is refused here is ended."""
        if not self.sees(person, machine, assigned):
            raise _refused("user_tag", f"{machine.name} is not yours any more", "Ask your teacher.")
        what = f"You may not stay on {machine.name}"
        self._check_budgets(person, facts, what)
        if self.close_after_hours:
            self._check_hours(person, now, what)

    def check_stop(self, person: Person, machine: Machine, facts: Facts, verb: str = "stopped") -> None:
        # Whoever is attached and does nothing loses by a stop what the idle rule would take, and a restart is for nobody's sake.
        others = self.others(person, facts.using if verb == "stopped" else facts.attached)
        if others:
            raise _refused(
                "stop_under_others",
                f"{machine.name} may not be {verb}: {_count(len(others), 'other person')} "
                f"{'works' if len(others) == 1 else 'work'} there",
                "It is stopped by itself when none of them uses it any more.",
            )

    def others(self, person: Person, people: frozenset[str]) -> frozenset[str]:
        """Of the people on a VM, those under whom this person may not stop it."""
        return frozenset() if self.stop_under_others or self.is_teacher(person) else people - {person.name}

    def check_resize(self, person: Person, machine: Machine, size: str, facts: Facts, now: float) -> None:
        what = f"{machine.name} may not be resized"
        if not self.may(person, self.may_resize):
            raise _refused("may_resize", what, "Ask your teacher.")
        if not _matches(size, self.resize_sizes):
            raise _refused(
                "resize_sizes", f"{what} to {size}", f"Possible are {', '.join(self.resize_sizes) or 'none'}."
            )
        self.check_stop(person, machine, facts, "resized")
        self._check_hours(person, now, what)
        self._check_budgets(person, facts, what)

    def check_create(self, person: Person, size: str, facts: Facts, now: float) -> None:
        what = "No VM may be made"
        if not self.may(person, self.may_create):
            raise _refused("may_create", what, "Ask your teacher.")
        self._check_size(size, f"{what} with the size {size}")
        self._check_hours(person, now, what)
        self._check_budgets(person, facts, what)

    def why_stop(self, on_since: float | None, used_at: float | None, now: float, attached: int = 0) -> str:
        """Of a VM that is on: the reason, as the rest of a sentence, why it is stopped now; empty where it stays on. ``on_since``:
        since when it is known to be on; ``used_at``: when somebody has used it last; ``attached``: how many still are."""
        if on_since is None:
            return ""
        if self.hard_limit_hours is not None and now - on_since >= self.hard_limit_hours * 3600:
            return f"it was on for {self.hard_limit_hours:g} h, which is the limit (rule HubPolicy.hard_limit_hours)."
        since = max(on_since, used_at or 0.0)
        if self.idle_minutes is None or now - since < self.idle_minutes * 60:
            return ""
        if not attached:
            return f"nobody was attached for {self.idle_minutes:g} min (rule HubPolicy.idle_minutes)."
        if now - since < self.idle_minutes * 60 + PULL_SECONDS:
            return ""
        return f"nobody has used it for {self.idle_minutes:g} min (rule HubPolicy.idle_minutes)."

    # In here

    def local(self, now: float) -> datetime:
        return datetime.fromtimestamp(now, timezone.utc).astimezone(ZoneInfo(self.time_zone))

    def _check_size(self, size: str, what: str) -> None:
        if not self.allows_size(size):
            raise _refused("sizes", what, f"Allowed are {', '.join(self.sizes) or 'none'}.")

    def _check_hours(self, person: Person, now: float, what: str) -> None:
        hours = Hours.parse(self.hours)
        if not hours or self.is_teacher(person):
            return
        local = self.local(now)
        if not hours.contain(local):
            begin = hours.next_begin(local)
            again = f" Next: {begin:%A, %H:%M}." if begin is not None else ""
            raise _refused("hours", f"{what} now", f"The hours are {', '.join(self.hours)} ({self.time_zone}).{again}")

    def _check_budgets(self, person: Person, facts: Facts, what: str) -> None:
        mine, all_of_us = self.budget_per_user, self.budget
        if mine is not None and facts.spent >= mine and not self.is_teacher(person):
            raise _refused(
                "budget_per_user",
                f"{what}: your VMs have cost {facts.spent:.2f} of {mine:.2f} in this month",
                "Ask your teacher.",
            )
        if all_of_us is not None and facts.spent_by_all >= all_of_us:
            raise _refused(
                "budget",
                f"{what}: the hub's VMs have cost {facts.spent_by_all:.2f} of {all_of_us:.2f} in this month",
                "Ask whoever runs the hub.",
            )


def _refused(rule: str, sentence: str, advice: str) -> RefusedByPolicy:
    return RefusedByPolicy(f"{sentence} (rule HubPolicy.{rule}).", advice=advice, rule=rule)


def _among(person: Person, people: Sequence[str]) -> bool:
    """Names are compared whole. ``*`` is everybody."""
    return any(
        one == "*" or one == person.name or (one.startswith(GROUP) and one[len(GROUP) :] in person.groups)
        for one in people
    )


def _tag(machine: Machine, tag: str) -> str:
    """The value of a tag. Azure does not tell the case of tags' names apart."""
    return next((value for name, value in machine.tags.items() if tag and name.lower() == tag.lower()), "")


def _names(value: str) -> frozenset[str]:
    return frozenset(name.strip() for name in value.split(",") if name.strip())


def _matches(size: str, patterns: Sequence[str]) -> bool:
    """A size that is not known matches what everything does."""
    short = size.lower().removeprefix("standard_")
    return any(fnmatch.fnmatchcase(short, p.lower().removeprefix("standard_")) for p in patterns)


def _word(name: Any) -> bool:
    return (
        isinstance(name, str) and 0 < len(name) <= 40 and all(c.isascii() and (c.isalnum() or c in "-_") for c in name)
    )


def _count(number: int, what: str) -> str:
    plural = {"person": "people", "other person": "other people"}.get(what, f"{what}s")
    return f"{number} {what if number == 1 else plural}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
