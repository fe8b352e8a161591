"""An emulated VM: its disk, its host key, its address, and its processes while it runs.

``arm.py`` boots and halts it; ``guest.py`` is its first process. On a VM that is isolated (see ``network.can_isolate``) the
account is ``azureuser``, the disk is mounted at ``/home``, ``/anaconda`` and ``/dsvm``, and SSH listens on port 22 of
a network of its own. On one that is not, everything runs as the user who runs the emulator: HOME points to the disk, SSH
listens on an address in 127/8 and a port that stays the VM's, and the environment variable DSVM_NAME holds
what the host name cannot say. A size with a temporary disk has one, at ``/mnt``, or where JUPYTER_DSVM_TEMPORARY_DISK says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from . import environment
from .machines import SIZES, Machine
from .network import GUEST, Address, free_port, isolated_address, link_of, shared_address

ACCOUNT = "azureuser"
VISITOR = "visitor"
"""A second account on isolated VMs, for whoever asks what other users of a VM can see. Takes the same key."""
PERSON = "ada@example.com"
"""The account of the first person of the emulated Entra, on VMs that let people in by its certificates."""
FIRST_UID = 61000
"""Accounts of isolated VMs get ids from here on: unused by Debian, so that files on the disks belong to nobody else."""
MADE = re.compile(r"jd-[0-9a-f]{16}")
"""Accounts that a hub's broker makes."""
WARNING = "DATALOSS_WARNING_README.txt"
WARNING_TEXT = "This is a temporary disk: what is on it is lost when this VM is deallocated or resized.\n"
"""Azure's images put such a file there, by which it can be told from a disk of somebody's own."""
BOOT_TIMEOUT = 20.0
"""Seconds from the first process to the SSH server's greeting."""


class BootError(Exception):
    """The VM did not come up; the message ends with what its first process printed."""


def sshd_path() -> str | None:
    """OpenSSH's server, which ordinary users seldom have on their PATH."""
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")


