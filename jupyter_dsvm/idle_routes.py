"""The REST API's part for VMs that are stopped when nobody uses them: what a person chooses for one, and what a stop loses.

``routes`` has this handler among its own. Whether and when a VM is stopped is in its row (``GET computes``).
"""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from .errors import BadRequest
from .handlers import DSVMHandler
from .models import IdleStop, StopLoss

CHOICES = {"keep_seconds": False, "idle_minutes": True, "hard_limit_hours": True}
"""What the body may have, and whether it may be null: never, no limit."""


class IdleHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def put(self, compute: str) -> None:
        data = self.body()
        if not data or not all(key in CHOICES and _is_choice(value, CHOICES[key]) for key, value in data.items()):
            raise BadRequest(
                "The request's body does not say how long the machine is to stay on.",
                advice='Send any of {"keep_seconds": NUMBER (0 ends it), "idle_minutes": NUMBER OR null (never), '
                '"hard_limit_hours": NUMBER OR null (none)}.',
            )
        stop: IdleStop = await self.run(lambda: self.service.idle_stops.configure(compute, **data))
        self.answer(stop.to_json())


class StopLossHandler(DSVMHandler):
    @web.authenticated
    @authorized
    async def get(self, compute: str) -> None:
        loss: StopLoss = await self.run(self.service.stop_loss, compute)
        self.answer(loss.to_json())


def _is_choice(value: object, may_be_null: bool) -> bool:
    if value is None:
        return may_be_null
    return isinstance(value, (int, float)) and not isinstance(value, bool)


IDLE_ROUTES: list[tuple[str, type[DSVMHandler]]] = [
    (r"computes/([^/]+)/idle", IdleHandler),
    (r"computes/([^/]+)/loss", StopLossHandler),
]
