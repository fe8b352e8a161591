"""How active kernels are, as jupyter_server, its culler and a hub's see it: behind a proxy the same as without one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_client.session import Session
from jupyter_server.services.kernels import kernelmanager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from jupyter_dsvm.activity import ActivityWatcher, KernelActivity
from jupyter_dsvm.kernels.activity import Activity, Watch
from support.kernels import TIMEOUT
from support.server import jp_asyncio_loop, jp_server_cleanup  # noqa: F401  (fixtures)

Fetch = Callable[..., Any]

CULL_AFTER = 4


@pytest.fixture(params=["proxy", "without"])
def provisioner(request: pytest.FixtureRequest) -> str:
    """Everything here holds for a kernel without a proxy, too: that is what is meant by the same."""
    return "dsvm-provisioner" if request.param == "proxy" else "local-provisioner"


@pytest.fixture
def jp_server_config(provisioner: str, culled: dict[str, Any]) -> dict[str, Any]:
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_dsvm": True}},
        "KernelProvisionerFactory": {"default_provisioner_name": provisioner},
        "MappingKernelManager": culled,
    }


@pytest.fixture
def culled() -> dict[str, Any]:
    return {}


class Kernel:
    """A kernel, seen through REST, and one websocket to it whose messages are only counted."""

    def __init__(self, fetch: Fetch, kernel_id: str, socket: Any) -> None:
        self.fetch, self.id, self.socket = fetch, kernel_id, socket
        self.published: list[str] = []

    async def model(self) -> dict[str, Any]:
        answer = await self.fetch("api", "kernels", self.id)
        model: dict[str, Any] = json.loads(answer.body)
        return model

    async def last_activity(self) -> datetime:
        return datetime.fromisoformat((await self.model())["last_activity"])

    async def send(self, kind: str, content: dict[str, Any]) -> None:
        header = {"msg_id": f"{kind}-{time.monotonic_ns()}", "msg_type": kind, "session": "s", "username": ""}
        message = {"header": {**header, "version": "5.3"}, "parent_header": {}, "metadata": {}, "content": content}
        await self.socket.write_message(json.dumps({**message, "channel": "shell"}))

    async def run(self, code: str) -> None:
        await self.send("execute_request", {"code": code, "silent": False})

    async def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read what comes until the kernel's model is like that."""
        deadline = time.monotonic() + TIMEOUT
        while not condition(model := await self.model()):
            assert time.monotonic() < deadline, model
            await self.read(0.1)
        return model

    async def read(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with contextlib.suppress(asyncio.TimeoutError):
            while (left := end - time.monotonic()) > 0:
                text = await asyncio.wait_for(asyncio.shield(self._next()), left)
                assert text is not None, "the websocket was closed"
                self._reading = None
                self.published.append(json.loads(text)["msg_type"])

    _reading: asyncio.Future[Any] | None = None

    def _next(self) -> asyncio.Future[Any]:
        self._reading = self._reading or asyncio.ensure_future(self.socket.read_message())
        return self._reading


Open = Callable[[], contextlib.AbstractAsyncContextManager[Kernel]]


@pytest.fixture
def opened(jp_fetch: Fetch, jp_ws_fetch: Fetch) -> Open:
    return lambda: _opened(jp_fetch, jp_ws_fetch)


@contextlib.asynccontextmanager
async def _opened(jp_fetch: Fetch, jp_ws_fetch: Fetch) -> AsyncIterator[Kernel]:
    answer = await jp_fetch("api", "kernels", method="POST", body=json.dumps({"name": "python3"}))
    kernel_id = json.loads(answer.body)["id"]
    socket = await jp_ws_fetch("api", "kernels", kernel_id, "channels")
    made = Kernel(jp_fetch, kernel_id, socket)
    try:
        await made.run("pass")
        await made.until(lambda model: model["execution_state"] == "idle" and "execute_input" in made.published)
        yield made
    finally:
        socket.close()
        with contextlib.suppress(Exception):  # where it was culled
            await jp_fetch("api", "kernels", kernel_id, method="DELETE")


def busy(model: dict[str, Any]) -> bool:
    return bool(model["execution_state"] == "busy")


def idle(model: dict[str, Any]) -> bool:
    return bool(model["execution_state"] == "idle")


async def test_the_proxys_kernels_are_watched_by_us_and_others_by_jupyter_server(
    opened: Open, provisioner: str, jp_serverapp: Any
) -> None:
    async with opened() as kernel:
        manager = jp_serverapp.kernel_manager
        stream = manager.get_kernel(kernel.id)._activity_stream
        assert isinstance(stream, KernelActivity) is (provisioner == "dsvm-provisioner")
        await kernel.fetch("api", "kernels", kernel.id, method="DELETE")
        assert stream.socket is None or stream.socket.closed  # a ZMQStream that is closed has none


async def test_state_and_time_of_a_cell(opened: Open, jp_serverapp: Any) -> None:
    async with opened() as kernel:
        before = await kernel.last_activity()
        await kernel.run("import time; time.sleep(1)")
        await kernel.until(busy)
        started = await kernel.last_activity()
        assert started > before
        model = await kernel.until(idle)
        ended = datetime.fromisoformat(model["last_activity"])
        assert (ended - started).total_seconds() > 0.5
        assert model["connections"] == 1
        status = json.loads((await kernel.fetch("api", "status")).body)
        assert datetime.fromisoformat(status["last_activity"]) >= ended
        assert jp_serverapp.kernel_manager.last_kernel_activity >= ended


async def test_what_a_page_asks_by_itself_is_no_activity(opened: Open) -> None:
    async with opened() as kernel:
        await asyncio.sleep(1.2)  # what the cell before may still change
        before = await kernel.last_activity()
        kernel.published.clear()
        for _ in range(3):
            await kernel.send("kernel_info_request", {})
            await kernel.send("comm_info_request", {})
        await kernel.until(lambda _model: kernel.published.count("status") >= 12)
        await asyncio.sleep(1.2)
        model = await kernel.model()
        assert (datetime.fromisoformat(model["last_activity"]), model["execution_state"]) == (before, "idle")


async def test_time_goes_on_while_a_kernel_prints(opened: Open) -> None:
    """In a cell, and from a thread whose cell is over."""
    async with opened() as kernel:
        await kernel.run("import time\nfor _ in range(40): print(_, flush=True); time.sleep(0.1)")
        first = datetime.fromisoformat((await kernel.until(busy))["last_activity"])
        await kernel.read(2.5)
        assert busy(await kernel.model())
        assert (await kernel.last_activity() - first).total_seconds() > 1
        await kernel.until(idle)
        await kernel.run(
            "import threading\ndef say():\n    for _ in range(40): print(_, flush=True); time.sleep(0.1)\n"
            "threading.Thread(target=say).start()"
        )
        await kernel.until(lambda _model: kernel.published.count("execute_reply") == 3)
        first = datetime.fromisoformat((await kernel.until(idle))["last_activity"])
        await kernel.read(2.5)
        assert (await kernel.last_activity() - first).total_seconds() > 1
        assert idle(await kernel.model())


async def test_a_flood_and_its_end(opened: Open, provisioner: str) -> None:
    async with opened() as kernel:
        await kernel.run("import time\nfor n in range(5000):\n    display(n)\n    n % 100 or time.sleep(0.02)\n")
        started = datetime.fromisoformat((await kernel.until(busy))["last_activity"])
        model = await kernel.until(lambda model: idle(model) and kernel.published.count("execute_reply") == 2)
        assert (datetime.fromisoformat(model["last_activity"]) - started).total_seconds() > 0.5
        if provisioner == "dsvm-provisioner":  # without a proxy a quick machine is over jupyter_server's limit
            await kernel.until(lambda _model: kernel.published.count("display_data") == 5000)


async def test_a_restart(opened: Open) -> None:
    async with opened() as kernel:
        await kernel.run("import time; time.sleep(60)")
        await kernel.until(busy)
        before = await kernel.last_activity()
        await kernel.fetch("api", "kernels", kernel.id, "restart", method="POST", allow_nonstandard_methods=True)
        model = await kernel.until(idle)
        assert model["connections"] == 1
        await kernel.run("import time; time.sleep(3)")  # long enough to be seen by who looks
        await kernel.until(busy)
        assert await kernel.last_activity() > before
        await kernel.until(idle)


class TestCulling:
    @pytest.fixture
    def culled(self) -> dict[str, Any]:
        return {"cull_idle_timeout": CULL_AFTER, "cull_interval": 1, "cull_connected": True, "cull_busy": True}

    async def test_an_idle_kernel_is_culled_and_one_that_prints_is_not(self, opened: Open) -> None:
        async with opened() as kernel:
            seconds = 2 * CULL_AFTER + 2
            await kernel.run(f"import time\nfor _ in range({seconds * 5}): print(_, flush=True); time.sleep(0.2)")
            await kernel.until(busy)
            await kernel.until(idle)  # it is there all the time: otherwise this is a 404
            assert kernel.published.count("stream") > seconds
            ids = {kernel.id}
            deadline = time.monotonic() + TIMEOUT
            while ids:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.5)
                ids = {k["id"] for k in json.loads((await kernel.fetch("api", "kernels")).body)}


