"""Between a proxy and what it keeps for the next server process: what of its life is worth a line there. On the I/O thread.

The proxy tells it of the gate's actions, of messages and of what has been handed on; it writes down what an adopter needs
(``Keeping``) while the kernel is a relay's. And it is the adopter: it gives the gate, the clients and the relay what the
earlier process left.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..errors import DSVMError
from .actions import Action, Answered, Arrived, Heard, Phase, ToBackend
from .backends import Backend
from .keeping import Keeping
from .keptfiles import KeptKernel, SessionRow, server_name
from .owed import settled_by

if TYPE_CHECKING:
    from .gate import Gate
    from .proxy import Proxy
    from .sides import Sides

NO_MORE = {"KernelGone", "Superseded"}
"""Codes of errors after which the kernel is no more or another's. After other errors than these and those of a machine that
is off or no more it may still be there: a host key can be put right."""


class Keeper:
    def __init__(self, proxy: Proxy, gate: Gate, sides: Sides, keeping: Keeping | None = None) -> None:
        """``keeping``: what an earlier process left of this kernel; ``adopt`` follows."""
        self._proxy = proxy
        self._gate = gate
        self._sides = sides
        self._keeping = keeping or Keeping(proxy.kernel_id)
        self._sessions: tuple[SessionRow, ...] = ()
        self._root_dir = ""
        self._adopting = 0
        """The side of a relay that is not reached yet."""
        self._early: list[ToBackend] = []
        """What the gate has for it meanwhile: little, since it holds back what is for a kernel out of reach."""
        proxy.clients.on_flushed = self._keeping.flushed
        proxy.clients.on_forgotten = self._keeping.forgotten

    # Adoption

    def adopt(self, backend: Backend) -> int:
        """The kernel goes on behind this proxy; its relay is yet to be reached."""
        keeping, kept = self._keeping, self._keeping.kept
        assert kept is not None
        self._sessions, self._root_dir = kept.sessions, kept.root_dir
        number = self._adopting = self._sides.add(backend)
        self._proxy.clients.count(number)
        for session_id, position in keeping.clients.items():
            self._proxy.clients.expect(session_id, position)
        self._gate.link(number, False)
        ready = kept.run == kept.runs
        self._proxy.recording.adopt(keeping.requests())
        self._gate.adopt(number, kept.info if ready else None, keeping.requests(), keeping.finished, ready)
        return number

    def adopted(self, number: int, received_upto: int) -> None:
        """The relay was reached. What it has not received of the earlier process goes again."""
        if number != self._adopting:
            return
        self._adopting = 0
        early, self._early = self._early, []
        self._gate.not_received(self._keeping.not_received(received_upto))
        for action in early:
            self.send(action)

    # What happens

    def note(self, action: Action) -> None:
        """An action of the gate's that is about a request."""
        if isinstance(action, Arrived):
            self._keeping.arrived(action.key, action.parts)
        elif isinstance(action, Heard):
            self._keeping.heard(action.key, action.what)
        elif isinstance(action, Answered):
            self._keeping.answered(action.key, action.here)

    def send(self, action: ToBackend) -> None:
        if action.side == self._adopting:
            self._early.append(action)
            return
        backend = self._sides.backends.get(action.side)
        if backend is None:
            return
        number = backend.send(action.channel, action.parts)
        if action.key is not None and (number or backend.trusted):
            self._keeping.sent(action.key, action.channel, number, action.parts)

    def came(self, side: int, number: int) -> None:
        """The kernel's message ``number`` is being dealt with."""
        if self._sides.is_current(side):
            self._keeping.number = number

    def handed_on(self, side: int, upto: int) -> None:
        if self._keeping.open and self._sides.is_current(side):
            self._keeping.handed(upto)

    def is_repeated(self, side: int, call_id: int) -> bool:
        """Whether that line of ``%dsvm`` came to an earlier process already. Notes that it has come."""
        if not self._keeping.open or not self._sides.is_current(side):
            return False
        repeated = self._keeping.is_repeated(call_id)
        self._keeping.call(call_id)
        return repeated

    def set_sessions(self, rows: tuple[SessionRow, ...], root_dir: str) -> None:
        if rows:
            self._sessions, self._root_dir = rows, root_dir
            self.update()

    # Where the kernel is

    def update(self) -> None:
        """Something may have changed that an adopter should know."""
        side = self._gate.current
        backend = self._sides.backends.get(side.number) if side is not None else None
        if side is None or backend is None or side.phase in (Phase.ENDED, Phase.GONE):
            return
        ends = backend.ends
        if ends is None:
            if backend.trusted:
                self._keeping.end()
            return
        proxy, before = self._proxy, self._keeping.kept
        run = before.run if before is not None and before.epoch == ends.epoch else 0
        kept = KeptKernel(
            kernel_id=proxy.kernel_id,
            kernel_name=proxy.kernelspec,
            key=proxy.key.decode(),
            signature_scheme=proxy.signature_scheme,
            session=proxy.session,
            ip=proxy.ip,
            ports=proxy.ports,
            compute=backend.compute,
            compute_name=backend.compute_name,
            kernelspec=backend.kernelspec,
            language=backend.language,
            interrupt_mode=backend.interrupt_mode,
            epoch=ends.epoch,
            peer_epoch=ends.peer_epoch,
            tag=ends.tag,
            notice=backend.notice,
            runs=ends.runs,
            run=ends.run if side.phase is Phase.READY and side.number != self._adopting else run,
            info=self._gate.info if self._gate.info is not None or before is None else before.info,
            sessions=self._sessions,
            root_dir=self._root_dir,
            server=server_name(),
        )
        self._keeping.keep(kept)

    def restarts(self) -> None:
        """The kernel is about to be started anew in place: whoever adopts it must not take the old one's answers for its."""
        kept = self._keeping.kept
        if kept is not None and self._keeping.open:
            self._keeping.keep(dataclasses.replace(kept, runs=kept.runs + 1))

    def exited(self) -> None:
        """The kernel's process has ended."""
        self._keeping.ended()

    def gone(self, error: DSVMError) -> None:
        """The kernel is confirmed to be gone, or will not be reached any more."""
        if error.code in NO_MORE or settled_by(error):
            self._keeping.end(gone=True)

    def close(self, leave: bool) -> None:
        """This process has done with it; ``leave`` it to the next one, or nothing is left of it."""
        if not leave:
            self._keeping.end()
        self._keeping.release()
