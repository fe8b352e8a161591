"""The REST API's part for what cells have put out (``kernels.recording``). ``routes`` has this handler among its own."""

from __future__ import annotations

import json

from jupyter_server.auth.decorator import authorized
from tornado import web

from .errors import BadRequest
from .handlers import DSVMHandler
from .kernels.savemarks import marks_of

MAX_ID = 1024
"""Characters of a request's id."""


class OutputsHandler(DSVMHandler):
    """For a page that opens a notebook whose kernel ran meanwhile. Who asks must be allowed to see kernels, too, and to use them
    where outputs are not to be kept any more: those of a cell that was deleted or cleared in the page."""

    @web.authenticated
    @authorized
    @authorized("read", "kernels")  # type: ignore[untyped-decorator]
    async def get(self, kernel_id: str) -> None:
        since, after = self._version("since"), self._version("after")
        self.set_header("Content-Type", "application/json")
        self.finish(await self.run(self._read, kernel_id, since, after))

    @web.authenticated
    @authorized
    @authorized("write", "kernels")  # type: ignore[untyped-decorator]
    async def delete(self, kernel_id: str) -> None:
        msg_id = self.get_query_argument("msg_id", "")
        if not 0 < len(msg_id) <= MAX_ID:
            raise BadRequest("No msg_id says which outputs.", advice="It is that of a row of an earlier answer.")
        await self.run(self.service.proxy(kernel_id).recording.forget, msg_id)
        self.set_status(204)

    def _read(self, kernel_id: str, since: int, after: int) -> str:
        proxy = self.service.proxy(kernel_id)
        answer = proxy.recording.since(since, after)
        return json.dumps({**answer, "sessions": sorted(proxy.clients.connected())})

    def _version(self, name: str) -> int:
        value = self.get_query_argument(name, "0")
        if not (value.isascii() and value.isdigit() and len(value) < 17):
            raise BadRequest(f"{name} is {value!r}.", advice="It is a version that an earlier answer gave, or 0.")
        return int(value)


class SavedHandler(DSVMHandler):
    """For a page whose notebook has changed on disk: whether that was only ``outputsaver``."""

    @web.authenticated
    @authorized
    @authorized("read", "contents")  # type: ignore[untyped-decorator]
    async def get(self, kernel_id: str) -> None:
        marks = await self.run(lambda: marks_of(self.service.proxy(kernel_id).recording))
        files = [
            {
                "path": path,
                "states": [{"last_modified": modified, "hash": sha or None} for modified, sha in mark.states],
            }
            for path, mark in marks.items()
            if mark.states
        ]
        self.finish({"files": files})


OUTPUTS_ROUTES: list[tuple[str, type[DSVMHandler]]] = [
    (r"kernels/([^/]+)/outputs", OutputsHandler),
    (r"kernels/([^/]+)/saved", SavedHandler),
]
