"""Notebooks whose machine we have stopped or released go back to the free tier by themselves: a part of ``DSVMService``.

Whoever stops or resizes a machine has agreed that the kernels there end: the page and the magic say so before; one that is
stopped because nobody uses it (``idlestops``) has nothing that runs. Their notebooks
would stay on kernels that are no more; instead each gets a new one here, by a move of its own, and says so above the output of its
next cell. Nothing that is billed is started. Nobody has to follow these moves, so they are no operations of the list: the stop or
the resize says how they went. Where a machine was stopped elsewhere, its notebooks stay where they are and say so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any

from .errors import DSVMError
from .models import FREE
from .operations import OperationStore

if TYPE_CHECKING:
    from .computes import Computes
    from .moves import Moves

log = logging.getLogger("jupyter_dsvm.returns")

RETURN_SECONDS = 30.0
"""How long the end of a stop or a resize waits for the new kernels; a kernel here starts within seconds."""


class Return:
    """The notebooks of one machine, on their way back."""

    def __init__(self, moves: dict[str, Future[None]], saved: bool = False) -> None:
        """``moves`` by the notebook's name, or what stands for it; ``saved``: some of their variables were saved."""
        self._moves = moves
        self._saved = saved

    @property
    def count(self) -> int:
        return len(self._moves)

    def notice(self, affected: list[str]) -> str:
        """What has become of the notebooks that ran there, ``affected``; may be empty. Blocks until they are back, or for
        ``RETURN_SECONDS``."""
        wait_for(self._moves.values(), RETURN_SECONDS)
        back = [n for n, f in self._moves.items() if f.done() and not f.cancelled() and f.exception() is None]
        left = [n for n in affected if n not in back]
        return " ".join(
            [*([_are_back(sorted(back), self._saved)] if back else []), *([kernels_ended(left)] if left else [])]
        )


class Returns:
    def __init__(
        self,
        moves: Moves,
        computes: Computes,
        proxies: Callable[[], list[Any]],
        name: Callable[[str], str],
        submit: Callable[..., Future[None]],
    ) -> None:
        """``proxies`` gives the fronts that this process holds, ``name`` what a kernel's notebook is called; ``submit`` runs what
        blocks on a worker thread."""
        self._moves = moves
        self._computes = computes
        self._proxies = proxies
        self._name = name
        self._submit = submit
        self.saved: Callable[[str, str], str] = lambda kernel_id, compute_id: ""
        """What of a kernel's variables that machine has just saved, in a sentence; empty for nothing. Does not block."""
        self._operations = OperationStore()

    def begin(self, compute_id: str, reason: str = "") -> Return:
        """That machine is off, by us. What somebody moves already is left to them. Does not block. ``reason``: where nobody asked
        for it; goes on after the machine's name."""
        moves: dict[str, Future[None]] = {}
        saved = False
        for proxy in self._proxies():
            if proxy.status.compute == compute_id and proxy.moving is None:
                saved = saved or bool(self.saved(proxy.kernel_id, compute_id))
                try:
                    moves[self._name(proxy.kernel_id)] = self._submit(self._bring_back, proxy, reason)
                except RuntimeError:
                    break  # the server is stopping
        return Return(moves, saved)

    def _bring_back(self, proxy: Any, reason: str = "") -> None:
        """Blocks until the notebook has its kernel here; raises where it cannot."""
        name = proxy.status.compute_name
        lost = "Its variables are lost; run the cells that make them."
        said = (
            f"{name} {reason or 'was released'}, and this notebook is back on the free tier with a new kernel. "
            f"{self.saved(proxy.kernel_id, proxy.status.compute) or lost}"
        )
        began = time.monotonic()
        try:
            row = self._computes.find(FREE)
            running = self._moves.begin(proxy, row, operations=self._operations)
            proxy.say(said)
            self._moves.run(running, proxy, row, None, None, machine_is_off=True).result()
        except BaseException as e:
            proxy.say("")
            if not isinstance(e, DSVMError):
                log.exception("a notebook could not be brought back from %s", name)
            else:
                log.info("A notebook was not brought back from %s: %s", name, e)
            raise
        log.info("A notebook came back from %s in %.1f s.", name, time.monotonic() - began)

    def close(self, reason: str) -> None:
        """The server stops. Does not block."""
        for running in self._operations.running():
            self._operations.cancel(running.id, reason, quiet=True)


def go_back(count: int) -> str:
    """The step in which they do."""
    return "One notebook goes back to the free tier" if count == 1 else f"{count} notebooks go back to the free tier"


def _are_back(notebooks: list[str], saved: bool) -> str:
    if len(notebooks) == 1:
        return (
            f"{notebooks[0]} is back on the free tier with a new kernel{'' if saved else '; its variables are lost'}."
        )
    lost = "what was not saved of their variables is lost" if saved else "their variables are lost"
    return f"{', '.join(notebooks)} are back on the free tier with new kernels; {lost}."


def kernels_ended(notebooks: list[str]) -> str:
    """What has become of notebooks that stay on a machine that was off in between."""
    of = f"The kernel of {notebooks[0]}" if len(notebooks) == 1 else f"The kernels of {', '.join(notebooks)}"
    return f"{of} ended with it; attach again, or return to the free tier."
