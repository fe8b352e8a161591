"""The kernel websocket in a real Jupyter server, one rule at a time; ``test_browser_path.py`` has the floods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    serialize_binary_message,
)
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.websocket import WebSocketClientConnection

from jupyter_dsvm.frames import V1
from jupyter_dsvm.kernels.proxy import Proxy
from jupyter_dsvm.kernels.registry import registry
from jupyter_dsvm.service import DSVMService
from jupyter_dsvm.websocket import DSVMWebsocketConnection
from support import frontend
from support.fakes import FakeFree
from support.kernels import TIMEOUT
from support.server import jp_asyncio_loop, jp_server_cleanup  # noqa: F401

Fetch = Callable[..., Any]
Message = dict[str, Any]

CLASS = "kernel_websocket_connection_class"


@pytest.fixture
def config() -> dict[str, Any]:
    """What a test configures beside the extension."""
    return {}


@pytest.fixture
def jp_server_config(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(DSVMService, "_make_providers", lambda self: [FakeFree()])
    monkeypatch.delenv("JUPYTER_DEFAULT_PROVISIONER_NAME", raising=False)
    server = {"jpserver_extensions": {"jupyter_dsvm": True}, **config.pop("ServerApp", {})}
    return {"ServerApp": server, "KernelProvisionerFactory": {}, **config}


def configured(**sections: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("config", [sections], ids=["configured"])


class Page:
    """One websocket, in the format that it was opened with."""

    def __init__(self, ws: WebSocketClientConnection, session: str) -> None:
        self.ws = ws
        self.session = session
        self.v1 = ws.selected_subprotocol == V1
        self.heard: list[Message] = []

    async def ask(
        self, kind: str, content: dict[str, Any], channel: str | None = "shell", buffers: list[bytes] | None = None
    ) -> str:
        message = frontend.request(kind, content, self.session)
        if self.v1:
            await self.ws.write_message(frontend.to_v1(message, channel, buffers), binary=True)
        elif buffers:
            whole = serialize_binary_message({**message, "channel": channel, "buffers": buffers})
            await self.ws.write_message(whole, binary=True)
        else:
            named = {"channel": channel} if channel else {}
            await self.ws.write_message(json.dumps({**message, **named}))
        return str(message["header"]["msg_id"])

    async def cell(self, code: str) -> str:
        return await self.ask("execute_request", {"code": code, "silent": False, "stop_on_error": True})

    async def hear(self) -> Message:
        data = await asyncio.wait_for(self.ws.read_message(), TIMEOUT)
        assert data is not None, "the websocket was closed"
        if self.v1:
            assert isinstance(data, bytes)
            message = frontend.from_v1(data)
        else:
            message = deserialize_binary_message(data) if isinstance(data, bytes) else json.loads(data)
        self.heard.append(message)
        return message

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.hear()

    def about(self, msg_id: str, *kinds: str) -> list[Message]:
        return [
            m
            for m in self.heard
            if m["parent_header"].get("msg_id") == msg_id and (not kinds or m["header"]["msg_type"] in kinds)
        ]

    async def over(self, msg_id: str) -> Message:
        """The reply, once there is also the idle."""

        def over() -> bool:
            states = [m["content"]["execution_state"] for m in self.about(msg_id, "status")]
            return "idle" in states and any(m["channel"] != "iopub" for m in self.about(msg_id))

        await self.until(over)
        return next(m for m in self.about(msg_id) if m["channel"] != "iopub")

    def text(self, msg_id: str, name: str = "stdout") -> str:
        streams = [m["content"] for m in self.about(msg_id, "stream")]
        return "".join(content["text"] for content in streams if content["name"] == name)

    async def closed(self) -> None:
        while await asyncio.wait_for(self.ws.read_message(), TIMEOUT) is not None:
            pass


class Kernel:
    def __init__(self, app: Any, kernel_id: str, ws_fetch: Fetch) -> None:
        self.app = app
        self.id = kernel_id
        self._ws_fetch = ws_fetch

    @property
    def proxy(self) -> Proxy:
        proxy = registry.get(self.id)
        assert proxy is not None
        return proxy

    @property
    def connections(self) -> int:
        count: int = self.app.kernel_manager._kernel_connections[self.id]
        return count

    @contextlib.asynccontextmanager
    async def page(self, session: str | None = "", protocol: str | None = V1, **options: Any) -> AsyncIterator[Page]:
        """``session``: None for a websocket that names none."""
        name = session if session is None else session or uuid.uuid4().hex
        params = {"session_id": name} if name else {}
        chosen = [protocol] if protocol else []
        ws = await self._ws_fetch("api", "kernels", self.id, "channels", params=params, subprotocols=chosen, **options)
        try:
            yield Page(ws, name or "")
        finally:
            ws.close()

    def served(self) -> list[DSVMWebsocketConnection]:
        """The server's ends of the websockets that are open."""
        return [c for c in DSVMWebsocketConnection._open_sockets if c.kernel_id == self.id]


