"""The broker's REST API: for users' servers the part of ``openapi.yaml`` that a ``ComputeProvider`` needs, with the same shapes,
and what a teacher asks. Every request carries a token of the hub's; no cookie counts here, so nothing can be forged across sites.
(The teacher's page, ``page``, is signed in to by the hub.)

============================================  ========================================================================
GET  computes, computes/ID                    the caller's own, ID being ``hub:VMID`` or ``hub:pool-NAME``
POST computes/ID/start, stop, restart         202 and the operation; of a stop under others one of the kind ``leave``
GET  computes/ID/sizes, POST …/resize         as in openapi.yaml
POST computes/ID/access                       202 and the operation that makes the caller's account there
POST computes/ID/certificate                  ``{"public_key", "terminal"}`` → the certificate, and where the VM is
PUT  computes/ID/presence                     ``{"used", "idle"}``: the caller's server is there or not, and idle for so long
GET  creation, POST computes                  a new VM, as in openapi.yaml, for whom ``may_create`` names
GET  operations, operations/ID, DELETE …/ID   with ``wait=SECONDS`` and If-None-Match a GET waits for a change
GET  spend, whoami
GET  admin/overview, POST admin/stop          for teachers
POST admin/end                                ``{"person", "remove"}``
GET  metrics                                  for Prometheus: for teachers, and without a token where ``open_metrics`` is set
============================================  ========================================================================
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Callable
from http.client import responses
from typing import Any, TypeVar

from tornado import web

from ..compute.creating import NewCompute
from ..errors import BadRequest, DSVMError, NotAllowed
from ..models import Operation, OperationState
from .audit import Numbers, exposition
from .broker import Broker
from .people import People
from .policy import Person
from .watch import Watch

T = TypeVar("T")

log = logging.getLogger("jupyter_dsvm.hub")

MAX_BODY = 16 * 1024
LONGEST_WAIT = 25.0
"""Seconds that a request may wait for a change; proxies hang up after 60."""

LONGEST_IDLE = 30 * 86400.0


class HubHandler(web.RequestHandler):
    person: Person

    def initialize(self, broker: Broker, people: People, watch: Watch, open_metrics: bool) -> None:
        self.broker, self.people, self.watch, self.open_metrics = broker, people, watch, open_metrics

    async def prepare(self) -> None:
        if len(self.request.body) > MAX_BODY:
            raise BadRequest("The request's body is too long.")
        if self.open_metrics and isinstance(self, MetricsHandler):
            return
        kind, _, token = self.request.headers.get("Authorization", "").partition(" ")
        person = await self.people.identify(token.strip()) if kind.lower() in ("token", "bearer") else None
        if person is None:
            raise web.HTTPError(401, "A token of the hub is needed")
        self.person = person
        self.watch.groups[person.name] = person.groups
        if not self.broker.known.is_listed:
            await self.run(self.broker.listed)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.wrap_future(self.broker.submit(function, *arguments))

    def body(self, **fields: type) -> dict[str, Any]:
        """The object that was sent. Raises ``BadRequest`` unless it has those fields alone, of those types."""
        try:
            data = json.loads(self.request.body or b"{}")
        except ValueError as e:
            raise BadRequest(f"The request's body is no JSON: {e}.") from None
        if not isinstance(data, dict) or any(
            name not in fields or not isinstance(value, fields[name]) for name, value in data.items()
        ):
            raise BadRequest(
                "The request's body cannot be understood.", advice=f"It may have {', '.join(fields) or 'nothing'}."
            )
        return data

    def answer(self, data: dict[str, Any], status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(data))

    def begun(self, operation: Operation) -> None:
        self.answer(operation.to_json(), 202)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """In the one shape that every error has."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, DSVMError):
            status_code, data = error.status, error.to_json()
        elif isinstance(error, web.HTTPError):
            reason = responses.get(status_code, "Error")
            message = str(error.log_message or error.reason or reason).rstrip(".") + "."
            data = {"code": reason.title().replace(" ", ""), "message": message, "advice": ""}
        else:
            data = {"code": "Internal", "message": "An error inside the broker.", "advice": "Its log has the details."}
        self.answer(data, status_code)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, DSVMError):
            log.info("%s %s: %s", self.request.method, self.request.path, value)
        else:
            super().log_exception(typ, value, tb)


