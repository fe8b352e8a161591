"""What a broker remembers, in one SQLite file of its own (0600): it may be killed at any moment and goes on where it was.

Names of people are the hub's, ids of VMs are ``vmId``. Moments are seconds since 1970. Called from any thread; one connection and
one lock, since every statement is small.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..ssh.keys import private_folder
from .presence import Present

VERSION = 2

SCHEMA = """
create table if not exists counters (name text primary key, value integer not null);
create table if not exists certificates (
    serial integer primary key, person text not null, vm text not null, authority text not null,
    until real not null, revoked integer not null default 0
);
create index if not exists certificates_by_end on certificates (until);
create table if not exists vms (vm text primary key, trusted text not null, host_keys text not null, at real not null);
create table if not exists accounts (
    vm text not null, person text not null, state text not null, at real not null, primary key (vm, person)
);
create table if not exists assignments (
    pool text not null, person text not null, vm text not null, at real not null, primary key (pool, person)
);
create table if not exists starts (vm text primary key, person text not null, at real not null);
create table if not exists presence (
    vm text not null, person text not null, until real not null, used real not null, left real not null default 0,
    primary key (vm, person)
);
create table if not exists operations (
    id text primary key, person text not null, kind text not null, vm text, state text not null, at real not null
);
create table if not exists spend (
    month text not null, person text not null, vm text not null, amount real not null, primary key (month, person, vm)
);
"""

FROM_1 = """
alter table presence add column used real not null default 0;
alter table presence add column left real not null default 0;
update presence set used = until;
"""
"""Version 1 did not know who is attached and uses nothing."""

KEPT_SECONDS = 90 * 86400.0
"""How long the rows of certificates and operations that are over are kept. The audit's log is for longer."""


@dataclass(frozen=True)
class SetUp:
    """What a VM was last brought to."""

    trusted: frozenset[str]
    """Fingerprints of the authority's keys."""
    host_keys: tuple[str, ...]
    at: float