# The same as jupyter_server's, whatever is published

published = st.one_of(
    st.tuples(
        st.just("status"),
        st.sampled_from(["execute_request", "kernel_info_request", "comm_msg", ""]),
        st.sampled_from(["busy", "idle", "starting"]),
    ),
    st.tuples(
        st.sampled_from(["stream", "comm_msg"]), st.sampled_from(["execute_request", "comm_info_request"]), st.just("")
    ),
)


class Server:
    """A server with one kernel and a clock of its own, which is watched in either way."""

    def __init__(self, ours: bool) -> None:
        self.manager: Any = AsyncMappingKernelManager(cull_idle_timeout=60)
        self.clock = 100.0
        self.ours = ours
        self.session = Session(key=b"key")
        self.kernel: Any = SimpleNamespace(
            session=self.session,
            connect_iopub=lambda: self,
            execution_state="starting",
            last_activity=self.now(),
            kernel_name="python3",
            kernel_spec=SimpleNamespace(metadata={}),
        )
        self.manager._kernels["k"] = self.kernel
        self.culled = False
        self.activity = Activity()
        with self.patched():
            if ours:
                self.watching = KernelActivity(self.manager, self.kernel, self.activity)
            else:
                self.manager.start_watching_activity("k")

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock, timezone.utc)

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        async def shut_down(kernel_id: str) -> None:
            self.culled = True

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernelmanager, "utcnow", self.now)
            patch.setattr(time, "time", lambda: self.clock)
            patch.setattr(self.manager, "shutdown_kernel", shut_down)
            yield

    def on_recv(self, record: Callable[[list[bytes]], None]) -> None:
        """In the place of a ZMQStream."""
        self.record = record

    def publish(self, kind: str, about: str, state: str) -> None:
        self.clock += 1
        with self.patched():
            if self.ours:
                self.activity.published(kind, about, state)
            else:
                content = {"execution_state": state} if state else {}
                parent = self.session.msg_header(about) if about else None
                self.record(self.session.serialize(self.session.msg(kind, content, parent=parent)))

    async def look(self) -> tuple[str, datetime]:
        if self.ours:
            self.watching._look()
        return self.kernel.execution_state, self.kernel.last_activity

    async def cull(self, seconds: float) -> bool:
        """Whether the culler takes it when so many seconds have gone by."""
        self.clock += seconds
        with self.patched():
            await self.manager.cull_kernel_if_idle("k")
        return self.culled


