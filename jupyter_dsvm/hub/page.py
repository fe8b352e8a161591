"""The teacher's page: ``/services/NAME/`` in a browser. The hub signs people in (OAuth), and only teachers see it.

One table of the hub's VMs and one of what everybody has spent, made here, without a script; a VM, or all of them, can be stopped.
What the names of VMs and people hold is escaped by the template. A form carries the XSRF token of the hub's own scheme.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated, UserNotAllowed
from tornado import web
from tornado.template import Template

from ..errors import DSVMError
from .broker import Broker
from .people import person_of
from .policy import Person

PAGE = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>VMs of the hub</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
.wide table { width: 100%; } .wide th, .wide td { white-space: nowrap; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8886; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
button { font: inherit; padding: .15rem .7rem; }
p.said { border-left: 4px solid currentColor; padding-left: .8rem; }
</style>
</head>
<body>
<h1>VMs of the hub</h1>
<p>{{ at }}, {{ name }}. <a href="{{ base }}">Look again</a></p>
{% if said %}<p class="said" role="status">{{ said }}</p>{% end %}
{% for problem in found["problems"] %}<p class="said" role="alert">{{ problem["message"] }} {{ problem["advice"] }}</p>{% end %}
{% if found["waiting"] %}<p>{{ found["waiting"] }} waiting to be started.</p>{% end %}
{% if found["vms"] %}
<div class="wide"><table>
<thead><tr><th scope="col">VM</th><th scope="col">State</th><th scope="col">Size</th><th scope="col" class="number">Per hour</th>
<th scope="col">On since</th><th scope="col">Started by</th><th scope="col">Attached</th><th scope="col">Image</th>
<th scope="col"><span>Action</span></th></tr></thead>
<tbody>
{% for vm in found["vms"] %}<tr>
<th scope="row">{{ vm["name"] }}</th><td>{{ vm["power_state"] }}</td><td>{{ (vm["size"] or "").removeprefix("Standard_") }}</td>
<td class="number">{{ "unknown" if vm["per_hour"] is None else "%.2f %s" % (vm["per_hour"], found["currency"]) }}</td>
<td>{{ clock(vm["on_since"]) if vm["on_since"] else "" }}</td><td>{{ vm["started_by"] }}</td>
<td title="{{ ", ".join(vm["attached"]) }}">{{ some(vm["attached"]) }}</td>
<td>{{ vm["image_version"] or "unknown" }}{% if vm["drift"] %} <strong>(pinned: {{ vm["drift"] }})</strong>{% end %}</td>
<td>{% if vm["power_state"] not in ("deallocated", "deallocating") %}<form method="post">
<input type="hidden" name="_xsrf" value="{{ xsrf }}"><input type="hidden" name="vm" value="{{ vm["id"] }}">
<button aria-label="Stop {{ vm["name"] }}">Stop</button></form>{% end %}</td>
</tr>{% end %}
</tbody></table></div>
<details><summary>Stop all…</summary>
<p>Every VM of this table that is on is released, whoever is attached: what runs there ends.</p>
<form method="post"><input type="hidden" name="_xsrf" value="{{ xsrf }}"><input type="hidden" name="vm" value="*">
<button>Stop all VMs</button></form></details>
{% else %}<p>There is none. Give a VM one of the tags of docs/broker.md.</p>{% end %}
<h2>Spent in {{ found["month"] }}</h2>
{% if found["spend"] %}<table><thead><tr><th scope="col">Person</th><th scope="col" class="number">Estimate</th></tr></thead><tbody>
{% for person, amount in sorted(found["spend"].items(), key=lambda one: -one[1]) %}<tr><th scope="row">{{ person }}</th>
<td class="number">{{ "%.2f" % amount }} {{ found["currency"] }}</td></tr>{% end %}
</tbody></table>{% else %}<p>Nothing yet.</p>{% end %}
</body>
</html>
""",
    autoescape="xhtml_escape",
)

MOST = 4
"""Names of people in one cell."""

SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def some(names: Sequence[str]) -> str:
    """The first of them, and how many more."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"{', '.join(names[:MOST])}{more}" if names else "nobody"


class TeacherPage(HubOAuthenticated, web.RequestHandler):  # type: ignore[misc]
    person: Person

    def initialize(self, broker: Broker, service: str) -> None:
        self.broker, self.service = broker, service

    def set_default_headers(self) -> None:
        for name, value in SAFE.items():
            self.set_header(name, value)

    async def prepare(self) -> None:
        """Whoever is not signed in goes to the hub first."""
        model = await self.hub_auth.get_user(self, sync=False)
        try:
            self._hub_auth_user_cache = self.check_hub_user(model) if model else None
        except UserNotAllowed:
            raise web.HTTPError(403, "You may not access this service of the hub") from None
        if not model and self.request.method != "GET":
            # The hub's own check of the form's token takes the cookie for none where that is wrong.
            raise web.HTTPError(403, "The form is too old, or not from this page")
        if not model:
            self.redirect(self.get_login_url())
            return
        person = person_of(model, self.service)
        if person is None or not self.broker.policy.is_teacher(person):
            raise web.HTTPError(403, "This page is for teachers")
        self.person = person

    async def get(self) -> None:
        await self._show("")

    async def post(self) -> None:
        vm = self.get_body_argument("vm", "")
        try:
            if vm == "*":
                names = await asyncio.wrap_future(self.broker.submit(self.broker.stop_all, self.person))
                said = f"Being stopped: {', '.join(names)}." if names else "None of them is on."
            else:
                operation = await asyncio.wrap_future(self.broker.submit(self.broker.stop, self.person, vm))
                row = await asyncio.wrap_future(
                    self.broker.submit(self.broker.compute, self.person, operation.compute or vm)
                )
                said = f"{row.name} is being stopped."
        except DSVMError as e:
            said = str(e)
        await self._show(said)

    async def _show(self, said: str) -> None:
        found: dict[str, Any] = await asyncio.wrap_future(self.broker.submit(self.broker.overview, self.person))
        zone = ZoneInfo(self.broker.policy.time_zone)

        def clock(at: float) -> str:
            return datetime.fromtimestamp(at, zone).strftime("%a %H:%M")

        html = PAGE.generate(
            found=found,
            said=said,
            name=self.person.name,
            at=datetime.now(zone).strftime("%A, %H:%M"),
            base=self.hub_auth.base_url,
            xsrf=self.xsrf_token,
            clock=clock,
            some=some,
        )
        self.finish(html)


def handlers(base: str, broker: Broker, service: str) -> list[tuple[Any, ...]]:
    """``base``: the service's prefix, with slashes at both ends."""
    arguments = {"broker": broker, "service": service}
    return [
        (base, TeacherPage, arguments),
        (f"{base}oauth_callback", HubOAuthCallbackHandler),
    ]
