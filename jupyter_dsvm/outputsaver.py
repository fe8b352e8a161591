"""What cells put out while no page was there goes into the notebook's file, for whoever reads it next: ``git diff``, a nightly job.

One per server; the extension makes it. Every few seconds it looks, in memory, for a kernel whose cells have put out more than any
file of it is known to have (``kernels.savemarks``). Where such a kernel has had no page for a while, the outputs of cells that
have ended go into its notebooks, as ``savedoutputs`` says, through the server's contents manager.

What is in the file is worth more than what is put in:

- Only what is newer than the file's version goes in: with each save of somebody else's, all that the cells have put out so far
  counts as saved, whether the file has it or not. Who clears outputs and saves has them cleared.
- A page that may have it open is left alone: any websocket to the kernel, a live room of jupyter-collaboration, and a file that
  somebody has read just now, since a page reads it before it connects. All of that is looked at again right before the write.
- It is written only if it is as it was read.
- It is never signed, so nothing of it is trusted when a page opens it: nobody has seen it, and a VM may have said it.
- What cannot be written is left alone, with one line in the log, until there is more or ten minutes have passed.

A page that lost its connection, as on a laptop that sleeps, has the notebook open all the same, and gets the outputs itself when it
comes back. ``GET kernels/{id}/saved`` tells it then that what is new on disk is only this (``labextension/src/conflicts.ts``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from contextvars import ContextVar
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from typing import TYPE_CHECKING, Any

import nbformat
from jupyter_client.jsonutil import json_default
from jupyter_server.services.contents.filemanager import FileContentsManager
from nbformat.validator import isvalid
from tornado import web

from .kernels import savemarks
from .kernels.promises import in_thread
from .kernels.registry import registry
from .kernels.savemarks import FileState, Mark
from .models import FREE
from .savedoutputs import Row, with_outputs
from .sharedrooms import SharedRooms

if TYPE_CHECKING:
    from .kernels.proxy import Proxy
    from .service import DSVMService

LOOK_SECONDS = 3.0
GRACE_SECONDS = 10.0
"""Without a page: one that is loaded anew is back by then."""
OPENING_SECONDS = 30.0
"""After somebody has read the file: a page that opens it is connected to its kernel by then."""
RECONNECT_SECONDS = 130.0
"""After a start of the server: pages of a shared document are connected again by then, or give up."""
BUSY_SECONDS = 30.0
"""Between two writes while more of the notebook's cells run or wait."""
RETRY_SECONDS = 600.0
LAST_SECONDS = 4.0
"""For all of them, when the server stops."""
MAX_OPENED = 1000

OVER = ("done", "aborted")

_ours: ContextVar[bool] = ContextVar("jupyter_dsvm_saves", default=False)
"""Within what this module asks of the contents manager, and so within the listeners of the events that it emits then."""


class NotNow(Exception):
    """A page may have it open, or it has changed since it was read: look again later."""


class LeftAlone(Exception):
    """It cannot be written. Its text is for the log."""


@dataclass
class Known:
    """Of one kernel; times are monotonic."""

    page_at: float
    """When a page was there last, as far as is known."""
    page_version: int = 0
    """Of its outputs, at that time."""
    settled: int = 0
    """Up to this version there is nothing to do."""
    not_before: float = 0.0
    retry_at: float = math.inf
    """When what could not be written is tried again."""
    said: str = ""
    """The last warning, which is not repeated."""


