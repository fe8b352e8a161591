"""Variables that travel: what could go along, whether it may, and what waits on a VM's disk. A part of ``DSVMService``.

A move carries them with ``carryjob``; what is said here before it begins: a look (``plan``), who may (``check``), and the saves of
VMs that were stopped for being idle (``savedvariables``). Nothing of a kernel is unpickled in this process; it asks kernels, counts
and pumps. docs/variables.md has all of it.
"""

from __future__ import annotations

import logging
import shlex
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .carrypermits import CarryPermits
from .carrywords import failed_words, needs_yes, unsupported, variables_words
from .errors import Cancelled, DSVMError, KernelStartError, NotAllowed, NotFound, OperationRefused, SSHError, SwapError
from .kernelvariables import Hello, Moved, VariablesIn, moved_of, wait
from .models import FREE, CarryState, Compute, LinkPhase, Operation, SavedVariables, Variables
from .operations import Running
from .savedvariables import Save, SavedStore
from .savingvariables import SavingVariables
from .tables import bytes_words, place

if TYPE_CHECKING:
    from .carryends import LocalEnd, RemoteEnd
    from .carryjob import CarryJob
    from .operations import OperationStore
    from .service import DSVMService

log = logging.getLogger("jupyter_dsvm.carrying")

LOAD_SECONDS = 3600.0
MAX_RATES = 1000
SHARED_BYTES = 8 * 1024 * 1024
"""What goes over the connection that kernels of a machine share; more has one of its own, half a second later."""
STAND_SECONDS = 10.0
JUST_SECONDS = 1800.0
"""A stop takes minutes. What was saved before that was saved for another one."""

Carry = bool | Sequence[str]
"""Which variables: all that can, none, or these."""


class CarryNeedsYes(NotAllowed):
    """Raised before anything is done. Whoever asks again may bring a person's yes."""

    code = "CarryNeedsYes"
    status = 409


class CarryNotSupported(SwapError):
    code = "CarryNotSupported"