class ComputesHandler(HubHandler):
    async def get(self) -> None:
        rows, snapshot = await asyncio.wrap_future(self.broker.listing(self.person))
        problems = [p.to_json() for p in snapshot.problems]
        idle = self.broker.policy.idle_minutes
        computes = [r.to_json() for r in rows]
        self.answer({"as_of": snapshot.as_of, "computes": computes, "problems": problems, "idle_minutes": idle})

    async def post(self) -> None:
        try:
            data = json.loads(self.request.body or b"{}")
        except ValueError as e:
            raise BadRequest(f"The request's body is no JSON: {e}.") from None
        if not isinstance(data, dict):
            raise BadRequest("The request's body is no JSON object.")
        self.begun(await self.run(self.broker.create, self.person, NewCompute.from_json(data)))


class CreationHandler(HubHandler):
    async def get(self) -> None:
        location, subscription = (
            self.get_query_argument("location", None),
            self.get_query_argument("subscription", None),
        )
        found = await self.run(self.broker.creation, self.person, location or None, subscription or None)
        self.answer(found.to_json())


class ComputeHandler(HubHandler):
    async def get(self, compute: str) -> None:
        row = await self.run(self.broker.compute, self.person, compute)
        # Beside the shape: what the person's own server counts with (spending_rules).
        self.answer({**row.to_json(), "unchanged_since": row.unchanged_since})


class ActionHandler(HubHandler):
    async def post(self, compute: str, action: str) -> None:
        self.body()
        self.begun(await self.run(getattr(self.broker, action), self.person, compute))


class SizesHandler(HubHandler):
    async def get(self, compute: str) -> None:
        offers, notice = await self.run(self.broker.sizes, self.person, compute)
        self.answer({"sizes": [o.to_json() for o in offers], "notice": notice})


class ResizeHandler(HubHandler):
    async def post(self, compute: str) -> None:
        size = self.body(size=str, end_kernels=bool).get("size")
        if not size:
            raise BadRequest("The request's body does not say which size.", advice='Send {"size": NAME}.')
        self.begun(await self.run(self.broker.resize, self.person, compute, size))


class CertificateHandler(HubHandler):
    async def post(self, compute: str) -> None:
        data = self.body(public_key=str, terminal=bool)
        line, terminal = data.get("public_key", ""), data.get("terminal", False)
        self.answer(await self.run(self.broker.certificate, self.person, compute, line, terminal))


class PresenceHandler(HubHandler):
    async def put(self, compute: str) -> None:
        data = self.body(used=bool, idle=float)
        idle = data.get("idle", 0.0)
        if not 0 <= idle <= LONGEST_IDLE:
            raise BadRequest(f"idle is {idle:g}.", advice="It is seconds.")
        self.answer(await self.run(self.broker.present, self.person, compute, data.get("used", True), idle))


class OperationsHandler(HubHandler):
    async def get(self) -> None:
        self.answer({"operations": [o.to_json() for o in self.broker.operations_of(self.person)]})


class OperationHandler(HubHandler):
    async def get(self, operation: str) -> None:
        try:
            wait = min(LONGEST_WAIT, max(0.0, float(self.get_query_argument("wait", "0"))))
        except ValueError:
            raise BadRequest("wait is no number.", advice="It is seconds.") from None
        deadline = asyncio.get_running_loop().time() + wait
        known = self.request.headers.get("If-None-Match")
        while True:
            change = self.broker.followers.next(operation)
            try:
                shown = self.broker.operation(self.person, operation)
                data = shown.to_json()
                tag = f'"{hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]}"'
                left = deadline - asyncio.get_running_loop().time()
                if known != tag or shown.state is not OperationState.RUNNING or left <= 0:
                    break
                await asyncio.wait({change}, timeout=left)
            finally:
                self.broker.followers.forget(operation, change)
        self.set_header("Etag", tag)
        self.answer(data)

    def compute_etag(self) -> None:
        """The one above; tornado would answer 304 without the body."""

    async def delete(self, operation: str) -> None:
        self.broker.cancel(self.person, operation)
        self.set_status(204)
        self.finish()


