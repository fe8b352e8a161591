"""A page's path: websocket, jupyter_server, proxy, kernel. One kernel id and one session across a move."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.kernels.proxy import Proxy
from jupyter_dsvm.kernels.registry import registry
from support import frontend
from support.kernels import TIMEOUT
from support.server import jp_asyncio_loop, jp_server_cleanup  # noqa: F401  (fixtures)

Fetch = Callable[..., Any]


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"KernelProvisionerFactory": {"default_provisioner_name": "dsvm-provisioner"}}


class Page:
    """A notebook in a browser: a session, and its kernel's websocket."""

    def __init__(self, fetch: Fetch, session: dict[str, Any], socket: Any) -> None:
        self.fetch, self.session, self.socket = fetch, session, socket
        self.kernel_id: str = session["kernel"]["id"]
        self.name = uuid.uuid4().hex
        self.heard: list[dict[str, Any]] = []

    @property
    def proxy(self) -> Proxy:
        proxy = registry.get(self.kernel_id)
        assert proxy is not None
        return proxy

    async def send(self, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
        message = frontend.request(kind, content, self.name)
        await self.socket.write_message(json.dumps({**message, "channel": channel}))
        return str(message["header"]["msg_id"])

    async def cell(self, code: str) -> str:
        return await self.send("execute_request", {"code": code, "silent": False, "stop_on_error": True})

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            text = await asyncio.wait_for(self.socket.read_message(), TIMEOUT)
            assert text is not None, "the websocket was closed"
            self.heard.append(json.loads(text))

    async def over(self, *ids: str) -> list[dict[str, Any]]:
        """The replies, once each of them has its idle as well."""

        def done(msg_id: str) -> bool:
            about = [m for m in self.heard if m["parent_header"].get("msg_id") == msg_id]
            idle = [m for m in about if m["content"].get("execution_state") == "idle"]
            return bool(idle) and any(m["channel"] != "iopub" for m in about)

        await self.until(lambda: all(map(done, ids)))
        replies = [m for m in self.heard if m["channel"] != "iopub" and m["parent_header"].get("msg_id") in ids]
        return sorted(replies, key=lambda m: ids.index(m["parent_header"]["msg_id"]))

    def text(self, msg_id: str) -> str:
        about = [m for m in self.heard if m["parent_header"].get("msg_id") == msg_id and m["msg_type"] == "stream"]
        return "".join(m["content"]["text"] for m in about if m["content"]["name"] == "stdout")


@contextlib.asynccontextmanager
async def opened(jp_fetch: Fetch, jp_ws_fetch: Fetch) -> AsyncIterator[Page]:
    body = {"path": "a.ipynb", "type": "notebook", "name": "a", "kernel": {"name": "python3"}}
    answer = await jp_fetch("api", "sessions", method="POST", body=json.dumps(body))
    session = json.loads(answer.body)
    socket = await jp_ws_fetch("api", "kernels", session["kernel"]["id"], "channels")
    try:
        yield Page(jp_fetch, session, socket)
    finally:
        socket.close()
        await jp_fetch("api", "sessions", session["id"], method="DELETE")


async def test_a_move_is_invisible_but_for_the_variables(jp_fetch: Fetch, jp_ws_fetch: Fetch) -> None:
    async with opened(jp_fetch, jp_ws_fetch) as page:
        backend = page.proxy.make_local()
        await asyncio.wrap_future(page.proxy.prepare(backend))
        first = await page.cell("print('here', flush=True); import time; time.sleep(0.5); x = 1")
        second = await page.cell("print('x' in dir())")
        await page.until(lambda: page.text(first))
        info = await page.send("kernel_info_request", {})
        swapped = page.proxy.swap(backend)
        replies = await page.over(first, second, info)
        await asyncio.wrap_future(swapped)
        assert [r["content"].get("execution_count") for r in replies] == [1, 1, None]
        assert (page.text(first), page.text(second)) == ("here\n", "False\n")
        assert len({m["header"]["session"] for m in page.heard}) == 1
        session = json.loads((await jp_fetch("api", "sessions", page.session["id"])).body)
        assert session["kernel"]["id"] == page.kernel_id
        kernels = json.loads((await jp_fetch("api", "kernels")).body)
        assert [k["id"] for k in kernels] == [page.kernel_id]


async def test_restart_and_interrupt_from_the_page(jp_fetch: Fetch, jp_ws_fetch: Fetch) -> None:
    async with opened(jp_fetch, jp_ws_fetch) as page:
        cell = await page.cell("print('asleep', flush=True); import time; time.sleep(30)")
        await page.until(lambda: page.text(cell))
        await jp_fetch("api", "kernels", page.kernel_id, "interrupt", method="POST", allow_nonstandard_methods=True)
        (reply,) = await page.over(cell)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        proxy = page.proxy
        await jp_fetch("api", "kernels", page.kernel_id, "restart", method="POST", allow_nonstandard_methods=True)
        assert page.proxy is proxy
        again = await page.cell("print('again')")
        (reply,) = await page.over(again)
        assert (reply["content"]["execution_count"], page.text(again)) == (1, "again\n")


async def test_a_page_that_opens_while_a_cell_runs_does_not_wait_for_it(
    jp_fetch: Fetch, jp_ws_fetch: Fetch, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with opened(jp_fetch, jp_ws_fetch) as page:
        waits = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
        cell = await page.cell(f"print('waits', flush=True); {waits}")
        await page.until(lambda: page.text(cell))
        socket = await asyncio.wait_for(jp_ws_fetch("api", "kernels", page.kernel_id, "channels"), TIMEOUT)
        second = Page(jp_fetch, page.session, socket)
        info = await second.send("kernel_info_request", {})
        (reply,) = await asyncio.wait_for(second.over(info), TIMEOUT)
        assert reply["content"]["language_info"]["name"] == "python"
        socket.close()
        assert not [m for m in page.heard if m["msg_type"] == "execute_reply"]
        go.touch()
        await page.over(cell)