class Carrying:
    def __init__(
        self, service: DSVMService, folder: Path, in_background: Callable[[Callable[[], object]], None]
    ) -> None:
        """``folder``: this user's data folder, for what is kept; ``in_background`` has a worker thread call something."""
        self._service = service
        self._in_background = in_background
        self.permits = CarryPermits(folder / "carry-from.json")
        self.saves = SavedStore(folder / "saved-variables.json")
        self._saving = SavingVariables(
            self.saves,
            service.connections,
            service.registry.all,
            self.notebook_of,
            lambda: int(service.save_variables_gib * (1 << 30)),
            service.variables_changed,
        )
        self._lock = threading.Lock()
        self._rates: dict[str, float] = {}
        self._hellos: dict[str, Hello] = {}

    # Before a move

    def plan(self, kernel_id: str, compute: str) -> Variables:
        """The dry run. Blocks while the kernel looks: some seconds."""
        proxy = self._service.proxy(kernel_id)
        row = self._service.known.find(compute)
        status = proxy.status
        here = place(status.compute, status.compute_name)

        def nothing(state: CarryState, reason: str) -> Variables:
            return Variables(kernel_id, row.id, state, reason)

        if status.language and status.language.lower() != "python":
            return nothing(CarryState.UNSUPPORTED, unsupported(status.language))
        if status.compute not in (FREE, row.id) and not self._service.carry_from_vms:
            return nothing(
                CarryState.UNSUPPORTED, f"This server is set so that variables stay on {status.compute_name}."
            )
        if status.link.state not in (LinkPhase.LOCAL, LinkPhase.CONNECTED):
            return nothing(CarryState.UNREACHABLE, f"{status.compute_name} is out of reach, and with it the variables.")
        busy = "A cell runs; which variables can go along is seen when it has ended."
        if status.execution_state == "dead":
            return nothing(CarryState.UNREACHABLE, f"The kernel on {here} has ended, and its variables with it.")
        if status.running is not None or status.execution_state != "idle":
            return nothing(CarryState.BUSY, busy)
        try:
            planned = VariablesIn(proxy).plan(None, self.hello_of(row.id))
        except DSVMError as e:
            if e.code in ("KernelBusy", "KernelTimeout"):
                return nothing(CarryState.BUSY, busy)
            if isinstance(e, KernelStartError):
                return nothing(CarryState.UNREACHABLE, e.message)
            raise
        return Variables(
            kernel_id,
            row.id,
            CarryState.READY,
            "",
            planned.variables,
            planned.more,
            planned.bytes,
            None if planned.size is None else self.seconds(status.compute, row.id, planned.size),
            self.needs_yes(status.compute, row.id),
        )

    def needs_yes(self, source: str, target: str) -> bool:
        return source not in (FREE, target) and not self.permits.holds(source)

    def check(self, proxy: Any, row: Compute, carry: Carry, allow: bool | None) -> None:
        """Whether these variables may go along there. Raises ``CarryNotSupported``, ``NotAllowed`` or ``CarryNeedsYes``.
        ``allow``: a person's yes, which is kept. Blocks for a small file."""
        if not carry:
            return
        status = proxy.status
        if status.language and status.language.lower() != "python":
            raise CarryNotSupported(
                unsupported(status.language), advice="Move the notebook without them, and run the cells that make them."
            )
        if status.compute == FREE or status.compute == row.id:
            return
        if not self._service.carry_from_vms:
            raise NotAllowed(
                f"Variables may not be carried from {status.compute_name}: this server is set so (DSVMService.carry_from_vms).",
                advice="Move the notebook without its variables, and bring data back as files.",
                code="CarryForbidden",
            )
        if allow:
            self.permits.keep(status.compute)
        elif self.needs_yes(status.compute, row.id):
            raise CarryNeedsYes(
                needs_yes(status.compute_name, place(row.id, row.name), row.id == FREE),
                advice="Say yes to it, or move the notebook without its variables.",
            )

    def job(self, running: Running, proxy: Any, row: Compute, carry: Carry, tell: bool = False) -> CarryJob | None:
        """What ``Moves.run`` is given to carry them with; None where none go along. ``tell``: also in the notebook's output."""
        if not carry:
            return None
        from .carryjob import CarryJob  # late, as all that only an attach needs

        status = proxy.status
        source, target = status.compute, row.id

        def ends(size: int | None) -> tuple[LocalEnd | RemoteEnd, LocalEnd | RemoteEnd]:
            own = size is None or size > SHARED_BYTES
            at_old = self._end(source, own)
            try:
                return at_old, self._end(target, own)
            except BaseException:
                at_old.release()
                raise

        def met(old: Hello, new: Hello) -> None:
            with self._lock:
                self._hellos |= {source: old, target: new}
                while len(self._hellos) > MAX_RATES:
                    del self._hellos[next(iter(self._hellos))]

        return CarryJob(
            proxy,
            running,
            None if carry is True else list(carry),
            place(source, status.compute_name),
            ends,
            met=met,
            measured=lambda size, seconds: self._measured(source, target, size, seconds),
            check=lambda size: self._check_room(target, size),
            tell=tell,
        )

    def _end(self, compute_id: str, own: bool) -> LocalEnd | RemoteEnd:
        """Where a kernel on that compute can connect to. ``own``: over a connection of its own, since so much would hold up what
        other notebooks there say."""
        from .carryends import LocalEnd, RemoteEnd

        if compute_id == FREE:
            return LocalEnd("the free tier")
        connections = self._service.connections
        if not own:
            return RemoteEnd(connections.standing(compute_id, STAND_SECONDS), connections.pythons, own=False)
        connection = connections.signed_in(compute_id)
        try:
            return RemoteEnd(connection, connections.pythons, own=True)
        except BaseException:
            connection.close()
            raise

    def _check_room(self, target: str, size: int) -> None:
        """This server's memory is small: a kernel that takes more than there is would end, and others with it."""
        if target != FREE or not size:
            return
        memory = self._service.memory_here()
        if memory is not None and size > memory.total - memory.used:
            left = bytes_words(max(0, memory.total - memory.used))
            raise OperationRefused(
                f"The variables take {bytes_words(size)}, and the free tier has {left} of memory left.",
                advice="Carry only some of them by name, or write what is large to a file.",
                code="TooLarge",
            )

    # How fast, and what the other end was last time

    def seconds(self, source: str, target: str, size: int) -> float | None:
        """About how long so many bytes take, where that has been measured between machines before."""
        with self._lock:
            rate = self._rates.get(_way(source, target))
        return None if rate is None else round(size / rate + 1.0, 1)

    def _measured(self, source: str, target: str, size: int, seconds: float) -> None:
        """So much has just gone over there in that time. What is too small says nothing."""
        if size < 1 << 20 or seconds <= 0:
            return
        with self._lock:
            self._rates[_way(source, target)] = size / seconds
            while len(self._rates) > MAX_RATES:
                del self._rates[next(iter(self._rates))]

    # What waits on a VM

    def notebook_of(self, kernel_id: str) -> str:
        file = self._service.notebook_file(kernel_id)
        return str(file) if file is not None else f"kernel:{kernel_id}"

    def saved(self, kernel_id: str) -> SavedVariables | None:
        """For a kernel's row. Does not block."""
        save = self.saves.of(self.notebook_of(kernel_id))
        return save.shown() if save is not None else None

    def load(self, kernel_id: str, names: Sequence[str] | None = None) -> Operation:
        """Put saved variables into the kernel, which runs on their VM and is idle. Does not wait for it."""
        proxy = self._service.proxy(kernel_id)
        save = self.loadable(proxy)
        running = self._operations.begin(
            "load", compute=save.compute, kernel=kernel_id, steps=[("load", "Load the saved variables")]
        )
        self._service.spawn(running, lambda: self.run_load(running, proxy, save, names))
        return running.value

    def loadable(self, proxy: Any) -> Save:
        """What was saved of its notebook, on the machine that its kernel runs on. Raises where there is no such."""
        save = self.saves.of(self.notebook_of(proxy.kernel_id))
        if save is None:
            raise NotFound(
                "No variables of this notebook were saved.",
                advice="They are saved when a machine is stopped for being idle, and kept for 30 days.",
                code="NothingSaved",
            )
        name = self._service.known.name(save.compute)
        if proxy.status.compute != save.compute:
            raise OperationRefused(
                f"The variables were saved on {name}, and this notebook runs elsewhere.",
                advice=f"Attach it to {name}, then load them.",
                code="SavedElsewhere",
            )
        return save

    @property
    def _operations(self) -> OperationStore:
        return self._service.operations_store

    def run_load(self, running: Running, proxy: Any, save: Save, names: Sequence[str] | None) -> None:
        """Blocks; the operation has ended when it returns. What went wrong is raised as well."""
        running.step("load")
        try:
            asked = VariablesIn(proxy).begin_load(save.file, names)
            moved = moved_of(wait(asked, LOAD_SECONDS, running.cancel), "received")
        except Cancelled:
            proxy.signal(signal.SIGINT)
            running.cancelled(Cancelled(running.cancel_reason, advice="What was loaded already stays."))
            raise
        except BaseException as e:
            running.failed(e)
            raise
        running.done(self.loaded(proxy.kernel_id, moved, forget=names is None))

    def loaded(self, kernel_id: str, moved: Moved, forget: bool) -> str:
        """What is said of it; the save is not needed any more where all of it was to be loaded. Blocks for a small file."""
        save = self.saves.of(self.notebook_of(kernel_id))
        # What is imported there anew is not counted among them.
        count = len(set(save.names).intersection(moved.names)) if save is not None else moved.count
        said = f"{variables_words(count)} loaded."
        if moved.failed:
            said += f" {len(moved.failed)} could not be: {failed_words(moved.failed)}."
        if forget and moved.count:
            self.forget(kernel_id)
        return said

    def hello_of(self, compute_id: str) -> Hello | None:
        """What a kernel on that compute last said of itself; None where none has."""
        with self._lock:
            return self._hellos.get(compute_id)

    def forget(self, kernel_id: str) -> None:
        """They are not wanted any more. The file is removed there now or when its machine is connected to next."""
        self._service.proxy(kernel_id)
        save = self.saves.drop(self.notebook_of(kernel_id))
        if save is not None:
            self._service.variables_changed(kernel_id)
            self._in_background(lambda: self.tidy(save.compute))

    def save_before_stop(self, compute_id: str, running: Running) -> list[str]:
        """A VM is about to be stopped because nobody uses it; what was saved, in sentences. Blocks; raises ``Cancelled`` only."""
        if not self._saving.wanted(compute_id):
            return []
        running.report("Saving the notebooks’ variables")
        return self._saving.save(compute_id, running.cancel)

    def just_saved(self, kernel_id: str, compute_id: str) -> str:
        """For a notebook that comes back from there without its kernel. Does not block."""
        save = self.saves.of(self.notebook_of(kernel_id))
        if save is None or save.compute != compute_id or time.time() - save.at > JUST_SECONDS:
            return ""
        name = self._service.known.name(compute_id)
        count = "1 of its variables was" if save.count == 1 else f"{save.count} of its variables were"
        return f"{count} saved on {name}: attach it there again, and %dsvm load brings them back."

    def arrived(self, kernel_id: str, compute_id: str) -> str:
        """A notebook runs on that machine now: what is to be said of variables that wait there. Blocks for a moment."""
        self.tidy(compute_id)
        save = self.saves.of(self.notebook_of(kernel_id))
        if save is None or save.compute != compute_id:
            return ""
        wait_there = (
            "was saved there when the machine was" if save.count == 1 else "were saved there when the machine was"
        )
        return f"{variables_words(save.count)} {wait_there} stopped ({bytes_words(save.bytes)}): %dsvm load brings them back."

    def machine_changed(self, kind: str, row: Compute, before: object) -> None:
        """A change of a machine by this process has succeeded (``Computes.on_ended``). Blocks for a small file."""
        if kind == "forget":
            self.permits.revoke(row.id)

    def renamed(self, notebooks: Mapping[str, str]) -> None:
        """Notebooks' files have other names, by their old ones."""
        if notebooks:
            self._in_background(lambda: self.saves.renamed(notebooks))

    def tidy(self, compute_id: str) -> None:
        """Remove saves from that VM which nobody wants any more, if it is connected to. Blocks for a moment."""
        if not self._service.connections.stands(compute_id):
            return
        for save in self.saves.to_remove(compute_id):
            try:
                self._service.connections.standing(compute_id, 0.0).run(
                    f"rm -f -- {shlex.quote(save.file)}", timeout=20.0
                )
            except SSHError as e:
                log.info("%s is still on %s: %s", save.file, self._service.known.name(compute_id), e.message)
                return
            self.saves.removed(save)


def _way(source: str, target: str) -> str:
    """A link is a VM's: it is about as fast in both directions."""
    return target if source == FREE else source if target == FREE else f"{source} {target}"
