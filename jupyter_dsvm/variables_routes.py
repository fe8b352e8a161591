"""The REST API's part for variables that travel (``carrying``). ``routes`` has these handlers among its own.

``PUT kernels/{id}/compute`` carries them; here is what can be known before, and what waits on a VM's disk.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web

from .errors import BadRequest
from .handlers import DSVMHandler
from .kernelvariables import MAX_NAME, MAX_NAMES


def is_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_NAMES
        and all(isinstance(v, str) and 0 < len(v) <= MAX_NAME for v in value)
    )


class PlanHandler(DSVMHandler):
    """What could go along. The kernel is asked, so whoever asks must be allowed to have it run something."""

    @web.authenticated
    @authorized
    @authorized("execute", "kernels")  # type: ignore[untyped-decorator]
    async def get(self, kernel_id: str) -> None:
        to = self.get_query_argument("to", "")
        if not to:
            raise BadRequest(
                "The request does not say where the variables would go.", advice="Ask with ?to=ID OR NAME."
            )
        self.answer((await self.run(self.service.carrying.plan, kernel_id, to)).to_json())


class LoadHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def post(self, kernel_id: str) -> None:
        data = self.body() if self.request.body else {}
        names = data.get("names")
        if set(data) - {"names"} or not (names is None or (is_names(names) and names)):
            raise BadRequest(
                "The request's body does not say which variables are meant.",
                advice='Send {"names": [NAME, …]}, or nothing for all of them.',
            )
        await self.refresh_paths()
        self.begun(await self.run(self.service.carrying.load, kernel_id, names))


class SavedHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def delete(self, kernel_id: str) -> None:
        await self.refresh_paths()
        await self.run(self.service.carrying.forget, kernel_id)
        self.set_status(204)
        self.finish()


VARIABLES_ROUTES: list[tuple[str, type[DSVMHandler]]] = [
    (r"kernels/([^/]+)/variables", PlanHandler),
    (r"kernels/([^/]+)/variables/load", LoadHandler),
    (r"kernels/([^/]+)/variables/saved", SavedHandler),
]
