"""The server extension: it makes the service, puts a proxy in front of every kernel, serves the REST API, and emits events.

jupyter_server loads it while it starts, so nothing slow is imported here: the cloud's libraries and paramiko come in
when a request first needs them, on a worker thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_core.paths import jupyter_data_dir
from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, default

from . import heap
from .kernels.promises import in_thread
from .kernels.registry import PROVISIONER, registry
from .models import FREE
from .offers import KernelspecOffers
from .ownfolder import sweep
from .service import DSVMService
from .settings import NAME as CONFIG_NAME

if TYPE_CHECKING:
    from .adoption import Adopter

CONTENTS_EVENTS = "https://events.jupyter.org/jupyter_server/contents_service/v1"
CHANGES = frozenset({"create", "save", "upload", "rename", "copy", "delete"})
"""Actions of the contents manager that change files."""

EVENTS = "https://events.jupyter.org/jupyter_dsvm/changed"

WEBSOCKET_CLASS = "kernel_websocket_connection_class"

WARM_UP_SECONDS = 5.0
"""After the server's start; a page that is opened at once has its first requests answered by then."""

GIVE_BACK_SECONDS = 1.0
"""Between a change and giving back what it has left free: at most once in that time, however much changes."""

COALESCE_SECONDS = 0.05
"""Changes within this time are one event: a page fetches a list once for all of them."""

PATHS_SECONDS = 10.0
"""How long listing sessions may take before the paths known so far are used."""

LAST_PATHS_SECONDS = 2.0
"""The same when the server stops."""

LOOK_SECONDS = 10.0
"""While a kernel is on a VM, renames are looked for so often: whoever adopts it should know its notebook."""


