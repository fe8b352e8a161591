"""An event loop that has something else to do: a server extension (and what the holder uses) that keeps it busy.

In a server it starts and ends with ``PUT /benchmarks/busy``, whose body is the share of the time.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

TURN = 0.01
"""Seconds of one round: work, then rest."""


async def keep_busy(share: float) -> None:
    while True:
        until = time.perf_counter() + share * TURN
        while time.perf_counter() < until:
            json.dumps([1, 2, 3])
        await asyncio.sleep((1 - share) * TURN)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": "benchmarks.busyloop"}]


def _load_jupyter_server_extension(app: Any) -> None:
    from jupyter_server.base.handlers import APIHandler
    from tornado import web

    class BusyHandler(APIHandler):
        work: asyncio.Task[None] | None = None

        @web.authenticated
        async def put(self) -> None:
            share = float(json.loads(self.request.body))
            if BusyHandler.work is not None:
                BusyHandler.work.cancel()
            BusyHandler.work = asyncio.ensure_future(keep_busy(share)) if share else None
            self.finish("null")

    app.web_app.add_handlers(".*$", [(app.base_url + "benchmarks/busy", BusyHandler)])
