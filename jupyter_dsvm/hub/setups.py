"""Has VMs brought to what is wanted of them: the authority trusted, accounts made, ended and removed (``vmaccounts``).

A run command takes half a minute and a VM takes one at a time, so all that has come together for a VM while one was under way goes
into the next: fifty students who attach at nine wait for two of them, not for fifty. What is wanted is in the state, so that
it is brought about later where the VM is off or the broker is killed.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Protocol

from ..compute.provider import Cancel, Report
from ..errors import DSVMError
from .certificates import Authority, user_id
from .revocation import revocation_list, still_good
from .state import State
from .vmaccounts import MOST, MOST_REVOKED, Done, Limits, Wanted, failure, parse, script

if TYPE_CHECKING:
    from ..models import Compute
    from ..operations import Running

log = logging.getLogger("jupyter_dsvm.hub")

NEXT = {"wanted": "present", "ending": "ended", "removing": "removed"}
"""What the state of an account becomes once the VM has been brought to it."""


class RunScript(Protocol):
    def __call__(
        self,
        compute_id: str,
        script: str,
        parameters: Mapping[str, str],
        *,
        what: str,
        doing: str,
        report: Report,
        cancel: Cancel,
    ) -> tuple[str, str]:
        """``AzureCompute.run_script``."""


class Setups:
    def __init__(
        self,
        state: State,
        authority: Authority,
        run_script: RunScript,
        limits: Callable[[], Limits],
        keep_homes: Callable[[], bool],
        workers: Executor,
        ended: Callable[[str, str, str], None],
    ) -> None:
        """``ended`` is called with a VM, a person and ``ended`` or ``removed`` once nothing of theirs runs there any more."""
        self._state, self._authority, self._run_script = state, authority, run_script
        self._limits, self._keep_homes, self._workers, self._ended = limits, keep_homes, workers, ended
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Running]] = {}
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._cancel = Cancel()

    def is_ready(self, vm: str, person: str) -> bool:
        """Whether a certificate for that person opens their account there now."""
        known = self._state.set_up(vm)
        return (
            known is not None
            and self._state.account_state(vm, person) == "present"
            and any(key.fingerprint in known.trusted for key in self._authority.known())
        )

    def want(self, row: Compute, person: str, running: Running) -> None:
        """Make that account there; ``running`` ends when it is made. Does not block."""
        vm = vm_of(row)
        self._state.account(vm, person, "wanted")
        with self._lock:
            self._waiting.setdefault(vm, []).append(running)
        self._begin(row)

    def end(self, row: Compute, person: str, remove: bool = False) -> None:
        """Let that person in no more, revoke their certificates, and end what they have running there. Does not block; where the
        VM is off it is done when it is on."""
        vm = vm_of(row)
        self._state.revoke(person, vm)
        self._state.gone(vm, person)
        self._state.account(vm, person, "removing" if remove else "ending")

    def bring_about(self, row: Compute) -> None:
        """Begin with what is still to be done there, if there is anything. Does not block. Called for VMs that are on."""
        vm = vm_of(row)
        known = self._state.set_up(vm)
        owed = any(state in NEXT for state in self._state.accounts(vm).values())
        newest = self._authority.known()[-1].fingerprint
        if owed or (known is not None and newest not in known.trusted):
            self._begin(row)

    def close(self) -> None:
        self._cancel.set()

    def _begin(self, row: Compute) -> None:
        vm = vm_of(row)
        with self._lock:
            if vm in self._busy:
                self._again.add(vm)
                return
            self._busy.add(vm)
        try:
            self._workers.submit(self._run, row)
        except RuntimeError:
            pass  # the broker is stopping

    def _run(self, row: Compute) -> None:
        vm = vm_of(row)
        while True:
            with self._lock:
                waiting = self._waiting.pop(vm, [])
                self._again.discard(vm)
            self._once(row, waiting)
            with self._lock:
                if not self._waiting.get(vm) and vm not in self._again:
                    self._busy.discard(vm)
                    return

    def _once(self, row: Compute, waiting: list[Running]) -> None:
        vm = vm_of(row)
        accounts = {person: state for (_, person), state in self._state.accounts(vm).items()}

        def report(text: str, fraction: float | None = None) -> None:
            for running in waiting:
                running.report(text, fraction)

        # One command has room for so many; whoever waits longest comes first, and the others are in the next.
        asked = [str(running.arguments.get("person", "")) for running in waiting]
        users = list(
            dict.fromkeys([*asked, *(who for who, state in accounts.items() if state in ("wanted", "present"))])
        )[:MOST]
        later = [running for running, who in zip(waiting, asked, strict=True) if who not in users]
        waiting = [running for running, who in zip(waiting, asked, strict=True) if who in users]
        if later:
            with self._lock:
                self._waiting[vm] = [*later, *self._waiting.get(vm, [])]
        try:
            done = self._apply(row, accounts, users, report)
        except DSVMError as e:
            log.warning("%s was not set up for the hub: %s", row.name, e)
            for running in waiting:
                running.failed(e)
            return
        except Exception as e:
            log.exception("setting up %s for the hub failed", row.name)
            for running in waiting:
                running.failed(e)
            return
        self._note(vm, accounts, done)
        for running in waiting:
            one = user_id(str(running.arguments.get("person", "")))
            problem = failure(done, one, row.name)
            if problem is None:
                running.done(f"Your account on {row.name} is there.")
            else:
                running.failed(problem)

    def _apply(self, row: Compute, accounts: Mapping[str, str], users: Sequence[str], report: Report) -> Done:
        vm = vm_of(row)
        by_state: dict[str, list[str]] = {}
        for person, state in sorted(accounts.items()):
            by_state.setdefault(state, []).append(person)
        ended, removed = by_state.get("ending", [])[:MOST], by_state.get("removing", [])[:MOST]
        keys = self._authority.known()
        wanted = Wanted(
            vm,
            [key.public_line for key in keys],
            self._revoked(vm),
            [user_id(person) for person in users],
            [user_id(person) for person in ended],
            [user_id(person) for person in removed],
            self._limits(),
            self._keep_homes(),
        )
        nonce = secrets.token_hex(16)
        out, err = self._run_script(
            row.id,
            script(),
            wanted.parameters(nonce),
            what="set {} up for the hub",
            doing="Making accounts on {}",
            report=report,
            cancel=self._cancel,
        )
        done = parse(out, nonce, row.name, err)
        self._state.was_set_up(vm, [key.fingerprint for key in keys], [key.line for key in done.host_keys])
        return done

    def _revoked(self, vm: str) -> bytes:
        rows = self._state.revoked(vm)
        good = set(still_good([(serial, until) for _, serial, until in rows], time.time())[-MOST_REVOKED:])
        lines = {key.fingerprint: key.public_line for key in self._authority.known()}
        serials: dict[str, list[int]] = {}
        for fingerprint, serial, _ in rows:
            if serial in good and fingerprint in lines:
                serials.setdefault(lines[fingerprint], []).append(serial)
        return revocation_list(serials, self._state.count("revocation lists"), time.time())

    def _note(self, vm: str, accounts: Mapping[str, str], done: Done) -> None:
        for person, state in accounts.items():
            one = user_id(person)
            if state in NEXT and one in getattr(done, NEXT[state]):
                # Unless something else is wanted since.
                if self._state.account_state(vm, person) == state:
                    self._state.account(vm, person, NEXT[state])
                if state != "wanted":
                    self._ended(vm, person, NEXT[state])
            elif one in done.failed:
                log.warning("jd-%s on the VM %s: %s", one, vm, done.failed[one])


def vm_of(row: Compute) -> str:
    """The ``vmId`` of a row of ``AzureCompute``."""
    return row.id.partition(":")[2].lower()