class State:
    def __init__(self, path: Path) -> None:
        """Raises ``ConfigurationError`` where the file cannot be used."""
        self._lock = threading.Lock()
        try:
            private_folder(path.parent)
            path.touch(mode=0o600)
            path.chmod(0o600)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            found = int(self._db.execute("pragma user_version").fetchone()[0])
            if found > VERSION:
                self._db.close()
                raise ConfigurationError(
                    f"{path} was written by a later version of jupyter-dsvm.",
                    advice="Use that version, or another file.",
                )
            self._db.executescript(SCHEMA)
            if found == 1:
                self._db.executescript(FROM_1)
            self._db.execute(f"pragma user_version = {VERSION}")
        except (OSError, sqlite3.Error) as e:
            raise ConfigurationError(
                f"What the broker remembers cannot be kept in {path}: {e}.",
                advice="Make the folder writable for the broker's account alone, or set DSVMBroker.state_dir.",
            ) from e

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def count(self, name: str) -> int:
        """The next number of that name, from 1 on: never one twice."""
        (row,) = self._do(
            "insert into counters values (?, 1) on conflict (name) do update set value = value + 1 returning value",
            name,
        )
        return int(row[0])

    # Certificates

    def issued(self, serial: int, person: str, vm: str, authority: str, until: float) -> None:
        self._do("insert into certificates values (?, ?, ?, ?, ?, 0)", serial, person, vm, authority, until)

    def revoke(self, person: str, vm: str) -> list[int]:
        """Every certificate of that person for that VM that is not over: their serials."""
        rows = self._do(
            "update certificates set revoked = 1 where person = ? and vm = ? and until > ? returning serial",
            person,
            vm,
            time.time() - 600,
        )
        return [int(row[0]) for row in rows]

    def revoked(self, vm: str) -> list[tuple[str, int, float]]:
        """(fingerprint of the authority's key, serial, end) of those that may not be over yet."""
        return self._do(
            "select authority, serial, until from certificates where vm = ? and revoked and until > ? order by serial",
            vm,
            time.time() - 600,
        )

    # VMs and accounts

    def set_up(self, vm: str) -> SetUp | None:
        rows = self._do("select trusted, host_keys, at from vms where vm = ?", vm)
        if not rows:
            return None
        trusted, host_keys, at = rows[0]
        return SetUp(frozenset(json.loads(trusted)), tuple(json.loads(host_keys)), at)

    def was_set_up(self, vm: str, trusted: Iterable[str], host_keys: Sequence[str]) -> None:
        self._do(
            "insert or replace into vms values (?, ?, ?, ?)",
            vm,
            json.dumps(sorted(trusted)),
            json.dumps(list(host_keys)),
            time.time(),
        )

    def account(self, vm: str, person: str, state: str) -> None:
        """``wanted``, ``present``, ``ending``, ``ended``, ``removing``; ``removed`` is none."""
        if state == "removed":
            self._do("delete from accounts where vm = ? and person = ?", vm, person)
        else:
            self._do("insert or replace into accounts values (?, ?, ?, ?)", vm, person, state, time.time())

    def accounts(self, vm: str | None = None) -> dict[tuple[str, str], str]:
        """By VM and person, the state."""
        rows = self._do("select vm, person, state from accounts where ? is null or vm = ?", vm, vm)
        return {(row[0], row[1]): row[2] for row in rows}

    def account_state(self, vm: str, person: str) -> str:
        rows = self._do("select state from accounts where vm = ? and person = ?", vm, person)
        return str(rows[0][0]) if rows else "removed"

    # Pools

    def assignments(self) -> dict[tuple[str, str], str]:
        """By pool and person, the VM."""
        return {(row[0], row[1]): row[2] for row in self._do("select pool, person, vm from assignments")}

    def assigned_to(self, person: str) -> list[str]:
        return [row[0] for row in self._do("select vm from assignments where person = ?", person)]

    def assign(self, pool: str, person: str, vm: str) -> None:
        self._do("insert or replace into assignments values (?, ?, ?, ?)", pool, person, vm, time.time())

    def unassign(self, pool: str, person: str) -> None:
        self._do("delete from assignments where pool = ? and person = ?", pool, person)

    # Who has started what, and who is there

    def started(self, vm: str, person: str) -> None:
        """The first word counts, until it is off again: who starts what is on already gains no hours."""
        self._do(
            "insert into starts values (?, ?, ?) on conflict (vm) do update set person = excluded.person where person = ''",
            vm,
            person,
            time.time(),
        )

    def seen_running(self, vm: str) -> None:
        """By whomever it was started."""
        self._do("insert or ignore into starts values (?, '', ?)", vm, time.time())

    def stopped(self, vm: str) -> None:
        self._do("delete from starts where vm = ?", vm)
        self._do("delete from presence where vm = ?", vm)

    def starts(self) -> dict[str, tuple[str, float]]:
        """By VM, who has started it ("" where that is not known) and when."""
        return {row[0]: (row[1], row[2]) for row in self._do("select vm, person, at from starts")}

    def here(self, vm: str, person: str, until: float, used: float | None = None, at_least: bool = False) -> None:
        """That person is attached, at least until then, and has used it until ``used`` (by default they go on); ``at_least``: or
        until what was heard before."""
        self._do(
            "insert into presence values (?, ?, ?, ?, 0) "
            "on conflict (vm, person) do update set until = max(until, excluded.until), "
            "used = case when ? then max(used, excluded.used) else excluded.used end",
            vm,
            person,
            until,
            until if used is None else used,
            at_least,
        )

    def gone(self, vm: str, person: str) -> None:
        """They are not attached any more, and need it no more."""
        self._do("delete from presence where vm = ? and person = ?", vm, person)

    def leave(self, vm: str, person: str, now: float) -> None:
        """They leave it to the others: as far as it is up to them, it may be stopped."""
        self._do(
            "insert into presence values (?, ?, 0, 0, ?) on conflict (vm, person) do update set used = 0, left = excluded.left",
            vm,
            person,
            now,
        )

    def present(self, vm: str) -> list[Present]:
        """Everybody who was there since it was started."""
        return [Present(*row) for row in self._do("select person, until, used, left from presence where vm = ?", vm)]

    def presence(self) -> list[tuple[str, str, float]]:
        """(VM, person, until) of everybody who was there since the VM was started."""
        return self._do("select vm, person, until from presence")

    # Operations

    def operation(self, operation_id: str, person: str, kind: str, vm: str | None, state: str) -> None:
        """``queued`` until its turn has come, then ``begun``."""
        self._do(
            "insert or replace into operations values (?, ?, ?, ?, ?, ?)",
            operation_id,
            person,
            kind,
            vm,
            state,
            time.time(),
        )

    def operation_ended(self, operation_id: str) -> None:
        self._do("update operations set state = 'ended' where id = ?", operation_id)

    def owner(self, operation_id: str) -> str:
        rows = self._do("select person from operations where id = ?", operation_id)
        return str(rows[0][0]) if rows else ""

    def under_way(self, kind: str) -> list[tuple[str, str, str]]:
        """(id, person, VM) of those that have not ended, those that wait included."""
        return self._do("select id, person, vm from operations where kind = ? and state != 'ended'", kind)

    def lost(self, but: Collection[str]) -> None:
        """An earlier broker had begun them and left nothing to go on with: all that are begun and not among ``but``."""
        for (one,) in self._do("select id from operations where state = 'begun'"):
            if one not in but:
                self.operation_ended(one)

    def queued(self) -> list[tuple[str, str, str, str]]:
        """(id, person, kind, VM) in the order in which they were asked for."""
        return self._do("select id, person, kind, vm from operations where state = 'queued' order by at, rowid")

    # Money

    def spent(self, month: str, shares: Collection[tuple[str, str, float]]) -> None:
        """(person, VM, amount) more in that month, ``2026-11``."""
        with self._lock:
            self._db.executemany(
                "insert into spend values (?, ?, ?, ?) "
                "on conflict (month, person, vm) do update set amount = amount + excluded.amount",
                [(month, person, vm, amount) for person, vm, amount in shares],
            )

    def spend(self, month: str) -> dict[tuple[str, str], float]:
        """By person and VM."""
        rows = self._do("select person, vm, amount from spend where month = ?", month)
        return {(row[0], row[1]): row[2] for row in rows}

    def prune(self) -> None:
        """What is long over."""
        before = time.time() - KEPT_SECONDS
        self._do("delete from certificates where until < ?", before)
        self._do("delete from operations where state = 'ended' and at < ?", before)
