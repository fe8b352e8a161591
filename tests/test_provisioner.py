"""The provisioner as jupyter_client sees it: what it promises, and that it cannot hurt where a proxy cannot be had."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import zmq
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from jupyter_dsvm.errors import KernelStartError
from jupyter_dsvm.kernels import provisioner as module
from jupyter_dsvm.kernels.provisioner import DSVMProvisioner
from jupyter_dsvm.kernels.proxy import Proxy
from jupyter_dsvm.kernels.registry import registry
from support.kernels import TIMEOUT, Notebook, default_provisioner, until

pytestmark = pytest.mark.usefixtures("dsvm_provisioner")
FAKE = Path(__file__).parent / "support" / "fake_kernel.py"


def proxy_of(km: Any) -> Proxy | None:
    proxy: Proxy | None = km.provisioner.proxy
    return proxy


@pytest.fixture
def install(jupyter_folders: Path) -> Iterator[Callable[..., str]]:
    """Make a kernelspec for this test."""
    made: list[Path] = []

    def make(argv: list[str], **spec: Any) -> str:
        folder = jupyter_folders / "data" / "kernels" / f"spec{len(made)}"
        folder.mkdir(parents=True)
        made.append(folder)
        (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "fake", **spec}))
        return folder.name

    yield make
    for folder in made:
        (folder / "kernel.json").unlink()
        folder.rmdir()


def fake(habit: str) -> list[str]:
    return [sys.executable, str(FAKE), "{connection_file}", habit]


# Life


def test_from_launch_to_cleanup(notebook: Notebook) -> None:
    km, proxy = notebook.km, notebook.proxy
    provisioner = km.provisioner
    assert isinstance(provisioner, DSVMProvisioner)
    assert provisioner.has_process
    assert km.is_alive()
    assert asyncio.run(provisioner.poll()) is None
    info = json.loads(Path(km.connection_file).read_text())
    assert Path(km.connection_file).stat().st_mode & 0o777 == 0o600
    assert {k: info[k] for k in proxy.ports} == proxy.ports
    assert info["key"].encode() == proxy.key == km.session.key
    assert proxy.kernel_id == km.kernel_id
    assert registry.get(km.kernel_id) is proxy
    km.shutdown_kernel()
    assert not provisioner.has_process
    assert not km.is_alive()
    assert provisioner.proxy is None
    assert not Path(km.connection_file).exists()
    assert registry.all() == []


def test_restart_keeps_the_front_and_the_clients(notebook: Notebook) -> None:
    proxy, info = notebook.proxy, notebook.km.get_connection_info()
    before = int(notebook.run("import os; print(os.getpid())").text)
    for now, newports in ((False, False), (True, False), (False, True)):
        notebook.km.restart_kernel(now=now, newports=newports)
        assert notebook.km.is_alive()
        assert not psutil.pid_exists(before)
        assert notebook.proxy is proxy
        assert notebook.km.get_connection_info() == info
        execution = notebook.run("import os; print(os.getpid())")
        assert execution.count == 1
        before = int(execution.text)
    assert len(proxy._sides.backends) == 1


def test_a_restart_happens_with_the_arguments_of_that_restart(notebook: Notebook, tmp_path: Path) -> None:
    notebook.km.restart_kernel(cwd=str(tmp_path), env={**os.environ, "GREETING": "hello"})
    code = "import os; print(os.getcwd(), os.environ['GREETING'])"
    assert notebook.run(code).text == f"{tmp_path} hello\n"
    notebook.move()
    assert notebook.run(code).text == f"{tmp_path} hello\n", "a kernel that comes back here starts the same way"


def test_interrupt(notebook: Notebook) -> None:
    cell = notebook.send("print('asleep', flush=True)\nimport time; time.sleep(30)")
    notebook.until(lambda: notebook.of(cell).text)
    notebook.km.interrupt_kernel()
    assert notebook.wait(cell)[0].content["ename"] == "KeyboardInterrupt"


def test_a_killed_kernel_is_seen_to_be_dead_and_waited_for(notebook: Notebook) -> None:
    notebook.km.signal_kernel(signal.SIGKILL)
    until(lambda: not notebook.km.is_alive(), 10)
    provisioner = notebook.km.provisioner
    assert asyncio.run(provisioner.poll()) == -signal.SIGKILL
    assert provisioner.has_process
    assert asyncio.run(provisioner.wait()) == -signal.SIGKILL
    assert not provisioner.has_process


def test_waiting_can_be_given_up_and_taken_up_again(notebook: Notebook) -> None:
    async def give_up_and_wait() -> Any:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(notebook.km.provisioner.wait(), 0.05)
        await notebook.km.provisioner.kill()
        return await asyncio.wait_for(notebook.km.provisioner.wait(), 10)

    assert asyncio.run(give_up_and_wait()) == -signal.SIGKILL


def test_has_process_is_true_again_when_another_kernel_took_a_dead_ones_place(notebook: Notebook) -> None:
    there = notebook.there()
    notebook.km.signal_kernel(signal.SIGKILL)
    asyncio.run(notebook.km.provisioner.wait())
    assert not notebook.km.has_kernel
    notebook.proxy.swap(there).result(TIMEOUT)
    assert notebook.km.has_kernel
    assert notebook.km.is_alive()
    assert notebook.run("print(1)").text == "1\n"


def test_the_restarter_restarts_what_died() -> None:
    from jupyter_client.ioloop import AsyncIOLoopKernelManager

    async def die_and_come_back() -> None:
        km: Any = AsyncIOLoopKernelManager(config=Config({"KernelRestarter": {"time_to_dead": 1.0}}))
        await km.start_kernel()
        restarted = asyncio.Event()
        km.add_restart_callback(restarted.set, "restart")
        kc = km.client()
        kc.start_channels()
        try:
            await kc.wait_for_ready(timeout=TIMEOUT)
            kc.execute("import os; os.kill(os.getpid(), 9)")
            await asyncio.wait_for(restarted.wait(), 15)  # which is said before it is done
            await asyncio.sleep(1)
            await kc.wait_for_ready(timeout=TIMEOUT)
            assert await km.is_alive()
        finally:
            kc.stop_channels()
            await km.shutdown_kernel(now=True)
            km.context.destroy(linger=0)

    asyncio.run(die_and_come_back())


def test_a_kernel_that_ignores_everything_is_killed(install: Callable[..., str]) -> None:
    with Notebook(install(fake("stubborn")), shutdown_wait_time=0.6) as notebook:
        notebook.km.shutdown_kernel()
        assert not notebook.km.is_alive()


def test_started_again_after_a_shutdown() -> None:
    with zmq.Context() as context, Notebook(context=context) as notebook:
        first = notebook.proxy
        notebook.kc.stop_channels()
        notebook.km.shutdown_kernel(now=True)
        notebook.km.start_kernel()
        assert notebook.proxy is not first
        kc = notebook.km.client()
        kc.start_channels()
        kc.wait_for_ready(timeout=TIMEOUT)
        kc.stop_channels()


def test_called_from_many_event_loops(notebook: Notebook) -> None:
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(notebook.km.provisioner.send_signal(signal.SIGINT))
            assert asyncio.run(notebook.km._async_is_alive())
        except BaseException as e:
            errors.append(e)

    for _ in range(3):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert errors == []
    assert notebook.run("print(1)").text == "1\n"


def test_info_limits_and_paths_are_as_with_a_kernel_here(notebook: Notebook, tmp_path: Path) -> None:
    provisioner = notebook.km.provisioner
    info = asyncio.run(provisioner.get_provisioner_info())
    assert info["kernel_id"] == notebook.km.kernel_id
    assert provisioner.get_shutdown_wait_time(5.0) == 5.0
    assert provisioner.get_stable_start_time(10.0) == 10.0
    assert notebook.km.resolve_path(str(tmp_path)) == str(tmp_path)
    assert notebook.km.resolve_path("no/such/file") is None


def test_the_connection_file_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with Notebook(connection_file=str(tmp_path / "link" / "kernel.json")) as notebook:
        assert notebook.run("print(1)").text == "1\n"


# Starts that fail


def test_a_program_that_does_not_exist_fails_as_without_us_and_leaves_nothing(install: Callable[..., str]) -> None:
    km = KernelManager(kernel_name=install(["/no/such/program", "{connection_file}"]))
    with pytest.raises(FileNotFoundError):
        km.start_kernel()
    assert not km.has_kernel
    assert registry.all() == []
    km.cleanup_connection_file()


def test_a_kernel_that_dies_at_start_is_the_restarters_to_see(install: Callable[..., str]) -> None:
    km = KernelManager(kernel_name=install(fake("dies")))
    km.start_kernel()
    until(lambda: not km.is_alive(), 10)
    assert asyncio.run(km.provisioner.poll()) == 7
    km.shutdown_kernel(now=True)


def test_an_unknown_kernel_is_unknown() -> None:
    with pytest.raises(NoSuchKernel):
        KernelManager(kernel_name="no-such-kernel").start_kernel()


def test_a_start_does_not_wait_for_a_kernel_that_is_slow_to_come_up(install: Callable[..., str]) -> None:
    km = KernelManager(kernel_name=install(fake("tcp")))
    started = time.monotonic()
    km.start_kernel()
    assert time.monotonic() - started < 5
    assert km.is_alive()
    km.shutdown_kernel(now=True)


# It must not be able to hurt


def runs_without_proxy(km: Any) -> None:
    try:
        assert proxy_of(km) is None
        assert km.has_kernel
        kc = km.client()
        kc.start_channels()
        kc.wait_for_ready(timeout=TIMEOUT)
        kc.stop_channels()
        km.restart_kernel(now=True)
        assert km.is_alive()
    finally:
        km.shutdown_kernel(now=True)
        km.context.destroy(linger=0)
    assert not km.has_kernel


def test_where_the_proxy_cannot_be_made_the_kernel_starts_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise OSError("no more sockets")

    monkeypatch.setattr(module, "Proxy", broken)
    km = KernelManager()
    km.start_kernel()
    assert "starts without a proxy and cannot be moved to a VM: OSError: no more sockets" in caplog.text
    runs_without_proxy(km)


def test_a_front_that_cannot_be_bound_leaves_nothing(jupyter_folders: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"control_port": taken.getsockname()[1]}
        with pytest.raises(zmq.ZMQError, match="in use"):
            Proxy(
                "k", key=b"", signature_scheme="hmac-sha256", session="s", ip="127.0.0.1", ports=ports, kernelspec="x"
            )
    assert registry.all() == []
    assert not list((jupyter_folders / "runtime").glob("dsvm-*"))


def test_one_setting_turns_it_off() -> None:
    config = Config({"DSVMProvisioner": {"enabled": False}})
    factory = KernelProvisionerFactory.instance()
    before = factory.config
    factory.config = config
    try:
        km = KernelManager(config=config)
        km.start_kernel()
        assert isinstance(km.provisioner, DSVMProvisioner)
        runs_without_proxy(km)
    finally:
        factory.config = before


def test_a_front_that_is_not_tcp_is_jupyter_clients_own(jupyter_folders: Path) -> None:
    km = KernelManager(transport="ipc", ip=str(jupyter_folders / "runtime" / "kernel-ipc"))
    km.start_kernel()
    runs_without_proxy(km)


def test_an_encrypted_front_is_jupyter_clients_own(monkeypatch: pytest.MonkeyPatch) -> None:
    km = KernelManager()
    if not hasattr(km, "transport_encryption"):
        pytest.skip("this jupyter_client cannot encrypt")
    km._kernel_supports_curve_encryption = lambda: True
    km.transport_encryption = "required"
    km.start_kernel()
    runs_without_proxy(km)


def test_importing_it_imports_nothing_that_a_kernel_start_does_not_need() -> None:
    code = (
        "import sys, jupyter_client.provisioning.local_provisioner as _; before = set(sys.modules)\n"
        "import jupyter_dsvm.kernels.provisioner\n"
        "allowed = ('jupyter_dsvm', 'jupyter_client', 'jupyter_core', 'traitlets', 'zmq', 'platformdirs', 'tornado')\n"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - set(allowed)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Others who start kernels


def cells(*codes: str) -> Any:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(code) for code in codes]
    return notebook


def test_nbclient_runs_a_notebook_and_stops_at_an_error() -> None:
    ran = NotebookClient(cells("x = 41", "print(x + 1)", "x")).execute()
    assert ran.cells[1].outputs[0].text == "42\n"
    assert ran.cells[2].outputs[0].data["text/plain"] == "41"
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(cells("1/0", "print('never')")).execute()
    allowed = NotebookClient(cells("1/0", "print('still')"), allow_errors=True).execute()
    assert allowed.cells[1].outputs[0].text == "still\n"


def test_jupyter_execute_in_a_process_of_its_own_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notebook.ipynb"
    nbformat.write(cells("import os; print(os.environ['JUPYTER_DSVM_SOCKET'])"), path)
    environment = {**os.environ, "JUPYTER_DEFAULT_PROVISIONER_NAME": "dsvm-provisioner"}
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", str(path)]
    subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
    (output,) = nbformat.read(path, 4).cells[0].outputs
    assert output.text.strip().endswith("/call")
    assert not os.path.exists(os.path.dirname(output.text.strip()))


def test_an_async_manager_in_a_loop_of_its_own() -> None:
    async def use() -> str:
        km: Any = AsyncKernelManager()
        await km.start_kernel()
        kc = km.client()
        kc.start_channels()
        await kc.wait_for_ready(timeout=TIMEOUT)
        reply = await kc.execute_interactive("x = 1", timeout=TIMEOUT, output_hook=lambda _m: None)
        kc.stop_channels()
        await km.shutdown_kernel()
        km.context.destroy(linger=0)
        return str(reply["content"]["status"])

    assert asyncio.run(use()) == "ok"


def test_a_kernelspec_may_name_the_provisioner_itself(install: Callable[..., str]) -> None:
    name = install(fake("colon"), metadata={"kernel_provisioner": {"provisioner_name": "dsvm-provisioner"}})
    with default_provisioner("local-provisioner"), Notebook(name) as notebook:
        assert notebook.run("x").text == "fake over ipc"


def test_without_a_service_a_kernelspec_of_a_vm_says_what_is_missing(
    install: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Any:
        raise KernelStartError("There is no service.")

    monkeypatch.setattr(registry, "load_service", none)
    config = {"compute": "host:gpu"}
    name = install([], metadata={"kernel_provisioner": {"provisioner_name": "dsvm-provisioner", "config": config}})
    km = KernelManager(kernel_name=name)
    with pytest.raises(KernelStartError, match="There is no service"):
        km.start_kernel()
    assert registry.all() == []
    km.cleanup_connection_file()