@settings(deadline=None)
@given(st.lists(st.lists(published, max_size=4), max_size=8))
def test_state_and_time_are_what_jupyter_server_makes_of_the_same_messages(batches: list[list[Any]]) -> None:
    """However many of them it looks at together."""

    async def watched() -> None:
        ours, theirs = Server(ours=True), Server(ours=False)
        for batch in batches:
            for message in batch:
                ours.publish(*message)
                theirs.publish(*message)
            assert await ours.look() == await theirs.look()
        ours.watching.close()

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(watched())


@pytest.mark.parametrize("ours", [True, False])
async def test_a_kernel_that_is_busy_and_says_nothing_is_not_culled(ours: bool) -> None:
    server = Server(ours)
    server.publish("status", "execute_request", "busy")
    assert (await server.look())[0] == "busy"
    assert not await server.cull(3600)
    for state in ("busy", "idle"):  # a page asks, and the proxy answers
        server.publish("status", "kernel_info_request", state)
    assert (await server.look())[0] == "busy"
    assert not await server.cull(3600)
    server.publish("status", "execute_request", "idle")
    assert (await server.look())[0] == "idle"
    assert not await server.cull(30)
    assert await server.cull(31)
    if ours:
        server.watching.close()


# Where it does not come in


def test_a_manager_with_a_way_of_its_own_keeps_it() -> None:
    class Own(AsyncMappingKernelManager):
        def start_watching_activity(self, kernel_id: str) -> None: ...

    for manager, ours in ((Own(), False), (AsyncMappingKernelManager(), True)):
        watcher = ActivityWatcher(manager, logging.getLogger("test"))
        watcher.install()
        assert ("start_watching_activity" in vars(manager)) is ours
        watcher.uninstall()
        watcher.uninstall()
        assert "start_watching_activity" not in vars(manager)


# The watch itself


def test_a_watcher_is_woken_for_a_status_and_for_the_first_message_after_a_rest() -> None:
    woken: list[None] = []
    watch = Watch({"execute_request"}.__contains__, lambda: woken.append(None))
    for _ in range(3):
        watch.published("stream", "execute_request")
    assert len(woken) == 1
    assert watch.news(), "it looks again by itself"
    watch.published("stream", "execute_request")
    assert len(woken) == 1
    watch.published("status", "execute_request", "idle")
    watch.published("status", "kernel_info_request", "busy")
    assert len(woken) == 2
    assert [(s.parent_type, s.execution_state) for s in watch.statuses] == [
        ("execute_request", "idle"),
        ("kernel_info_request", "busy"),
    ]
    assert watch.news()
    assert not watch.news()
    watch.published("status", "kernel_info_request", "idle")
    assert len(woken) == 3
    assert 0 < watch.tracked <= watch.untracked
