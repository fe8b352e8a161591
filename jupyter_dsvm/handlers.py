"""What the handlers of the REST API share: who is let in, how they call the service, and how an error leaves.

Handlers only translate: they await the service's blocking methods on its worker threads, and every error leaves as
``{code, message, advice}`` with its status. jupyter_server checks who is asking: ``authenticated``, ``authorized`` with the
resource ``jupyter_dsvm``, and for what changes something the XSRF token of a request that comes with a cookie. On a hub, others
than the server's owner may look and change nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from http.client import responses
from typing import Any, TypeVar

from jupyter_server.base.handlers import APIHandler
from tornado import web

from .errors import BadRequest, DSVMError, NotAllowed
from .models import Operation
from .service import DSVMService

T = TypeVar("T")

ROOT = "jupyter-dsvm"
RESOURCE = "jupyter_dsvm"
"""What an ``Authorizer`` sees as the resource; the action is ``read`` or ``write``."""

MAX_BODY = 64 * 1024
MAX_CODE_BODY = 4 * 1024 * 1024
"""Where the body is the code of a notebook."""

ASKING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

ADVICE = {
    401: "Sign in to Jupyter again.",
    403: "Sign in to Jupyter again, and reload the page if it was open for long.",
    404: "Look at openapi.yaml for what there is.",
    405: "Look at openapi.yaml for what there is.",
}

RefreshPaths = Callable[[], Awaitable[None]]


class DSVMHandler(APIHandler):
    auth_resource = RESOURCE
    only_asks = False
    """A POST for its body's sake, which changes nothing."""

    async def prepare(self, **options: Any) -> None:
        await super().prepare(**options)
        if self.request.method in ASKING or self.only_asks or self.service.guests_may_change:
            return
        owner, user = os.environ.get("JUPYTERHUB_USER", ""), self.current_user
        if owner and user is not None and user.username != owner:
            raise NotAllowed(
                f"{user.username} is a guest on the server of {owner}, whose account and money this would use.",
                advice=f"Ask {owner} to do it. An administrator can allow it: DSVMService.guests_may_change.",
                code="Guest",
            )

    def initialize(self, service: DSVMService, refresh_paths: RefreshPaths) -> None:
        """``refresh_paths`` brings the notebooks' paths up to date before they are listed."""
        self.service = service
        self.refresh_paths = refresh_paths

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """A blocking method of the service, on its threads."""
        return await asyncio.wrap_future(self.service.submit(function, *args))

    def body(self, limit: int = MAX_BODY) -> dict[str, Any]:
        if len(self.request.body) > limit:
            raise BadRequest("The request's body is too long.")
        try:
            data = json.loads(self.request.body)
        except ValueError as e:
            raise BadRequest(
                f"The request's body is no JSON: {e}.", advice="Send an object as openapi.yaml describes it."
            ) from None
        if not isinstance(data, dict):
            raise BadRequest("The request's body is no JSON object.", advice="Send one as openapi.yaml describes it.")
        return data

    def flag(self, name: str) -> bool:
        """Of the query: ``true`` or ``false``, and false where it is absent."""
        value = self.get_query_argument(name, "false").lower()
        if value not in ("true", "false"):
            raise BadRequest(f"{name} is {value!r}.", advice="It is true or false.")
        return value == "true"

    def answer(self, data: dict[str, Any], status: int = 200) -> None:
        self.set_status(status)
        self.finish(json.dumps(data))

    def begun(self, operation: Operation) -> None:
        self.answer(operation.to_json(), 202)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Also what the decorators and tornado refuse leaves in the one shape."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, DSVMError):
            status_code, data = error.status, error.to_json()
            self.set_status(status_code)
            if error.retry_after is not None:
                self.set_header("Retry-After", str(max(1, round(error.retry_after))))
        elif isinstance(error, web.HTTPError):
            reason = responses.get(status_code, "Error")
            message = error.log_message or error.reason or reason
            data = {
                "code": reason.title().replace(" ", ""),
                "message": f"{message % error.args if error.args else message}".rstrip(".") + ".",
                "advice": ADVICE.get(status_code, ""),
            }
        else:
            data = {
                "code": "Internal",
                "message": "An error inside jupyter-dsvm.",
                "advice": "The server's log has the details.",
            }
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(data))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """An error of ours is an answer, not an accident: one line, no traceback."""
        if isinstance(value, DSVMError):
            self.log.info("%s %s: %s", self.request.method, self.request.path, value)
        else:
            super().log_exception(typ, value, tb)


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)
