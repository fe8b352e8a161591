"""A tab that makes of all that it hears what JupyterLab's front end would make of it, cell by cell."""

from __future__ import annotations

from typing import Any

from . import frontend
from .kernels import Message
from .outputarea import FrontEnd
from .served import Reader, Served
from .tab import Tab


class Watcher(Tab):
    def __init__(self, server: Served, kernel_id: str) -> None:
        self.page = FrontEnd()
        super().__init__(server, kernel_id)

    def connect(self) -> None:
        opened = self.server.websocket(
            f"api/kernels/{self.kernel_id}/channels?session_id={self.session}", subprotocols=[frontend.V1]
        )
        self._connection = Reader(opened, frontend.from_v1, self._arrived)

    def run_cell(self, cell: str, code: str, **options: Any) -> str:
        """As JupyterLab does it; the request's id."""
        message = frontend.request("execute_request", frontend.cell(code, **options), self.session)
        message["metadata"] = {"cellId": cell, "deletedCells": [], "recordTiming": False}
        run: str = message["header"]["msg_id"]
        self.page.happens({"do": "execute", "cell": cell, "run": run})
        self._connection.ws.send_binary(frontend.to_v1(message, "shell"))
        return run

    def type(self, value: str) -> None:
        """Answer what ``input()`` asks."""
        self.until(lambda: self.requests_for_input)
        asked = self.requests_for_input.pop()
        message = frontend.request("input_reply", {"value": value, "status": "ok"}, self.session)
        message["parent_header"] = asked["header"]
        run = asked["parent_header"]["msg_id"]
        self.page.happens({"do": "input", "run": run, "value": value, **asked["content"]})
        self._connection.ws.send_binary(frontend.to_v1(message, "stdin"))

    def _published(self, message: Message) -> None:
        super()._published(message)
        run = message["parent_header"].get("msg_id", "")
        self.page.happens({"do": "iopub", "run": run, "type": message["msg_type"], "content": message["content"]})

    def _replied(self, message: Message) -> None:
        super()._replied(message)
        run = message["parent_header"].get("msg_id", "")
        self.page.happens({"do": "reply", "run": run, "content": message["content"]})

    @property
    def notebook(self) -> dict[str, Any]:
        return self.page.notebook()


def rows(server: Served, kernel_id: str, since: int = 0) -> dict[str, dict[str, Any]]:
    """What the server has kept of the cells that have changed since, by their ids."""
    found: dict[str, dict[str, Any]] = {}
    after: int | None = 0
    while after is not None:
        answer = server.rest("GET", f"jupyter-dsvm/kernels/{kernel_id}/outputs?since={since}&after={after}")
        found |= {r["cell"]: r for r in answer["rows"]}
        after = answer["next"]
    return found


def outputs(server: Served, kernel_id: str) -> dict[str, Any]:
    return {cell: r["outputs"] for cell, r in rows(server, kernel_id).items()}
