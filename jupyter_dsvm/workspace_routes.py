"""The REST API's part for a notebook's files that travel with it: what is in step, by hand, and what both sides had changed.

``routes`` has these handlers among its own.
"""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from .errors import BadRequest
from .handlers import DSVMHandler, is_texts
from .models import WorkspaceEstimate

DIRECTIONS = ("both", "push", "pull")
KEPT = ("mine", "theirs")


class WorkspacesHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def get(self) -> None:
        await self.refresh_paths()
        workspaces, revision = self.service.workspaces.records()
        self.answer({"revision": revision, "workspaces": [w.to_json() for w in workspaces]})


class EstimateHandler(DSVMHandler):
    """What would go along with a notebook. Blocks for a look through its folder."""

    @web.authenticated
    @authorized
    async def get(self, kernel_id: str) -> None:
        compute = self.get_query_argument("compute", "")
        if not compute:
            raise BadRequest(
                "The request does not say where the files would go.", advice="Ask with ?compute=ID OR NAME."
            )
        await self.refresh_paths()
        self.answer((await self.run(self._estimate, kernel_id, compute)).to_json())

    def _estimate(self, kernel_id: str, compute: str) -> WorkspaceEstimate:
        return self.service.workspaces.estimate(kernel_id, self.service.known.find(compute).id)


class SyncHandler(DSVMHandler):
    """By hand: now, and if so wanted what a sync had stopped before."""

    @web.authenticated
    @authorized
    async def post(self, workspace: str) -> None:
        data = self.body() if self.request.body else {}
        direction, force, yes = data.get("direction", "both"), data.get("force", False), data.get("yes", False)
        if (
            set(data) - {"direction", "force", "yes"}
            or direction not in DIRECTIONS
            or not isinstance(force, bool)
            or not isinstance(yes, bool)
        ):
            raise BadRequest(
                "The request's body does not say which files are to be copied.",
                advice='Send {"direction": "both", "push" or "pull"}, "force": true to carry out what a sync stopped before, '
                'and "yes": true to copy more than the limit.',
            )
        self.begun(await self.run(self.service.workspaces.sync, workspace, direction, force, yes))


class ConflictsHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def post(self, workspace: str) -> None:
        data = self.body()
        path, keep = data.get("path"), data.get("keep")
        if set(data) != {"path", "keep"} or not isinstance(path, str) or keep not in KEPT:
            raise BadRequest(
                "The request's body does not say which version of which file is kept.",
                advice='Send {"path": THE FILE\'S, "keep": "mine" OR "theirs"}.',
            )
        await self.run(self.service.workspaces.resolve, workspace, path, keep)
        self.set_status(204)
        self.finish()


class FetchHandler(DSVMHandler):
    """What had stayed on the machine for want of room comes here."""

    @web.authenticated
    @authorized
    async def post(self, workspace: str) -> None:
        data = self.body()
        paths = data.get("paths")
        if set(data) != {"paths"} or not is_texts(paths) or not paths:
            raise BadRequest(
                "The request's body does not say which files are to be fetched.", advice='Send {"paths": [PATH, …]}.'
            )
        self.begun(await self.run(self.service.workspaces.fetch, workspace, paths))


WORKSPACE_ROUTES: list[tuple[str, type[DSVMHandler]]] = [
    (r"workspaces", WorkspacesHandler),
    (r"workspaces/([^/]+)/sync", SyncHandler),
    (r"workspaces/([^/]+)/conflicts", ConflictsHandler),
    (r"workspaces/([^/]+)/fetch", FetchHandler),
    (r"kernels/([^/]+)/workspace", EstimateHandler),
]
