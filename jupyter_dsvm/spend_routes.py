"""The part of the REST API that says what machines have cost."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from .handlers import DSVMHandler


class SpendHandler(DSVMHandler):
    # An open page asks when a day begins or a budget is nearly spent: nobody need be there.
    _track_activity = False

    @web.authenticated
    @authorized
    async def get(self) -> None:
        revision = self.service.revision("spend")
        spend = await self.run(self.service.spending.record)
        self.answer({"revision": revision, **spend.to_json()})


SPEND_ROUTES: list[tuple[str, type[DSVMHandler]]] = [(r"spend", SpendHandler)]