@pytest.fixture
def kernel(
    jp_asyncio_loop: asyncio.AbstractEventLoop,  # noqa: F811
    jp_serverapp: Any,
    jp_fetch: Fetch,
    jp_ws_fetch: Fetch,
) -> Iterator[Kernel]:
    started = jp_asyncio_loop.run_until_complete(
        jp_fetch("api", "kernels", method="POST", body=json.dumps({"name": "python3"}))
    )
    kernel_id = json.loads(started.body)["id"]
    yield Kernel(jp_serverapp, kernel_id, jp_ws_fetch)
    if kernel_id in jp_serverapp.kernel_manager:
        jp_asyncio_loop.run_until_complete(jp_fetch("api", "kernels", kernel_id, method="DELETE"))


async def eventually(condition: Callable[[], object]) -> None:
    deadline = asyncio.get_running_loop().time() + TIMEOUT
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come about in time"
        await asyncio.sleep(0.01)


PROTOCOLS = pytest.mark.parametrize("protocol", [V1, None], ids=["v1", "legacy"])


async def test_the_class_takes_its_place_and_leaves_it(jp_serverapp: Any):
    settings = jp_serverapp.web_app.settings
    assert settings[CLASS] is DSVMWebsocketConnection
    await jp_serverapp.cleanup_extensions()
    assert settings[CLASS] is ZMQChannelsWebsocketConnection


class Another(ZMQChannelsWebsocketConnection):
    """Of somebody else's, with reasons of its own."""


@configured(ServerApp={CLASS: Another})
async def test_any_other_class_is_left_alone(jp_serverapp: Any):
    assert jp_serverapp.web_app.settings[CLASS] is Another


ECHO = """
from comm import get_comm_manager
def opened(comm, message):
    comm.on_msg(lambda m: comm.send(m["content"]["data"], buffers=[bytes(b)[::-1] for b in m["buffers"]]))
get_comm_manager().register_target("echo", opened)
"""


@PROTOCOLS
async def test_messages_and_their_buffers_both_ways(kernel: Kernel, protocol: str | None):
    async with kernel.page(protocol=protocol) as page:
        assert page.v1 is (protocol == V1)
        cell = await page.cell(f"{ECHO}\nprint('größer 🐘')\n1/0")
        reply = await page.over(cell)
        assert (reply["channel"], reply["content"]["ename"]) == ("shell", "ZeroDivisionError")
        assert page.text(cell) == "größer 🐘\n"
        kinds = [m["header"]["msg_type"] for m in page.about(cell) if m["channel"] == "iopub"]
        assert kinds == ["status", "execute_input", "stream", "error", "status"]
        assert len({m["header"]["session"] for m in page.heard}) == 1
        await page.ask("comm_open", {"comm_id": "c", "target_name": "echo", "data": {}})
        sent = await page.ask(
            "comm_msg", {"comm_id": "c", "data": {"n": 1}}, buffers=[b"one", b"", bytes(100_000) + b"1"]
        )
        await page.until(lambda: page.about(sent, "comm_msg"))
        (back,) = page.about(sent, "comm_msg")
        assert back["content"]["data"] == {"n": 1}
        assert [bytes(b) for b in back["buffers"]] == [b"eno", b"", b"1" + bytes(100_000)]


@configured(ServerApp={"websocket_compression_options": {}})
async def test_compressed(kernel: Kernel):
    async with kernel.page(compression_options={}) as page:
        cell = await page.cell("for i in range(2000): display(i)\nprint('x' * 1_000_000)")
        await page.over(cell)
        shown = [m["content"]["data"]["text/plain"] for m in page.about(cell, "display_data")]
        assert shown == [str(i) for i in range(2000)]
        assert page.text(cell) == "x" * 1_000_000 + "\n"


