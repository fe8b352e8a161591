"""The emulator's HTTP side: who may ask, which request means what, and Azure's headers on the answers.

Every request needs ``Authorization: Bearer`` with the emulator's secret and a Host that is this very server on the
loopback interface; a page that a browser was lured to has neither. ``/control/…`` is the emulator's own: faults, timings, SSH
servers. Everything else is Azure Resource Manager.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import format_datetime
from typing import Any, TextIO
from urllib.parse import parse_qsl, quote, unquote, urlencode

from tornado import web

from . import graph, shapes
from .access_routes import ACCESS_ROUTES, SERIAL_LOG, AccessRoutes
from .arm import Arm
from .control import CONTROL, ControlRoutes
from .deploy_routes import DEPLOY_ROUTES, DeployRoutes
from .directory import Directory
from .machines import TENANT_ID
from .offer_routes import OFFER_ROUTES, PRICES_PATH, OfferRoutes
from .pacing import delay, quota_headers, throttled
from .records import Operation, Record
from .refusal import Refusal
from .resizing import immutable
from .schedule_routes import SCHEDULE_ROUTES, ScheduleRoutes

Json = dict[str, Any]

_VM = r"/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)/providers/microsoft\.compute/virtualmachines"
ROUTES: list[tuple[str, re.Pattern[str], str]] = [
    (method, re.compile(pattern + "/?", re.IGNORECASE), name)
    for method, pattern, name in (
        *DEPLOY_ROUTES,
        ("GET", r"/tenants", "tenants"),
        ("GET", r"/subscriptions", "subscriptions"),
        ("GET", r"/subscriptions/(?P<sub>[^/]+)", "subscription"),
        ("GET", r"/subscriptions/(?P<sub>[^/]+)/providers/microsoft\.compute/virtualmachines", "list_all"),
        ("GET", _VM, "list_group"),
        ("GET", _VM + r"/(?P<name>[^/]+)", "get_vm"),
        ("PATCH", _VM + r"/(?P<name>[^/]+)", "patch"),
        ("GET", _VM + r"/(?P<name>[^/]+)/instanceview", "instance_view"),
        ("GET", _VM + r"/(?P<name>[^/]+)/vmsizes", "vm_sizes"),
        ("POST", _VM + r"/(?P<name>[^/]+)/(?P<action>start|deallocate|poweroff|restart)", "act"),
        (
            "GET",
            r"/subscriptions/(?P<sub>[^/]+)/providers/microsoft\.compute/locations/[^/]+/operations/(?P<name>[^/]+)",
            "operation",
        ),
        (
            "GET",
            r"/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)/providers/microsoft\.network/"
            r"(?P<kind>networkinterfaces|publicipaddresses)/(?P<name>[^/]+)",
            "network",
        ),
        (
            "GET",
            r"/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)/providers/microsoft\.compute/galleries/[^/]+"
            r"/images/(?P<image>[^/]+)",
            "gallery_image",
        ),
        ("POST", r"/providers/microsoft\.resourcegraph/resources", "resource_graph"),
        *OFFER_ROUTES,
        *ACCESS_ROUTES,
        *SCHEDULE_ROUTES,
    )
]
ACTIONS = {"start": "start", "deallocate": "deallocate", "poweroff": "powerOff", "restart": "restart"}
KINDS = {"networkinterfaces": "networkInterfaces", "publicipaddresses": "publicIPAddresses"}
OPERATION = {
    "list_all": "list", "list_group": "list", "get_vm": "get", "instance_view": "instanceView", "vm_sizes": "sizes",
    "run_command": "runCommand", "boot_diagnostics": "bootDiagnostics", "put_extension": "extension",
    "put_schedule": "setSchedule", "delete_schedule": "setSchedule", "schedules": "schedule",
    "subscription": "subscriptions", "resource_graph": "graph", "gallery_image": "gallery",
}  # fmt: skip
"""What faults, latency and throttles call a route where it is not the route's own name."""
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")