def new_key(path: Path, comment: str = "") -> str:
    """Write an Ed25519 key in OpenSSH's format, 0600; return its public line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    return public_line(path) + (f" {comment}" if comment else "")


def public_line(path: Path) -> str:
    """``ssh-ed25519 AAAA…`` of a private key file."""
    key = serialization.load_ssh_private_key(path.read_bytes(), None)
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


class VirtualMachine:
    """One Linux VM. Its methods are called on the emulator's event loop, one at a time."""

    def __init__(
        self,
        machine: Machine,
        vm_id: str,
        folder: Path,
        disk: Path,
        client_key: str,
        *,
        isolated: bool,
        uid: int,
        ssh_server: str,
        images: environment.Images,
        account: str = ACCOUNT,
        port: int | None = None,
        keys: bool = True,
    ) -> None:
        """``account`` and ``port`` are another than the usual ones; the account counts on isolated VMs only, the port on others."""
        self.machine = machine
        self.vm_id = vm_id
        self.folder = folder
        """What belongs to the emulator: SSH server configuration, host keys, log."""
        self.disk = disk
        """What survives deallocation."""
        self.temporary = folder / "temporary"
        """What does not: see ``lose_temporary_disk``."""
        self.isolated = isolated
        self.uid = uid if isolated else os.getuid()
        self.user = account if isolated else pwd.getpwuid(os.getuid()).pw_name
        self.port = 22 if isolated else port or free_port()
        self.ssh_server = ssh_server
        """``openssh`` or ``asyncssh``."""
        self.images = images
        self.keys = keys
        """Whether it lets the emulator's own key in; without, only what is in the accounts' ``authorized_keys``."""
        self.size = machine.size
        self.address: Address | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.pid: int | None = None
        """The VM's first process, as this computer counts; None while it is off."""
        self.home = disk / "home" / self.user
        for directory in (folder / "ssh", folder / "root", disk):
            directory.mkdir(parents=True, exist_ok=True, mode=0o755 if directory == disk else 0o700)
        (folder / "ssh").chmod(0o755)  # seen in the VM as /etc/ssh; the keys in it are 0600
        self.host_key = folder / "ssh" / "host_key"
        if not self.host_key.exists():
            new_key(self.host_key)
        self._publish_host_key()
        (folder / "ssh" / "authorized_keys").write_text(client_key + "\n", encoding="utf-8")

    # -- the disk -----------------------------------------------------------------------------------------------------

    def _seen(self, path: Path) -> str:
        """A path on the disk, as the VM names it."""
        return "/" + str(path.relative_to(self.disk)) if self.isolated else str(path)

    def prepare(self, say: environment.Say) -> None:
        """Lay out the disk: home folder, Python environments. Blocks; done before the first boot, and quick afterwards."""
        (self.home / "notebooks").mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        (self.disk / "dsvm").mkdir(exist_ok=True)
        (self.disk / "anaconda").mkdir(exist_ok=True)
        prefixes = [self._environment(name) for name, _ in self.machine.kernelspecs]
        if prefixes and self.machine.requirements:
            packages = self.images.get(self.machine.requirements, say)
            rows = [(*spec, self._seen(p)) for spec, p in zip(self.machine.kernelspecs, prefixes, strict=True)]
            for number, prefix in enumerate(prefixes):
                others = rows[1:] if number == 0 else ()
                environment.make_environment(
                    prefix, self._seen(prefix), packages, self.machine.kernelspecs[number], others
                )
        profile = self.home / ".profile"
        if not profile.exists():
            # A login shell's PATH comes from /etc/profile, which forgets the one that sshd set.
            path = ":".join(f"{self._seen(p)}/bin" for p in (*prefixes[:1], self.disk / "dsvm"))
            profile.write_text(f'export PATH="{path}:$PATH"\n', encoding="utf-8")
        if self._has_temporary_disk:
            self.temporary.mkdir(exist_ok=True, mode=0o755)
            (self.temporary / WARNING).write_text(WARNING_TEXT, encoding="utf-8")
            if self.isolated:
                os.chown(self.temporary, self.uid, self.uid)
        if self.isolated:
            for person, uid in ((VISITOR, self.uid + 1000), (PERSON, self.uid + 2000)):
                if person == VISITOR or self.machine.entra_login:
                    folder_of = self.disk / "home" / person
                    folder_of.mkdir(exist_ok=True, mode=0o700)
                    os.chown(folder_of, uid, uid)
            for top in (self.home, self.disk / "anaconda"):
                for folder, folders, files in os.walk(top):
                    for name in (".", *folders, *files):
                        os.chown(os.path.join(folder, name), self.uid, self.uid, follow_symlinks=False)

    @property
    def _has_temporary_disk(self) -> bool:
        return SIZES[self.size].temporary_disk_gib > 0

    def lose_temporary_disk(self) -> None:
        """As when Azure takes the VM off its hardware. Blocks; nothing of it may run."""
        shutil.rmtree(self.temporary, ignore_errors=True)

    def _environment(self, kernelspec: str) -> Path:
        return self.disk / "anaconda" / "envs" / ("dsvm" if kernelspec == "python3" else kernelspec)

    # -- power --------------------------------------------------------------------------------------------------------

    def allocate(self) -> Address:
        """A new address, as when Azure places the VM on hardware; kept until ``release``."""
        if self.address is None:
            self.address = isolated_address() if self.isolated else shared_address(self.port)
        return self.address

    def release(self) -> None:
        self.address = None

    async def boot(self) -> None:
        """Return once its SSH server greets. Raises ``BootError``, and then nothing of it runs."""
        address = self.allocate()
        await asyncio.to_thread(self.prepare, lambda text: None)
        python = (
            self._seen(self._environment("python3") / "bin/python3") if self.machine.kernelspecs else sys.executable
        )
        environment.make_commands(
            self.disk / "dsvm",
            python,
            self.machine.name,
            self.size,
            SIZES[self.size],
            self.machine.image[0].startswith("microsoft-d"),
        )
        try:
            with open(self.folder / "log", "ab") as log:  # noqa: ASYNC230 - a local file, opened once per boot
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    str(GUEST),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    # Of the emulator's environment nothing goes along but where to find `ip`.
                    env={"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
                )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(self._specification(address)).encode())
            self._process.stdin.write_eof()
            answer = json.loads(await self._process.stdout.readline() or b"{}")
            if "pid" not in answer:
                raise BootError(f"{self.machine.name} did not boot: {answer.get('error', self._log_tail())}")
            self.pid = answer["pid"]
            await self._greeted(address)
        except BaseException:
            await self.halt()
            raise

    async def _greeted(self, address: Address) -> None:
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + BOOT_TIMEOUT
        while self._process.returncode is None and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                reader, writer = await asyncio.wait_for(asyncio.open_connection(address.host, address.port), 1)
                greeting = await asyncio.wait_for(reader.readline(), 5)
                writer.close()
                if greeting.startswith(b"SSH-2.0"):
                    return
            await asyncio.sleep(0.02)
        raise BootError(f"{self.machine.name}: no SSH server at {address.host}:{address.port}. {self._log_tail()}")

    async def halt(self) -> None:
        """End every process of the VM, and return when they have ended. The disk stays."""
        process, self._process = self._process, None
        pid, self.pid = self.pid, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if pid is None:
                process.kill()
            elif self.isolated:
                os.kill(pid, signal.SIGKILL)  # process 1 of its namespace takes all others with it
            else:
                process.terminate()
        await process.wait()

    # -- SSH ----------------------------------------------------------------------------------------------------------

    async def kill_ssh(self) -> None:
        """End the SSH server and its sessions, and return when nothing answers there any more; daemons of the VM go on, as on
        a VM whose sshd has crashed. (Of a signal to end it and one to start it, the first process would take the start first
        if it found both.)"""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGUSR2)
        while self.pid is not None and self.address is not None:
            try:
                _, writer = await asyncio.open_connection(self.address.host, self.address.port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.02)

    async def start_ssh(self) -> None:
        if self.pid is not None and self.address is not None:
            os.kill(self.pid, signal.SIGUSR1)
            await self._greeted(self.address)

    def _publish_host_key(self) -> None:
        """Where a VM has its public host keys, for whoever is root there."""
        public = self.folder / "ssh" / "ssh_host_ed25519_key.pub"
        public.write_text(f"{public_line(self.host_key)} root@{self.machine.name}\n", encoding="utf-8")

    def console(self) -> str:
        """What boot diagnostics have of its serial console: the first boot's host keys, as cloud-init prints them."""
        key = (self.folder / "ssh" / "ssh_host_ed25519_key.pub").read_text("utf-8").strip()
        lines = ["BEGIN SSH HOST KEY KEYS", key, "END SSH HOST KEY KEYS"]
        said = [f"-----{line}-----" if "SSH HOST" in line else line for line in lines]
        return "\r\n".join(["[    0.000000] Linux version 6.8.0-azure", *said, f"{self.machine.name} login: ", ""])

    async def new_host_key(self, published: bool = False) -> None:
        """Another host key, as after somebody else took over the address. Nobody is told, unless it is ``published`` as when
        the VM's administrator has made a new one."""
        original = self.host_key.with_name("original_host_key")
        if not original.exists():
            self.host_key.rename(original)
        new_key(self.host_key)
        if published:
            self._publish_host_key()
        await self._renew_ssh()

    async def restore_host_key(self) -> None:
        original = self.host_key.with_name("original_host_key")
        if original.exists():
            original.rename(self.host_key)
            self._publish_host_key()
            await self._renew_ssh()

    async def _renew_ssh(self) -> None:
        await self.kill_ssh()
        await self.start_ssh()

    def processes(self) -> list[dict[str, Any]]:
        """What runs on the VM now, as ``{"pid", "argv"}``; pids are this computer's."""
        if self.pid is None:
            return []
        found = []
        for pid in _inside(self.pid, by_namespace=self.isolated):
            with contextlib.suppress(OSError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
                if argv:  # a zombie has none
                    found.append({"pid": pid, "argv": argv})
        return found

    # -- what the first process is told ---------------------------------------------------------------------------------

    def _specification(self, address: Address) -> dict[str, Any]:
        home, ssh = self._seen(self.home), "/etc/ssh" if self.isolated else str(self.folder / "ssh")
        path = f"{self._seen(self.disk / 'dsvm')}/bin:/usr/local/bin:/usr/bin:/bin"
        session = {"HOME": home, "PATH": path, "DSVM_NAME": self.machine.name, "LANG": "C.UTF-8"}
        if not self.isolated:  # this computer's own /mnt is none of the VM's
            session["JUPYTER_DSVM_TEMPORARY_DISK"] = str(self.temporary) if self._has_temporary_disk else ""
        if self.ssh_server == "openssh":
            self._write_sshd_config(address, ssh, session, home)
            server = [str(sshd_path()), "-D", "-e", "-f", f"{ssh}/sshd_config"]
        else:
            program = str(Path(__file__).with_name("ssh_server.py"))
            server = [sys.executable, "-I", program, address.host, str(address.port), f"{ssh}/host_key"]
            server += [f"{ssh}/authorized_keys", self.user]
        common = {"isolate": self.isolated, "parent": os.getpid(), "server": server, "env": session}
        if not self.isolated:
            return common
        binds: list[tuple[str, str, bool]] = [
            (str(self.disk / "home"), "/home", False),
            (str(self.disk / "anaconda"), "/anaconda", False),
            (str(self.disk / "dsvm"), "/dsvm", True),
            (str(self.folder / "ssh"), "/etc/ssh", False),
        ]
        if self._has_temporary_disk:
            binds.append((str(self.temporary), "/mnt", False))
        programs = [sys.base_prefix]
        if self.machine.requirements:
            programs.append(str(self.images.folder))
        if self.ssh_server == "asyncssh":
            programs += [sys.prefix, str(Path(__file__).parent)]
        for folder in dict.fromkeys(os.path.realpath(p) for p in programs):
            if not folder.startswith(("/usr", "/opt")) and os.path.isdir(folder):
                binds.append((folder, folder, True))
        return {
            **common,
            **link_of(address),
            "root": str(self.folder / "root"),
            "hostname": self.machine.name,
            "etc": self._etc(address),
            "binds": binds,
        }

    def _write_sshd_config(self, address: Address, ssh: str, session: dict[str, str], home: str) -> None:
        if os.geteuid() == 0 and not self.isolated:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own folder; as root it insists on it
        lines = [
            *(("Include /etc/ssh/sshd_config.d/*.conf",) if self.isolated else ()),  # as Debian and Ubuntu have it
            f"ListenAddress {address.host}",
            f"Port {address.port}",
            f'HostKey "{ssh}/host_key"',
            f'AuthorizedKeysFile "{ssh}/authorized_keys"' if self.keys else "AuthorizedKeysFile .ssh/authorized_keys",
            f"PermitRootLogin {'no' if self.isolated else 'prohibit-password'}",
            "UsePAM no",
            f"StrictModes {'no' if self.keys else 'yes'}",
            *((f'TrustedUserCAKeys "{ssh}/user_ca.pub"',) if self.machine.entra_login and self.isolated else ()),
            "PidFile none",
            f"PasswordAuthentication {'yes' if self.machine.password and self.isolated else 'no'}",
            "KbdInteractiveAuthentication no",
            "UseDNS no",
            "PrintMotd no",
            "AcceptEnv LC_*",
        ]
        # HOME is set for the one account that shares its name with somebody real; with accounts of their own it is right.
        set_env = {k: v for k, v in session.items() if k != "HOME" or not self.isolated}
        lines.append("SetEnv " + " ".join(f'"{k}={v}"' for k, v in set_env.items()))
        lines.append("Subsystem sftp internal-sftp" + ("" if self.isolated else f' -d "{home}"'))
        (self.folder / "ssh" / "sshd_config").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _etc(self, address: Address) -> dict[str, str]:
        accounts = [
            ("root", 0, "/root", "/bin/bash"),
            ("sshd", 115, "/run/sshd", "/usr/sbin/nologin"),
            ("nobody", 65534, "/nonexistent", "/usr/sbin/nologin"),
            (self.user, self.uid, f"/home/{self.user}", "/bin/bash"),
            (VISITOR, self.uid + 1000, f"/home/{VISITOR}", "/bin/bash"),
        ]
        if self.machine.entra_login:
            accounts.append((PERSON, self.uid + 2000, f"/home/{PERSON}", "/bin/bash"))
        # Whoever was made while it ran before: that is on its disk, as everything in /etc is on a real one.
        made = [home for home in sorted((self.disk / "home").iterdir()) if MADE.fullmatch(home.name)]
        comments = {home.name: "jupyter-dsvm" for home in made}
        accounts += [(home.name, home.stat().st_uid, f"/home/{home.name}", "/bin/bash") for home in made]
        name = self.machine.name
        # `*` is no password at all; `!` would be a locked account, which sshd refuses without PAM.
        passwords = {self.user: _crypted(self.machine.password)} if self.machine.password else {}
        return {
            "passwd": "".join(f"{n}:x:{i}:{i}:{comments.get(n, n)}:{home}:{shell}\n" for n, i, home, shell in accounts),
            "group": "".join(f"{n}:x:{i}:\n" for n, i, _, _ in accounts) + "tty:x:5:\n",
            "shadow": "".join(f"{n}:{passwords.get(n, '*')}:19700:0:99999:7:::\n" for n, _, _, _ in accounts),
            # New accounts get numbers that belong to nobody on this computer either.
            "login.defs": f"UID_MIN {FIRST_UID}\nUID_MAX {FIRST_UID + 4000}\nGID_MIN {FIRST_UID}\nGID_MAX {FIRST_UID + 4000}\n"
            "UMASK 022\nHOME_MODE 0700\nUSERGROUPS_ENAB yes\nENCRYPT_METHOD YESCRYPT\n",
            "hostname": f"{name}\n",
            "hosts": f"127.0.0.1 localhost\n::1 localhost\n{address.host} {name}\n",
            "resolv.conf": "",
        }

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text("utf-8", "replace")[-600:].strip()
        return ""


def _crypted(password: str) -> str:
    """As in ``/etc/shadow``."""
    done = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=password, capture_output=True, text=True)
    if done.returncode:
        raise BootError(f"A VM with a password needs openssl: {done.stderr.strip()}")
    return done.stdout.strip()


def _inside(first: int, by_namespace: bool) -> list[int]:
    """The process ids of a VM whose first process is ``first``, itself left out."""
    everyone = [int(p) for p in os.listdir("/proc") if p.isdigit()]
    if by_namespace:
        found = []
        with contextlib.suppress(OSError):
            namespace = os.readlink(f"/proc/{first}/ns/pid")
            for pid in everyone:
                with contextlib.suppress(OSError):
                    if pid != first and os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                        found.append(pid)
        return found
    parents = {}
    for pid in everyone:
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
            parents[pid] = int(line.rpartition(")")[2].split()[1])
    family = {first}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sorted(family - {first})
