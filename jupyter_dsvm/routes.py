"""The REST API, exactly as ``openapi.yaml`` describes it (``tests/test_openapi.py`` holds the two together).

``handlers`` has what all of them share; those for files that travel are in ``workspace_routes``, those for idle VMs in
``idle_routes``, ``spend_routes`` has what machines have cost, and ``outputs_routes`` what cells have put out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import ensure_async, url_path_join
from tornado import web

from .access import AccessRequest
from .accounts import checked
from .compute.creating import NewCompute
from .errors import BadRequest, NotAllowed, OperationRefused
from .handlers import MAX_CODE_BODY, ROOT, DSVMHandler, RefreshPaths, is_texts
from .idle_routes import IDLE_ROUTES
from .metrics import PATIENCE, unknown
from .models import SignInStatus
from .outputs_routes import OUTPUTS_ROUTES
from .service import DSVMService
from .spend_routes import SPEND_ROUTES
from .terminals import open_terminal
from .variables_routes import VARIABLES_ROUTES, is_names
from .workspace_routes import WORKSPACE_ROUTES


class ComputesHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def get(self) -> None:
        refresh = self.flag("refresh")
        await self.refresh_paths()
        self.answer((await self.run(self.service.computes, refresh)).to_json())

    @web.authenticated
    @authorized
    async def post(self) -> None:
        self.begun(await self.run(self.service.create, NewCompute.from_json(self.body())))


class CreationHandler(DSVMHandler):
    """What a new machine can be like."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        location = self.get_query_argument("location", None) or None
        subscription = self.get_query_argument("subscription", None) or None
        self.answer((await self.run(self.service.creation, location, subscription)).to_json())


class ComputeActionHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def post(self, compute: str, action: str) -> None:
        method = {"start": self.service.start, "stop": self.service.stop, "restart": self.service.restart}[action]
        self.begun(await self.run(method, compute))


class SizesHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def get(self, compute: str) -> None:
        self.answer(await self.run(self.service.sizes, compute))


class ResizeHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def post(self, compute: str) -> None:
        data = self.body()
        size, end_kernels = data.get("size"), data.get("end_kernels", False)
        if set(data) - {"size", "end_kernels"} or not isinstance(size, str) or not isinstance(end_kernels, bool):
            raise BadRequest(
                "The request's body does not say which size the machine is to have.",
                advice='Send {"size": NAME}, and "end_kernels": true where notebooks run there whose kernels may end.',
            )
        self.begun(await self.run(self.service.resize, compute, size, end_kernels))


class AccessHandler(DSVMHandler):
    """SSH to a machine: set it up, and take it back."""

    @web.authenticated
    @authorized
    async def post(self, compute: str) -> None:
        request = AccessRequest.from_json(self.body() if self.request.body else {})
        self.begun(await self.run(self.service.set_up_access, compute, request))

    @web.authenticated
    @authorized
    async def delete(self, compute: str) -> None:
        self.begun(await self.run(self.service.forget_access, compute))


class KernelspecsHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def get(self, compute: str) -> None:
        self.answer({"kernelspecs": await self.run(self.service.kernelspecs, compute)})


class ModulesHandler(DSVMHandler):
    """What of a notebook's modules a kernel there has. A POST for its body; it changes nothing."""

    only_asks = True

    @web.authenticated
    @authorized
    async def post(self, compute: str) -> None:
        data = self.body(MAX_CODE_BODY)
        kernelspec, sources, path = data.get("kernelspec"), data.get("sources"), data.get("path")
        if (
            set(data) - {"kernelspec", "sources", "path"}
            or not is_texts(sources)
            or not all(v is None or isinstance(v, str) for v in (kernelspec, path))
        ):
            raise BadRequest(
                "The request's body does not say which code is meant.",
                advice='Send {"sources": [TEXT OF A CELL, …], "kernelspec": NAME OR null, "path": THE NOTEBOOK\'S OR null}.',
            )
        modules = await self.run(self.service.modules, compute, kernelspec, sources, path)
        self.answer({"modules": [m.to_json() for m in modules]})


class InstallHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def post(self, compute: str) -> None:
        data = self.body()
        kernelspec, packages = data.get("kernelspec"), data.get("packages")
        if (
            set(data) - {"kernelspec", "packages"}
            or not is_texts(packages)
            or not (kernelspec is None or isinstance(kernelspec, str))
        ):
            raise BadRequest(
                "The request's body does not say what is to be installed.",
                advice='Send {"packages": [NAME, …], "kernelspec": NAME OR null}.',
            )
        self.begun(await self.run(self.service.install, compute, kernelspec, packages))