class Gate:
    """The secret and the names under which this server may be addressed."""

    def __init__(self, secret: str, port: int, directory: Directory) -> None:
        self._secret = secret.encode()
        self._audience = f"http://127.0.0.1:{port}"
        self.directory = directory
        self.prices_door = hmac.new(self._secret, b"prices", "sha256").hexdigest()[:40]
        """The first part of the price list's path, which only the configuration knows."""
        self.hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")}

    def knows(self, authorization: str, control: bool) -> bool:
        """The secret opens everything, a token of the emulated Entra only Azure."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        known = hmac.compare_digest(secret.strip().encode(), self._secret)
        return known or (not control and self.directory.accepts(secret.strip(), self._audience))


class Handler(DeployRoutes, AccessRoutes, OfferRoutes, ScheduleRoutes, ControlRoutes, web.RequestHandler):
    """One handler for all: tornado's own routing would tell apart what Azure does not (case)."""

    def initialize(self, arm: Arm, gate: Gate, base: str, traffic: TextIO | None, budgets: dict[str, int]) -> None:
        self.arm = arm
        self.gate = gate
        self.base = base
        self.traffic = traffic
        self.budgets = budgets
        self.answer: Json | str | None = None
        self.asked: Any = None
        self.admitted = False

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        request_id = str(uuid.uuid4())
        given = self.request.headers.get("x-ms-correlation-request-id", request_id)
        correlation = given if re.fullmatch(r"[0-9a-fA-F-]{1,64}", given) else request_id
        now = datetime.now(timezone.utc)
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Pragma", "no-cache")
        self.set_header("Expires", "-1")
        self.set_header("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("x-ms-request-id", request_id)
        self.set_header("x-ms-correlation-request-id", correlation)
        self.set_header("x-ms-routing-request-id", f"WESTEUROPE:{now:%Y%m%dT%H%M%SZ}:{request_id}")

    # -- dispatch -----------------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        path = self.request.path
        try:
            self._admit()
            self.admitted = True
            control = path.startswith("/control/")
            if self.request.body:
                try:
                    self.asked = json.loads(self.request.body)
                except ValueError as error:
                    raise Refusal(
                        400,
                        "InvalidRequestContent",
                        f"The request content was invalid and could not be deserialized: '{error}'.",
                    ) from None
            if not control:
                self._check_api_version()
            known = False
            for method, pattern, name in CONTROL if control else ROUTES:
                match = pattern.fullmatch(path)
                if match is not None:
                    known = True
                    if method == self.request.method:
                        named = {key: unquote(value) for key, value in match.groupdict().items()}
                        if not control:
                            self.arm.check_tenant(named.get("sub", ""), self._tenant)
                            await self._pace(OPERATION.get(name, named.get("action", name)), named.get("name"))
                        answer = getattr(self, "on_" + name)(**named)
                        if asyncio.iscoroutine(answer):
                            answer = await answer
                        self._finish(answer)
                        return
            if known:
                raise Refusal(405, "MethodNotAllowed", f"{self.request.method} is not allowed here.")
            raise Refusal(404, "InvalidResourceType", f"The resource type could not be found for path '{path}'.")
        except Refusal as refusal:
            if refusal.status == 429 and refusal.code == "TooManyRequests":
                refusal = throttled("HighCostGet30Min", refusal.retry_after, 800, 1238)
            self.set_status(refusal.status)
            for header, value in refusal.headers.items():
                self.set_header(header, value)
            if refusal.retry_after is not None:
                self.set_header("Retry-After", str(refusal.retry_after))
            if refusal.code in ("ResourceNotFound", "ResourceGroupNotFound"):
                self.set_header("x-ms-failure-cause", "gateway")
            body = shapes.error(refusal.code, refusal.message, refusal.target, refusal.details)
            self._finish(body)

    get = post = put = patch = delete = _dispatch

    def _admit(self) -> None:
        if self.request.host.lower() not in self.gate.hosts:
            raise Refusal(403, "HostNotAllowed", "This server answers to its loopback address only.")
        door = PRICES_PATH.fullmatch(self.request.path) or re.fullmatch(SERIAL_LOG, self.request.path)
        if door is not None and hmac.compare_digest(door[1], self.gate.prices_door):
            return
        authorization = self.request.headers.get("Authorization", "")
        if not authorization:
            self._challenge("The authentication failed because of missing 'Authorization' header.")
            raise Refusal(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        if not self.gate.knows(authorization, self.request.path.startswith("/control/")):
            self._challenge("The access token is invalid.")
            raise Refusal(401, "InvalidAuthenticationToken", "The access token is invalid.")

    def _challenge(self, description: str) -> None:
        self.set_header(
            "WWW-Authenticate",
            f'Bearer authorization_uri="{self.base}/{TENANT_ID}", error="invalid_token", error_description="{description}"',
        )

    @property
    def _tenant(self) -> str | None:
        return self.gate.directory.tenant_of(self.request.headers.get("Authorization", "").partition(" ")[2].strip())

    async def _pace(self, operation: str, name: str | None) -> None:
        """Answer no faster, and no more often, than the scenario says."""
        operation = ACTIONS.get(operation.lower(), operation)
        throttle = self.arm.throttles.get(operation)
        left, wait = 14, 5.0
        if throttle is not None:
            left, wait = throttle.take(asyncio.get_running_loop().time())
        if operation == "graph":
            for header, value in quota_headers(left, wait).items():
                self.set_header(header, value)
        if self.arm.latency:
            record = self.arm.concerned(name)
            vm, size = (record.machine.name, record.size) if record is not None else (None, None)
            await asyncio.sleep(delay(self.arm.latency, operation, vm, size))

    def _check_api_version(self) -> None:
        version = self.get_query_argument("api-version", "")
        if re.fullmatch(SERIAL_LOG, self.request.path):
            return
        if not version:
            raise Refusal(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        if not _API_VERSION.fullmatch(version):
            raise Refusal(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")

    def _finish(self, answer: Json | str | None) -> None:
        self.answer = answer
        self.set_header("Date", format_datetime(self.arm.schedules.clock.now(), usegmt=True))
        if answer is None:
            if self.get_status() == 204:
                self.clear_header("Content-Type")
            self.finish()
            return
        if isinstance(answer, str):
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(answer)
            return
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(answer))

    def on_finish(self) -> None:
        """One line per exchange with Azure's side, without the secret; strangers are turned away before that."""
        if self.traffic is None or not self.admitted or self.request.path.startswith("/control/"):
            return
        if isinstance(self.answer, str):
            return  # none of Resource Manager's
        url = str(self.request.uri).removeprefix(f"/{self.gate.prices_door}")
        request: Json = {"method": self.request.method, "url": url}
        if self.asked is not None:
            request["body"] = self.asked
        headers = {name.lower(): value for name, value in self._headers.get_all()}
        response: Json = {"status": self.get_status(), "headers": headers}
        if self.answer is not None:
            response["body"] = self.answer
        line = json.dumps({"request": request, "response": response})
        self.traffic.write(line.replace(f"/{self.gate.prices_door}", "") + "\n")
        self.traffic.flush()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What tornado itself refuses, and our own mistakes, in Azure's envelope."""
        self.answer = shapes.error("InternalServerError" if status_code >= 500 else "BadRequest", self._reason)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(self.answer))

    def _spend(self, *budgets: str) -> None:
        """``x-ms-ratelimit-remaining-resource``, counted down as the real one's."""
        left = []
        for budget in budgets:
            name, _, most = budget.partition(";")
            self.budgets[name] = self.budgets.get(name, int(most)) - 1
            if self.budgets[name] < 1:
                self.budgets[name] = int(most) - 1
            left.append(f"Microsoft.Compute/{name};{self.budgets[name]}")
        self.set_header("x-ms-ratelimit-remaining-resource", ",".join(left))
        kind = "reads" if self.request.method == "GET" else "writes"
        self.set_header(f"x-ms-ratelimit-remaining-subscription-{kind}", "11998" if kind == "reads" else "1198")

    # -- Azure Resource Manager ---------------------------------------------------------------------------------------

    def on_tenants(self) -> Json:
        self.arm.raise_fault("tenants")
        return {"value": [shapes.tenant(t) for t in self.arm.tenants]}

    def on_subscriptions(self) -> Json:
        self.arm.raise_fault("subscriptions")
        rows = [shapes.subscription(s) for s in self.arm.visible(self._tenant)]
        return {"value": rows, "count": {"type": "Total", "value": len(rows)}}

    def on_subscription(self, sub: str) -> Json:
        return shapes.subscription(self.arm.known_subscription(sub))

    def on_list_all(self, sub: str) -> Json:
        return self._list(self.arm.subscription(sub))

    def on_list_group(self, sub: str, group: str) -> Json:
        return self._list(self.arm.group(sub, group))

    def _list(self, records: list[Record]) -> Json:
        self.arm.raise_fault("list", records[0] if records else None)
        self._spend("HighCostGet3Min;159", "HighCostGet30Min;799")
        if self.get_query_argument("statusOnly", "").lower() == "true":
            shape: Callable[[Record], Json] = shapes.status_only
        else:
            instance = "instanceview" in self.get_query_argument("$expand", "").lower()
            shape = lambda record: shapes.virtual_machine(record, instance)  # noqa: E731
        skip = self.get_query_argument("$skipToken", "0")
        if not skip.isdigit():
            raise Refusal(400, "BadRequest", "The $skipToken is none that was given out.")
        end = int(skip) + max(1, self.arm.timings.page_size)
        answer: Json = {"value": [shape(r) for r in records[int(skip) : end]]}
        if end < len(records):
            query = [(k, v) for k, v in parse_qsl(self.request.query) if k != "$skipToken"] + [("$skipToken", str(end))]
            answer["nextLink"] = f"{self.base}{self.request.path}?{urlencode(query, quote_via=quote, safe='$')}"
        return answer

    def _record(self, sub: str, group: str, name: str) -> Record:
        return self.arm.resource(sub, group, "virtualMachines", name)

    def on_get_vm(self, sub: str, group: str, name: str) -> Json:
        record = self._record(sub, group, name)
        self.arm.raise_fault("get", record)
        self._spend("LowCostGet3Min;3999", "LowCostGet30Min;31999")
        return shapes.virtual_machine(record, "instanceview" in self.get_query_argument("$expand", "").lower())

    def on_instance_view(self, sub: str, group: str, name: str) -> Json:
        record = self._record(sub, group, name)
        self.arm.raise_fault("instanceView", record)
        self._spend("LowCostGet3Min;3999", "LowCostGet30Min;31999")
        return shapes.instance_view(record)

    def on_vm_sizes(self, sub: str, group: str, name: str) -> Json:
        record = self._record(sub, group, name)
        self._spend("LowCostGet3Min;3999", "LowCostGet30Min;31999")
        return shapes.vm_sizes(record)

    def on_act(self, sub: str, group: str, name: str, action: str) -> None:
        action = ACTIONS[action.lower()]
        hibernate = action == "deallocate" and self.get_query_argument("hibernate", "").lower() == "true"
        operation = self.arm.begin(action, self._record(sub, group, name), hibernate=hibernate)
        kind = "DeleteVM" if action == "deallocate" else "UpdateVM"  # deallocating spends the budget for deleting
        self._spend(f"{kind}3Min;239", f"{kind}30Min;1199")
        self.set_status(202)
        self._point_to(operation)
        self.set_header("Location", self._address(operation, "monitor=true&"))

    def on_patch(self, sub: str, group: str, name: str) -> Json:
        record = self._record(sub, group, name)
        if not isinstance(self.asked, dict):
            raise Refusal(400, "InvalidRequestContent", "The request content was invalid.")
        properties = self.asked.get("properties") or {}
        size = (properties.get("hardwareProfile") or {}).get("vmSize")
        others = set(properties) - {"hardwareProfile"} or set(self.asked) - {"properties"}
        changed = immutable(record, self.asked)
        if changed is not None:
            raise changed
        if others or not isinstance(size, str):
            raise Refusal(409, "PropertyChangeNotAllowed", "Here only hardwareProfile.vmSize can be changed.")
        operation = self.arm.begin("patch", record, size)
        self._spend("UpdateVM3Min;239", "UpdateVM30Min;1199")
        self._point_to(operation)
        body = shapes.virtual_machine(record)
        body["properties"]["hardwareProfile"]["vmSize"] = size
        return body

    def _address(self, operation: Operation, extra: str = "") -> str:
        machine = operation.record.machine
        version = self.get_query_argument("api-version")
        return (
            f"{self.base}/subscriptions/{machine.subscription}/providers/Microsoft.Compute/locations/{machine.location}"
            f"/operations/{operation.id}?{extra}api-version={version}"
        )

    def _point_to(self, operation: Operation) -> None:
        self.set_header("Azure-AsyncNotification", "Enabled")
        self.set_header("Azure-AsyncOperation", self._address(operation))
        self.set_header("Retry-After", str(self.arm.retry_after(operation)))

    def on_operation(self, sub: str, name: str) -> Json | None:
        operation = self.arm.operation(name)
        if operation.record.machine.subscription.lower() != sub.lower():
            raise Refusal(404, "NotFound", "The entity was not found in this Azure location.")
        self.arm.raise_fault("operation", operation.record)
        self._spend("GetOperation3Min;14999", "GetOperation30Min;29999")
        running = operation.ended is None
        if running:
            self.set_header("Retry-After", str(self.arm.retry_after(operation)))
        if self.get_query_argument("monitor", "").lower() != "true":
            return shapes.operation(operation)
        if running:
            self.set_status(202)
            self.set_header("Location", self._address(operation, "monitor=true&"))
        elif operation.error is not None:
            raise Refusal(409, operation.error["code"], operation.error["message"])
        return operation.output

    def on_network(self, sub: str, group: str, kind: str, name: str) -> Json:
        kind = KINDS[kind.lower()]
        record = self.arm.resource(sub, group, kind, name)
        self.arm.raise_fault("network", record)
        return shapes.network_interface(record) if kind == "networkInterfaces" else shapes.public_ip_address(record)

    def on_gallery_image(self, sub: str, group: str, image: str) -> Json:
        self.arm.raise_fault("gallery")
        for record in self.arm.group(sub, group):
            if record.gallery_image_id and record.gallery_image_id.lower().endswith(f"/{image.lower()}"):
                return shapes.gallery_image(record)
        raise Refusal(404, "ResourceNotFound", f"The Resource '{image}' under resource group '{group}' was not found.")

    def on_resource_graph(self) -> Json:
        self.arm.raise_fault("graph")
        self.set_header("x-ms-resource-graph-request-duration", "0:00:00:00.0100000")
        try:
            return graph.answer(self.asked, self.arm.graph_rows(self._tenant))
        except (graph.BadQuery, TypeError, ValueError) as error:
            raise Refusal(400, "BadRequest", f"Please provide below info when asking for support: {error}") from None


def application(arm: Arm, gate: Gate, base: str, traffic: TextIO | None) -> web.Application:
    arguments = {"arm": arm, "gate": gate, "base": base, "traffic": traffic, "budgets": {}}
    return web.Application([(r".*", Handler, arguments)], log_function=_log)


def _log(handler: web.RequestHandler) -> None:
    """No access log: what is worth keeping is in the traffic file."""