class DSVMExtension(ExtensionApp):
    name = "jupyter_dsvm"
    extension_url = "/lab"
    load_other_extensions = True
    classes = [DSVMService]  # noqa: RUF012  (traitlets' way)

    keep_kernels_movable = Bool(
        True,
        help="""Whether kernels are started so that they can move to a VM and back: with jupyter-dsvm's provisioner under every
        kernelspec that names none. False: kernels are started as without this extension, and only kernelspecs made by
        `jupyter dsvm kernelspec install` run on VMs.""",
    ).tag(config=True)

    save_memory = Bool(
        help="""Whether this server shares its computer with many others, so that a megabyte counts: the default is True on a hub.
        Then what is freed goes back to the system (on Linux), and `load_early` is off.""",
    ).tag(config=True)

    load_early = Bool(
        help="""Whether what an attach needs is loaded some seconds after the server's start, rather than with the first attach,
        which then takes some 0.4 s longer. It takes some 10 MB of memory; so the default is True, and False with `save_memory`.""",
    ).tag(config=True)

    @default("save_memory")
    def _default_save_memory(self) -> bool:
        return bool(os.environ.get("JUPYTERHUB_USER"))

    @default("load_early")
    def _default_load_early(self) -> bool:
        return not self.save_memory

    def _config_file_name_default(self) -> str:
        # ExtensionApp's would be jupyter_jupyter_dsvm_config.
        return CONFIG_NAME

    @property
    def server(self) -> Any:
        """The ``ServerApp``; linked before anything below is called."""
        return self.serverapp

    def initialize_settings(self) -> None:
        if self.save_memory:
            heap.keep_small()
        self._giving_back: asyncio.Task[None] | None = None
        self.service = DSVMService(parent=self, log=self.log)
        registry.service = self.service
        self.service.use_root(str(self.server.root_dir or ""))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._pending: dict[str, tuple[str | None, int]] = {}
        self._default_provisioner: str | None = None
        self._unlisten = self.service.listen(self._changed)
        self.service.page_is_open = self._page_is_open
        self.service.look_for_paths = self._look_for_paths
        self.settings["jupyter_dsvm_service"] = self.service
        self.server.event_logger.register_event_schema(Path(__file__).parent / "events" / "changed.yaml")
        self._save_outputs()
        self._watch_contents()
        self._use_websocket_class()
        self._watch_activity()
        if self.keep_kernels_movable:
            self._use_provisioner()
        self._offers = KernelspecOffers(
            self.service, self.server.kernel_spec_manager, self.service.own_folder, self.log
        )
        self._offers.begin()
        self._look_for_kept_kernels()
        try:
            self.service.claim_changes()
        except Exception as e:
            self.log.warning("Changes of machines that an earlier server began are not gone on with: %s", e)

    def initialize_handlers(self) -> None:
        # Late: tornado's and jupyter_server's handler modules are imported by the server itself, ours with them.
        from .routes import handlers

        ours = handlers("/", self.service, self.refresh_paths)
        self.handlers.extend(self._adopter.hold(ours) if self._adopter is not None else ours)

    # The websocket

    def _use_websocket_class(self) -> None:
        """Put ours in the place of jupyter_server's own; any other class, a gateway's for one, has its reasons."""
        from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

        from .websocket import DSVMWebsocketConnection

        chosen = self.settings.get(WEBSOCKET_CLASS)
        if chosen is ZMQChannelsWebsocketConnection:
            self.settings[WEBSOCKET_CLASS] = DSVMWebsocketConnection
        else:
            self.log.info("Kernels' websockets stay with %r: output may be limited or lost there.", chosen)
        self._websocket_class = chosen

    # What is saved here

    def _watch_contents(self) -> None:
        """What is saved in the page goes to where its notebook runs. Files that change otherwise are found at the next sync."""
        try:
            self.server.event_logger.add_listener(schema_id=CONTENTS_EVENTS, listener=self._contents_changed)
        except Exception as e:  # a contents manager that registers no such events
            self.log.info("Files that are saved here go to VMs only when something else is copied there: %s", e)

    async def _contents_changed(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        await self._saver.heard(data)
        if data.get("action") in CHANGES:
            paths = [data[name] for name in ("path", "source_path") if isinstance(data.get(name), str)]
            self.service.workspaces.saved(paths)

    def _save_outputs(self) -> None:
        from .outputsaver import OutputSaver

        self._saver = OutputSaver(self.server, self.service, self.log)

    def _unwatch_contents(self) -> None:
        with contextlib.suppress(Exception):
            self.server.event_logger.remove_listener(schema_id=CONTENTS_EVENTS, listener=self._contents_changed)

    def _page_is_open(self, kernel_id: str) -> bool:
        """Whether somebody has that kernel's websocket open, as jupyter_server counts them. Called on worker threads."""
        try:
            return int(self.server.kernel_manager.kernel_model(kernel_id)["connections"]) > 0
        except Exception:  # it has ended, or the manager counts nothing
            return False

    def _watch_activity(self) -> None:
        from .activity import ActivityWatcher

        self._activity = ActivityWatcher(self.server.kernel_manager, self.log)
        self._activity.install()

    # The provisioner

    def _use_provisioner(self) -> None:
        """Make ours the default one, in this process only: nothing is written anywhere, so nothing is left behind.

        With the entry point missing jupyter_client would offer no kernelspec at all, and with one that cannot be loaded
        every start would fail, so both are tried first. A default that the user chose is left alone.
        """
        factory = KernelProvisionerFactory.instance(parent=self.server)
        chosen = os.environ.get(KernelProvisionerFactory.default_provisioner_name_env) or (
            self.server.config.get("KernelProvisionerFactory", {}).get("default_provisioner_name")
        )
        if chosen:
            if chosen != PROVISIONER:
                self.log.info("Kernels stay where they are: the default provisioner is %r by configuration.", chosen)
            return
        try:
            if PROVISIONER not in factory.provisioners:
                raise ModuleNotFoundError(f"there is no entry point {PROVISIONER}")
            factory.provisioners[PROVISIONER].load()
        except Exception as e:
            self.log.warning(
                "Kernels are started without jupyter-dsvm and cannot be moved to a VM: %s: %s. Reinstall jupyter-dsvm.",
                type(e).__name__,
                e,
            )
            return
        self._default_provisioner = factory.default_provisioner_name
        factory.default_provisioner_name = PROVISIONER

    # Kernels of an earlier server

    def _look_for_kept_kernels(self) -> None:
        self._adopter: Adopter | None = None
        folder = Path(jupyter_data_dir()) / "jupyter-dsvm" / "kernels"
        try:
            if folder.is_dir() and any(folder.iterdir()):
                from .adoption import Adopter

                self._adopter = Adopter(self.server, self.log)
                self._adopter.look()
        except Exception as e:
            self.log.warning("Kernels that an earlier server left on VMs stay there: %s: %s", type(e).__name__, e)

    # Events

    def _changed(self, what: str, thing: str | None, revision: int) -> None:
        """On any thread: hand over to the server's loop."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._collect, what, thing, revision)
            except RuntimeError:
                pass  # the loop was closed in between: the server is ending

    def _collect(self, what: str, thing: str | None, revision: int) -> None:
        assert self._loop is not None
        if not self._pending:
            self._loop.call_later(COALESCE_SECONDS, self._emit)
        before = self._pending.get(what)
        one = thing if before is None or before[0] == thing else None
        self._pending[what] = (one, max(revision, before[1] if before else 0))

    def _emit(self) -> None:
        pending, self._pending = self._pending, {}
        for what, (thing, revision) in pending.items():
            data: dict[str, Any] = {"what": what, "revision": revision}
            if thing is not None:
                data["id"] = thing
            self.server.event_logger.emit(schema_id=EVENTS, data=data)
        if "kernels" in pending:
            # For %dsvm list, which comes from a thread and cannot ask the session manager.
            self._refreshing = asyncio.ensure_future(self.refresh_paths())
        if self.save_memory and (self._giving_back is None or self._giving_back.done()):
            self._giving_back = asyncio.ensure_future(self._give_back())

    async def _give_back(self) -> None:
        """Machines were listed, or a kernel has moved: what that took is free now."""
        await asyncio.sleep(GIVE_BACK_SECONDS)
        await in_thread(heap.give_back)

    async def refresh_paths(self, seconds: float = PATHS_SECONDS) -> None:
        """Read the notebooks' paths from the session manager, on its own loop, so that renames follow."""
        # An embedded server does not call _start_jupyter_server_extension; the first request comes on its loop, too.
        self._loop = self._loop or asyncio.get_running_loop()
        try:
            sessions = await asyncio.wait_for(
                asyncio.ensure_future(self.server.session_manager.list_sessions()), seconds
            )
        except Exception as e:
            self.log.debug("The sessions cannot be listed: %s", e)
            return
        paths = {s["kernel"]["id"]: s["path"] for s in sessions if s.get("kernel") and s.get("path")}
        self.service.set_paths(paths)
        if registry.all():
            # Also of those here: a kernel that moves to a VM is known with its notebook from the first moment.
            from .adoption import keep_sessions

            keep_sessions(sessions, self.server.root_dir)

    def _look_for_paths(self) -> None:
        """On a worker thread: a session is listed a moment after its kernel has started."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                looking = asyncio.run_coroutine_threadsafe(self.refresh_paths(LAST_PATHS_SECONDS), loop)
                looking.result(2 * LAST_PATHS_SECONDS)
            except Exception as e:
                self.log.debug("The sessions were not listed in time: %s", e)

    @property
    def _any_away(self) -> bool:
        """Whether a kernel is on a VM."""
        return any(proxy.status.compute != FREE for proxy in registry.all())

    async def _look_for_renames(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._any_away:
                await self.refresh_paths()

    async def _warm_up(self) -> None:
        """A first attach should not wait for imports, nor a page's first requests for those."""
        if self.load_early and set(self.service.compute_providers) != {"free"}:
            from .connections import warm_up

            await asyncio.sleep(WARM_UP_SECONDS)
            try:
                await in_thread(warm_up)
            except Exception as e:  # an attach will say so to whom it concerns
                self.log.debug("What an attach needs cannot be loaded: %s: %s", type(e).__name__, e)

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._looking = asyncio.ensure_future(self._look_for_renames())
        self._warming = asyncio.ensure_future(self._warm_up())
        if self._adopter is not None:
            await self._adopter.adopt()
        self._saver.begin()
        self.service.resume_changes()
        self.service.idle_stops.begin()
        from .kernels.leftovers import remove_leftovers
        from .kernels.recording import remove_orphans

        await in_thread(remove_leftovers)
        await in_thread(remove_orphans)
        await in_thread(sweep)
        await in_thread(self._end_left_kernels)
        await in_thread(self._watch_spending)

    def _watch_spending(self) -> None:
        try:
            self.service.watch_spending()
        except Exception as e:
            self.log.warning("What machines cost is not known before they are listed: %s: %s", type(e).__name__, e)

    def _end_left_kernels(self) -> None:
        try:
            self.service.end_left_kernels()
        except Exception as e:
            self.log.warning("Kernels that were left on VMs are not ended now: %s: %s", type(e).__name__, e)

    async def stop_extension(self) -> None:
        """The server stops. It shuts its kernels down after this; those on VMs go on without it."""
        await self._saver.close()
        self.service.workspaces.leave()
        self._unwatch_contents()
        for task in (self._looking, self._warming, self._giving_back):
            if task is not None:
                task.cancel()
        if self._any_away:
            from .adoption import leave_kernels

            await self.refresh_paths(LAST_PATHS_SECONDS)
            await leave_kernels(self.server, self.log)
        self._unlisten()
        self._activity.uninstall()
        self._loop = None
        self.server.web_app.settings[WEBSOCKET_CLASS] = self._websocket_class
        if registry.service is self.service:
            registry.service = None
        if self._default_provisioner is not None:
            KernelProvisionerFactory.instance().default_provisioner_name = self._default_provisioner
            self._default_provisioner = None
        await in_thread(self._offers.close)
        await in_thread(self.service.close)
