"""The emulator as one process: prepares its folder, boots the VMs, serves, and ends all that it started.

``serve`` blocks; ``jupyter dsvm emulator`` and ``python -m jupyter_dsvm.emulator`` call it on the main thread (VMs are bound
to the life of the thread that starts them). ``client.Emulator`` runs it as a process of its own and speaks to it.

The folder::

    config/     what JUPYTER_CONFIG_DIR is to point to: jupyter_dsvm_config.json, token, id_ed25519, host_keys
    disks/      one folder per VM: what survives deallocation
    machines/   one folder per VM: SSH server configuration, host key, log
    state.json  the VMs' ids, kept from run to run
    lock        held while an emulator runs here
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import fcntl
import json
import os
import secrets
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tornado import httpserver, netutil

from . import environment
from .arm import Arm
from .control import vm_row
from .directory import Directory
from .entra import EntraServer
from .machines import STANDARD, Machine
from .network import can_isolate, free_port
from .records import Record, Timings
from .routes import Gate, application
from .scenario import Scenario
from .vm import FIRST_UID, BootError, VirtualMachine, new_key, public_line, sshd_path


class EmulatorError(Exception):
    """It cannot run here; the message says why and what to do."""


@dataclass
class Options:
    machines: Sequence[Machine] = STANDARD
    scenario: Scenario | None = None
    """What Azure holds and how it behaves; its machines take the place of ``machines``."""
    timings: Timings = field(default_factory=Timings)
    isolate: bool | None = None
    """Namespaces and accounts of their own for the VMs; None: where that is possible."""
    ssh_server: str | None = None
    """``openssh`` or ``asyncssh``; None: OpenSSH's where it is installed."""
    traffic: Path | None = None
    """Where to write every exchange, one JSON line each."""
    sign_in: bool = False
    """Give production code no token: people sign in, at the emulated Entra."""
    keys: bool = True
    """Whether the configuration has a key that the VMs let in, and their host keys; False: SSH has to be set up, as on Azure."""
    may_start: bool = False
    """Let code in notebooks start the emulated VMs (``DSVMService.kernel_may_start``), as the demo does."""
    cache: Path | None = None
    """Where the VMs' Python is kept; None: ``environment.cache_folder()``."""
    parent_pid: int | None = None
    """End when this process has ended; None: the one that started this one."""


def say(text: str) -> None:
    """Progress, for whoever waits: on stderr, since stdout is for the ready line."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def serve(directory: Path, options: Options | None = None, out: TextIO | None = None) -> None:
    """Run until SIGTERM, SIGINT or the parent's end. Prints the ready line on ``out`` (stdout) when all is up.

    Raises ``EmulatorError``.
    """
    options = options or Options()
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _only_one(directory):
        asyncio.run(_Server(directory, options, out or sys.stdout).run())


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    with open(directory / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EmulatorError(f"Another emulator runs in {directory}; end it, or use another --dir.") from None
        yield


def _write_private(path: Path, text: str) -> None:
    """0600 from its first moment on."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