class SpendHandler(HubHandler):
    async def get(self) -> None:
        self.answer(await self.run(self.broker.spend_of, self.person))


class WhoHandler(HubHandler):
    async def get(self) -> None:
        policy = self.broker.policy
        pools = [pool.name for pool in policy.pools_of(self.person)]
        self.answer({"name": self.person.name, "teacher": policy.is_teacher(self.person), "pools": pools})


class OverviewHandler(HubHandler):
    async def get(self) -> None:
        self.answer(await self.run(self.broker.overview, self.person))


class StopAllHandler(HubHandler):
    async def post(self) -> None:
        self.body()
        self.answer({"stopping": await self.run(self.broker.stop_all, self.person)}, 202)


class EndHandler(HubHandler):
    async def post(self) -> None:
        data = self.body(person=str, remove=bool)
        if not data.get("person"):
            raise BadRequest("The request's body does not say whose.", advice='Send {"person": NAME}.')
        ended = await self.run(self.broker.end, self.person, data["person"], None, data.get("remove", False))
        self.answer({"vms": ended}, 202)


class MetricsHandler(HubHandler):
    async def get(self) -> None:
        if not self.open_metrics and not self.broker.policy.is_teacher(self.person):
            raise NotAllowed("That is for teachers.", advice="Ask whoever runs the hub.")
        data, kind = await self.run(exposition, Numbers(self.broker.audit, self.broker.numbers))
        self.set_header("Content-Type", kind)
        self.finish(data)


class UnknownHandler(HubHandler):
    async def get(self, path: str) -> None:
        raise web.HTTPError(404, "There is no such address here")

    post = put = delete = patch = head = get


ROUTES: list[tuple[str, type[HubHandler]]] = [
    (r"computes", ComputesHandler),
    (r"creation", CreationHandler),
    (r"computes/([^/]+)", ComputeHandler),
    (r"computes/([^/]+)/(start|stop|restart|access)", ActionHandler),
    (r"computes/([^/]+)/sizes", SizesHandler),
    (r"computes/([^/]+)/resize", ResizeHandler),
    (r"computes/([^/]+)/certificate", CertificateHandler),
    (r"computes/([^/]+)/presence", PresenceHandler),
    (r"operations", OperationsHandler),
    (r"operations/([^/]+)", OperationHandler),
    (r"spend", SpendHandler),
    (r"whoami", WhoHandler),
    (r"admin/overview", OverviewHandler),
    (r"admin/stop", StopAllHandler),
    (r"admin/end", EndHandler),
    (r"metrics", MetricsHandler),
    (r"(.*)", UnknownHandler),
]


def application(
    prefix: str, broker: Broker, people: People, watch: Watch, open_metrics: bool = False, service: str = ""
) -> web.Application:
    """``prefix``: the path that the hub's proxy leads here, ``/services/NAME/``. ``service``: that name, where the hub signs
    people in for the teacher's page."""
    arguments = {"broker": broker, "people": people, "watch": watch, "open_metrics": open_metrics}
    base = "/" + prefix.strip("/")
    base = base if base.endswith("/") else f"{base}/"
    rules: list[Any] = [(base + pattern, handler, arguments) for pattern, handler in ROUTES]
    if service:
        from .page import handlers as page  # here, since it needs the hub

        rules = [*page(base, broker, service), *rules]
    # Of this process only: who has the page open signs in once more after a restart, which the hub does unasked.
    return web.Application(rules, cookie_secret=secrets.token_bytes(32))
