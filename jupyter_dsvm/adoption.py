"""Kernels on VMs outlive the server: left to themselves when it stops, taken over by the next one before anybody asks for them.

At load, where an earlier process has left any (``kernels.keptfiles``), requests about kernels and sessions begin to wait. The first
moment that the server's loop runs, each of those kernels is put into the kernel map under its id and gets its
sessions back; then the requests go on. Nobody waits for a VM: that is reached in its own time, and the link says how far
it is. A kernel that another living process has is left to it, one that cannot be adopted is left as it is, and so is what
another of its user's servers on a hub has left.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from tornado.routing import Rule, RuleRouter
from tornado.web import RequestHandler

from .kernels.keeping import Keeping
from .kernels.keptfiles import KeptKernel, SessionRow, kept_kernels, server_name
from .kernels.promises import in_thread
from .kernels.registry import PROVISIONER, registry
from .models import FREE

HOLD_SECONDS = 20.0
"""The longest that a request waits for the adoption, which normally takes some hundredths of a second for each kernel."""

DETACH_SECONDS = 6.0
"""The longest that a stopping server takes to leave its kernels."""

HELD = ("jupyter_server.services.kernels.", "jupyter_server.services.sessions.")
"""Modules of the handlers whose requests wait."""


class Adopter:
    """One server's; made while it loads."""

    def __init__(self, server: Any, log: Logger | LoggerAdapter[Logger]) -> None:
        self._server = server
        self._log = log
        self._kept: list[KeptKernel] = []
        self._task: asyncio.Task[None] | None = None
        self._held: list[tuple[Rule, Any]] = []

    def look(self) -> None:
        """Find out what there is, and make the requests wait for it."""
        self._kept = [kept for kept in kept_kernels() if kept.server == server_name()]
        if not self._kept:
            return
        if getattr(self._server.gateway_config, "gateway_enabled", False):
            self._log.info("Kernels are another server's, so those left on VMs (%d) stay there.", len(self._kept))
            self._kept = []
            return
        for rule in _rules(self._server.web_app.default_router):
            target = rule.target
            if isinstance(target, type) and issubclass(target, RequestHandler) and target.__module__.startswith(HELD):
                self._held.append((rule, target))
                rule.target = self._waiting(target)

    def hold(self, handlers: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Handlers of our own, which wait too where there is something to wait for."""
        return [(path, self._waiting(handler), *more) for path, handler, *more in handlers] if self._kept else handlers

    def _waiting(self, handler: Any) -> type[RequestHandler]:
        adopter = self

        class Waiting(handler):  # type: ignore[misc]
            async def prepare(self) -> None:
                if adopter._task is None or not adopter._task.done():
                    await asyncio.wait([asyncio.ensure_future(adopter.adopt())], timeout=HOLD_SECONDS)
                prepared = super().prepare()
                if prepared is not None:
                    await prepared

        Waiting.__name__, Waiting.__module__ = handler.__name__, handler.__module__
        return Waiting

    async def adopt(self) -> None:
        """Take all of them over; whoever asks meanwhile or later waits for the same. Raises nothing."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._adopt_all())
        await asyncio.shield(self._task)

    async def _adopt_all(self) -> None:
        for kept in self._kept:
            try:
                await self._adopt_one(kept)
            except Exception as e:
                self._log.warning(
                    "The kernel %s on %s is not taken over, and is left as it is: %s: %s",
                    kept.kernel_id,
                    kept.compute_name,
                    type(e).__name__,
                    e,
                )
        for rule, target in self._held:
            rule.target = target
        self._held.clear()

    async def _adopt_one(self, kept: KeptKernel) -> None:
        manager, kernel_id = self._server.kernel_manager, kept.kernel_id
        if kernel_id in manager:
            return
        if not await self._has_our_provisioner(kept.kernel_name):
            self._log.info(
                "The kernel %s on %s stays there: kernels are started without jupyter-dsvm now.",
                kernel_id,
                kept.compute_name,
            )
            return
        keeping = await in_thread(Keeping.claim, kernel_id)
        if keeping is None:
            return  # another server of this user has it
        registry.to_adopt[kernel_id] = keeping
        rows = self._rows(kept)
        start: dict[str, Any] = {"kernel_id": kernel_id, "kernel_name": kept.kernel_name}
        if rows:
            start["path"] = await _ready(self._server.contents_manager.get_kernel_path(path=rows[0].path))
            start["env"] = self._server.session_manager.get_kernel_env(rows[0].path, rows[0].name)
        try:
            await _ready(manager.start_kernel(**start))
            started = getattr(manager.get_kernel(kernel_id), "ready", None)  # with use_pending_kernels only later
            if started is not None:
                await asyncio.shield(started if asyncio.isfuture(started) else asyncio.wrap_future(started))
        finally:
            if registry.to_adopt.pop(kernel_id, None) is not None:
                keeping.release()
        proxy, kernel = registry.get(kernel_id), manager.get_kernel(kernel_id)
        if proxy is not None and getattr(kernel, "execution_state", "") == "starting":
            # A websocket of jupyter_server's waits until it is told otherwise, and a busy kernel tells nothing.
            kernel.execution_state = proxy.status.execution_state
        for row in rows:
            await self._restore(row, kernel_id)
        self._log.info("The kernel %s on %s goes on.", kernel_id, kept.compute_name)

    async def _has_our_provisioner(self, kernel_name: str) -> bool:
        """Raises ``NoSuchKernel`` where the kernelspec is not there any more."""
        spec = await _ready(self._server.kernel_spec_manager.get_kernel_spec(kernel_name))
        named = spec.metadata.get("kernel_provisioner", {}).get("provisioner_name")
        default = KernelProvisionerFactory.instance(parent=self._server).default_provisioner_name
        return bool((named or default) == PROVISIONER)

    def _rows(self, kept: KeptKernel) -> list[SessionRow]:
        """The kernel's sessions as this server knows paths. One of a notebook that lies outside its folder gets none."""
        here, rows = Path(self._server.root_dir).resolve(), []
        for row in kept.sessions:
            path, name = row.path, row.name
            if kept.root_dir and Path(kept.root_dir).resolve() != here:
                there = Path(os.path.normpath(Path(kept.root_dir).resolve() / row.path))
                if not there.is_relative_to(here):
                    continue
                path = there.relative_to(here).as_posix()
            rows.append(SessionRow(row.id, path, name, row.type))
        return rows

    async def _restore(self, row: SessionRow, kernel_id: str) -> None:
        sessions = self._server.session_manager
        try:
            await _ready(sessions.get_session(session_id=row.id))
        except Exception:  # as it is unless the server keeps its sessions in a file
            await _ready(
                sessions.save_session(row.id, path=row.path, name=row.name, type=row.type, kernel_id=kernel_id)
            )


async def leave_kernels(server: Any, log: Logger | LoggerAdapter[Logger]) -> None:
    """The server stops, and shuts its kernels down after this: take those on VMs out of its hands, and leave them running.

    A kernel on the free tier ends as always.
    """
    manager = server.kernel_manager
    leaving = []
    for proxy in registry.all():
        kernel_id = proxy.kernel_id
        if proxy.status.compute == FREE or kernel_id not in manager:
            continue
        kernel = manager.get_kernel(kernel_id)
        try:
            manager.stop_watching_activity(kernel_id)
            manager.stop_buffering(kernel_id)
            kernel.stop_restarter()
            kernel.cleanup_connection_file()
        except Exception:
            log.exception("Watching the kernel %s could not be ended.", kernel_id)
        manager.remove_kernel(kernel_id)
        leaving.append(asyncio.ensure_future(kernel.provisioner.detach()))
    if not leaving:
        return
    done, late = await asyncio.wait(leaving, timeout=DETACH_SECONDS)
    for each in done:
        if each.exception() is not None:
            log.warning("A kernel on a VM could not be left in good order: %s", each.exception())
    if late:
        log.warning("%d kernels on VMs could not be left in good order in %g s.", len(late), DETACH_SECONDS)
    log.info("%d kernels on VMs go on without this server.", len(leaving))


def keep_sessions(sessions: Iterable[dict[str, Any]], root_dir: str) -> None:
    """Tell the proxies what the session manager's rows are, for whoever adopts their kernels."""
    found: dict[str, tuple[SessionRow, ...]] = {}
    for s in sessions:
        kernel_id = (s.get("kernel") or {}).get("id")
        if kernel_id:
            row = SessionRow(*(str(s.get(name) or "") for name in ("id", "path", "name", "type")))
            found[kernel_id] = (*found.get(kernel_id, ()), row)
    for proxy in registry.all():
        proxy.keep_sessions(found.get(proxy.kernel_id, ()), root_dir)


def _rules(router: RuleRouter) -> Iterator[Rule]:
    for rule in router.rules:
        if isinstance(rule.target, RuleRouter):
            yield from _rules(rule.target)
        else:
            yield rule


async def _ready(value: Any) -> Any:
    """A manager's answer, which is awaitable with some managers only."""
    return await value if hasattr(value, "__await__") else value
