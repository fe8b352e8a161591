"""The kernel provisioner: what jupyter_client starts, stops and asks, with a proxy between it and the kernel.

It stands under every kernelspec of the server (the extension makes it the default) or of an nbclient process
(``JUPYTER_DEFAULT_PROVISIONER_NAME=dsvm-provisioner``), and must not be able to hurt: if the proxy cannot be set up, the
kernel starts as with jupyter_client's own provisioner, with a warning, and can only not be moved.

The module imports the standard library, pyzmq and jupyter_client only. jupyter_client may call from different event loops,
so nothing here is bound to one: what waits, waits for futures of the I/O thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from concurrent.futures import Future
from typing import Any

import zmq
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Bool, Unicode

from ..errors import KernelStartError
from ..models import FREE
from ..relay.kernel import PORT_NAMES
from .backends import Backend
from .keeping import Keeping
from .local import LocalBackend
from .promises import in_thread
from .proxy import SOCKET_VARIABLE, Proxy
from .registry import registry

MARGIN = 5.0
"""Seconds that a kernel on a VM is given beyond jupyter_client's own limits."""


class DSVMProvisioner(LocalProvisioner):
    """One kernel's provisioner. It holds a ``Proxy`` for the kernel's life, over restarts and moves."""

    enabled = Bool(True, help="Whether kernels get a proxy. False: exactly as jupyter_client starts them.").tag(
        config=True
    )
    compute = Unicode(
        FREE,
        help="The compute on which the kernel is first started: set by kernelspecs of `jupyter dsvm kernelspec install`.",
    )
    kernelspec = Unicode("", help="The kernelspec there; chosen by language when empty.")
    may_start = Bool(
        True,
        help="Whether the machine may be started for it, as far as DSVMService.kernel_may_start allows that. False in the "
        "kernelspecs that the launcher shows of attached machines.",
    )

    parent: Any
    proxy: Proxy | None = None
    _runs = 0
    _launch: tuple[list[str], dict[str, Any]] | None = None
    """How the kernel was last started here, once it has been."""
    _adopting: Keeping | None = None
    """What an earlier server process left of the kernel that is about to be launched."""
    _waited_for: Future[int] | None = None
    """The end that ``wait`` has seen. A kernel that takes that one's place, after a move too, has an end of its own."""

    # What jupyter_client asks: is it there, has it ended?

    @property
    def has_process(self) -> bool:
        """From launch until the kernel's confirmed end; out of reach is still there."""
        if self.proxy is None:
            return bool(super().has_process)
        return self._launch is not None and self.proxy.exit is not self._waited_for

    async def poll(self) -> int | None:
        """None: alive or unknown. A number: confirmed. Never does I/O."""
        if self.proxy is None:
            code: int | None = await super().poll()
            return code
        return self.proxy.exit_code

    async def wait(self) -> int | None:
        if self.proxy is None:
            code: int | None = await super().wait()
            return code
        ending = self.proxy.exit
        code = await _result(ending)
        self._waited_for = ending
        return int(code)

    async def send_signal(self, signum: int) -> None:
        """The first step of every interrupt, shutdown and restart too. Not kept for a machine that is out of reach."""
        if self.proxy is None:
            await super().send_signal(signum)
        else:
            await _result(self.proxy.signal(signum))

    async def kill(self, restart: bool = False) -> None:
        """``restart`` is False even when jupyter_client restarts; ``cleanup`` is told the truth."""
        if self.proxy is None:
            await super().kill(restart)
        else:
            await _result(self.proxy.user_ends("restarted or shut down"))
            await _result(self.proxy.kill())

    async def terminate(self, restart: bool = False) -> None:
        if self.proxy is None:
            await super().terminate(restart)
        else:
            await _result(self.proxy.user_ends("restarted or shut down"))
            await _result(self.proxy.signal(getattr(signal, "SIGTERM", signal.SIGINT)))

    async def shutdown_requested(self, restart: bool = False) -> None:
        """A ``shutdown_request`` has just been sent."""
        if self.proxy is not None:
            await _result(self.proxy.user_ends("restarted" if restart else "shut down", by_person=True))

    async def cleanup(self, restart: bool = False) -> None:
        """The last step. The front outlives a restart, and only that."""
        if self.proxy is None:
            await super().cleanup(restart)
        elif not restart:
            await self._close_proxy()

    async def _close_proxy(self) -> None:
        proxy, self.proxy, self._launch = self.proxy, None, None
        if proxy is not None:
            await in_thread(proxy.close)

    async def detach(self) -> None:
        """The server stops, and the kernel, which runs on a VM, is left to the next one. The kernel manager, which has been
        taken out of its map, is of no use afterwards."""
        proxy, self.proxy, self._launch = self.proxy, None, None
        if proxy is not None:
            await in_thread(proxy.detach)

    # Start

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Bind the front (once), have its connection file written, and prepare what a kernel here is started with."""
        keeping = registry.to_adopt.pop(self.kernel_id, None)
        if keeping is not None:
            await self._front_of(keeping, kwargs)
        elif self.proxy is None and self.enabled and self._can_proxy(kwargs):
            try:
                await in_thread(self._make_proxy)
            except Exception as e:
                self.log.warning(
                    "The kernel starts without a proxy and cannot be moved to a VM: %s: %s", type(e).__name__, e
                )
        if self.proxy is None:
            without: dict[str, Any] = await super().pre_launch(**kwargs)
            return without
        km = self.parent
        for name, port in self.proxy.ports.items():
            setattr(km, name, port)
        if hasattr(km, "transport_encryption"):  # an earlier jupyter_client would pass the argument on to Popen
            kwargs = {**kwargs, "transport_encryption": "disabled"}
        # jupyter_client's own pre-launch writes the connection file, for which the ports are set now, and fills in the
        # front's connection file where the kernel's own has to be; that is undone in _local_backend.
        cached, km.cache_ports = km.cache_ports, False
        try:
            kwargs = await super().pre_launch(**kwargs)
        except BaseException:
            await self._never_started()
            raise
        finally:
            km.cache_ports = cached
        return kwargs

    async def _front_of(self, keeping: Keeping, kwargs: dict[str, Any]) -> None:
        """The front of a kernel that an earlier server process left on a VM. Raises where there can be none: a kernel that
        is started here in its place would pass for it."""
        kept = keeping.kept
        if kept is None or not self.enabled or not self._can_proxy(kwargs):
            keeping.release()
            raise KernelStartError("Kernels get no proxy here, so one that runs on a VM cannot be gone on with.")
        km = self.parent
        km.load_connection_info(
            {
                "transport": "tcp",
                "ip": kept.ip,
                "key": kept.key,
                "signature_scheme": kept.signature_scheme,
                **kept.ports,
            }
        )
        await in_thread(self._make_proxy, keeping)
        self._adopting = keeping

    async def _never_started(self) -> None:
        """A start failed. Nobody cleans up after a kernel that never was; after a failed restart, jupyter_client will."""
        if self._adopting is not None:
            await self.detach()
            self._adopting = None
        elif self._launch is None:
            await self._close_proxy()

    def _goes_on(self) -> None:
        """A restart failed since the kernel's machine is gone, but the front is there. jupyter_client has noted that failure by
        now, and would let no page connect any more, nor end what an attach brings later: have it forget."""
        km = self.parent
        km._ready = None
        km.ready.set_result(None)
        km.start_restarter()

    def _can_proxy(self, kwargs: dict[str, Any]) -> bool:
        """Front ends that want an encrypted or an ipc front get jupyter_client's own provisioner."""
        km = self.parent
        if km is None or km.transport != "tcp":
            return False
        encryption = kwargs.get("transport_encryption", getattr(km, "transport_encryption", "disabled"))
        return encryption not in ("required", True)

    def _make_proxy(self, keeping: Keeping | None = None) -> None:
        """On a thread of its own. It keeps the proxy itself: whoever waited for that may have been cancelled."""
        km = self.parent
        kept = keeping.kept if keeping is not None else None
        ports = {name: getattr(km, name) for name in (*PORT_NAMES.values(), "hb_port")}

        def make(ip: str, ports: dict[str, int]) -> Proxy:
            return Proxy(
                self.kernel_id,
                key=km.session.key,
                signature_scheme=km.session.signature_scheme,
                session=kept.session if kept is not None else uuid.uuid4().hex,
                ip=ip,
                ports=ports,
                kernelspec=km.kernel_name,
                keeping=keeping,
            )

        try:
            self.proxy = make(km.ip, ports)
        except (zmq.ZMQError, OSError):
            if kept is None:
                raise
            km.ip = "127.0.0.1"
            self.proxy = make(km.ip, {})  # somebody else has one of the ports by now
        self.proxy.make_local = self.make_local

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel where it is to run: here at first; after a move, a restart happens there."""
        if self.proxy is None:
            info: KernelConnectionInfo = await super().launch_kernel(cmd, **kwargs)
            return info
        first = self._launch is None
        where = self.compute if first else self.proxy.status.compute
        launch = (cmd, LocalProvisioner._scrub_kwargs(kwargs))
        self.cwd = kwargs.get("cwd", os.getcwd())
        self.proxy.cwd = kwargs.get("cwd")
        try:
            if self._adopting is not None:
                backend = await in_thread(self._adopted_backend, self._adopting)
                await _result(self.proxy.adopt(backend))
                self._adopting = None
            elif where == FREE:
                await _result(self.proxy.launch(self._backend_here(*launch)))
            elif first:
                backend = await in_thread(self._remote_backend)
                await _result(self.proxy.launch(backend))
            else:
                await _result(self.proxy.relaunch())
        except BaseException:
            await self._never_started()
            if self.proxy is not None and self.proxy.exit_code is None:
                asyncio.get_running_loop().call_soon(self._goes_on)
            raise
        self._launch = launch
        return self.connection_info

    def _remote_backend(self) -> Backend:
        assert self.proxy is not None
        return registry.load_service().remote_backend(
            self.proxy, self.compute, self.kernelspec or None, may_start=self.may_start
        )

    @staticmethod
    def _adopted_backend(keeping: Keeping) -> Backend:
        assert keeping.kept is not None
        return registry.load_service().adopted_backend(keeping.kept, keeping.handed_on or 0)

    def make_local(self) -> Backend:
        """A kernel here, for a notebook that comes back from a VM."""
        if self._launch is None:
            raise KernelStartError("The kernel has not been started yet.")
        return self._backend_here(*self._launch)

    def _backend_here(self, cmd: list[str], options: dict[str, Any]) -> Backend:
        """As jupyter_client would start it; of the same language where the notebook's kernelspec is one of a VM."""
        assert self.proxy is not None
        if self.compute == FREE:
            return self._local_backend(cmd, options, self.kernel_spec, self.parent.kernel_name)
        manager: KernelSpecManager = self.parent.kernel_spec_manager
        language = self.proxy.status.language or self.kernel_spec.language
        for name, found in sorted(manager.get_all_specs().items()):
            spec = manager.get_kernel_spec(name)
            elsewhere = spec.metadata.get("kernel_provisioner", {}).get("config", {}).get("compute", FREE) != FREE
            if not elsewhere and str(found["spec"].get("language", "")).lower() == language.lower():
                argv = [a.replace("{resource_dir}", spec.resource_dir) for a in spec.argv]
                if argv[0] in ("python", "python3"):
                    argv[0] = sys.executable  # as KernelManager.format_kernel_cmd does
                return self._local_backend(argv, options, spec, name)
        raise KernelStartError(
            f"There is no {language or 'matching'} kernel on the free tier to come back to.",
            advice=f"Install a kernel for {language or 'that language'} here, or stay on {self.proxy.status.compute_name}.",
        )

    def _local_backend(self, cmd: list[str], options: dict[str, Any], spec: Any, name: str) -> LocalBackend:
        assert self.proxy is not None
        self._runs += 1
        environment = dict(options.get("env") or os.environ)
        if self.proxy.call_socket is not None:
            environment[SOCKET_VARIABLE] = self.proxy.call_socket
        front = self.parent.connection_file
        own = [a.replace(os.path.realpath(front), "{connection_file}").replace(front, "{connection_file}") for a in cmd]
        return LocalBackend(
            self.proxy.io,
            self.proxy.folder,
            self._runs,
            own,
            {**options, "env": environment},
            key=self.proxy.key,
            session=self.proxy.session,
            signature_scheme=self.proxy.signature_scheme,
            kernelspec=name,
            language=spec.language or "",
            interrupt_mode=spec.interrupt_mode or "signal",
        )

    # For applications that keep provisioners' state themselves; jupyter_server does not

    async def get_provisioner_info(self) -> dict[str, Any]:
        if self.proxy is None:
            without: dict[str, Any] = await super().get_provisioner_info()
            return without
        info: dict[str, Any] = await KernelProvisionerBase.get_provisioner_info(self)
        return {**info, "compute": self.proxy.status.compute}

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """What was kept of a kernel on a VM is adopted at the launch that follows."""
        if "compute" not in provisioner_info:
            await super().load_provisioner_info(provisioner_info)
            return
        await KernelProvisionerBase.load_provisioner_info(self, provisioner_info)
        keeping = await in_thread(Keeping.claim, self.kernel_id)
        if keeping is not None:
            registry.to_adopt[self.kernel_id] = keeping

    # Limits

    @property
    def _is_remote(self) -> bool:
        return self.proxy is not None and self.proxy.status.compute != FREE

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        return recommended + MARGIN if self._is_remote else recommended

    def get_stable_start_time(self, recommended: float = 10.0) -> float:
        return recommended + MARGIN if self._is_remote else recommended

    def resolve_path(self, path: str) -> str | None:
        """Paths of a kernel on a VM mean nothing here."""
        if self._is_remote:
            return None
        found: str | None = super().resolve_path(path)
        return found


async def _result(future: Future[Any]) -> Any:
    return await asyncio.wrap_future(future)