async def test_input(kernel: Kernel):
    async with kernel.page() as page:
        cell = await page.ask("execute_request", {"code": "print(input('?')[::-1])", "allow_stdin": True})
        await page.until(lambda: page.about(cell, "input_request"))
        await page.ask("input_reply", {"value": "abc"}, "stdin")
        await page.over(cell)
        assert page.text(cell) == "cba\n"


async def test_a_page_waits_for_no_kernel(kernel: Kernel):
    """Neither for one that is busy, nor for one that is only starting (``prepare`` of jupyter_server waits a minute)."""
    async with kernel.page() as page:
        cell = await page.cell("print('asleep', flush=True); import time; time.sleep(4)")
        await page.until(lambda: page.text(cell))
        async with kernel.page() as second:
            info = await second.ask("kernel_info_request", {})
            reply = await asyncio.wait_for(second.over(info), 2)
            assert reply["content"]["language_info"]["name"] == "python"
            assert not page.about(cell, "execute_reply")
        await page.over(cell)


async def test_nagles_algorithm_is_off(kernel: Kernel):
    async with kernel.page():
        (connection,) = kernel.served()
        stream = connection.websocket_handler.ws_connection.stream
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert connection.limit_rate is False


@configured(DSVMProvisioner={"enabled": False})
async def test_a_kernel_without_a_proxy_is_served_as_ever_but_at_once(kernel: Kernel):
    assert registry.get(kernel.id) is None
    async with kernel.page() as page:
        cell = await page.cell("print('as ever')")
        await page.over(cell)
        assert page.text(cell) == "as ever\n"
        (connection,) = kernel.served()
        assert set(connection.channels) == {"shell", "iopub", "stdin", "control"}
        assert connection.limit_rate is True
        stream = connection.websocket_handler.ws_connection.stream
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert kernel.connections == 1
    await eventually(lambda: kernel.connections == 0)


# Malformed, and not allowed

GARBAGE = {
    "nothing": b"",
    "large numbers": b"\xff" * 80,
    "zeros": bytes(80),
    "no message": b'{"header": {}}',
    "no JSON": b"nonsense",
}


@PROTOCOLS
@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_message_ends_the_websocket_and_nothing_else(
    kernel: Kernel, protocol: str | None, data: bytes
):
    async with kernel.page(protocol=protocol) as page:
        await page.ws.write_message(data, binary=protocol == V1 or data[:1] == b"\xff")
        await page.closed()
    async with kernel.page(protocol=protocol) as page:
        cell = await page.cell("print('on')")
        await page.over(cell)
        assert page.text(cell) == "on\n"


async def test_channels_that_a_page_may_not_write_to(kernel: Kernel, caplog: pytest.LogCaptureFixture):
    async with kernel.page() as page:
        for channel in ("iopub", "heartbeat", ""):
            await page.ask("execute_request", {"code": "nowhere = 1"}, channel)
        cell = await page.cell("print('nowhere' in dir())")
        await page.over(cell)
        assert page.text(cell) == "False\n"
    async with kernel.page(protocol=None) as page:
        cell = await page.ask("execute_request", {"code": "print('shell')"}, None)  # as if it were named
        await page.over(cell)
        assert page.text(cell) == "shell\n"


@configured(MappingKernelManager={"allowed_message_types": ["execute_request"]})
@PROTOCOLS
async def test_allowed_message_types(kernel: Kernel, protocol: str | None):
    async with kernel.page(protocol=protocol) as page:
        refused = await page.ask("comm_info_request", {})
        cell = await page.cell("print('allowed')")
        await page.over(cell)
        assert page.text(cell) == "allowed\n"
        assert not page.about(refused)


@configured(MappingKernelManager={"allow_tracebacks": False})
@PROTOCOLS
async def test_tracebacks_that_are_not_shown(kernel: Kernel, protocol: str | None):
    async with kernel.page(protocol=protocol) as page, kernel.page() as other:
        cell = await page.cell("secret = 1\nraise ValueError('secret')")
        await page.over(cell)
        await other.until(lambda: other.about(cell, "error"))
        for each in (page, other):
            (shown,) = each.about(cell, "error")
            assert (shown["content"]["ename"], shown["content"]["evalue"]) == ("ExecutionError", "Execution error")
            assert "secret" not in str(shown["content"]["traceback"])


