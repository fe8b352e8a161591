"""The proxies of this process, and the service that answers their ``%dsvm``.

The service finds the kernels through here (they are started by jupyter_client, which knows nothing of it); the proxies
find the service through here. In a Jupyter server the extension supplies it; elsewhere (nbclient, papermill, a
console) the first call loads it through the entry point group ``jupyter_dsvm.service``, on a worker thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ConfigurationError, DSVMError
from ..models import utc_now

if TYPE_CHECKING:
    from .backends import Backend
    from .deaths import Death
    from .keeping import Keeping
    from .keptfiles import KeptKernel
    from .proxy import Proxy

log = logging.getLogger("jupyter_dsvm.registry")

PROVISIONER = "dsvm-provisioner"
"""The entry point's name in ``jupyter_client.kernel_provisioners``."""

ENTRY_POINTS = "jupyter_dsvm.service"


class Call:
    """One line of ``%dsvm``, on its way to the service. Its methods may be called from any thread."""

    def __init__(
        self,
        proxy: Proxy,
        request: dict[str, Any],
        *,
        trusted: bool,
        running: bool,
        completing: bool = False,
        answer: Callable[[dict[str, Any]], None],
    ) -> None:
        self.proxy = proxy
        self.request = request
        self.trusted = trusted
        """The kernel that asks runs on this server; False: on a VM, with fewer rights."""
        self.running = running
        """A request of the user runs in that kernel now."""
        self.completing = completing
        """A completion was asked for by a client of that kernel, and it has not answered yet."""
        self.cancelled = threading.Event()
        """Set when the kernel hung up, as on an interrupt of the cell."""
        self.received = utc_now()
        self._answer = answer

    def progress(self, value: dict[str, Any]) -> None:
        self._answer({"progress": value})

    def finish(self, value: dict[str, Any]) -> None:
        self._answer({"result": value})

    def fail(self, error: DSVMError) -> None:
        self._answer({"error": error.to_json()})


class Service(Protocol):
    """What the kernels' side of the house needs of ``DSVMService``. The methods block; they run on worker threads."""

    def handle_call(self, call: Call) -> None: ...

    def remote_backend(
        self, proxy: Proxy, compute: str, kernelspec: str | None, *, may_start: bool = True
    ) -> Backend: ...

    def adopted_backend(self, kept: KeptKernel, handed_on: int) -> Backend: ...

    def explain_death(self, kernel_id: str, death: Death) -> DSVMError | None:
        """Unlike the others it is called on the I/O thread; it may take some milliseconds."""

    def close(self) -> None: ...


class Registry:
    def __init__(self) -> None:
        self.to_adopt: dict[str, Keeping] = {}
        """Kernels of an earlier server process, by id, that are about to be started under that id: their provisioner takes
        them out and adopts instead of starting. The server's extension puts them in; nobody else adopts."""
        self.outputs_limit = 64 * 1024 * 1024
        """Bytes of what its cells have put out that are kept for a kernel; 0: none. The service's configuration says so."""
        self._lock = threading.Lock()
        self._proxies: dict[str, Proxy] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._executed: list[Callable[[str], None]] = []
        self._service: Service | None = None
        self._loaded_here = False

    def get(self, kernel_id: str) -> Proxy | None:
        return self._proxies.get(kernel_id)

    def all(self) -> list[Proxy]:
        return list(self._proxies.values())

    def add(self, proxy: Proxy) -> None:
        self._proxies[proxy.kernel_id] = proxy
        self.changed(proxy.kernel_id)

    def remove(self, proxy: Proxy) -> None:
        """Outside a server, a service that was loaded for the kernels goes with the last of them."""
        with self._lock:
            if self._proxies.get(proxy.kernel_id) is proxy:
                del self._proxies[proxy.kernel_id]
            service = None
            if not self._proxies and self._loaded_here:
                service, self._service, self._loaded_here = self._service, None, False
        self.changed(proxy.kernel_id)
        if service is not None:
            # Closing waits for connections; whoever ends a kernel does not. Not a daemon: the process waits for it.
            threading.Thread(target=service.close, name="jupyter-dsvm-close").start()

    def changed(self, kernel_id: str) -> None:
        for listener in list(self._listeners):
            try:
                listener(kernel_id)
            except Exception:
                log.exception("a listener failed")  # it must not stop the kernel that changed

    def executed(self, kernel_id: str) -> None:
        """A request of the user's has ended in that kernel. On the I/O thread, with each cell."""
        for listener in list(self._executed):
            try:
                listener(kernel_id)
            except Exception:
                log.exception("a listener failed")

    def subscribe_executed(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """``listener(kernel_id)`` after every execution, on the I/O thread; it must not block."""
        self._executed.append(listener)

        def unsubscribe() -> None:
            if listener in self._executed:
                self._executed.remove(listener)

        return unsubscribe

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """``listener(kernel_id)`` on every change, on the I/O thread or the caller's; it must not block."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    @property
    def service(self) -> Service | None:
        return self._service

    @service.setter
    def service(self, service: Service | None) -> None:
        with self._lock:
            self._service, self._loaded_here = service, False

    def explain(self, kernel_id: str, death: Death) -> DSVMError | None:
        """What a cell is told of the end of its kernel, where the service is there and knows more than the exit code."""
        return self._service.explain_death(kernel_id, death) if self._service is not None else None

    def load_service(self) -> Service:
        """The service; loaded on first use outside a server. Blocks: never call it on an event loop."""
        with self._lock:
            if self._service is None:
                found = list(metadata.entry_points(group=ENTRY_POINTS))
                if not found:
                    raise ConfigurationError(
                        "Nothing answers %dsvm here: the package jupyter-dsvm is not installed in this environment.",
                        advice="Install it where Jupyter runs, with pip install jupyter-dsvm.",
                    )
                self._service = found[0].load()()
                self._loaded_here = True
            return self._service

    def dispatch(self, call: Call) -> None:
        """Have the service answer; called on the I/O thread. An attach takes minutes, so each call has its own thread."""
        threading.Thread(target=self._serve, args=(call,), name="jupyter-dsvm-call", daemon=True).start()

    def _serve(self, call: Call) -> None:
        try:
            self.load_service().handle_call(call)
        except DSVMError as e:
            call.fail(e)
        except Exception as e:
            log.exception("%%dsvm failed")
            call.fail(
                DSVMError(f"%dsvm failed unexpectedly: {type(e).__name__}: {e}", advice="The server's log says more.")
            )


registry = Registry()