class _Server:
    def __init__(self, directory: Path, options: Options, out: TextIO) -> None:
        self.directory = directory
        self.options = options
        self.out = out
        self.config = directory / "config"
        self.key = self.config / "id_ed25519"
        self.images = environment.Images(options.cache or environment.cache_folder())
        self.newcomers = 0
        self.newcomer_port = free_port()
        """Of VMs that are made later and share this computer's network: known to the configuration beforehand."""
        self.stopped: asyncio.Event

    async def run(self) -> None:
        self.stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stopped.set)
        with self._parent_watched(loop), self._traffic() as traffic:
            scenario = self.options.scenario or Scenario()
            arm = Arm(self._records(), self.options.timings, scenario.subscriptions, scenario.tenants)
            scenario.apply(arm)
            arm.deployments.new_vm = self._new_vm
            if not await self._prepared(arm):
                return
            server: httpserver.HTTPServer | None = None
            entra: EntraServer | None = None
            try:
                await arm.power_on()
                sockets = netutil.bind_sockets(0, "127.0.0.1")
                port = sockets[0].getsockname()[1]
                base, secret = f"http://127.0.0.1:{port}", secrets.token_urlsafe(32)
                directory = Directory(arm.tenants)
                # Known to the configuration alone: with the Azure CLI's, any user of this computer could sign in.
                directory.applications = {str(uuid.uuid4()): None}
                entra = EntraServer(directory)
                gate = Gate(secret, port, entra.directory)
                self._write_config(arm, base, secret, gate, entra)
                server = httpserver.HTTPServer(
                    application(arm, gate, base, traffic), max_body_size=1 << 20, max_header_size=1 << 16
                )
                server.add_sockets(sockets)
                entra.start()
                self.out.write(json.dumps(self._ready(arm, base, entra.url)) + "\n")
                self.out.flush()
                await self.stopped.wait()
            except BootError as error:
                raise EmulatorError(str(error)) from None
            finally:
                if server is not None:
                    server.stop()
                    await server.close_all_connections()
                if entra is not None:
                    await entra.stop()
                await arm.power_off()

    async def _prepared(self, arm: Arm) -> bool:
        """Lay out the disks; False when the emulator is to end before that is done."""
        preparing = asyncio.ensure_future(asyncio.to_thread(self._prepare_disks, arm))
        stopping = asyncio.ensure_future(self.stopped.wait())
        await asyncio.wait({preparing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if preparing.done():
            preparing.result()
            return True
        self.images.cancel()
        with contextlib.suppress(EmulatorError):
            await preparing
        return False

    @contextlib.contextmanager
    def _parent_watched(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        parent = self.options.parent_pid or os.getppid()
        try:
            handle = os.pidfd_open(parent)
        except ProcessLookupError:
            raise EmulatorError(f"The process {parent}, with which to end, has ended already.") from None
        except (AttributeError, OSError):
            handle = -1  # no such call here: look every quarter of a second
        if handle >= 0:
            loop.add_reader(handle, self.stopped.set)
            try:
                yield
            finally:
                loop.remove_reader(handle)
                os.close(handle)
            return
        watch = loop.create_task(self._poll(parent))
        try:
            yield
        finally:
            watch.cancel()

    async def _poll(self, parent: int) -> None:
        while True:
            try:
                os.kill(parent, 0)
            except ProcessLookupError:
                self.stopped.set()
                return
            except PermissionError:
                pass  # it is there, and somebody else's
            await asyncio.sleep(0.25)

    @contextlib.contextmanager
    def _traffic(self) -> Iterator[TextIO | None]:
        if self.options.traffic is None:
            yield None
            return
        descriptor = os.open(self.options.traffic, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "a", encoding="utf-8") as file:
            yield file

    # -- the folder ---------------------------------------------------------------------------------------------------

    def _records(self) -> list[Record]:
        """The VMs, with the ids they had in the last run."""
        if sys.platform != "linux":
            raise EmulatorError("The emulated VMs need Linux: their processes are found and ended through /proc.")
        for folder in ("config", "disks", "machines"):
            (self.directory / folder).mkdir(exist_ok=True, mode=0o700)
        if not self.key.exists():
            new_key(self.key)
        client_key = public_line(self.key)
        isolated, ssh_server = self._isolated(), self._ssh_server()
        self.isolated, self.ssh_server = isolated, ssh_server
        state_file = self.directory / "state.json"
        known: dict[str, str] = json.loads(state_file.read_text("utf-8")) if state_file.exists() else {}
        names = collections.Counter(m.name for m in self.options.machines)
        records = []
        for number, machine in enumerate(self.options.machines):
            long_name = f"{machine.subscription}/{machine.resource_group}/{machine.name}".lower()
            vm_id = known.setdefault(long_name, str(uuid.uuid4()))
            # The plain name where there is but one such VM: people look into this folder.
            folder = machine.name if names[machine.name] == 1 else f"{machine.resource_group.lower()}.{machine.name}"
            vm = None
            if machine.has_ssh:
                vm = VirtualMachine(
                    machine,
                    vm_id,
                    self.directory / "machines" / folder,
                    self.directory / "disks" / folder,
                    client_key,
                    isolated=isolated,
                    uid=FIRST_UID + number,
                    ssh_server=ssh_server,
                    images=self.images,
                    keys=self.options.keys,
                )
            records.append(Record(machine, vm_id, vm))
        state_file.write_text(json.dumps(known, indent=1), encoding="utf-8")
        return records

    def _new_vm(self, machine: Machine, vm_id: str, key: str, account: str) -> VirtualMachine | None:
        """The machine behind a VM that is made in a deployment. It lives as long as the emulator runs."""
        folder = f"{machine.name}-{vm_id[:8]}"
        self.newcomers += 1
        vm = VirtualMachine(
            machine,
            vm_id,
            self.directory / "machines" / folder,
            self.directory / "disks" / folder,
            key,
            isolated=self.isolated,
            uid=FIRST_UID + len(self.options.machines) + self.newcomers,
            ssh_server=self.ssh_server,
            images=self.images,
            account=account,
            port=self.newcomer_port,
        )
        with open(self.config / "host_keys", "a", encoding="utf-8") as file:
            file.write(f"{vm.vm_id} {public_line(vm.host_key)}\n")
        return vm

    def _isolated(self) -> bool:
        if self.options.isolate is False:
            return False
        reason = can_isolate()
        if reason and self.options.isolate:
            raise EmulatorError(f"The VMs cannot have namespaces of their own: {reason}.")
        if reason:
            say(f"The VMs share this computer's network, accounts and host name ({reason}).")
        return not reason

    def _ssh_server(self) -> str:
        if self.options.ssh_server is not None:
            return self.options.ssh_server
        if sshd_path() is not None:
            return "openssh"
        try:
            import asyncssh  # noqa: F401 - only whether it is there
        except ImportError:
            raise EmulatorError(
                "The emulated VMs need an SSH server: install Debian's openssh-server, or `pip install asyncssh`."
            ) from None
        return "asyncssh"

    def _prepare_disks(self, arm: Arm) -> None:
        for record in arm.records:
            if record.vm is not None:
                try:
                    record.vm.prepare(say)
                except environment.ImageError as error:
                    raise EmulatorError(str(error)) from None

    def _write_config(self, arm: Arm, base: str, secret: str, gate: Gate, entra: EntraServer) -> None:
        """What production code reads: ordinary public options, nothing that names the emulator."""
        vms = [r.vm for r in arm.records if r.vm is not None]
        token, host_keys = self.config / "token", self.config / "host_keys"
        authority = self.config / "entra-ca.pem"
        _write_private(token, secret + "\n")
        for vm in vms:
            (vm.folder / "ssh" / "user_ca.pub").write_text(entra.directory.ssh.public_line + "\n", encoding="utf-8")
        _write_private(authority, entra.authority_pem.decode())
        _write_private(host_keys, "".join(f"{vm.vm_id} {public_line(vm.host_key)}\n" for vm in vms))
        settings: dict[str, Any] = {
            # What such a server usually has; nobody is kept to it here.
            "FreeTier": {"memory_gib": 4.0, "data_gib": 1.0},
            "AzureCompute": {
                "arm_endpoint": base,
                # With --sign-in people have to sign in, as with Azure; otherwise it can be tried out beside the token.
                "token_file": "" if self.options.sign_in else str(token),
                "authority": entra.url,
                "authority_ca_file": str(authority),
                "client_id": next(iter(entra.directory.applications)),
                "prices_endpoint": f"{base}/{gate.prices_door}",
                "ssh_ports": {vm.vm_id: vm.port for vm in vms} | ({} if self.isolated else {"*": self.newcomer_port}),
            },
        }
        if self.options.keys:
            settings["AzureCompute"] |= {
                "ssh_user": vms[0].user if vms else None,
                "ssh_key_file": str(self.key),
                "host_keys_file": str(host_keys),
            }
        if any(not vm.isolated for vm in vms):
            # Whoever names such a VM in their SSH configuration names this computer.
            settings["SSHHosts"] = {"allowed_addresses": ["127.0.0.0/8"]}
        # Its VMs share this computer, which is hardly ever idle.
        settings["DSVMService"] = {"idle_ignore": ["cpu", "disk", "network"]}
        if self.options.may_start:
            # No limit by price: some sizes have none in the list, and what is unknown is refused.
            settings["DSVMService"]["kernel_may_start"] = {"names": ["*"], "starts_per_day": 100}
        _write_private(self.config / "jupyter_dsvm_config.json", json.dumps(settings, indent=2) + "\n")

    def _ready(self, arm: Arm, base: str, entra: str) -> dict[str, Any]:
        rows = [vm_row(r) for r in arm.records]
        return {"arm": base, "entra": entra, "config_dir": str(self.config), "vms": rows}
