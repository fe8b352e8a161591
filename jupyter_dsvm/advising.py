"""Gathers what ``advice`` judges: the notebook's code, the memory its kernel has had, its data files, and the machines there are.

A part of ``DSVMService``. No cloud is asked for more than the list of machines that the page has anyway; a machine is asked once
after an attach, whether the notebook's libraries can use its GPU. Everything here blocks and is called on worker threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compute.usage import peak_memory
from .errors import BadRequest, DSVMError, NotFound
from .kerneldeaths import OUT_OF_MEMORY
from .models import FREE, Advice, Compute, GPUGrade, SizeOffer
from .modules import is_local
from .notebooks import MAX_NOTEBOOK, MAX_SOURCES, code_of, language_of
from .tables import GIB

if TYPE_CHECKING:
    from .advice import MemoryKnown
    from .notebookfacts import NotebookFacts
    from .service import DSVMService

# What judges a notebook is imported when one is judged: 0.4 MB in every server otherwise.

log = logging.getLogger("jupyter_dsvm.advising")

GPU_SECONDS = 20.0
"""For a Python there to start and look, and for nvidia-smi, which is slow where nobody has used the GPU yet."""

PROC = Path("/proc")


class Advising:
    """One service's. Thread-safe."""

    def __init__(self, service: DSVMService, background: Callable[..., Future[Any]]) -> None:
        """``background`` runs a function on a worker thread, or raises ``RuntimeError`` when there is none any more."""
        self._service = service
        self._background = background
        self._lock = threading.Lock()
        self._fallen_back: dict[str, tuple[str, list[str]]] = {}
        """By kernel: the compute, and what was found there."""

    # Advice

    def of_kernel(self, kernel_id: str, sources: Sequence[str] | None = None, private: bool = False) -> Advice:
        """``sources``: the code cells as they are now; None: those of the notebook's file. ``private``: without the sizes of files
        here, and of what lies beside the notebook. Raises ``NotFound``, and ``BadRequest`` for what is too long or no Python."""
        from .advice import advise

        proxy = self._service.proxy(kernel_id)
        file = self._service.notebook_file(kernel_id)
        if sources is None:
            sources = [] if proxy.status.language.lower() != "python" else self._code(file)
        facts = self.facts(sources, None if private or file is None else file.parent)
        memory = self._memory(proxy)
        advice = advise(facts, self._service.known.snapshot().computes, memory, self._offers(proxy.status.compute))
        notes = self.fallen_back(kernel_id, proxy.status.compute)
        if not notes or advice.gpu is GPUGrade.NO_GAIN:
            return advice
        first, *rest = advice.sentences
        return Advice(advice.gpu, (first, *notes, *rest), advice.evidence, advice.memory_gib, advice.fits)

    def of_file(self, file: Path) -> Advice:
        """For the command line. Raises ``NotFound``, ``BadRequest``."""
        from .advice import advise

        facts = self.facts(self._code(file), file.parent)
        return advise(facts, self._service.known.snapshot().computes, offers=self._offers(FREE))

    def facts(self, sources: Sequence[str], folder: Path | None) -> NotebookFacts:
        """``folder``: the notebook's; None: nothing is looked for on this disk."""
        from .datafiles import sized
        from .notebookfacts import NotebookFacts, facts_of

        if sum(map(len, sources)) > MAX_SOURCES:
            raise BadRequest(
                f"There is more code than can be looked through ({MAX_SOURCES} characters).",
                advice="Send the cells that import and call something.",
            )
        first = facts_of(sources)
        if folder is None:
            return first
        local = {name for name in first.unlisted if is_local(name, folder)}
        return NotebookFacts(
            first.found,
            tuple(n for n in first.unlisted if n not in local),
            tuple(n for n in first.unlisted if n in local),
            tuple(sized(first.data, folder)),
            first.unread,
            first.hidden,
            first.cells,
        )

    @staticmethod
    def _code(file: Path | None) -> list[str]:
        if file is None:
            raise NotFound(
                "Which notebook this is, is not known here, so its code cannot be read.",
                advice="Open it in Jupyter, or run `jupyter dsvm advise NOTEBOOK.ipynb`.",
                code="UnknownNotebook",
            )
        try:
            if file.stat().st_size > MAX_NOTEBOOK:
                raise BadRequest(
                    f"{file.name} has more than {MAX_NOTEBOOK >> 20} MiB.", advice="Clear its outputs, and save it."
                )
            notebook = file.read_bytes()
        except OSError as e:
            raise NotFound(
                f"The notebook {file} cannot be read: {e.strerror or e}.",
                advice="Save it, or give its path.",
                code="UnknownNotebook",
            ) from None
        # Of another language nothing is read, and nothing known.
        return code_of(notebook) if language_of(notebook) in ("", "python") else []

    def _offers(self, compute: str) -> Sequence[SizeOffer]:
        """Sizes that somebody has asked for already; of the machine where the notebook runs, if of that."""
        known = self._service.known.offers()
        return known.get(compute) or next(iter(known.values()), ())

    def _memory(self, proxy: Any) -> MemoryKnown:
        from .advice import MemoryKnown

        compute, pid = proxy.status.compute, getattr(proxy, "pid", None)
        peak = peak_memory(PROC, pid) if compute == FREE and pid else None
        death = getattr(proxy, "death", None)
        problem = self._service.deaths.problem(proxy.kernel_id, death) if death is not None else None
        outgrew = None
        if death is not None and problem is not None and problem.code == OUT_OF_MEMORY:
            row = self._service.known.known(death.compute)
            total = row.size.memory_gib if row is not None and row.size is not None else None
            outgrew = death.out_of_memory / GIB if death.out_of_memory else total
        return MemoryKnown(peak / GIB if peak else None, "the free tier", outgrew)

    # Libraries that do not use the GPU that is there

    def fallen_back(self, kernel_id: str, compute: str) -> list[str]:
        """What was found after the last attach, if the kernel is still there. Does not block."""
        with self._lock:
            where, notes = self._fallen_back.get(kernel_id, ("", []))
            return list(notes) if where == compute and compute != FREE else []

    def begin_look_at_gpu(self, kernel_id: str, kernelspec: str | None = None) -> Future[list[str]]:
        """Find out on a worker thread whether the notebook's libraries use the GPU of the machine that its kernel has just
        moved to, or moves to. Sentences; none where all is well or nothing can be told. Does not block; the future never
        fails."""
        ended: Future[list[str]] = Future()
        try:
            return self._background(self.look_at_gpu, kernel_id, kernelspec)
        except RuntimeError:  # the server is stopping
            ended.set_result([])
            return ended

    def look_at_gpu(self, kernel_id: str, kernelspec: str | None) -> list[str]:
        """The same, blocking for as long as it takes: some seconds more than ``GPU_SECONDS`` at most. Raises nothing."""
        try:
            proxy = self._service.registry.get(kernel_id)
            row = self._service.known.known(proxy.moving or proxy.status.compute) if proxy is not None else None
            if proxy is None or row is None or proxy.status.language.lower() != "python":
                return []
            if row.size is None or not row.size.gpus:
                return []
            notes = self._ask(row, kernel_id, kernelspec, proxy)
        except DSVMError as e:
            log.info("Whether the libraries use the GPU could not be found out: %s", e)
            return []
        except Exception:
            log.exception("Whether the libraries use the GPU could not be found out")
            return []
        with self._lock:
            self._fallen_back[kernel_id] = (row.id, notes)
        return notes

    def _ask(self, row: Compute, kernel_id: str, kernelspec: str | None, proxy: Any) -> list[str]:
        from .gpufallback import fallback_notes, has_nvidia, looked_at, uses_gpu

        file = self._service.notebook_file(kernel_id)
        if file is None or not has_nvidia(row):
            return []
        facts = self.facts(self._code(file), None)
        if not uses_gpu(facts):
            return []
        names = looked_at(facts, row)
        local = proxy.kernelspec if proxy.status.compute != row.id else proxy.status.kernelspec
        answer = self._service.environments.gpu_libraries(row.id, kernelspec, names, local, GPU_SECONDS)
        return fallback_notes(answer, names, row)

    def forget(self, kernel_id: str) -> None:
        """Its kernel is no more. Does not block."""
        with self._lock:
            self._fallen_back.pop(kernel_id, None)