class TerminalsHandler(DSVMHandler):
    """A terminal of this server that is a shell on the machine."""

    @web.authenticated
    @authorized
    async def post(self, compute: str) -> None:
        manager = self.settings.get("terminal_manager")
        if manager is None or not self.settings.get("terminals_available"):
            raise OperationRefused(
                "Terminals are turned off on this Jupyter server.",
                advice="Whoever runs it can turn them on (ServerApp.terminals_enabled, jupyter_server_terminals).",
                code="TerminalsOff",
            )
        for action in ("write", "execute"):
            allowed = self.authorizer.is_authorized(self, self.current_user, action, "terminals")
            if not await ensure_async(allowed):
                raise NotAllowed(
                    "You may not use terminals on this Jupyter server.",
                    advice="Ask whoever runs it for the right to use them.",
                )
        prepared = await self.run(self.service.terminals.prepare, compute)
        self.answer({"name": open_terminal(manager, prepared)}, 201)


class SSHHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def get(self, compute: str) -> None:
        self.answer({"command": await self.run(self.service.terminals.ssh_command, compute)})


class MetricsHandler(DSVMHandler):
    # A page that is open shows them, whether anybody works there or not: a server or hub that ends what is idle shall not be kept
    # from it.
    _track_activity = False

    @web.authenticated
    @authorized
    async def get(self, compute: str) -> None:
        answer = await self.run(self.service.metrics, compute)
        try:
            # Shared with whoever else asks, so it is not to be cancelled.
            metrics = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(answer)), PATIENCE)
        except asyncio.TimeoutError:
            metrics = unknown((await self.run(self.service.known.find, compute)).id)
        self.answer(metrics.to_json())


class KernelsHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def get(self) -> None:
        await self.refresh_paths()
        kernels, revision = self.service.kernels()
        self.answer({"revision": revision, "kernels": [k.to_json() for k in kernels]})


class KernelComputeHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def put(self, kernel_id: str) -> None:
        data = self.body()
        interrupt, sync = data.pop("interrupt", False), data.pop("sync", None)
        carry, allow_carry = data.pop("carry", False), data.pop("allow_carry", None)
        compute = data.get("compute")
        unknown = set(data) - {"compute", "kernelspec"}
        texts = all(isinstance(v, str) for v in data.values())
        flags = isinstance(interrupt, bool) and all(v is None or isinstance(v, bool) for v in (sync, allow_carry))
        flags = flags and (isinstance(carry, bool) or is_names(carry))
        if unknown or not compute or not texts or not flags:
            raise BadRequest(
                "The request's body does not say where the kernel is to run.",
                advice='Send {"compute": ID OR NAME}, "kernelspec" where another than the usual one is wanted, '
                '"interrupt": true where a running cell is not to be waited for, "sync": whether its files go along, "carry": true '
                'or names for its variables, and "allow_carry": true to allow those of a VM.',
            )
        asked = (data.get("kernelspec"), interrupt, sync, carry, allow_carry)
        self.begun(await self.run(self.service.attach, kernel_id, compute, *asked))


class ReconnectHandler(DSVMHandler):
    """Try to reach a kernel's machine at once."""

    @web.authenticated
    @authorized
    async def post(self, kernel_id: str) -> None:
        self.service.reconnect(kernel_id)
        self.set_status(204)
        self.finish()


class AdviceHandler(DSVMHandler):
    """CPU or GPU for a notebook. A POST for its body; it changes nothing."""

    only_asks = True

    @web.authenticated
    @authorized
    async def post(self, kernel_id: str) -> None:
        data = self.body(MAX_CODE_BODY) if self.request.body else {}
        sources = data.get("sources")
        if set(data) - {"sources"} or not (sources is None or is_texts(sources)):
            raise BadRequest(
                "The request's body does not say which code is meant.",
                advice='Send {"sources": [TEXT OF A CELL, …]}, or {} for the notebook as it was last saved.',
            )
        await self.refresh_paths()
        self.answer((await self.run(self.service.advising.of_kernel, kernel_id, sources)).to_json())


class OperationsHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def get(self) -> None:
        operations, revision = self.service.operations()
        self.answer({"revision": revision, "operations": [o.to_json() for o in operations]})


class OperationHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def get(self, operation: str) -> None:
        self.answer(self.service.operation(operation).to_json())

    @web.authenticated
    @authorized
    async def delete(self, operation: str) -> None:
        release = self.flag("release")
        if release:
            self.begun(await self.run(self.service.release, operation))
            return
        if self.flag("dismiss"):
            self.service.dismiss(operation)
        else:
            self.service.cancel(operation)
        self.set_status(204)
        self.finish()


class QuestionsHandler(DSVMHandler):
    """What code wants to do and a person has to allow."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        questions, revision = self.service.open_questions()
        self.answer({"revision": revision, "questions": [q.to_json() for q in questions]})


class QuestionHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def put(self, question: str) -> None:
        data = self.body()
        if set(data) != {"answer"} or data["answer"] not in ("yes", "no"):
            raise BadRequest("The request's body is no answer.", advice='Send {"answer": "yes"} or {"answer": "no"}.')
        self.service.questions.answer(question, data["answer"] == "yes")
        self.set_status(204)
        self.finish()


class SignInHandler(DSVMHandler):
    """Who is signed in to the cloud. A code is in the answer to the POST that asked for it, and in no other."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self._answer(await self.run(self.service.accounts.status, self.get_query_argument("id", None)))

    @web.authenticated
    @authorized
    async def post(self) -> None:
        tenant, keep, token = checked(self.body() if self.request.body else {})
        if token is not None:
            self._answer(await self.run(self.service.accounts.paste, token))
        else:
            self._answer(await self.run(self.service.accounts.begin, tenant, keep))

    @web.authenticated
    @authorized
    async def delete(self) -> None:
        attempt = self.get_query_argument("id", None)
        if attempt is None:
            await self.run(self.service.accounts.sign_out)
        else:
            await self.run(self.service.accounts.cancel, attempt)
        self.set_status(204)
        self.finish()

    def _answer(self, status: SignInStatus) -> None:
        self.answer({"revision": self.service.revision("signin"), **status.to_json()})


class UnknownHandler(DSVMHandler):
    """Whatever else is asked for under our root: a 404 in our shape rather than the server's page."""

    @web.authenticated
    @authorized
    async def get(self, path: str) -> None:
        raise web.HTTPError(404, "There is no %s", f"{ROOT}/{path}")

    post = put = delete = patch = head = get


ROUTES: list[tuple[str, type[DSVMHandler]]] = [
    (r"computes", ComputesHandler),
    (r"creation", CreationHandler),
    (r"computes/([^/]+)/(start|stop|restart)", ComputeActionHandler),
    (r"computes/([^/]+)/access", AccessHandler),
    (r"computes/([^/]+)/kernelspecs", KernelspecsHandler),
    (r"computes/([^/]+)/modules", ModulesHandler),
    (r"computes/([^/]+)/install", InstallHandler),
    (r"computes/([^/]+)/terminals", TerminalsHandler),
    (r"computes/([^/]+)/ssh", SSHHandler),
    (r"computes/([^/]+)/metrics", MetricsHandler),
    (r"computes/([^/]+)/sizes", SizesHandler),
    (r"computes/([^/]+)/resize", ResizeHandler),
    (r"kernels", KernelsHandler),
    (r"kernels/([^/]+)/compute", KernelComputeHandler),
    (r"kernels/([^/]+)/reconnect", ReconnectHandler),
    (r"kernels/([^/]+)/advice", AdviceHandler),
    (r"operations", OperationsHandler),
    (r"operations/([^/]+)", OperationHandler),
    (r"questions", QuestionsHandler),
    (r"questions/([^/]+)", QuestionHandler),
    (r"signin", SignInHandler),
    *IDLE_ROUTES,
    *SPEND_ROUTES,
    *OUTPUTS_ROUTES,
    *VARIABLES_ROUTES,
    *WORKSPACE_ROUTES,
    (r"(.*)", UnknownHandler),
]


def handlers(
    base_url: str, service: DSVMService, refresh_paths: RefreshPaths
) -> list[tuple[str, type, dict[str, Any]]]:
    """What the extension adds to the server's application."""
    arguments = {"service": service, "refresh_paths": refresh_paths}
    return [(url_path_join(base_url, ROOT, pattern), handler, arguments) for pattern, handler in ROUTES]