class OutputSaver:
    def __init__(self, server: Any, service: DSVMService, log: Logger | LoggerAdapter[Logger]) -> None:
        """``server`` is the ``ServerApp``."""
        self._server = server
        self._service = service
        self._log = log
        self._rooms = SharedRooms(server, log)
        self._kernels: dict[str, Known] = {}
        self._opened: dict[str, float] = {}
        """By path, when somebody has read it."""
        self._renamed: dict[str, str] = {}
        """Files and folders: sessions hear of it only from a page that has the notebook open."""
        self._task: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()

    def begin(self) -> None:
        """The server runs, and has adopted kernels of an earlier one."""
        if self._service.save_outputs_without_page:
            for proxy in registry.all() if self._rooms.are_used else ():
                if proxy.clients.sessions():  # expected back
                    self._known(proxy).page_at += RECONNECT_SECONDS - GRACE_SECONDS
            self._task = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        """The server stops: what was to be written within the next seconds is written now. Kernels here end with it."""
        task, self._task = self._task, None
        if task is not None:
            # Not in the middle of a write.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._last(task)), LAST_SECONDS)

    async def _last(self, task: asyncio.Task[None]) -> None:
        async with self._looking:
            task.cancel()
        await self.look(leaving=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    # What others do with files

    async def heard(self, data: dict[str, Any]) -> None:
        """An event of the contents manager's. Awaited by the extension, which hears of it a moment after it was done."""
        action, path = data.get("action"), data.get("path")
        if _ours.get() or not isinstance(path, str):
            return
        path = path.strip("/")
        if action == "get":
            self._opened.pop(path, None)
            self._opened[path] = time.monotonic()
            while len(self._opened) > MAX_OPENED:
                del self._opened[next(iter(self._opened))]
        elif action in ("save", "upload"):
            self._renamed.pop(path, None)
            await self._saved_by_others(path)
        elif action == "rename" and isinstance(data.get("source_path"), str):
            old = data["source_path"].strip("/")
            self._renamed.pop(path, None)
            self._renamed[old] = path
            for proxy in registry.all():
                if proxy.recording.version:
                    await in_thread(savemarks.renamed, proxy.recording, old, path)

    async def _saved_by_others(self, path: str) -> None:
        """All that cells have put out so far is older than that, but for what a page that is open was not told yet."""
        versions = {p.kernel_id: (p, p.recording.version) for p in registry.all() if not p.clients.behind}
        if not any(version for _, version in versions.values()):
            return
        for kernel_id, paths in (await self._notebooks()).items():
            proxy, version = versions.get(kernel_id, (None, 0))
            if proxy is not None and version and path in paths:
                await in_thread(savemarks.saved, proxy.recording, path, Mark(version, []))

    # What is to be done

    async def look(self, leaving: bool = False) -> None:
        """Write what is due. ``leaving``: all that may be, and what cells have put out that end with the server. Raises nothing."""
        async with self._looking:
            token = _ours.set(True)
            try:
                proxies = [p for p in registry.all() if self._is_due(p, leaving)]
                for kernel_id in set(self._kernels) - {p.kernel_id for p in registry.all()}:
                    del self._kernels[kernel_id]
                notebooks = await self._notebooks() if proxies else {}
                for proxy in proxies:
                    await self._save_all(proxy, notebooks, leaving)
            except Exception:
                self._log.exception("What cells put out without a page was not saved")
            finally:
                _ours.reset(token)

    def _is_due(self, proxy: Proxy, leaving: bool) -> bool:
        known, now, version = self._known(proxy), time.monotonic(), proxy.recording.version
        if self._service.page_is_open(proxy.kernel_id):
            known.page_at, known.page_version = now, version
            return False
        if leaving:
            return version > 0
        if now < known.page_at + GRACE_SECONDS or now < known.not_before:
            return False
        return version != known.settled or now >= known.retry_at

    def _known(self, proxy: Proxy) -> Known:
        known = self._kernels.get(proxy.kernel_id)
        if known is None:
            known = self._kernels[proxy.kernel_id] = Known(time.monotonic())
        return known

    async def _notebooks(self) -> dict[str, list[str]]:
        """By kernel, the paths of its notebooks as they are now."""
        found: dict[str, list[str]] = {}
        for session in await _ready(self._server.session_manager.list_sessions()):
            kernel_id, path = (session.get("kernel") or {}).get("id"), session.get("path")
            if kernel_id and path and session.get("type") == "notebook":
                found.setdefault(kernel_id, []).append(self._path_now(path.strip("/")))
        return found

    def _path_now(self, path: str) -> str:
        for old, new in self._renamed.items():  # in the order in which it was done
            if (path + "/").startswith(old + "/"):
                path = new + path[len(old) :]
        return path

    async def _save_all(self, proxy: Proxy, notebooks: dict[str, list[str]], leaving: bool) -> None:
        known, version, now = self._known(proxy), proxy.recording.version, time.monotonic()
        known.not_before, known.retry_at = 0.0, math.inf
        try:
            for path in notebooks.get(proxy.kernel_id, ()):
                kernels = {kernel_id for kernel_id, paths in notebooks.items() if path in paths}
                try:
                    await self._save(proxy, path, kernels, leaving)
                except LeftAlone as e:
                    known.retry_at = now + RETRY_SECONDS
                    if str(e) != known.said:
                        known.said = str(e)
                        self._log.warning("What cells of %s put out while no page was open is not saved: %s", path, e)
        except NotNow:
            known.not_before = now + LOOK_SECONDS
        else:
            known.settled = version

    async def _save(self, proxy: Proxy, path: str, kernels: set[str], leaving: bool) -> None:
        known, recording = self._known(proxy), proxy.recording
        unsaved = await in_thread(savemarks.unsaved, recording, path)
        if unsaved is None:
            return
        rows = [r for r in unsaved.rows if r["state"] in OVER or (leaving and proxy.status.compute == FREE)]
        if not self._tells_of_saves:
            rows = [r for r in rows if r["version"] > known.page_version]
        written = await self._write(path, rows, kernels, leaving) if rows else None
        known.said = ""
        if written is None:
            return
        before, after = written
        states = unsaved.mark.states if unsaved.mark.states[-1:] == [before] else [before]
        await in_thread(savemarks.saved, recording, path, Mark(unsaved.version, [*states, after]))
        if len(rows) < len(unsaved.rows):
            known.not_before = time.monotonic() + BUSY_SECONDS

    @property
    def _tells_of_saves(self) -> bool:
        """Whether the contents manager emits events, as jupyter_server's own do. Of another's files nothing is known but when a
        page was there: what came before is that page's to save."""
        return isinstance(self._server.contents_manager, FileContentsManager)

    # One file

    async def _write(
        self, path: str, rows: list[Row], kernels: set[str], leaving: bool
    ) -> tuple[FileState, FileState] | None:
        """The file's state before and after; None where it has these outputs. Raises ``NotNow`` and ``LeftAlone``."""
        self._check_alone(path, kernels, leaving)
        model = await self._get(path, content=True)
        if model.get("type") != "notebook":
            raise LeftAlone(f"it is no notebook but a {model.get('type')}")
        content: Any = model.get("content")
        filled = await in_thread(with_outputs, content, rows)
        if filled is None:
            return None
        if not model.get("writable", True):
            raise LeftAlone("the file is read-only")
        if model.get("message") or not await in_thread(isvalid, _notebook(filled)):
            raise LeftAlone(" ".join(["it is no valid notebook.", *str(model.get("message") or "").splitlines()[:1]]))
        before = _state_of(model)
        await asyncio.sleep(0)  # what others have read in between is heard of now
        self._check_alone(path, kernels, leaving)
        if _state_of(await self._get(path, content=False)) != before:
            raise NotNow
        self._check_alone(path, kernels, leaving)
        saving = {"type": "notebook", "format": "json", "content": filled}
        try:
            await _ready(self._server.contents_manager.save(saving, path))
        except Exception as e:
            raise LeftAlone(_reason(e)) from e
        finally:
            self._unsign(saving["content"])
        cells = sum(new is not old for new, old in zip(filled["cells"], content["cells"], strict=True))
        self._log.info("What cells of %s put out while no page was open is saved (cells: %d).", path, cells)
        return before, _state_of(await self._get(path, content=False))

    def _check_alone(self, path: str, kernels: set[str], leaving: bool) -> None:
        """Raises ``NotNow`` where a page has that file open, or may be about to."""
        if any(map(self._service.page_is_open, kernels)) or self._rooms.have(path):
            raise NotNow
        if not leaving and time.monotonic() < self._opened.get(path, -math.inf) + OPENING_SECONDS:
            raise NotNow

    async def _get(self, path: str, content: bool) -> dict[str, Any]:
        """With the hash, as far as this contents manager knows how to."""
        manager = self._server.contents_manager
        try:
            try:
                found = await _ready(manager.get(path, content=content, type="notebook", require_hash=True))
            except TypeError:
                found = await _ready(manager.get(path, content=content, type="notebook"))
        except Exception as e:
            raise LeftAlone(_reason(e)) from e
        return dict(found)

    def _unsign(self, content: Any) -> None:
        """The contents manager signs a notebook whose cells are trusted or have put out text only."""
        notary = getattr(self._server.contents_manager, "notary", None)
        if notary is None:
            return
        notebook = _notebook(content)
        for cell in notebook["cells"]:
            cell.get("metadata", {}).pop("trusted", None)
        try:
            notary.unsign(notebook)
        except Exception as e:
            self._log.warning("A notebook that was saved without a page may be trusted: %s", e)


def _notebook(content: Any) -> Any:
    return nbformat.from_dict(content)  # type: ignore[no-untyped-call]


def _state_of(model: dict[str, Any]) -> FileState:
    """As a page is told it."""
    modified = model.get("last_modified")
    text = modified if isinstance(modified, str) else json.loads(json.dumps(modified, default=json_default))
    return str(text), str(model.get("hash") or "")


def _reason(error: Exception) -> str:
    if isinstance(error, web.HTTPError):
        return error.log_message or str(error)
    return f"{type(error).__name__}: {error}"


async def _ready(value: Any) -> Any:
    """A manager's answer, which is awaitable with some managers only."""
    return await value if hasattr(value, "__await__") else value