SIXTY = "for i in range(60): display(i)"


@configured(ZMQChannelsWebsocketConnection={"iopub_msg_rate_limit": 10})
async def test_output_is_paced_and_not_limited(kernel: Kernel):
    async with kernel.page() as page:
        cell = await page.cell(SIXTY)
        await page.over(cell)
        assert len(page.about(cell, "display_data")) == 60


@configured(ZMQChannelsWebsocketConnection={"iopub_msg_rate_limit": 10, "limit_rate": True})
@PROTOCOLS
async def test_a_limit_that_somebody_has_configured_holds(kernel: Kernel, protocol: str | None):
    async with kernel.page(protocol=protocol) as page:
        cell = await page.cell(SIXTY)
        await page.over(cell)
        assert 20 < len(page.about(cell, "display_data")) <= 30
        assert "IOPub message rate exceeded" in page.text(cell, "stderr")


# Sessions


async def test_a_session_is_parked_and_comes_back(kernel: Kernel):
    async with kernel.page("mine") as page:
        cell = await page.cell("import time\nfor i in range(10): print(i, flush=True); time.sleep(0.1)")
        await page.until(lambda: page.text(cell))
        assert kernel.connections == 1
    await eventually(lambda: kernel.connections == 0)
    assert set(kernel.proxy.clients.sessions()) == {"mine"}
    assert not kernel.app.kernel_manager._kernel_buffers
    await asyncio.sleep(0.3)
    async with kernel.page("mine") as again:
        again.heard = page.heard
        await again.over(cell)
        again.heard = list({(m["header"]["msg_id"], m["header"]["date"]): m for m in again.heard}.values())
        assert again.text(cell) == "".join(f"{i}\n" for i in range(10))
        assert kernel.connections == 1


async def test_what_a_page_has_confirmed_does_not_come_again(kernel: Kernel):
    async with kernel.page("mine") as page:
        first = await page.cell("print('confirmed')")
        await page.over(first)
        outbox = kernel.proxy.clients._outbox
        reading = asyncio.ensure_future(page.until(lambda: False))  # answers pings
        await eventually(lambda: outbox.behind("mine") == 0)
        reading.cancel()
    async with kernel.page("mine") as again:
        second = await again.cell("print('new')")
        await again.over(second)
        assert not again.about(first)


async def test_a_websocket_without_a_session_is_forgotten(kernel: Kernel):
    async with kernel.page(None) as page:
        await page.over(await page.cell("1"))
        assert len(kernel.proxy.clients.sessions()) == 1
    await eventually(lambda: not kernel.proxy.clients.sessions())


async def test_a_second_websocket_of_a_session_takes_over(kernel: Kernel):
    async with kernel.page("mine") as page:
        await page.over(await page.cell("1"))
        async with kernel.page("mine") as second:
            await page.closed()
            cell = await second.cell("print('here')")
            await second.over(cell)
            assert second.text(cell) == "here\n"
            assert kernel.connections == 1
            (connection,) = kernel.served()
            assert connection._open_sessions[connection.session_key] is connection.websocket_handler
    await eventually(lambda: kernel.connections == 0)


# The kernel's end


async def test_a_kernel_that_ends_by_itself_is_said_to_restart_after_all_it_said(kernel: Kernel):
    async with kernel.page() as page:
        cell = await page.cell("for i in range(500): display(i)\nimport os, sys, time; time.sleep(1); os._exit(7)")
        await page.until(
            lambda: any(m["content"].get("execution_state") in ("restarting", "autorestarting") for m in page.heard)
        )
        assert len(page.about(cell, "display_data")) == 500
        assert len({m["header"]["session"] for m in page.heard}) == 1
    async with kernel.page() as page:
        await page.over(await page.cell("1"))


async def test_shutting_down_closes_the_websocket(kernel: Kernel, jp_fetch: Fetch):
    async with kernel.page() as page:
        await page.over(await page.cell("1"))
        await jp_fetch("api", "kernels", kernel.id, method="DELETE")
        await page.closed()
    assert not kernel.served()


async def test_the_server_ends_with_pages_open(kernel: Kernel):
    async with kernel.page() as page:
        await page.over(await page.cell("1"))
        await DSVMWebsocketConnection.close_all()
        assert not kernel.served()
